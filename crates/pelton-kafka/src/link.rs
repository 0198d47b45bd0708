//! A connection as clients use it: where it leads, and the login that is kept fresh for all of them.

use crate::{login::Login, reach::Watch, settings::KafkaOptions};
use pelton_sdk::{
    Connection, Revealed,
    connection::{DEFAULT_CONNECTION, Mechanism, Sasl},
};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Link {
    /// What people are told, and what tells two links apart: the brokers, and the connection's name unless it is the
    /// default.
    pub label: String,
    pub client_id: String,
    pub connection: Connection,
    pub login: Login,
    pub watch: Watch,
}

/// The links of a process.
#[derive(Debug)]
pub(crate) struct Links {
    client_id: String,
    any_connection: bool,
    named: BTreeMap<String, Arc<Link>>,
    /// Those that ends give by their brokers alone.
    plain: Mutex<BTreeMap<String, Arc<Link>>>,
}

impl Links {
    pub(crate) fn new(options: &KafkaOptions) -> Links {
        let link = |(name, connection): (&String, &Connection)| {
            let label = if name == DEFAULT_CONNECTION {
                connection.brokers.clone()
            } else {
                format!("{} (connection `{name}`)", connection.brokers)
            };
            (name.clone(), Arc::new(Link::new(label, &options.client_id, connection.clone())))
        };
        Links {
            client_id: options.client_id.clone(),
            any_connection: options.any_connection,
            named: options.connections.iter().map(link).collect(),
            plain: Mutex::default(),
        }
    }

    /// The link of an end, by the connection or the brokers it names. A login is sent only to the brokers of its own
    /// connection, never to brokers that a definition names.
    pub(crate) fn of(&self, connection: Option<&str>, brokers: Option<&str>) -> Result<Arc<Link>, String> {
        let Some(brokers) = brokers else {
            let name = connection.unwrap_or(DEFAULT_CONNECTION);
            return self.named.get(name).cloned().ok_or_else(|| self.unknown(name));
        };
        let mut plain = self.plain.lock().unwrap_or_else(PoisonError::into_inner);
        let link = match plain.entry(brokers.to_owned()) {
            Entry::Occupied(found) => found.get().clone(),
            Entry::Vacant(free) => {
                let connection = Connection { brokers: brokers.to_owned(), ..Connection::default() };
                free.insert(Arc::new(Link::new(brokers.to_owned(), &self.client_id, connection))).clone()
            }
        };
        Ok(link)
    }

    /// Why a definition may not name this connection.
    pub(crate) fn fault(&self, connection: Option<&str>) -> Option<String> {
        let name = connection?;
        (!self.any_connection && !self.named.contains_key(name)).then(|| self.unknown(name))
    }

    /// What an end's cluster is called, also where it is not known here.
    pub(crate) fn label(&self, connection: Option<&str>, brokers: Option<&str>) -> String {
        self.of(connection, brokers).map_or_else(
            |_| format!("connection `{}`", connection.unwrap_or(DEFAULT_CONNECTION)),
            |link| link.label.clone(),
        )
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&String, &Arc<Link>)> {
        self.named.iter()
    }

    fn unknown(&self, name: &str) -> String {
        let known: Vec<_> = self.named.keys().map(|k| format!("`{k}`")).collect();
        format!(
            "there is no connection `{name}` in this node's settings; it has {}; add it under `connections:`, or \
             correct the name",
            known.join(", ")
        )
    }
}

impl Link {
    fn new(label: String, client_id: &str, connection: Connection) -> Link {
        let login = Login::new(&label, connection.sasl.clone());
        Link { label, client_id: client_id.to_owned(), connection, login, watch: Watch::default() }
    }

    /// What lets others read, or answer in the broker's place.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        let in_clear = matches!(
            self.connection.sasl,
            Some(
                Sasl::Password { mechanism: Mechanism::Plain, .. } | Sasl::Token(_) | Sasl::TokenEndpoint(_)
            )
        );
        match &self.connection.tls {
            Some(tls) if tls.insecure_skip_verify => Some(
                "insecureSkipVerify is on: anybody on the way can answer in the broker's place, read all records and \
                 take the login; set `tls.ca` instead",
            ),
            None if in_clear => Some(
                "the login is sent in the clear: anybody on the way can read it; add `tls`, or use SCRAM",
            ),
            _ => None,
        }
    }

    /// All that is secret in a client's properties, as it is now.
    pub(crate) fn secrets(&self) -> Result<Vec<(&'static str, Revealed)>, String> {
        let mut all = self.login.properties()?;
        if let Some(password) = self.connection.tls.as_ref().and_then(|tls| tls.key_password.as_ref()) {
            all.push(("ssl.key.password", password.read()?));
        }
        Ok(all)
    }

    /// Whether every file with certificates and keys is there: the library says only that one is not.
    pub(crate) fn check_files(&self) -> Result<(), String> {
        let Some(tls) = &self.connection.tls else { return Ok(()) };
        let files = [("ca", &tls.ca), ("certificate", &tls.certificate), ("key", &tls.key)];
        for (name, path) in files.into_iter().filter_map(|(name, path)| Some((name, path.as_ref()?))) {
            std::fs::metadata(path)
                .and_then(|_| std::fs::File::open(path))
                .map_err(|e| format!("the file {} of `tls.{name}` cannot be read: {e}", path.display()))?;
        }
        Ok(())
    }

    /// Whether the client has a certificate of its own.
    pub(crate) fn shows_certificate(&self) -> bool {
        self.connection.tls.as_ref().is_some_and(|tls| tls.certificate.is_some())
    }

    /// Whether the broker has to show who it is.
    pub(crate) fn checks_certificates(&self) -> bool {
        self.connection.tls.as_ref().is_some_and(|tls| !tls.insecure_skip_verify)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_gets_the_connection_it_names_and_never_a_login_with_brokers_of_its_own() {
        let tls = Connection {
            brokers: "k:9093".into(),
            tls: Some(pelton_sdk::connection::Tls::default()),
            ..Connection::default()
        };
        let links = Links::new(&KafkaOptions::new("b:9092").connection("secure", tls));
        assert_eq!(links.of(None, None).unwrap().label, "b:9092");
        assert_eq!(links.of(Some("secure"), None).unwrap().label, "k:9093 (connection `secure`)");
        let plain = links.of(None, Some("k:9093")).unwrap();
        assert_eq!((plain.label.as_str(), &plain.connection.tls), ("k:9093", &None));
        assert!(Arc::ptr_eq(&plain, &links.of(None, Some("k:9093")).unwrap()), "one client for one cluster");
        assert_eq!(
            links.fault(Some("secret")).unwrap(),
            "there is no connection `secret` in this node's settings; it has `default`, `secure`; add it under \
             `connections:`, or correct the name"
        );
        assert_eq!(links.fault(Some("secure")), None);
    }
}
