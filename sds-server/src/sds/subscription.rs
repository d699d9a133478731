//! The engine of a stream, SotW or delta: what its client wants, has been sent, and has said to it.
//!
//! Pure: no I/O, no clock. Level-triggered: [`Subscription::next`] compares what the caller holds now with what
//! the client was sent, so that a client which reads late gets the newest state and nothing in between.
//!
//! A nonce is current while it is the newest of its name, or of the stream. What SotW ignores is therefore
//! always followed by a response that the client has yet to answer, with all its names. XD-10.

use std::sync::{Arc, Weak};

use spiffe_bridge::clock::Timestamp;
use spiffe_bridge::identity::WorkloadUpdate;

use super::limits::Limits;
use super::proxy::{Proxy, look_up_for};
use super::request::{Heard, MAX_NODE_BYTES, Names, Node, Nonce, Protocol, Refusal, Request, Scope};
use super::secret::{Lookup, Place, Resource, TYPE_URL};
use super::slot::Slot;

mod names;

/// Names in one list of what is not available, in bytes: Envoy takes messages of 4 MB and more, and there is
/// always a next one.
const REMOVED_BYTES: usize = 64 * 1024;

/// What one stream is to send next.
#[derive(Debug)]
pub enum Response {
    /// One secret: with several in a response, one that is refused takes its siblings with it (envoy-sds.md §0.5).
    Secret {
        /// Fresh.
        nonce: Nonce,
        /// What to send.
        resource: Arc<Resource>,
    },
    /// Delta only: these names have no content for this caller. XD-19.
    Removed {
        /// Fresh.
        nonce: Nonce,
        /// Each once.
        names: Vec<Box<str>>,
    },
}

/// The state of one stream.
#[derive(Debug)]
pub struct Subscription {
    protocol: Protocol,
    scope: Scope,
    max_names: usize,
    salt: u64,
    issued: u64,
    node: Option<Box<Node>>,
    heard_first: bool,
    /// Whether the client said that it held something when the stream began.
    has_past: bool,
    /// Delta: `*` was subscribed. It brings nothing (XD-15), but changes what an unsubscription is due (XD-16).
    wildcard: bool,
    /// Sorted by name.
    slots: Vec<Slot>,
    /// Delta: not available and not remembered.
    unheld: Vec<Box<str>>,
    /// The slot to look at next, and how many have not been looked at since anything changed.
    cursor: usize,
    unseen: usize,
    /// What the slots were compared with; weak, so that a stream which nobody reads keeps no old key alive.
    seen: Weak<WorkloadUpdate>,
    held: u64,
    proxy: Option<Arc<Proxy>>,
}

impl Subscription {
    /// A stream on which nothing has been said. `salt` is to differ from stream to stream.
    #[must_use]
    pub fn new(protocol: Protocol, limits: &Limits, salt: u64) -> Self {
        Self {
            protocol,
            scope: Scope::Secrets,
            max_names: limits.names,
            salt,
            issued: 0,
            node: None,
            heard_first: false,
            has_past: false,
            wildcard: false,
            slots: Vec::new(),
            unheld: Vec::new(),
            cursor: 0,
            unseen: 0,
            seen: Weak::new(),
            held: 0,
            proxy: None,
        }
    }

