//! What needs no server.

use std::ffi::OsString;
use std::io;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use sds_server::cli::output::Printer;
use sds_server::cli::{EntryCheck, Hooks, Init, run_from};
use sds_server::config::Environment;
use serde_json::json;

use super::{Ran, Text, run, run_in};

#[test]
fn wrong_usage_and_wrong_configuration_end_with_2() {
    let check = |args: &[&str], says: &str| {
        let ran = run(args);
        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(ran.err.contains(says), "{ran:?}");
    };
    check(&[], "Usage");
    check(&["servo"], "servo");
    check(&["serve"], "trust_domain: it has no default");
    check(&["serve", "--trust-domain", "Not Good"], "trust_domain");
    check(&["serve", "--config", "/nonexistent/c.yaml"], "cannot read the configuration");
    check(&["streams", "-o", "xml"], "xml");
    for named in ["ROOTCA@abc", "ROOTCA@", "@7", "ROOTCA@7-"] {
        check(&["streams", "--not-holding", named], "write NAME or NAME@VERSION");
    }
    let dir = tempfile::tempdir().unwrap();
    let wrong = dir.path().join("wrong");
    std::fs::create_dir(&wrong).unwrap();
    let wrong = wrong.to_str().unwrap();
    check(&["config", "check", "--trust-domain", "example.org", "--entries", wrong], "a.yaml:3:");
}

#[test]
fn a_mistake_in_the_file_is_shown_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    std::fs::write(&path, "trust_domain: example.org\nsokcet: /x\n").unwrap();
    let ran = run(&["config", "check", "--config", path.to_str().unwrap()]);
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains(&format!("{}:2:1: ", path.display())), "{ran:?}");
}

