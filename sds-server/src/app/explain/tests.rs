use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};

use spiffe_bridge::attest;
use spiffe_bridge::identity::{Revision, parse_workload_id};
use spiffe_bridge::registration::EntryId;

use super::*;

fn entry(id: &str, selectors: &[&str]) -> Arc<Entry> {
    let spiffe_id = parse_workload_id(&format!("spiffe://example.org/{id}")).unwrap();
    let selectors: SelectorSet = selectors.iter().map(|text| text.parse().unwrap()).collect();
    Arc::new(Entry {
        id: EntryId::of(&spiffe_id, &selectors),
        spiffe_id,
        selectors,
        remote: false,
        dns_names: Vec::new(),
        profile: None,
        peers: Vec::new(),
        hint: None,
        source: "a.yaml".into(),
    })
}

fn attestor() -> Arc<Attestor> {
    // No service: what the kernel tells.
    Arc::new(
        Attestor::new(attest::Config { docker_sockets: Vec::new(), system_bus: None, ..Default::default() })
            .0,
    )
}

/// Ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_real_process_is_explained_by_what_it_has_and_lacks() {
    let mut cat = Command::new("cat");
    let mut running = Running(cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let pid = running.0.id();
    // Before its exec is done it may still be this program, or have the new one's name and not yet its layout: by its
    // answer it runs.
    running.0.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    running.0.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let path = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (has_uid, has_gid) = (format!("unix:uid:{uid}"), format!("unix:gid:{gid}"));
    let has_path = format!("unix:path:{}", path.display());
    let index = EntryIndex::new(
        Revision(1),
        [
            entry("right", &[&has_uid, &has_path]),
            entry("one-of-three", &[&has_uid, &has_gid, "unix:path:/bin/other"]),
            entry("one-of-two", &[&has_uid, "unix:path:/bin/other"]),
            entry("two-of-three", &[&has_uid, "unix:path:/bin/other", "unix:user:nobody-here"]),
            entry("nothing", &["unix:uid:4000000000"]),
        ],
    );
    let explained = explain(attestor(), &index, pid).await.unwrap();

    assert_eq!(explained.unseen, Vec::<String>::new());
    let states: Vec<_> = explained.attestors.iter().map(|one| (one.attestor.as_str(), one.state)).collect();
    assert_eq!(states[0], ("unix", AttestorState::Answered));
    assert!(explained.attestors[0].selectors.iter().all(|selector| selector.starts_with("unix:")));
    for expected in [&has_uid, &has_gid, &has_path] {
        assert!(explained.selectors.contains(expected), "{expected} {explained:?}");
    }
    assert!(explained.selectors.iter().any(|text| text.starts_with("unix:sha256:")), "{explained:?}");
    let ids: Vec<_> = explained.matches.iter().map(|m| m.spiffe_id.as_str()).collect();
    assert_eq!((ids, explained.matches_total), (vec!["spiffe://example.org/right"], 1));
    let near: Vec<_> = explained.near.iter().map(|n| (n.spiffe_id.as_str(), n.missing.len())).collect();
    let expected = [("one-of-three", 1), ("one-of-two", 1), ("two-of-three", 2)];
    assert_eq!(near.len(), 3, "{near:?}");
    for ((id, missing), (name, count)) in near.iter().zip(expected) {
        assert_eq!((*id, *missing), (format!("spiffe://example.org/{name}").as_str(), count));
    }
    assert_eq!(explained.near[0].missing, ["unix:path:/bin/other"]);
    let reason = format!("it has {has_path}");
    assert_eq!(explained.near[0].instead, [has_path]);
    assert_eq!(explained.near[0].why_not[0].reason, reason);
    assert_eq!(explained.near[2].why_not.len(), 2);
}

#[test]
fn only_the_nearest_are_listed_and_all_are_counted() {
    let has: SelectorSet = ["unix:uid:7".parse().unwrap()].into();
    let entries: Vec<_> =
        (0..50).map(|n| entry(&format!("e{n:02}"), &["unix:uid:7", &format!("unix:gid:{n}")])).collect();
    let explained = compare(entries.iter(), &Shown::new(&has, entries.iter()), &Unknown::default(), 1);
    assert_eq!((explained.near.len(), explained.near_total), (NEAREST, 50));
    assert_eq!(explained.near[0].spiffe_id, "spiffe://example.org/e00");
}

