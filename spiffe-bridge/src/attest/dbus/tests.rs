use proptest::prelude::*;

use super::*;

/// A message as a bus writes it: `fields` of (code, type, value), and a body.
fn message(kind: u8, fields: &[(u8, &str, &str)], reply: u32, body: &[u8]) -> ([u8; FIXED], Vec<u8>) {
    let mut array = Writer::default();
    array.0.push(REPLY_SERIAL);
    array.signature("u");
    array.0.extend_from_slice(&reply.to_le_bytes());
    for (code, kind, value) in fields {
        array.pad(8);
        array.0.push(*code);
        array.signature(kind);
        if *kind == "g" { array.signature(value) } else { array.text(value) }
    }
    let mut whole = Writer(vec![b'l', kind, 0, 1]);
    whole.length(body.len());
    whole.length(1);
    whole.length(array.0.len());
    whole.0.extend_from_slice(&array.0);
    whole.pad(8);
    whole.0.extend_from_slice(body);
    let (fixed, rest) = whole.0.split_at(FIXED);
    (fixed.try_into().unwrap(), rest.to_vec())
}

fn text_of(text: &str) -> Vec<u8> {
    let mut body = Writer::default();
    body.text(text);
    body.0
}

#[track_caller]
fn check((fixed, rest): &([u8; FIXED], Vec<u8>), expected: Option<Answer>) {
    assert_eq!(super::rest(*fixed), Some(rest.len()));
    assert_eq!(answer(*fixed, rest, 7), expected);
}

#[test]
fn an_answer_is_read_and_messages_to_others_are_passed_over() {
    let path = message(METHOD_RETURN, &[(6, "s", ":1.2"), (SIGNATURE, "g", "o")], 7, &text_of("/a"));
    check(&path, Some(Answer::Text(Some("/a".to_owned()))));
    let mut variant = Writer::default();
    variant.signature("s");
    variant.text("web.service");
    let variant = message(METHOD_RETURN, &[(SIGNATURE, "g", "v")], 7, &variant.0);
    check(&variant, Some(Answer::Text(Some("web.service".to_owned()))));
    check(&message(METHOD_RETURN, &[(SIGNATURE, "g", "u")], 7, &[1, 0, 0, 0]), Some(Answer::Text(None)));
    check(&message(ERROR, &[(ERROR_NAME, "s", "a.B")], 7, &[]), Some(Answer::Refused("a.B".to_owned())));
    check(&message(METHOD_RETURN, &[], 8, &[]), Some(Answer::Other));
    check(&message(4, &[(MEMBER, "s", "NameAcquired")], 7, &[]), Some(Answer::Other));
}

#[test]
fn broken_messages_are_refused() {
    for (code, kind) in [(9, "a"), (9, "")] {
        check(&message(METHOD_RETURN, &[(code, kind, "x")], 7, &[]), None);
    }
    check(&message(METHOD_RETURN, &[(SIGNATURE, "g", "s")], 7, &[200, 0, 0, 0]), None);
    check(&message(ERROR, &[], 7, &[]), None);
    let (fixed, rest) = message(METHOD_RETURN, &[(SIGNATURE, "g", "o")], 7, &text_of("/a"));
    for cut in 0..rest.len() {
        assert_eq!(answer(fixed, &rest[..cut], 7), None, "{cut}");
    }
    // Big-endian, another version, and one that is longer than any answer.
    for (at, byte) in [(0, b'B'), (3, 2), (6, 2), (14, 2)] {
        let mut other = fixed;
        other[at] = byte;
        assert_eq!(super::rest(other), None, "{at}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(fixed: [u8; FIXED], rest: Vec<u8>, serial: u32) {
        let _ = (super::rest(fixed), answer(fixed, &rest, serial));
    }

    #[test]
    fn a_call_has_the_lengths_that_it_states(path: String, member: String, one: String, two: String) {
        let arguments = Arguments::Texts(&one, &two);
        let call = Call { destination: "a.b", path: &path, interface: "a.b.C", member: &member, arguments };
        let whole = call.encode(7);
        let (fixed, rest) = whole.split_at(FIXED);
        let fixed = fixed.try_into().unwrap();
        prop_assert_eq!(super::rest(fixed), Some(rest.len()));
        // A call is no answer, and its header is one that can be read.
        prop_assert_eq!(answer(fixed, rest, 7), Some(Answer::Other));
    }
}
