//! The stream to the operator: dial, follow the leader, hand messages over, come back after any failure. I/O.
//!
//! Decides nothing about leases. What it sends is what the machine wrote; what it hears goes to the machine.

use std::net::SocketAddr;
use std::time::Duration;

use kinora_protocol::LEADER_METADATA_KEY;
use kinora_protocol::dispatch::dispatch_client::DispatchClient;
use kinora_protocol::dispatch::{FromWorker, ToWorker};
use rand::Rng;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};
use tracing::{debug, error, info, warn};

use crate::config::OperatorTarget;
use crate::dial::{self, DialError};
use crate::report::chain;

/// A refusal of our protocol version is not mended by haste.
const REFUSED_PAUSE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(30));
/// Messages from the operator are small; a lease is the largest.
const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// What the link tells the driver. `generation` numbers streams, so that late news of an old one is known as such.
#[derive(Debug)]
pub enum LinkEvent {
    /// Dialled; what is put into `outbound` is sent, and the stream ends when `close` is cancelled.
    Opened {
        /// Number of the stream.
        generation: u64,
        /// Messages to the operator.
        outbound: mpsc::Sender<FromWorker>,
        /// Ends the stream.
        close: CancellationToken,
    },
    /// The operator said something.
    Received {
        /// Number of the stream.
        generation: u64,
        /// What.
        message: Box<ToWorker>,
    },
    /// The stream is over.
    Closed {
        /// Number of the stream.
        generation: u64,
    },
}

/// Why a session ended.
#[derive(Debug)]
enum End {
    /// A standby named the leader.
    Redirected(SocketAddr),
    /// Our protocol version, or something else that haste does not mend.
    Refused(String),
    /// Anything else.
    Failed(String),
    /// The driver is gone.
    Closed,
}

/// The task that keeps a stream to the operator.
#[derive(Debug)]
pub struct Link {
    target: OperatorTarget,
    reconnect: (Duration, Duration),
    outbound_capacity: usize,
    events: mpsc::Sender<LinkEvent>,
    generation: u64,
    /// The last failure that was logged: an operator that is away for an hour is one line, not an hour of lines.
    told: Option<String>,
}

impl Link {
    /// A link that has not dialled yet. `reconnect` is the range of the pause after a failure.
    #[must_use]
    pub fn new(
        target: OperatorTarget,
        reconnect: (Duration, Duration),
        outbound_capacity: usize,
        events: mpsc::Sender<LinkEvent>,
    ) -> Self {
        Self {
            target,
            reconnect,
            outbound_capacity,
            events,
            generation: 0,
            told: None,
        }
    }

    /// Runs until the driver drops its end.
    pub async fn run(mut self) {
        let service = format!("{}:{}", self.target.host, self.target.port);
        let mut leader: Option<SocketAddr> = None;
        loop {
            let followed = leader.is_some();
            let address = leader
                .take()
                .map_or_else(|| service.clone(), |address| address.to_string());
            match self.session(&address).await {
                // One step only: a leader that is none sends us back to the Service, with a pause.
                End::Redirected(next) if !followed => {
                    info!(leader = %next, "following the leader");
                    leader = Some(next);
                }
                End::Redirected(next) => {
                    warn!(%address, other = %next, "the named leader leads no more");
                    self.pause(self.reconnect).await;
                }
                End::Refused(problem) => {
                    error!(%address, problem, "the operator refuses this worker; trying again slowly");
                    self.pause(REFUSED_PAUSE).await;
                }
                End::Failed(problem) => {
                    self.tell(&address, problem);
                    self.pause(self.reconnect).await;
                }
                End::Closed => return,
            }
        }
    }

    fn tell(&mut self, address: &str, problem: String) {
        if self.told.as_ref() == Some(&problem) {
            debug!(address, problem, "still no stream to the operator");
            return;
        }
        warn!(address, problem, "no stream to the operator");
        self.told = Some(problem);
    }

    async fn pause(&self, (from, to): (Duration, Duration)) {
        let pause = rand::rng().random_range(from..=to);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.events.closed() => {}
        }
    }

    async fn session(&mut self, address: &str) -> End {
        if self.events.is_closed() {
            return End::Closed;
        }
        let (client, bearer) = match self.dial(address).await {
            Ok(dialled) => dialled,
            Err(error) => return End::Failed(error.to_string()),
        };
        self.generation += 1;
        let generation = self.generation;
        let (outbound, messages) = mpsc::channel(self.outbound_capacity);
        let close = CancellationToken::new();
        let opened = LinkEvent::Opened {
            generation,
            outbound,
            close: close.clone(),
        };
        if self.events.send(opened).await.is_err() {
            return End::Closed;
        }
        let mut request = Request::new(ReceiverStream::new(messages));
        request.metadata_mut().insert("authorization", bearer);
        let end = tokio::select! {
            end = self.follow(client, request, generation) => end,
            () = close.cancelled() => End::Failed("given up by this worker".to_owned()),
        };
        if self
            .events
            .send(LinkEvent::Closed { generation })
            .await
            .is_err()
        {
            return End::Closed;
        }
        end
    }

    async fn dial(
        &self,
        address: &str,
    ) -> Result<
        (
            DispatchClient<tonic::transport::Channel>,
            tonic::metadata::MetadataValue<tonic::metadata::Ascii>,
        ),
        DialError,
    > {
        let bearer = dial::bearer(&self.target.token_file).await?;
        let channel = dial::operator(&self.target, address).await?;
        let client = DispatchClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok((client, bearer))
    }

    /// No timeout here: the machine watches for silence from the Hello on and closes the stream.
    async fn follow(
        &mut self,
        mut client: DispatchClient<tonic::transport::Channel>,
        request: Request<ReceiverStream<FromWorker>>,
        generation: u64,
    ) -> End {
        let mut inbound = match client.work(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return end_of(&status),
        };
        info!(generation, "stream to the operator is open");
        self.told = None;
        loop {
            match inbound.message().await {
                Ok(Some(message)) => {
                    let received = LinkEvent::Received {
                        generation,
                        message: Box::new(message),
                    };
                    if self.events.send(received).await.is_err() {
                        return End::Closed;
                    }
                }
                Ok(None) => return End::Failed("the operator ended the stream".to_owned()),
                Err(status) => return end_of(&status),
            }
        }
    }
}

fn end_of(status: &Status) -> End {
    let leader = status
        .metadata()
        .get(LEADER_METADATA_KEY)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok());
    match (status.code(), leader) {
        (Code::FailedPrecondition, Some(address)) => End::Redirected(address),
        (Code::InvalidArgument | Code::Unimplemented, _) => {
            End::Refused(status.message().to_owned())
        }
        _ => End::Failed(format!("{:?}: {}", status.code(), chain(status))),
    }
}
