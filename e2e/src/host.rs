//! What the host must bring: root, Linux, a few Debian packages. What is missing is named with the command that
//! installs it, and installed when that needs no question (root on a Debian machine).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::command;

const APT: Duration = Duration::from_mins(15);
const ASK: Duration = Duration::from_secs(20);

/// Something on the host that the local cluster calls, and the Debian package that brings it.
struct Need {
    /// A program name, or an absolute path.
    file: &'static str,
    package: &'static str,
}

const NEEDS: &[Need] = &[
    Need {
        file: "containerd",
        package: "containerd",
    },
    Need {
        file: "ctr",
        package: "containerd",
    },
    Need {
        file: "runc",
        package: "runc",
    },
    Need {
        file: "/usr/lib/cni/ptp",
        package: "containernetworking-plugins",
    },
    Need {
        file: "/usr/lib/cni/host-local",
        package: "containernetworking-plugins",
    },
    Need {
        file: "nft",
        package: "nftables",
    },
    Need {
        file: "iptables",
        package: "iptables",
    },
    Need {
        file: "conntrack",
        package: "conntrack",
    },
    Need {
        file: "ip",
        package: "iproute2",
    },
    Need {
        file: "nsenter",
        package: "util-linux",
    },
    Need {
        file: "setsid",
        package: "util-linux",
    },
    Need {
        file: "mount",
        package: "mount",
    },
];

/// What the upload clients of the e2e cases run on.
const CLIENT_NEEDS: &[Need] = &[
    Need {
        file: "node",
        package: "nodejs",
    },
    Need {
        file: "npm",
        package: "npm",
    },
    Need {
        file: "curl",
        package: "curl",
    },
    Need {
        file: "/usr/bin/chromium",
        package: "chromium",
    },
];
/// What playwright-core asks for; Debian 12 has an older one.
const OLDEST_NODE: u32 = 20;

/// What the commands of the guides call, which the unit tests run.
const GUIDE_NEEDS: &[Need] = &[
    Need {
        file: "curl",
        package: "curl",
    },
    Need {
        file: "openssl",
        package: "openssl",
    },
];

/// Makes sure that curl and openssl are installed.
///
/// # Errors
/// As [`ready_for_cluster`].
pub fn ready_for_guides() -> Result<()> {
    packages(&missing(GUIDE_NEEDS))
}

/// Makes sure that Node, npm, curl and Chromium are installed.
///
/// # Errors
/// As [`ready_for_cluster`], or Node is too old.
pub fn ready_for_clients() -> Result<()> {
    packages(&missing(CLIENT_NEEDS))?;
    let mut node = Command::new("node");
    let version = command::run("node --version", node.arg("--version"), ASK)?;
    let major = version.trim().trim_start_matches('v').split('.').next();
    match major.and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major >= OLDEST_NODE => Ok(()),
        _ => bail!(
            "Node {OLDEST_NODE} or newer is needed (Debian 13 has it), not {}",
            version.trim()
        ),
    }
}

/// Makes sure that everything the local cluster calls is installed.
///
/// # Errors
/// Not root, or packages are missing and could not be installed; the message holds the command to run.
pub fn ready_for_cluster() -> Result<()> {
    require_root()?;
    packages(&missing(NEEDS))
}

/// The cluster needs root: it makes a network namespace, cgroups and mounts, and runs containerd.
///
/// # Errors
/// Not root.
pub fn require_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    bail!(
        "the local cluster needs root (network namespace, cgroups, containerd): run it as root, for example \
         `sudo --preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME cargo xtask …`"
    )
}

/// Makes sure that Python can make a virtual environment, which is how wheels are fetched where pip is missing.
///
/// # Errors
/// As [`ready_for_cluster`].
pub fn ready_for_wheels() -> Result<()> {
    let works = |code: &str| {
        Command::new("python3")
            .args(["-c", code])
            .output()
            .is_ok_and(|out| out.status.success())
    };
    if works("import pip") || works("import venv, ensurepip") {
        return Ok(());
    }
    packages(&["python3", "python3-venv"])
}

fn missing(needs: &[Need]) -> Vec<&'static str> {
    let mut packages: Vec<&str> = needs
        .iter()
        .filter(|need| !present(need.file))
        .map(|need| need.package)
        .collect();
    packages.dedup();
    packages
}

fn present(file: &str) -> bool {
    if file.starts_with('/') {
        Path::new(file).exists()
    } else {
        command::find(file).is_some()
    }
}

fn packages(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!(
        "apt-get update && apt-get install -y --no-install-recommends {}",
        missing.join(" ")
    );
    if command::find("apt-get").is_none() {
        bail!(
            "missing on this machine: {} (names of Debian packages); install them and run this again",
            missing.join(", ")
        );
    }
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "missing packages: {}; install them with: sudo sh -c '{by_hand}'",
            missing.join(", ")
        );
    }
    crate::progress::note(&format!("installing packages: {}", missing.join(" ")));
    let mut update = Command::new("apt-get");
    command::run("apt-get update", update.args(["update", "-q"]), APT)?;
    let mut install = Command::new("apt-get");
    install
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(missing)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command::run(&by_hand, &mut install, APT)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_is_missing_and_each_package_is_named_once() {
        let needs = [
            Need {
                file: "sh",
                package: "dash",
            },
            Need {
                file: "/etc/passwd",
                package: "base-passwd",
            },
            Need {
                file: "no-such-program",
                package: "nothing",
            },
            Need {
                file: "/no/such/file",
                package: "nothing",
            },
        ];
        assert_eq!(missing(&needs), ["nothing"]);
    }
}