#[test]
fn verbs_reach_their_work_with_the_flags() {
    let ran = run(&["serve", "--init", "--trust-domain", "example.org"]);
    assert_eq!((ran.status, ran.err.as_str()), (1, "countersign: served example.org Allowed Made\n"));
    let ran = run(&["serve", "--trust-domain", "example.org"]);
    assert_eq!(ran.err, format!("countersign: served example.org {:?} Made\n", Init::Refused));
    let ran = run(&["serve", "--takeover", "--trust-domain", "example.org"]);
    assert!(ran.err.ends_with("Refused TakenOver\n"), "{ran:?}");
    let ran = run(&["init", "--trust-domain", "example.org", "--data", "/d"]);
    assert_eq!((ran.status, ran.out.as_str()), (0, "initialised /d\n"));
    let ran = run(&["entries", "check", "--trust-domain", "example.org", "--entries", "/wrong"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.out.starts_with(
        "a.yaml:3: no such selector\n2 entries in order, the profile legacy, and the bundle of other.org, in 1 file of"
    ));
    let ran =
        run(&["entries", "check", "--trust-domain", "example.org", "--entries", "/wrong", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.status, &report["trust_domains"][0]), (1, &json!("other.org")));
    assert_eq!(report["profiles"][0], "legacy");
}

#[test]
fn help_and_version_are_results() {
    for args in [["--version"], ["--help"]] {
        let ran = run(&args);
        assert_eq!((ran.status, ran.err.as_str()), (0, ""));
        assert!(ran.out.contains("countersign") || ran.out.contains("Usage"), "{ran:?}");
    }
    // Of a standard that is not stable, the commit that is followed. STABILITY §2.3.
    let wit = format!(
        "WIT-SVID, Broker API and Broker Endpoint, by spiffe/spiffe at {}",
        spiffe_bridge::jose::wit_svid::STANDARD
    );
    assert!(run(&["--version"]).out.contains(&wit));
}

/// Directories that a server would take, with modes that the umask has no say in.
fn surroundings() -> (tempfile::TempDir, impl Fn(&[&str]) -> Ran) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for name in ["data", "run", "entries"] {
        std::fs::create_dir(path(name)).unwrap();
        std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let (data, socket, entries) = (path("data"), path("run/s"), path("entries"));
    let check = move |more: &[&str]| {
        let args = ["config", "check", "--trust-domain", "example.org", "--data", &data, "--socket", &socket];
        run(&[&args, &["--entries", &entries][..], more].concat())
    };
    (dir, check)
}

#[test]
fn config_check_prints_what_can_be_read_back() {
    let (_dir, check) = surroundings();
    let ran = check(&[]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let file = sds_server::config::File::parse(&ran.out, Path::new("printed")).unwrap();
    assert_eq!(file.trust_domain.as_deref(), Some("example.org"));
    let report: serde_json::Value = serde_json::from_str(&check(&["-o", "json"]).out).unwrap();
    assert_eq!(report["settings"]["trust_domain"], "example.org");
    assert_eq!((&report["findings"], &report["entries"]["entries"]), (&json!([]), &json!(2)));
}

#[test]
fn config_check_finds_directories_that_a_server_would_refuse() {
    let (dir, check) = surroundings();
    let chmod = |name: &str, mode| {
        std::fs::set_permissions(dir.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let found = |expected: &str| {
        let ran = check(&[]);
        assert!(ran.status == 2 && ran.err.contains(expected), "{expected}: {ran:?}");
    };
    chmod("data", 0o777);
    found("mode 0777, and others must not write to it: run chmod 0700");
    chmod("data", 0o700);
    chmod("run", 0o1777);
    found("chmod go-w it");
    let report: serde_json::Value = serde_json::from_str(&check(&["-o", "json"]).out).unwrap();
    assert_eq!(report["findings"][0]["key"], "socket");
    // A directory that is missing is made by the server; nothing is made here.
    std::fs::remove_dir(dir.path().join("run")).unwrap();
    assert_eq!(check(&[]).status, 0);
    assert!(!dir.path().join("run").exists());
    std::fs::remove_dir(dir.path().join("entries")).unwrap();
    found("make it, even if it is empty");
    let said = check(&[]).err;
    assert_eq!(said.matches("entries").count(), 2, "key and path, said once: {said}");
    std::fs::write(dir.path().join("entries"), "").unwrap();
    found("is not a directory: name the directory");
}

#[test]
fn config_check_tells_what_the_machine_cuts_down() {
    let (dir, check) = surroundings();
    let file = dir.path().join("c.yaml");
    std::fs::write(&file, "limits: {connections: 4294967295}\n").unwrap();
    let ran = check(&["--config", file.to_str().unwrap()]);
    assert_eq!(ran.status, 0, "{ran:?}");
    assert!(
        ran.err.starts_with("note: limits.connections: 4294967295 is more than three quarters"),
        "{ran:?}"
    );
    let json = check(&["--config", file.to_str().unwrap(), "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(report["notes"][0]["key"], "limits.connections");
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let hooks = Hooks {
        serve: |_, _, _| Ok(()),
        init: |_| Ok("done".to_owned()),
        check_entries: |_, _| EntryCheck::default(),
    };
    let environment = Environment { is_root: true, ..Environment::default() };
    let args = ["countersign", "init", "--trust-domain", "example.org"].map(OsString::from);
    let err = Text::default();
    let status = run_from(args, hooks, &environment, &mut Printer::to(Closed), &mut Printer::to(err.clone()));
    assert_eq!((status, err.take().as_str()), (0, ""));
}

#[test]
fn envoy_bootstrap_renders_the_flags() {
    let args = "envoy bootstrap --kind sidecar --service web --trust-domain example.org \
                --upstream-id spiffe://example.org/db --upstream 10.0.0.7:15006 --admin /run/envoy.sock";
    let ran = run(&args.split_whitespace().collect::<Vec<_>>());
    assert_eq!(ran.status, 0, "{ran:?}");
    for expected in ["10.0.0.7", "spiffe://example.org/db", "/run/countersign/api.sock", "/run/envoy.sock"] {
        assert!(ran.out.contains(expected), "{expected}\n{}", ran.out);
    }
    let wrong = args.replace("10.0.0.7:15006", "10.0.0.7");
    let ran = run(&wrong.split_whitespace().collect::<Vec<_>>());
    assert_eq!(ran.status, 2);
    assert!(ran.err.contains("HOST:PORT"), "{ran:?}");
    let check = |more: &str, says: &str| {
        let ran = run(&format!("{args} {more}").split_whitespace().collect::<Vec<_>>());
        assert!(ran.status == 2 && ran.err.contains(says), "{ran:?}");
    };
    check("--peer spiffe://other.org/web", "is not of example.org: list callers of other trust domains");
    check("--identity spiffe://other.org/web", "is not of example.org");
    check("--outbound 0.0.0.0:15001", "--outbound: 0.0.0.0:15001 is not a loopback address");
    check("--inbound 443", "write IP:PORT, such as");
    check("--part clusters", "add --api ads");
    let unusable = args.replace("--service web", "--service ü");
    let ran = run(&unusable.split_whitespace().collect::<Vec<_>>());
    assert!(ran.status == 2 && ran.err.contains("--service: \"ü\" is not usable: give 1 to 255"), "{ran:?}");
    check("--edge 127.0.0.1:8000", "--edge is for --kind gateway only");
    check("--edge-name shop.example.org", "--edge-name is for --kind gateway only");
    check(
        "--outbound 127.0.0.1:15006",
        "--inbound 0.0.0.0:15006 and --outbound 127.0.0.1:15006 are one address",
    );
    check("--app 127.0.0.1:7000 --outbound 127.0.0.1:7000", "give --app another port");
    let admin = args.replace("/run/envoy.sock", "127.0.0.1:15006");
    let ran = run(&admin.split_whitespace().collect::<Vec<_>>());
    assert!(ran.status == 2 && ran.err.contains("and --admin 127.0.0.1:15006 are one address"), "{ran:?}");
    let public = args.replace("/run/envoy.sock", "0.0.0.0:9901");
    let ran = run(&public.split_whitespace().collect::<Vec<_>>());
    assert!(ran.status == 2 && ran.err.contains("not a loopback address"), "{ran:?}");
}

#[test]
fn envoy_bootstrap_has_a_kind_for_each_side() {
    let check = |args: &str, status: u8, says: &str| {
        let line = format!("envoy bootstrap --service x --trust-domain example.org {args}");
        let ran = run(&line.split_whitespace().collect::<Vec<_>>());
        assert!(
            ran.status == status && [&ran.out, &ran.err].iter().any(|text| text.contains(says)),
            "{args}: {ran:?}"
        );
    };
    let api = "--upstream-id spiffe://example.org/api";
    check(&format!("--kind permissive {api}"), 0, "stat_prefix: inbound_plain");
    check(&format!("--kind sidecar --api ads --clusters /c.yaml {api}"), 0, "path: \"/c.yaml\"");
    check(&format!("--kind sidecar --api ads --part clusters {api}"), 0, "resources:");
    check(
        "--kind sidecar --upstream-id spiffe://other.org/api",
        0,
        "name: \"spiffe://other.org\", sds_config: *sds",
    );
    let edge = format!("--kind gateway {api} --edge 0.0.0.0:443");
    check(&edge, 2, "--edge: 0.0.0.0:443 is not a loopback address");
    check(&edge, 2, "give --edge-certificate and --edge-key, or --edge-name, or listen on 127.0.0.1");
    check(&format!("{edge} --edge-name shop.example.org"), 0, "port_value: 443");
    check(&format!("{edge} --edge-certificate /c.pem --edge-key /k.pem"), 0, "port_value: 443");
    check(
        "--kind gateway --upstream-name A_b!",
        2,
        "--upstream-name: \"A_b!\" is not usable: give a DNS name",
    );
    check(&format!("--kind sidecar --clusters /c.yaml {api}"), 2, "--api ads only");
    check("--kind transparent --upstream-domain --ipv4-only", 0, "port_value: 15021");
    let remote = "--remote sds.example.org:8443 --remote-cert /c.pem --remote-key /k.pem";
    check(&format!("--kind sidecar {api} {remote} --remote-ca /r.pem"), 0, "example.org/countersign/server");
    check(&format!("--kind sidecar {api} {remote}"), 2, "--remote-ca");
    let here = std::path::absolute("roots.pem").unwrap();
    check(&format!("--kind sidecar {api} {remote} --remote-ca roots.pem"), 0, here.to_str().unwrap());
    check(
        &format!("--kind passthrough --route a.b=10.0.0.1:1 {remote} --remote-ca /r.pem"),
        2,
        "--remote is for",
    );
    check(
        "--kind passthrough --route a.example.org=10.0.0.1:1 --route a.example.org=10.0.0.2:1",
        0,
        "10.0.0.2",
    );
    check("--kind passthrough --route a.example.org", 2, "DNS=HOST:PORT");
    check("--kind egress --upstream-server api.example.com", 0, "host_rewrite_literal: \"api.example.com\"");
    check(&format!("--kind on-demand --prefetch api.example.org {api}"), 0, "prefetch_secret_names");
    check(&format!("--kind on-demand --api delta {api}"), 2, "by ADS only");
    check(
        "--kind egress --upstream-domain",
        2,
        "--upstream-domain does not go with --kind egress: give --upstream-server instead",
    );
    check("--kind sidecar --upstream-domain --show-certificate", 2, "--upstream-server");
    check("--kind sidecar", 2, "--upstream-id");
    check(&format!("--kind sidecar {api} --upstream-domain"), 2, "cannot be used with");
}

#[test]
fn the_help_tells_the_defaults_of_a_bootstrap() {
    use envoy_configs::{Admin, Callee, Kind, Settings};
    let help = run(&["envoy", "bootstrap", "--help"]).out;
    // clap breaks lines where it likes.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let default = |flag: &str| {
        let (_, rest) = help.split_once(&format!("{flag} <")).unwrap();
        let (_, rest) = rest.split_once("[default: ").unwrap();
        rest.split_once(']').unwrap().0.to_owned()
    };
    for kind in Kind::ALL {
        let settings = Settings::new(kind, "example.org".try_into().unwrap(), Callee::Domain);
        let Admin::Tcp(admin) = settings.admin else { panic!("a path") };
        let host = &settings.upstreams[0];
        let mut all = vec![("--inbound", settings.inbound.port()), ("--admin", admin.port())];
        match kind {
            Kind::Gateway => all.extend([("--edge", settings.edge.port()), ("--upstream", host.port)]),
            Kind::Passthrough => {}
            Kind::OnDemand => all.push(("--upstream", host.port)),
            Kind::Transparent => {
                all.extend([("--outbound", settings.outbound.port()), ("--health", settings.health.port())]);
            }
            Kind::Sidecar | Kind::Permissive => {
                all.extend([("--outbound", settings.outbound.port()), ("--app", settings.app.port())]);
                all.push(("--upstream", host.port));
            }
            Kind::Egress => all.push(("--outbound", settings.outbound.port())),
        }
        for (flag, port) in all {
            let said = default(flag);
            assert!(said.contains(&port.to_string()), "{flag} of {kind:?} is {port}: {said}");
        }
    }
}

#[test]
fn a_server_that_is_not_running_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(&["status", "--data", dir.path().to_str().unwrap()]);
    assert_eq!(ran.status, 1);
    assert!(ran.err.contains("no server is running on"), "{ran:?}");
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let ran = run(&["status", "--data", file.to_str().unwrap()]);
    assert!(ran.status == 1 && ran.err.contains("give the server's data directory with --data"), "{ran:?}");
    let environment = Environment { admin: Some("/nonexistent/admin.sock".into()), ..Environment::default() };
    let ran = run_in(&environment, &["streams"]);
    assert!(ran.err.contains("\"/nonexistent/admin.sock\""), "{ran:?}");
    let ran = run_in(&Environment::default(), &["streams"]);
    assert_eq!(ran.status, 2, "{ran:?}");
}
