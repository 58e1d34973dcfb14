//! A simulated worker: a real stream over TLS with a real token, to whoever leads.

use std::sync::Arc;
use std::time::Duration;

use kinora_protocol::LEADER_METADATA_KEY;
use kinora_protocol::dispatch::dispatch_client::DispatchClient;
use kinora_worker::config::OperatorTarget;
use kinora_worker::dial;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use super::book::Book;
use super::hands::Hands;

const OUTBOUND: usize = 1024;
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Pause after a failure, milliseconds: the real worker's.
const PAUSE: std::ops::RangeInclusive<u64> = 200..=1000;

/// One worker.
pub(super) struct Simulated {
    pub(super) number: usize,
    pub(super) slots: u32,
    pub(super) target: OperatorTarget,
    /// Where the operator's replicas listen: the Service of a real cluster.
    pub(super) addresses: Arc<[String]>,
    pub(super) book: Arc<Book>,
    /// Whether held calls are let go.
    pub(super) let_go: watch::Receiver<bool>,
    /// It says and hears nothing from then on, as if stopped; its connection stays.
    pub(super) frozen: CancellationToken,
}

impl Simulated {
    /// Until the task is aborted.
    pub(super) async fn run(mut self) {
        let mut hands = Hands::new(self.number, self.slots, self.book.clone());
        let mut turn = self.number;
        let mut leader: Option<String> = None;
        loop {
            let followed = leader.is_some();
            let address = leader
                .take()
                .unwrap_or_else(|| self.addresses[turn % self.addresses.len()].clone());
            turn += 1;
            leader = self.session(&mut hands, &address).await;
            if followed || leader.is_none() {
                leader = None;
                let pause = rand::random_range(PAUSE);
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }
    }

    /// One stream, from its dial to its end; the leader, if a standby named it.
    async fn session(&mut self, hands: &mut Hands, address: &str) -> Option<String> {
        let bearer = dial::bearer(&self.target.token_file).await.ok()?;
        let channel = dial::operator(&self.target, address).await.ok()?;
        let mut client = DispatchClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        hands.let_go(*self.let_go.borrow_and_update());
        let (out, messages) = mpsc::channel(OUTBOUND);
        hands.open(out);
        let mut request = Request::new(ReceiverStream::new(messages));
        request.metadata_mut().insert("authorization", bearer);
        let ended = match client.work(request).await {
            Ok(answer) => {
                self.book.connected(self.number, true);
                let ended = self.follow(hands, answer.into_inner()).await;
                self.book.connected(self.number, false);
                ended
            }
            Err(status) => Some(status),
        };
        hands.close();
        ended.as_ref().and_then(leader_of)
    }

    async fn follow(
        &mut self,
        hands: &mut Hands,
        mut inbound: tonic::Streaming<kinora_protocol::dispatch::ToWorker>,
    ) -> Option<Status> {
        while hands.is_open() {
            tokio::select! {
                () = self.frozen.cancelled() => std::future::pending().await,
                message = inbound.message() => match message {
                    Ok(Some(message)) => hands.receive(message),
                    Ok(None) => return None,
                    Err(status) => return Some(status),
                },
                Ok(()) = self.let_go.changed() => hands.let_go(*self.let_go.borrow_and_update()),
                () = tokio::time::sleep_until(hands.next_wake().into()) => hands.tick(),
            }
        }
        None
    }
}

fn leader_of(status: &Status) -> Option<String> {
    let leader = status.metadata().get(LEADER_METADATA_KEY)?;
    leader.to_str().ok().map(str::to_owned)
}
