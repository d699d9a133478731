//! The store through its public door.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use spiffe_bridge::identity::Revision;
use spiffe_bridge::store::{self, Changes, Compare, Store, StoreError, Stored, Transaction, Write, Writer};

fn put(key: &str, value: &str) -> Write {
    Write::Put { key: key.into(), value: value.into() }
}

fn writes(writes: impl IntoIterator<Item = Write>) -> Transaction {
    Transaction { compares: Vec::new(), writes: writes.into_iter().collect() }
}

fn started((store, writer): (Store, Writer)) -> (Store, std::thread::JoinHandle<()>) {
    (store, std::thread::spawn(move || writer.run()))
}

fn text(value: &str, revision: u64) -> Option<Stored> {
    Some(Stored { value: value.into(), revision: Revision(revision) })
}

#[tokio::test]
async fn each_transaction_raises_the_revision_by_one_and_marks_its_values() {
    let (store, _writer) = started(store::in_memory().unwrap());
    assert_eq!(store.revision(), Revision(0));
    store.transact(writes([put("a/1", "x"), put("a/2", "y")])).await.unwrap();
    let second = store.transact(writes([put("a/1", "z"), put("b", "w")])).await.unwrap();
    assert_eq!((second, store.revision()), (Revision(2), Revision(2)));
    assert_eq!(store.get(b"a/1").unwrap(), text("z", 2));
    assert_eq!(store.get(b"a/2").unwrap(), text("y", 1));
    let keys: Vec<_> = store.list(b"a/").unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [b"a/1", b"a/2"]);
    assert_eq!(store.last(b"a/").unwrap().unwrap().0, b"a/2");
    assert_eq!(store.list_from(b"a/", b"a/2", 9).unwrap().len(), 1);
    assert_eq!(store.list_from(b"a/", b"c", 9).unwrap().len(), 0);
}

#[tokio::test]
async fn a_comparison_that_fails_affects_its_own_transaction_only() {
    let (store, writer) = store::in_memory().unwrap();
    let only_once =
        || Transaction { compares: vec![Compare::Absent("k".into())], writes: vec![put("k", "v")] };
    // All queued before the writer starts: they share one commit.
    let all = async {
        tokio::join!(
            store.transact(only_once()),
            store.transact(only_once()),
            store.transact(writes([put("l", "v")]))
        )
    };
    let thread = std::thread::spawn({
        move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            writer.run();
        }
    });
    let (first, second, third) = all.await;
    assert_eq!((first.unwrap(), third.unwrap()), (Revision(1), Revision(2)));
    assert!(matches!(second, Err(StoreError::Conflict { compare: Compare::Absent(_) })));
    let stale = Transaction { compares: vec![Compare::Revision("k".into(), Revision(9))], writes: vec![] };
    assert!(matches!(store.transact(stale).await, Err(StoreError::Conflict { .. })));
    drop(store);
    thread.join().unwrap(); // It ends with the last handle.
}

#[tokio::test]
async fn a_file_keeps_its_revision_is_private_and_is_locked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let (store, thread) = started(store::open(&path).unwrap());
    store.transact(writes([put("k", "v")])).await.unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let refused = store::open(&path).err().unwrap();
    assert!(matches!(&refused, StoreError::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains(&path.display().to_string()));
    drop(store);
    thread.join().unwrap();
    let (store, _thread) = started(store::open(&path).unwrap());
    assert_eq!(store.revision(), Revision(1));
    assert_eq!(store.get(b"k").unwrap(), text("v", 1));
}

#[test]
fn a_newer_format_is_refused_with_advice() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    drop(store::open(&path).unwrap());
    let db = redb::Database::open(&path).unwrap();
    let transaction = db.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    transaction.open_table(meta).unwrap().insert("format", 99).unwrap();
    transaction.commit().unwrap();
    drop(db);
    let refused = store::open(&path).err().unwrap();
    assert!(matches!(refused, StoreError::NewerFormat { found: 99, .. }), "{refused}");
}

#[test]
fn what_is_not_a_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    std::fs::write(&path, "not a store, but long enough to be read as one".repeat(200)).unwrap();
    assert!(matches!(store::open(&path), Err(StoreError::Unusable { .. })));
    assert!(matches!(store::open(&dir.path().join("none/store")), Err(StoreError::Open { .. })));
}

#[tokio::test]
async fn a_watcher_sees_what_changed_under_its_prefix_each_key_once() {
    let (store, _writer) = started(store::in_memory().unwrap());
    let mut watch = store.watch(b"a/", store.revision());
    store.transact(writes([put("a/1", "x")])).await.unwrap();
    store.transact(writes([put("b/1", "x")])).await.unwrap();
    store.transact(writes([put("a/1", "y"), Write::Delete { key: "a/2".into() }])).await.unwrap();
    let expected = vec![("a/1".into(), text("y", 3)), ("a/2".into(), None)];
    assert_eq!(watch.next().await.unwrap(), Changes::Since { revision: Revision(3), changed: expected });
    let waiting = tokio::spawn(async move { watch.next().await });
    store.transact(writes([put("b/1", "z")])).await.unwrap();
    store.transact(writes([put("a/3", "x")])).await.unwrap();
    let Changes::Since { changed, .. } = waiting.await.unwrap().unwrap() else { panic!("lagged") };
    assert_eq!(changed, [("a/3".into(), text("x", 5))]);
}

