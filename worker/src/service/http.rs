//! The HTTP form of the call: a POST, and questions at its Location after a 202. I/O; the verdicts are `http_answer`'s.
//!
//! Certificates are read again when their files change, which a long call may live to see; the token is read for every
//! request. No redirects, no proxies, no compressed bodies, no cookies.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use kinora_protocol::dispatch::Lease;
use kinora_protocol::processing::Progress;
use reqwest::{Client, Method, Response, Url};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tonic::Code;
use tracing::{debug, warn};

use super::http_answer::{Answer, Body, Conversation, Next};
use super::{http_json, report_of};
use crate::config::ServiceTarget;
use crate::dial::{self, DialError, SERVICE_TIMEOUT};
use crate::report::{Report, chain, is_tls_failure};

/// Largest body of a result.
const MAX_RESULT_BYTES: usize = 1024 * 1024;
/// Largest part that is read of any other body.
const MAX_OTHER_BYTES: usize = 16 * 1024;
/// For one question about a call that the service works on; the POST itself may take the call's whole time.
const POLL_TIMEOUT: Duration = Duration::from_secs(30);
/// A call that is given up is told so once, within this time.
const DELETE_TIMEOUT: Duration = Duration::from_secs(3);
/// A question that fails for want of time ends before the call does, which would not tell why.
const SOONER: Duration = Duration::from_millis(100);

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TIMEOUT_MS: HeaderName = HeaderName::from_static("kinora-timeout-ms");

/// A client with the request for one lease, not sent yet.
#[derive(Debug)]
pub struct PreparedCall {
    caller: Caller,
    endpoint: Url,
    body: Vec<u8>,
    headers: HeaderMap,
}

#[derive(Clone, Debug)]
struct Caller {
    client: Arc<Mutex<Held>>,
    target: ServiceTarget,
    connect_within: Duration,
    /// Where what outlives a call is awaited.
    afterwards: TaskTracker,
}

/// A client, and when the files that it was made of were written.
#[derive(Debug)]
struct Held {
    files: [Option<SystemTime>; 3],
    client: Client,
}

/// Reads the credentials and writes the request. Nothing of the lease leaves this process here.
///
/// # Errors
/// The report of credentials that cannot be read.
pub(super) async fn prepare(
    target: &ServiceTarget,
    lease: Lease,
    afterwards: &TaskTracker,
) -> Result<PreparedCall, Report> {
    let wrong = |problem: String| Report::found(Code::Unimplemented, &problem);
    let endpoint: Url = target
        .endpoint
        .parse()
        .map_err(|error| wrong(format!("the service's endpoint: {error}")))?;
    // The call's own time must not end first, as if the service had taken it.
    let connect_within = SERVICE_TIMEOUT.min(Duration::from_millis(lease.timeout_ms / 5 * 4));
    let held = Held {
        files: changed(target),
        client: client(target, connect_within).await?,
    };
    let caller = Caller {
        client: Arc::new(Mutex::new(held)),
        target: target.clone(),
        connect_within,
        afterwards: afterwards.clone(),
    };
    caller.bearer().await?;
    let body = serde_json::to_vec(&http_json::Request::of(&lease))
        .map_err(|error| Report::found(Code::Internal, &error.to_string()))?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for (name, value) in [
        (IDEMPOTENCY_KEY, &lease.idempotency_key),
        (TRACEPARENT, &lease.traceparent),
    ] {
        // Both are in the body too; what cannot be a header is not worth an attempt.
        if let Ok(value) = HeaderValue::from_str(value)
            && !value.is_empty()
        {
            headers.insert(name, value);
        }
    }
    Ok(PreparedCall {
        caller,
        endpoint,
        body,
        headers,
    })
}

/// When the TLS files were written; through the links of a mounted Secret.
fn changed(target: &ServiceTarget) -> [Option<SystemTime>; 3] {
    ["ca.crt", "tls.crt", "tls.key"].map(|file| {
        let path = target.tls_dir.as_ref()?.join(file);
        path.metadata().and_then(|meta| meta.modified()).ok()
    })
}

