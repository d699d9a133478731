//! Hints by inotify that the directory has changed. Losing one costs time only: a timer stands behind.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

use super::scan::is_entry_file;

/// Watches the directory that a path leads to now.
#[derive(Default)]
pub(super) struct Watcher {
    current: Option<(u64, u64, RecommendedWatcher)>,
    failed: bool,
}

impl Watcher {
    /// Watches `path` from now on, anew if it leads to another directory than before.
    pub(super) fn follow(&mut self, path: &Path, hint: &Arc<Notify>) {
        let place = path.metadata().map(|m| (m.dev(), m.ino())).ok();
        let watched = self.current.as_ref().map(|(device, inode, _)| (*device, *inode));
        if place.is_some() && place == watched {
            return;
        }
        self.current = None;
        let Some((device, inode)) = place else { return };
        match watch(path, hint.clone()) {
            Ok(watcher) => (self.current, self.failed) = (Some((device, inode, watcher)), false),
            Err(error) if !self.failed => {
                self.failed = true;
                let advice = "changes are seen every 30 seconds only; raise fs.inotify.max_user_instances or max_user_watches";
                tracing::warn!(%error, advice, "cannot watch the entries directory");
            }
            Err(_) => {}
        }
    }
}

fn watch(path: &Path, hint: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        if event.as_ref().map_or(true, matters) {
            hint.notify_one();
        }
    })?;
    watcher.watch(path, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// A file is complete when it is closed or renamed, not while it is written. A link is complete when it is made.
fn matters(event: &Event) -> bool {
    let entry_file = || event.paths.iter().any(|path| path.file_name().is_none_or(is_entry_file));
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => entry_file(),
        // A hidden name too: it may be the link through which the files of a ConfigMap are found.
        EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => true,
        EventKind::Create(CreateKind::Folder) | EventKind::Access(_) | EventKind::Modify(_) => {
            event.need_rescan()
        }
        EventKind::Create(_) => event.paths.iter().any(|path| path.is_symlink() || has_links(path)),
        EventKind::Any | EventKind::Other => true,
    }
}

/// A hard link comes complete too, and is never closed.
fn has_links(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|m| m.nlink() > 1)
}
