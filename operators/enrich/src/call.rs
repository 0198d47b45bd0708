//! One lookup: a request, again where that may help, and what is kept of the answer.

use crate::options::{HeaderValue, Plan, SecretValue, Unavailable};
use backon::{BackoffBuilder, ExponentialBuilder};
use pelton_sdk::{
    Calls, OptionError,
    member::{Path, find},
};
use reqwest::{
    Certificate, ClientBuilder, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue as Value, RETRY_AFTER},
    redirect,
};
use serde_json::value::RawValue;
use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

/// A server that asks for a longer pause than this is not waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// A request for one record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    pub url: String,
    pub body: Option<String>,
}

/// Connections to the server, and what is sent with every request.
pub(crate) struct Client {
    http: reqwest::Client,
    headers: HeaderMap,
    plan: Arc<Plan>,
}

/// Why an attempt gave no answer.
enum Failure {
    /// The server cannot be reached, or asks for patience.
    Unavailable(String, Option<Duration>),
    /// It may be better the next time.
    Retry(String, Option<Duration>),
    /// It will not.
    Final(String),
}

impl Client {
    pub fn new(plan: Arc<Plan>) -> Result<Self, Vec<OptionError>> {
        // One provider for the whole process; a second call changes nothing.
        drop(rustls::crypto::ring::default_provider().install_default());
        let headers = headers(&plan)?;
        let http = builder(&plan)?.build().or_else(|e| {
            // Without a file of certificates on the system no client is made, though plain HTTP needs none.
            let plain = plan.url.prefix().starts_with("http:");
            if plain { builder_of(&plan).tls_certs_only([]).build() } else { Err(e) }
        });
        let http =
            http.map_err(|e| vec![OptionError::at("/url", format!("no HTTP client: {}", causes(&e)))])?;
        Ok(Self { http, headers, plan })
    }

    /// The JSON text to write, after as many attempts as the options allow; else why there is none.
    pub async fn look_up(&self, request: &Request, counts: &Calls) -> Result<String, String> {
        let plan = &self.plan;
        let pauses = ExponentialBuilder::default()
            .with_min_delay(plan.initial)
            .with_max_delay(plan.longest)
            .with_jitter()
            .without_max_times();
        let mut pauses = pauses.build();
        let mut counted = 0;
        loop {
            let begun = Instant::now();
            let attempt = self.attempt(request).await;
            counts.ended(attempt.is_ok(), begun.elapsed());
            let (cause, asked) = match attempt {
                Ok(text) => return Ok(text),
                Err(Failure::Final(cause)) => return Err(cause),
                Err(Failure::Unavailable(cause, asked)) if plan.unavailable == Unavailable::Wait => {
                    tracing::warn!(server = %server(&request.url), cause, "waiting for a server");
                    (cause, asked)
                }
                Err(Failure::Unavailable(cause, asked) | Failure::Retry(cause, asked)) => {
                    counted += 1;
                    if counted >= plan.attempts {
                        return Err(match plan.attempts {
                            1 => cause,
                            n => format!("{cause} ({n} attempts)"),
                        });
                    }
                    (cause, asked)
                }
            };
            if asked.is_some_and(|pause| pause > LONGEST_WAIT) {
                return Err(format!(
                    "{cause}, and asks for a pause of {} s",
                    asked.unwrap_or_default().as_secs()
                ));
            }
            // Jitter may take the pause above its maximum, and its growth never ends.
            let pause = pauses.next().unwrap_or(plan.longest).min(plan.longest * 2);
            counts.retried();
            tokio::time::sleep(pause.max(asked.unwrap_or_default())).await;
        }
    }

    async fn attempt(&self, request: &Request) -> Result<String, Failure> {
        let url = Url::parse(&request.url).map_err(|e| Failure::Final(format!("`{}`: {e}", request.url)))?;
        let mut call = self.http.request(self.plan.method.clone(), url).headers(self.headers.clone());
        if let Some(body) = &request.body {
            call = call.body(body.clone());
        }
        let answer = call.send().await.map_err(|e| failure(&e, &request.url))?;
        let status = answer.status();
        if status.is_success() {
            let bytes = self.read(answer, &request.url).await?;
            return select(&bytes, self.plan.select.as_ref())
                .map_err(|why| Failure::Final(format!("{} answered {why}", server(&request.url))));
        }
        let asked = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
        let asked = asked.map(Duration::from_secs);
        let cause = format!("{} answered {status}", server(&request.url));
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                Failure::Unavailable(cause, asked)
            }
            _ if status.is_server_error() => Failure::Retry(cause, asked),
            _ if status.is_redirection() => {
                Failure::Final(format!("{cause}; it is not followed: see the option `redirects`"))
            }
            _ => Failure::Final(cause),
        })
    }

    /// The body, up to the limit.
    async fn read(&self, mut answer: Response, url: &str) -> Result<Vec<u8>, Failure> {
        let limit = self.plan.max_response;
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|e| failure(&e, url))? {
            if bytes.len() + piece.len() > limit {
                let cause = format!("{} answered more than the {limit} bytes of `maxResponse`", server(url));
                return Err(Failure::Final(cause));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }
}

