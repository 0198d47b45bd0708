//! `connections:` of a node: where queues are, with TLS and login. Secrets are references, and a text where one belongs
//! is refused without being repeated.

use super::Origin;
use crate::{
    problem::{Place, Problem},
    reader::{Problems, Rule},
    suggest,
    yaml::{Data, Node},
};
use pelton_sdk::{
    Connection, Secret,
    connection::{Given, Mechanism, Sasl, Tls, TokenEndpoint},
};
use serde_json::Value;
use std::{collections::BTreeMap, path::PathBuf};

/// Connections by name, each with the place it was written at.
pub(super) type Connections = BTreeMap<String, (Connection, Origin)>;

/// Mechanisms by their names in SASL; `None`: by a token.
const MECHANISMS: &[(&str, Option<Mechanism>)] = &[
    ("PLAIN", Some(Mechanism::Plain)),
    ("SCRAM-SHA-256", Some(Mechanism::ScramSha256)),
    ("SCRAM-SHA-512", Some(Mechanism::ScramSha512)),
    ("OAUTHBEARER", None),
];

/// All connections, or every mistake in them.
pub(super) fn read(file: &str, node: &Node) -> (Connections, Vec<Problem>) {
    let mut reader = Reader { problems: Problems::new(file) };
    let mut all = Connections::new();
    if !node.is_null() {
        for (key, node) in reader.problems.mapping(node, "`connections`").unwrap_or_default() {
            let fine = reader.problems.name(key.place, "name of a connection", &key.name, Rule::Word);
            let found = reader.connection(&format!("connections.{}", key.name), node);
            if let Some(connection) = found.filter(|_| fine) {
                let Place { line, column } = key.place;
                all.insert(key.name.clone(), (connection, Origin::File(file.to_owned(), line, column)));
            }
        }
    }
    match reader.problems.finish(()) {
        Ok(()) => (all, Vec::new()),
        Err(report) => (Connections::new(), report.problems),
    }
}

/// What `pelton config show` prints of a connection: where a secret is, never what it is.
pub(super) fn show(name: &str, connection: &Connection) -> Vec<(String, String)> {
    let Connection { brokers, tls, sasl, properties } = connection;
    let mut rows = vec![("brokers".to_owned(), brokers.clone())];
    let mut row = |key: &str, value: Option<String>| rows.extend(value.map(|value| (key.to_owned(), value)));
    let path = |path: &Option<PathBuf>| path.as_ref().map(|p| p.display().to_string());
    let from = |secret: &Secret| Some(format!("<from {secret}>"));
    let given = |given: &Given| match given {
        Given::Text(text) => Some(text.clone()),
        Given::From(secret) => from(secret),
    };
    if let Some(tls) = tls {
        row("tls.ca", path(&tls.ca).or(Some("<the system's>".to_owned())));
        row("tls.certificate", path(&tls.certificate));
        row("tls.key", path(&tls.key));
        row("tls.keyPassword", tls.key_password.as_ref().and_then(from));
        row("tls.insecureSkipVerify", tls.insecure_skip_verify.then(|| "true".to_owned()));
    }
    match sasl {
        None => {}
        Some(Sasl::Password { mechanism, username, password }) => {
            row("sasl.mechanism", Some(mechanism.name().to_owned()));
            row("sasl.username", given(username));
            row("sasl.password", from(password));
        }
        Some(Sasl::Token(token)) => {
            row("sasl.mechanism", Some("OAUTHBEARER".to_owned()));
            row("sasl.token", from(token));
        }
        Some(Sasl::TokenEndpoint(endpoint)) => {
            row("sasl.mechanism", Some("OAUTHBEARER".to_owned()));
            row("sasl.tokenEndpoint.url", Some(endpoint.url.clone()));
            row("sasl.tokenEndpoint.clientId", given(&endpoint.client_id));
            row("sasl.tokenEndpoint.clientSecret", from(&endpoint.client_secret));
            row("sasl.tokenEndpoint.scope", endpoint.scope.clone());
            row("sasl.tokenEndpoint.ca", path(&endpoint.ca));
        }
    }
    for (property, value) in properties {
        row(&format!("properties.{property}"), Some(value.clone()));
    }
    rows.into_iter().map(|(key, value)| (format!("connections.{name}.{key}"), value)).collect()
}

struct Reader {
    problems: Problems,
}

impl Reader {
    fn connection(&mut self, what: &str, node: &Node) -> Option<Connection> {
        let fields =
            self.problems.fields(node, &format!("`{what}`"), &["brokers", "tls", "sasl", "properties"])?;
        let brokers = match fields.get("brokers") {
            Some(node) => self.brokers(&format!("{what}.brokers"), node),
            None => {
                self.missing(node.place, what, "brokers", "add `brokers: HOST:PORT`");
                None
            }
        };
        let tls = fields.get("tls").map(|node| self.tls(&format!("{what}.tls"), node));
        let sasl = fields.get("sasl").map(|node| self.sasl(&format!("{what}.sasl"), node));
        let properties =
            fields.get("properties").map(|node| self.properties(&format!("{what}.properties"), node));
        Some(Connection {
            brokers: brokers?,
            tls: match tls {
                Some(tls) => Some(tls?),
                None => None,
            },
            sasl: match sasl {
                Some(sasl) => Some(sasl?),
                None => None,
            },
            properties: properties.unwrap_or_default(),
        })
    }

