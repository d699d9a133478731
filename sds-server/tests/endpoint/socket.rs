//! Who may bind the socket, and what is left of it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use sds_server::endpoint::Peer;
use sds_server::endpoint::uds::{BindError, DirectoryError, Listener};
use tokio::net::UnixStream;

use super::tempdir;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn a_socket_is_bound_for_everybody_and_removed_at_the_end() {
    let (_dir, path) = tempdir();
    let listener = Listener::bind(&path, 0o666).unwrap();
    assert_eq!(mode(&path), 0o666);
    assert_eq!(mode(path.parent().unwrap()), 0o755);
    drop(listener);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_another_server_listens_on_is_refused_and_left() {
    let (_dir, path) = tempdir();
    let _listener = Listener::bind(&path, 0o666).unwrap();
    assert!(matches!(Listener::bind(&path, 0o666), Err(BindError::InUse { .. })));
    assert!(path.exists());
}

#[tokio::test]
async fn a_stale_socket_is_replaced() {
    let (_dir, path) = tempdir();
    fs::create_dir(path.parent().unwrap()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // std leaves the file
    assert!(path.exists());
    let _listener = Listener::bind(&path, 0o666).unwrap();
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn what_is_no_socket_is_refused_and_left() {
    let (_dir, path) = tempdir();
    fs::create_dir(path.parent().unwrap()).unwrap();
    let check = |expected: &str| match Listener::bind(&path, 0o666).unwrap_err() {
        BindError::NotASocket { what, .. } => assert_eq!(what, expected),
        other => panic!("{other:?}"),
    };
    let elsewhere = path.with_file_name("elsewhere");
    symlink(&elsewhere, &path).unwrap();
    check("a symlink");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "precious").unwrap();
    check("a file");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn a_directory_that_others_can_write_to_is_refused() {
    let (dir, path) = tempdir();
    let parent = path.parent().unwrap();
    fs::create_dir(parent).unwrap();
    for writable in [0o777, 0o1777, 0o775] {
        fs::set_permissions(parent, Permissions::from_mode(writable)).unwrap();
        let error = Listener::bind(&path, 0o666).unwrap_err();
        assert!(matches!(error, BindError::Directory(DirectoryError::Writable { .. })), "{error}");
    }
    fs::set_permissions(parent, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
    let error = Listener::bind(&path, 0o666).unwrap_err();
    assert!(error.to_string().contains("chmod go-w"), "{error}");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
    Listener::bind(&path, 0o666).unwrap(); // sticky, and not the last
}

#[tokio::test]
async fn a_directory_of_somebody_else_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return; // nobody else can give a directory away; CI runs as root
    }
    let (_dir, path) = tempdir();
    fs::create_dir(path.parent().unwrap()).unwrap();
    std::os::unix::fs::chown(path.parent().unwrap(), Some(4242), None).unwrap();
    let error = Listener::bind(&path, 0o666).unwrap_err();
    assert!(matches!(error, BindError::Directory(DirectoryError::Owner { owner: 4242, .. })), "{error}");
}

#[tokio::test]
async fn paths_that_no_socket_can_have_are_refused_with_advice() {
    let (dir, _) = tempdir();
    let check = |path: &Path, expected: &str| {
        let error = Listener::bind(path, 0o666).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(Path::new("@abstract"), "abstract");
    check(&dir.path().join("x".repeat(120)), "107");
}

#[tokio::test]
async fn a_socket_that_was_replaced_is_left_at_the_end() {
    let (_dir, path) = tempdir();
    let first = Listener::bind(&path, 0o666).unwrap();
    fs::remove_file(&path).unwrap();
    let _second = Listener::bind(&path, 0o666).unwrap();
    drop(first);
    UnixStream::connect(&path).await.unwrap();
}

#[tokio::test]
async fn a_peer_is_told_by_the_kernel() {
    let (_dir, path) = tempdir();
    let listener = Listener::bind(&path, 0o666).unwrap();
    let (client, server) = tokio::join!(UnixStream::connect(&path), listener.accept());
    let peer = Peer::of(&server.unwrap()).unwrap();
    assert_eq!(peer.pid, std::process::id());
    assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
    drop(client);
}
