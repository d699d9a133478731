//! TLS certificates: chain and key, and nothing beside them.

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::TlsCertificate;
use spiffe_bridge::x509::{Validity, served};

use super::super::names::Name;
use super::super::pem;
use super::{Against, CheckError, absent, inline};

pub(super) fn check(
    tls: &TlsCertificate,
    name: Name<'_>,
    against: Against<'_>,
) -> Result<Validity, CheckError> {
    let TlsCertificate {
        certificate_chain,
        private_key,
        // Refused over SDS by Envoy 1.40, whatever is in it.
        pkcs12,
        // Files of Envoy's host.
        watched_directory,
        // None is compiled into the Envoys that we know; its refusal names it and no more.
        private_key_provider,
        // Keys are never encrypted for a peer that gets the password too.
        password,
        // There is nothing to staple, and a staple of another certificate is refused.
        ocsp_staple,
        signed_certificate_timestamp,
        // Belongs to the listener: bad ones come back as a refusal of our secret.
        tls_params,
    } = tls;
    absent(pkcs12.is_none() && watched_directory.is_none() && private_key_provider.is_none())?;
    absent(password.is_none() && ocsp_staple.is_none() && signed_certificate_timestamp.is_empty())?;
    absent(tls_params.is_none())?;

    let chain = inline(certificate_chain.as_ref().ok_or(CheckError::Source)?)?;
    let chain = pem::read(chain).ok_or(CheckError::Pem)?.into_iter().map(|(label, der)| match label {
        "CERTIFICATE" => Ok(der.to_vec().into()),
        _ => Err(CheckError::Pem),
    });
    let chain = chain.collect::<Result<Vec<_>, _>>()?;
    let key = inline(private_key.as_ref().ok_or(CheckError::Source)?)?;
    let documents = pem::read(key).ok_or(CheckError::KeyUnreadable)?;
    // PKCS#8, in clear, and nothing else.
    let [("PRIVATE KEY", key)] = documents.as_slice() else { return Err(CheckError::KeyUnreadable) };
    // Without its bundle nobody can tell whether the chain is whole.
    let bundle = against.bundle.ok_or(CheckError::ChainPath)?;
    let served = served::check(&chain, key, bundle, against.now)?;
    match name {
        Name::Svid { trust_domain, path }
            if (served.spiffe_id.trust_domain_name(), served.spiffe_id.path()) != (trust_domain, path) =>
        {
            Err(CheckError::NotTheSvid("it is another identity's"))
        }
        Name::Dns { name } if !served.dns_names.iter().any(|own| own == name) => Err(CheckError::NotYetNamed),
        _ => Ok(served.validity),
    }
}
