//! What is generated and kept: the messages and the descriptors of `sds-server/proto`, so that a build needs no
//! compiler of protocol buffers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use protox::Compiler;

fn sds_server() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../sds-server")
}

/// Writes `new` to `path` if it differs, and says whether it did.
fn differs(path: &Path, new: &[u8]) -> bool {
    let differs = fs::read(path).ok().as_deref() != Some(new);
    if differs {
        fs::write(path, new).unwrap();
    }
    differs
}

#[test]
fn messages_and_descriptors_are_those_of_the_proto_files() {
    let mut compiler = Compiler::new([sds_server().join("proto")]).unwrap();
    compiler.include_imports(true).include_source_info(true).open_files(["workload.proto"]).unwrap();
    let with_comments = compiler.file_descriptor_set();

    let out = tempfile::tempdir().unwrap();
    prost_build::Config::new()
        .out_dir(out.path())
        .default_package_filename("workload")
        // In order, so that the same content gives the same bytes; and keys and tokens print nothing.
        .btree_map(["."])
        .skip_debug(["."])
        .disable_comments(["."])
        .compile_fds(with_comments)
        .unwrap();
    let messages = fs::read(out.path().join("workload.rs")).unwrap();

    let mut compiler = Compiler::new([sds_server().join("proto")]).unwrap();
    compiler.include_imports(true).include_source_info(false).open_files(["workload.proto"]).unwrap();
    let descriptors = compiler.file_descriptor_set().encode_to_vec();

    let kept = sds_server().join("src/proto");
    let changed =
        [differs(&kept.join("workload.rs"), &messages), differs(&kept.join("workload.bin"), &descriptors)];
    assert_eq!(changed, [false; 2], "they were out of date: written anew, commit them");
}
