//! Which images there are, and how they get into a cluster: built from scratch here, imported into its containerd.

mod archive;
mod build;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

pub use archive::{Content, Image};
pub use build::{Profile, binaries};

use crate::cluster::Cluster;
use crate::progress::Progress;
use crate::tools::{Tools, repository_root, wheel};

/// Registry part of all our image names; nothing is ever pulled from it.
pub const REGISTRY: &str = "kinora.local";
/// Kinora's own images; the binary in each is called like the image.
const PROGRAMS: &[&str] = &[
    "kinora-operator",
    "kinora-uploader",
    "kinora-worker",
    REFERENCE_SERVICE,
];
const REFERENCE_SERVICE: &str = "kinora-reference-service";

/// Kinora's images, built; all have one tag.
#[derive(Clone, Debug)]
pub struct Built {
    /// Hash of all that is in them.
    pub tag: String,
    /// The images.
    pub images: Vec<Image>,
    /// Holds the stripped binaries; they go away with it.
    _scratch: std::sync::Arc<tempfile::TempDir>,
}

/// Compiles Kinora and prepares its images; two steps.
///
/// # Errors
/// What the compiler said, or ffmpeg could not be fetched.
pub fn build(profile: Profile, progress: &mut Progress) -> Result<Built> {
    let scratch = scratch()?;
    let ffmpeg = progress.step("ffmpeg for the reference service", || {
        wheel::FFMPEG.binary()
    })?;
    let programs = progress.step(
        "compile operator, uploader, worker, reference service",
        || {
            let args: Vec<&str> = PROGRAMS
                .iter()
                .flat_map(|name| ["--package", name])
                .collect();
            let built = build::binaries(profile, &args)?;
            let mut stripped = Vec::new();
            for name in PROGRAMS {
                let path = built
                    .get(*name)
                    .with_context(|| format!("cargo built no {name}"))?;
                build::stripped(path, &scratch.path().join(name))?;
                stripped.push((*name, scratch.path().join(name)));
            }
            Ok(stripped)
        },
    )?;
    let tag = tag(programs.iter().map(|(_, path)| path).chain([&ffmpeg]))?;
    let images = programs.iter().map(|(name, path)| {
        let mut image = Image::of_program(format!("{REGISTRY}/{name}:{tag}"), path, name);
        if *name == REFERENCE_SERVICE {
            image.contents.insert(
                0,
                Content {
                    source: ffmpeg.clone(),
                    target: "bin/ffmpeg".to_owned(),
                },
            );
        }
        image
    });
    Ok(Built {
        images: images.collect(),
        tag,
        _scratch: scratch.into(),
    })
}

/// Imports the images into a cluster, each only if it is not there; one step, and a line per image.
///
/// # Errors
/// An archive cannot be written, or what `ctr` said.
pub fn load(cluster: &Cluster, built: &Built, progress: &mut Progress) -> Result<()> {
    let lines = progress.step(
        &format!("import the images into cluster {}", cluster.name()),
        || {
            let mut lines = Vec::new();
            for image in &built.images {
                lines.push(load_one(cluster, image)?);
            }
            Ok(lines)
        },
    )?;
    lines.iter().for_each(|line| crate::progress::note(line));
    Ok(())
}

/// Writes the images as docker-archives, which `docker load`, `ctr image import` and `skopeo copy docker-archive:` read;
/// one step, and a line per image.
///
/// # Errors
/// An archive cannot be written.
pub fn save(built: &Built, folder: &Path, progress: &mut Progress) -> Result<()> {
    let written = progress.step(&format!("write the images to {}", folder.display()), || {
        std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let images = built.images.iter();
        images
            .map(|image| image.write_into(folder))
            .collect::<Result<Vec<_>>>()
    })?;
    for path in written {
        crate::progress::note(&path.display().to_string());
    }
    Ok(())
}

fn load_one(cluster: &Cluster, image: &Image) -> Result<String> {
    let folder = scratch()?;
    let archive = image.write_into(folder.path())?;
    let megabytes = archive.metadata()?.len() / 1_000_000;
    let imported = cluster.import_image(&image.reference, &archive)?;
    Ok(format!(
        "{} {megabytes} MB{}",
        image.reference,
        if imported { "" } else { ", was there" }
    ))
}

/// The images that a cluster needs before it can run any pod.
///
/// # Errors
/// What the compiler said.
pub fn node_images(tools: &Tools) -> Result<Vec<Image>> {
    let pause = build::own_binary("pause", include_str!("../bin/pause.rs"))?;
    Ok(vec![
        Image::of_program(crate::cluster::PAUSE_IMAGE.to_owned(), &pause, "pause"),
        Image::of_program(
            crate::cluster::COREDNS_IMAGE.to_owned(),
            &tools.coredns,
            "coredns",
        ),
    ])
}

/// The image of the program that proves a cluster works.
///
/// # Errors
/// What the compiler said.
pub fn hello() -> Result<Image> {
    let program = build::own_binary("hello", include_str!("../bin/hello.rs"))?;
    Ok(Image::of_program(
        format!("{REGISTRY}/hello:1"),
        &program,
        "hello",
    ))
}

fn tag<'a>(files: impl Iterator<Item = &'a PathBuf>) -> Result<String> {
    let mut hash = Sha256::new();
    for path in files {
        let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        hash.update(archive::digest(&mut file)?);
    }
    Ok(hex::encode(hash.finalize())[..12].to_owned())
}

/// A folder for big files of this run; what killed runs left is removed on the way.
fn scratch() -> Result<tempfile::TempDir> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| repository_root().join("target"), PathBuf::from);
    let folder = target.join("kinora-images");
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    for entry in std::fs::read_dir(&folder)?.filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.split('-').next().unwrap_or_default();
        if !std::path::Path::new("/proc").join(owner).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let prefix = format!("{}-", std::process::id());
    tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(&folder)
        .context("make a folder for binaries")
}
