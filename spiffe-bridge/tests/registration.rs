//! From files to the index, over the store, with accidents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod directory;

use std::path::Path;
use std::time::Duration;

use directory::{Bench, documents, write};

use spiffe_bridge::audit::Log;
use spiffe_bridge::identity::{Selector, SelectorSet, parse_trust_domain};
use spiffe_bridge::registration::directory::HeldBecause;
use spiffe_bridge::registration::{Needs, check_directory};

#[tokio::test]
async fn a_file_that_is_written_is_served_at_once_and_withdrawn_when_it_goes() {
    let mut bench = Bench::new();
    let mut running = bench.start().await;
    running.expect(&[]).await;
    bench.write("a.yaml", &["web", "db"]);
    running.expect(&["db", "web"]).await;
    std::fs::write(bench.dir.path().join("b.yml"), documents(&["api"])).unwrap(); // In place: seen when closed.
    running.expect(&["api", "db", "web"]).await;
    bench.write(".hidden.yaml", &["no"]);
    bench.write("notes.txt", &["no"]);
    bench.remove("b.yml");
    running.expect(&["db", "web"]).await;
    let status = running.handle.rescan().await.unwrap();
    assert_eq!((status.entries, status.files, status.problems.len()), (2, 1, 0));
    assert!(status.held_back.is_none());
}

