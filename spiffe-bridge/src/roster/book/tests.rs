use std::time::Duration;

use super::*;
use crate::identity::{ContentHash, Revision, Version};
use crate::roster::{Enough, Refusal, Wanted, Why};

const T0: Timestamp = Timestamp::from_unix_seconds(1_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn holder(name: &str) -> HolderKey {
    HolderKey::Remote(name.into())
}

fn version(revision: u64) -> Version {
    Version { revision: Revision(revision), hash: ContentHash::of(&[&revision.to_be_bytes()]) }
}

fn row(revision: u64, standing: Standing) -> NameRow {
    let means = match standing {
        Standing::Sent => Means::Sending,
        Standing::ProvedApplied | Standing::PossiblyApplied => Means::Statistics,
        _ => Means::Answer,
    };
    NameRow { version: version(revision), dress: 0, standing, means, sent_at: T0, at: T0, refusals: vec![] }
}

fn report(who: &str, rows: &[(&str, NameRow)]) -> Report {
    Report {
        holder: holder(who),
        uid: Some(1),
        identities: vec!["spiffe://example.org/web".into()],
        not_after: Some(T0 + HOUR),
        statistics: true,
        presence: Presence::Connected,
        names: rows.iter().map(|(name, row)| ((*name).into(), row.clone())).collect(),
        dropped: vec![],
    }
}

fn away(who: &str) -> Report {
    Report { presence: Presence::Away, ..report(who, &[]) }
}

fn book() -> Book {
    Book::new(Config::default(), T0)
}

fn why(book: &Book, wanted: Wanted) -> Vec<(Option<String>, Why)> {
    let answer = book.missing("ROOTCA", wanted, Enough::Proof);
    answer.missing.into_iter().map(|missing| (missing.holder, missing.why)).collect()
}

#[test]
fn each_reason_not_to_hold_a_version_is_told() {
    let mut book = book();
    let silent =
        Report { statistics: false, ..report("silent", &[("ROOTCA", row(7, Standing::Acknowledged))]) };
    for one in [
        report("proved", &[("ROOTCA", row(7, Standing::ProvedApplied))]),
        report("newer", &[("ROOTCA", row(8, Standing::ProvedApplied))]),
        report("older", &[("ROOTCA", row(6, Standing::ProvedApplied))]),
        report("sent", &[("ROOTCA", row(7, Standing::Sent))]),
        report("acked", &[("ROOTCA", row(7, Standing::Acknowledged))]),
        report("possibly", &[("ROOTCA", row(7, Standing::PossiblyApplied))]),
        report("refused", &[("ROOTCA", row(7, Standing::Refused))]),
        report("other", &[("default", row(9, Standing::ProvedApplied))]),
        silent,
    ] {
        assert!(book.report(one, T0));
    }
    let of = |name: &str, why| (Some(format!("remote:{name}")), why);
    let expected = vec![
        of("acked", Why::NotProved),
        of("older", Why::Older),
        of("possibly", Why::PossiblyApplied),
        of("refused", Why::Refused),
        of("sent", Why::Unanswered),
        of("silent", Why::AcknowledgedOnly),
    ];
    assert_eq!(why(&book, Wanted::AtLeast(Revision(7))), expected);
    assert_eq!(why(&book, Wanted::Exactly(version(7))), expected);
    assert_eq!(book.missing("ROOTCA", Wanted::AtLeast(Revision(7)), Enough::Proof).members, 8);
    let acknowledged = book.missing("ROOTCA", Wanted::AtLeast(Revision(7)), Enough::Acknowledgement);
    assert_eq!(acknowledged.missing.len(), 4);
    assert!(!book.missing("nothing", Wanted::LastSent, Enough::Proof).is_complete(), "0 of 0 is unknown");
    assert_eq!(book.newest("ROOTCA"), Some(version(8)));
}

#[test]
fn nothing_is_proved_right_after_a_start() {
    let mut before = book();
    before.report(report("a", &[("ROOTCA", row(7, Standing::ProvedApplied))]), T0);
    let mut after = book();
    for (key, member) in before.members {
        after.restore(key, member);
    }
    assert_eq!(why(&after, Wanted::LastSent), [(Some("remote:a".into()), Why::NotProved)]);
    let member = &after.members[&holder("a")];
    assert!(!member.is_connected);
    assert_eq!(member.not_after, Some(T0 + HOUR), "and still it is a member");
}

#[test]
fn a_member_stays_until_it_is_dead_or_its_last_certificate_has_ended() {
    let skew = Config::default().skew;
    let stays = |one: Report, after: Duration, gone: bool| {
        let mut book = book();
        book.report(one, T0);
        book.expire(T0 + after, |_| gone);
        !book.members.is_empty()
    };
    let second = Duration::from_secs(1);
    assert!(stays(report("a", &[]), 2 * HOUR, true), "connected");
    assert!(stays(away("a"), HOUR + skew, false), "cut off but alive");
    assert!(!stays(away("a"), HOUR + skew + second, false), "its last certificate has ended");
    assert!(!stays(away("a"), second, true), "its process is dead");
    let verifier = || Report { not_after: None, ..away("a") };
    assert!(stays(verifier(), 24 * HOUR, false));
    assert!(!stays(verifier(), 24 * HOUR + second, false), "the lease of one that only verifies");
    let fetched = NameRow { means: Means::Fetch, ..row(1, Standing::Sent) };
    let fetcher = || Report { names: vec![("default".into(), fetched.clone())], ..away("a") };
    assert!(stays(fetcher(), HOUR, true), "what it fetched may be used by others");
    assert!(!stays(fetcher(), HOUR + skew + second, true));
}

#[test]
fn a_sibling_inherits_the_greatest_end_and_it_never_shrinks() {
    let mut book = book();
    book.report(report("parent", &[]), T0);
    let child = Report { not_after: Some(T0 + HOUR / 2), ..report("child", &[]) };
    book.report(child, T0);
    book.report(away("parent"), T0);
    book.expire(T0, |key| *key == holder("parent"));
    assert_eq!(book.members.len(), 1);
    assert_eq!(book.members[&holder("child")].not_after, Some(T0 + HOUR));
    book.report(Report { not_after: None, ..report("child", &[]) }, T0);
    assert_eq!(book.members[&holder("child")].not_after, Some(T0 + HOUR));
}

#[test]
fn what_was_refused_is_remembered_within_its_bound() {
    let mut book = book();
    let refusal = |n: u64| Refusal { hash: version(n).hash, kind: "other".into(), at: T0 };
    for n in 0..40 {
        let refused = NameRow { refusals: vec![refusal(n)], ..row(n, Standing::Refused) };
        book.report(report("a", &[("ROOTCA", refused)]), T0);
    }
    // A report that knows of none takes none away.
    book.report(report("a", &[("ROOTCA", row(41, Standing::Acknowledged))]), T0);
    let refusals = &book.members[&holder("a")].names["ROOTCA"].refusals;
    assert_eq!(refusals.len(), REFUSALS);
    assert_eq!(refusals.last(), Some(&refusal(39)));
}

#[test]
fn members_and_names_are_bounded_and_a_user_leaves_room() {
    let config = Config { members: 3, names_each: 3, names: 8, ..Config::default() };
    let mut book = Book::new(config, T0);
    let names = |count: usize| -> Vec<(Box<str>, NameRow)> {
        (0..count).map(|n| (format!("n{n}").into(), row(1, Standing::Sent))).collect()
    };
    let of = |who: &str, uid, count| Report { uid: Some(uid), names: names(count), ..report(who, &[]) };
    assert!(book.report(of("a", 1, 3), T0));
    assert!(!book.report(of("b", 1, 3), T0), "half of all names are one user's");
    assert_eq!(book.members[&holder("b")].names.len(), 1);
    assert!(book.report(of("c", 2, 3), T0));
    assert!(!book.report(of("d", 2, 1), T0), "no place for a fourth member");
    assert_eq!((book.names(), book.turned_away), (7, 2));
    assert!(!book.missing("n0", Wanted::LastSent, Enough::Acknowledgement).is_complete());
    book.leave(&holder("a"), T0);
    assert!(book.report(of("b", 1, 3), T0), "and it is given back");
}

#[test]
fn only_what_changed_is_written() {
    let mut book = book();
    let one = || report("a", &[("ROOTCA", row(7, Standing::Acknowledged))]);
    book.report(one(), T0);
    assert_eq!(std::mem::take(&mut book.dirty).len(), 2);
    book.report(one(), T0 + HOUR);
    assert!(book.dirty.is_empty(), "{:?}", book.dirty);
    book.report(report("a", &[("ROOTCA", row(7, Standing::ProvedApplied))]), T0);
    assert_eq!(book.dirty.len(), 1);
}