fn builder(plan: &Plan) -> Result<ClientBuilder, Vec<OptionError>> {
    let builder = builder_of(plan);
    let Some(file) = &plan.ca_file else { return Ok(builder) };
    let unreadable = |why: String| vec![OptionError::at("/caFile", format!("{file}: {why}"))];
    let pem = fs::read(file).map_err(|e| unreadable(e.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|e| unreadable(causes(&e)))?;
    Ok(builder.tls_certs_merge(certificates))
}

fn builder_of(plan: &Plan) -> ClientBuilder {
    let most = plan.redirects;
    let policy = redirect::Policy::custom(move |attempt| {
        let first = attempt.previous().first();
        let same = first.is_some_and(|first| first.origin() == attempt.url().origin());
        if attempt.previous().len() > most || !same { attempt.stop() } else { attempt.follow() }
    });
    reqwest::Client::builder()
        .user_agent(concat!("pelton/", env!("CARGO_PKG_VERSION")))
        .timeout(plan.timeout)
        .pool_max_idle_per_host(plan.in_flight)
        .redirect(policy)
}

fn headers(plan: &Plan) -> Result<HeaderMap, Vec<OptionError>> {
    let mut headers = HeaderMap::new();
    if plan.body.is_some() {
        headers.insert(CONTENT_TYPE, Value::from_static("application/json"));
    }
    for (name, value) in &plan.headers {
        let failed = |why: String| vec![OptionError::at(format!("/headers/{name}"), why)];
        let (text, secret) = match value {
            HeaderValue::Text(text) => (text.clone(), false),
            HeaderValue::Secret(secret) => (read_secret(secret).map_err(failed)?, true),
        };
        let mut value = Value::from_str(&text)
            .map_err(|_| failed("the value has characters that no header may have".into()))?;
        value.set_sensitive(secret);
        headers.insert(name.clone(), value);
    }
    Ok(headers)
}

fn read_secret(secret: &SecretValue) -> Result<String, String> {
    let value = match (&secret.env, &secret.file) {
        (Some(name), _) => std::env::var(name)
            .map_err(|_| format!("the environment variable `{name}` is not set on this worker"))?,
        (None, Some(file)) => fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?,
        (None, None) => return Err("give either `env` or `file`".into()),
    };
    Ok(format!("{}{}", secret.prefix, value.trim_end()))
}

/// What an error of the client means. Its own text names the whole URL, which may hold what nobody should read.
fn failure(error: &reqwest::Error, url: &str) -> Failure {
    let server = server(url);
    let why = causes(error);
    if error.is_timeout() {
        Failure::Retry(format!("{server} did not answer in time"), None)
    } else if error.is_connect() {
        Failure::Unavailable(format!("{server} cannot be reached: {why}"), None)
    } else if error.is_builder() {
        Failure::Final(format!("{server}: the request cannot be made: {why}"))
    } else {
        Failure::Retry(format!("{server} broke the answer off: {why}"), None)
    }
}

/// The innermost cause, which is what says it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// Scheme, host and port.
fn server(url: &str) -> String {
    Url::parse(url).map_or_else(|_| "the server".into(), |url| url.origin().ascii_serialization())
}

/// The part of an answer to write, on one line.
fn select(bytes: &[u8], path: Option<&Path>) -> Result<String, String> {
    let whole: &RawValue =
        serde_json::from_slice(bytes).map_err(|e| format!("something that is no JSON: {e}"))?;
    let Some(path) = path else { return Ok(on_one_line(whole.get())) };
    if !whole.get().starts_with('{') {
        return Err(format!("no object, so there is no {path} in it"));
    }
    let found = find(whole.get().as_bytes(), path).map_err(|e| format!("something else: {e}"))?;
    found.map(on_one_line).ok_or_else(|| format!("without {path}"))
}

/// JSON without line ends between its tokens: a record in a file of lines stays a line.
fn on_one_line(json: &str) -> String {
    // A line end inside a JSON string is written `\n`, so those that stand there are white space.
    if json.contains(['\n', '\r']) { json.replace(['\n', '\r'], " ") } else { json.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_an_answer_is_found_and_what_is_no_json_is_said() {
        let path = Path::parse(".a.b").unwrap();
        assert_eq!(select(b"{\"a\":\n {\"b\":[1,\n2]}}", Some(&path)).unwrap(), "[1, 2]");
        assert_eq!(select(b" [1,\r\n2] ", None).unwrap(), "[1,  2]");
        assert_eq!(select(b"{}", Some(&path)).unwrap_err(), "without .a.b");
        assert_eq!(select(b"[]", Some(&path)).unwrap_err(), "no object, so there is no .a.b in it");
        assert!(
            select(b"<html>", None).unwrap_err().starts_with("something that is no JSON: expected value")
        );
        assert!(select(b"", None).is_err());
    }
}
