//! Container images from scratch as docker-archives, the same bytes for the same files: no times, no owners, fixed order.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

const PASSWD: &[u8] = b"root:x:0:0::/:/\nnonroot:x:65532:65532::/:/\n";

/// A file of an image; executable, owned by root.
#[derive(Clone, Debug)]
pub struct Content {
    /// On the host.
    pub source: PathBuf,
    /// In the image, without the leading slash.
    pub target: String,
}

/// An image: one layer per file, so that a big file that does not change is imported once.
#[derive(Clone, Debug)]
pub struct Image {
    /// `registry/name:tag`.
    pub reference: String,
    /// Absolute path in the image of what it runs.
    pub entrypoint: String,
    /// What is in it besides `/etc/passwd` and `/tmp`.
    pub contents: Vec<Content>,
}

impl Image {
    /// An image of one program, which it runs.
    #[must_use]
    pub fn of_program(reference: String, program: &Path, name: &str) -> Self {
        let contents = vec![Content {
            source: program.to_owned(),
            target: format!("bin/{name}"),
        }];
        Self {
            reference,
            entrypoint: format!("/bin/{name}"),
            contents,
        }
    }

    /// Writes the archive into `folder` and returns its path.
    ///
    /// # Errors
    /// A file cannot be read or the archive not be written.
    pub fn write_into(&self, folder: &Path) -> Result<PathBuf> {
        let name = self.reference.replace(['/', ':'], "_");
        let path = folder.join(format!("{name}.tar"));
        let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
        let mut archive = tar::Builder::new(BufWriter::new(file));
        let mut layers = vec![base_layer()?];
        for content in &self.contents {
            layers.push(
                layer(content).with_context(|| format!("pack {}", content.source.display()))?,
            );
        }
        let mut names = Vec::new();
        let mut digests = Vec::new();
        for mut layer in layers {
            let digest = digest(&mut layer)?;
            let name = format!("{digest}.tar");
            let length = layer.seek(std::io::SeekFrom::End(0))?;
            layer.rewind()?;
            archive.append_data(
                &mut header(length, 0o644, tar::EntryType::Regular),
                &name,
                layer,
            )?;
            names.push(name);
            digests.push(format!("sha256:{digest}"));
        }
        let config = serde_json::to_vec(&self.config(&digests))?;
        let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
        append(&mut archive, &config_name, &config)?;
        let manifest =
            json!([{"Config": config_name, "RepoTags": [self.reference], "Layers": names}]);
        append(
            &mut archive,
            "manifest.json",
            &serde_json::to_vec(&manifest)?,
        )?;
        archive
            .into_inner()?
            .flush()
            .with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    fn config(&self, digests: &[String]) -> serde_json::Value {
        let history: Vec<_> = digests
            .iter()
            .map(|_| json!({"created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask images"}))
            .collect();
        json!({
            "architecture": "amd64", "os": "linux",
            "config": {"User": "65532:65532", "Entrypoint": [self.entrypoint], "Env": ["PATH=/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": digests}, "history": history,
        })
    }
}

/// What every image has.
fn base_layer() -> Result<File> {
    let mut layer = tar::Builder::new(tempfile::tempfile()?);
    for (folder, mode) in [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777)] {
        layer.append_data(
            &mut header(0, mode, tar::EntryType::Directory),
            folder,
            std::io::empty(),
        )?;
    }
    append(&mut layer, "etc/passwd", PASSWD)?;
    Ok(layer.into_inner()?)
}

fn layer(content: &Content) -> Result<File> {
    let source = File::open(&content.source)?;
    let length = source.metadata()?.len();
    let mut layer = tar::Builder::new(tempfile::tempfile()?);
    for folder in parents(&content.target) {
        layer.append_data(
            &mut header(0, 0o755, tar::EntryType::Directory),
            &folder,
            std::io::empty(),
        )?;
    }
    layer.append_data(
        &mut header(length, 0o755, tar::EntryType::Regular),
        &content.target,
        source.take(length),
    )?;
    Ok(layer.into_inner()?)
}

fn parents(target: &str) -> BTreeSet<String> {
    Path::new(target)
        .ancestors()
        .skip(1)
        .filter(|path| !path.as_os_str().is_empty())
        .map(|path| format!("{}/", path.display()))
        .collect()
}

fn append<W: Write>(archive: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> Result<()> {
    archive.append_data(
        &mut header(bytes.len() as u64, 0o644, tar::EntryType::Regular),
        name,
        bytes,
    )?;
    Ok(())
}

fn header(length: u64, mode: u32, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(length);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// SHA-256 of a whole file; leaves the position at its end.
pub(super) fn digest(file: &mut File) -> Result<String> {
    file.rewind()?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finalize())),
            length => hash.update(&buffer[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_make_the_same_archive_whenever_and_wherever() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::write(&program, b"one").unwrap();
        let image = Image::of_program("kinora.local/x:1".to_owned(), &program, "x");
        let first = std::fs::read(image.write_into(folder.path()).unwrap()).unwrap();
        std::fs::remove_file(&program).unwrap();
        std::fs::write(&program, b"one").unwrap();
        let second = std::fs::read(image.write_into(folder.path()).unwrap()).unwrap();
        assert!(first == second);
        std::fs::write(&program, b"two").unwrap();
        let third = std::fs::read(image.write_into(folder.path()).unwrap()).unwrap();
        assert!(first != third);
    }

    #[test]
    fn the_archive_names_its_image_and_its_program_is_executable() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::write(&program, b"one").unwrap();
        let path = Image::of_program("kinora.local/x:1".to_owned(), &program, "x")
            .write_into(folder.path())
            .unwrap();
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        let mut manifest = String::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            if entry.path().unwrap().ends_with("manifest.json") {
                entry.read_to_string(&mut manifest).unwrap();
            }
        }
        assert!(
            manifest.contains("\"RepoTags\":[\"kinora.local/x:1\"]"),
            "{manifest}"
        );
        let mut layer = tar::Archive::new(
            layer(&Content {
                source: program,
                target: "bin/x".to_owned(),
            })
            .unwrap(),
        );
        layer_is_executable(&mut layer);
    }

    fn layer_is_executable(archive: &mut tar::Archive<File>) {
        // The builder leaves the position at the end.
        let mut file = tempfile::tempfile().unwrap();
        let mut inner =
            std::mem::replace(archive, tar::Archive::new(tempfile::tempfile().unwrap()))
                .into_inner();
        inner.rewind().unwrap();
        std::io::copy(&mut inner, &mut file).unwrap();
        file.rewind().unwrap();
        let modes: Vec<_> = tar::Archive::new(file)
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().header().mode().unwrap())
            .collect();
        assert_eq!(modes, [0o755, 0o755]);
    }
}