    /// The same on the aggregated service, if `scope` says so.
    #[must_use]
    pub fn within(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// The same as one of the streams of `proxy`.
    #[must_use]
    pub(super) fn of(self, proxy: Option<Arc<Proxy>>) -> Self {
        Self { proxy, ..self }
    }

    /// Takes in what the client says.
    ///
    /// # Errors
    /// A [`Refusal`], after which the stream is to be ended.
    pub fn request(&mut self, request: Request, now: Timestamp) -> Result<Heard, Refusal> {
        // An absent one is implied by the service (XD-02); the aggregated one implies none.
        let is_secrets = match self.scope {
            Scope::Secrets if request.type_url.is_empty() => true,
            _ => request.type_url == TYPE_URL,
        };
        if !is_secrets && self.scope == Scope::Secrets {
            return Err(Refusal::TypeUrl);
        }
        // The first message of the stream has the node, of whatever type it is.
        self.settle_node(request.node)?;
        if !is_secrets {
            return Ok(Heard::OtherType);
        }
        let first = !std::mem::replace(&mut self.heard_first, true);
        self.has_past |= first && request.holds;
        let heard = self.settle_answer(&request.nonce, request.error, now);
        match request.names {
            // On the first request nothing newer can be on its way, so its names count even beside the nonce of
            // an earlier stream; the nonce does not (XD-04).
            Names::All(names) if heard != Heard::Stale || first => self.replace(names)?,
            // XD-10: it gets no response. But what the client dropped it has forgotten: if it comes back with the
            // next request, it must be sent again (XD-12), so the drop is noted.
            Names::All(names) => self.drop_all_but(names),
            Names::Change { subscribe, unsubscribe, held } => {
                self.unsubscribe(unsubscribe);
                // XD-23: said on the first request of a stream only.
                self.subscribe(subscribe, if first { held } else { Vec::new() })?; // XD-11
            }
        }
        Ok(heard)
    }

    /// What to send now, if anything, to a client that holds nothing newer than `update`. To be called when there
    /// is room for it, until it returns `None`.
    pub fn next(&mut self, update: &Arc<WorkloadUpdate>, now: Timestamp) -> Option<Response> {
        if !std::ptr::eq(self.seen.as_ptr(), Arc::as_ptr(update)) {
            self.seen = Arc::downgrade(update);
            self.unseen = self.slots.len();
        }
        if let Some(names) = self.take_unheld() {
            return Some(Response::Removed { nonce: self.nonce(), names });
        }
        // What was refused may go out in other bytes, or go out no more.
        let is_marked = self.proxy.as_ref().is_some_and(|proxy| proxy.is_marked());
        let (mut gone, mut bytes) = (Vec::new(), 0);
        while self.unseen > 0 && bytes < REMOVED_BYTES {
            let count = self.issued + 1;
            let at = if self.cursor < self.slots.len() { self.cursor } else { 0 };
            let Some(slot) = self.slots.get_mut(at) else { break };
            if !is_marked && slot.is_as_sent(update, now) {
                self.step(at);
                continue;
            }
            let found = look_up_for(self.proxy.as_deref(), update, &slot.name, now);
            slot.withheld = match &found {
                Lookup::Withheld(error) => Some(*error),
                _ => None,
            };
            match found {
                Lookup::Available(resource) => {
                    if slot.holds(&resource, now) {
                        self.held += 1;
                        slot.of = Place::of(update, &slot.name);
                        touch(self.proxy.as_ref());
                    } else if slot.wants(&resource) {
                        if !gone.is_empty() {
                            break; // first what is gone; this slot is looked at again
                        }
                        slot.send(resource.version(), count, now);
                        slot.of = Place::of(update, &slot.name);
                        touch(self.proxy.as_ref());
                        self.step(at);
                        return Some(Response::Secret { nonce: self.nonce(), resource });
                    } else if slot.of.is_some() {
                        slot.of = Place::of(update, &slot.name); // another came before it, or one has gone
                    }
                }
                // A withheld secret is not taken from a client that has a good one (invariant 3).
                Lookup::Withheld(_) if slot.sent.is_some() => {}
                Lookup::NotAvailable | Lookup::Withheld(_) => {
                    // SotW has no word for it: silent, and remembered. XD-20.
                    if slot.withdraw() && self.protocol == Protocol::Delta {
                        bytes += slot.name.len() + 8;
                        gone.push(slot.name.clone());
                    }
                }
            }
            self.step(at);
        }
        (!gone.is_empty()).then(|| Response::Removed { nonce: self.nonce(), names: gone })
    }

    /// Whether answers wait that are of no name which is remembered. While they do, nothing more is to be taken
    /// in: a client could make them pile up as long as there is nothing to answer it with (invariant 11).
    #[must_use]
    pub fn owes(&self) -> bool {
        !self.unheld.is_empty()
    }

    /// The protocol it speaks.
    #[must_use]
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Who the client says it is.
    #[must_use]
    pub fn node(&self) -> Option<&Node> {
        self.node.as_deref()
    }

    /// Names that were not sent, because the client proved to hold their current version. XD-23.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Whether the client held something when the stream began.
    pub(super) fn has_past(&self) -> bool {
        self.has_past
    }

    /// What the caller may have, as it was last compared with what the client was sent.
    pub(super) fn seen(&self) -> Option<Arc<WorkloadUpdate>> {
        self.seen.upgrade()
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    fn nonce(&mut self) -> Nonce {
        self.issued += 1;
        Nonce { salt: self.salt, count: self.issued }
    }

    fn step(&mut self, at: usize) {
        self.cursor = at + 1;
        self.unseen -= 1;
    }

    pub(super) fn look_again(&mut self) {
        self.unseen = self.slots.len();
    }

    /// XD-03
    fn settle_node(&mut self, node: Option<Node>) -> Result<(), Refusal> {
        let Some(node) = node else { return Ok(()) };
        if node.id.len() > MAX_NODE_BYTES || node.cluster.len() > MAX_NODE_BYTES {
            return Err(Refusal::NodeTooLong);
        }
        match &self.node {
            Some(known) if known.id != node.id => Err(Refusal::NodeChanged),
            Some(_) => Ok(()),
            None => {
                self.node = Some(Box::new(node));
                Ok(())
            }
        }
    }

    /// XD-05: the presence of an error is the verdict.
    fn settle_answer(&mut self, nonce: &str, error: Option<super::nack::Reason>, now: Timestamp) -> Heard {
        if nonce.is_empty() {
            return Heard::Asked;
        }
        let Some(count) = Nonce::count_in(nonce, self.salt).filter(|count| (1..=self.issued).contains(count))
        else {
            return Heard::Stale;
        };
        let of_slot = |slot: &&mut Slot| slot.sent.as_ref().is_some_and(|sent| sent.nonce == count);
        match (self.slots.iter_mut().find(of_slot), error) {
            (Some(slot), error) => match (slot.answer(error, now), error) {
                (Some(_), Some(reason)) => {
                    if let (Some(proxy), Some(nacked)) = (&self.proxy, &slot.nacked) {
                        proxy.refused(&slot.name, nacked.version, reason, now);
                    }
                    touch(self.proxy.as_ref());
                    Heard::Nacked(reason.kind)
                }
                (Some(took), None) => {
                    touch(self.proxy.as_ref());
                    Heard::Acked(took)
                }
                (None, _) => Heard::Repeated,
            },
            // Of a name that has gone since, or of a list of what is not available.
            (None, _) if count == self.issued => Heard::Repeated,
            (None, _) => Heard::Stale,
        }
    }
}

fn touch(proxy: Option<&Arc<Proxy>>) {
    if let Some(proxy) = proxy {
        proxy.touch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_of_one_name_is_small() {
        assert!(size_of::<Subscription>() + size_of::<Slot>() + size_of::<Node>() <= 500);
    }
}
