//! Open files: the load of thousands of clients is sockets of this process, and of the peers that it starts.

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Beside the clients' sockets: the store's, logs, libraries.
const OTHERS: u64 = 500;

/// Raises the soft limit to the hard one, which the peers inherit.
///
/// # Errors
/// So many clients and what else is open do not fit.
pub(crate) fn room_for(clients: usize) -> Result<()> {
    let (_, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).context("ask for the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raise the limit of open files")?;
    fits(clients, hard)
}

fn fits(clients: usize, hard: u64) -> Result<()> {
    let needed = u64::try_from(clients)?.saturating_add(OTHERS);
    ensure!(
        hard >= needed,
        "{needed} open files are needed and the hard limit is {hard}: raise it (ulimit -Hn {needed}, as root)"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_small_a_hard_limit_is_told() {
        assert!(fits(5000, 5500).is_ok());
        let said = fits(5000, 4096).unwrap_err().to_string();
        assert!(said.contains("5500") && said.contains("4096"), "{said}");
    }
}
