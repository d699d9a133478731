//! The arrows of the design hold: a module imports only what stands above it, and the library stays a library.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Top first; what is not written yet is skipped, what is missing here fails.
const SPIFFE_BRIDGE: &[&str] = &[
    "clock",
    "identity",
    "keys",
    "x509",
    "jose",
    "resilience",
    "store",
    "audit",
    "registration",
    "attest",
    "authority",
    "roster",
    "rotation",
    "node",
    "federation",
];
/// Composition stands last: only it knows all.
const SDS_SERVER: &[&str] = &[
    "runtime",
    "telemetry",
    "proto",
    "endpoint",
    "sds",
    "receipts",
    "prober",
    "workload_api",
    "broker_api",
    "admin",
    "fleet",
    "config",
    "app",
    "cli",
];

/// A source file of a crate: the module it belongs to, and its code without tests and comments.
struct Source {
    path: PathBuf,
    module: String,
    code: String,
}

fn sources(krate: &str) -> Vec<Source> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(krate).join("src");
    let mut found = Vec::new();
    let mut dirs = vec![src.clone()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
                let first = path.strip_prefix(&src).unwrap().iter().next().unwrap();
                let module = Path::new(first).file_stem().unwrap().to_str().unwrap().to_owned();
                let code = production_code(&fs::read_to_string(&path).unwrap());
                found.push(Source { path, module, code });
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// Up to the test module, which style.md puts last, and without comments.
fn production_code(text: &str) -> String {
    let before = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    before.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The modules named by `crate::a::…`, and by the groups `crate::{a::…, b}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut start) = (0, true);
            let mut name = String::new();
            for letter in group.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    ':' if depth == 0 => start = false,
                    _ if start && depth == 0 && (letter.is_alphanumeric() || letter == '_') => {
                        name.push(letter)
                    }
                    _ => {}
                }
                if (!start || letter == ',') && !name.is_empty() {
                    found.insert(std::mem::take(&mut name));
                }
            }
            found.insert(name);
        } else {
            found.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found.remove("");
    found
}

fn check_arrows(krate: &str, order: &[&str]) {
    let place = |module: &str| order.iter().position(|known| *known == module);
    let mut wrong = Vec::new();
    for source in sources(krate) {
        if source.module == "lib" || source.module == "main" {
            continue;
        }
        let Some(own) = place(&source.module) else {
            panic!("{krate}: the design's list has no module {}", source.module);
        };
        for import in imports(&source.code) {
            // What is no module is an item of lib.rs.
            if place(&import).is_some_and(|other| other > own) {
                wrong.push(format!("{}: {} imports {import}", source.path.display(), source.module));
            }
        }
    }
    assert!(wrong.is_empty(), "against the arrows:\n{}", wrong.join("\n"));
}

#[test]
fn imports_are_read_as_rust_writes_them() {
    let names = |code| imports(code).into_iter().collect::<Vec<_>>();
    assert_eq!(names("use crate::store::Store; let x = crate::clock::now();"), ["clock", "store"]);
    assert_eq!(names("use crate::{audit::Event, keys::{KeyId, Keys}, x509};"), ["audit", "keys", "x509"]);
    assert_eq!(names("pub(crate) fn f() {}"), Vec::<String>::new());
}

#[test]
fn the_library_imports_only_upwards() {
    check_arrows("spiffe-bridge", SPIFFE_BRIDGE);
}

#[test]
fn the_server_imports_only_upwards() {
    check_arrows("sds-server", SDS_SERVER);
}

#[test]
fn the_library_binds_nothing_spawns_nothing_and_reads_no_environment() {
    // `spawn_blocking` is not among them: it lends a thread of the caller's runtime to one awaited call.
    let forbidden = [
        "envoy",
        "tonic",
        "TcpListener",
        "UnixListener",
        "UdpSocket",
        "tokio::spawn",
        "thread::spawn",
        "thread::Builder",
        "env::var",
        "env::args",
        "set_global_default",
        "process::exit",
    ];
    let mut wrong = Vec::new();
    for source in sources("spiffe-bridge") {
        for word in forbidden.iter().filter(|word| source.code.contains(**word)) {
            wrong.push(format!("{}: {word}", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "spiffe-bridge is a library:\n{}", wrong.join("\n"));
}
