//! What two releases of Envoy do with each secret that the checker has a word on, sent past it; and that the checker lets
//! none through which does harm. docs/envoy-matrix.md is what this saw.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod bench;
mod contexts;
mod leafs;
mod pki;
mod pusher;
mod rows;
mod spiffe;
mod tokens;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use integration::tools::Release;
use sds_server::sds::check::{Against, CheckError, judge};
use spiffe_bridge::clock::Clock;

use bench::{Bench, good};
use pki::Pki;
use rows::{Row, Under};

const INTRODUCTION: &str = "# What Envoy does with a secret

Each secret was sent to a real Envoy by a server without a checker, on top of a good one, and then those came who should get in and those who should not. The last column is the checker's word
(`sds-server/src/sds/check.rs`): what it refuses is never sent. `integration/tests/matrix` makes this file and holds it: each row is run again on both releases, and nothing with which Envoy does harm passes the
checker, but for four rows that are meant. With `COUNTERSIGN_WRITE_MATRIX=1` the file is written anew.

The older release differs in a few rows, and in what its bootstraps can say: it has no way to drop statistics (use `countersign envoy bootstrap --no-receipts`, and it counts as \"acknowledged only\"), no on-demand
certificates, and no prefix for a header with a token, so that it cannot make `Authorization: Bearer` of one. What stands in a bootstrap it reads strictly: there a secret with a field that it does not know is refused.

After a NACK what was there before stays in use. Those who come: *web*, *other* and one *below an intermediate* have SVIDs under the root of `example.org`; the *second root's* under another root that some rows
trust; the *partner's* is of the domain `partner.test`. **Bold** are those who must never get in: no certificate, one that nobody trusts, an expired one. The listener asks for a client certificate.
*Peers* are clients of rustls, which take every kind of signature that it knows. An Envoy that is the peer takes Ed25519 and ML-DSA only where its `signature_algorithms` name them, as the bootstraps for such
keys do (`integration/tests/key_types.rs`); for P-521 there is no profile.
";

/// What may be sent all the same.
const MEANT: [&str; 4] = [
    // A client must be told to take these, as the bootstraps for such keys do, and the release must know them.
    "ML-DSA-44",
    "ML-DSA-65",
    // Sent only where no handshake would succeed without it.
    "the list of roots suppressed",
    // An identity that nobody may call.
    "a root and nobody",
];

/// The checker's word, at this moment.
fn verdict(pki: &Pki, row: &Row) -> Result<(), CheckError> {
    let name = row.under.name();
    let secret = Secret { name: name.to_owned(), r#type: row.content.clone() };
    let now = Clock::system().now();
    let validity = judge(secret, name, Against { bundle: Some(&pki.bundle), now })?.validity();
    match now {
        _ if now > validity.not_after => Err(CheckError::Expired),
        _ if now < validity.not_before => Err(CheckError::NotYetValid),
        _ => Ok(()),
    }
}

/// Whether it is what nobody wants: refused, open to those who must not get in, or shut to all.
fn does_harm(seen: &str) -> bool {
    let bad = [
        "NACK",
        "**",
        "nobody gets in",
        "peers refuse",
        "no handshake",
        "every request",
        "something else",
        "no header",
    ];
    bad.iter().any(|bad| seen.contains(bad))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_does_harm_passes_the_checker_and_both_releases_do_what_is_written() {
    let pki = Pki::new();
    let rows = rows::all(&pki);
    let mut seen: Vec<Vec<String>> = Vec::new();
    for release in Release::ALL {
        let bench = Bench::start(release, &pki, &rows).await;
        let mut of_release = Vec::new();
        for row in &rows {
            of_release.push(bench.observe(&pki, row, good(&rows, row.under)).await);
        }
        assert!(!bench.log().contains("Segmentation"), "{}", bench.log());
        seen.push(of_release);
    }
    let [older, newer] = seen.as_slice() else { panic!("two releases") };

    let mut wrong = Vec::new();
    let mut text = INTRODUCTION.to_owned();
    for under in Under::ALL {
        let [old, new] = Release::ALL.map(Release::version);
        write!(
            text,
            "\n## {}\n\n| secret | Envoy {new} | Envoy {old} | checker |\n|---|---|---|---|\n",
            under.title()
        )
        .unwrap();
        for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.under == under) {
            let verdict = verdict(&pki, row);
            if verdict.is_ok()
                && !MEANT.contains(&row.what)
                && (does_harm(&older[at]) || does_harm(&newer[at]))
            {
                wrong.push(format!("{under:?}, {}: passes, and {} / {}", row.what, newer[at], older[at]));
            }
            let word = match verdict {
                Ok(()) => "sent".to_owned(),
                Err(error) => format!("refused ({}): {error}", error.reason()),
            };
            let older = if older[at] == newer[at] { "the same" } else { &older[at] };
            writeln!(text, "| {} | {} | {older} | {word} |", row.what, newer[at]).unwrap();
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/envoy-matrix.md");
    if std::env::var_os("COUNTERSIGN_WRITE_MATRIX").is_some() {
        fs::write(&file, &text).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let written = fs::read_to_string(&file).unwrap_or_default();
    for (line, expected) in text.lines().zip(written.lines()) {
        assert_eq!(line, expected, "docs/envoy-matrix.md: seen, and written");
    }
    assert_eq!(text.lines().count(), written.lines().count());
}

#[test]
fn the_checker_passes_the_first_row_under_each_name() {
    let pki = Pki::new();
    let rows = rows::all(&pki);
    for under in Under::ALL {
        assert_eq!(verdict(&pki, good(&rows, under)), Ok(()), "{under:?}");
    }
}
