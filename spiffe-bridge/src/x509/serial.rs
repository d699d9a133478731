//! Serial numbers that cannot be guessed and do not repeat.

use aws_lc_rs::rand;

use crate::identity::Serial;
use crate::keys::KeyError;

/// A serial of 17 octets: a leading one of 0x40 to 0x7f (positive, never shortened) with six random
/// bits, and 128 random bits. RFC 5280 §4.1.2.2; BR §7.1 asks for 64.
///
/// # Errors
/// [`KeyError::Crypto`] if the system gives no randomness.
pub fn random_serial() -> Result<Serial, KeyError> {
    let fail = KeyError::Crypto { operation: "draw a random serial number" };
    let mut octets = [0; 17];
    rand::fill(&mut octets).map_err(|_| KeyError::Crypto { operation: "draw a random serial number" })?;
    if let Some(first) = octets.first_mut() {
        *first = 0x40 | (*first & 0x3f);
    }
    Serial::from_octets(&octets).ok_or(fail)
}
