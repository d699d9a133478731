//! What the CLI prints: tables, JSON and YAML, safe for a terminal and for a pipe that closes.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::SystemTime;

use anyhow::Context as _;
use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::Value;

use super::args::Format;

mod time;

/// Where results go.
pub struct Printer(Box<dyn Write>);

impl Printer {
    /// To standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self(Box::new(io::stdout()))
    }

    /// To `writer`.
    #[must_use]
    pub fn to(writer: impl Write + 'static) -> Self {
        Self(Box::new(writer))
    }

    /// Prints `text` as it is, and ends the line if it does not.
    ///
    /// # Errors
    /// If it cannot be written; see [`is_broken_pipe`].
    pub fn line(&mut self, text: &str) -> anyhow::Result<()> {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        self.0.write_all(format!("{text}{end}").as_bytes())?;
        Ok(self.0.flush()?)
    }

    /// Prints `value` for machines.
    ///
    /// # Errors
    /// As [`Printer::line`].
    pub fn structured(&mut self, value: &impl Serialize, format: Format) -> anyhow::Result<()> {
        let text = match format {
            Format::Yaml => serde_saphyr::to_string(value).context("cannot write YAML")?,
            Format::Json | Format::Table => {
                serde_json::to_string_pretty(value).context("cannot write JSON")?
            }
        };
        self.line(&text)
    }

    /// Prints `rows`, objects, as `format`. A table has `columns` first, if any row has them, then all others.
    ///
    /// # Errors
    /// As [`Printer::line`].
    pub fn list(&mut self, rows: &[Value], columns: &[&str], format: Format) -> anyhow::Result<()> {
        match format {
            Format::Json | Format::Yaml => self.structured(&rows, format),
            Format::Table if rows.is_empty() => Ok(()),
            Format::Table => self.line(&table(rows, columns)),
        }
    }
}

/// Whether `error` only says that nobody reads on.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let of_io = error.downcast_ref::<io::Error>();
    of_io.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// `text` with everything escaped that a terminal would obey instead of showing: control characters, and
/// those that change the direction of writing.
#[must_use]
pub fn escape(text: &str) -> String {
    escape_except(text, &[])
}

/// As [`escape`], but for text of several lines.
#[must_use]
pub fn escape_lines(text: &str) -> String {
    escape_except(text, &['\n'])
}

fn escape_except(text: &str, kept: &[char]) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        let is_directing = matches!(c,
            '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if (c.is_control() || is_directing) && !kept.contains(&c) {
            let _ = write!(escaped, "{}", c.escape_default());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// One value on one line, for people: never JSON. Times tell how far off they are.
#[must_use]
pub fn cell(value: Option<&Value>) -> String {
    cell_at(value, SystemTime::now())
}

fn cell_at(value: Option<&Value>, now: SystemTime) -> String {
    let inner = |value: &Value| cell_at(Some(value), now);
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => time::for_people(text, now).unwrap_or_else(|| escape(text)),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Array(values)) if values.is_empty() => "-".to_owned(),
        Some(Value::Array(values)) => {
            let separator = if values.iter().any(Value::is_object) { "; " } else { "," };
            values.iter().map(inner).collect::<Vec<_>>().join(separator)
        }
        Some(Value::Object(map)) if map.is_empty() => "-".to_owned(),
        Some(Value::Object(map)) => {
            let pair = |(key, value): (&String, &Value)| {
                format!("{} {}", escape(key).replace('_', " "), inner(value))
            };
            map.iter().map(pair).collect::<Vec<_>>().join(", ")
        }
    }
}

fn table(rows: &[Value], columns: &[&str]) -> String {
    let has = |name: &str| rows.iter().any(|row| row.get(name).is_some());
    let mut names: Vec<&str> = columns.iter().copied().filter(|name| has(name)).collect();
    for key in rows.iter().filter_map(Value::as_object).flat_map(serde_json::Map::keys) {
        if !names.contains(&key.as_str()) {
            names.push(key);
        }
    }
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(names.iter().map(|name| escape(name).replace('_', " ").to_uppercase()));
    for row in rows {
        table.add_row(names.iter().map(|name| cell(row.get(name))));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_terminal_would_obey_is_shown_instead() {
        let check = |text, expected| assert_eq!(escape(text), expected);
        check("plain – ümläut", "plain – ümläut");
        check("\u{1b}[2Jgone\r\n", "\\u{1b}[2Jgone\\r\\n");
        check("a\u{9b}b\u{202e}c", "a\\u{9b}b\\u{202e}c");
    }

    #[test]
    fn a_cell_is_never_json() {
        let now = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(86_400);
        let check = |value, expected| assert_eq!(cell_at(Some(&value), now), expected);
        check(json!({"spiffe_id": "a", "ok": true, "none": null}), "none -, ok yes, spiffe id a");
        check(json!([{"a": 1}, {"a": [2, 3]}]), "a 1; a 2,3");
        check(json!([{}, []]), "-; -");
        check(json!({"at": "1970-01-02T01:00:00Z"}), "at 1970-01-02 01:00:00Z (in 1h)");
    }

    #[test]
    fn a_table_has_the_known_columns_first_and_loses_none() {
        let rows = [
            json!({"zone": 1, "name": "default", "peers": ["a", "b"]}),
            json!({"name": "x\ty", "nack_message": null}),
        ];
        let text = table(&rows, &["name", "absent"]);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split("  ").map(str::trim).collect()).collect();
        assert_eq!(lines[0].iter().filter(|cell| !cell.is_empty()).count(), 4, "{text}");
        assert!(text.starts_with("NAME"), "{text}");
        assert!(text.contains("default  a,b") || text.contains("a,b"), "{text}");
        assert!(text.contains("x\\ty"), "{text}");
    }
}
