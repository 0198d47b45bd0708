//! Documents in one file (`redb`): the default of a single coordinator.

use super::{Announcer, MetadataStore, StoreError, Transaction, Version, Versioned, Watch};
use pelton_sabotage::points::{self, Point};
use pelton_sdk::BoxFuture;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::{path::Path, sync::Arc};

/// Key to version and document.
const DOCUMENTS: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("documents");
/// The store-wide version, under [`NEWEST`].
const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
const NEWEST: &str = "version";

/// A file that one process at a time may open; a commit is on disk when it returns.
pub struct FileStore {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    announcer: Announcer,
}

impl std::fmt::Debug for FileStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileStore")
    }
}

fn failed(e: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(e.to_string())
}

impl FileStore {
    /// Open or create the file.
    ///
    /// # Errors
    /// When it cannot be opened, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let open = || {
            let database = Database::create(path).map_err(failed)?;
            let begin = database.begin_write().map_err(failed)?;
            begin.open_table(DOCUMENTS).map_err(failed)?;
            begin.open_table(COUNTERS).map_err(failed)?;
            begin.commit().map_err(failed)?;
            Ok(database)
        };
        let database = open().map_err(|e: StoreError| {
            failed(format!("{}: {e}; is another coordinator using this data directory?", path.display()))
        })?;
        Ok(Self { inner: Arc::new(Inner { database, announcer: Announcer::default() }) })
    }
}

impl Inner {
    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(DOCUMENTS).map_err(failed)?;
        let found = table.get(key).map_err(failed)?;
        Ok(found.map(|found| {
            let (version, value) = found.value();
            Versioned { version, value: value.to_vec() }
        }))
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, StoreError> {
        let read = self.database.begin_read().map_err(failed)?;
        let table = read.open_table(DOCUMENTS).map_err(failed)?;
        let mut found = Vec::new();
        for entry in table.range(prefix..).map_err(failed)? {
            let (key, document) = entry.map_err(failed)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            let (version, value) = document.value();
            found.push((key.value().to_owned(), Versioned { version, value: value.to_vec() }));
        }
        Ok(found)
    }

    fn commit(&self, transaction: Transaction) -> Result<Version, StoreError> {
        let write = self.database.begin_write().map_err(failed)?;
        let version = {
            let mut table = write.open_table(DOCUMENTS).map_err(failed)?;
            for (key, &expected) in &transaction.expect {
                let found = table.get(key.as_str()).map_err(failed)?.map_or(0, |d| d.value().0);
                if found != expected {
                    // Dropping the write transaction aborts it.
                    return Err(StoreError::Conflict { key: key.clone(), expected, found });
                }
            }
            let mut counters = write.open_table(COUNTERS).map_err(failed)?;
            let version = counters.get(NEWEST).map_err(failed)?.map_or(0, |v| v.value()) + 1;
            counters.insert(NEWEST, version).map_err(failed)?;
            for (key, value) in &transaction.write {
                match value {
                    Some(value) => {
                        table.insert(key.as_str(), (version, value.as_slice())).map_err(failed)?;
                    }
                    None => {
                        table.remove(key.as_str()).map_err(failed)?;
                    }
                }
            }
            version
        };
        points::reach(Point::Storing);
        if points::fails(Point::Storing) {
            // ENOSPC.
            return Err(failed(std::io::Error::from_raw_os_error(28)));
        }
        write.commit().map_err(failed)?;
        points::reach(Point::Stored);
        self.announcer.tell(version, transaction.write);
        Ok(version)
    }
}

impl FileStore {
    /// Disk work off the async threads.
    fn blocking<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<R, StoreError> + Send + 'static,
    ) -> BoxFuture<'_, Result<R, StoreError>> {
        let inner = self.inner.clone();
        Box::pin(async move { tokio::task::spawn_blocking(move || work(&inner)).await.map_err(failed)? })
    }
}

impl MetadataStore for FileStore {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Versioned>, StoreError>> {
        let key = key.to_owned();
        self.blocking(move |inner| inner.get(&key))
    }

    fn list<'a>(&'a self, prefix: &'a str) -> BoxFuture<'a, Result<Vec<(String, Versioned)>, StoreError>> {
        let prefix = prefix.to_owned();
        self.blocking(move |inner| inner.list(&prefix))
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Version, StoreError>> {
        self.blocking(move |inner| inner.commit(transaction))
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.inner.announcer.watch(prefix)
    }
}
