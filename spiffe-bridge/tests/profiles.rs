//! Profiles from files to the index: an entry is never served in another way than its profile says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod directory;

use std::time::Duration;

use directory::{Bench, Running, write};
use spiffe_bridge::identity::parse_trust_domain;
use spiffe_bridge::keys::KeyType;
use spiffe_bridge::registration::check_directory;

fn profile(name: &str, key_type: KeyType) -> String {
    format!("---\nkind: Profile\nname: {name}\nkey_type: {key_type}\n")
}

fn entry(path: &str, profile: &str) -> String {
    format!(
        "---\nkind: Workload\nspiffe_id: spiffe://example.org/{path}\nselectors: [unix:uid:1]\nprofile: {profile}\n"
    )
}

impl Bench {
    fn put(&self, file: &str, documents: &[String]) {
        write(self.dir.path(), file, &documents.concat());
    }
}

impl Running {
    /// Waits until the entry `path` is served with such a key.
    async fn has(&mut self, path: &str, key_type: KeyType) {
        let path = format!("/{path}");
        let holds = |index: &std::sync::Arc<spiffe_bridge::registration::EntryIndex>| {
            index.entries().any(|e| e.spiffe_id.path() == path && index.terms(e).key_type == key_type)
        };
        let waited = tokio::time::timeout(Duration::from_secs(5), self.index.wait_for(holds)).await.is_ok();
        assert!(waited, "{path} with {key_type} in {:?}", self.index.borrow());
    }

    /// Reads the directory again, and tells what is wrong with it.
    async fn problems(&self) -> Vec<String> {
        let status = self.handle.rescan().await.unwrap();
        status.problems.iter().map(|p| format!("{}:{}:{}: {}", p.file, p.line, p.column, p.message)).collect()
    }
}

#[tokio::test]
async fn an_entry_waits_for_its_profile_and_a_profile_in_any_file_will_do() {
    let mut bench = Bench::new();
    bench.put("a.yaml", &[entry("web", "legacy"), entry("db", "default")]);
    let mut running = bench.start().await;
    let problems = running.problems().await;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].starts_with("a.yaml:5:10: profile \"legacy\" is not declared"), "{problems:?}");
    running.expect(&[]).await; // a file is taken in whole, or not
    bench.put("z.yaml", &[profile("legacy", KeyType::Rsa2048)]);
    running.has("web", KeyType::Rsa2048).await;
    running.has("db", KeyType::EcP256).await;
    assert_eq!(running.problems().await, [""; 0]);
}

#[tokio::test]
async fn the_default_profile_may_be_declared_and_is_for_those_that_name_none() {
    let mut bench = Bench::new();
    bench.write("a.yaml", &["web"]);
    let mut running = bench.start().await;
    running.has("web", KeyType::EcP256).await;
    bench.put("profiles.yaml", &[profile("default", KeyType::EcP384)]);
    running.has("web", KeyType::EcP384).await;
    bench.remove("profiles.yaml");
    running.has("web", KeyType::EcP256).await;
}

#[tokio::test]
async fn a_profile_that_goes_stays_in_force_while_an_entry_names_it() {
    let mut bench = Bench::new();
    bench.put("a.yaml", &[entry("web", "legacy")]);
    bench.put("b.yaml", &[profile("legacy", KeyType::Rsa2048), profile("unused", KeyType::Ed25519)]);
    let mut running = bench.start().await;
    running.has("web", KeyType::Rsa2048).await;
    bench.remove("b.yaml");
    let problems = running.problems().await;
    assert!(problems[0].contains("a.yaml:5:10: profile \"legacy\" is not declared"), "{problems:?}");
    running.has("web", KeyType::Rsa2048).await;
    let mut running = bench.start().await; // over a restart too
    running.has("web", KeyType::Rsa2048).await;
    assert_eq!(running.index.borrow().profiles().count(), 1, "the unused one is gone");
    bench.put("a.yaml", &[entry("web", "default")]);
    running.has("web", KeyType::EcP256).await;
    assert_eq!(running.index.borrow().profiles().count(), 0);
}

#[tokio::test]
async fn a_broken_file_keeps_its_profile_and_who_needs_what_is_new_in_it_waits() {
    let mut bench = Bench::new();
    bench.put("p.yaml", &[profile("one", KeyType::EcP384)]);
    bench.put("w.yaml", &[entry("web", "one")]);
    let mut running = bench.start().await;
    running.has("web", KeyType::EcP384).await;
    // One file that is wrong holds up the next: `two` and `three` are both nowhere.
    bench.put(
        "p.yaml",
        &[profile("one", KeyType::Ed25519), profile("two", KeyType::EcP256), entry("x", "four")],
    );
    bench.put("q.yaml", &[profile("three", KeyType::EcP256), entry("y", "two")]);
    bench.put("v.yaml", &[entry("z", "three")]);
    let problems = running.problems().await;
    assert_eq!(problems.len(), 3, "{problems:?}");
    running.has("web", KeyType::EcP384).await;
    running.expect(&["web"]).await;
    bench.put("r.yaml", &[profile("four", KeyType::EcP256)]);
    running.expect(&["web", "x", "y", "z"]).await;
    running.has("web", KeyType::Ed25519).await;
    assert_eq!(running.problems().await, [""; 0]);
}

#[tokio::test]
async fn what_the_brake_holds_back_keeps_its_profile() {
    let mut bench = Bench::new();
    bench
        .put("a.yaml", &[profile("legacy", KeyType::Rsa2048), entry("web", "legacy"), entry("db", "legacy")]);
    let mut running = bench.start().await;
    running.has("web", KeyType::Rsa2048).await;
    bench.remove("a.yaml");
    let status = running.handle.rescan().await.unwrap();
    assert!(status.held_back.is_some());
    running.has("web", KeyType::Rsa2048).await;
    running.has("db", KeyType::Rsa2048).await;
    running.handle.prune().await.unwrap();
    running.expect(&[]).await;
    assert_eq!(running.index.borrow().profiles().count(), 0);
}

#[test]
fn a_directory_with_profiles_can_be_checked_without_serving_it() {
    let bench = Bench::new();
    bench
        .put("a.yaml", &[profile("legacy", KeyType::Rsa2048), entry("web", "legacy"), entry("db", "lagacy")]);
    let domain = parse_trust_domain("example.org").unwrap();
    let report = check_directory(bench.dir.path(), &domain);
    assert_eq!(report.faults.len(), 1, "{:?}", report.faults);
    assert_eq!(report.faults[0].line, 14);
    bench.put("b.yaml", &[profile("lagacy", KeyType::EcP256)]);
    let report = check_directory(bench.dir.path(), &domain);
    assert_eq!((report.profiles, report.entries.len()), (vec!["legacy".to_owned(), "lagacy".to_owned()], 2));
}