#[tokio::test]
async fn a_rescan_tells_from_which_revision_on_an_index_holds_what_it_found() {
    let mut bench = Bench::new();
    bench.write("a.yaml", &["web", "db"]);
    let mut running = bench.start().await;
    running.expect(&["db", "web"]).await;
    bench.write("a.yaml", &["web", "api"]); // as many as before
    let status = running.handle.rescan().await.unwrap();
    let caught_up = running.index.wait_for(|index| index.revision() >= status.revision);
    tokio::time::timeout(Duration::from_secs(5), caught_up).await.expect("in time").unwrap();
    let ids: Vec<_> = running.index.borrow().entries().map(|e| e.spiffe_id.path().to_owned()).collect();
    assert_eq!(ids, ["/api", "/web"]);
    assert!(status.revision.0 > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_accepted_when_it_is_written_and_not_when_the_timer_comes() {
    let mut bench = Bench::new();
    let mut running = bench.start().await;
    for count in 1..=20 {
        let path = format!("w{count:02}");
        bench.write(&format!("{path}.yaml"), &[&path]);
        let seen = running.index.wait_for(|index| index.len() == count);
        // The timer behind the hints comes every 30 s.
        tokio::time::timeout(Duration::from_secs(10), seen).await.expect("a hint").unwrap();
    }
}

#[tokio::test]
async fn a_file_that_fails_to_parse_keeps_its_last_form_over_a_restart() {
    let mut bench = Bench::new();
    bench.write("a.yaml", &["web"]);
    bench.start().await.expect(&["web"]).await;
    write(bench.dir.path(), "a.yaml", "kind: Workload\nspiffe_id: spiffe://example.org/web\nselectors: []\n");
    for _ in 0..2 {
        let mut running = bench.start().await; // A new process, on what the store holds.
        let status = running.handle.rescan().await.unwrap();
        let problem = &status.problems[0];
        assert_eq!((&*problem.file, problem.line, problem.column), ("a.yaml", 3, 12));
        running.expect(&["web"]).await;
    }
    let mut running = bench.start().await;
    let since = running.handle.status().borrow().problems[0].since;
    bench.hands.advance(Duration::from_secs(40));
    let later = running.handle.rescan().await.unwrap();
    assert_eq!(later.problems[0].since, since, "a problem keeps its time");
    bench.write("a.yaml", &["web2"]);
    running.expect(&["web2"]).await;
    assert_eq!(running.handle.rescan().await.unwrap().problems, []);
}

#[tokio::test]
async fn of_two_files_with_one_entry_the_later_is_at_fault() {
    let mut bench = Bench::new();
    bench.write("b.yaml", &["db", "web"]);
    let mut running = bench.start().await;
    running.expect(&["db", "web"]).await;
    bench.write("c.yaml", &["new", "web"]);
    let status = running.handle.rescan().await.unwrap();
    assert_eq!((&*status.problems[0].file, status.problems[0].line), ("c.yaml", 7));
    running.expect(&["db", "web"]).await;
    bench.write("a.yaml", &["web"]); // Now b.yaml is the later one: its db stays.
    let status = running.handle.rescan().await.unwrap();
    let files: Vec<_> = status.problems.iter().map(|p| &*p.file).collect();
    assert_eq!(files, ["b.yaml", "c.yaml"]);
    running.expect(&["db", "web"]).await;
    assert_eq!(&*running.index.borrow().entries().nth(1).unwrap().source, "a.yaml");
}

#[tokio::test]
async fn an_emptied_or_missing_directory_withdraws_nothing_until_pruned() {
    let mut bench = Bench::new();
    bench.write("a.yaml", &["web"]);
    let mut running = bench.start().await;
    running.expect(&["web"]).await;
    bench.remove("a.yaml");
    let status = running.handle.rescan().await.unwrap();
    let held = status.held_back.clone().unwrap();
    assert_eq!((held.reason, held.withdrawn, status.entries), (HeldBecause::NothingLeft, 1, 1));
    assert_eq!(held.examples, ["spiffe://example.org/web"]);
    let path = bench.dir.path().to_owned();
    std::fs::rename(&path, path.with_extension("away")).unwrap();
    let status = running.handle.prune().await.unwrap();
    assert_eq!(status.held_back.clone().unwrap().reason, HeldBecause::DirectoryUnreadable);
    assert_eq!((status.entries, running.paths()), (1, 1));
    std::fs::rename(path.with_extension("away"), &path).unwrap();
    let mut running = bench.start().await; // Nor does a restart.
    assert_eq!(running.handle.rescan().await.unwrap().entries, 1);
    let status = running.handle.prune().await.unwrap();
    assert_eq!((status.entries, status.held_back.is_none()), (0, true));
    running.expect(&[]).await;
}

#[tokio::test]
async fn deleting_file_after_file_runs_into_the_brake_too() {
    let mut bench = Bench::new();
    let names: Vec<_> = (0..40).map(|n| format!("w{n:02}")).collect();
    names.iter().for_each(|name| bench.write(&format!("{name}.yaml"), &[name]));
    let running = bench.start().await;
    for name in &names {
        bench.remove(&format!("{name}.yaml"));
        running.handle.rescan().await.unwrap();
    }
    assert_eq!(running.paths(), 36);
    bench.hands.advance(Duration::from_secs(61));
    let held = running.handle.rescan().await.unwrap().held_back.clone().unwrap();
    assert_eq!((held.reason, held.withdrawn), (HeldBecause::NothingLeft, 36));
}

#[tokio::test]
async fn what_is_new_or_edited_does_not_wait_for_what_is_held_back() {
    let mut bench = Bench::new();
    bench.write("a.yaml", &["a", "b", "c"]);
    bench.write("b.yaml", &["d"]);
    let mut running = bench.start().await;
    running.expect(&["a", "b", "c", "d"]).await;
    bench.remove("b.yaml");
    let edited = documents(&["a"]).replace("]", ", unix:gid:5]");
    write(bench.dir.path(), "a.yaml", &(edited + &documents(&["e"])));
    let held = running.handle.rescan().await.unwrap().held_back.clone().unwrap();
    assert_eq!((held.reason, held.withdrawn), (HeldBecause::TooManyWithdrawn, 3));
    running.expect(&["a", "b", "c", "d", "e"]).await;
    let a = running.index.borrow().entries().next().unwrap().clone();
    assert_eq!(a.selectors.len(), 2, "the old form of what was edited is gone");

    let revision = running.handle.rescan().await.unwrap().revision;
    assert_eq!(running.handle.rescan().await.unwrap().revision, revision, "held back, and written once");
    let status = running.handle.prune().await.unwrap();
    assert!(status.held_back.is_none());
    running.expect(&["a", "e"]).await;
}

#[tokio::test]
async fn new_selectors_for_the_same_id_withdraw_nothing() {
    let mut bench = Bench::new();
    bench.write("a.yaml", &["a", "b", "c"]);
    let mut running = bench.start().await;
    running.expect(&["a", "b", "c"]).await;
    let text = documents(&["a", "b", "c"]).replace("]", ", unix:gid:5]");
    write(bench.dir.path(), "a.yaml", &text);
    let status = running.handle.rescan().await.unwrap();
    assert!(status.held_back.is_none());
    running.index.wait_for(|index| index.entries().all(|e| e.selectors.len() == 2)).await.unwrap();
}

#[tokio::test]
async fn a_config_map_is_followed_through_its_links() {
    let mut bench = Bench::new();
    let dir = bench.dir.path().to_owned();
    let version = |name: &str, entries: &[&str]| {
        std::fs::create_dir(dir.join(name)).unwrap();
        std::fs::write(dir.join(name).join("web.yaml"), documents(entries)).unwrap();
        std::os::unix::fs::symlink(name, dir.join("..data_tmp")).unwrap();
        std::fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    };
    version("..1", &["web"]);
    std::os::unix::fs::symlink("..data/web.yaml", dir.join("web.yaml")).unwrap();
    let mut running = bench.start().await;
    running.expect(&["web"]).await;
    version("..2", &["api", "web"]);
    running.expect(&["api", "web"]).await;
}

#[tokio::test]
async fn a_directory_that_is_put_in_place_of_another_is_watched() {
    let mut bench = Bench::new();
    let path = bench.dir.path().to_owned();
    bench.write("a.yaml", &["web"]);
    let mut running = bench.start().await;
    running.expect(&["web"]).await;
    let next = tempfile::tempdir_in(path.parent().unwrap()).unwrap();
    write(next.path(), "a.yaml", &documents(&["api", "web"]));
    std::fs::rename(&path, path.with_extension("old")).unwrap();
    std::fs::rename(next.path(), &path).unwrap();
    running.handle.rescan().await.unwrap();
    running.expect(&["api", "web"]).await;
    bench.write("b.yaml", &["db"]);
    running.expect(&["api", "db", "web"]).await;
    std::fs::remove_dir_all(path.with_extension("old")).unwrap();
}

#[tokio::test]
async fn what_is_not_a_file_is_a_problem_and_holds_nothing_up() {
    let mut bench = Bench::new();
    let dir = bench.dir.path().to_owned();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.join("fifo.yaml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    std::fs::create_dir(dir.join("dir.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("link.yaml")).unwrap();
    std::fs::write(dir.join("latin.yaml"), b"kind: \xe9").unwrap();
    bench.write("a.yaml", &["web"]);
    let mut running = bench.start().await;
    running.expect(&["web"]).await;
    let status = running.handle.rescan().await.unwrap();
    let files: Vec<_> = status.problems.iter().map(|p| &*p.file).collect();
    assert_eq!(files, ["dir.yaml", "fifo.yaml", "latin.yaml", "link.yaml"]);
}

#[tokio::test]
async fn what_everybody_may_write_to_is_told_of() {
    let set = |path: &Path, mode| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    let mut bench = Bench::new();
    bench.write("a.yaml", &["web"]);
    let running = bench.start().await;
    let (dir, file) = (bench.dir.path().to_owned(), bench.dir.path().join("a.yaml"));
    for (path, open, shut) in [(&dir, 0o777, 0o755), (&file, 0o666, 0o644)] {
        assert_eq!(running.handle.rescan().await.unwrap().open_to_all, None);
        set(path, open);
        let status = running.handle.rescan().await.unwrap();
        assert_eq!((status.open_to_all.as_deref(), status.entries), (path.to_str(), 1));
        let checked = check_directory(&dir, &parse_trust_domain("example.org").unwrap());
        assert_eq!(checked.open_to_all.as_deref(), path.to_str());
        set(path, shut);
    }
}

#[tokio::test]
async fn each_change_is_audited_and_the_revision_rises_with_removals_too() {
    let mut bench = Bench::new();
    bench.write("a.yaml", &["a", "b"]);
    bench.write("c.yaml", &["c"]);
    let mut running = bench.start().await;
    running.expect(&["a", "b", "c"]).await;
    let before = running.index.borrow().revision();
    bench.remove("c.yaml");
    running.expect(&["a", "b"]).await;
    let after = running.index.borrow().revision();
    assert!(after > before);
    assert_eq!(bench.start().await.index.borrow().revision(), after, "and is the same after a restart");
    let log = Log::open(bench.store.clone(), bench.clock.clone()).unwrap();
    let records = log.read(0, 10).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[1].event.kind, "registration.changed");
    assert_eq!(records[1].event.detail["withdrawn_ids"][0], "spiffe://example.org/c");
}

#[test]
fn a_directory_can_be_checked_without_serving_it() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.yaml", &documents(&["a", "b"]));
    write(dir.path(), "b.yaml", &documents(&["b"]));
    write(dir.path(), "c.yaml", "kind: Other");
    let domain = parse_trust_domain("example.org").unwrap();
    let report = check_directory(dir.path(), &domain);
    assert_eq!((report.files, report.entries.len(), report.faults.len()), (3, 2, 2));
    assert_eq!(report.faults[0].to_string().split(' ').next().unwrap(), "b.yaml:3:12:");
    assert_eq!(check_directory(&dir.path().join("none"), &domain).faults.len(), 1);
}

