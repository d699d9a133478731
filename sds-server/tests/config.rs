//! The configuration: what is refused and where, what is the default, and that the document knows every key.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use sds_server::config::{Environment, File, Flags, Settings};
use serde_json::Value;

fn parse(text: &str) -> Result<File, String> {
    File::parse(text, Path::new("c.yaml")).map_err(|error| error.to_string())
}

fn root() -> Environment {
    Environment { is_root: true, ..Environment::default() }
}

fn resolve(text: &str) -> Result<Settings, String> {
    Settings::resolve(parse(text)?, Flags::default(), &root()).map_err(|problems| problems.to_string())
}

#[test]
fn what_cannot_be_read_is_refused_with_its_line_and_column() {
    let check = |text, place: &str, says: &str| {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(place), "{error}");
        assert!(error.contains(says), "{error}");
    };
    check("trust_domain: a\nentires: /x\n", "c.yaml:2:1: ", "entires");
    check("trust_domain: a\nauthority:\n  leaf_lifetime: 1 hour\n", "c.yaml:3:18: ", "such as 90s");
    check("limits:\n  connections: many\n", "c.yaml:2:16: ", "write a whole one from 0 to 4294967295");
    check("metrics: {listen: 9464}\n", "c.yaml:1:19: ", "write IP:PORT, such as 127.0.0.1:9464");
    check("authority: {jwt_algorithm: HS256}\n", "c.yaml:1:28: ", "here: write ES256, ES384, RS256");
    check("authority: {wit_algorithm: ES512}\n", "c.yaml:1:28: ", "no key signs with \"ES512\" here");
    check("log: {format: xml}\n", "c.yaml:1:15: ", "xml");
    check("data: /a\ndata: /b\n", "c.yaml:2:1: ", "duplicate");
    check("data: [\n", "c.yaml:", "");
    check("data: /a\n---\ndata: /b\n", "c.yaml:3:1: ", "a second document");
    for text in ["data: /a\n---\ndata: /b\n", "data: /a\ndata: /b\n", "log: {format: xml}\n"] {
        let error = parse(text).unwrap_err();
        for foreign in ["at line", "Policy", "from_str"] {
            assert!(!error.contains(foreign), "{error}");
        }
    }
}

#[test]
fn a_path_that_no_socket_can_have_is_found_before_the_server_is_started() {
    let long = "x".repeat(101);
    let check = |text: String, key: &str| assert!(resolve(&text).unwrap_err().starts_with(key), "{text}");
    check(format!("trust_domain: example.org\nsocket: /tmp/{long}/s\n"), "socket: ");
    check(format!("trust_domain: example.org\ndata: /tmp/{long}\n"), "data: ");
}

#[test]
fn an_empty_file_is_the_defaults() {
    for text in ["", "\n", "# nothing yet\n", "{}\n"] {
        assert_eq!(parse(text).unwrap(), File::default(), "{text:?}");
    }
}

#[test]
fn only_the_trust_domain_has_no_default() {
    let settings = resolve("trust_domain: example.org").unwrap();
    assert_eq!(settings.data, Path::new("/var/lib/countersign"));
    assert_eq!(settings.entries, Path::new("/var/lib/countersign/entries"));
    assert_eq!(settings.socket, Path::new("/run/countersign/api.sock"));
    assert_eq!(settings.admin_socket(), Path::new("/var/lib/countersign/admin.sock"));
    assert_eq!(settings.authority.leaf_lifetime, Duration::from_secs(3600));
    assert!(resolve("{}").unwrap_err().starts_with("trust_domain: it has no default"));
}

#[test]
fn defaults_follow_systemd_and_xdg() {
    let file = || parse("trust_domain: example.org").unwrap();
    let user = Environment {
        state_home: Some("/home/u/.local/state".into()),
        runtime_home: Some("/run/user/1000".into()),
        ..Environment::default()
    };
    let settings = Settings::resolve(file(), Flags::default(), &user).unwrap();
    assert_eq!(settings.data, Path::new("/home/u/.local/state/countersign"));
    assert_eq!(settings.socket, Path::new("/run/user/1000/countersign/api.sock"));

    let unit = Environment {
        state_directory: Some("/var/lib/cs".into()),
        runtime_directory: Some("/run/cs".into()),
        ..user
    };
    let settings = Settings::resolve(file(), Flags::default(), &unit).unwrap();
    assert_eq!(settings.data, Path::new("/var/lib/cs"));
    assert_eq!(settings.socket, Path::new("/run/cs/api.sock"));

    let error = Settings::resolve(file(), Flags::default(), &Environment::default()).unwrap_err();
    assert_eq!(error.0.iter().map(|problem| problem.key).collect::<Vec<_>>(), ["data", "socket"]);
}

