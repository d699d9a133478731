//! Profiles: how the SVIDs of the entries that name one are made.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::clock::duration;
use crate::keys::KeyType;

/// The profile of entries that name none. There always is one; a document may say what it is.
pub const DEFAULT_PROFILE: &str = "default";

/// What a `Profile` document says, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// What entries call it. Once in a directory.
    pub name: String,
    /// How it makes SVIDs.
    #[serde(flatten)]
    pub terms: Terms,
    /// The name of the file that it stands in.
    pub source: Arc<str>,
}

/// All that a profile decides. The default is that of a server without `Profile` documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Terms {
    /// The type of the workload's key.
    pub key_type: KeyType,
    /// How long an SVID is valid; `None` for as long as the authority's configuration says.
    #[serde(serialize_with = "as_text")]
    pub lifetime: Option<Duration>,
}

fn as_text<S: serde::Serializer>(lifetime: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match lifetime {
        Some(lifetime) => serializer.serialize_some(&duration::format(*lifetime)),
        None => serializer.serialize_none(),
    }
}
