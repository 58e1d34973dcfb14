//! A fake processing service: every call lands in the test, which answers it. And a wire to it that can be cut.

use std::collections::HashMap;
use std::net::SocketAddr;

use kinora_protocol::processing::process_update::Update;
use kinora_protocol::processing::processing_server::{Processing, ProcessingServer};
use kinora_protocol::processing::{
    OutputResult, ProcessRequest, ProcessUpdate, Progress, Result as ServiceResult,
};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::soon;

pub struct FakeService {
    pub address: SocketAddr,
    calls: mpsc::UnboundedReceiver<Call>,
}

/// One call, to be answered by the test.
pub struct Call {
    pub request: ProcessRequest,
    pub metadata: HashMap<String, String>,
    updates: mpsc::UnboundedSender<Result<ProcessUpdate, Status>>,
}

struct Handler(mpsc::UnboundedSender<Call>);

impl FakeService {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, calls) = mpsc::unbounded_channel();
        let server = Server::builder()
            .add_service(ProcessingServer::new(Handler(sender)))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        Self { address, calls }
    }

    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn call(&mut self) -> Call {
        soon("a call of the service", self.calls.recv())
            .await
            .unwrap()
    }

    /// True if no call is waiting.
    pub fn is_quiet(&mut self) -> bool {
        self.calls.try_recv().is_err()
    }
}

#[tonic::async_trait]
impl Processing for Handler {
    type ProcessStream = UnboundedReceiverStream<Result<ProcessUpdate, Status>>;

    async fn process(
        &self,
        request: Request<ProcessRequest>,
    ) -> Result<Response<Self::ProcessStream>, Status> {
        let metadata = request.metadata().clone().into_headers();
        let metadata = metadata
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("").to_owned()))
            .collect();
        let (updates, stream) = mpsc::unbounded_channel();
        let _ = self.0.send(Call {
            request: request.into_inner(),
            metadata,
            updates,
        });
        Ok(Response::new(UnboundedReceiverStream::new(stream)))
    }
}

pub fn result(json: &str) -> ProcessUpdate {
    ProcessUpdate {
        update: Some(Update::Result(ServiceResult {
            outputs: vec![OutputResult {
                name: "video".to_owned(),
                size_bytes: 7,
                checksum: "sha256:00".to_owned(),
                uri: String::new(),
            }],
            result_json: json.to_owned(),
        })),
    }
}

impl Call {
    pub fn update(&self, update: Result<ProcessUpdate, Status>) {
        let _ = self.updates.send(update);
    }

    pub fn progress(&self, percent: u32, step: &str) {
        self.update(Ok(ProcessUpdate {
            update: Some(Update::Progress(Progress {
                percent,
                step: step.to_owned(),
            })),
        }));
    }

    pub fn succeed(self) {
        self.update(Ok(result("")));
    }

    pub fn fail(self, status: Status) {
        self.update(Err(status));
    }

    /// Comes back when the worker has given the call up.
    pub async fn given_up(&self) {
        soon("the end of the call", self.updates.closed()).await;
    }
}

/// Takes one connection into its queue, so that whoever else knocks is not answered, not even with a refusal.
pub struct Deaf {
    pub address: SocketAddr,
    _queue: (TcpListener, TcpStream),
}

impl Deaf {
    pub async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let queued = TcpStream::connect(address).await.unwrap();
        Self {
            address,
            _queue: (listener, queued),
        }
    }
}

/// A TCP proxy before a server: what a network is.
pub async fn wire(to: SocketAddr) -> (SocketAddr, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cut = CancellationToken::new();
    let token = cut.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let token = token.clone();
            tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                let copy = tokio::io::copy_bidirectional(&mut near, &mut far);
                tokio::select! { _ = copy => {}, () = token.cancelled() => {} }
            });
        }
    });
    (address, cut)
}