#[test]
fn who_has_nothing_in_common_with_any_entry_is_told_what_it_has_instead() {
    let has: SelectorSet = ["unix:uid:7".parse().unwrap()].into();
    let entries = [entry("a", &["unix:uid:8"]), entry("b", &["unix:uid:8", "systemd:unit:b.service"])];
    let shown = Shown::new(&has, entries.iter());
    let explained = compare(entries.iter(), &shown, &Unknown::default(), 1);
    assert_eq!((explained.near_total, explained.entries_total), (1, 2));
    assert_eq!(explained.near[0].why_not[0].reason, "it has unix:uid:7");
    let entries = [entry("a", &["unix:uid:8"]), entry("c", &["unix:uid:7"])];
    assert_eq!(compare(entries.iter(), &shown, &Unknown::default(), 1).near_total, 0, "one is its own");
}

#[tokio::test]
async fn a_process_that_is_not_there_is_said_so() {
    // More than the kernel's greatest pid.
    let error = explain(attestor(), &EntryIndex::default(), 4_194_305).await.unwrap_err();
    assert!(error.starts_with("no process 4194305 is visible"), "{error}");
}

#[test]
fn of_the_environment_only_what_an_entry_names_is_told() {
    let has: SelectorSet =
        ["docker:env:MODE=web", "docker:env:PASSWORD=secret", "docker:label:app:web", "docker:label:tier:1"]
            .into_iter()
            .map(|text| text.parse().unwrap())
            .collect();
    let entries = [entry("a", &["docker:env:MODE=web", "docker:env:PASSWORD=x", "docker:label:app:api"])];
    let explained = compare(entries.iter(), &Shown::new(&has, entries.iter()), &Unknown::default(), 1);
    let told =
        ["docker:env:MODE=web", "docker:env:PASSWORD=…", "docker:label:app:web", "docker:label:tier:1"];
    assert_eq!(explained.selectors, told);
    assert_eq!(explained.near[0].instead, ["docker:env:PASSWORD=…", "docker:label:app:web"]);
}

#[tokio::test]
async fn an_attestor_that_fails_is_the_reason_of_what_is_missing_and_takes_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let bus = dir.path().join("bus");
    // It accepts, and never answers.
    let listener = std::os::unix::net::UnixListener::bind(&bus).unwrap();
    let deadline = std::time::Duration::from_millis(20);
    let config = attest::Config {
        docker_sockets: Vec::new(),
        system_bus: Some(bus),
        deadline,
        ..attest::Config::default()
    };
    let attestor = Arc::new(Attestor::new(config).0);
    let uid = format!("unix:uid:{}", rustix::process::geteuid().as_raw());
    let index = EntryIndex::new(
        Revision(1),
        [entry("web", &[&uid, "systemd:id:web.service"]), entry("here", &[&uid])],
    );
    let explained = explain(attestor, &index, std::process::id()).await.unwrap();
    drop(listener);
    let of = |name: &str| explained.attestors.iter().find(|one| one.attestor == name).unwrap();
    assert_eq!(of("unix").state, AttestorState::Answered);
    assert_eq!(explained.matches[0].spiffe_id, "spiffe://example.org/here");
    let why = &explained.near[0].why_not;
    assert_eq!((why.len(), why[0].selector.as_str()), (1, "systemd:id:web.service"));
    // Where this test is of a unit itself systemd is asked; where it is of none there is nothing to ask.
    match of("systemd").state {
        AttestorState::Nothing => assert_eq!(why[0].reason, "it is of no unit of systemd"),
        AttestorState::Refused => assert_eq!(why[0].reason, of("systemd").why[0]),
        AttestorState::Late | AttestorState::Partly => {
            assert!(why[0].reason.contains("no answer within 0.02 s"), "{why:?}");
            assert!(explained.unseen.contains(&"systemd: no answer within 0.02 s".to_owned()));
        }
        other => panic!("{other:?}: {explained:?}"),
    }
}
