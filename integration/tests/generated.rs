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

/// The descriptors of `proto`, with its comments or without.
fn compiled(proto: &str, with_comments: bool) -> Compiler {
    let mut compiler = Compiler::new([sds_server().join("proto")]).unwrap();
    compiler.include_imports(true).include_source_info(with_comments);
    compiler.open_files([format!("{proto}.proto")]).unwrap();
    compiler
}

/// Holds the messages of `proto`, which are generated as `module`, to what is kept.
fn check(proto: &str, module: &str) {
    let out = tempfile::tempdir().unwrap();
    prost_build::Config::new()
        .out_dir(out.path())
        .default_package_filename(module)
        // In order, so that the same content gives the same bytes; and keys and tokens print nothing.
        .btree_map(["."])
        .skip_debug(["."])
        .disable_comments(["."])
        .compile_fds(compiled(proto, true).file_descriptor_set())
        .unwrap();
    let messages = fs::read(out.path().join(format!("{module}.rs"))).unwrap();
    let descriptors = compiled(proto, false).file_descriptor_set().encode_to_vec();

    let kept = sds_server().join("src/proto");
    let changed = [("rs", messages), ("bin", descriptors)]
        .map(|(end, new)| differs(&kept.join(format!("{proto}.{end}")), &new));
    assert_eq!(changed, [false; 2], "they were out of date: written anew, commit them");
}

#[test]
fn messages_and_descriptors_of_the_workload_api_are_those_of_its_proto_file() {
    check("workload", "workload");
}

#[test]
fn messages_and_descriptors_of_the_broker_api_are_those_of_its_proto_file() {
    check("broker", "spiffe.broker");
}
