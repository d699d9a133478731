//! Logs to standard error, as lines for people or as JSON for machines.

use std::io::IsTerminal as _;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// How a log record is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least severity that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `text` (default) or `json`.
    pub format: Format,
    /// `error`, `warn`, `info` (default), `debug` or `trace`.
    pub level: Level,
    /// Levels by module, as `RUST_LOG` spells them, such as `info,sds_server::sds=debug`; instead of `level`.
    pub filter: Option<String>,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration's filter cannot be read.
    #[error("log.filter {filter:?} cannot be read")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody else installed a subscriber before.
    #[error("logging is already set up")]
    AlreadySet(#[source] tracing_subscriber::util::TryInitError),
}

impl Config {
    /// The filter that this configuration means.
    ///
    /// # Errors
    /// [`Error::Filter`].
    pub fn env_filter(&self) -> Result<EnvFilter, Error> {
        let level = match self.level {
            Level::Error => "error",
            // The HTTP/2 library warns of each connection that it closes for a flood: a peer would write our log.
            Level::Warn => "warn,h2=error",
            Level::Info => "info,h2=error",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        let filter = self.filter.as_deref().unwrap_or(level);
        EnvFilter::builder()
            .parse(filter)
            .map_err(|source| Error::Filter { filter: filter.to_owned(), source })
    }
}

/// Installs the process's subscriber. Colours only where standard error is a terminal. A record that cannot
/// be written (a full disk, a reader that went away) is lost, and nothing else.
///
/// # Errors
/// [`Error`].
pub fn init(config: &Config) -> Result<(), Error> {
    use tracing_subscriber::util::SubscriberInitExt as _;

    let builder = tracing_subscriber::fmt()
        .with_env_filter(config.env_filter()?)
        .with_writer(std::io::stderr)
        // It would be told on standard error, by a macro that panics if that is what cannot be written.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    match config.format {
        Format::Text => builder.finish().try_init(),
        Format::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .map_err(Error::AlreadySet)
}
