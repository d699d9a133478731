//! Makes the root, and an issuing CA if one is asked for: journal, keys, certificates, records. Resumes what was cut off.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use rustls_pki_types::CertificateDer;
use serde_json::json;

use super::validity::whole;
use super::{Config, Hierarchy, InitError, StateError, state};
use crate::audit::{self, Event};
use crate::clock::Clock;
use crate::keys::{KeyError, KeyId, KeyManager, KeyType};
use crate::store::{Compare, Store, StoreError, Transaction, Write};
use crate::x509::root::{Issuing, NameConstraints, Root, self_sign, sign_below};
use crate::x509::{Validity, inspect, random_serial};
use state::{IssuingRecord, JOURNAL, ROOT, RootRecord, Step};

/// Makes the authority's root key and certificate. Only for a store that has none: a lost volume
/// must not become a new root in silence (rotation.md, "State").
///
/// The step is durable before the key is made (invariant 4); run again after a crash, it goes on
/// with the same key. Nothing else may use the audit log of this store meanwhile.
///
/// # Errors
/// [`InitError`].
pub async fn init(
    config: &Config,
    keys: Arc<dyn KeyManager>,
    store: &Store,
    clock: &Clock,
) -> Result<(), InitError> {
    if let Some(stored) = trust_domain_of(store)? {
        let is_ours = stored == config.trust_domain.as_str();
        return Err(if is_ours {
            InitError::AlreadyInitialised
        } else {
            InitError::HasOtherTrustDomain { stored }
        });
    }
    let names = prepare(config, keys.as_ref(), store).await?;
    let now = clock.now();
    let validity =
        Validity { not_before: whole(now - config.backdate), not_after: whole(now + config.root_lifetime) };
    let made = tokio::task::spawn_blocking({
        let (names, config) = (names.clone(), config.clone());
        move || make(&config, validity, keys.as_ref(), &names)
    });
    let (root, issuing) = made.await.map_err(|_| InitError::CutOff)??;

    let log = audit::Log::open(store.clone(), clock.clone())?;
    let trust_domain = config.trust_domain.as_str().to_owned();
    let event = |what: &str, key: &KeyId, certificate: &CertificateDer<'_>| {
        let serial = inspect::ca(certificate).map(|facts| facts.serial.to_string()).unwrap_or_default();
        let detail = json!({
            "key": key.as_str(), "key_type": config.key_type, "serial": serial, "not_after": validity.not_after,
        });
        Event::new(what, trust_domain.as_str(), detail)
    };
    let mut events = vec![event("authority.root_created", &names.root, &root)];
    let mut writes = Vec::new();
    if let Some((key, certificate)) = names.issuing.zip(issuing) {
        events.push(event("authority.issuing_created", &key, &certificate));
        writes.push(IssuingRecord { key, certificate: certificate.to_vec() }.write());
    }
    writes.push(RootRecord { trust_domain, key: names.root, certificate: root.to_vec() }.write());
    writes.push(Write::Delete { key: JOURNAL.into() });
    let compares = vec![Compare::Absent(ROOT.into())];
    log.append_with(events, Transaction { compares, writes }).await.map_err(taken)?;
    Ok(())
}

/// The keys of an authority that is being made.
#[derive(Debug, Clone)]
struct Names {
    root: KeyId,
    issuing: Option<KeyId>,
}

/// Makes keys and certificates.
fn make(
    config: &Config,
    validity: Validity,
    keys: &dyn KeyManager,
    names: &Names,
) -> Result<(CertificateDer<'static>, Option<CertificateDer<'static>>), InitError> {
    let trust_domain = &config.trust_domain;
    make_key(keys, &names.root, config.key_type)?;
    // URI constraints are refused by rustls in any chain. PK-14.
    let name_constraints = NameConstraints::Unconstrained;
    let depth = config.hierarchy.depth();
    let root = self_sign(&Root { trust_domain, validity, depth, name_constraints }, keys, &names.root)?;
    let Some(issuing) = &names.issuing else { return Ok((root, None)) };
    make_key(keys, issuing, config.key_type)?;
    let public_key = &keys.public(issuing)?;
    let below = sign_below(&Issuing { trust_domain, validity, public_key }, &root, keys, &names.root)?;
    Ok((root, Some(below)))
}

/// The trust domain whose root this store has; `None` before [`init`] has finished.
///
/// # Errors
/// [`StateError`] if the store's record cannot be read.
pub fn trust_domain_of(store: &Store) -> Result<Option<String>, StateError> {
    Ok(state::read_root(store)?.map(|(root, _)| root.trust_domain))
}

/// Writes the step into the journal, or finds it there, and returns the names of the keys.
async fn prepare(config: &Config, keys: &dyn KeyManager, store: &Store) -> Result<Names, InitError> {
    let domain = config.trust_domain.as_str();
    let issuing_beside = |root: &KeyId| -> Result<Option<KeyId>, InitError> {
        let tail = root.as_str().trim_start_matches("root-");
        match config.hierarchy {
            Hierarchy::Root => Ok(None),
            Hierarchy::Intermediate => Ok(Some(format!("issuing-{tail}").parse()?)),
        }
    };
    let (compares, names) = match state::read_step(store)? {
        Some((Step::PrepareRoot { trust_domain, .. }, _)) if trust_domain != domain => {
            return Err(InitError::OtherTrustDomain { stored: trust_domain });
        }
        Some((Step::PrepareRoot { key, issuing_key, .. }, revision)) => {
            let (root, issuing): (KeyId, _) = (key.parse()?, issuing_key.map(|key| key.parse()).transpose()?);
            let names = Names { issuing: issuing_beside(&root)?, root };
            if names.issuing == issuing {
                return Ok(names);
            }
            // Another hierarchy is asked for than by the init that was cut off: a key that only that one made goes.
            match issuing.map_or(Ok(()), |key| keys.destroy(&key)) {
                Ok(()) | Err(KeyError::Unknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            (vec![Compare::Revision(JOURNAL.into(), revision)], names)
        }
        None => {
            let tail: Vec<u8> = random_serial()?.octets().iter().skip(1).take(8).copied().collect();
            let root: KeyId = format!("root-{}", HEXLOWER.encode(&tail)).parse()?;
            let compares = vec![Compare::Absent(ROOT.into()), Compare::Absent(JOURNAL.into())];
            (compares, Names { issuing: issuing_beside(&root)?, root })
        }
    };
    let writes = vec![Step::prepare_root(domain, &names.root, names.issuing.as_ref()).write()];
    store.transact(Transaction { compares, writes }).await.map_err(taken)?;
    Ok(names)
}

/// Makes the key `id`, unless an init that was cut off made it already.
pub(super) fn make_key(keys: &dyn KeyManager, id: &KeyId, key_type: KeyType) -> Result<(), KeyError> {
    match keys.generate(id, key_type) {
        // The crash came between key and certificate: nothing was signed with it that anybody has.
        Err(KeyError::Exists { .. }) if keys.public(id)?.key_type() == key_type => Ok(()),
        Err(KeyError::Exists { .. }) => {
            keys.destroy(id)?; // of another type than is asked for now
            keys.generate(id, key_type).map(drop)
        }
        made => made.map(drop),
    }
}

/// Somebody else initialised this store at the same time.
fn taken(error: StoreError) -> InitError {
    match error {
        StoreError::Conflict { .. } => InitError::AlreadyInitialised,
        error => InitError::Store(error),
    }
}
