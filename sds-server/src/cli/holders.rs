//! `streams --not-holding`: who does not hold a version yet, and why; `streams forget`: who is let go.

use serde_json::{Value, json};
use spiffe_bridge::identity::Version;
use spiffe_bridge::roster::HolderKey;

use super::args::Format;
use super::client::Client;
use super::output::{Printer, escape};
use super::{Ended, Outcome};
use crate::admin::{Forget, Forgotten, Holders, NotHolding};

const COLUMNS: [&str; 10] =
    ["identities", "pid", "uid", "connected", "standing", "version", "since", "seen", "not_after", "why"];

pub(super) fn run(
    client: &Client,
    named: &str,
    acknowledged: bool,
    format: Format,
    out: &mut Printer,
) -> Ended {
    let (name, version) = split(named);
    let question = NotHolding { name: name.to_owned(), version: version.map(str::to_owned), acknowledged };
    let holders: Holders = client.post("/v1/holders/missing", &question).map_err(anyhow::Error::from)?;
    match format {
        Format::Table => text(&holders, out)?,
        Format::Json | Format::Yaml => out.structured(&holders, format)?,
    }
    Ok(if holders.complete { Outcome::Well } else { Outcome::Finding })
}

pub(super) fn forget(client: &Client, holder: &HolderKey, format: Format, out: &mut Printer) -> Ended {
    let request = Forget { holder: holder.to_string() };
    let forgotten: Forgotten = client.post("/v1/holders/forget", &request).map_err(anyhow::Error::from)?;
    match format {
        Format::Table => {
            let Forgotten { holder, identities, not_after } = &forgotten;
            let who = escape(&format!("{holder} ({})", identities.join(", ")));
            out.line(&match not_after {
                Some(end) => format!("{who} is forgotten; its last certificate is valid until {end}"),
                None => format!("{who} is forgotten; it had no certificate"),
            })?;
        }
        Format::Json | Format::Yaml => out.structured(&forgotten, format)?,
    }
    Ok(Outcome::Well)
}

/// `NAME@VERSION`; what stands behind the last `@` is a version if it can be read as one.
pub(super) fn split(named: &str) -> (&str, Option<&str>) {
    let is_version =
        |(_, text): &(&str, &str)| text.parse::<u64>().is_ok() || text.parse::<Version>().is_ok();
    named.rsplit_once('@').filter(is_version).map_or((named, None), |(name, version)| (name, Some(version)))
}

fn text(holders: &Holders, out: &mut Printer) -> anyhow::Result<()> {
    let Holders { name, wanted, members, missing, turned_away, feeds, .. } = holders;
    let name = escape(name);
    let version =
        wanted.as_ref().map_or("what it was sent last".to_owned(), |wanted| format!("version {wanted}"));
    if *turned_away > 0 {
        out.line(&format!("! the roster had no place {turned_away} times: this is not everybody"))?;
    }
    match (*members, missing.len()) {
        (0, 0) => out.line(&format!("no member of the roster has {name}: who holds it is unknown"))?,
        (1, 0) => out.line(&format!("the one member that has {name} holds {version}"))?,
        (members, 0) => out.line(&format!("all {members} members that have {name} hold {version}"))?,
        (members, count) => {
            let rows: Vec<Value> = missing.iter().map(row).collect();
            out.list(&rows, &COLUMNS, Format::Table)?;
            out.line(&format!("\n{count} do not hold {version} of {name}; members that have it: {members}"))?;
        }
    }
    if *feeds > 0 {
        out.line(&format!(
            "! {feeds} streams of the Workload and Broker APIs follow X.509 too, and are not counted: these APIs have no acknowledgement"
        ))?;
    }
    Ok(())
}

fn row(missing: &Value) -> Value {
    let field = |key: &str| missing.get(key).cloned().unwrap_or(Value::Null);
    let explained = field("refusal_explained");
    let of = |key: &str| explained.get(key).and_then(Value::as_str);
    let mut why = field("explained").as_str().unwrap_or_default().to_owned();
    if let (Some(meaning), Some(advice)) = (of("meaning"), of("advice")) {
        why += &format!(" ({meaning}: {advice})");
    }
    let mut row = serde_json::Map::new();
    for column in COLUMNS {
        row.insert(column.to_owned(), field(if column == "since" { "at" } else { column }));
    }
    row.insert("why".to_owned(), json!(why));
    Value::Object(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_stands_behind_the_last_at() {
        assert_eq!(split("ROOTCA"), ("ROOTCA", None));
        assert_eq!(split("ROOTCA@7"), ("ROOTCA", Some("7")));
        let whole = format!("7-{}", "0f".repeat(16));
        assert_eq!(split(&format!("ROOTCA@{whole}")), ("ROOTCA", Some(&*whole)));
        assert_eq!(split("jwt:ops@3com.example"), ("jwt:ops@3com.example", None));
        assert_eq!(split("jwt:who@example.org"), ("jwt:who@example.org", None));
    }
}
