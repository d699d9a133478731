//! PEM of a chain and a key, as Envoy reads them. RFC 7468.

use data_encoding::{BASE64, Encoding, Specification};

/// Base 64 in lines of 64 characters.
pub fn encoding() -> Encoding {
    let mut specification: Specification = BASE64.specification();
    specification.wrap.width = 64;
    specification.wrap.separator = "\n".into();
    specification.encoding().unwrap()
}

pub fn append(out: &mut String, base64: &Encoding, label: &str, der: &[u8]) {
    for part in ["-----BEGIN ", label, "-----\n"] {
        out.push_str(part);
    }
    base64.encode_append(der, out);
    for part in ["-----END ", label, "-----\n"] {
        out.push_str(part);
    }
}
