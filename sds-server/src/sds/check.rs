//! The checker: nothing goes to Envoy that Envoy would refuse, or accept and fail open. Invariant 6, XD-26.
//!
//! ```text
//! Secret, its name ─► judge ─┬─ tls      chain and key               ┐
//!                            ├─ context  roots ─ spiffe ─ matchers   ├─► Checked ─► secret::encode
//!                            └─ token    generic secrets             ┘
//! ```
//!
//! It judges the message itself, whatever made it, and lets through only what we mean to send: every field that is not
//! named here must be empty, and a new field of the message does not compile until it is named. [`Checked`] is made
//! nowhere else, and nothing else can be encoded. What Envoy does with what is refused: docs/envoy-matrix.md.
//!
//! Pure, and run once a secret. What depends on time comes out as a [`Validity`], which is looked at before each sending.

mod context;
mod error;
mod matchers;
pub(super) mod roots;
mod spiffe;
mod tls;
mod token;

use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use prost::Message;
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::TrustBundle;
use spiffe_bridge::x509::Validity;
use zeroize::Zeroize;

pub use error::CheckError;

use super::names::Name;

/// The greatest secret, encoded, in bytes: what gRPC clients take in one message. 5,000 roots are 2.8 MB.
pub const MAX_SECRET_BYTES: usize = 4 * 1024 * 1024;

/// A secret that passed. Its key is wiped when it is dropped.
pub struct Checked {
    secret: Wiped,
    validity: Validity,
}

/// What a secret is judged by, beside its name.
#[derive(Debug, Clone, Copy)]
pub struct Against<'a> {
    /// The bundle of the caller's own trust domain: chains must lead to one of its roots.
    pub bundle: Option<&'a TrustBundle>,
    /// Now.
    pub now: Timestamp,
}

/// Judges `secret` for being sent under `name`.
///
/// # Errors
/// The first [`CheckError`] found. The secret is gone then, its key wiped.
pub fn judge(secret: Secret, name: &str, against: Against<'_>) -> Result<Checked, CheckError> {
    let secret = Wiped(secret);
    // "Unexpected SDS secret" in delta; in SotW it would be another name's (envoy-sds.md §2.3).
    if secret.0.name != name {
        return Err(CheckError::Name);
    }
    if secret.0.encoded_len() > MAX_SECRET_BYTES {
        return Err(CheckError::TooLarge);
    }
    let name = Name::parse(name).ok_or(CheckError::Name)?;
    let validity = match (&name, &secret.0.r#type) {
        (Name::Default | Name::Svid { .. } | Name::Dns { .. }, Some(Type::TlsCertificate(tls))) => {
            tls::check(tls, name, against)?
        }
        (
            Name::OwnRoots | Name::Bundle { .. } | Name::All | Name::Peers { .. } | Name::Upstream { .. },
            Some(Type::ValidationContext(context)),
        ) => context::check(context, name)?,
        (Name::Token { audience }, Some(Type::GenericSecret(generic))) => token::check(generic, audience)?,
        // Under a bundle's name Envoy accepts another type and then lets everybody in (envoy-sds.md §0.1). Ticket keys
        // have no name at all.
        _ => return Err(CheckError::WrongType),
    };
    Ok(Checked { secret, validity })
}

impl Checked {
    /// What passed. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose_secret(&self) -> &Secret {
        &self.secret.0
    }

    /// When it may be sent: while its chain is valid, or at least one of its roots, and every CRL is current.
    #[must_use]
    pub fn validity(&self) -> Validity {
        self.validity
    }
}

/// All of time.
const ALWAYS: Validity =
    Validity { not_before: Timestamp::from_unix_millis(0), not_after: Timestamp::from_unix_millis(u64::MAX) };

/// The content of a source that is carried along. A file or a variable would be read by Envoy, at a time and from a
/// place that we know nothing of; an empty one breaks a rule of the message, whose NACK prints the key (§0.4).
fn inline(source: &DataSource) -> Result<&[u8], CheckError> {
    let DataSource { watched_directory: None, specifier: Some(Specifier::InlineBytes(bytes)) } = source
    else {
        return Err(CheckError::Source);
    };
    if bytes.is_empty() { Err(CheckError::Source) } else { Ok(bytes) }
}

/// `Err` if a field holds something that is never sent.
fn absent(is_absent: bool) -> Result<(), CheckError> {
    if is_absent { Ok(()) } else { Err(CheckError::Field) }
}

struct Wiped(Secret);

impl Drop for Wiped {
    fn drop(&mut self) {
        let source = match &mut self.0.r#type {
            Some(Type::TlsCertificate(tls)) => tls.private_key.as_mut(),
            Some(Type::GenericSecret(generic)) => generic.secret.as_mut(),
            _ => None,
        };
        match source.and_then(|source| source.specifier.as_mut()) {
            Some(Specifier::InlineBytes(bytes)) => bytes.zeroize(),
            Some(Specifier::InlineString(text)) => text.zeroize(),
            _ => {}
        }
    }
}
