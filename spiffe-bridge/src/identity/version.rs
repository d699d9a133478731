//! Versions: the revision of the newest ingredient, and the hash of the content.

use std::fmt;

use aws_lc_rs::digest;

/// A point in the store's history. Only ever rises. rotation.md, "Roster".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize)]
pub struct Revision(pub u64);

/// The first 16 bytes of the SHA-256 of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ContentHash([u8; 16]);

impl ContentHash {
    /// Hashes `parts`, each with its length, so that no two lists of parts give the same bytes.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut hash = [0; 16];
        for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(hash)
    }
}

/// A text is no version or hash of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a version: <revision>-<content hash, 32 hexadecimal digits>")]
pub struct NotAVersion;

impl std::str::FromStr for ContentHash {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).map_err(|_| NotAVersion)?;
        bytes.try_into().map(Self).map_err(|_| NotAVersion)
    }
}

/// `<revision>-<content hash>`: the same after a restart and on another replica. An unchanged secret
/// keeps its version, and a version never goes back (invariant 10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version {
    /// That of the newest ingredient in the store.
    pub revision: Revision,
    /// Of all that is sent under this version.
    pub hash: ContentHash,
}

/// Lower-case hexadecimal.
impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.revision.0, self.hash)
    }
}

impl std::str::FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let (revision, hash) = text.split_once('-').ok_or(NotAVersion)?;
        let revision = revision.parse().map_err(|_| NotAVersion)?;
        Ok(Self { revision: Revision(revision), hash: hash.parse()? })
    }
}

impl serde::Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_tells_where_one_part_ends() {
        assert_ne!(ContentHash::of(&[b"ab", b"c"]), ContentHash::of(&[b"a", b"bc"]));
    }

    #[test]
    fn a_version_prints_as_revision_and_hash() {
        let version = Version { revision: Revision(7), hash: ContentHash([0xab; 16]) };
        assert_eq!(version.to_string(), format!("7-{}", "ab".repeat(16)));
        assert_eq!(version.to_string().parse(), Ok(version));
        for other in
            ["", "7", "7-", "7-ab", "x-abababababababababababababababab", "-abababababababababababababababab"]
        {
            assert_eq!(other.parse::<Version>(), Err(NotAVersion), "{other}");
        }
    }
}
