//! The file as it is written: every key optional, none unknown.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Attestors, Authority, Renewal, Roster};
use crate::{broker_api, endpoint, sds, telemetry, workload_api};

/// More than any configuration has; a mistaken path to a device or an image ends here.
const MAX_BYTES: u64 = 1024 * 1024;

/// The configuration file.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// The trust domain that is served, such as `example.org`. The only key without a default.
    pub trust_domain: Option<String>,
    /// The directory of keys, store and admin socket.
    pub data: Option<PathBuf>,
    /// The directory of entry documents.
    pub entries: Option<PathBuf>,
    /// The API socket.
    pub socket: Option<PathBuf>,
    /// How long certificates live.
    pub authority: Authority,
    /// When SVIDs are renewed.
    pub renewal: Renewal,
    /// Who is asked about callers.
    pub attestors: Attestors,
    /// Who counts as a holder.
    pub roster: Roster,
    /// What callers may take.
    pub limits: endpoint::Config,
    /// The door to the network, for callers with certificates.
    pub remote: endpoint::tls::Config,
    /// What SDS clients may make the server keep.
    pub sds: sds::Limits,
    /// What clients of the Workload API are served, and may make the server keep.
    pub workload_api: workload_api::Config,
    /// The socket for brokers, which act for workloads.
    pub broker: broker_api::Config,
    /// What is logged, and how.
    pub log: telemetry::logs::Config,
    /// Where metrics can be read.
    pub metrics: telemetry::metrics::Config,
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read the configuration {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is larger than any configuration.
    #[error("the configuration {path:?} is larger than 1 MiB")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is not a configuration.
    #[error("{}:{place}: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: Place,
        /// What is wrong there.
        message: String,
    },
}

/// A line and a column, from 1; 0 if the parser could not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: u64,
    /// The column.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl File {
    /// Reads and parses `path`.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let failed = |source| FileError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(FileError::TooLarge { path: path.to_owned() });
        }
        let not_utf8 = |_| failed(std::io::Error::other("not UTF-8: save it as UTF-8"));
        let text = String::from_utf8(bytes).map_err(not_utf8)?;
        Self::parse(&text, path)
    }

    /// Parses `text`, which came from `path`. A text of comments alone is the defaults.
    ///
    /// # Errors
    /// [`FileError::Parse`], with the place.
    pub fn parse(text: &str, path: &Path) -> Result<Self, FileError> {
        let is_empty = |line: &str| matches!(line.trim().chars().next(), None | Some('#'));
        if text.lines().all(is_empty) {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| {
            let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
            let message = in_our_words(&error.without_snippet().to_string(), line, column);
            FileError::Parse { path: path.to_owned(), place: Place { line, column }, message }
        })
    }
}

/// The parser's message without the place, which the error tells itself, and without advice to programmers.
fn in_our_words(message: &str, line: u64, column: u64) -> String {
    let message = message.replace(&format!(" at line {line}, column {column}"), "");
    if message.starts_with("multiple YAML documents") {
        return "a second document: the configuration is one, remove the other".to_owned();
    }
    if let Some((message, _)) = message.split_once(", set DuplicateKeyPolicy") {
        return format!("{message}: remove one");
    }
    match message.as_str() {
        "invalid socket address syntax" => "not an address: write IP:PORT, such as 127.0.0.1:9464".to_owned(),
        "invalid u32" => format!("not a number that it can be: write a whole one from 0 to {}", u32::MAX),
        "invalid u64" => "not a number that it can be: write a whole one, from 0".to_owned(),
        "invalid floating point" => "not a number: write one such as 0.5".to_owned(),
        "invalid boolean" => "write true or false".to_owned(),
        "expected sequence start" => "write a list, such as [one, another]".to_owned(),
        _ => message,
    }
}
