//! The little DER that a leaf needs: tag, length, contents, and times. X.690 §8, §10.

use crate::clock::Timestamp;

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;

/// The tag `[number]`, constructed (EXPLICIT, or of a SEQUENCE).
pub(super) const fn constructed(number: u8) -> u8 {
    0xa0 | number
}

/// The tag `[number]`, primitive (IMPLICIT of a string).
pub(super) const fn primitive(number: u8) -> u8 {
    0x80 | number
}

/// Appends tag and length of a value of `len` octets.
pub(super) fn header(out: &mut Vec<u8>, tag: u8, len: usize) {
    out.push(tag);
    let octets = len.to_be_bytes();
    let long = octets.iter().skip_while(|octet| **octet == 0).copied();
    match u8::try_from(len) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let significant = octets.len() - (len.leading_zeros() / 8) as usize;
            out.push(0x80 | significant.to_le_bytes().first().copied().unwrap_or_default());
            out.extend(long);
        }
    }
}

/// Appends the value `tag` with these contents.
pub(super) fn value(out: &mut Vec<u8>, tag: u8, contents: &[u8]) {
    header(out, tag, contents.len());
    out.extend_from_slice(contents);
}

/// The value `tag` whose contents are `parts`, one after the other.
pub(super) fn of(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(len + 6);
    header(&mut out, tag, len);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// An Extension with its critical flag spelt only where it is true: DER leaves defaults out.
pub(super) fn extension(oid: &[u8], critical: Critical, contents: &[u8]) -> Vec<u8> {
    let flag: &[u8] = match critical {
        Critical::Yes => &[BOOLEAN, 1, 0xff],
        Critical::No => &[],
    };
    of(SEQUENCE, &[oid, flag, &of(OCTET_STRING, &[contents])])
}

/// Whether a validator that does not know an extension must refuse the certificate.
#[derive(Clone, Copy)]
pub(super) enum Critical {
    Yes,
    No,
}

/// Appends a time: UTCTime up to 2049, GeneralizedTime from 2050, whole seconds and `Z`. RFC 5280
/// §4.1.2.5. `None` if it lies beyond the year 9999.
pub(super) fn time(out: &mut Vec<u8>, at: Timestamp) -> Option<()> {
    let seconds = i64::try_from(at.unix_seconds()).ok()?;
    let at = time::OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    let year = u32::try_from(at.year()).ok().filter(|year| *year <= 9999)?;
    let (hour, minute, second) = at.to_hms();
    let (tag, years) = if year < 2050 { (UTC_TIME, 1) } else { (GENERALIZED_TIME, 2) };
    header(out, tag, years * 2 + 11);
    let century = u8::try_from(year / 100).ok()?;
    let rest = [u8::try_from(year % 100).ok()?, u8::from(at.month()), at.day(), hour, minute, second];
    let digits = [century].into_iter().skip(2 - years).chain(rest);
    out.extend(digits.flat_map(|n| [b'0' + n / 10, b'0' + n % 10]));
    out.push(b'Z');
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_the_shortest() {
        let check = |len, expected: &[u8]| {
            let mut out = Vec::new();
            header(&mut out, SEQUENCE, len);
            assert_eq!(&out[1..], expected, "{len}");
        };
        check(0, &[0]);
        check(127, &[127]);
        check(128, &[0x81, 128]);
        check(255, &[0x81, 255]);
        check(256, &[0x82, 1, 0]);
        check(65_536, &[0x83, 1, 0, 0]);
    }

    #[test]
    fn times_change_their_form_in_2050() {
        let check = |seconds, expected: &[u8]| {
            let mut out = Vec::new();
            time(&mut out, Timestamp::from_unix_seconds(seconds)).unwrap();
            assert_eq!(out, expected);
        };
        check(0, b"\x17\x0d700101000000Z");
        check(2_524_607_999, b"\x17\x0d491231235959Z");
        check(2_524_608_000, b"\x18\x0f20500101000000Z");
        check(253_402_300_799, b"\x18\x0f99991231235959Z");
        assert_eq!(time(&mut Vec::new(), Timestamp::from_unix_seconds(253_402_300_800)), None);
    }
}
