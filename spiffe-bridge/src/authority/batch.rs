//! One batch: check and build, reserve, sign, record, answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use data_encoding::BASE64;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use tracing::Instrument;

use super::{Issued, Job, LeafJob, LeafRequest, Shared, SignError, mint, state, validity};
use crate::audit::Event;
use crate::clock::Timestamp;
use crate::identity::{MAX_ID_BYTES, Revision, Serial, SpiffeId, text_of};
use crate::store::{Compare, Transaction, Write};
use crate::x509::{DnsNames, Leaf, Validity, assemble, random_serial};

/// Batches beyond this go to a thread for blocking work; below it, handing over costs more.
const INLINE: usize = 8;

/// A leaf that may be signed, once it is reserved.
struct Prepared {
    job: LeafJob,
    serial: Serial,
    validity: Validity,
    tbs: Vec<u8>,
}

/// A leaf that may go out, once its event is recorded.
struct Certified {
    prepared: Prepared,
    certificate: CertificateDer<'static>,
}

/// What the audit record says of a leaf: with the reservation's TBSCertificate, the signature gives back the
/// certificate. A type and not a `json!`: there are thousands a second of them.
#[derive(Serialize)]
struct Particulars {
    serial: Serial,
    not_before: Timestamp,
    not_after: Timestamp,
    /// Base64.
    signature: String,
}

/// Issues `jobs` and answers each of them: leaves and tokens side by side.
pub(super) async fn issue(shared: Arc<Shared>, jobs: Vec<Job>) {
    let (mut leaves, mut tokens) = (Vec::new(), Vec::new());
    for job in jobs {
        match job {
            Job::Leaf(job) => leaves.push(job),
            Job::Token(job) => tokens.push(job),
        }
    }
    tokio::join!(issue_leaves(shared.clone(), leaves), mint::issue(shared, tokens));
}

async fn issue_leaves(shared: Arc<Shared>, jobs: Vec<LeafJob>) {
    if jobs.is_empty() {
        return;
    }
    let span = tracing::debug_span!("issue", leaves = jobs.len());
    metrics::histogram!("countersign_issuer_batch_leaves").record(jobs.len() as f64);
    async move {
        let Some(prepared) = compute(&shared, jobs, {
            let s = shared.clone();
            move |jobs| prepare_all(&s, jobs)
        })
        .await
        else {
            return;
        };
        if prepared.is_empty() {
            return;
        }
        let started = Instant::now();
        if let Err(error) = reserve(&shared, &prepared).await {
            return refuse_all(&shared, prepared.into_iter().map(|p| p.job), &error);
        }
        metrics::histogram!("countersign_issuer_reserve_seconds").record(started.elapsed());
        let signed = compute(&shared, prepared, {
            let s = shared.clone();
            move |p| sign_all(&s, p)
        });
        let Some((signed, events)) = signed.await else { return };
        if signed.is_empty() {
            return;
        }
        let started = Instant::now();
        let recorded = shared.log.append(events).await;
        metrics::histogram!("countersign_issuer_record_seconds").record(started.elapsed());
        match recorded {
            Ok(revision) => answer_all(&shared, signed, revision),
            Err(error) => {
                refuse_all(&shared, signed.into_iter().map(|leaf| leaf.prepared.job), &error.into())
            }
        }
    }
    .instrument(span)
    .await;
}

/// Runs `work` where it does not hold up the runtime. `None` if it broke off: the answers are then
/// dropped, and their callers told that the authority has stopped.
pub(super) async fn compute<T: Send + 'static, U: Send + 'static>(
    shared: &Shared,
    items: Vec<T>,
    work: impl FnOnce(Vec<T>) -> U + Send + 'static,
) -> Option<U> {
    if items.len() <= INLINE {
        return Some(work(items));
    }
    // More than the processors can do at one time would only all be done later.
    let processor = shared.processors.acquire().await.ok()?;
    let done = tokio::task::spawn_blocking(move || work(items)).await;
    drop(processor);
    done.inspect_err(|error| tracing::error!(%error, "a batch of signatures broke off")).ok()
}

/// Builds what passes, and answers what does not.
fn prepare_all(shared: &Shared, jobs: Vec<LeafJob>) -> Vec<Prepared> {
    let prepare = |job: LeafJob| {
        if job.answer.is_closed() {
            return None; // Nobody waits for it any more.
        }
        match build(shared, &job.request) {
            Ok((serial, validity, tbs)) => Some(Prepared { job, serial, validity, tbs }),
            Err(error) => {
                refuse(shared, job, error);
                None
            }
        }
    };
    jobs.into_iter().filter_map(prepare).collect()
}