    fn brokers(&mut self, what: &str, node: &Node) -> Option<String> {
        let all: Vec<&str> = match &node.data {
            Data::List(items) => items
                .iter()
                .map(|item| self.problems.text(item, &format!("a broker of `{what}`")))
                .collect::<Option<_>>()?,
            _ => self.problems.text(node, &format!("`{what}`"))?.split(',').map(str::trim).collect(),
        };
        match all.iter().find(|one| !super::layers::is_address(one)) {
            None if !all.is_empty() => Some(all.join(",")),
            None => {
                self.problems
                    .at(node.place, format!("`{what}` is empty; name brokers: `kafka-1:9092,kafka-2:9092`"));
                None
            }
            Some(wrong) => {
                let hint = (wrong.contains("${"))
                    .then(|| "settings do not substitute `${...}`; write the address out".to_owned());
                let message = format!("`{what}`: {wrong:?} is not an address such as `kafka-1:9092`");
                self.problems.hint(node.place, message, hint);
                None
            }
        }
    }

    fn tls(&mut self, what: &str, node: &Node) -> Option<Tls> {
        // `tls:` and `tls: {}` are TLS with the system's authorities.
        if node.is_null() {
            return Some(Tls::default());
        }
        let known = ["ca", "certificate", "key", "keyPassword", "insecureSkipVerify"];
        let fields = self.problems.fields(node, &format!("`{what}`"), &known)?;
        let mut path = |name: &str| Some(self.path(&format!("{what}.{name}"), fields.get(name)?));
        let (ca, certificate, key) = (path("ca"), path("certificate"), path("key"));
        let key_password =
            fields.get("keyPassword").map(|node| self.secret(&format!("{what}.keyPassword"), node));
        let skip = fields.get("insecureSkipVerify").map(|node| match &node.data {
            Data::Scalar(Value::Bool(skip)) => *skip,
            _ => {
                let message =
                    format!("`{what}.insecureSkipVerify` must be true or false, found {}", node.describe());
                self.problems.at(node.place, message);
                false
            }
        });
        match (&certificate, &key, &key_password) {
            (Some(_), None, _) => {
                self.missing(node.place, what, "key", "the certificate needs its key: add `key: PATH`")
            }
            (None, Some(_), _) => {
                self.missing(
                    node.place,
                    what,
                    "certificate",
                    "the key is of no use without: add `certificate: PATH`",
                );
            }
            (_, None, Some(_)) => {
                self.missing(node.place, what, "key", "`keyPassword` opens it: add `key: PATH`")
            }
            _ => {}
        }
        Some(Tls {
            ca: flatten(ca)?,
            certificate: flatten(certificate)?,
            key: flatten(key)?,
            key_password: flatten(key_password)?,
            insecure_skip_verify: skip.unwrap_or_default(),
        })
    }

    fn sasl(&mut self, what: &str, node: &Node) -> Option<Sasl> {
        let known = ["mechanism", "username", "password", "token", "tokenEndpoint"];
        let fields = self.problems.fields(node, &format!("`{what}`"), &known)?;
        let Some(mechanism) = fields.get("mechanism") else {
            let names = suggest::either(MECHANISMS.iter().map(|(name, _)| *name));
            self.missing(node.place, what, "mechanism", &format!("it is {names}"));
            return None;
        };
        let mechanism = self.problems.choice(mechanism, &format!("`{what}.mechanism`"), MECHANISMS)?;
        let foreign: &[&str] =
            if mechanism.is_some() { &["token", "tokenEndpoint"] } else { &["username", "password"] };
        for name in foreign.iter().filter(|name| fields.get(name).is_some()) {
            let message = format!("`{what}.{name}` does not belong to this mechanism");
            let hint = match mechanism {
                Some(_) => "PLAIN and SCRAM take `username` and `password`",
                None => "OAUTHBEARER takes `token` or `tokenEndpoint`",
            };
            self.problems.hint(node.place, message, Some(hint.to_owned()));
        }
        let Some(mechanism) = mechanism else {
            return match (fields.get("token"), fields.get("tokenEndpoint")) {
                (Some(node), None) => Some(Sasl::Token(self.secret(&format!("{what}.token"), node)?)),
                (None, Some(node)) => {
                    Some(Sasl::TokenEndpoint(self.endpoint(&format!("{what}.tokenEndpoint"), node)?))
                }
                _ => {
                    let message = format!("`{what}` needs `token` or `tokenEndpoint`, one of them");
                    let hint = "`token: { file: PATH }` where somebody keeps a token fresh, or `tokenEndpoint: { url, \
                                clientId, clientSecret }`";
                    self.problems.hint(node.place, message, Some(hint.to_owned()));
                    None
                }
            };
        };
        let username = fields.get("username").map(|node| self.given(&format!("{what}.username"), node));
        let password = fields.get("password").map(|node| self.secret(&format!("{what}.password"), node));
        if username.is_none() {
            self.missing(node.place, what, "username", "add `username: NAME`");
        }
        if password.is_none() {
            self.missing(
                node.place,
                what,
                "password",
                "add `password: { env: NAME }` or `password: { file: PATH }`",
            );
        }
        Some(Sasl::Password { mechanism, username: username??, password: password?? })
    }

