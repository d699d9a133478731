//! Ten thousand identities through the authority, each on record before it is answered, against minting alone.
//!
//! `cargo bench -p integration --bench issue`. The store lies on the disk of the target directory.
//! For callgrind, `… -- profile` issues only.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]

mod common;

use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use common::home::Home;
use common::stats::{median, percentile};
use common::table::{Goal, Table};
use common::{cpu, disk};
use spiffe_bridge::authority::{Authority, LeafRequest};
use spiffe_bridge::identity::SpiffeId;
use spiffe_bridge::keys::{KeyType, workload};

const IDENTITIES: usize = 10_000;
/// Requests under way: as many as a node has that comes back to an empty cache.
const CONCURRENT: usize = 1024;
const ROUNDS: usize = 5;

fn main() {
    if !common::asked_for() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(bench());
}

async fn bench() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let home = Home::open().await;
    if !common::wanted("table") {
        home.issue(IDENTITIES, CONCURRENT, one).await;
        return home.stop().await;
    }
    let mut table =
        Table::new(&format!("issue, {IDENTITIES} identities on {threads} threads, {CONCURRENT} at once"));
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    home.issue(1000, CONCURRENT, one).await; // warm
    for _ in 0..ROUNDS {
        raw.push(measure(async || mint(threads)).await);
        ours.push(measure(async || home.issue(IDENTITIES, CONCURRENT, one).await).await);
    }
    for (what, part, goal) in [("wall", 0, Goal::AtLeast(0.7)), ("CPU", 1, Goal::None)] {
        let ratios: Vec<f64> = raw.iter().zip(&ours).map(|(raw, ours)| raw[part] / ours[part]).collect();
        let rate = |runs: &[[f64; 2]]| {
            IDENTITIES as f64 / median(&runs.iter().map(|run| run[part]).collect::<Vec<_>>())
        };
        let [ours, raw] = [rate(&ours), rate(&raw)].map(|rate| format!("{rate:.0}/s"));
        table.line(&format!("issued, recorded : minted, by {what} time"), &ours, &raw, median(&ratios), goal);
    }
    alone(&home, &mut table).await;
    home.stop().await;
}

/// One request with nobody else about: two durable records, and what the disk takes for two.
async fn alone(home: &Home, table: &mut Table) {
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    let mut scratch = disk::Scratch::new(home.directory.path());
    for number in 0..300 {
        let start = Instant::now();
        scratch.sync(2);
        raw.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        one(home.authority.clone(), number).await;
        ours.push(start.elapsed().as_secs_f64() * 1e3);
    }
    for part in [0.5, 0.99] {
        let [ours, raw] = [&ours, &raw].map(|times| percentile(times, part));
        let what = format!("one alone : two fsyncs of 4 KiB, p{}", part * 100.0);
        table.line(&what, &format!("{ours:.2} ms"), &format!("{raw:.2} ms"), ours / raw, Goal::None);
    }
}

/// Seconds by the wall and by the CPU.
async fn measure(work: impl AsyncFnOnce()) -> [f64; 2] {
    let (cpu, wall) = (cpu::process(), Instant::now());
    work().await;
    [wall.elapsed(), cpu::process() - cpu].map(|spent| spent.as_secs_f64())
}

/// Keys and signatures alone, on as many threads.
fn mint(threads: usize) {
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let signer = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
                for _ in (thread..IDENTITIES).step_by(threads) {
                    std::hint::black_box(workload::generate(KeyType::EcP256).unwrap());
                    std::hint::black_box(signer.sign(&SystemRandom::new(), &[7; 420]).unwrap());
                }
            });
        }
    });
}

/// What a node does for one identity.
async fn one(authority: Authority, number: usize) {
    let key = workload::generate(KeyType::EcP256).unwrap();
    let spiffe_id = SpiffeId::new(format!("spiffe://bench.test/ns/payments/sa/{number}")).unwrap();
    let request = LeafRequest { spiffe_id, dns_names: Vec::new(), public_key: key.public, lifetime: None };
    std::hint::black_box(authority.sign(request).await.unwrap());
}
