//! The network between a client and the uploader's Service: a forwarder that counts what the client sends, slows it
//! down, and cuts it at a byte that a case names. Each connection goes to the Service anew, so to any replica.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A slow line carries this much a second: more than the uploader's least, far less than a client has.
const SLOW_BYTES: u64 = 32 << 10;
const CHUNK: usize = 16 << 10;

/// What the line does once it has carried so many bytes.
#[derive(Clone, Copy, Debug)]
enum Plan {
    Free,
    /// Carries nothing on; whoever is connected then stays unheard, and is cut off when the plan changes.
    HoldAt(u64),
    SlowFrom(u64),
}

#[derive(Debug)]
struct State {
    sent: AtomicU64,
    plan: watch::Sender<Plan>,
    held: watch::Sender<bool>,
    service: SocketAddr,
}

/// One client's line.
#[derive(Debug)]
pub(super) struct Line {
    state: Arc<State>,
    /// Where the client connects.
    pub(super) address: SocketAddr,
    _open: DropGuard,
}

impl Line {
    /// A line to the Service at this address.
    ///
    /// # Errors
    /// No port is free.
    pub(super) async fn to(service: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            sent: AtomicU64::new(0),
            plan: watch::Sender::new(Plan::Free),
            held: watch::Sender::new(false),
            service,
        });
        let closed = CancellationToken::new();
        tokio::spawn(accept(listener, Arc::clone(&state), closed.clone()));
        Ok(Self {
            state,
            address,
            _open: closed.drop_guard(),
        })
    }

    /// Bytes that the client has sent over all its connections, headers too.
    pub(super) fn sent(&self) -> u64 {
        self.state.sent.load(Ordering::Relaxed)
    }

    /// Carries no more than so many bytes, until [`Self::release`].
    pub(super) fn hold_at(&self, bytes: u64) {
        self.state.held.send_replace(false);
        self.state.plan.send_replace(Plan::HoldAt(bytes));
    }

    /// Resolves when that many have gone through.
    pub(super) async fn held(&self) {
        let mut held = self.state.held.subscribe();
        // The sender lives as long as the line.
        let _ = held.wait_for(|held| *held).await;
    }

    /// Slow from this byte on, until [`Self::release`].
    pub(super) fn slow_from(&self, bytes: u64) {
        self.state.plan.send_replace(Plan::SlowFrom(bytes));
    }

    /// As fast as it goes. What was held is cut off.
    pub(super) fn release(&self) {
        self.state.plan.send_replace(Plan::Free);
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, closed: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = closed.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((client, _)) = accepted else { continue };
        let (state, closed) = (Arc::clone(&state), closed.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = closed.cancelled() => {}
                _ = carry(client, &state) => {}
            }
        });
    }
}

/// Ends when either side does; both sockets close with it.
async fn carry(client: TcpStream, state: &State) -> std::io::Result<()> {
    let service = TcpStream::connect(state.service).await?;
    let (from_client, mut to_client) = client.into_split();
    let (mut from_service, to_service) = service.into_split();
    tokio::select! {
        ended = upwards(from_client, to_service, state) => ended,
        ended = tokio::io::copy(&mut from_service, &mut to_client) => ended.map(|_| ()),
    }
}

async fn upwards(
    mut client: OwnedReadHalf,
    mut service: OwnedWriteHalf,
    state: &State,
) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let sent = state.sent.load(Ordering::Relaxed);
        let plan = *state.plan.borrow();
        match plan {
            Plan::HoldAt(bytes) if sent >= bytes => {
                let mut changes = state.plan.subscribe();
                state.held.send_replace(true);
                let _ = changes
                    .wait_for(|plan| !matches!(plan, Plan::HoldAt(_)))
                    .await;
                return Ok(());
            }
            Plan::SlowFrom(bytes) if sent >= bytes => {
                let pause = CHUNK as u64 * 1000 / SLOW_BYTES;
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
            Plan::Free | Plan::HoldAt(_) | Plan::SlowFrom(_) => {}
        }
        let n = client.read(&mut chunk).await?;
        if n == 0 {
            return Ok(());
        }
        service.write_all(&chunk[..n]).await?;
        state.sent.fetch_add(n as u64, Ordering::Relaxed);
    }
}
