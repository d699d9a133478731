//! The sections that configure the library: it reads no file, so that their keys live here.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use spiffe_bridge::authority::MAX_AUDIENCES;
use spiffe_bridge::jose::Algorithm;

use spiffe_bridge::authority::Hierarchy;
use spiffe_bridge::clock::duration;
use spiffe_bridge::keys::KeyType;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// How long certificates live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authority {
    /// The type of the CA keys that init makes.
    pub key_type: KeyType,
    /// Which CA signs leaves: the root, or an issuing CA below it. For init alone, too.
    pub hierarchy: Hierarchy,
    /// Lifetime of a root certificate.
    #[serde(with = "duration")]
    pub root_lifetime: Duration,
    /// Lifetime of an X.509-SVID, unless the entry's profile says otherwise.
    #[serde(with = "duration")]
    pub leaf_lifetime: Duration,
    /// The algorithm of the key that signs JWT-SVIDs, when it is made: ES256, ES384, RS256, … PS512.
    #[serde(deserialize_with = "signs")]
    pub jwt_algorithm: Algorithm,
    /// Lifetime of a JWT-SVID.
    #[serde(with = "duration")]
    pub jwt_lifetime: Duration,
    /// The most audiences of one JWT-SVID: each can use it at all others.
    pub jwt_audiences: usize,
    /// As `jwt_algorithm`, for WIT-SVIDs.
    #[serde(deserialize_with = "signs")]
    pub wit_algorithm: Algorithm,
    /// Lifetime of a WIT-SVID.
    #[serde(with = "duration")]
    pub wit_lifetime: Duration,
    /// How far notBefore lies in the past, for peers whose clocks are late.
    #[serde(with = "duration")]
    pub backdate: Duration,
}

impl Default for Authority {
    fn default() -> Self {
        Self {
            key_type: KeyType::default(),
            hierarchy: Hierarchy::default(),
            root_lifetime: Duration::from_secs(365 * DAY),
            leaf_lifetime: Duration::from_secs(HOUR),
            jwt_algorithm: Algorithm::default(),
            jwt_lifetime: Duration::from_secs(5 * MINUTE),
            jwt_audiences: 4,
            wit_algorithm: Algorithm::default(),
            wit_lifetime: Duration::from_secs(HOUR),
            backdate: Duration::from_secs(5 * MINUTE),
        }
    }
}

/// When SVIDs are renewed, in shares of their lifetime.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Renewal {
    /// The share after which an SVID is renewed.
    pub at: f64,
    /// The share by which that varies at random, earlier or later, so that not all are renewed at once.
    pub spread: f64,
}

impl Default for Renewal {
    fn default() -> Self {
        Self { at: 0.5, spread: 0.1 }
    }
}

/// Who counts as a holder, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Roster {
    /// How long a client that was given no certificate, and only verifies those of others, counts after it was last
    /// seen: a change of roots waits for it so long.
    #[serde(with = "duration")]
    pub verifier_lease: Duration,
}

impl Default for Roster {
    fn default() -> Self {
        Self { verifier_lease: Duration::from_secs(DAY) }
    }
}

impl Authority {
    /// What does not fit together, as key and advice.
    pub(super) fn problems(&self, found: &mut Vec<(&'static str, String)>) {
        let mut check = |key, is_right: bool, advice: String| {
            if !is_right {
                found.push((key, advice));
            }
        };
        let text = duration::format;
        let (root, leaf) = (self.root_lifetime, self.leaf_lifetime);
        // Certificates count in seconds.
        let (jwt, wit) = (self.jwt_lifetime, self.wit_lifetime);
        let whole =
            [root, leaf, self.backdate, jwt, wit].iter().all(|duration| duration.subsec_millis() == 0);
        check("authority", whole, "certificates count in whole seconds: no ms here".to_owned());
        check("authority.leaf_lifetime", leaf.as_secs() >= 1, "it must be at least 1s".to_owned());
        check(
            "authority.leaf_lifetime",
            leaf < root,
            format!("{} is not shorter than authority.root_lifetime, {}", text(leaf), text(root)),
        );
        check("authority.jwt_lifetime", jwt.as_secs() >= 1, "it must be at least 1s".to_owned());
        check("authority.wit_lifetime", wit.as_secs() >= 1, "it must be at least 1s".to_owned());
        check(
            "authority.jwt_audiences",
            (1..=MAX_AUDIENCES).contains(&self.jwt_audiences),
            format!("it must be between 1 and {MAX_AUDIENCES}"),
        );
        check(
            "authority.root_lifetime",
            root.as_secs() <= 100 * 365 * DAY,
            format!("{} is more than a century: at most 36500d", text(root)),
        );
        check(
            "authority.backdate",
            self.backdate < root,
            format!("{} is not shorter than authority.root_lifetime", text(self.backdate)),
        );
    }
}

/// An algorithm that a key of ours signs with: not every one that is verified.
fn signs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Algorithm, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().ok().filter(|algorithm: &Algorithm| algorithm.signing().is_some()).ok_or_else(|| {
        let known = Algorithm::ALL.iter().filter(|algorithm| algorithm.signing().is_some());
        let known: Vec<_> = known.map(|algorithm| algorithm.as_str()).collect();
        serde::de::Error::custom(format!("no key signs with {text:?} here: write {}", known.join(", ")))
    })
}

impl Renewal {
    /// What does not fit together, as key and advice.
    pub(super) fn problems(&self, found: &mut Vec<(&'static str, String)>) {
        let Self { at, spread } = *self;
        // Written so that NaN fails too.
        if !(at > 0.0 && at < 1.0) {
            found.push((
                "renewal.at",
                format!("{at} is not between 0 and 1: 0.5 renews at half of the lifetime"),
            ));
        } else if !(spread >= 0.0 && at - spread > 0.0 && at + spread < 1.0) {
            let advice = format!(
                "{spread} is too wide: renewal.at - spread must stay above 0, renewal.at + spread below 1"
            );
            found.push(("renewal.spread", advice));
        }
    }
}
