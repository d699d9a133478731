//! Makes the root: journal, key, certificate, record. Resumes what was cut off.

use std::sync::Arc;

use data_encoding::HEXLOWER;
use serde_json::json;

use super::validity::whole;
use super::{Config, InitError, StateError, state};
use crate::audit::{self, Event};
use crate::clock::Clock;
use crate::keys::{KeyError, KeyId, KeyManager, KeyType};
use crate::store::{Compare, Store, StoreError, Transaction, Write};
use crate::x509::root::{NameConstraints, Root, self_sign};
use crate::x509::{Validity, inspect, random_serial};
use state::{JOURNAL, ROOT, RootRecord, Step};

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
    let key = prepare(config, store).await?;
    let now = clock.now();
    let validity =
        Validity { not_before: whole(now - config.backdate), not_after: whole(now + config.root_lifetime) };
    let trust_domain = config.trust_domain.clone();
    let certificate = tokio::task::spawn_blocking({
        let (key, key_type) = (key.clone(), config.key_type);
        move || {
            make_key(keys.as_ref(), &key, key_type)?;
            let name_constraints = NameConstraints::Unconstrained;
            // Leaves only: no CA stands below this root. RFC 5280 §4.2.1.9.
            let root = Root { trust_domain: &trust_domain, validity, depth: 0, name_constraints };
            self_sign(&root, keys.as_ref(), &key).map_err(InitError::Root)
        }
    })
    .await
    .map_err(|_| InitError::CutOff)??;

    let log = audit::Log::open(store.clone(), clock.clone())?;
    let trust_domain = config.trust_domain.as_str().to_owned();
    let serial = inspect::ca(&certificate).map(|facts| facts.serial.to_string()).unwrap_or_default();
    let detail = json!({ "key": key.as_str(), "serial": serial, "not_after": validity.not_after });
    let mut writes = log.writes([Event::new("authority.root_created", trust_domain.as_str(), detail)]);
    writes.push(RootRecord { trust_domain, key, certificate: certificate.to_vec() }.write());
    writes.push(Write::Delete { key: JOURNAL.into() });
    let compares = vec![Compare::Absent(ROOT.into())];
    store.transact(Transaction { compares, writes }).await.map_err(taken)?;
    Ok(())
}

/// The trust domain whose root this store has; `None` before [`init`] has finished.
///
/// # Errors
/// [`StateError`] if the store's record cannot be read.
pub fn trust_domain_of(store: &Store) -> Result<Option<String>, StateError> {
    Ok(state::read_root(store)?.map(|(root, _)| root.trust_domain))
}

/// Writes the step into the journal, or finds it there, and returns the name of the root's key.
async fn prepare(config: &Config, store: &Store) -> Result<KeyId, InitError> {
    let domain = config.trust_domain.as_str();
    if let Some((Step::PrepareRoot { trust_domain, key, .. }, _)) = state::read_step(store)? {
        return if trust_domain == domain {
            Ok(key.parse()?)
        } else {
            Err(InitError::OtherTrustDomain { stored: trust_domain })
        };
    }
    let tail: Vec<u8> = random_serial()?.octets().iter().skip(1).take(8).copied().collect();
    let key: KeyId = format!("root-{}", HEXLOWER.encode(&tail)).parse()?;
    let compares = vec![Compare::Absent(ROOT.into()), Compare::Absent(JOURNAL.into())];
    let writes = vec![Step::prepare_root(domain, &key).write()];
    store.transact(Transaction { compares, writes }).await.map_err(taken)?;
    Ok(key)
}

/// Makes the key `id`, unless an init that was cut off made it already.
fn make_key(keys: &dyn KeyManager, id: &KeyId, key_type: KeyType) -> Result<(), KeyError> {
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
