//! The file of the CAs whose certificates open the door: read at start, when told, when it changes, and held against
//! our own roots whenever those change.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use spiffe_bridge::attest::{AuthoritiesError, RemoteTrust};
use spiffe_bridge::identity::TrustBundle;
use tokio::sync::watch;

use crate::endpoint::metrics;
use crate::runtime::{Drain, Reread, with_cause};

/// Sixty-four certificates with their comments; a mistaken path to a device or an image ends here.
const MAX_BYTES: u64 = 1 << 20;
/// How often the file is looked at unasked. It is small, and a link above it may be what changes.
const EVERY: Duration = Duration::from_secs(2);

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientCaError {
    /// It cannot be read.
    #[error("remote.client_ca: cannot read {path:?}: let the server's user read it")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What is in it cannot be trusted.
    #[error("remote.client_ca: {path:?} cannot be used")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: AuthoritiesError,
    },
}

/// The task that keeps the trust of the door.
#[derive(Debug)]
pub struct ClientCa {
    path: PathBuf,
    own: watch::Receiver<Arc<TrustBundle>>,
    below: Vec<CertificateDer<'static>>,
    trust: watch::Sender<Arc<RemoteTrust>>,
    problem: watch::Sender<Option<String>>,
}

/// What is known of the door's CAs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ClientCaStatus {
    trust: watch::Receiver<Arc<RemoteTrust>>,
    problem: watch::Receiver<Option<String>>,
}

impl ClientCa {
    /// Reads `path` for a server whose roots are `own`, with the CAs `below` them.
    ///
    /// # Errors
    /// [`ClientCaError`].
    pub fn open(
        path: &Path,
        own: watch::Receiver<Arc<TrustBundle>>,
        below: Vec<CertificateDer<'static>>,
    ) -> Result<Self, ClientCaError> {
        let trust = parse(path, read(path), &own.borrow(), &below)?;
        metrics::client_ca(true);
        let (trust, problem) = (watch::Sender::new(Arc::new(trust)), watch::Sender::new(None));
        Ok(Self { path: path.to_owned(), own, below, trust, problem })
    }

    /// The trust, as it changes.
    #[must_use]
    pub fn trust(&self) -> watch::Receiver<Arc<RemoteTrust>> {
        self.trust.subscribe()
    }

    /// For whoever tells an operator.
    #[must_use]
    pub fn status(&self) -> ClientCaStatus {
        ClientCaStatus { trust: self.trust(), problem: self.problem.subscribe() }
    }

    /// Follows the file and our roots until the drain.
    ///
    /// # Errors
    /// Never: a file that cannot be used leaves the last good CAs.
    pub async fn run(mut self, mut reread: Reread, drain: Drain) -> Result<(), Infallible> {
        loop {
            tokio::select! {
                () = drain.begun() => return Ok(()),
                () = reread.requested() => {}
                Ok(()) = self.own.changed() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            let path = self.path.clone();
            // A file system that hangs must hold up nobody else.
            let Ok(pem) = tokio::task::spawn_blocking(move || read(&path)).await else { continue };
            self.take(pem);
        }
    }

    fn take(&mut self, pem: io::Result<Vec<u8>>) {
        let own = self.own.borrow_and_update().clone();
        let before = self.trust.borrow().clone();
        let (trust, problem) = match parse(&self.path, pem, &own, &self.below) {
            Ok(trust) => (trust, None),
            // The last good ones stay, unless one of them has become ours.
            Err(error) => (before.beside(&own).unwrap_or_else(|_| before.nobody(&own)), Some(error)),
        };
        if !trust.says_same(&before) {
            let count = trust.certificates().len();
            tracing::info!(
                count,
                "the CAs of remote callers changed; connections under none of them are cut"
            );
            self.trust.send_replace(Arc::new(trust));
        }
        self.tell(problem);
    }

    fn tell(&self, problem: Option<ClientCaError>) {
        let text = problem.as_ref().map(|error| with_cause(error));
        metrics::client_ca(text.is_none());
        if *self.problem.borrow() == text {
            return;
        }
        match &text {
            Some(text) => tracing::error!("{text}; the CAs that were read before stay in force"),
            None => tracing::info!(path = %self.path.display(), "remote.client_ca can be used again"),
        }
        self.problem.send_replace(text);
    }
}

impl ClientCaStatus {
    /// How many CAs open the door.
    #[must_use]
    pub fn count(&self) -> usize {
        self.trust.borrow().certificates().len()
    }

    /// Why the file cannot be used as it is now.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        self.problem.borrow().clone()
    }
}

fn parse(
    path: &Path,
    pem: io::Result<Vec<u8>>,
    own: &TrustBundle,
    below: &[CertificateDer<'static>],
) -> Result<RemoteTrust, ClientCaError> {
    let pem = pem.map_err(|source| ClientCaError::Read { path: path.to_owned(), source })?;
    let content = |source| ClientCaError::Content { path: path.to_owned(), source };
    RemoteTrust::parse(&pem, own, below).map_err(content)
}

/// Whether the file could be used by a server that has no root yet.
///
/// # Errors
/// [`ClientCaError`].
pub fn look_at(path: &Path) -> Result<(), ClientCaError> {
    let pem = read(path).map_err(|source| ClientCaError::Read { path: path.to_owned(), source })?;
    let content = |source| ClientCaError::Content { path: path.to_owned(), source };
    RemoteTrust::check(&pem).map_err(content)
}

/// The file's bytes; not more than any such file has.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    Ok(bytes)
}
