//! Validation contexts: whom Envoy will trust, and who may come.

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::CertificateValidationContext;
use spiffe_bridge::x509::Validity;

use super::super::names::Name;
use super::roots::{self, Roots};
use super::{CheckError, absent, matchers, spiffe};

pub(super) fn check(context: &CertificateValidationContext, name: Name<'_>) -> Result<Validity, CheckError> {
    #[expect(deprecated, reason = "every field is looked at")]
    let CertificateValidationContext {
        trusted_ca,
        // Anchors of Envoy's host. Envoy 1.40 accepts each alone, and then lets everybody in.
        ca_certificate_provider_instance,
        system_root_certs,
        watched_directory,
        // Pins of leaves, which live an hour.
        verify_certificate_spki,
        verify_certificate_hash,
        match_typed_subject_alt_names,
        match_subject_alt_names,
        require_signed_certificate_timestamp,
        crl,
        allow_expired_certificate,
        trust_chain_verification,
        custom_validator_config,
        // Would leave a revoked intermediate in force.
        only_verify_leaf_cert_crl,
        // 0 and 1 refuse whoever has an intermediate, 101 is refused; the SPIFFE validator does not look at it.
        max_verify_depth,
        suppress_client_ca_list,
    } = context;
    if *allow_expired_certificate || *trust_chain_verification != 0 {
        return Err(CheckError::Unverified);
    }
    let Roots { validity, names } = match (trusted_ca, custom_validator_config) {
        (None, None) => return Err(CheckError::NoRoots),
        (Some(_), Some(_)) => return Err(CheckError::Validator),
        // The roots of several domains, each for its own SVIDs alone (invariant 9).
        (None, Some(custom)) => match name {
            // They stand for one bundle, as whoever set up the listener knows.
            Name::OwnRoots | Name::Bundle { .. } => return Err(CheckError::Validator),
            // That validator does not look at this field (envoy-sds.md §0.18).
            _ if crl.is_some() => return Err(CheckError::Field),
            _ => spiffe::check(custom)?,
        },
        (Some(ca), None) => {
            if name == Name::All {
                return Err(CheckError::Validator);
            }
            roots::read(ca, crl.as_ref())?
        }
    };
    if !suppress_client_ca_list && !roots::fit_in_a_handshake(names.iter().map(Vec::as_slice)) {
        return Err(CheckError::CaList);
    }
    absent(ca_certificate_provider_instance.is_none() && system_root_certs.is_none())?;
    absent(watched_directory.is_none() && max_verify_depth.is_none() && !only_verify_leaf_cert_crl)?;
    absent(verify_certificate_spki.is_empty() && verify_certificate_hash.is_empty())?;
    absent(match_subject_alt_names.is_empty() && require_signed_certificate_timestamp.is_none())?;
    matchers::check(match_typed_subject_alt_names, name)?;
    Ok(validity)
}