#[test]
fn a_flag_wins_over_the_file() {
    let flags = Flags { data: Some("/flag".into()), trust_domain: Some("b".into()), ..Flags::default() };
    let file = parse("{trust_domain: a, data: /file, socket: /file/s}").unwrap();
    let settings = Settings::resolve(file, flags, &root()).unwrap();
    assert_eq!(settings.trust_domain.as_str(), "b");
    assert_eq!((settings.data, settings.socket), (PathBuf::from("/flag"), PathBuf::from("/file/s")));
}

#[test]
fn values_that_do_not_fit_together_are_refused_with_advice() {
    let check = |text: &str, expected: &str| {
        let error = resolve(&format!("trust_domain: example.org\n{text}")).unwrap_err();
        assert!(error.starts_with(expected), "{error}");
    };
    check("authority: {leaf_lifetime: 400d}", "authority.leaf_lifetime: 400d is not shorter than");
    check("authority: {leaf_lifetime: 0s}", "authority.leaf_lifetime: it must be at least 1s");
    check("authority: {backdate: 500ms}", "authority: certificates count in whole seconds");
    check("renewal: {at: 1.0}", "renewal.at: 1 is not between");
    check("renewal: {at: .nan}", "renewal.at:");
    check("renewal: {at: 0.9, spread: 0.1}", "renewal.spread: 0.1 is too wide");
    check("attestors: {deadline: 2m}", "attestors.deadline: it must be between");
    check("attestors: {keep: 1s}", "attestors.keep: it must not be shorter");
    check("attestors: {docker: {sockets: [docker.sock]}}", "attestors.docker.sockets: give absolute");
    for url in ["http://n/pods", "https://", "https:///pods", "https://user:password@n/pods", "n/pods"] {
        check(
            &format!("attestors: {{kubernetes: {{url: '{url}'}}}}"),
            "attestors.kubernetes.url: give an https",
        );
    }
    check(
        "attestors: {kubernetes: {token_file: token}}",
        "attestors.kubernetes.token_file: give an absolute",
    );
    check("attestors: {kubernetes: {ca_file: ca.crt}}", "attestors.kubernetes.ca_file: give an absolute");
    check("attestors: {kubernetes: {refresh: 10ms}}", "attestors.kubernetes.refresh: it must be at least");
    check("attestors: {systemd: {bus: ''}}", "attestors.systemd.bus: give an absolute");
    check("limits: {connections: 0}", "limits.connections: 0 would");
    check("sds: {names: 0}", "sds.names: 0 would");
    check("sds: {message_bytes: 1}", "sds.message_bytes: it must be between");
    check("sds: {name_bytes: 1000}", "sds.name_bytes: half of it");
    check("sds: {unfinished_bytes: 1000000}", "sds.unfinished_bytes: half of it");
    check("log: {filter: 'a=b=c'}", "log.filter: \"a=b=c\" cannot be read");
    check("metrics: {listen: '0.0.0.0:9464'}", "metrics.listen: 0.0.0.0:9464 is not a loopback");
    let error = resolve("trust_domain: Example.org").unwrap_err();
    assert!(error.contains("write \"example.org\""), "{error}");
}

#[test]
fn all_problems_are_told_at_once() {
    let error = resolve("{renewal: {at: 2}, limits: {connections: 0}}").unwrap_err();
    assert_eq!(error.lines().count(), 3, "{error}");
}

#[test]
fn what_is_printed_can_be_read_back() {
    let settings = resolve("{trust_domain: example.org, renewal: {at: 0.4}}").unwrap();
    let text = serde_saphyr::to_string(&settings).unwrap();
    assert_eq!(resolve(&text).unwrap(), settings, "{text}");
}

#[test]
fn every_key_stands_in_the_document_with_its_default() {
    let document = std::fs::read_to_string("../docs/configuration.md").unwrap();
    let mut keys = Vec::new();
    collect("", &serde_json::to_value(File::default()).unwrap(), &mut keys);
    assert!(keys.len() > 15, "{keys:?}");
    for (key, default) in keys {
        let row = document.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/configuration.md does not tell of {key}"));
        if let Some(default) = default {
            assert!(row.contains(&format!("| `{default}` |")), "the default of {key} is {default}: {row}");
        }
    }
}

fn collect(prefix: &str, value: &Value, keys: &mut Vec<(String, Option<String>)>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let prefix = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                collect(&prefix, value, keys);
            }
        }
        Value::Null => keys.push((prefix.to_owned(), None)),
        Value::String(text) => keys.push((prefix.to_owned(), Some(text.clone()))),
        other => keys.push((prefix.to_owned(), Some(other.to_string()))),
    }
}
