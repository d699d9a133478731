//! What containers say, as kubelet has it written down.

use std::fs;
use std::path::{Path, PathBuf};

use super::accounts::SHOP;

/// The logs of `container` of the pods called `pod` in `dir`, one for each of its starts. Kubelet deletes the old ones.
pub(super) fn of(dir: &Path, pod: &str, container: &str) -> Vec<PathBuf> {
    let start = format!("{SHOP}_{pod}_");
    let pods = entries(dir);
    let ours =
        pods.iter().filter(|dir| dir.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&start)));
    ours.flat_map(|dir| entries(&dir.join(container))).collect()
}

/// What a container wrote: `2026-01-01T… stdout F has …`
pub(super) fn lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// What lies in a directory, by name.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.sort();
    found
}
