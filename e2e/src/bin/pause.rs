//! First process of every pod of the local cluster: holds the pod's namespaces, reaps what loses its parent, ends
//! when it is told to. Runs from an image that holds nothing else.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

fn main() -> std::process::ExitCode {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        signals.add(signal);
    }
    if let Err(error) = signals.thread_block() {
        eprintln!("pause: block signals: {error}");
        return std::process::ExitCode::FAILURE;
    }
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => reap(),
            Ok(_) => return std::process::ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("pause: wait for a signal: {error}");
                return std::process::ExitCode::FAILURE;
            }
        }
    }
}

/// Several children may have ended for one signal.
fn reap() {
    while waitpid(None, Some(WaitPidFlag::WNOHANG))
        .is_ok_and(|status| status != WaitStatus::StillAlive)
    {}
}
