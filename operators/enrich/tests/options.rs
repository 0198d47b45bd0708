//! Golden cases of options: what is wrong with them, and what to do.

// Helpers of tests may unwrap as the tests do.
#![allow(clippy::unwrap_used)]

use pelton_enrich::EnrichFactory;
use pelton_sdk::{BuildContext, OperatorFactory};
use serde_json::{Value, json};

fn mistakes(change: &Value) -> Vec<String> {
    let mut options = json!({"url": "https://h/{.id}", "into": ".got"});
    for (name, value) in change.as_object().unwrap() {
        options[name] = value.clone();
    }
    let found = EnrichFactory.check(&options, &BuildContext::detached("."));
    let errors = found.err().unwrap_or_default();
    let show = |e: &pelton_sdk::OptionError| {
        let hint = e.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{}: {}{hint}", e.pointer, e.message)
    };
    errors.iter().map(show).collect()
}

#[test]
fn good_options_pass() {
    for good in [
        json!({}),
        json!({"url": "http://127.0.0.1:80/x?q={.a.b}", "order": "none", "onError": null}),
        json!({"url": "https://h", "method": "POST", "body": "{.id}"}),
        json!({"headers": {"Accept": "application/json", "Authorization": {"env": "T", "prefix": "Bearer "}}}),
        json!({"retry": {"attempts": 1, "unavailable": "fail"}, "cache": {"ttl": "1m", "entries": 5}}),
        json!({"maxResponse": "16MiB", "redirects": 3, "timeout": "1.5s", "select": ".a"}),
    ] {
        assert_eq!(mistakes(&good), Vec::<String>::new(), "{good}");
    }
}

#[test]
fn each_mistake_is_named_with_what_to_do() {
    let cases = [
        (json!({"url": "users/{.id}"}), "/url: `users/{.id}` is no URL: relative URL without a base"),
        (json!({"url": "ftp://h/{.id}"}), "/url: `ftp` is neither http nor https"),
        (
            json!({"url": "https://{.host}/x"}),
            "/url: a field of the record stands where the server is named (write the server out: `https://users.example/{.id}`)",
        ),
        (
            json!({"url": "https://h{.port}/x"}),
            "/url: a field of the record stands where the server is named (write the server out: `https://users.example/{.id}`)",
        ),
        (
            json!({"url": "https://me:pw@h/{.id}"}),
            "/url: a URL with a user or password is stored and shown (write `headers: {Authorization: {env: NAME}}`)",
        ),
        (json!({"url": "https://h/{.id"}), "/url: `{.id` has no closing brace"),
        (json!({"method": "get"}), "/method: `get` is none of GET, POST, PUT, PATCH, DELETE, HEAD"),
        (
            json!({"headers": {"authorization": "Bearer x"}}),
            "/headers/authorization: `authorization` must not stand in a definition: it is stored and shown (name where the worker finds it: `authorization: {env: NAME}` or `{file: /run/secrets/name}`)",
        ),
        (json!({"headers": {"a b": "x"}}), "/headers/a b: invalid HTTP header name"),
        (json!({"headers": {"a": {"prefix": "x"}}}), "/headers/a: give either `env` or `file`"),
        (json!({"into": "a.b"}), "/into: `a.b` is not a path to a member"),
        (json!({"select": "name"}), "/select: `name` is not a path to a member"),
        (json!({"inFlight": 0}), "/inFlight: 0 is not between 1 and 4096"),
        (json!({"timeout": "0s"}), "/timeout: it must be longer than nothing"),
        (json!({"maxResponse": "1GiB"}), "/maxResponse: `1GiB` is not between 1B and 64MiB"),
        (json!({"retry": {"attempts": 0}}), "/retry/attempts: 0 is not between 1 and 100"),
        (json!({"cache": {"ttl": "1m", "entries": 0}}), "/cache/entries: 0 is not between 1 and 10000000"),
        (json!({"redirects": 11}), "/redirects: 11 is not between 0 and 10"),
    ];
    for (change, expected) in cases {
        assert_eq!(mistakes(&change), [expected], "{change}");
    }
    for (change, part) in [
        (json!({"urll": "x"}), "unknown field `urll`"),
        (json!({"onError": "skip"}), "unknown variant `skip`"),
        (json!({"order": "offset"}), "unknown variant `offset`"),
        (json!({"timeout": "5 minutes"}), "is no duration"),
    ] {
        assert!(mistakes(&change)[0].contains(part), "{change}: {:?}", mistakes(&change));
    }
    let two = mistakes(&json!({"inFlight": 0, "select": "x", "timeout": "x"}));
    assert_eq!(two.len(), 3, "all are found together: {two:?}");
}

#[test]
fn a_secret_that_the_worker_lacks_is_named_when_it_builds() {
    let options = json!({
        "url": "http://h/{.id}", "into": ".got",
        "headers": {"Authorization": {"env": "PELTON_NO_SUCH_VARIABLE"}},
    });
    let errors = EnrichFactory.build(&options, &BuildContext::detached(".")).err().unwrap();
    let message = "the environment variable `PELTON_NO_SUCH_VARIABLE` is not set on this worker";
    assert_eq!((errors[0].pointer.as_str(), errors[0].message.as_str()), ("/headers/authorization", message));
}

#[test]
fn the_page_of_help_names_every_option() {
    let schema = serde_json::to_value(EnrichFactory.schema()).unwrap();
    for name in schema["properties"].as_object().unwrap().keys() {
        assert!(EnrichFactory.help().contains(&format!("`{name}")), "{name} is not described");
    }
}
