//! A client that never gives up: after any failure it asks the other replica how far it is and goes on. It believes
//! acknowledgements, and minds that no offset ever goes back.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode};

use crate::Stage;
use crate::harness::{Replica, STREAM, id_of, offset_of};

/// Requests that one step may take.
const PATIENCE: usize = 40;
const PAUSE: Duration = Duration::from_millis(20);

/// The upload is gone: the server says that it will never be a video.
#[derive(Debug)]
pub(crate) struct Gone(pub(crate) StatusCode);

pub(crate) struct Phone<'a> {
    stage: &'a Stage,
    turn: Cell<usize>,
    /// The furthest offset told of each upload.
    told: RefCell<BTreeMap<String, usize>>,
    /// Uploads that were acknowledged as a whole.
    pub(crate) acknowledged: RefCell<Vec<String>>,
}

impl<'a> Phone<'a> {
    pub(crate) fn new(stage: &'a Stage) -> Self {
        Self {
            stage,
            turn: Cell::new(0),
            told: RefCell::default(),
            acknowledged: RefCell::default(),
        }
    }

    /// No two requests in a row go to the same replica.
    fn replica(&self) -> &'a Replica {
        let turn = self.turn.get();
        self.turn.set(turn + 1);
        &self.stage.replicas[turn % self.stage.replicas.len()]
    }

    /// Sends a request; no server error but 503 with Retry-After is ever seen.
    async fn ask(&self, request: RequestBuilder) -> Option<Response> {
        let answer = request.send().await.ok()?;
        let status = answer.status();
        if status.is_server_error() {
            assert_eq!(status, 503, "the only server error");
            assert!(
                answer.headers().contains_key("retry-after"),
                "503 without Retry-After"
            );
        }
        Some(answer)
    }

    fn saw(&self, id: &str, answer: &Response) {
        let Some(offset) = offset_of(answer) else {
            return;
        };
        let mut told = self.told.borrow_mut();
        let before = told.entry(id.to_owned()).or_default();
        assert!(
            offset >= *before,
            "{id}: the offset went back from {before} to {offset}, {}",
            answer.status()
        );
        *before = offset;
    }

    fn done(&self, id: &str) {
        self.acknowledged.borrow_mut().push(id.to_owned());
    }

    /// A whole file in one plain POST.
    pub(crate) async fn post(&self, file: &[u8]) -> String {
        for _ in 0..PATIENCE {
            let request = self.stage.world.ask(self.replica(), "POST", "/v1/uploads");
            if let Some(answer) = self.ask(request.body(file.to_vec())).await
                && answer.status() == 201
            {
                let id = id_of(&answer);
                self.done(&id);
                return id;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("no POST succeeds");
    }

    pub(crate) async fn create(&self, length: usize) -> String {
        for _ in 0..PATIENCE {
            let request = self.stage.world.tus(self.replica(), "POST", "/v1/uploads");
            let request = request.header("Upload-Length", length);
            if let Some(answer) = self.ask(request).await
                && answer.status() == 201
            {
                return id_of(&answer);
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("no create succeeds");
    }

    /// Asks how far the upload is.
    pub(crate) async fn offset(&self, id: &str) -> Result<usize, Gone> {
        let path = format!("/v1/uploads/{id}");
        for _ in 0..PATIENCE {
            let request = self.stage.world.tus(self.replica(), "HEAD", &path);
            if let Some(answer) = self.ask(request).await {
                self.saw(id, &answer);
                match answer.status().as_u16() {
                    200 => return Ok(offset_of(&answer).expect("HEAD tells the offset")),
                    404 | 410 => return Err(Gone(answer.status())),
                    503 | 403 | 409 => {}
                    other => panic!("HEAD {id}: {other}"),
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("no HEAD of {id} succeeds");
    }

    /// Sends the file up to `to`, from wherever the server says it is.
    pub(crate) async fn send(&self, id: &str, file: &[u8], to: usize) -> Result<(), Gone> {
        let path = format!("/v1/uploads/{id}");
        let mut offset = self.told.borrow().get(id).copied().unwrap_or(0);
        for _ in 0..PATIENCE {
            if offset >= to {
                if to == file.len() {
                    self.done(id);
                }
                return Ok(());
            }
            let request = self.stage.world.tus(self.replica(), "PATCH", &path);
            let request = request
                .header("Upload-Offset", offset)
                .header("Content-Type", STREAM);
            if let Some(answer) = self.ask(request.body(file[offset..to].to_vec())).await {
                self.saw(id, &answer);
                if let (204, Some(at)) = (answer.status().as_u16(), offset_of(&answer)) {
                    offset = at;
                    continue;
                }
            }
            tokio::time::sleep(PAUSE).await;
            offset = self.offset(id).await?;
        }
        panic!("{id} does not come further than {offset} of {to}");
    }

    /// Deletes the upload; whoever does not know it any more has deleted it.
    pub(crate) async fn delete(&self, id: &str) {
        let path = format!("/v1/uploads/{id}");
        for _ in 0..PATIENCE {
            let request = self.stage.world.tus(self.replica(), "DELETE", &path);
            if let Some(answer) = self.ask(request).await
                && matches!(answer.status().as_u16(), 204 | 404 | 410)
            {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("no DELETE of {id} succeeds");
    }
}
