//! An image of one layer with one file, written by hand in the OCI image layout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use serde_json::{Value, json};

const KIND: &str = "application/vnd.oci.image";

/// The archive of an image `name` that has `program` as `/pod` and nothing else, made in `dir`; and the image's id.
///
/// # Errors
/// It cannot be written.
pub(super) fn make(dir: &Path, name: &str, program: &Path) -> Result<(PathBuf, String)> {
    let (tree, layout) = (dir.join("tree"), dir.join("layout"));
    for place in [&tree, &layout.join("blobs/sha256")] {
        fs::create_dir_all(place)?;
    }
    fs::copy(program, tree.join("pod"))?;
    let blob = |bytes: &[u8], kind: &str| -> Result<Value> {
        let hash = HEXLOWER.encode(digest(&SHA256, bytes).as_ref());
        fs::write(layout.join("blobs/sha256").join(&hash), bytes)?;
        let (kind, hash) = (format!("{KIND}.{kind}"), format!("sha256:{hash}"));
        Ok(json!({ "mediaType": kind, "digest": hash, "size": bytes.len() }))
    };
    let packed = pack(&tree, &dir.join("layer.tar"))?;
    let layer = blob(&fs::read(packed)?, "layer.v1.tar")?;
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Entrypoint": ["/pod"], "Cmd": ["pause"] },
        // Not compressed: the layer is its own content.
        "rootfs": { "type": "layers", "diff_ids": [layer.get("digest")] },
    });
    let config = blob(config.to_string().as_bytes(), "config.v1+json")?;
    let id = config.get("digest").and_then(Value::as_str).unwrap_or_default().to_owned();
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let mut manifest = blob(manifest.to_string().as_bytes(), "manifest.v1+json")?;
    if let Some(fields) = manifest.as_object_mut() {
        fields.insert("annotations".into(), json!({ "io.containerd.image.name": name }));
    }
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok((pack(&layout, &dir.join("image.tar"))?, id))
}

fn pack(tree: &Path, archive: &Path) -> Result<PathBuf> {
    let packed = Command::new("tar").arg("-C").arg(tree).arg("-cf").arg(archive).arg(".").status()?;
    ensure!(packed.success(), "tar: {packed}");
    Ok(archive.to_owned())
}
