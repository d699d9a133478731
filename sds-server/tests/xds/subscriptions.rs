//! Which names a stream has, whatever its client says and in whatever order.

use sds_server::sds::{Heard, Limits, Protocol};

use super::fixture::{
    API, Answering as _, WEB, all, change, engine, holding, names, now, say, serve, silent,
};
use super::{delta, open_delta, open_sotw, sotw};

#[test]
fn xd_09_a_new_request_supersedes_the_one_before() {
    let mut stream = engine(Protocol::Sotw);
    stream.request(all(&[API]), now()).unwrap();
    stream.request(all(&[WEB]), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &holding(&[API, WEB], 1))), [WEB]);
}

#[test]
fn xd_10_a_stale_sotw_request_is_ignored_with_its_names() {
    let mut stream = engine(Protocol::Sotw);
    stream.request(all(&[WEB]), now()).unwrap();
    let first = say(&mut stream, &holding(&[WEB, API], 1));
    stream.request(all(&[WEB]).to(first[0].nonce()), now()).unwrap();
    let held = holding(&[WEB, API], 2);
    let second = say(&mut stream, &held);
    for nonce in [first[0].nonce(), "unknown", "0000000000005a17-ffff"] {
        assert_eq!(stream.request(all(&[WEB, API]).to(nonce), now()).unwrap(), Heard::Stale);
        assert!(say(&mut stream, &held).is_empty());
    }
    // The client answers the newer response with its names of now.
    stream.request(all(&[WEB, API]).to(second[0].nonce()), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &held)), [API]);
}

#[test]
fn what_a_stale_request_drops_is_sent_again_when_it_comes_back() {
    let mut stream = engine(Protocol::Sotw);
    stream.request(all(&[API, WEB]), now()).unwrap();
    let first = say(&mut stream, &holding(&[WEB, API], 1));
    let held = holding(&[WEB, API], 2);
    let second = say(&mut stream, &held); // crosses the next request
    assert_eq!(stream.request(all(&[WEB]).to(first[0].nonce()), now()).unwrap(), Heard::Stale);
    assert!(say(&mut stream, &held).is_empty());
    stream.request(all(&[API, WEB]).to(second[1].nonce()), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &held)), [API]);
}

#[test]
fn one_name_without_ack_does_not_hold_up_another() {
    let mut stream = engine(Protocol::Sotw);
    let held = holding(&[API, WEB], 1);
    stream.request(all(&[API]), now()).unwrap();
    let first = say(&mut stream, &held); // never answered
    stream.request(all(&[API, WEB]), now()).unwrap();
    let second = say(&mut stream, &held);
    assert_eq!(names(&second), [WEB]);
    assert!(matches!(
        stream.request(all(&[API, WEB]).to(second[0].nonce()), now()).unwrap(),
        Heard::Acked(_)
    ));
    assert!(matches!(stream.request(all(&[API, WEB]).to(first[0].nonce()), now()).unwrap(), Heard::Acked(_)));
}

#[test]
fn dropping_a_name_does_not_orphan_the_nonce_that_the_client_shows() {
    let mut stream = engine(Protocol::Sotw);
    let held = holding(&[API, WEB], 1);
    stream.request(all(&[API, WEB]), now()).unwrap();
    let said = say(&mut stream, &held);
    stream.request(all(&[API]).to(said[1].nonce()), now()).unwrap();
    stream.request(all(&[API, "ROOTCA"]).to(said[1].nonce()), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &held)), ["ROOTCA"]);
}

#[test]
fn xd_11_delta_honours_names_beside_a_stale_nonce() {
    let mut stream = engine(Protocol::Delta);
    let held = holding(&[API, WEB], 1);
    stream.request(change(&[API], &[]), now()).unwrap();
    say(&mut stream, &held);
    let heard = stream.request(change(&[WEB], &[API]).to("unknown"), now()).unwrap();
    assert_eq!(heard, Heard::Stale);
    assert_eq!(names(&say(&mut stream, &held)), [WEB]);
    assert!(names(&say(&mut stream, &holding(&[API, WEB], 2))).iter().all(|name| *name == WEB));
}

