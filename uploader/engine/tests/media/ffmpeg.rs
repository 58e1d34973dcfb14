//! Files that ffmpeg makes.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

fn binary() -> std::ffi::OsString {
    std::env::var_os("KINORA_FFMPEG").unwrap_or_else(|| "ffmpeg".into())
}

/// Runs ffmpeg into a file of this extension, or into a pipe with `pipe:` before the format.
pub(crate) fn run(name: &str, args: &str, out: &str) -> Vec<u8> {
    static DIR: OnceLock<tempdir::Dir> = OnceLock::new();
    let dir = DIR.get_or_init(tempdir::Dir::new);
    let mut command = Command::new(binary());
    command.args(["-v", "error", "-nostdin", "-y", "-threads", "1"]);
    command.args(args.split_whitespace());
    let piped = out.strip_prefix("pipe:");
    let path = dir
        .0
        .join(format!("{}.{out}", name.replace([' ', '/'], "-")));
    match piped {
        Some(format) => command.args(["-f", format, "pipe:1"]),
        None => command.arg(&path),
    };
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{error}: these tests need ffmpeg; name it in KINORA_FFMPEG or put it on the PATH"
            )
        });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "ffmpeg made no {name} ({args}): {said}"
    );
    match piped {
        Some(_) => output.stdout,
        None => {
            let bytes = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            bytes
        }
    }
}

mod tempdir {
    /// A directory of this process; its files are removed as they are read.
    pub(super) struct Dir(pub(super) std::path::PathBuf);

    impl Dir {
        pub(super) fn new() -> Self {
            let path = std::env::temp_dir().join(format!("kinora-media-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }
}

/// A picture of so many seconds at ten frames a second.
pub(crate) fn picture(seconds: f64) -> String {
    format!("-f lavfi -i testsrc=s=64x64:r=10:d={seconds}")
}

/// A tone of so many seconds.
pub(crate) fn tone(seconds: f64) -> String {
    format!("-f lavfi -i sine=r=44100:d={seconds}")
}
