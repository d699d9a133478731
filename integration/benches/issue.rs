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
use common::home::{Home, dealt, identities};
use common::stats::percentile;
use common::table::{Goal, Table};
use common::{disk, turns};
use spiffe_bridge::authority::{Authority, LeafRequest};
use spiffe_bridge::identity::SpiffeId;
use spiffe_bridge::keys::{KeyType, workload};

/// As the server has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const IDENTITIES: usize = 10_000;
/// Requests under way: as many as a node has that comes back to an empty cache.
const CONCURRENT: usize = 1024;

fn main() {
    if !common::asked_for() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(bench());
}

async fn bench() {
    let home = Home::open().await;
    if !common::wanted("table") {
        home.issue(dealt(identities(IDENTITIES), CONCURRENT), |a, id| Box::pin(one(a, id))).await;
        return home.stop().await;
    }
    let title =
        format!("issue, {IDENTITIES} identities on {} threads, {CONCURRENT} at once", turns::threads());
    let mut table = Table::new(&title);
    let prepare = || dealt(identities(IDENTITIES), CONCURRENT);
    let ours = async |shares| home.issue(shares, |a, id| Box::pin(one(a, id))).await;
    let (what, goal) = ("issued, recorded : minted", Goal::AtLeast(0.7));
    turns::many(&mut table, what, IDENTITIES, prepare, (ours, mint), goal).await;
    alone(&home, &mut table).await;
    home.stop().await;
}

/// One request with nobody else about: two durable records, and what the disk takes for two.
async fn alone(home: &Home, table: &mut Table) {
    let (mut ours, mut raw) = (Vec::new(), Vec::new());
    let mut scratch = disk::Scratch::new(home.directory.path());
    for spiffe_id in identities(300) {
        let start = Instant::now();
        scratch.sync(2);
        raw.push(start.elapsed().as_secs_f64() * 1e3);
        let start = Instant::now();
        one(&home.authority, spiffe_id).await;
        ours.push(start.elapsed().as_secs_f64() * 1e3);
    }
    for part in [0.5, 0.99] {
        let [ours, raw] = [&ours, &raw].map(|times| percentile(times, part));
        let what = format!("one alone : two fsyncs of 4 KiB, p{}", part * 100.0);
        table.line(&what, &format!("{ours:.2} ms"), &format!("{raw:.2} ms"), ours / raw, Goal::None);
    }
}

/// Keys and signatures alone.
fn mint() {
    turns::on_all_threads(IDENTITIES, || {
        let signer = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        move || {
            std::hint::black_box(workload::generate(KeyType::EcP256).unwrap());
            std::hint::black_box(signer.sign(&SystemRandom::new(), &[7; 420]).unwrap());
        }
    });
}

/// What a node does for one identity.
async fn one(authority: &Authority, spiffe_id: SpiffeId) {
    let key = workload::generate(KeyType::EcP256).unwrap();
    let request = LeafRequest { spiffe_id, dns_names: Vec::new(), public_key: key.public, lifetime: None };
    std::hint::black_box(authority.sign(request).await.unwrap());
}
