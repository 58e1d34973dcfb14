//! The gRPC service: authentication, version, redirect, Hello. What follows is [`super::stream`]'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kinora_engine::ids::SessionId;
use kinora_protocol::dispatch::dispatch_server::Dispatch;
use kinora_protocol::{DISPATCH_PROTOCOL_VERSION, LEADER_METADATA_KEY, dispatch as wire};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::allowances::Allowances;
use super::{Line, MAX_SLOTS, MAX_UID_BYTES, QUEUE, Said, is_believable, most_leases, stream};
use crate::core::handle::CoreCounters;
use crate::core::seams::{AuthError, Authenticate};
use crate::ports::{Leadership, WorkerIdentity};

const AUTH_TIMEOUT: Duration = Duration::from_secs(5);
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// `kinora.dispatch.v1.Dispatch`, as the core serves it.
#[derive(Clone)]
pub struct DispatchService {
    authenticate: Arc<dyn Authenticate>,
    leadership: watch::Receiver<Leadership>,
    said: mpsc::Sender<Said>,
    counters: Arc<CoreCounters>,
    last_session: Arc<AtomicU64>,
    allowances: Allowances,
}

impl DispatchService {
    pub(crate) fn new(
        authenticate: Arc<dyn Authenticate>,
        leadership: watch::Receiver<Leadership>,
        said: mpsc::Sender<Said>,
        counters: Arc<CoreCounters>,
    ) -> DispatchService {
        DispatchService {
            authenticate,
            leadership,
            said,
            counters,
            last_session: Arc::default(),
            allowances: Allowances::default(),
        }
    }

    async fn who(&self, metadata: &MetadataMap) -> Result<WorkerIdentity, Status> {
        let token = metadata
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .ok_or_else(|| Status::unauthenticated("no bearer token"))?;
        match timeout(AUTH_TIMEOUT, self.authenticate.authenticate(token)).await {
            Ok(Ok(who)) => Ok(who),
            Ok(Err(AuthError::Refused(why))) => {
                tracing::warn!(why, "a worker's token was refused");
                Err(Status::unauthenticated("the token was refused"))
            }
            Ok(Err(AuthError::Unavailable(why))) => {
                tracing::warn!(why, "a worker's token could not be judged");
                Err(Status::unavailable("the token cannot be judged now"))
            }
            Err(_) => Err(Status::unavailable("the token could not be judged in time")),
        }
    }

    async fn begin(
        &self,
        request: Request<Streaming<wire::FromWorker>>,
    ) -> Result<ReceiverStream<Result<wire::ToWorker, Status>>, Status> {
        redirect(&self.leadership.borrow())?;
        let who = Arc::new(self.who(request.metadata()).await?);
        let mut inbound = request.into_inner();
        let hello = match timeout(HELLO_TIMEOUT, inbound.message()).await {
            Ok(first) => checked(first?)?,
            Err(_) => return Err(Status::deadline_exceeded("no Hello within 5 s")),
        };
        let slots = hello.slots;
        let share = self.allowances.of(&who.pod_uid, slots, Instant::now());
        if !share.take(hello.held.len() + hello.unacked.len(), Instant::now()) {
            return Err(Status::resource_exhausted("this pod says too much"));
        }
        let session = SessionId(self.last_session.fetch_add(1, Ordering::Relaxed) + 1);
        let (out, messages) = mpsc::channel(QUEUE);
        let hang_up = CancellationToken::new();
        let (known, is_known) = oneshot::channel();
        let begins = Said::Hello {
            session,
            who: who.clone(),
            line: Line {
                out,
                hang_up: hang_up.clone(),
                slots,
                most: most_leases(slots),
            },
            hello,
            known,
        };
        let gone = |_| Status::unavailable("the operator is shutting down");
        self.said.send(begins).await.map_err(|_| gone(()))?;
        is_known.await.map_err(|_| gone(()))?;
        tokio::spawn(stream::read(
            inbound,
            (session, slots),
            share,
            who,
            self.said.clone(),
            hang_up,
            self.counters.clone(),
        ));
        Ok(ReceiverStream::new(messages))
    }
}

