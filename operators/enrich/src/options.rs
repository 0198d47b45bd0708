//! Options of `enrich`, and what they come to once checked.

use crate::template::Template;
use pelton_sdk::{
    OptionError, Order,
    member::Path,
    parse_options,
    units::{parse_duration, parse_size},
};
use reqwest::{Method, Url, header::HeaderName};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};

/// Headers that carry credentials: a definition is stored and shown, so it may hold them as references only.
const SECRET_HEADERS: [&str; 6] =
    ["authorization", "proxy-authorization", "cookie", "x-api-key", "api-key", "x-auth-token"];
/// Answers beyond this do not belong into a record.
const LARGEST_ANSWER: u64 = 64 << 20;

/// Look something up over HTTP for each record and write it into the record.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EnrichOptions {
    /// Where to ask, with fields of the record in braces: `https://users.example/v1/{.user.id}`.
    url: String,
    /// The request's method.
    #[serde(default = "get")]
    #[schemars(extend("enum" = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"]))]
    method: String,
    /// Headers of the request: texts, or references to secrets.
    #[serde(default)]
    headers: BTreeMap<String, HeaderValue>,
    /// The request's body, with fields of the record in braces as the JSON they are: `{"id": {.user.id}}`.
    body: Option<String>,
    /// The member that gets the answer, such as `.user` or `.user.profile`.
    into: String,
    /// The part of the answer that is written, such as `.data.name`; all of it when not given.
    select: Option<String>,
    /// Calls that one task has open at most.
    #[serde(default = "in_flight")]
    #[schemars(range(min = 1, max = 4096))]
    in_flight: usize,
    /// In which order records leave.
    #[serde(default)]
    order: Order,
    /// For one call, from connecting to the last byte of the answer.
    #[serde(default = "timeout")]
    timeout: String,
    /// When a call is made again.
    #[serde(default)]
    retry: RetryOptions,
    /// What becomes of a record without an answer: it fails, or gets `null`.
    #[serde(default)]
    #[schemars(extend("enum" = ["fail", "null", null]))]
    on_error: OnError,
    /// Keep answers, and make one call for equal requests.
    cache: Option<CacheOptions>,
    /// Largest answer that is read.
    #[serde(default = "max_response")]
    max_response: String,
    /// Redirects followed on the same server.
    #[serde(default)]
    #[schemars(range(max = 10))]
    redirects: usize,
    /// A file of certificates to trust beside the system's, PEM.
    ca_file: Option<String>,
}

/// A header's value.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub(crate) enum HeaderValue {
    /// As it stands.
    Text(String),
    /// A secret of the worker.
    Secret(SecretValue),
}

/// Where a worker finds a secret: `env` or `file`.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretValue {
    /// An environment variable of the worker.
    pub env: Option<String>,
    /// A file on the worker; white space at its end does not count.
    pub file: Option<String>,
    /// Text before it, such as `Bearer `.
    #[serde(default)]
    pub prefix: String,
}

/// When a call is made again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RetryOptions {
    /// Calls for one record at most, the first among them.
    #[serde(default = "attempts")]
    #[schemars(range(min = 1, max = 100))]
    attempts: usize,
    /// Pause before the second call; each further one is twice as long, with chance in it.
    #[serde(default = "initial")]
    initial: String,
    /// Longest pause.
    #[serde(default = "longest")]
    max: String,
    /// When the server cannot be reached or says 429 or 503: wait for it as long as it takes, or count the attempts.
    #[serde(default)]
    unavailable: Unavailable,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self { attempts: attempts(), initial: initial(), max: longest(), unavailable: Unavailable::default() }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Unavailable {
    /// Records wait, and so does the source behind them.
    #[default]
    Wait,
    /// As any other failure.
    Fail,
}

#[derive(Clone, Copy, Debug, Default, JsonSchema, PartialEq, Eq)]
pub(crate) enum OnError {
    #[default]
    Fail,
    Null,
}

/// YAML reads a bare `null` as no text at all.
impl<'de> Deserialize<'de> for OnError {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Option::<String>::deserialize(from)?.as_deref() {
            None | Some("null") => Ok(Self::Null),
            Some("fail") => Ok(Self::Fail),
            Some(other) => Err(serde::de::Error::unknown_variant(other, &["fail", "null"])),
        }
    }
}

/// Answers that are kept, by task.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CacheOptions {
    /// How long an answer holds.
    ttl: String,
    /// Answers kept at most.
    #[serde(default = "entries")]
    #[schemars(range(min = 1, max = 10_000_000))]
    entries: usize,
}

fn get() -> String {
    "GET".into()
}
fn in_flight() -> usize {
    16
}
fn timeout() -> String {
    "5s".into()
}
fn attempts() -> usize {
    5
}
fn initial() -> String {
    "100ms".into()
}
fn longest() -> String {
    "10s".into()
}
fn max_response() -> String {
    "1MiB".into()
}
fn entries() -> usize {
    10_000
}

/// Options that were checked.
#[derive(Debug)]
pub(crate) struct Plan {
    pub url: Template,
    pub method: Method,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Option<Template>,
    pub into: Path,
    pub select: Option<Path>,
    pub in_flight: usize,
    pub order: Order,
    pub timeout: Duration,
    pub attempts: usize,
    pub initial: Duration,
    pub longest: Duration,
    pub unavailable: Unavailable,
    pub on_error: OnError,
    pub cache: Option<(Duration, usize)>,
    pub max_response: usize,
    pub redirects: usize,
    pub ca_file: Option<String>,
}

/// Finds mistakes and goes on.
#[derive(Default)]
struct Mistakes(Vec<OptionError>);