    fn endpoint(&mut self, what: &str, node: &Node) -> Option<TokenEndpoint> {
        let known = ["url", "clientId", "clientSecret", "scope", "ca"];
        let fields = self.problems.fields(node, &format!("`{what}`"), &known)?;
        for name in ["url", "clientId", "clientSecret"].into_iter().filter(|name| fields.get(name).is_none())
        {
            self.missing(node.place, what, name, "an endpoint has `url`, `clientId` and `clientSecret`");
        }
        let url = fields.get("url").and_then(|node| {
            let url = self.problems.text(node, &format!("`{what}.url`"))?;
            // A secret may hide in it, so it is not repeated.
            if !super::layers::is_url(url) || url.contains('@') {
                let message = format!(
                    "`{what}.url` is not a URL such as `https://idp.example.com/token`, without a login in it"
                );
                self.problems.at(node.place, message);
                return None;
            }
            Some(url.to_owned())
        });
        let client_id = fields.get("clientId").and_then(|node| self.given(&format!("{what}.clientId"), node));
        let secret =
            fields.get("clientSecret").and_then(|node| self.secret(&format!("{what}.clientSecret"), node));
        let scope = fields
            .get("scope")
            .map(|node| self.problems.text(node, &format!("`{what}.scope`")).map(str::to_owned));
        let ca = fields.get("ca").map(|node| self.path(&format!("{what}.ca"), node));
        Some(TokenEndpoint {
            url: url?,
            client_id: client_id?,
            client_secret: secret?,
            scope: flatten(scope)?,
            ca: flatten(ca)?,
        })
    }

    fn properties(&mut self, what: &str, node: &Node) -> BTreeMap<String, String> {
        let entries = self.problems.mapping(node, &format!("`{what}`")).unwrap_or_default();
        let value = |value: &Node| match &value.data {
            Data::Scalar(Value::String(text)) => Some(text.clone()),
            Data::Scalar(Value::Number(number)) => Some(number.to_string()),
            Data::Scalar(Value::Bool(value)) => Some(value.to_string()),
            _ => None,
        };
        let mut all = BTreeMap::new();
        for (key, node) in entries {
            match value(node) {
                Some(value) => drop(all.insert(key.name.clone(), value)),
                None => {
                    self.problems.at(node.place, format!("`{what}.{}` must be a text or a number", key.name))
                }
            }
        }
        all
    }

    fn path(&mut self, what: &str, node: &Node) -> Option<PathBuf> {
        match node.as_str() {
            Some(text) if text.contains("-----BEGIN") => {
                let message =
                    format!("`{what}` is written out; name the file it is in: `{}: PATH`", last(what));
                self.problems.at(node.place, message);
                None
            }
            Some(text) if !text.is_empty() => Some(PathBuf::from(text)),
            _ => {
                self.problems.at(node.place, format!("`{what}` must be the path of a PEM file"));
                None
            }
        }
    }

    fn given(&mut self, what: &str, node: &Node) -> Option<Given> {
        match &node.data {
            Data::Mapping(_) => self.secret(what, node).map(Given::From),
            _ => Some(Given::Text(self.problems.text(node, &format!("`{what}`"))?.to_owned())),
        }
    }

    /// `{ env: NAME }` or `{ file: PATH }`. Whatever else stands there may be the secret, and is not repeated.
    fn secret(&mut self, what: &str, node: &Node) -> Option<Secret> {
        let references = format!("`{0}: {{ env: NAME }}` or `{0}: {{ file: PATH }}`", last(what));
        let Data::Mapping(entries) = &node.data else {
            let message = format!("`{what}` is a secret and must not be written out here");
            let hint = format!("put it into the environment or a file, and say where: {references}");
            self.problems.hint(node.place, message, Some(hint));
            return None;
        };
        let found = match entries.as_slice() {
            [(key, value)] => match (key.name.as_str(), value.as_str()) {
                ("env", Some(name)) if is_variable(name) => Some(Secret::Env(name.to_owned())),
                ("file", Some(path)) if !path.is_empty() => Some(Secret::File(PathBuf::from(path))),
                _ => None,
            },
            _ => None,
        };
        if found.is_none() {
            self.problems.at(node.place, format!("`{what}` must be {references}"));
        }
        found
    }

    fn missing(&mut self, place: Place, what: &str, key: &str, hint: &str) {
        self.problems.hint(place, format!("`{what}` has no `{key}`"), Some(hint.to_owned()));
    }
}

/// Not given is fine; given and wrong is not.
fn flatten<T>(given: Option<Option<T>>) -> Option<Option<T>> {
    match given {
        None => Some(None),
        Some(None) => None,
        Some(found) => Some(found),
    }
}

fn last(what: &str) -> &str {
    what.rsplit('.').next().unwrap_or(what)
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}
