//! Any bytes as a message of D-Bus: an answer is read only where all of the message is there, and stays in its bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spiffe_bridge::attest::dbus::{self, Answer, FIXED};

fuzz_target!(|input: ([u8; FIXED], u32, Vec<u8>)| {
    let (fixed, serial, rest) = input;
    let length = dbus::rest(fixed);
    assert!(length.is_none_or(|length| length <= 64 << 10));
    let read = dbus::answer(fixed, &rest, serial);
    if let Some(Answer::Text(Some(text)) | Answer::Refused(text)) = &read {
        assert!(text.len() < rest.len());
    }
    let Some(length) = length else { return };
    if rest.len() < length {
        // The body ends the message: without its end there is no answer.
        assert_eq!(read, None);
    } else {
        assert_eq!(dbus::answer(fixed, &rest[..length], serial), read, "what follows belongs to the next");
    }
});
