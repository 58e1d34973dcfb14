//! What a running request holds and whom its bytes are charged to. The gate gives every request a
//! seat; whoever finds out who asks writes it there.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use kinora_upload_engine::Principal;

use super::at_once::Running;
use super::buckets::Key;
use super::quota::Account;
use crate::auth::Action;

tokio::task_local! {
    /// The seat of the request that this task answers.
    static SEAT: Arc<Seat>;
}

/// One request's seat.
#[derive(Debug, Default)]
pub struct Seat {
    places: Mutex<Vec<Running>>,
    charged: OnceLock<(Key, Action, Option<Arc<Account>>)>,
    backend: OnceLock<Principal>,
    entered: AtomicBool,
}

/// The seat of the request that is being answered; none outside of one.
#[must_use]
pub fn seat() -> Option<Arc<Seat>> {
    SEAT.try_with(Arc::clone).ok()
}

impl Seat {
    /// Answers a request in this seat.
    pub async fn answer<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> T {
        SEAT.scope(Arc::clone(self), work).await
    }

    /// Whether this is the first time that the request asks to go on; a batch asks for each item.
    pub(super) fn enters(&self) -> bool {
        !self.entered.swap(true, Ordering::Relaxed)
    }

    pub(super) fn hold(&self, place: Running) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.push(place);
    }

    pub(super) fn charge(&self, key: Key, action: Action, account: Option<Arc<Account>>) {
        // The first to find out is right; a request has one caller.
        let _ = self.charged.set((key, action, account));
    }

    /// Remembers a backend that wants a token for the upload it makes.
    pub fn set_backend(&self, who: Principal) {
        let _ = self.backend.set(who);
    }

    /// The backend that wants a token.
    #[must_use]
    pub fn backend(&self) -> Option<&Principal> {
        self.backend.get()
    }

    /// Whose upload this request is to make.
    pub(super) fn creates(&self) -> Option<Key> {
        let (key, action, _) = self.charged.get()?;
        (*action == Action::Create).then_some(*key)
    }

    pub(super) fn count_upload(&self) {
        if let Some((_, _, Some(account))) = self.charged.get() {
            account.upload();
        }
    }

    fn count_bytes(&self, n: usize) {
        if let Some((_, _, Some(account))) = self.charged.get() {
            account.bytes(n as u64);
        }
    }
}

/// A body whose bytes are charged as they come.
#[derive(Debug)]
pub struct Counted {
    /// The body.
    pub body: Body,
    /// Whom to charge.
    pub seat: Arc<Seat>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.seat
                .count_bytes(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
