//! What the running server is asked for, and how it is printed.

use std::sync::Arc;

use sds_server::admin::{AdminServer, Entries, Explained, Finding, Holders, Status};
use sds_server::runtime::drain;

use super::fixture::serve;
use super::run;

#[tokio::test]
async fn status_ends_with_1_when_there_is_something_to_look_at() {
    let fixture = serve().await;
    let ran = fixture.cli("status").await;
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(ran.out.contains("root not after  2027-11-23 21:34:15Z ("), "{ran:?}");

    let finding = Finding { what: "a.yaml cannot be read".into(), advice: "repair line 3".into() };
    fixture.status.lock().unwrap().findings.push(finding);
    let ran = fixture.cli("status").await;
    assert_eq!(ran.status, 1);
    assert!(ran.out.contains("! a.yaml cannot be read\n  → repair line 3"), "{ran:?}");
    let ran = fixture.cli("status -o json").await;
    let status: Status = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(status, *fixture.status.lock().unwrap());
}

#[tokio::test]
async fn streams_are_listed_without_obeying_what_callers_wrote() {
    let fixture = serve().await;
    let ran = fixture.cli("streams").await;
    assert_eq!(ran.status, 0, "{ran:?}");
    assert_eq!(ran.out.lines().count(), 5, "a row for each name, and one for a stream without: {}", ran.out);
    assert!(ran.out.contains("\\u{1b}[2Jbad") && !ran.out.contains('\u{1b}'), "{ran:?}");
    assert!(ran.out.lines().any(|line| line.contains("ROOTCA") && line.contains("refused")), "{ran:?}");
}

#[tokio::test]
async fn streams_that_are_not_acknowledged_are_a_finding() {
    let fixture = serve().await;
    let ran = fixture.cli("streams --not-acknowledged -o json").await;
    assert_eq!(ran.status, 1);
    let streams: Vec<serde_json::Value> = serde_json::from_str(&ran.out).unwrap();
    let names: Vec<_> = streams.iter().flat_map(|stream| stream["names"].as_array().unwrap()).collect();
    assert_eq!(names.iter().map(|name| &name["name"]).collect::<Vec<_>>(), ["ROOTCA"]);
}

#[tokio::test]
async fn who_does_not_hold_a_version_is_told_with_the_reason_and_is_a_finding() {
    let fixture = serve().await;
    let ran = fixture.cli("streams --not-holding ROOTCA@8").await;
    assert_eq!(ran.status, 1);
    for said in [
        "spiffe://example.org/web",
        "refused it (it is broken: mend it)",
        "1 do not hold version 8 of ROOTCA",
    ] {
        assert!(ran.out.contains(said), "{said} in {ran:?}");
    }
    let ran = fixture.cli("streams --not-holding ROOTCA@8 -o json").await;
    let holders: Holders = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.status, holders.members, holders.missing.len(), holders.complete), (1, 2, 1, false));
    let ran = fixture.cli("streams --not-holding ROOTCA@7 --acknowledged").await;
    let all = "all 2 members that have ROOTCA hold version 7\n! 1 streams of the Workload and Broker APIs";
    assert!(ran.status == 0 && ran.out.starts_with(all), "{ran:?}");
    let ran = fixture.cli("streams --not-holding ROOTCA").await;
    assert!(ran.status == 1 && ran.err.contains("no version is known"), "{ran:?}");
}

#[tokio::test]
async fn a_client_is_forgotten_by_the_name_that_the_roster_has_for_it() {
    let fixture = serve().await;
    let ran = fixture.cli("streams forget remote:CN=gone").await;
    let said = "remote:CN=gone (spiffe://example.org/edge) is forgotten; its last certificate is valid until 2026-11-24T12:00:00Z\n";
    assert_eq!((ran.status, &*ran.out), (0, said));
    let ran = fixture.cli("streams forget remote:CN=there").await;
    assert!(ran.status == 1 && ran.err.contains("stays: it is connected"), "{ran:?}");
    assert_eq!(fixture.cli("streams forget somebody").await.status, 2, "that is no holder");
}