fn set(selectors: &[&str]) -> SelectorSet {
    selectors.iter().map(|s| s.parse::<Selector>().unwrap()).collect()
}

#[tokio::test]
async fn the_index_matches_whole_sets_and_asks_only_for_what_could_matter() {
    let mut bench = Bench::new();
    let hash = "ab".repeat(32);
    let entry = |id: &str, s: &str| {
        format!("---\nkind: Workload\nspiffe_id: spiffe://example.org/{id}\nselectors: [{s}]\n")
    };
    let text = [
        entry("b", "unix:uid:1"),
        entry("a", "unix:uid:1, unix:gid:2"),
        entry("p", "unix:uid:1, unix:path:/bin/p"),
        entry("h", &format!("unix:uid:2, unix:sha256:{hash}")),
        entry("both", "unix:uid:3, unix:gid:9, unix:path:/bin/q"),
    ];
    write(bench.dir.path(), "a.yaml", &text.concat());
    let mut running = bench.start().await;
    running.expect(&["a", "b", "both", "h", "p"]).await;
    let index = running.index.borrow().clone();
    let check = |selectors: &[&str], expected: &[&str]| {
        let found = index.matching(&set(selectors));
        let found: Vec<_> = found.iter().map(|e| e.spiffe_id.path().trim_start_matches('/')).collect();
        assert_eq!(found, expected, "{selectors:?}");
    };
    check(&[], &[]);
    check(&["unix:uid:1"], &["b"]);
    check(&["unix:gid:2"], &[]);
    check(&["unix:uid:1", "unix:gid:2", "unix:path:/bin/p"], &["a", "b", "p"]);
    let needs = |selectors: &[&str]| index.needs(&set(selectors));
    assert_eq!(needs(&["unix:uid:1"]), Needs { path: true, ..Needs::default() });
    assert_eq!(needs(&["unix:uid:2"]), Needs { sha256: true, ..Needs::default() });
    assert_eq!(needs(&["unix:uid:3"]), Needs::default());
    assert_eq!(needs(&["unix:uid:9"]), Needs::default());
}

#[test]
fn a_fault_of_a_whole_file_is_told_in_one_line_and_for_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    // The limit falls into the midst of a character.
    std::fs::write(dir.path().join("a.yaml"), format!("#{}", "\u{fc}".repeat(1 << 20))).unwrap();
    std::fs::write(dir.path().join("b\n.yaml"), "kind: [").unwrap();
    std::os::unix::fs::symlink("c.yaml", dir.path().join("c.yaml")).unwrap();
    let domain = parse_trust_domain("example.org").unwrap();
    let told = |path: &Path| -> Vec<String> {
        check_directory(path, &domain).faults.iter().map(ToString::to_string).collect()
    };
    let faults = told(dir.path());
    assert!(faults[0].starts_with("a.yaml: 1048577 bytes"), "{faults:?}");
    assert!(faults[1].starts_with("b\\n.yaml:1:7: "), "{faults:?}");
    assert!(faults[2].starts_with("c.yaml: cannot be looked at"), "{faults:?}");
    let none = dir.path().join("none");
    let expected = format!("{}: cannot read the entries directory: check", none.display());
    assert!(told(&none)[0].starts_with(&expected), "{:?}", told(&none));
}
