//! Which requests are answered, and what browsers are told to refuse.
//!
//! There is no login yet, so that whoever reaches the port may use it: it listens on this machine only unless told
//! otherwise. Pages of other sites open in the same browser reach it all the same. Against them: a change needs a
//! JSON body and must come from our own pages; and a name that public DNS can point anywhere is not answered.

use crate::refusal::Refusal;
use axum::{
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{self, HeaderName},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{net::IpAddr, sync::Arc};

/// Nothing but our own files; no script, style or handler in the page; text never becomes markup.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

/// Headers of every answer.
const ARMOUR: &[(&str, &str)] = &[
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

pub(crate) async fn armour(mut response: Response) -> Response {
    for (name, value) in ARMOUR {
        response.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // What the API says is of the moment.
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

pub(crate) async fn known_host(State(hosts): State<Arc<[String]>>, request: Request, next: Next) -> Response {
    let host = text(request.headers(), &header::HOST).unwrap_or_default();
    if answers_to(host, &hosts) {
        return next.run(request).await;
    }
    let message = format!(
        "the console is not known under the name {}; add it to `coordinator.consoleHosts` if it should be",
        printable(host)
    );
    Refusal::new(StatusCode::MISDIRECTED_REQUEST, message).into_response()
}

pub(crate) async fn same_origin(request: Request, next: Next) -> Response {
    match check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn printable(host: &str) -> String {
    host.chars().filter(|c| c.is_ascii_graphic()).take(100).collect()
}

/// Whether a browser can only have this host in its address bar because somebody who runs it chose so. A public name
/// may belong to anybody, who can point it at this machine and so have pages of his own read what we say.
fn answers_to(host: &str, known: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    if name.is_empty() || known.contains(&name) || name.parse::<IpAddr>().is_ok() {
        // HTTP/1.0 clients, which have no host, are no browsers.
        return true;
    }
    const PRIVATE: &[&str] = &[".localhost", ".local", ".internal", ".svc", ".svc.cluster.local"];
    !name.contains('.') || PRIVATE.iter().any(|end| name.ends_with(end))
}

fn check(method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
    let site = text(headers, &HeaderName::from_static("sec-fetch-site"));
    let foreign = |what: &str| {
        Err(Refusal::new(StatusCode::FORBIDDEN, format!("a page of another site may not {what} here")))
    };
    // Browsers set this one, and pages cannot. `none`: typed into the address bar.
    if site.is_some_and(|site| site != "same-origin" && site != "none") {
        return foreign("ask");
    }
    if *method == Method::GET || *method == Method::HEAD {
        return Ok(());
    }
    if site.is_none()
        && let Some(origin) = headers.get(header::ORIGIN)
    {
        let origin = origin.to_str().ok().and_then(|o| o.split_once("://")).map(|(_, host)| host);
        if origin.is_none() || origin != text(headers, &header::HOST) {
            return foreign("change anything");
        }
    }
    let kind = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    // A form cannot send this type, so that a page of another site would have to ask for leave first.
    if kind.split(';').next().map(str::trim) != Some("application/json") {
        let message = "send `Content-Type: application/json`";
        return Err(Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_private_names_are_answered_and_public_names_only_when_they_are_known() {
        let known = ["pelton.example.com".to_owned()];
        let own = "127.0.0.1:7462 [::1]:7462 localhost:7462 localhost console.localhost:80 pelton-coordinator:7462 \
                   10.1.2.3 pelton.streams.svc.cluster.local pelton.example.com Pelton.Example.com:8443";
        for host in own.split(' ') {
            assert!(answers_to(host, &known), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:7462",
            "127.0.0.1.evil.example",
            "pelton.example.com.evil.org",
            "a.com:b",
        ] {
            assert!(!answers_to(host, &known), "{host}");
        }
    }

    fn verdict(method: Method, headers: &[(&'static str, &'static str)]) -> Option<StatusCode> {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        check(&method, &headers).err().map(|r| r.into_response().status())
    }

    #[test]
    fn a_change_needs_json_and_comes_from_our_own_pages_or_from_no_browser() {
        let json = ("content-type", "application/json");
        let host = ("host", "127.0.0.1:7462");
        let own = ("origin", "http://127.0.0.1:7462");
        let other = ("origin", "http://evil.example");
        assert_eq!(verdict(Method::POST, &[host, json]), None, "curl");
        assert_eq!(verdict(Method::POST, &[host, json, own]), None, "an old browser");
        assert_eq!(
            verdict(Method::POST, &[host, json, other, ("sec-fetch-site", "same-origin")]),
            None,
            "a proxy"
        );
        let no = Some(StatusCode::FORBIDDEN);
        assert_eq!(verdict(Method::POST, &[host, json, other]), no);
        assert_eq!(verdict(Method::POST, &[host, json, ("origin", "null")]), no);
        assert_eq!(verdict(Method::POST, &[host, json, own, ("sec-fetch-site", "cross-site")]), no);
        assert_eq!(verdict(Method::POST, &[host, json, own, ("sec-fetch-site", "same-site")]), no);
        assert_eq!(verdict(Method::GET, &[host, ("sec-fetch-site", "cross-site")]), no);
        assert_eq!(verdict(Method::GET, &[host, ("sec-fetch-site", "none")]), None);
        let form = ("content-type", "application/x-www-form-urlencoded");
        assert_eq!(verdict(Method::POST, &[host, own, form]), Some(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
}
