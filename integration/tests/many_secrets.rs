//! A thousand certificates on one Envoy: by ADS on one stream, and by a stream for each. With `--nocapture` it tells
//! what each costs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fmt::Write;
use std::fs;
use std::time::{Duration, Instant};

use envoy_configs::{Api, Identity, Kind, Settings, render, render_clusters};
use integration::envoy::{Envoy, Stats};
use integration::mesh::{Plan, settings};
use integration::poll;
use integration::scratch::Scratch;
use integration::seats::{Seat, Seats};
use integration::server::{Options, Server};
use serde_json::Value;

const COUNT: usize = 1000;

fn id(nth: usize) -> String {
    format!("spiffe://example.org/many/{nth:04}")
}

/// Every seat has every identity.
fn entries(seats: &[Seat]) -> String {
    let mut text = String::new();
    for nth in 0..COUNT {
        for seat in seats {
            let (id, selector) = (id(nth), &seat.selector);
            writeln!(text, "---\nkind: Workload\nspiffe_id: {id}\nselectors: [{selector}]").unwrap();
        }
    }
    text
}

/// The clusters of a rendered text, as they stand there: a line `start`, up to the line `end`.
fn between(text: &str, start: &str, end: Option<&str>) -> String {
    let from = text.find(start).expect("the template's cluster");
    let rest = &text[from..];
    rest[..end.map_or(rest.len(), |end| rest.find(end).expect("what follows it"))].to_owned()
}

/// A sidecar with a cluster for each identity; the second text is the file of clusters.
fn bootstrap(chosen: &Settings) -> (String, Option<String>) {
    let of = |nth: usize| {
        let identity = Identity::Named(id(nth).parse().unwrap());
        Settings { identity, ..chosen.clone() }
    };
    let named =
        |text: String, nth: usize| text.replace("name: upstream\n", &format!("name: many-{nth:04}\n"));
    let sidecar = render(Kind::Sidecar, chosen).unwrap();
    if chosen.api == Api::Ads {
        let mut clusters = render_clusters(Kind::Sidecar, chosen).unwrap();
        for nth in 0..COUNT {
            let one = render_clusters(Kind::Sidecar, &of(nth)).unwrap();
            clusters += &named(between(&one, "- name: upstream", None), nth);
        }
        return (sidecar, Some(clusters));
    }
    let mut many = String::new();
    let (start, end) = ("  - name: upstream", "  # Countersign. Never TLS");
    for nth in 0..COUNT {
        let one = render(Kind::Sidecar, &of(nth)).unwrap();
        many += &named(between(&one, start, Some(end)), nth);
    }
    (sidecar.replace(end, &format!("{many}{end}")), None)
}

struct Cost {
    ready: Duration,
    cpu: Duration,
    resident_mib: u64,
}

/// User and system time, and resident memory, from /proc.
fn cost(envoy: &Envoy, ready: Duration) -> Cost {
    let stat = fs::read_to_string(format!("/proc/{}/stat", envoy.id())).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let field = |nth: usize| fields.split_whitespace().nth(nth).unwrap().parse::<u64>().unwrap();
    // proc_pid_stat(5): fields 14 and 15 in hundredths of a second, 24 in pages of 4 KiB.
    let cpu = Duration::from_millis((field(11) + field(12)) * 10);
    Cost { ready, cpu, resident_mib: field(21) / 256 }
}

fn arrived(stats: &Stats) -> u64 {
    stats.sum("sds.spiffe_example.org/many/", ".update_success")
}

async fn run(scratch: &Scratch, server: &Server, seat: &Seat, api: Api) -> (Envoy, Cost) {
    let name = if api == Api::Ads { "ads" } else { "streams" };
    let mut chosen = settings(scratch, name, server, &Plan::default()).unwrap();
    chosen.api = api;
    let (text, clusters) = bootstrap(&chosen);
    if let Some(clusters) = clusters {
        fs::write(&chosen.clusters, clusters).unwrap();
    }
    let start = Instant::now();
    let mut envoy = Envoy::start(scratch, name, seat, &text).unwrap();
    poll::holds("all certificates are there", Duration::from_secs(120), async || {
        envoy.stats().await.is_ok_and(|stats| arrived(&stats) >= COUNT as u64)
    })
    .await
    .unwrap();
    let ready = start.elapsed();
    envoy.live().await.unwrap();
    let cost = cost(&envoy, ready);
    (envoy, cost)
}

/// The protocols and the numbers of names of the streams of one process.
fn streams(server: &Server, envoy: &Envoy) -> Vec<usize> {
    let said = server.cli(&["streams", "-o", "json"]).unwrap();
    let all: Value = serde_json::from_slice(&said.stdout).unwrap();
    let own = all.as_array().unwrap().iter().filter(|stream| stream["pid"] == envoy.id());
    own.map(|stream| stream["names"].as_array().unwrap().len()).collect()
}

/// How many names of one process are proved applied.
fn proved(server: &Server, envoy: &Envoy) -> usize {
    let said = server.cli(&["streams", "-o", "json"]).unwrap();
    let all: Value = serde_json::from_slice(&said.stdout).unwrap();
    let own = all.as_array().unwrap().iter().filter(|stream| stream["pid"] == envoy.id());
    let names = own.flat_map(|stream| stream["names"].as_array().unwrap());
    names.filter(|name| name["state"] == "proved_applied").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_certificates_reach_one_envoy_by_ads_and_by_single_streams() {
    let scratch = Scratch::new().unwrap();
    let server = Server::start(&scratch, "server", &Options::default()).await.unwrap();
    let seats = Seats::here();
    let seats: Vec<Seat> = (0..2).map(|nth| seats.take(&scratch, nth).unwrap()).collect();
    server.write_documents("many", &entries(&seats)).unwrap();
    let in_force = async || {
        let said = server.cli(&["entries", "-o", "json"]).unwrap();
        serde_json::from_slice::<Value>(&said.stdout)
            .is_ok_and(|all| all.to_string().contains(&id(COUNT - 1)))
    };
    poll::holds("the entries are in force", Duration::from_secs(60), in_force).await.unwrap();

    // The first one has the certificates signed; what that costs is not the question.
    drop(run(&scratch, &server, &seats[0], Api::Ads).await);
    let (ads, by_ads) = run(&scratch, &server, &seats[0], Api::Ads).await;
    let (single, by_streams) = run(&scratch, &server, &seats[1], Api::Delta).await;
    for envoy in [&ads, &single] {
        let stats = envoy.stats().await.unwrap();
        assert_eq!(arrived(&stats), COUNT as u64, "each once");
        assert_eq!(stats.sum("sds.", ".update_rejected"), 0);
        assert_eq!(stats.sum("sds.", ".init_fetch_timeout"), 0);
    }
    // The shipped bootstrap tells its counters: each of the thousand is proved, though in use in a place of its own.
    for envoy in [&ads, &single] {
        poll::holds("all are proved applied", Duration::from_secs(60), async || {
            proved(&server, envoy) == COUNT + 2
        })
        .await
        .unwrap();
    }
    // Beside the thousand: the listener's certificate and the roots.
    assert_eq!(streams(&server, &ads), [COUNT + 2]);
    assert_eq!(streams(&server, &single).len(), COUNT + 2);
    for (how, cost) in [("ADS, one stream", by_ads), ("a stream each", by_streams)] {
        println!("{how:16} {:?} to the last, {:?} of CPU, {} MiB", cost.ready, cost.cpu, cost.resident_mib);
    }
}
