//! What every store must do, run against each of them.

use super::*;
use std::sync::Arc;

type Named = (&'static str, Arc<dyn MetadataStore>);

fn stores() -> (tempfile::TempDir, Vec<Named>) {
    let directory = tempfile::tempdir().unwrap();
    let file = FileStore::open(&directory.path().join("metadata.redb")).unwrap();
    (directory, vec![("memory", Arc::new(MemoryStore::new())), ("file", Arc::new(file))])
}

async fn value(store: &dyn MetadataStore, key: &str) -> Option<Vec<u8>> {
    store.get(key).await.unwrap().map(|v| v.value)
}

#[tokio::test]
async fn a_value_is_written_only_over_the_version_that_was_read() {
    let (_directory, stores) = stores();
    for (name, store) in stores {
        let first = store.commit(Transaction::put("a", 0, b"1".to_vec())).await.unwrap();
        let again = store.commit(Transaction::put("a", 0, b"2".to_vec())).await;
        assert_eq!(again, Err(StoreError::Conflict { key: "a".into(), expected: 0, found: first }), "{name}");
        let second = store.commit(Transaction::put("a", first, b"3".to_vec())).await.unwrap();
        assert!(second > first, "{name}");
        let found = store.get("a").await.unwrap();
        assert_eq!(found, Some(Versioned { version: second, value: b"3".to_vec() }), "{name}");
    }
}

#[tokio::test]
async fn a_transaction_with_one_wrong_version_changes_nothing() {
    let (_directory, stores) = stores();
    for (name, store) in stores {
        let a = store.commit(Transaction::put("a", 0, b"1".to_vec())).await.unwrap();
        let mut both = Transaction::put("a", a, b"2".to_vec());
        both.expect.insert("leader".into(), 9);
        both.write.insert("b".into(), Some(b"2".to_vec()));
        assert!(store.commit(both.clone()).await.is_err(), "{name}");
        assert_eq!(value(&*store, "a").await, Some(b"1".to_vec()), "{name}");
        assert_eq!(value(&*store, "b").await, None, "{name}");
        both.expect.remove("leader");
        store.commit(both).await.unwrap();
        assert_eq!(value(&*store, "b").await, Some(b"2".to_vec()), "{name}");
    }
}

#[tokio::test]
async fn a_deleted_key_never_gets_an_old_version_back() {
    let (_directory, stores) = stores();
    for (name, store) in stores {
        let first = store.commit(Transaction::put("a", 0, b"1".to_vec())).await.unwrap();
        let delete = Transaction { expect: [("a".into(), first)].into(), write: [("a".into(), None)].into() };
        store.commit(delete).await.unwrap();
        assert_eq!(store.get("a").await.unwrap(), None, "{name}");
        let second = store.commit(Transaction::put("a", 0, b"1".to_vec())).await.unwrap();
        assert!(second > first, "{name}");
        assert!(store.commit(Transaction::put("a", first, b"2".to_vec())).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn a_list_has_what_begins_with_the_prefix_and_nothing_else() {
    let (_directory, stores) = stores();
    for (name, store) in stores {
        for key in ["a/2", "a/1", "b/1", "a", "a0"] {
            store.commit(Transaction::put(key, 0, key.into())).await.unwrap();
        }
        let found: Vec<String> = store.list("a/").await.unwrap().into_iter().map(|(k, _)| k).collect();
        assert_eq!(found, ["a/1", "a/2"], "{name}");
        assert_eq!(store.list("").await.unwrap().len(), 5, "{name}");
    }
}

#[tokio::test]
async fn a_watch_sees_changes_under_its_prefix_in_order() {
    let (_directory, stores) = stores();
    for (name, store) in stores {
        let mut watch = store.watch("a/");
        let one = store.commit(Transaction::put("a/1", 0, b"x".to_vec())).await.unwrap();
        store.commit(Transaction::put("b/1", 0, b"x".to_vec())).await.unwrap();
        let delete =
            Transaction { expect: [("a/1".into(), one)].into(), write: [("a/1".into(), None)].into() };
        let two = store.commit(delete).await.unwrap();
        let change = |version, value| Some(Watched::Change(Change { key: "a/1".into(), version, value }));
        assert_eq!(watch.next().await, change(one, Some(b"x".to_vec())), "{name}");
        assert_eq!(watch.next().await, change(two, None), "{name}");
    }
}

#[tokio::test]
async fn a_slow_watcher_is_told_that_it_missed_something() {
    let store = MemoryStore::new();
    let mut watch = store.watch("");
    for i in 0..=WATCH_BACKLOG {
        store.commit(Transaction::put(&i.to_string(), 0, Vec::new())).await.unwrap();
    }
    assert_eq!(watch.next().await, Some(Watched::Missed));
}

#[tokio::test]
async fn of_two_writers_at_once_one_wins() {
    let (_directory, stores) = stores();
    for (name, store) in stores {
        let writers: Vec<_> = (0..8u8)
            .map(|i| {
                let store = store.clone();
                tokio::spawn(async move { store.commit(Transaction::put("a", 0, vec![i])).await.is_ok() })
            })
            .collect();
        let mut won = 0;
        for writer in writers {
            won += u32::from(writer.await.unwrap());
        }
        assert_eq!(won, 1, "{name}");
    }
}

#[tokio::test]
async fn a_file_keeps_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metadata.redb");
    let store = FileStore::open(&path).unwrap();
    let version = store.commit(Transaction::put("a", 0, b"1".to_vec())).await.unwrap();
    let second = FileStore::open(&path).unwrap_err().to_string();
    assert!(second.contains("another coordinator"), "{second}");
    drop(store);
    let store = FileStore::open(&path).unwrap();
    assert_eq!(store.get("a").await.unwrap(), Some(Versioned { version, value: b"1".to_vec() }));
    assert!(store.commit(Transaction::put("b", 0, Vec::new())).await.unwrap() > version);
}

#[test]
fn a_document_of_a_newer_schema_is_refused() {
    let stored = |text: &str| Versioned { version: 1, value: text.as_bytes().to_vec() };
    let leader = Leader { term: 3, holder: "c1".into() };
    let written = Versioned { version: 1, value: leader.encode() };
    assert_eq!(Leader::decode("leader", &written), Ok(leader));
    let newer = Leader::decode("leader", &stored(r#"{"schema":2,"term":1,"holder":""}"#)).unwrap_err();
    assert!(newer.to_string().contains("schema 2 is above 1"), "{newer}");
    assert!(Leader::decode("leader", &stored("{")).is_err());
}
