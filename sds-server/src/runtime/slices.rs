//! How long the kernel lets a thread run before it looks whether another should.
//!
//! Of two threads that the kernel owes time, the one with the shorter slice goes first, and interrupts the other (Linux 6.12,
//! sched_setattr(2); kernels before take no notice). Threads that wake, do little and sleep again ask for short ones: so they
//! need not wait until one that never sleeps has had its three milliseconds. No thread has more of the CPU by it.
//! docs/decisions/0019-turns.md

use std::io;

/// The shortest that the kernel knows, in nanoseconds.
const SHORT: u64 = 100_000;

/// Short slices for this thread and all that it starts from now on.
pub fn short() {
    tell(set(SHORT));
}

/// The kernel's own choice for this thread and all that it starts from now on.
pub fn usual() {
    tell(set(0));
}

/// A sandbox may forbid it: then others' work is waited for a little longer.
fn tell(set: io::Result<()>) {
    if let Err(error) = set {
        tracing::debug!(%error, "the kernel's time slices stay as they are");
    }
}

fn set(nanoseconds: u64) -> io::Result<()> {
    let mut attributes = get()?;
    if !matches!(attributes.sched_policy.cast_signed(), libc::SCHED_OTHER | libc::SCHED_BATCH) {
        return Ok(()); // the operator gave it another, of which it means something else
    }
    attributes.sched_runtime = nanoseconds;
    // SAFETY: the kernel reads as much of it as it says that it is long.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Of this thread.
fn get() -> io::Result<libc::sched_attr> {
    // SAFETY: it is made of numbers.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of_val(&attributes);
    // SAFETY: the kernel writes no more than `size` octets.
    match unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) } {
        0 => Ok(attributes),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(work).join().unwrap())
    }

    #[test]
    fn a_slice_is_inherited_and_changes_nothing_else() {
        let (before, after, child, again) = elsewhere(|| {
            let before = get().unwrap();
            set(SHORT).unwrap();
            let (after, child) = (get().unwrap(), elsewhere(|| get().unwrap()));
            set(0).unwrap();
            (before, after, child, get().unwrap())
        });
        let rest = |of: &libc::sched_attr| (of.sched_policy, of.sched_flags, of.sched_nice);
        for slice in [&after, &child, &again] {
            assert_eq!(rest(slice), rest(&before));
        }
        // What the kernel does not know it says to be none.
        let knows = before.sched_runtime > 0;
        assert_eq!([after.sched_runtime, child.sched_runtime], if knows { [SHORT; 2] } else { [0; 2] });
        assert_eq!(again.sched_runtime, before.sched_runtime);
    }
}
