//! `streams`, `bundle` and `audit`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::args::{BundleFormat, Format};
use super::client::Client;
use super::output::Printer;
use super::{Ended, Outcome};
use crate::admin::{Bundle, Records, Trail};

/// The columns that people look for first; all others follow.
const STREAM_COLUMNS: [&str; 13] = [
    "connection",
    "pid",
    "uid",
    "address",
    "certificate",
    "node",
    "protocol",
    "name",
    "state",
    "version",
    "acked_version",
    "nack",
    "withheld",
];

pub(super) fn streams(
    client: &Client,
    format: Format,
    only_not_acknowledged: bool,
    out: &mut Printer,
    err: &mut Printer,
) -> Ended {
    #[derive(Deserialize)]
    struct Streams {
        streams: Vec<Value>,
    }
    let Streams { mut streams } = client.get("/v1/streams").map_err(anyhow::Error::from)?;
    if only_not_acknowledged {
        streams.retain_mut(keep_not_acknowledged);
    }
    match format {
        Format::Table if streams.is_empty() => err.line(match only_not_acknowledged {
            true => "all that was sent is acknowledged",
            false => "no streams are open",
        })?,
        Format::Table => {
            let rows: Vec<Value> = streams.iter().flat_map(rows).collect();
            out.list(&rows, &STREAM_COLUMNS, format)?;
        }
        Format::Json | Format::Yaml => out.structured(&streams, format)?,
    }
    let is_finding = only_not_acknowledged && !streams.is_empty();
    Ok(if is_finding { Outcome::Finding } else { Outcome::Well })
}

/// Keeps the names of `stream` that something was sent for which is not acknowledged, and tells whether there
/// are any. A name that is not available has nothing to acknowledge, and the Workload API has no
/// acknowledgements.
fn keep_not_acknowledged(stream: &mut Value) -> bool {
    let Some(names) = stream.get_mut("names").and_then(Value::as_array_mut) else {
        return false;
    };
    let settled = [Some("acknowledged"), Some("proved_applied"), Some("not_available"), Some("assumed")];
    names.retain(|name| !settled.contains(&name.get("state").and_then(Value::as_str)));
    !names.is_empty()
}

/// One row for each name of `stream`; one without a name if it has asked for none yet.
fn rows(stream: &Value) -> Vec<Value> {
    let row = |name: Option<&Value>| {
        let of_stream = STREAM_COLUMNS.iter().filter_map(|key| Some((key, stream.get(key)?.clone())));
        let of_name = STREAM_COLUMNS.iter().filter_map(|key| Some((key, name?.get(key)?.clone())));
        let mut row: Map<String, Value> =
            of_stream.chain(of_name).map(|(key, value)| ((*key).to_owned(), value)).collect();
        if let Some(nack) = row.get("nack").and_then(in_words) {
            row.insert("nack".to_owned(), nack.into());
        }
        // Without its counters nothing more than a client's word will ever be known.
        let has_statistics = stream.get("statistics").and_then(Value::as_bool).unwrap_or_default();
        if row.get("state").and_then(Value::as_str) == Some("acknowledged") && !has_statistics {
            let unused = stream.get("statistics_unused").and_then(Value::as_str);
            let state = match unused {
                Some(why) => format!("acknowledged only: its statistics prove nothing: {why}"),
                None => "acknowledged only: no statistics sink".to_owned(),
            };
            row.insert("state".to_owned(), state.into());
        }
        Value::Object(row)
    };
    match stream.get("names").and_then(Value::as_array) {
        Some(names) if !names.is_empty() => names.iter().map(|name| row(Some(name))).collect(),
        _ => vec![row(None)],
    }
}

/// A refusal: its class, what it means, and what to do.
fn in_words(nack: &Value) -> Option<String> {
    let kind = nack.get("reason")?.get("kind")?.as_str()?;
    let of = |key: &str| nack.get("explained")?.get(key)?.as_str();
    Some(match (of("meaning"), of("advice")) {
        (Some(meaning), Some(advice)) => format!("{kind}: {meaning}; {advice}"),
        _ => kind.to_owned(),
    })
}

/// The columns of a record; what it says in particular is JSON.
const RECORD_COLUMNS: [&str; 5] = ["sequence", "time", "kind", "subject", "detail"];

pub(super) fn audit(
    client: &Client,
    trail: &Trail,
    format: Format,
    out: &mut Printer,
    err: &mut Printer,
) -> Ended {
    let found: Records = client.post("/v1/audit", trail).map_err(anyhow::Error::from)?;
    match format {
        Format::Table if found.records.is_empty() => {
            err.line(&format!("there is no such record from {} to {}", found.first, found.next))?;
        }
        Format::Table => out.list(&found.records, &RECORD_COLUMNS, format)?,
        Format::Json | Format::Yaml => out.structured(&found, format)?,
    }
    if found.next < found.end {
        err.line(&format!("there are more: go on with --from {}", found.next))?;
    }
    Ok(Outcome::Well)
}

pub(super) fn bundle(client: &Client, format: BundleFormat, out: &mut Printer) -> Ended {
    let bundle: Bundle = client.get("/v1/bundle").map_err(anyhow::Error::from)?;
    match format {
        BundleFormat::Pem => out.line(&bundle.pem)?,
        BundleFormat::Json => out.structured(&bundle, Format::Json)?,
        BundleFormat::Spiffe if bundle.spiffe.is_null() => {
            return Err(
                anyhow::anyhow!("the server is older than this command, and has no bundle document").into()
            );
        }
        BundleFormat::Spiffe => out.structured(&bundle.spiffe, Format::Json)?,
    }
    Ok(Outcome::Well)
}
