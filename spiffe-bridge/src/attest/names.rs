//! Names of users and groups, from whatever databases the system has (NSS). May block on the network.

use std::ffi::{CStr, c_char, c_int};
use std::mem::MaybeUninit;
use std::ptr;

/// No entry is larger than this; a group's members are part of it.
const MOST_BYTES: usize = 1 << 20;

/// The name of a user; `None` if there is none, or it cannot be found out.
pub(super) fn user(uid: u32) -> Option<String> {
    look_up(
        |record, buffer, result| {
            // SAFETY: `record` and `result` are valid for writing, and `buffer` for its length.
            unsafe { libc::getpwuid_r(uid, record, buffer.as_mut_ptr().cast(), buffer.len(), result) }
        },
        |record: &libc::passwd| record.pw_name,
    )
}

/// The name of a group; `None` if there is none, or it cannot be found out.
pub(super) fn group(gid: u32) -> Option<String> {
    look_up(
        |record, buffer, result| {
            // SAFETY: `record` and `result` are valid for writing, and `buffer` for its length.
            unsafe { libc::getgrgid_r(gid, record, buffer.as_mut_ptr().cast(), buffer.len(), result) }
        },
        |record: &libc::group| record.gr_name,
    )
}

/// Calls `ask` with ever larger buffers, and copies the name out of the record that it finds.
fn look_up<R>(
    ask: impl Fn(*mut R, &mut [u8], *mut *mut R) -> c_int,
    name: impl Fn(&R) -> *mut c_char,
) -> Option<String> {
    let mut bytes = 1 << 10;
    while bytes <= MOST_BYTES {
        let mut buffer = vec![0; bytes];
        let mut record = MaybeUninit::<R>::uninit();
        let mut found = ptr::null_mut();
        match ask(record.as_mut_ptr(), &mut buffer, &mut found) {
            libc::ERANGE => bytes *= 4,
            0 if !found.is_null() => {
                // SAFETY: on success `found` is `record`, filled in, whose name is a C string in `buffer`.
                let name = unsafe { CStr::from_ptr(name(&*found)) };
                return name.to_str().ok().map(str::to_owned);
            }
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_a_number_that_nobody_has_gives_none() {
        assert_eq!(user(0).as_deref(), Some("root"));
        assert_eq!(group(0).as_deref(), Some("root"));
        assert_eq!(user(3_999_999_999), None);
        assert_eq!(group(3_999_999_999), None);
    }
}
