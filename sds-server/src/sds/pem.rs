//! PEM in its one canonical form: written for Envoy, and read back by the checker.

use data_encoding::BASE64;
use zeroize::Zeroizing;

/// A document of a PEM text: its label, and its DER, which is wiped when dropped.
pub(super) type Document<'a> = (&'a str, Zeroizing<Vec<u8>>);

/// Octets of a whole line.
const LINE: usize = 48;

/// PEM of every document, each line of 64 characters. Grows once, so that no copy of a key is left behind.
pub(crate) fn write<'a>(ders: impl Iterator<Item = &'a [u8]> + Clone, label: &str) -> String {
    let frame = 2 * (label.len() + 18);
    let mut text = String::with_capacity(ders.clone().map(|der| der.len() * 3 / 2 + frame + 8).sum());
    for der in ders {
        text.extend(["-----BEGIN ", label, "-----\n"]);
        for line in der.chunks(LINE) {
            BASE64.encode_append(line, &mut text);
            text.push('\n');
        }
        text.extend(["-----END ", label, "-----\n"]);
    }
    text
}

/// The documents of `text`; `None` if it is not exactly what [`write`] makes of them. Envoy skips what stands between
/// two documents, and one bad line makes it refuse them all (envoy-sds.md §1.1).
pub(super) fn read(text: &[u8]) -> Option<Vec<Document<'_>>> {
    let mut rest = std::str::from_utf8(text).ok()?;
    let mut documents = Vec::new();
    while !rest.is_empty() {
        let (label, body) = rest.strip_prefix("-----BEGIN ")?.split_once("-----\n")?;
        let (lines, after) = body.split_once("-----END ")?;
        rest = after.strip_prefix(label)?.strip_prefix("-----\n")?;
        documents.push((label, decode(lines)?));
    }
    Some(documents)
}

fn decode(lines: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut lines = lines.strip_suffix('\n')?.split('\n').peekable();
    let mut der = Zeroizing::new(Vec::with_capacity(lines.clone().count() * LINE));
    while let Some(line) = lines.next() {
        let mut octets = Zeroizing::new([0; LINE]);
        let len = BASE64.decode_len(line.len()).ok().filter(|len| (1..=LINE).contains(len))?;
        let octets = octets.get_mut(..len)?;
        let len = BASE64.decode_mut(line.as_bytes(), octets).ok()?;
        if len < LINE && lines.peek().is_some() {
            return None;
        }
        der.extend_from_slice(octets.get(..len)?);
    }
    Some(der)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        for len in [1, 47, 48, 49, 95, 96, 97, 500] {
            let der = vec![7_u8; len];
            let text = write([&der[..], &der[..]].into_iter(), "X");
            let read = read(text.as_bytes()).unwrap();
            assert!(read.len() == 2 && read.iter().all(|(label, found)| *label == "X" && **found == der));
        }
        assert_eq!(read(b""), Some(Vec::new()));
        let good = "-----BEGIN X-----\nAAAA\n-----END X-----\n";
        assert!(read(good.as_bytes()).is_some());
        for bad in [
            format!("text\n{good}"),
            format!("{good}text\n"),
            format!("{good}\n{good}"),
            good.replace("AAAA", "AAA="[..3].into()),
            good.replace("AAAA", "AAB="),
            good.replace("AAAA\n", ""),
            good.replace("AAAA", ""),
            good.replace("AAAA", "AA==\nAAAA"),
            good.replace("AAAA", "A A="),
            good.replace("END X", "END Y"),
            good.replace('\n', "\r\n"),
            good.trim_end().to_owned(),
        ] {
            assert_eq!(read(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(read(&[0xff]), None);
    }
}