#[tokio::test]
async fn entries_and_bundle_are_printed() {
    let fixture = serve().await;
    let ran = fixture.cli("entries").await;
    assert!(ran.out.contains("spiffe://example.org/web  unix:uid:1"), "{ran:?}");
    assert_eq!(ran.status, 0);
    let ran = fixture.cli("entries -o yaml").await;
    assert!(ran.out.contains("spiffe_id: "), "{ran:?}");
    assert_eq!(fixture.cli("bundle").await.out, "-----BEGIN CERTIFICATE-----\n");
    assert!(fixture.cli("bundle -o json").await.out.contains("\"version\": \"1-ab\""));
    let spiffe: serde_json::Value = serde_json::from_str(&fixture.cli("bundle -o spiffe").await.out).unwrap();
    assert_eq!(spiffe, serde_json::json!({"keys": []}));
}

#[tokio::test]
async fn an_explanation_is_printed_for_people_and_for_machines() {
    let fixture = serve().await;
    let ran = fixture.cli("explain pid 7").await;
    assert_eq!(ran.status, 1, "it matches nothing: {ran:?}");
    let unix = "unix: in part\n  unix:uid:1\n  ! the executable is too large\\u{1b}\n";
    assert!(ran.out.contains(unix), "{ran:?}");
    assert!(ran.out.contains("it matches no entry\n"), "{ran:?}");
    let near = "  spiffe://example.org/web (a.yaml)\n    has   unix:gid:1\n    lacks unix:uid:2: it has unix:uid:1\n";
    assert!(ran.out.contains(near), "{ran:?}");
    let ran = fixture.cli("explain pid 7 -o json").await;
    let explained: Explained = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((explained.pid, explained.near.len()), (7, 1));
    assert!(ran.out.contains("\"state\": \"partly\""), "{ran:?}");
    assert!(fixture.cli("explain pid 7 -o yaml").await.out.contains("near_total: 1"));
    let ran = fixture.cli("explain pid 1").await;
    assert!(ran.status == 1 && ran.err.contains("no process 1"), "{ran:?}");
    assert!(
        fixture.raw("GET /v1/explain/pid/x HTTP/1.1\r\nhost: a\r\n\r\n").await.starts_with("HTTP/1.1 400")
    );
}

#[tokio::test]
async fn empty_lists_are_said_so_on_standard_error() {
    let mut fixture = serve().await;
    fixture.sources.streams = Arc::new(Vec::new);
    fixture.sources.entries = Arc::new(Entries::default);
    std::fs::create_dir(fixture.dir.path().join("empty")).unwrap();
    let data = fixture.dir.path().join("empty");
    let (_drainer, drain) = drain::channel();
    tokio::spawn(AdminServer::bind(&data.join("admin.sock"), &fixture.sources).unwrap().run(drain));
    let check = async |args: &'static str, says: &str| {
        let data = data.to_str().unwrap().to_owned();
        let ask = move || run(&args.split(' ').chain(["--data", &data]).collect::<Vec<_>>());
        let ran = tokio::task::spawn_blocking(ask).await.unwrap();
        assert_eq!((ran.status, ran.out.as_str(), ran.err.as_str()), (0, "", says));
    };
    check("streams", "no streams are open\n").await;
    check("streams --not-acknowledged", "all that was sent is acknowledged\n").await;
    check("entries", "no entries are in force\n").await;
}

#[tokio::test]
async fn a_reload_tells_what_the_brake_holds_back() {
    let fixture = serve().await;
    let ran = fixture.cli("entries reload").await;
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.out.contains("--prune"), "{ran:?}");
    let ran = fixture.cli("entries reload --prune").await;
    assert_eq!((ran.status, ran.out.as_str()), (0, "0 added, 0 changed, 5 removed\n"));
    let ran = fixture.cli("entries reload -o yaml").await;
    assert!(ran.status == 1 && ran.out.contains("held_back: 5"), "{ran:?}");
}

#[tokio::test]
async fn records_of_the_audit_log_are_printed() {
    let fixture = serve().await;
    let ran = fixture.cli("audit --from 7 --kind svid.issued").await;
    assert_eq!((ran.status, &*ran.err), (0, "there are more: go on with --from 8\n"));
    for said in ["7", "svid.issued", "who", "SEQUENCE"] {
        assert!(ran.out.contains(said), "{said} in {ran:?}");
    }
    let records: serde_json::Value =
        serde_json::from_str(&fixture.cli("audit --from 7 -o json").await.out).unwrap();
    assert_eq!((&records["next"], &records["records"][0]["detail"]["a"]), (&8.into(), &1.into()));
    assert_eq!(fixture.cli("audit --limit 0").await.status, 2);
}