#[tonic::async_trait]
impl Dispatch for DispatchService {
    type WorkStream = ReceiverStream<Result<wire::ToWorker, Status>>;

    async fn work(
        &self,
        request: Request<Streaming<wire::FromWorker>>,
    ) -> Result<Response<Self::WorkStream>, Status> {
        match self.begin(request).await {
            Ok(messages) => Ok(Response::new(messages)),
            Err(status) => {
                self.counters
                    .refused_streams
                    .fetch_add(1, Ordering::Relaxed);
                Err(status)
            }
        }
    }
}

/// Anybody but the leader sends workers to it.
pub(crate) fn redirect(leadership: &Leadership) -> Result<(), Status> {
    let leader_address = match leadership {
        Leadership::Leader | Leadership::Doubtful => return Ok(()),
        Leadership::CutOff => &None,
        Leadership::Standby { leader_address } => leader_address,
    };
    let Some(address) = leader_address else {
        return Err(Status::unavailable("nobody leads at the moment"));
    };
    let mut status = Status::failed_precondition("another replica leads");
    if let Ok(value) = address.parse() {
        status.metadata_mut().insert(LEADER_METADATA_KEY, value);
    }
    Err(status)
}

/// The Hello of a version that this build speaks, with believable numbers.
fn checked(first: Option<wire::FromWorker>) -> Result<wire::Hello, Status> {
    let Some(wire::from_worker::Message::Hello(mut hello)) = first.and_then(|m| m.message) else {
        return Err(Status::invalid_argument("the first message must be Hello"));
    };
    if hello.protocol_version != DISPATCH_PROTOCOL_VERSION {
        return Err(Status::invalid_argument(format!(
            "the worker speaks dispatch protocol {}, this operator speaks {DISPATCH_PROTOCOL_VERSION}; \
             run workers and operator of the same release",
            hello.protocol_version
        )));
    }
    hello.slots = hello.slots.clamp(1, MAX_SLOTS);
    let listed = hello.held.iter().chain(&hello.unacked);
    if !is_believable(listed, hello.slots) || !(1..=MAX_UID_BYTES).contains(&hello.instance.len()) {
        return Err(Status::invalid_argument(
            "Hello without a usable instance, or with unbelievable leases",
        ));
    }
    Ok(hello)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn hello(version: u32) -> Option<wire::FromWorker> {
        Some(wire::FromWorker {
            message: Some(wire::from_worker::Message::Hello(wire::Hello {
                protocol_version: version,
                slots: 0,
                instance: "p1".into(),
                ..wire::Hello::default()
            })),
        })
    }

    #[test]
    fn a_standby_names_the_leader_and_without_one_says_unavailable() {
        let named = redirect(&Leadership::Standby {
            leader_address: Some("10.0.0.7:8443".into()),
        });
        let status = named.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(
            status.metadata().get(LEADER_METADATA_KEY).unwrap(),
            "10.0.0.7:8443"
        );
        let nobody = redirect(&Leadership::Standby {
            leader_address: None,
        });
        assert_eq!(nobody.unwrap_err().code(), Code::Unavailable);
        let cut_off = redirect(&Leadership::CutOff);
        assert_eq!(cut_off.unwrap_err().code(), Code::Unavailable);
        assert!(redirect(&Leadership::Leader).is_ok());
        assert!(redirect(&Leadership::Doubtful).is_ok());
    }

    #[test]
    fn another_version_is_refused_and_never_guessed() {
        let refused = checked(hello(DISPATCH_PROTOCOL_VERSION + 1)).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(checked(hello(DISPATCH_PROTOCOL_VERSION)).unwrap().slots, 1);
        assert_eq!(checked(None).unwrap_err().code(), Code::InvalidArgument);
    }
}