impl Mistakes {
    fn note(&mut self, at: &str, message: impl Into<String>) {
        self.0.push(OptionError::at(at, message));
    }

    fn keep<T, E: ToString>(&mut self, at: &str, found: Result<T, E>) -> Option<T> {
        found.map_err(|e| self.note(at, e.to_string())).ok()
    }

    fn duration(&mut self, at: &str, text: &str) -> Option<Duration> {
        let found = self.keep(at, parse_duration(text))?;
        if found.is_zero() {
            self.note(at, "it must be longer than nothing");
        }
        Some(found)
    }

    fn between(&mut self, at: &str, value: usize, low: usize, high: usize) {
        if !(low..=high).contains(&value) {
            self.note(at, format!("{value} is not between {low} and {high}"));
        }
    }
}

/// Find every mistake that needs nothing of the worker.
pub(crate) fn check(options: &Value) -> Result<Plan, Vec<OptionError>> {
    let options: EnrichOptions = parse_options(options)?;
    let mut mistakes = Mistakes::default();
    let url = url(&options.url, &mut mistakes);
    let method = mistakes.keep("/method", method(&options.method));
    let headers = headers(&options.headers, &mut mistakes);
    let body = options.body.as_deref().map(|body| mistakes.keep("/body", Template::parse(body)));
    let into = mistakes.keep("/into", Path::parse(&options.into));
    let select = options.select.as_deref().map(|path| mistakes.keep("/select", Path::parse(path)));
    let timeout = mistakes.duration("/timeout", &options.timeout);
    let initial = mistakes.duration("/retry/initial", &options.retry.initial);
    let longest = mistakes.duration("/retry/max", &options.retry.max);
    let cache = options.cache.as_ref().map(|cache| {
        mistakes.between("/cache/entries", cache.entries, 1, 10_000_000);
        Some((mistakes.duration("/cache/ttl", &cache.ttl)?, cache.entries))
    });
    let max_response = mistakes.keep("/maxResponse", parse_size(&options.max_response));
    if max_response.is_some_and(|size| size == 0 || size > LARGEST_ANSWER) {
        mistakes.note("/maxResponse", format!("`{}` is not between 1B and 64MiB", options.max_response));
    }
    mistakes.between("/inFlight", options.in_flight, 1, 4096);
    mistakes.between("/retry/attempts", options.retry.attempts, 1, 100);
    mistakes.between("/redirects", options.redirects, 0, 10);
    let (Some(url), Some(method), Some(into), Some(timeout), Some(initial), Some(longest), Some(size), true) =
        (url, method, into, timeout, initial, longest, max_response, mistakes.0.is_empty())
    else {
        return Err(mistakes.0);
    };
    Ok(Plan {
        url,
        method,
        headers,
        body: body.flatten(),
        into,
        select: select.flatten(),
        in_flight: options.in_flight,
        order: options.order,
        timeout,
        attempts: options.retry.attempts,
        initial,
        longest: longest.max(initial),
        unavailable: options.retry.unavailable,
        on_error: options.on_error,
        cache: cache.flatten(),
        max_response: usize::try_from(size).unwrap_or(usize::MAX),
        redirects: options.redirects,
        ca_file: options.ca_file,
    })
}

/// The server must stand in the text: a record must not choose whom Pelton talks to.
fn url(text: &str, mistakes: &mut Mistakes) -> Option<Template> {
    let template = mistakes.keep("/url", Template::parse(text))?;
    match Url::parse(&template.sample()) {
        Err(e) => mistakes.note("/url", format!("`{text}` is no URL: {e}")),
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            mistakes.note("/url", format!("`{}` is neither http nor https", url.scheme()));
        }
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            mistakes.0.push(
                OptionError::at("/url", "a URL with a user or password is stored and shown")
                    .hint("write `headers: {Authorization: {env: NAME}}`"),
            );
        }
        Ok(_) => {
            let server = template.prefix().split_once("://").map_or("", |(_, rest)| rest);
            if !server.contains(['/', '?', '#']) && template.prefix() != text {
                mistakes.0.push(
                    OptionError::at("/url", "a field of the record stands where the server is named")
                        .hint("write the server out: `https://users.example/{.id}`"),
                );
            }
        }
    }
    Some(template)
}

fn method(text: &str) -> Result<Method, String> {
    match text {
        "GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" => {
            Method::from_bytes(text.as_bytes()).map_err(|e| e.to_string())
        }
        _ => Err(format!("`{text}` is none of GET, POST, PUT, PATCH, DELETE, HEAD")),
    }
}

fn headers(given: &BTreeMap<String, HeaderValue>, mistakes: &mut Mistakes) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (name, value) in given {
        // A JSON pointer writes `/` and `~` otherwise; no header has them.
        let at = format!("/headers/{name}");
        let Some(parsed) = mistakes.keep(&at, HeaderName::from_bytes(name.as_bytes())) else { continue };
        match value {
            HeaderValue::Text(_) if SECRET_HEADERS.contains(&parsed.as_str()) => {
                mistakes.0.push(
                    OptionError::at(&at, format!("`{name}` must not stand in a definition: it is stored and shown"))
                        .hint(format!("name where the worker finds it: `{name}: {{env: NAME}}` or `{{file: /run/secrets/name}}`")),
                );
            }
            HeaderValue::Text(text) => {
                mistakes.keep(&at, reqwest::header::HeaderValue::from_str(text));
            }
            HeaderValue::Secret(secret) if secret.env.is_some() == secret.file.is_some() => {
                mistakes.note(&at, "give either `env` or `file`");
            }
            HeaderValue::Secret(_) => {}
        }
        headers.push((parsed, value.clone()));
    }
    headers
}
