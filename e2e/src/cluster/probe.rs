//! Waits for conditions of the cluster, never for a time; what does not come is explained with the end of a log.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::layout::Layout;
use super::{daemon, kubectl, netns};
use crate::command;

const PAUSE: Duration = Duration::from_millis(100);
const ONE_REQUEST: Duration = Duration::from_secs(3);
const ONE_COMMAND: Duration = Duration::from_secs(15);

/// Asks until the answer is `Ok`, as long as the component runs.
///
/// # Errors
/// The time is up or the component has ended; says the last answer and the end of the component's log.
pub(super) fn until<T>(
    layout: &Layout,
    component: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let error = match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let ended = daemon::running(layout, component).is_none();
        if ended || started.elapsed() > limit {
            let why = if ended {
                "has ended".to_owned()
            } else {
                format!("is not ready after {} s", limit.as_secs())
            };
            bail!(
                "{component} {why}: {error:#}; see {}, which ends with:\n{}",
                layout.log(component).display(),
                daemon::log_tail(layout, component)
            );
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits until a component answers 200 on a plain HTTP path inside the namespace.
///
/// # Errors
/// As [`until`].
pub(super) fn http_until(
    layout: &Layout,
    component: &str,
    address: &str,
    path: &str,
    limit: Duration,
) -> Result<()> {
    in_namespace(layout, || {
        until(layout, component, limit, || {
            http_status(address, path).and_then(must_be_200)
        })
    })
}

/// Waits until kubectl succeeds.
///
/// # Errors
/// As [`until`].
pub(super) fn kubectl_until(
    layout: &Layout,
    component: &str,
    args: &[&str],
    limit: Duration,
) -> Result<()> {
    until(layout, component, limit, || {
        command::run("kubectl", kubectl::command(layout)?.args(args), ONE_COMMAND).map(|_| ())
    })
}

/// Status code of a plain HTTP GET, from the calling thread's namespace.
///
/// # Errors
/// No connection, or no HTTP answer.
pub(super) fn http_status(address: &str, path: &str) -> Result<u16> {
    let socket: SocketAddr = address
        .parse()
        .with_context(|| format!("address {address}"))?;
    let mut stream = TcpStream::connect_timeout(&socket, ONE_REQUEST)
        .with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(ONE_REQUEST))?;
    stream.set_write_timeout(Some(ONE_REQUEST))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")
        .with_context(|| format!("ask {address}"))?;
    let mut head = [0_u8; 12];
    stream
        .read_exact(&mut head)
        .with_context(|| format!("read the answer of {address}"))?;
    let text = String::from_utf8_lossy(&head);
    text.get(9..12)
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("{address} does not speak HTTP: {text}"))
}

/// Runs `work` on a thread that is in the cluster's network namespace.
///
/// # Errors
/// There is no such namespace, or those of `work`.
pub(super) fn in_namespace<T: Send>(
    layout: &Layout,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<T> {
    let outcome = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                netns::enter(layout)?;
                work()
            })
            .join()
    });
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn must_be_200(status: u16) -> Result<()> {
    if status == 200 {
        Ok(())
    } else {
        bail!("answers {status}")
    }
}
