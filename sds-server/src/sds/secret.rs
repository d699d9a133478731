//! From what a caller holds to the secret of a name: checked, and encoded once for all streams.

use std::sync::{Arc, Once};

use bytes::Bytes;
use data_encoding::BASE64;
use envoy_types::pb::envoy::config::core::v3::DataSource;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, Secret, TlsCertificate,
};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, string};
use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::{
    ContentHash, Identity, Revision, SpiffeId, Trust, TrustBundle, Version, WorkloadUpdate, X509Svid,
};
use zeroize::{Zeroize, Zeroizing};

use super::check::{self, CheckError};
use super::names::Name;
use super::trust;

/// The one type that this service serves. XD-02.
pub const TYPE_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// A secret as it goes over the wire, shared by every stream that sends it.
pub struct Resource {
    name: Box<str>,
    version: Version,
    version_text: Box<str>,
    not_after: Option<Timestamp>,
    any: Bytes,
    expiry_reported: Once,
}

/// What a caller gets for a name at this moment.
#[derive(Debug)]
pub enum Lookup {
    /// This secret.
    Available(Arc<Resource>),
    /// No such name, not the caller's, or not yet: one answer for the three (invariant 7).
    NotAvailable,
    /// It is the caller's, but would do harm: it failed its check or has expired. Nothing is said of it, so
    /// that the last good one stays in use (invariant 3).
    Withheld,
}

impl Resource {
    /// The name that it is served under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Revision of the ingredient, hash of the encoded secret: the same after a restart. XD-07.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// The version as it is sent.
    #[must_use]
    pub fn version_text(&self) -> &str {
        &self.version_text
    }

    /// The encoded `google.protobuf.Any`, private key included. Whoever calls this answers for where it goes.
    #[must_use]
    pub fn expose_any(&self) -> &Bytes {
        &self.any
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        let fresh = self.not_after.is_none_or(|end| now <= end);
        if !fresh {
            // Once a secret, not once a stream.
            self.expiry_reported.call_once(|| {
                tracing::error!(name = %self.name, version = %self.version, "secret not sent: it has expired");
            });
        }
        fresh
    }
}

impl std::fmt::Debug for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Resource({} {})", self.name, self.version)
    }
}

/// Finds what `name` means for a caller who holds `update`.
#[must_use]
pub fn look_up(update: &WorkloadUpdate, name: &str, now: Timestamp) -> Lookup {
    let svid = |identity: &Identity| found(of_svid(&identity.svid, name), now);
    let bundle = |bundle: &Arc<TrustBundle>| found(of_bundle(bundle, name), now);
    let trust = |trust: &Arc<Trust>| found(trust::secret(trust, name), now);
    let answer = match Name::parse(name) {
        Some(Name::Default) => update.identities.first().map(svid),
        Some(Name::Svid { trust_domain, path }) => {
            let key = |i: &Identity| {
                let id = &i.svid.spiffe_id;
                (id.trust_domain_name(), id.path()).cmp(&(trust_domain, path))
            };
            // Sorted by SPIFFE ID, says WorkloadUpdate.
            let at = update.identities.binary_search_by(key).ok();
            at.and_then(|at| update.identities.get(at)).map(svid)
        }
        Some(Name::OwnRoots) => update.bundle.as_ref().map(bundle),
        Some(Name::Bundle { trust_domain }) => {
            let own = update.bundle.iter();
            let all = own.chain(update.reach.all.iter().flat_map(|all| &all.bundles));
            all.into_iter().find(|b| b.trust_domain.as_str() == trust_domain).map(bundle)
        }
        Some(Name::All) => update.reach.all.as_ref().map(trust),
        Some(Name::Peers { of: None }) => {
            let first = update.identities.first();
            first.and_then(|first| update.reach.callers.get(&first.svid.spiffe_id)).map(trust)
        }
        Some(Name::Peers { of: Some(id) }) => {
            let id = SpiffeId::new(id).ok();
            id.and_then(|id| update.reach.callers.get(&id)).map(trust)
        }
        Some(Name::Upstream { name }) => update.reach.upstreams.get(name).map(trust),
        None => None,
    };
    answer.unwrap_or(Lookup::NotAvailable)
}

