//! The files of `web/`, compiled into the binary.

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use std::{
    future::{Ready, ready},
    hash::{DefaultHasher, Hash, Hasher},
};

/// One file.
struct File {
    name: &'static str,
    bytes: &'static [u8],
}

macro_rules! files {
    ($($name:literal)*) => {
        &[$(File { name: $name, bytes: include_bytes!(concat!("../web/", $name)) }),*]
    };
}

/// Every file of the folder; a test compares.
const FILES: &[File] = files! {
    "index.html" "style.css" "icon.svg" "app.js" "dom.js" "format.js" "live.js" "list.js" "graph.js" "markdown.js"
    "keys.js" "pipelines.js" "pipeline.js" "tasks.js" "incidents.js" "letters.js" "tap.js"
};

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/", get(|headers: HeaderMap| ready(file("index.html", &headers))))
        .route("/{name}", get(|Path(name): Path<String>, headers: HeaderMap| ready(file(&name, &headers))))
}

/// From the folder's name to the folder, or pages would look for their files beside it.
pub(crate) fn to_folder(prefix: &str) -> impl Fn() -> Ready<Redirect> + Clone + use<> {
    let folder = format!("/{prefix}/");
    move || ready(Redirect::permanent(&folder))
}

fn file(name: &str, headers: &HeaderMap) -> Response {
    let Some(file) = FILES.iter().find(|file| file.name == name) else {
        return (StatusCode::NOT_FOUND, "there is no such page\n").into_response();
    };
    let tag = tag(file.bytes);
    // Asked for each time, sent only when it is another: a new binary shows at once.
    let about = [
        (header::ETAG, HeaderValue::from_str(&tag).unwrap_or(HeaderValue::from_static("\"\""))),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)) {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(kind(name)))];
    (about, kind, file.bytes).into_response()
}

/// The same bytes have the same tag in every process.
fn tag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_of_the_folder_is_served_and_none_reaches_outside() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
        let there: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert_eq!(there, FILES.iter().map(|f| f.name.to_owned()).collect());
        for file in FILES {
            let text = String::from_utf8(file.bytes.to_vec()).unwrap();
            let text = text.replace("http://www.w3.org/", "");
            for wrong in [
                "http://",
                "https://",
                "innerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "style=",
            ] {
                assert!(!text.contains(wrong), "{} contains {wrong}", file.name);
            }
        }
    }
}
