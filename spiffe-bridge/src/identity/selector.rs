//! Selectors: what was seen of a process, in SPIRE's spelling (`unix:uid:1001`).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// One attested property: the attestor that vouches for it and its value, `unix` and `uid:1001`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    text: Arc<str>,
    colon: usize,
}

/// The set of selectors that a caller has, or that an entry asks for.
pub type SelectorSet = BTreeSet<Selector>;

/// Why a text is not a selector.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
#[error("{text:?} is not a selector: write attestor:key:value, such as unix:uid:1001")]
pub struct SelectorError {
    text: String,
}

/// The longest selector, in bytes: a path of PATH_MAX and its prefix.
const MAX_BYTES: usize = 4096 + 64;

impl Selector {
    /// The selector `kind:key:value`. The caller vouches that `kind` and `key` hold no colon.
    #[must_use]
    pub fn new(kind: &str, key: &str, value: impl fmt::Display) -> Self {
        Self { text: format!("{kind}:{key}:{value}").into(), colon: kind.len() }
    }

    /// The attestor that vouches for it, such as `unix`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text.get(..self.colon).unwrap_or_default()
    }

    /// All that follows the attestor, such as `uid:1001`.
    #[must_use]
    pub fn value(&self) -> &str {
        self.text.get(self.colon + 1..).unwrap_or_default()
    }

    /// The whole selector, such as `unix:uid:1001`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || SelectorError { text: text.chars().take(256).collect() };
        let (kind, rest) = text.split_once(':').ok_or_else(refuse)?;
        let (key, value) = rest.split_once(':').ok_or_else(refuse)?;
        let plain = |s: &str| {
            !s.is_empty()
                && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b))
        };
        let whole = !value.is_empty() && !value.chars().any(char::is_control) && text.len() <= MAX_BYTES;
        if plain(kind) && plain(key) && whole {
            Ok(Self { text: text.into(), colon: kind.len() })
        } else {
            Err(refuse())
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl serde::Serialize for Selector {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_split_at_the_attestor() {
        let selector: Selector = "unix:path:/usr/bin/a:b".parse().unwrap();
        assert_eq!((selector.kind(), selector.value()), ("unix", "path:/usr/bin/a:b"));
        assert_eq!(selector, Selector::new("unix", "path", "/usr/bin/a:b"));
    }

    #[test]
    fn what_is_not_a_selector_is_refused() {
        for text in ["", "unix", "unix:uid", "unix:uid:", ":uid:1", "unix::1", "Unix:uid:1", "unix:uid:1\n"] {
            assert!(text.parse::<Selector>().is_err(), "{text:?}");
        }
    }
}
