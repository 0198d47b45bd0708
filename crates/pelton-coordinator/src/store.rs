//! What the coordinator must not forget: small documents under text keys, changed by compare-and-swap.
//!
//! The trait is shaped after etcd (a store-wide version, transactions that compare versions, watch by prefix), so that
//! a store shared by several coordinators can take the place of the file. Documents are JSON and carry a `schema`
//! number; see [`documents`].

mod documents;
mod file;
mod memory;
#[cfg(test)]
mod tests;

pub use documents::{
    AuditRecord, Deleted, Document, EpochRecord, IncidentRecord, Leader, PipelineRecord, RevisionRecord,
    SavepointRecord, StageRecord, Wanted, keys,
};
pub use file::FileStore;
pub use memory::MemoryStore;

use pelton_sdk::BoxFuture;
use std::collections::BTreeMap;
use tokio::sync::broadcast;

/// Counts the transactions of a store. A key's version is that of the transaction that wrote it last; 0 means that
/// the key does not exist. A key deleted and written again never gets an old version back.
pub type Version = u64;

/// A value and the version it was written at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// Version of the last write.
    pub version: Version,
    /// The document.
    pub value: Vec<u8>,
}

/// Changes that happen together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Keys and the versions they must have (0: must not exist).
    pub expect: BTreeMap<String, Version>,
    /// Keys and their new values; `None` deletes.
    pub write: BTreeMap<String, Option<Vec<u8>>>,
}

impl Transaction {
    /// One key, compared and written.
    pub fn put(key: &str, expected: Version, value: Vec<u8>) -> Self {
        Self { expect: [(key.to_owned(), expected)].into(), write: [(key.to_owned(), Some(value))].into() }
    }
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A key has another version than expected: somebody else wrote it. Nothing was changed.
    #[error("key {key} has version {found}, expected {expected}: another coordinator wrote it")]
    Conflict {
        /// The key.
        key: String,
        /// What the transaction expected.
        expected: Version,
        /// What the store has.
        found: Version,
    },
    /// The store cannot be used now.
    #[error("the metadata store failed: {0}")]
    Failed(String),
    /// A document does not read as what it should be.
    #[error("{key} in the metadata store cannot be read: {cause}; it may be of a newer version of pelton")]
    Unreadable {
        /// The key.
        key: String,
        /// Why.
        cause: String,
    },
}

/// One key was written or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Version of the transaction that did it.
    pub version: Version,
    /// The new value, `None` when it was deleted.
    pub value: Option<Vec<u8>>,
}

/// What a [`Watch`] saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watched {
    /// A change, in order of version.
    Change(Change),
    /// The reader was too slow and changes were left out: list again.
    Missed,
}

/// Changes under a prefix from the moment of the call on.
#[derive(Debug)]
pub struct Watch {
    prefix: String,
    changes: broadcast::Receiver<Change>,
}

impl Watch {
    /// The next change; `None` once the store is gone.
    pub async fn next(&mut self) -> Option<Watched> {
        loop {
            match self.changes.recv().await {
                Ok(change) if change.key.starts_with(&self.prefix) => return Some(Watched::Change(change)),
                Ok(_) => {}
                Err(broadcast::error::RecvError::Lagged(_)) => return Some(Watched::Missed),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}

/// Changes a slow watcher may be behind before it must list again.
const WATCH_BACKLOG: usize = 1024;

/// Tells watchers; shared by the stores.
#[derive(Debug)]
struct Announcer(broadcast::Sender<Change>);

impl Default for Announcer {
    fn default() -> Self {
        Self(broadcast::Sender::new(WATCH_BACKLOG))
    }
}

impl Announcer {
    fn watch(&self, prefix: &str) -> Watch {
        Watch { prefix: prefix.to_owned(), changes: self.0.subscribe() }
    }
    fn tell(&self, version: Version, writes: BTreeMap<String, Option<Vec<u8>>>) {
        for (key, value) in writes {
            // Nobody listening is no failure.
            let _ = self.0.send(Change { key, version, value });
        }
    }
}

/// Small documents under text keys. A successful [`commit`](MetadataStore::commit) is durable.
pub trait MetadataStore: Send + Sync {
    /// The document under a key.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>>;
    /// All documents whose key begins with the prefix, by key.
    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(String, Versioned)>, StoreError>>;
    /// Compare every expected version, then write everything: all of it or nothing. Returns the new version.
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Version, StoreError>>;
    /// Changes under a prefix from now on.
    fn watch(&self, prefix: &str) -> Watch;
}
