//! Who holds what, for the admin API: the streams with what the roster proves of them, who is missing, and who is let go.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use spiffe_bridge::audit::Event;
use spiffe_bridge::identity::{Revision, Version};
use spiffe_bridge::roster::{Enough, HolderKey, NameRow, Stays, Wanted};

use super::sources::{Parts, value};
use crate::admin::{Forget, Forgotten, Holders, NotHolding};
use crate::receipts::Hearing;
use crate::sds::nack::Kind;
use crate::sds::names::Name;

/// Why the counters of a connection are not used: see `Hearing::Unclear`.
const UNCLEAR: &str =
    "they count secrets that do not come over this connection, or several Envoys speak over it";

impl Parts {
    /// The open streams of SDS, each name with what is proved of it, and those of the Workload and Broker APIs.
    pub(super) fn streams(&self) -> Vec<Value> {
        type Known = Option<(HolderKey, BTreeMap<Box<str>, NameRow>)>;
        let mut known: BTreeMap<String, Known> = BTreeMap::new();
        let look_up = |holder: &str| -> Known {
            let holder = holder.parse::<HolderKey>().ok()?;
            let rows = self.roster.names_of(&holder).into_iter().collect();
            Some((holder, rows))
        };
        let mut streams = self.streams.snapshot();
        for stream in &mut streams {
            let Some(holder) = &stream.holder else { continue };
            let known = known.entry(holder.clone()).or_insert_with(|| look_up(holder));
            let Some((holder, rows)) = known else { continue };
            let hearing = self.desk.hearing(holder, stream.connection);
            // A process is one Envoy: it need not have flushed since the server started.
            let is_known = matches!(holder, HolderKey::Process(_)) && self.roster.has_statistics(holder);
            stream.statistics = hearing == Hearing::Joined || is_known;
            stream.statistics_unused = (hearing == Hearing::Unclear).then_some(UNCLEAR);
            for name in &mut stream.names {
                if let Some(row) = rows.get(&*name.name) {
                    name.prove(row);
                }
            }
        }
        let feeds = self.feeds.snapshot();
        streams.iter().map(value).chain(feeds.iter().map(value)).collect()
    }

    /// Who does not hold a version yet, and why.
    pub(super) fn missing(&self, question: &NotHolding) -> Result<Holders, String> {
        let NotHolding { name, version, acknowledged } = question;
        let enough = if *acknowledged { Enough::Acknowledgement } else { Enough::Proof };
        let wanted = self.wanted(name, version.as_deref())?;
        let answer = self.roster.missing(name, wanted, enough);
        let missing = answer.missing.iter().map(|missing| {
            let mut row = value(missing);
            let explained = missing.refusal.as_deref().and_then(Kind::parse).map(Kind::explained);
            if let Some(fields) = row.as_object_mut() {
                fields.insert("explained".to_owned(), json!(missing.why.to_string()));
                fields.insert("refusal_explained".to_owned(), value(explained));
            }
            row
        });
        Ok(Holders {
            name: name.clone(),
            wanted: match wanted {
                Wanted::LastSent => None,
                Wanted::AtLeast(revision) => Some(revision.0.to_string()),
                Wanted::Exactly(version) => Some(version.to_string()),
            },
            members: answer.members,
            missing: missing.collect(),
            turned_away: answer.turned_away,
            feeds: self.feeds.snapshot().iter().filter(|feed| feed.method.starts_with("x509")).count(),
            complete: answer.is_complete(),
        })
    }

    /// Lets a member go of whom the operator says that it holds nothing any more.
    pub(super) async fn forget(self, Forget { holder }: Forget) -> Result<Forgotten, String> {
        let stays = |stays: Stays| format!("{holder} stays: {stays}");
        let key: HolderKey = holder.parse().map_err(|_| stays(Stays::Unknown))?;
        let leaver = self.roster.leaving(&key).map_err(stays)?;
        // Invariant 5: on record before it is done.
        let event = Event::new("roster.member_forgotten", &*holder, &leaver);
        self.log.append(vec![event]).await.map_err(|error| format!("{holder} stays: {error}"))?;
        self.roster.leave(&key).map_err(stays)?;
        self.desk.forget(&key);
        tracing::info!(%holder, "let go from the roster at an operator's word");
        let identities = leaver.identities.iter().map(ToString::to_string).collect();
        Ok(Forgotten { holder, identities, not_after: leaver.not_after.map(|end| end.to_string()) })
    }

    /// Without a version: of what is the same for everybody the newest there is, else what each was sent last.
    fn wanted(&self, name: &str, version: Option<&str>) -> Result<Wanted, String> {
        if let Some(text) = version {
            let revision = text.parse::<u64>().map(|revision| Wanted::AtLeast(Revision(revision)));
            let version = || text.parse::<Version>().map(Wanted::Exactly);
            return revision.or_else(|_| version()).map_err(|_| {
                format!("{text:?} is no version: give a revision, such as 7, or all of <revision>-<hash>")
            });
        }
        let own = self.authority.bundle().borrow().clone();
        let is_own = match Name::parse(name) {
            Some(Name::OwnRoots) => true,
            Some(Name::Bundle { trust_domain }) => trust_domain == own.trust_domain.as_str(),
            Some(Name::All) => false,
            _ => return Ok(Wanted::LastSent),
        };
        let newest = self.roster.newest(name).map(|version| version.revision);
        let revision = newest.max(is_own.then_some(own.version.revision));
        Ok(revision.map_or(Wanted::LastSent, Wanted::AtLeast))
    }
}