/// Checks a request and builds its TBSCertificate.
fn build(shared: &Shared, request: &LeafRequest) -> Result<(Serial, Validity, Vec<u8>), SignError> {
    check_id(shared, &request.spiffe_id)?;
    let dns_names = DnsNames::parse(&request.dns_names)?;
    let public_key = &request.public_key;
    if shared.is_own(public_key) {
        return Err(SignError::AuthorityKey);
    }
    let config = &shared.config;
    let lifetime = request.lifetime.unwrap_or(config.leaf_lifetime).min(config.longest_leaf_lifetime);
    if lifetime.as_secs() == 0 {
        return Err(SignError::TooShort);
    }
    let (now, root) = (shared.clock.now(), shared.signer.facts.validity);
    let expired = || SignError::RootNotValid { now, not_before: root.not_before, not_after: root.not_after };
    let validity = validity::clip(now, lifetime, config.backdate, root).ok_or_else(expired)?;
    let serial = random_serial()?;
    let spiffe_id = &request.spiffe_id;
    let leaf = Leaf { serial: &serial, validity, public_key, spiffe_id, dns_names: &dns_names };
    let tbs = shared.template.tbs(&leaf)?;
    Ok((serial, validity, tbs))
}

pub(super) fn check_id(shared: &Shared, id: &SpiffeId) -> Result<(), SignError> {
    if *id.trust_domain() != shared.config.trust_domain {
        let trust_domain = shared.config.trust_domain.to_string();
        return Err(SignError::OtherTrustDomain { spiffe_id: id.to_string(), trust_domain });
    }
    if id.path().is_empty() {
        return Err(SignError::NoPath); // X509-SVID §3.1
    }
    match "spiffe://".len() + id.trust_domain_name().len() + id.path().len() {
        len if len > MAX_ID_BYTES => Err(SignError::TooLong { len }), // SPIFFE-ID §2.3
        _ => Ok(()),
    }
}

/// Makes every serial and TBSCertificate of the batch durable, in one record. PK-02.
async fn reserve(shared: &Shared, prepared: &[Prepared]) -> Result<(), SignError> {
    let name = random_serial()?;
    let leaves = prepared.iter().map(|p| (&p.serial, p.validity.not_after, p.tbs.as_slice()));
    let write = state::reservation(name.octets(), leaves);
    let compares = match &write {
        Write::Put { key, .. } | Write::Delete { key } => vec![Compare::Absent(key.clone())],
    };
    shared.store.transact(Transaction { compares, writes: vec![write] }).await?;
    Ok(())
}

/// Signs what is reserved, and answers where the key manager fails.
fn sign_all(shared: &Shared, prepared: Vec<Prepared>) -> (Vec<Certified>, Vec<Event<Particulars>>) {
    let signer = shared.signer.facts.public_key.key_type();
    let sign = |prepared: Prepared| match shared.keys.sign(
        &shared.signer.key,
        shared.signer.scheme(),
        &prepared.tbs,
    ) {
        Ok(signature) => {
            let certificate = assemble(&prepared.tbs, signer, &signature);
            let event = issued(&prepared, &signature);
            Some((Certified { prepared, certificate }, event))
        }
        Err(error) => {
            refuse(shared, prepared.job, error.into());
            None
        }
    };
    prepared.into_iter().filter_map(sign).unzip()
}

fn issued(prepared: &Prepared, signature: &[u8]) -> Event<Particulars> {
    let Validity { not_before, not_after } = prepared.validity;
    let (serial, signature) = (prepared.serial.clone(), BASE64.encode(signature));
    let particulars = Particulars { serial, not_before, not_after, signature };
    Event::new("svid.issued", text_of(&prepared.job.request.spiffe_id), particulars)
}

fn answer_all(shared: &Shared, signed: Vec<Certified>, revision: Revision) {
    let count = signed.len() as u64;
    shared.issued.fetch_add(count, Ordering::Relaxed);
    metrics::counter!("countersign_svids_issued_total", "kind" => "x509").increment(count);
    if shared.last_error.load().is_some() {
        shared.last_error.store(None);
    }
    for Certified { prepared: Prepared { job, serial, validity, .. }, certificate } in signed {
        let Validity { not_before, not_after } = validity;
        tracing::debug!(spiffe_id = %job.request.spiffe_id, %serial, %not_after, "issued");
        let chain = std::iter::once(certificate).chain(shared.signer.chain.iter().cloned()).collect();
        let issued = Issued { chain, serial, not_before, not_after, revision };
        let _ = job.answer.send(Ok(issued)); // Its caller may have gone; the record stands.
    }
}

fn refuse_all(shared: &Shared, jobs: impl Iterator<Item = LeafJob>, error: &SignError) {
    tracing::error!(%error, cause = std::error::Error::source(error).map(tracing::field::display), "not issued");
    jobs.for_each(|job| refuse(shared, job, error.clone()));
}

fn refuse(shared: &Shared, job: LeafJob, error: SignError) {
    note(shared, &error);
    let _ = job.answer.send(Err(error));
}

/// Counts a refusal, and keeps it for the status if the fault is ours.
pub(super) fn note(shared: &Shared, error: &SignError) {
    let whose = if error.is_request_fault() { "request" } else { "authority" };
    metrics::counter!("countersign_svids_refused_total", "fault" => whose).increment(1);
    if !error.is_request_fault() {
        shared.last_error.store(Some(Arc::new(error.to_string())));
    }
}
