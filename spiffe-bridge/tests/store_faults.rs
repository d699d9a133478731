//! The store on a disk that fails and on a machine that loses power.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::io;
use std::sync::{Arc, Mutex};

use redb::StorageBackend;
use spiffe_bridge::identity::Revision;
use spiffe_bridge::store::{self, StoreError, Transaction, Write};

/// What the disk holds for sure, and what was written since the last sync.
#[derive(Debug, Default)]
struct Disk {
    durable: Vec<u8>,
    seen: Vec<u8>,
    unsynced: Vec<(u64, Vec<u8>)>,
    /// Writes and syncs that still go well.
    budget: usize,
}

#[derive(Debug, Clone)]
struct Faulty(Arc<Mutex<Disk>>);

impl Faulty {
    fn over(image: Vec<u8>, budget: usize) -> Self {
        Self(Arc::new(Mutex::new(Disk { durable: image.clone(), seen: image, unsynced: vec![], budget })))
    }

    fn spend(disk: &mut Disk) -> io::Result<()> {
        disk.budget = disk.budget.checked_sub(1).ok_or_else(|| io::Error::other("injected"))?;
        Ok(())
    }

    /// What is on the disk after a power cut: of the writes that were not synced, any may be there.
    fn after_power_cut(&self, mut seed: u64) -> Vec<u8> {
        let disk = self.0.lock().unwrap();
        let mut image = disk.durable.clone();
        for (offset, data) in &disk.unsynced {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            // Whole, not at all, or torn in its middle at a sector.
            let kept = match seed >> 62 {
                0 => 0,
                1 => data.len() / 1024 * 512,
                _ => data.len(),
            };
            let start = usize::try_from(*offset).unwrap();
            image.resize(image.len().max(start + kept), 0);
            image[start..start + kept].copy_from_slice(&data[..kept]);
        }
        image
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.0.lock().unwrap().seen[start..start + out.len()]);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        Self::spend(&mut disk)?;
        let len = usize::try_from(len).unwrap();
        disk.seen.resize(len, 0);
        disk.durable.resize(len, 0);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        Self::spend(&mut disk)?;
        disk.durable = disk.seen.clone();
        disk.unsynced.clear();
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        Self::spend(&mut disk)?;
        let start = usize::try_from(offset).unwrap();
        disk.seen[start..start + data.len()].copy_from_slice(data);
        disk.unsynced.push((offset, data.to_vec()));
        Ok(())
    }
}

/// Transaction `n` writes `n` under two keys, so that half a transaction would show.
fn numbered(n: u64) -> Transaction {
    let value = n.to_be_bytes().to_vec();
    let put = |key: String| Write::Put { key: key.into(), value: value.clone() };
    Transaction { compares: vec![], writes: vec![put(format!("left/{n:04}")), put(format!("right/{n:04}"))] }
}

/// Runs numbered transactions from `first` on until one fails; returns the last that was acknowledged.
fn run(disk: &Faulty, first: u64) -> u64 {
    let Ok((store, writer)) = store::with_backend(disk.clone()) else { return first - 1 };
    let thread = std::thread::spawn(move || writer.run());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let acknowledged = runtime.block_on(async {
        for n in first..first + 20 {
            match store.transact(numbered(n)).await {
                Ok(revision) => assert_eq!(revision, Revision(n)),
                Err(_) => return n - 1,
            }
        }
        first + 19
    });
    drop(store);
    thread.join().unwrap();
    acknowledged
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_moment() {
    let pristine = Faulty::over(vec![], usize::MAX);
    assert_eq!(run(&pristine, 1), 20);
    let image = pristine.0.lock().unwrap().durable.clone();
    let mut cut_short = 0;
    for budget in 0..120 {
        let disk = Faulty::over(image.clone(), budget);
        let acknowledged = run(&disk, 21);
        cut_short += u32::from(acknowledged < 40);
        for seed in 0..3 {
            let after = Faulty::over(disk.after_power_cut(seed * 7919 + budget as u64), usize::MAX);
            let (store, _writer) = store::with_backend(after).unwrap();
            let revision = store.revision().0;
            assert!(
                revision >= acknowledged,
                "lost {revision}..{acknowledged} (budget {budget}, seed {seed})"
            );
            let left = store.list(b"left/").unwrap();
            assert_eq!(
                (left.len(), store.list(b"right/").unwrap().len()),
                (revision as usize, revision as usize)
            );
        }
    }
    assert!(cut_short > 60, "the faults must hit: {cut_short}");
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_written_and_reads_go_on() {
    let disk = Faulty::over(vec![], usize::MAX);
    let (store, writer) = store::with_backend(disk.clone()).unwrap();
    std::thread::spawn(move || writer.run());
    for n in 1..=50 {
        store.transact(numbered(n)).await.unwrap();
    }
    disk.0.lock().unwrap().budget = 1;
    let failed = store.transact(numbered(51)).await.unwrap_err();
    assert!(matches!(failed, StoreError::Write { .. }), "{failed}");
    disk.0.lock().unwrap().budget = usize::MAX; // The disk is well again, but what it holds is not known.
    let again = store.transact(numbered(52)).await.unwrap_err();
    assert!(matches!(again, StoreError::Write { .. }), "{again}");
    assert_eq!(store.revision(), Revision(50));
    assert_eq!(store.list(b"left/").unwrap().len(), 50);
    assert_eq!(store.get(b"right/0007").unwrap().unwrap().revision, Revision(7));
}