fn found(resource: Option<Arc<Resource>>, now: Timestamp) -> Lookup {
    resource.filter(|r| r.is_fresh(now)).map_or(Lookup::Withheld, Lookup::Available)
}

fn of_svid(svid: &X509Svid, name: &str) -> Option<Arc<Resource>> {
    let derive = || {
        reported(name, check::svid(svid)).then(|| {
            let chain = pem(svid.chain.iter().map(AsRef::as_ref), "CERTIFICATE");
            let key = pem([svid.key.expose_pkcs8()].into_iter(), "PRIVATE KEY");
            let tls = TlsCertificate {
                certificate_chain: Some(inline(chain)),
                private_key: Some(inline(key)),
                ..TlsCertificate::default()
            };
            encode(name, Type::TlsCertificate(tls), svid.version.revision, Some(svid.not_after))
        })
    };
    (*svid.memo.get_or_derive(name, derive)).clone()
}

fn of_bundle(bundle: &TrustBundle, name: &str) -> Option<Arc<Resource>> {
    let derive = || {
        reported(name, check::bundle(bundle)).then(|| {
            let roots = pem(bundle.roots.iter().map(AsRef::as_ref), "CERTIFICATE");
            let context = CertificateValidationContext {
                trusted_ca: Some(inline(roots)),
                ..CertificateValidationContext::default()
            };
            encode(name, Type::ValidationContext(context), bundle.version.revision, None)
        })
    };
    (*bundle.memo.get_or_derive(name, derive)).clone()
}

/// Loud, once for each secret: only its derivation comes here.
pub(super) fn reported(name: &str, result: Result<(), CheckError>) -> bool {
    if let Err(error) = result {
        metrics::counter!("countersign_sds_withheld_total").increment(1);
        tracing::error!(name, %error, "secret not sent: Envoy would refuse it, or accept it and fail open");
    }
    result.is_ok()
}

pub(super) fn inline(text: String) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(text.into_bytes())), ..DataSource::default() }
}

/// PEM of every document, each line of 64 characters. Grows once, so that no copy of a key is left behind.
pub(crate) fn pem<'a>(ders: impl Iterator<Item = &'a [u8]> + Clone, label: &str) -> String {
    let frame = 2 * (label.len() + 18);
    let mut text = String::with_capacity(ders.clone().map(|der| der.len() * 3 / 2 + frame + 8).sum());
    for der in ders {
        text.extend(["-----BEGIN ", label, "-----\n"]);
        for line in der.chunks(48) {
            BASE64.encode_append(line, &mut text);
            text.push('\n');
        }
        text.extend(["-----END ", label, "-----\n"]);
    }
    text
}

/// The `Any` around the secret, in one buffer that is wiped with its last reader.
pub(super) fn encode(
    name: &str,
    content: Type,
    revision: Revision,
    not_after: Option<Timestamp>,
) -> Arc<Resource> {
    let mut secret = Secret { name: name.to_owned(), r#type: Some(content) };
    let len = secret.encoded_len();
    let mut any = Zeroizing::new(Vec::with_capacity(len + TYPE_URL.len() + 32));
    string::encode(1, &TYPE_URL.to_owned(), &mut *any);
    encode_key(2, WireType::LengthDelimited, &mut *any);
    encode_varint(len as u64, &mut *any);
    secret.encode_raw(&mut *any);
    if let Some(Type::TlsCertificate(tls)) = &mut secret.r#type
        && let Some(DataSource { specifier: Some(Specifier::InlineBytes(key)), .. }) = &mut tls.private_key
    {
        key.zeroize();
    }
    let version = Version { revision, hash: ContentHash::of(&[&any]) };
    let any = Bytes::from_owner(any);
    let version_text = version.to_string().into();
    Arc::new(Resource {
        name: name.into(),
        version,
        version_text,
        not_after,
        any,
        expiry_reported: Once::new(),
    })
}
