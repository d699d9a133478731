use super::*;
use crate::receipts::observation::Secret;

const IN: &str = "listener.in";
const OUT: &str = "cluster.out";

/// Names with their users, and counters.
fn seen(users: &[(&str, &[&str])], updates: &[(&str, u64)]) -> Observation {
    let secret = |users: &[&str]| Secret {
        users: users.iter().map(|owner| Owner::new(owner)).collect(),
        ..Secret::default()
    };
    Observation {
        secrets: users.iter().map(|(name, users)| ((*name).into(), secret(users))).collect(),
        updates: updates.iter().map(|(owner, n)| (Owner::new(owner), *n)).collect(),
    }
}

const BOTH: &[(&str, &[&str])] = &[("web", &[IN, OUT]), ("roots", &[IN, OUT])];

fn pushed(names: &[(&str, u64, u64)]) -> BTreeMap<Box<str>, Pushed> {
    let of = |(name, rounds, refusals): &(&str, u64, u64)| {
        ((*name).into(), Pushed { rounds: Some(*rounds), refusals: *refusals })
    };
    names.iter().map(of).collect()
}

fn contexts(of: &[(&str, &[(&str, u64)])]) -> BTreeMap<Box<str>, Contexts> {
    let contexts = |list: &[(&str, u64)]| list.iter().map(|(owner, n)| (Owner::new(owner), *n)).collect();
    of.iter().map(|(name, list)| ((*name).into(), contexts(list))).collect()
}

const ONE_EACH: &[(&str, &[(&str, u64)])] = &[("web", &[(IN, 1), (OUT, 1)]), ("roots", &[(IN, 1), (OUT, 1)])];

fn check(
    rise: [u64; 2],
    names: &[(&str, u64, u64)],
    known: &[(&str, &[(&str, u64)])],
    expected: &[(&str, Verdict)],
) {
    let before = seen(BOTH, &[(IN, 10), (OUT, 20)]);
    let now = seen(BOTH, &[(IN, 10 + rise[0]), (OUT, 20 + rise[1])]);
    let (pushed, contexts) = (pushed(names), contexts(known));
    let window = Window {
        before: &before,
        now: &now,
        pushed: &pushed,
        contexts: &contexts,
        is_whole: true,
        is_whole_life: false,
    };
    let verdicts: Vec<_> = judge(&window).into_iter().map(|(name, j)| (name, j.verdict)).collect();
    let expected: Vec<_> = expected.iter().map(|(name, verdict)| (Box::from(*name), *verdict)).collect();
    assert_eq!(verdicts, expected, "{rise:?} {names:?}");
}

#[test]
fn a_push_is_proved_when_every_context_of_every_user_took_it() {
    check([1, 1], &[("web", 1, 0)], ONE_EACH, &[("web", Verdict::Proved)]);
    check([3, 3], &[("web", 3, 0)], ONE_EACH, &[("web", Verdict::Proved)]);
    check([2, 2], &[("web", 3, 0)], ONE_EACH, &[("web", Verdict::PossiblyApplied)]);
    check([1, 0], &[("web", 1, 0)], ONE_EACH, &[("web", Verdict::PossiblyApplied)]);
}

#[test]
fn the_same_bytes_again_are_acknowledged_and_prove_nothing() {
    check([0, 0], &[("web", 1, 0)], ONE_EACH, &[("web", Verdict::Acknowledged)]);
}

#[test]
fn a_refusal_that_some_context_escaped_is_possibly_applied() {
    check([0, 0], &[("web", 0, 1)], ONE_EACH, &[("web", Verdict::Refused)]);
    check([1, 0], &[("web", 0, 1)], ONE_EACH, &[("web", Verdict::PossiblyApplied)]);
}

#[test]
fn several_changes_are_proved_by_their_sum() {
    let both = &[("roots", Verdict::Proved), ("web", Verdict::Proved)];
    check([2, 2], &[("web", 1, 0), ("roots", 1, 0)], ONE_EACH, both);
    let neither = &[("roots", Verdict::PossiblyApplied), ("web", Verdict::PossiblyApplied)];
    check([1, 2], &[("web", 1, 0), ("roots", 1, 0)], ONE_EACH, neither);
    // One that is refused hides what the other did.
    check([1, 1], &[("web", 0, 1), ("roots", 1, 0)], ONE_EACH, neither);
}