#[test]
fn xd_12_a_name_added_again_is_sent_again() {
    let mut stream = engine(Protocol::Sotw);
    let held = holding(&[API, WEB], 1);
    stream.request(all(&[API, WEB]), now()).unwrap();
    let said = say(&mut stream, &held);
    stream.request(all(&[API]).to(said[1].nonce()), now()).unwrap();
    assert!(say(&mut stream, &held).is_empty());
    stream.request(all(&[API, WEB]).to(said[1].nonce()), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &held)), [WEB]);
}

#[test]
fn xd_13_a_name_subscribed_again_is_sent_again() {
    let mut stream = engine(Protocol::Delta);
    let held = holding(&[WEB], 1);
    stream.request(change(&[WEB, "no"], &[]), now()).unwrap();
    let said = say(&mut stream, &held);
    let answer = said.iter().find(|s| matches!(s, super::fixture::Said::Secret { .. })).unwrap();
    stream.request(change(&[], &[]).to(answer.nonce()), now()).unwrap();
    assert!(say(&mut stream, &held).is_empty());
    stream.request(change(&[WEB, "no"], &[]), now()).unwrap();
    let again = say(&mut stream, &held);
    assert_eq!((again.len(), again[0].gone()[0].as_str(), again[1].name()), (2, "no", WEB));
}

#[test]
fn xd_14_an_empty_list_after_names_ends_them_all() {
    let mut stream = engine(Protocol::Sotw);
    stream.request(all(&[WEB]), now()).unwrap();
    let said = say(&mut stream, &holding(&[WEB], 1));
    stream.request(all(&[]).to(said[0].nonce()), now()).unwrap();
    assert!(say(&mut stream, &holding(&[WEB], 2)).is_empty());
    assert!(stream.names().is_empty());
}

#[tokio::test]
async fn xd_15_no_names_and_a_star_bring_nothing() {
    let served = serve(Limits::default()).await;
    served.publish(&holding(&[WEB, API], 1));
    for names in [&[][..], &["*"]] {
        let (_s, mut stream) = open_sotw(&served, sotw(names)).await;
        silent(&mut stream).await;
        let (_s, mut stream) = open_delta(&served, delta(names)).await;
        silent(&mut stream).await;
    }
}

#[test]
fn xd_16_a_name_also_held_by_a_star_is_answered_when_unsubscribed() {
    let mut stream = engine(Protocol::Delta);
    let held = holding(&[WEB], 1);
    stream.request(change(&["*", WEB], &[]), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &held)), [WEB]);
    stream.request(change(&[], &[WEB]), now()).unwrap();
    assert_eq!(say(&mut stream, &held)[0].gone(), [WEB]);
    // Without the star there is nothing to answer.
    stream.request(change(&[WEB], &["*"]), now()).unwrap();
    say(&mut stream, &held);
    stream.request(change(&[], &[WEB]), now()).unwrap();
    assert!(say(&mut stream, &held).is_empty());
}

#[test]
fn xd_17_phantom_unsubscriptions_are_tolerated() {
    let mut stream = engine(Protocol::Delta);
    let held = holding(&[WEB], 1);
    stream.request(change(&[], &["never", WEB]), now()).unwrap();
    assert!(say(&mut stream, &held).is_empty());
    stream.request(change(&[WEB], &["never"]), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &held)), [WEB]);
}

#[test]
fn xd_18_a_name_asked_for_twice_is_answered_once() {
    let held = holding(&[WEB], 1);
    let mut stream = engine(Protocol::Sotw);
    stream.request(all(&[WEB, WEB]), now()).unwrap();
    assert_eq!(names(&say(&mut stream, &held)), [WEB]);
    let mut stream = engine(Protocol::Delta);
    let long = "x".repeat(5000);
    stream.request(change(&[WEB, "no", WEB, "no", &long, &long], &[]), now()).unwrap();
    let said = say(&mut stream, &held);
    assert_eq!(said[0].gone(), [long]);
    assert_eq!((said[1].gone(), said[2].name(), said.len()), (&["no".to_owned()][..], WEB, 3));
}
