//! Documents in memory: for `dev --in-memory`, tests and the simulator. Answers at once, on the caller's thread.

use super::{Announcer, MetadataStore, StoreError, Transaction, Version, Versioned, Watch};
use pelton_sdk::BoxFuture;
use std::{
    collections::BTreeMap,
    future::ready,
    sync::{Mutex, PoisonError},
};

/// Forgets everything when dropped.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
    announcer: Announcer,
}

#[derive(Debug, Default)]
struct Inner {
    version: Version,
    documents: BTreeMap<String, Versioned>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn with<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> R {
        f(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Inner {
    fn commit(&mut self, transaction: &Transaction) -> Result<Version, StoreError> {
        for (key, &expected) in &transaction.expect {
            let found = self.documents.get(key).map_or(0, |d| d.version);
            if found != expected {
                return Err(StoreError::Conflict { key: key.clone(), expected, found });
            }
        }
        self.version += 1;
        for (key, value) in &transaction.write {
            match value {
                Some(value) => {
                    let document = Versioned { version: self.version, value: value.clone() };
                    self.documents.insert(key.clone(), document);
                }
                None => {
                    self.documents.remove(key);
                }
            }
        }
        Ok(self.version)
    }
}

impl MetadataStore for MemoryStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>> {
        Box::pin(ready(Ok(self.with(|inner| inner.documents.get(key).cloned()))))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(String, Versioned)>, StoreError>> {
        let found = self.with(|inner| {
            let from = inner.documents.range(prefix.to_owned()..);
            from.take_while(|(k, _)| k.starts_with(prefix)).map(|(k, v)| (k.clone(), v.clone())).collect()
        });
        Box::pin(ready(Ok(found)))
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Version, StoreError>> {
        // Told under the lock, so that watchers see changes in order of version.
        let done = self.with(|inner| {
            let version = inner.commit(&transaction)?;
            self.announcer.tell(version, transaction.write);
            Ok(version)
        });
        Box::pin(ready(done))
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.announcer.watch(prefix)
    }
}
