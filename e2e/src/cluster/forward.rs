//! Lets the host reach into a cluster: a port on the host's 127.0.0.1 whose connections go on inside the namespace.
//!
//! A socket stays in the namespace it was made in. So the forwarder binds on the host, moves into the cluster's
//! namespace, and everything it connects to from then on is the cluster's.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::daemon::{self, Spec};
use super::layout::Layout;
use super::netns;

const CONNECT: Duration = Duration::from_secs(5);
const START: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// A forwarded port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Forward {
    /// On the host's 127.0.0.1.
    pub port: u16,
    /// `ip:port` inside the namespace.
    pub target: String,
}

/// Makes sure that `name` forwards to `target`, and says which port of the host does.
///
/// Without `port`, the one it had before is taken if it is free, otherwise any free one.
///
/// # Errors
/// The wanted port is taken, or the forwarder did not start.
pub(super) fn ensure(layout: &Layout, name: &str, port: Option<u16>, target: &str) -> Result<u16> {
    // Whoever drives a cluster calls from inside its namespace, where a listening port is of no use to the host.
    netns::on_host(|| ensure_here(layout, name, port, target))
}

fn ensure_here(layout: &Layout, name: &str, port: Option<u16>, target: &str) -> Result<u16> {
    let component = format!("forward-{name}");
    let before = recorded(layout, name);
    let running = before
        .as_ref()
        .filter(|_| daemon::running(layout, &component).is_some());
    if let Some(running) = running {
        if running.target == target && port.is_none_or(|port| port == running.port) {
            return Ok(running.port);
        }
        if port.is_some_and(|port| port != running.port) {
            choose(port, None)?;
        }
        daemon::stop(layout, &component, GRACE);
    }
    let port = choose(port, before.map(|before| before.port))?;
    let report = report_file(layout, name);
    let _ = fs::remove_file(&report);
    let args = [
        "forward-daemon",
        "--name",
        layout.name(),
        "--forward",
        name,
        "--port",
        &port.to_string(),
        "--target",
        target,
    ];
    let spec = Spec {
        in_namespace: false,
        ..Spec::new(&component, own_program()?, args)
    };
    daemon::ensure(layout, &spec)?;
    let started = Instant::now();
    while started.elapsed() < START {
        if let Some(forward) = recorded(layout, name) {
            return Ok(forward.port);
        }
        std::thread::sleep(PAUSE);
    }
    bail!(
        "forward to {target} did not start; see {}:\n{}",
        layout.log(&component).display(),
        daemon::log_tail(layout, &component)
    )
}

/// Fails early when `name` could not be had on this port of the host.
///
/// # Errors
/// Another program has the port.
pub(super) fn check(layout: &Layout, name: &str, port: u16) -> Result<()> {
    let own = all(layout)
        .iter()
        .any(|(other, forward)| other == name && forward.port == port);
    if own {
        Ok(())
    } else {
        choose(Some(port), None).map(|_| ())
    }
}

/// Forwards of the cluster, by name.
#[must_use]
pub(super) fn all(layout: &Layout) -> Vec<(String, Forward)> {
    let Ok(entries) = fs::read_dir(layout.path("run")) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| {
        Some(
            entry
                .ok()?
                .file_name()
                .to_str()?
                .strip_prefix("forward-")?
                .strip_suffix(".json")?
                .to_owned(),
        )
    });
    let running =
        names.filter(|name| daemon::running(layout, &format!("forward-{name}")).is_some());
    let mut found: Vec<_> = running
        .filter_map(|name| Some((name.clone(), recorded(layout, &name)?)))
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

/// The forwarder itself; runs until it is killed.
///
/// # Errors
/// The port is taken or the namespace is gone.
pub(super) fn serve(layout: &Layout, name: &str, port: u16, target: &str) -> Result<()> {
    let target: SocketAddr = target
        .parse()
        .with_context(|| format!("address {target}"))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("listen on 127.0.0.1:{port}"))?;
    netns::enter(layout)?;
    let forward = Forward {
        port: listener.local_addr()?.port(),
        target: target.to_string(),
    };
    let report = report_file(layout, name);
    let fresh = report.with_extension("new");
    fs::write(&fresh, serde_json::to_vec(&forward)?)
        .with_context(|| format!("write {}", fresh.display()))?;
    fs::rename(&fresh, &report).with_context(|| format!("write {}", report.display()))?;
    for connection in listener.incoming() {
        let Ok(client) = connection else { continue };
        std::thread::spawn(move || {
            if let Err(error) = join(&client, target) {
                eprintln!("forward to {target}: {error}");
            }
        });
    }
    Ok(())
}

fn join(client: &TcpStream, target: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect_timeout(&target, CONNECT)?;
    std::thread::scope(|scope| {
        scope.spawn(|| pump(client, &server));
        pump(&server, client);
    });
    Ok(())
}

/// Copies one direction to its end and passes the end on.
fn pump(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Zero means: any free one.
fn choose(wanted: Option<u16>, before: Option<u16>) -> Result<u16> {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    match (wanted, before) {
        (Some(port), _) if !free(port) => bail!(
            "port {port} of 127.0.0.1 is taken by another program: choose another one, or none to get a free one"
        ),
        (Some(port), _) => Ok(port),
        (None, Some(port)) if free(port) => Ok(port),
        (None, Some(_) | None) => Ok(0),
    }
}

fn recorded(layout: &Layout, name: &str) -> Option<Forward> {
    serde_json::from_slice(&fs::read(report_file(layout, name)).ok()?).ok()
}

fn report_file(layout: &Layout, name: &str) -> PathBuf {
    layout.path("run").join(format!("forward-{name}.json"))
}

/// This program; by its process when the file was replaced by a newer build meanwhile.
fn own_program() -> Result<PathBuf> {
    let program = std::env::current_exe().context("find this program")?;
    if program.exists() {
        Ok(program)
    } else {
        Ok(format!("/proc/{}/exe", std::process::id()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wanted_port_that_is_taken_is_an_error_and_a_remembered_one_is_given_up() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(
            choose(Some(port), None)
                .unwrap_err()
                .to_string()
                .contains("is taken")
        );
        assert_eq!(choose(None, Some(port)).unwrap(), 0);
        drop(taken);
        assert_eq!(choose(Some(port), None).unwrap(), port);
        assert_eq!(choose(None, Some(port)).unwrap(), port);
    }

    #[test]
    fn bytes_and_ends_pass_in_both_directions() {
        use std::io::{Read, Write};
        let echo = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let target = echo.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = echo.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            stream.write_all(text.to_uppercase().as_bytes()).unwrap();
        });
        let front = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = front.local_addr().unwrap();
        let forwarder =
            std::thread::spawn(move || join(&front.accept().unwrap().0, target).unwrap());
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "HELLO");
        server.join().unwrap();
        forwarder.join().unwrap();
    }
}
