//! Golden cases against a server of this test: in them `http://server` is its address.

// Helpers of tests may unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use axum::{Router, extract::Path, http::StatusCode, response::IntoResponse, routing::get};
use pelton_enrich::EnrichFactory;
use pelton_sdk::{
    Background, BuildContext, Operator, OperatorFactory, OperatorShape, OptionError, Wake, testing,
};
use serde_json::{Value, json};
use std::{thread, time::Duration};
use tokio::{net::TcpListener, runtime::Runtime};

/// `enrich`, with the server's address put in for `http://server`.
struct At(String);

impl At {
    fn options(&self, options: &Value) -> Value {
        serde_json::from_str(&options.to_string().replace("http://server", &self.0)).unwrap()
    }
}

impl OperatorFactory for At {
    fn name(&self) -> &'static str {
        EnrichFactory.name()
    }
    fn summary(&self) -> &'static str {
        EnrichFactory.summary()
    }
    fn schema(&self) -> schemars::Schema {
        EnrichFactory.schema()
    }
    fn check(&self, options: &Value, context: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        EnrichFactory.check(&self.options(options), context)
    }
    fn build(&self, options: &Value, context: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        EnrichFactory.build(&self.options(options), context)
    }
}

/// Users by number; number 9 is slow, 404 is nobody.
async fn user(Path(id): Path<String>) -> axum::response::Response {
    match id.as_str() {
        "404" => StatusCode::NOT_FOUND.into_response(),
        "9" => {
            tokio::time::sleep(Duration::from_millis(50)).await;
            json!({ "name": "nine" }).to_string().into_response()
        }
        id => json!({ "name": format!("user {id}"), "team": { "name": "blue" } }).to_string().into_response(),
    }
}

#[test]
fn golden_cases_come_out_as_written() {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let at = At(format!("http://{}", listener.local_addr().unwrap()));
    let router = Router::new().route("/users/{id}", get(user));
    runtime.spawn(async move { axum::serve(listener, router).await });
    let handle = runtime.handle().clone();
    let context = BuildContext {
        wake: Wake::thread(thread::current()),
        background: Background::new(move |work| drop(handle.spawn(work))),
        ..testing::context()
    };
    testing::golden_cases(&at, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"), &context);
}