#[tokio::test]
async fn a_watcher_that_lags_is_told_to_list_again() {
    let (store, _writer) = started(store::in_memory().unwrap());
    let mut slow = store.watch(b"", store.revision());
    let big = "x".repeat(1 << 20);
    for _ in 0..9 {
        store.transact(writes([put("k", &big)])).await.unwrap();
    }
    assert_eq!(slow.next().await.unwrap(), Changes::Lagged { revision: Revision(9) });
    let mut from_a_lost_future = store.watch(b"", Revision(100));
    assert_eq!(from_a_lost_future.next().await.unwrap(), Changes::Lagged { revision: Revision(9) });
    store.transact(writes([put("k", "v")])).await.unwrap();
    assert!(matches!(slow.next().await.unwrap(), Changes::Since { revision: Revision(10), .. }));
}

#[tokio::test]
async fn what_changed_before_anybody_followed_its_prefix_is_to_be_listed() {
    let (store, _writer) = started(store::in_memory().unwrap());
    let first = store.watch(b"a/", store.revision());
    store.transact(writes([put("b/1", "x")])).await.unwrap();
    let mut late = store.watch(b"b/", Revision(0));
    assert_eq!(late.next().await.unwrap(), Changes::Lagged { revision: Revision(1) });
    drop(first);
    store.transact(writes([put("a/1", "x")])).await.unwrap(); // nobody follows it any more
    let mut again = store.watch(b"a/", Revision(1));
    assert_eq!(again.next().await.unwrap(), Changes::Lagged { revision: Revision(2) });
    store.transact(writes([put("b/1", "y")])).await.unwrap();
    let Changes::Since { changed, .. } = late.next().await.unwrap() else { panic!("lagged") };
    assert_eq!(changed, [("b/1".into(), text("y", 3))]);
}

#[tokio::test]
async fn a_watcher_learns_that_the_store_is_closed() {
    let (store, thread) = started(store::in_memory().unwrap());
    let mut watch = store.watch(b"", Revision(0));
    drop(store);
    thread.join().unwrap();
    assert!(matches!(watch.next().await, Err(StoreError::Closed)));
}

#[tokio::test]
async fn a_transaction_beyond_the_limit_is_refused() {
    let (store, _writer) = started(store::in_memory().unwrap());
    let big = "x".repeat(store::MAX_TRANSACTION_BYTES);
    assert!(matches!(store.transact(writes([put("k", &big)])).await, Err(StoreError::TooLarge { .. })));
}

/// What the version that wrote format 1 left behind: `written_by_this_version` makes one, for when a format is added.
const FORMAT_1: &[u8] = include_bytes!("data/store-format-1.redb");

#[tokio::test]
async fn a_store_that_was_written_in_format_1_is_read_and_written_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    std::fs::write(&path, FORMAT_1).unwrap();
    let (store, writer) = started(store::open(&path).unwrap());
    assert_eq!(store.revision(), Revision(2));
    assert_eq!(store.get(b"a/1").unwrap(), text("first", 1));
    assert_eq!(store.get(b"a/2").unwrap(), None);
    assert_eq!(store.get(b"b").unwrap(), text("second", 2));
    let next = store.transact(writes([put("a/1", "third")])).await.unwrap();
    assert_eq!(next, Revision(3), "it goes on where it was");
    drop(store);
    writer.join().unwrap();
    // The version before must be able to go back to it: what is written is still format 1.
    assert_eq!(format_of(&path), Some(1));
}

#[tokio::test]
async fn a_new_store_is_of_the_format_that_the_version_before_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    written_by_this_version(&path).await;
    assert_eq!(format_of(&path), Some(1));
}

async fn written_by_this_version(path: &std::path::Path) {
    let (store, writer) = started(store::open(path).unwrap());
    store.transact(writes([put("a/1", "first"), put("a/2", "gone")])).await.unwrap();
    let delete = Write::Delete { key: b"a/2".to_vec() };
    store.transact(writes([delete, put("b", "second")])).await.unwrap();
    drop(store);
    writer.join().unwrap();
}

fn format_of(path: &std::path::Path) -> Option<u64> {
    use redb::ReadableDatabase;
    let db = redb::Database::open(path).unwrap();
    let meta = db.begin_read().unwrap().open_table(redb::TableDefinition::<&str, u64>::new("meta")).unwrap();
    redb::ReadableTable::get(&meta, "format").unwrap().map(|format| format.value())
}

/// What is written into a hole needs more of the kernel than what goes over something.
#[tokio::test]
async fn the_file_has_no_holes_when_it_is_new_and_when_it_has_grown() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let (store, _writer) = started(store::open(&path).unwrap());
    let look = || {
        let file = std::fs::metadata(&path).unwrap();
        assert!(
            file.blocks() * 512 >= file.len(),
            "{} blocks of 512 bytes for {}",
            file.blocks(),
            file.len()
        );
        file.len()
    };
    let new = look();
    let value = "x".repeat(100_000);
    for n in 0..2 * new / 100_000 {
        store.transact(writes([put(&n.to_string(), &value)])).await.unwrap();
    }
    let grown = look();
    assert!(grown > new && grown < 16 << 20, "{new} to {grown} bytes");
}