#[test]
fn the_first_push_tells_how_many_contexts_there_are() {
    let before = seen(BOTH, &[(IN, 10), (OUT, 20)]);
    let now = seen(BOTH, &[(IN, 13), (OUT, 21)]);
    let (pushed, none) = (pushed(&[("web", 1, 0)]), BTreeMap::new());
    let window = Window {
        before: &before,
        now: &now,
        pushed: &pushed,
        contexts: &none,
        is_whole: true,
        is_whole_life: false,
    };
    let judged = &judge(&window)["web"];
    assert_eq!(judged.verdict, Verdict::PossiblyApplied);
    assert_eq!(judged.learned, Some([(Owner::new(IN), 3), (Owner::new(OUT), 1)].into()));
    // Of several that are not known each must have one, or nothing is learned.
    check(
        [2, 2],
        &[("web", 1, 0), ("roots", 1, 0)],
        &[],
        &[("roots", Verdict::PossiblyApplied), ("web", Verdict::PossiblyApplied)],
    );
}

#[test]
fn from_its_first_push_on_a_process_hides_nothing() {
    let judged = |rise: u64| {
        let before = Observation::default();
        let now = seen(BOTH, &[(IN, rise), (OUT, 2)]);
        let (pushed, none) = (pushed(&[("web", 1, 0), ("roots", 1, 0)]), BTreeMap::new());
        let window = Window {
            before: &before,
            now: &now,
            pushed: &pushed,
            contexts: &none,
            is_whole: true,
            is_whole_life: true,
        };
        let judged = judge(&window);
        (judged["web"].clone(), judged["roots"].verdict)
    };
    let (web, roots) = judged(2);
    assert_eq!((web.verdict, roots), (Verdict::Proved, Verdict::Proved));
    assert_eq!(web.learned, Some([(Owner::new(IN), 1), (Owner::new(OUT), 1)].into()));
    let (web, roots) = judged(3);
    assert_eq!((web.verdict, roots), (Verdict::PossiblyApplied, Verdict::PossiblyApplied));
    assert_eq!(web.learned, None);
}

#[test]
fn more_contexts_than_before_are_learned_and_fewer_never() {
    let judged = |rise: u64| {
        let users: &[(&str, &[&str])] = &[("web", &[IN])];
        let (before, now) = (seen(users, &[(IN, 5)]), seen(users, &[(IN, 5 + rise)]));
        let (pushed, known) = (pushed(&[("web", 1, 0)]), contexts(&[("web", &[(IN, 2)])]));
        let window = Window {
            before: &before,
            now: &now,
            pushed: &pushed,
            contexts: &known,
            is_whole: true,
            is_whole_life: false,
        };
        judge(&window)["web"].clone()
    };
    assert_eq!(
        judged(3),
        Judgement { verdict: Verdict::PossiblyApplied, learned: Some([(Owner::new(IN), 3)].into()) }
    );
    assert_eq!(judged(1), Judgement { verdict: Verdict::PossiblyApplied, learned: None });
    assert_eq!(judged(2).verdict, Verdict::Proved);
}

#[test]
fn nobody_who_uses_a_name_and_a_counter_that_went_back_prove_nothing() {
    let nobody: &[(&str, &[&str])] = &[("web", &[])];
    let (before, now) = (seen(nobody, &[]), seen(nobody, &[(IN, 5)]));
    let (pushed, known) = (pushed(&[("web", 1, 0)]), contexts(ONE_EACH));
    let window = Window {
        before: &before,
        now: &now,
        pushed: &pushed,
        contexts: &known,
        is_whole: true,
        is_whole_life: false,
    };
    assert_eq!(judge(&window)["web"].verdict, Verdict::Acknowledged, "0 of 0 is unknown");
    let (before, now) = (seen(BOTH, &[(IN, 5), (OUT, 1)]), seen(BOTH, &[(IN, 1), (OUT, 2)]));
    let window = Window { before: &before, now: &now, ..window };
    assert_eq!(judge(&window)["web"].verdict, Verdict::PossiblyApplied, "its listener was replaced");
}
