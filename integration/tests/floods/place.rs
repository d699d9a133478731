//! The socket's place taken, by somebody who may write there: it is said aloud, and who is connected is served on.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use integration::{poll, sds};

use super::world::{MIB, World};

fn findings(world: &World) -> (Option<i32>, String) {
    let output = world.server.cli(&["status"]).unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_whose_place_is_taken_is_told_in_status_and_log() {
    let world = World::start("").await;
    let socket = world.socket();
    let before = sds::connect(&socket).await.unwrap();
    let aside = socket.with_file_name("aside");
    assert_eq!(findings(&world).0, Some(0));
    fs::rename(&socket, &aside).unwrap();
    let taken: [(&str, &dyn Fn()); 4] = [
        ("it is gone", &|| {}),
        ("another file is in its place", &|| drop(UnixListener::bind(&socket).unwrap())),
        ("another file is in its place", &|| fs::write(&socket, "").unwrap()),
        ("a symlink is in its place", &|| symlink(&aside, &socket).unwrap()),
    ];
    for (what, take) in taken {
        take();
        let (code, said) = findings(&world);
        assert!(code == Some(1) && said.contains(what), "{what}: {said}");
        // Who came before is served as ever.
        sds::svid_over(before.clone(), "default").await.unwrap();
        let _ = fs::remove_file(&socket);
    }
    let logged = async || world.server.log().contains("new callers do not reach this server");
    poll::holds("it is logged", Duration::from_secs(20), logged).await.unwrap();
    fs::rename(&aside, &socket).unwrap();
    assert_eq!(findings(&world).0, Some(0), "it is there again");
    world.stands(MIB).await;
}
