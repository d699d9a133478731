//! What the statistics of Envoys of this node prove.

use envoy_configs::Api;
use integration::http;
use integration::mesh::{Mesh, Plan};
use integration::server::Options;
use integration::{poll, sds};
use serde_json::Value;

use super::asked::{SOON, boast, metric, missing, states, version, whys, without_sink};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_shipped_bootstraps_use_is_proved_and_stays_so_over_renewals() {
    proved_over_renewals(Api::Delta, |text| text).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_by_ads_is_proved_name_by_name_and_stays_so_over_renewals() {
    proved_over_renewals(Api::Ads, |text| text).await;
}

/// Each of its responses carries one name, and each of its requests all of them.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_by_ads_state_of_the_world_is_proved_as_well() {
    proved_over_renewals(Api::Ads, |text| text.replace("api_type: DELTA_GRPC", "api_type: GRPC")).await;
}

async fn proved_over_renewals(api: Api, change: fn(String) -> String) {
    // Renewed each two seconds or so.
    let server = Options { leaf_lifetime: Some("20s".into()), renew_at: Some(0.1), ..Options::default() };
    let mesh = Mesh::start(&Plan { server, api, change, ..Plan::default() }).await.unwrap();
    let all = |state: &str| {
        [("api", "ROOTCA"), ("api", &*mesh.api_id), ("web", "ROOTCA"), ("web", "default")]
            .map(|(node, name)| (node.to_owned(), name.to_owned(), state.to_owned()))
            .to_vec()
    };
    let proved =
        poll::holds("everything is proved", SOON, async || states(&mesh.server) == all("proved_applied"));
    proved.await.unwrap_or_else(|_| panic!("{:?}\n{}", states(&mesh.server), mesh.server.log()));
    let (status, holders) = missing(&mesh.server, &["ROOTCA"]);
    assert_eq!(
        (status, &holders["members"], &holders["complete"]),
        (Some(0), &2.into(), &true.into()),
        "{holders}"
    );

    // Renewals are proved one after the other.
    let before = metric(&mesh.server, "countersign_receipts_standings_total").await;
    poll::holds("six more are proved", SOON, async || {
        metric(&mesh.server, "countersign_receipts_standings_total").await >= before + 18.0
    })
    .await
    .unwrap();
    poll::holds("and each in the end", SOON, async || states(&mesh.server) == all("proved_applied"))
        .await
        .unwrap();
    let answer = http::get_unix(&mesh.server.data().join("admin.sock"), "/metrics").await.unwrap();
    let text = String::from_utf8(answer.body().to_vec()).unwrap();
    assert!(text.contains("countersign_receipts_standings_total{standing=\"possibly_applied\"} 0"), "{text}");
    assert_eq!(metric(&mesh.server, "countersign_receipts_refused_total").await, 0.0);
    assert_eq!(metric(&mesh.server, "countersign_sds_refused_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_without_the_sink_is_acknowledged_only() {
    let mesh = Mesh::start(&Plan { change: without_sink, ..Plan::default() }).await.unwrap();
    poll::holds("web is proved", SOON, async || {
        states(&mesh.server).iter().filter(|(_, _, state)| state == "proved_applied").count() == 2
    })
    .await
    .unwrap();
    let (status, holders) = missing(&mesh.server, &["ROOTCA"]);
    assert_eq!((status, whys(&holders)), (Some(1), vec!["acknowledged_only"]), "{holders}");
    assert_eq!(holders["missing"][0]["identities"][0], *mesh.api_id);
    assert_eq!(missing(&mesh.server, &["ROOTCA", "--acknowledged"]).0, Some(0), "its word is enough");
    let table = String::from_utf8(mesh.server.cli(&["streams"]).unwrap().stdout).unwrap();
    assert_eq!(table.matches("acknowledged only: no statistics sink").count(), 2, "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_proved_after_a_restart_until_pushes_prove_it() {
    let server = Options { leaf_lifetime: Some("20s".into()), renew_at: Some(0.1), ..Options::default() };
    let mut mesh = Mesh::start(&Plan { server, ..Plan::default() }).await.unwrap();
    poll::holds("all is proved", SOON, async || {
        states(&mesh.server).iter().filter(|(_, _, state)| state == "proved_applied").count() == 4
    })
    .await
    .unwrap();
    mesh.server.stop().await.unwrap();
    mesh.server.restart().await.unwrap();
    let (status, holders) = missing(&mesh.server, &["ROOTCA"]);
    assert_eq!(
        (status, holders["members"].as_u64()),
        (Some(1), Some(2)),
        "the members outlived it: {holders}"
    );
    assert!(whys(&holders).iter().all(|why| ["not_proved", "acknowledged_only"].contains(why)), "{holders}");
    assert!(!whys(&holders).contains(&"unaccounted"), "it was closed");

    // Certificates are renewed, and proved again by their second push; roots are as they were.
    poll::holds("the certificates are proved again", SOON, async || {
        let proved = states(&mesh.server).into_iter().filter(|(_, _, state)| state == "proved_applied");
        proved.map(|(_, name, _)| name).collect::<Vec<_>>() == [mesh.api_id.clone(), "default".into()]
    })
    .await
    .unwrap();
    assert_eq!(whys(&missing(&mesh.server, &["ROOTCA"]).1), ["not_proved", "not_proved"]);

    // Killed, it does not know whom it has lost.
    mesh.server.kill().unwrap();
    mesh.server.restart().await.unwrap();
    assert!(whys(&missing(&mesh.server, &["ROOTCA"]).1).contains(&"unaccounted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_in_anothers_name_prove_nothing_of_it() {
    let mesh = Mesh::start(&Plan { change: without_sink, ..Plan::default() }).await.unwrap();
    // This process has an identity of its own, and a stream, so that it is heard.
    mesh.server.add_entry("spiffe://example.org/liar", &[&mesh.seats.own_selector().unwrap()]).unwrap();
    poll::holds("an SVID comes", SOON, async || sds::svid(&mesh.server.socket(), "default").await.is_ok())
        .await
        .unwrap();
    poll::holds("both are members", SOON, async || {
        let (_, holders) = missing(&mesh.server, &["ROOTCA", "--acknowledged"]);
        holders["members"] == 2 && holders["complete"] == true
    })
    .await
    .unwrap();
    let version = version(&mesh.server);

    let mut channel = sds::connect(&mesh.server.socket()).await.unwrap();
    boast(&mut channel, "ROOTCA", &version).await;
    let (status, holders) = missing(&mesh.server, &["ROOTCA"]);
    assert_eq!(status, Some(1));
    let of_api = |holders: &Value| {
        let missing = holders["missing"].as_array().unwrap();
        missing.iter().any(|m| m["identities"][0] == *mesh.api_id && m["why"] == "acknowledged_only")
    };
    assert!(of_api(&holders), "{holders}");
}
