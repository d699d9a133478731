//! Documents as they are written: one form for all kinds, since YAML tells the kind only among the other keys.

use serde::Deserialize;
use serde_saphyr::{Location, Spanned};

/// The kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Workload,
    TrustDomain,
    Profile,
}

impl Kind {
    pub(super) fn of(text: &str) -> Option<Self> {
        match text {
            "Workload" => Some(Self::Workload),
            "TrustDomain" => Some(Self::TrustDomain),
            "Profile" => Some(Self::Profile),
            _ => None,
        }
    }
}

/// What every document has. Read first: a document of an unknown kind has unknown keys.
#[derive(Deserialize)]
pub(super) struct Head {
    pub(super) kind: Spanned<String>,
}

/// The keys of all kinds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) kind: Spanned<String>,
    pub(super) spiffe_id: Option<Spanned<String>>,
    pub(super) selectors: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) remote: Option<Spanned<bool>>,
    pub(super) dns_names: Option<Vec<Spanned<String>>>,
    pub(super) profile: Option<Spanned<String>>,
    pub(super) peers: Option<Vec<Spanned<String>>>,
    pub(super) hint: Option<Spanned<String>>,
    pub(super) trust_domain: Option<Spanned<String>>,
    pub(super) bundle: Option<Spanned<String>>,
    pub(super) crls: Option<Spanned<String>>,
    pub(super) name: Option<Spanned<String>>,
    pub(super) key_type: Option<Spanned<String>>,
    pub(super) lifetime: Option<Spanned<String>>,
}

impl Raw {
    /// The keys that are there and are another kind's, with their places; that of the kind where the value has none.
    pub(super) fn keys_not_of(&self, kind: Kind) -> Vec<(&'static str, Location)> {
        let text = |key, value: &Option<Spanned<String>>| value.as_ref().map(|v| (key, v.referenced));
        let list = |key, value: &Option<Vec<Spanned<String>>>| {
            let at = value.as_ref()?.first().map_or(self.kind.referenced, |first| first.referenced);
            Some((key, at))
        };
        let workload = [
            text("spiffe_id", &self.spiffe_id),
            self.selectors.as_ref().map(|s| ("selectors", s.referenced)),
            self.remote.as_ref().map(|remote| ("remote", remote.referenced)),
            list("dns_names", &self.dns_names),
            text("profile", &self.profile),
            list("peers", &self.peers),
            text("hint", &self.hint),
        ];
        let trust_domain = [
            text("trust_domain", &self.trust_domain),
            text("bundle", &self.bundle),
            text("crls", &self.crls),
        ];
        let profile =
            [text("name", &self.name), text("key_type", &self.key_type), text("lifetime", &self.lifetime)];
        let keys = [
            (Kind::Workload, workload.as_slice()),
            (Kind::TrustDomain, trust_domain.as_slice()),
            (Kind::Profile, profile.as_slice()),
        ];
        let others = keys.into_iter().filter(|(other, _)| *other != kind);
        others.flat_map(|(_, keys)| keys.iter().flatten().copied()).collect()
    }
}