async fn client(target: &ServiceTarget, connect_within: Duration) -> Result<Client, Report> {
    let tls = |error: reqwest::Error| {
        report_of(&DialError::Tls {
            address: target.endpoint.clone(),
            problem: chain(&error),
        })
    };
    let file = |error: DialError| report_of(&error);
    let mut builder = Client::builder();
    let mut authorities = Vec::new();
    if let Some(dir) = &target.tls_dir {
        let ca = dial::read(&dir.join("ca.crt")).await.map_err(file)?;
        authorities = reqwest::Certificate::from_pem_bundle(&ca).map_err(tls)?;
        let (certificate, key) = (dir.join("tls.crt"), dir.join("tls.key"));
        if certificate.exists() && key.exists() {
            let mut pem = dial::read(&certificate).await.map_err(file)?;
            pem.push(b'\n');
            pem.extend(dial::read(&key).await.map_err(file)?);
            builder = builder.identity(reqwest::Identity::from_pem(&pem).map_err(tls)?);
        }
    }
    builder
        .tls_certs_only(authorities)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .http1_only()
        .connect_timeout(connect_within)
        .tcp_keepalive(Duration::from_secs(15))
        .tcp_keepalive_interval(Duration::from_secs(5))
        .tcp_keepalive_retries(3)
        .user_agent(concat!("kinora-worker/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(tls)
}

impl PreparedCall {
    /// Sends the request and follows the answers to the end. Dropped in between, it deletes what the service works on.
    pub(super) async fn run(
        mut self,
        remaining: Duration,
        mut on_progress: impl FnMut(Progress),
    ) -> Report {
        let end = Instant::now() + remaining.saturating_sub(SOONER);
        let millis = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
        self.headers.insert(TIMEOUT_MS, HeaderValue::from(millis));
        let mut talk = Talk {
            caller: self.caller.clone(),
            conversation: Conversation::new(self.endpoint.clone()),
        };
        let mut missed = None;
        loop {
            let answer = match talk.conversation.is_accepted() {
                false => self.post().await,
                true => {
                    let asked = self.caller.question(talk.conversation.at());
                    match (timeout_at(end, asked).await, &missed) {
                        (Ok(answer), _) => answer,
                        (Err(_), Some(report)) => return Report::clone(report),
                        // Whoever gave the time ends the call.
                        (Err(_), None) => std::future::pending().await,
                    }
                }
            };
            let next = match answer {
                Ok(answer) => talk.conversation.answered(&answer, Timestamp::now()),
                Err(report) => talk.conversation.unanswered(report),
            };
            match next {
                Next::Done(report) => return report,
                Next::Ask {
                    pause,
                    progress,
                    miss,
                } => {
                    if let Some(progress) = progress {
                        on_progress(progress);
                    }
                    missed = miss;
                    // A service that refuses the questions is not one that takes too long.
                    if let Some(report) = missed.clone().filter(|_| Instant::now() + pause >= end) {
                        return report;
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn post(&mut self) -> Result<Answer, Report> {
        let request = self
            .caller
            .request(Method::POST, &self.endpoint)
            .await?
            .headers(self.headers.clone())
            .body(std::mem::take(&mut self.body));
        read(request.send().await.map_err(trouble)?).await
    }
}

impl Caller {
    async fn bearer(&self) -> Result<Option<HeaderValue>, Report> {
        let Some(file) = &self.target.token_file else {
            return Ok(None);
        };
        let bearer = dial::bearer(file).await.map_err(|e| report_of(&e))?;
        let mut value = HeaderValue::from_bytes(bearer.as_encoded_bytes())
            .map_err(|error| Report::found(Code::Unauthenticated, &error.to_string()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The client of the files as they are now; those that cannot be used leave the former.
    async fn client(&self) -> Client {
        let mut held = self.client.lock().await;
        let files = changed(&self.target);
        if files != held.files {
            held.files = files;
            match client(&self.target, self.connect_within).await {
                Ok(client) => held.client = client,
                Err(report) => warn!(
                    message = report.message,
                    "the TLS files changed but cannot be used; keeping the former ones"
                ),
            }
        }
        held.client.clone()
    }

    async fn request(&self, method: Method, url: &Url) -> Result<reqwest::RequestBuilder, Report> {
        let mut request = self
            .client()
            .await
            .request(method, url.clone())
            .header(ACCEPT, "application/json");
        if let Some(bearer) = self.bearer().await? {
            request = request.header(AUTHORIZATION, bearer);
        }
        Ok(request)
    }

    async fn question(&self, url: &Url) -> Result<Answer, Report> {
        let asked = async {
            let request = self.request(Method::GET, url).await?;
            read(request.send().await.map_err(trouble)?).await
        };
        tokio::time::timeout(POLL_TIMEOUT, asked)
            .await
            .unwrap_or_else(|_| {
                Err(Report::found(
                    Code::Unavailable,
                    "no answer to a question about the call",
                ))
            })
    }

    /// Nothing follows from its answer.
    async fn delete(self, url: Url) {
        let told = async {
            let request = self.request(Method::DELETE, &url).await?;
            request.send().await.map_err(trouble)
        };
        match tokio::time::timeout(DELETE_TIMEOUT, told).await {
            Ok(Ok(answer)) => debug!(status = answer.status().as_u16(), "gave a call up"),
            Ok(Err(report)) => debug!(message = report.message, "gave a call up, untold"),
            Err(_) => debug!("gave a call up, unanswered"),
        }
    }
}

/// A conversation that tells the service when it is left.
struct Talk {
    caller: Caller,
    conversation: Conversation,
}

impl Drop for Talk {
    fn drop(&mut self) {
        if let Some(url) = self.conversation.abandoned()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let told = self.caller.clone().delete(url.clone());
            self.caller.afterwards.spawn_on(told, &runtime);
        }
    }
}

async fn read(mut response: Response) -> Result<Answer, Report> {
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let limit = if status == 200 {
        MAX_RESULT_BYTES
    } else {
        MAX_OTHER_BYTES
    };
    let mut bytes = Vec::new();
    let body = loop {
        match response.chunk().await {
            Ok(None) => break Body::Whole(bytes),
            Err(_) => break Body::Cut(bytes),
            Ok(Some(chunk)) => {
                let room = limit - bytes.len();
                bytes.extend(chunk.iter().take(room));
                if chunk.len() > room {
                    break Body::TooLong(bytes);
                }
            }
        }
    };
    Ok(Answer {
        status,
        headers,
        body,
    })
}

// By value: the address goes, since its query may be a credential.
#[allow(clippy::needless_pass_by_value)]
fn trouble(error: reqwest::Error) -> Report {
    let error = error.without_url();
    let code = if is_tls_failure(&error) {
        Code::Unauthenticated
    } else if is_unreadable(&error) {
        Code::DataLoss
    } else {
        Code::Unavailable
    };
    Report::found(code, &chain(&error))
}

/// True if what came back is no HTTP.
fn is_unreadable(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(cause) = next {
        if cause
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_parse)
        {
            return true;
        }
        next = cause.source();
    }
    false
}
