//! What an authority is told, and what it is asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::identity::{SpiffeId, TrustDomain};
use crate::jose::Algorithm;
use crate::keys::{KeyType, PublicKey};

/// How an authority issues.
#[derive(Debug, Clone)]
pub struct Config {
    /// Whose SVIDs it signs. Fixed for the life of the store.
    pub trust_domain: TrustDomain,
    /// The type of the CA keys that init makes. An authority that exists keeps its own.
    pub key_type: KeyType,
    /// What init makes: a root that signs leaves, or an issuing CA below it too. An authority that exists keeps its own.
    pub hierarchy: Hierarchy,
    /// How long a new root is valid, from its making. A year.
    pub root_lifetime: Duration,
    /// How long a leaf is valid that asks for nothing else. An hour.
    pub leaf_lifetime: Duration,
    /// The longest that a leaf may ask for; what is longer is shortened to it. A day.
    pub longest_leaf_lifetime: Duration,
    /// How far notBefore lies in the past, for peers whose clocks are slow. Five minutes.
    pub backdate: Duration,
    /// The algorithm of the key that signs JWT-SVIDs, when it is made. Not ES512. An authority that has one keeps it.
    pub jwt_algorithm: Algorithm,
    /// How long a JWT-SVID is valid. Five minutes: it is nobody's but its bearer's.
    pub jwt_lifetime: Duration,
    /// The most audiences of one JWT-SVID: each can use it at all others. At most [`super::MAX_AUDIENCES`].
    pub jwt_audiences: usize,
    /// As `jwt_algorithm`, for WIT-SVIDs.
    pub wit_algorithm: Algorithm,
    /// How long a WIT-SVID is valid. An hour.
    pub wit_lifetime: Duration,
    /// How long the record of a reservation is kept after its last leaf has expired. Seven days.
    pub retention: Duration,
}

impl Config {
    /// The safe defaults for `trust_domain`.
    #[must_use]
    pub fn new(trust_domain: TrustDomain) -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            trust_domain,
            key_type: KeyType::default(),
            hierarchy: Hierarchy::default(),
            root_lifetime: HOUR * 24 * 365,
            leaf_lifetime: HOUR,
            longest_leaf_lifetime: HOUR * 24,
            backdate: Duration::from_secs(300),
            jwt_algorithm: Algorithm::default(),
            jwt_lifetime: Duration::from_secs(300),
            jwt_audiences: 4,
            wit_algorithm: Algorithm::default(),
            wit_lifetime: HOUR,
            retention: HOUR * 24 * 7,
        }
    }
}

/// Which CA signs leaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hierarchy {
    /// The root itself.
    #[default]
    Root,
    /// An issuing CA, whose certificate the root signed once; leaves come with it, and the bundle has the root alone.
    Intermediate,
}

impl Hierarchy {
    /// How many CA certificates stand between root and leaf.
    #[must_use]
    pub const fn depth(self) -> u8 {
        match self {
            Self::Root => 0,
            Self::Intermediate => 1,
        }
    }
}

/// What one leaf is to say. That the caller is entitled to it was decided before.
#[derive(Debug, Clone)]
pub struct LeafRequest {
    /// Whom it names.
    pub spiffe_id: SpiffeId,
    /// DNS names besides.
    pub dns_names: Vec<String>,
    /// The workload's public key. One that came from elsewhere was parsed where it came in.
    pub public_key: PublicKey,
    /// How long it is to be valid; [`Config::leaf_lifetime`] if it does not say.
    pub lifetime: Option<Duration>,
}
