//! A fake operator: real TLS, real gRPC, and no opinion. Tests say what it says.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use kinora_protocol::LEADER_METADATA_KEY;
use kinora_protocol::dispatch::ack::Verdict;
use kinora_protocol::dispatch::dispatch_server::{Dispatch, DispatchServer};
use kinora_protocol::dispatch::{
    Ack, AttemptRef, Beat, Cancel, Drain, FromWorker, Heartbeat, Hello, Lease, Outcome,
    OutputTarget, ToWorker, from_worker, to_worker,
};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use super::soon;

/// CA, certificate and key in PEM.
pub struct Pki {
    pub ca: String,
    pub certificate: String,
    pub key: String,
}

/// A CA of its own and a certificate for `localhost`, and for nothing else.
pub fn pki() -> Pki {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = leaf.signed_by(&key, &issuer).unwrap();
    Pki {
        ca: ca.pem(),
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

/// One or more of these share a CA when made with [`FakeOperator::beside`].
pub struct FakeOperator {
    pub address: SocketAddr,
    /// `ca.crt` and `token`, as a worker pod has them mounted.
    pub dir: TempDir,
    pki: Arc<Pki>,
    streams: mpsc::UnboundedReceiver<Stream>,
    refusal: Arc<Mutex<Option<Status>>>,
    /// Streams asked for, refused ones included.
    pub asked: Arc<Mutex<Vec<String>>>,
}

struct Handler {
    streams: mpsc::UnboundedSender<Stream>,
    refusal: Arc<Mutex<Option<Status>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

type Outbound = mpsc::UnboundedSender<Result<ToWorker, Status>>;

/// One stream of a worker, seen from the operator.
pub struct Stream {
    inbound: mpsc::UnboundedReceiver<FromWorker>,
    outbound: Arc<Mutex<(u64, Option<Outbound>)>>,
    /// Heartbeats are echoed while this is true.
    pub echo: Arc<AtomicBool>,
}

impl FakeOperator {
    pub async fn start() -> Self {
        Self::with(Arc::new(pki())).await
    }

    /// A second replica with the same CA.
    pub async fn beside(&self) -> Self {
        Self::with(Arc::clone(&self.pki)).await
    }

    async fn with(pki: Arc<Pki>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.crt"), &pki.ca).unwrap();
        std::fs::write(dir.path().join("token"), "token-1\n").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, streams) = mpsc::unbounded_channel();
        let refusal = Arc::new(Mutex::new(None));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let handler = Handler {
            streams: sender,
            refusal: Arc::clone(&refusal),
            asked: Arc::clone(&asked),
        };
        let identity = Identity::from_pem(&pki.certificate, &pki.key);
        let server = Server::builder()
            .tls_config(ServerTlsConfig::new().identity(identity))
            .unwrap()
            .add_service(DispatchServer::new(handler))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        Self {
            address,
            dir,
            pki,
            streams,
            refusal,
            asked,
        }
    }

    /// Streams are refused with this until told otherwise.
    pub fn refuse(&self, refusal: Option<Status>) {
        *self.refusal.lock().unwrap() = refusal;
    }

    /// A standby that names the leader.
    pub fn follow(&self, leader: SocketAddr) {
        let mut status = Status::failed_precondition("not the leader");
        status
            .metadata_mut()
            .insert(LEADER_METADATA_KEY, leader.to_string().parse().unwrap());
        self.refuse(Some(status));
    }

    /// The next stream that is opened, and its Hello.
    pub async fn stream(&mut self) -> (Stream, Hello) {
        let mut stream = soon("a stream", self.streams.recv()).await.unwrap();
        match stream.next().await {
            from_worker::Message::Hello(hello) => (stream, hello),
            other => panic!("{other:?} before Hello"),
        }
    }
}

#[tonic::async_trait]
impl Dispatch for Handler {
    type WorkStream = UnboundedReceiverStream<Result<ToWorker, Status>>;

    async fn work(
        &self,
        request: Request<Streaming<FromWorker>>,
    ) -> Result<Response<Self::WorkStream>, Status> {
        let bearer = request.metadata().get("authorization").cloned();
        let bearer = bearer.map_or_else(String::new, |v| v.to_str().unwrap().to_owned());
        self.asked.lock().unwrap().push(bearer);
        if let Some(status) = self.refusal.lock().unwrap().clone() {
            return Err(status);
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let (forward, inbound) = mpsc::unbounded_channel();
        let stream = Stream {
            inbound,
            outbound: Arc::new(Mutex::new((0, Some(sender)))),
            echo: Arc::new(AtomicBool::new(true)),
        };
        let (outbound, echo) = (Arc::clone(&stream.outbound), Arc::clone(&stream.echo));
        tokio::spawn(read(request.into_inner(), forward, outbound, echo));
        let _ = self.streams.send(stream);
        Ok(Response::new(UnboundedReceiverStream::new(receiver)))
    }
}

async fn read(
    mut messages: Streaming<FromWorker>,
    forward: mpsc::UnboundedSender<FromWorker>,
    outbound: Arc<Mutex<(u64, Option<Outbound>)>>,
    echo: Arc<AtomicBool>,
) {
    while let Ok(Some(message)) = messages.message().await {
        if let Some(from_worker::Message::Heartbeat(beat)) = &message.message
            && echo.load(Ordering::SeqCst)
        {
            push(&outbound, to_worker::Message::Beat(Beat { seq: beat.seq }));
        }
        if forward.send(message).is_err() {
            return;
        }
    }
}

fn push(outbound: &Mutex<(u64, Option<Outbound>)>, message: to_worker::Message) {
    let mut outbound = outbound.lock().unwrap();
    outbound.0 += 1;
    let seq = outbound.0;
    if let Some(sender) = &outbound.1 {
        let _ = sender.send(Ok(ToWorker {
            seq,
            message: Some(message),
        }));
    }
}

/// `uid/attempt`.
pub fn attempt(name: &str) -> AttemptRef {
    let (job_uid, attempt) = name.split_once('/').unwrap();
    AttemptRef {
        job_uid: job_uid.to_owned(),
        attempt: attempt.parse().unwrap(),
    }
}

/// A lease with one output and a generous timeout.
pub fn lease(name: &str) -> Lease {
    Lease {
        attempt: Some(attempt(name)),
        name: "videos/clip".to_owned(),
        idempotency_key: format!("{name}.0"),
        source_url: "http://store/source?X-Amz-Signature=secret".to_owned(),
        outputs: vec![OutputTarget {
            name: "video".to_owned(),
            put_url: "http://store/video?X-Amz-Signature=secret".to_owned(),
            headers: std::iter::once(("if-none-match".to_owned(), "*".to_owned())).collect(),
        }],
        profile: "default".to_owned(),
        parameters: std::iter::once(("lang".to_owned(), "de".to_owned())).collect(),
        timeout_ms: 60_000,
        traceparent: String::new(),
    }
}

impl Stream {
    pub fn say(&self, message: to_worker::Message) {
        push(&self.outbound, message);
    }

    pub fn lease(&self, name: &str) {
        self.say(to_worker::Message::Lease(lease(name)));
    }

    pub fn ack(&self, name: &str) {
        self.say(to_worker::Message::Ack(Ack {
            attempt: Some(attempt(name)),
            verdict: Verdict::Accepted as i32,
        }));
    }

    pub fn cancel(&self, name: &str) {
        self.say(to_worker::Message::Cancel(Cancel {
            attempt: Some(attempt(name)),
            reason: "test".to_owned(),
        }));
    }

    pub fn drain(&self) {
        self.say(to_worker::Message::Drain(Drain {}));
    }

    /// Ends the stream from this side.
    pub fn end(self) {
        self.outbound.lock().unwrap().1 = None;
    }

    pub async fn next(&mut self) -> from_worker::Message {
        let message = soon("a message of the worker", self.inbound.recv()).await;
        message
            .expect("the worker ended the stream")
            .message
            .unwrap()
    }

    /// The next outcome, whatever else comes before it.
    pub async fn outcome(&mut self) -> Outcome {
        loop {
            if let from_worker::Message::Outcome(outcome) = self.next().await {
                return outcome;
            }
        }
    }

    pub async fn heartbeat(&mut self) -> Heartbeat {
        loop {
            if let from_worker::Message::Heartbeat(beat) = self.next().await {
                return beat;
            }
        }
    }

    pub async fn draining(&mut self) {
        while !matches!(self.next().await, from_worker::Message::Draining(_)) {}
    }
}
