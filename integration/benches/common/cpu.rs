//! CPU time and resident memory: what a noisy machine cannot take away.

use std::fs;
use std::time::Duration;

/// CPU time of the calling thread.
pub fn thread() -> Duration {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// CPU time of this process, threads that ended included.
pub fn process() -> Duration {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// CPU time of process `pid`, threads that ended included, in nanoseconds (/proc/PID/stat has ticks of 10 ms).
#[allow(unsafe_code, reason = "rustix has no clock of another process")]
pub fn of(pid: u32) -> Duration {
    let mut clock = 0;
    // SAFETY: the call writes one clockid_t, which is ours.
    let failed = unsafe { libc::clock_getcpuclockid(libc::pid_t::try_from(pid).unwrap(), &raw mut clock) };
    assert_eq!(failed, 0, "process {pid} is gone");
    read(clock)
}

#[allow(unsafe_code, reason = "as above")]
fn read(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec, which is ours.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(failed, 0, "clock {clock} cannot be read");
    Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
}

/// CPU time of process `pid` once it has nothing left to do: the same to within 200 µs for 60 ms. A
/// process that never rests is read after three seconds.
pub async fn settled(pid: u32) -> Duration {
    let mut last = of(pid);
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let now = of(pid);
        if now - last < Duration::from_micros(200) {
            break;
        }
        last = now;
    }
    last
}

/// Resident memory of process `pid`, in bytes.
pub fn resident(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Rss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}
