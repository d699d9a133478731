//! The metrics: each is described, counters are there from the start, and the documents know them all.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use sds_server::{app, endpoint, telemetry};
use serde_json::Value;

/// The names in `text` that stand between `mark` and what cannot belong to a name.
fn names(text: &str, mark: char) -> BTreeSet<String> {
    let start = format!("{mark}countersign_");
    let rest = text.split(&start).skip(1);
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    rest.map(|rest| format!("countersign_{}", rest.split(|c| !is_name(c)).next().unwrap())).collect()
}

/// The names that the code of `directory` counts under.
fn counted(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            counted(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs")
            && !path.ends_with("app/metrics.rs")
            && !path.ends_with("tests.rs")
        {
            let text = fs::read_to_string(&path).unwrap();
            found.extend(names(text.split("#[cfg(test)]").next().unwrap(), '"'));
        }
    }
}

/// The rows of the table in docs/operations.md: name to type.
fn documented() -> BTreeMap<String, String> {
    let text = fs::read_to_string("../docs/operations.md").unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `countersign_"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        (format!("countersign_{}", cells[0].trim_end_matches('`')), cells[1].to_owned())
    })
    .collect()
}

#[test]
fn code_document_and_descriptions_tell_of_the_same_metrics() {
    let mut used = BTreeSet::new();
    for krate in ["src", "../spiffe-bridge/src"] {
        counted(Path::new(krate), &mut used);
    }
    assert!(used.len() > 25, "{used:?}");
    let documented = documented();
    assert_eq!(documented.keys().cloned().collect::<BTreeSet<_>>(), used, "docs/operations.md");

    let metrics = telemetry::metrics::install().unwrap();
    endpoint::describe();
    app::describe_metrics();
    let start = metrics.render();
    for name in documented.iter().filter(|(_, kind)| *kind == "counter").map(|(name, _)| name) {
        let values: Vec<_> = start
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .map(|line| line.rsplit(' ').next().unwrap())
            .collect();
        assert!(!values.is_empty() && values.iter().all(|value| *value == "0"), "{name}: {values:?}");
    }
    for (name, _) in documented.iter().filter(|(_, kind)| *kind == "histogram") {
        ::metrics::histogram!(name.clone()).record(1.0);
    }
    let text = metrics.render();
    for (name, kind) in &documented {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} is not described");
        assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} is no {kind}");
    }
}

#[test]
fn every_alert_stands_on_a_metric_that_exists_and_is_explained() {
    let text = fs::read_to_string("../docs/alerts.yml").unwrap();
    let known = documented();
    let operations = fs::read_to_string("../docs/operations.md").unwrap();
    let document: Value = serde_saphyr::from_str(&text).unwrap();
    let rules = document["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() >= 7);
    let mut asked = BTreeSet::new();
    for rule in rules {
        let of = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{rule}")).to_owned();
        let (alert, expression) = (of(&rule["alert"]), of(&rule["expr"]));
        for text in [&rule["for"], &rule["annotations"]["summary"], &rule["annotations"]["description"]] {
            of(text);
        }
        assert!(["critical", "warning"].contains(&of(&rule["labels"]["severity"]).as_str()), "{alert}");
        assert!(operations.contains(&format!("| `{alert}` |")), "{alert} is not explained");
        asked.extend([' ', '('].iter().flat_map(|mark| names(&format!(" {expression}"), *mark)));
    }
    assert!(asked.len() >= 7, "{asked:?}");
    for name in asked {
        assert!(known.contains_key(&name), "{name} is asked for and does not exist");
    }
}
