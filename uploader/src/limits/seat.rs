//! Who asks in a running request, what it holds, and whom its bytes are charged to. The gate gives every request a seat,
//! with what its client said; whoever finds out who asks writes it there.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::OnceCell;

use kinora_upload_engine::Principal;

use super::at_once::Running;
use super::buckets::Key;
use super::quota::Account;
use crate::auth::{Action, Auth, Credential, Denied, Now, Proof};

tokio::task_local! {
    /// The seat of the request that this task answers.
    static SEAT: Arc<Seat>;
}

/// One request's seat.
#[derive(Debug, Default)]
pub struct Seat {
    credential: Mutex<Option<Credential>>,
    proof: OnceCell<Proof>,
    places: Mutex<Vec<Running>>,
    charged: OnceLock<(Key, Action, Option<Arc<Account>>)>,
    backend: OnceLock<Principal>,
    entered: AtomicBool,
    brings: bool,
    cut: AtomicBool,
}

/// The seat of the request that is being answered; none outside of one.
#[must_use]
pub fn seat() -> Option<Arc<Seat>> {
    SEAT.try_with(Arc::clone).ok()
}

impl Seat {
    /// The seat of a request whose client said this, and that `brings` a body.
    #[must_use]
    pub fn of(credential: Option<Credential>, brings: bool) -> Self {
        Self {
            credential: Mutex::new(credential),
            brings,
            ..Self::default()
        }
    }

    /// What the credential proves. It is proved once, though a batch asks for each of its items, and gone after that.
    ///
    /// # Errors
    /// When the request is not to be let in.
    pub async fn proof(&self, auth: &Auth, now: Now) -> Result<&Proof, Denied> {
        let prove = || auth.prove(self.credential(), now);
        self.proof.get_or_try_init(prove).await
    }

    /// Whether the request has a body.
    pub fn brings(&self) -> bool {
        self.brings
    }

    fn credential(&self) -> Option<Credential> {
        let credential = self.credential.lock();
        credential.unwrap_or_else(PoisonError::into_inner).take()
    }

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

    /// Whether its body was ended, as more came than its owner may bring today.
    pub fn was_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Whether more came than its owner may bring today.
    fn is_over(&self) -> bool {
        matches!(self.charged.get(), Some((_, _, Some(account))) if account.is_over())
    }
}

/// A body whose bytes are charged as they come. One that does not say how many there are ends when they are too many.
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
        if self.body.size_hint().exact().is_none() && self.seat.is_over() {
            self.seat.cut.store(true, Ordering::Relaxed);
            let over = std::io::Error::other("the quota of the day is used up");
            return Poll::Ready(Some(Err(axum::Error::new(over))));
        }
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

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, header};

    use super::*;

    /// covers: S12
    #[tokio::test]
    async fn a_credential_is_proved_once_and_gone_and_a_bad_one_proves_nothing_later() {
        let dir = tempfile::tempdir().unwrap();
        let sha256 = hex::encode(<sha2::Sha256 as sha2::Digest>::digest("secret"));
        let key =
            serde_json::json!({"sha256": sha256, "tenant": "acme", "scopes": ["kinora:upload"]});
        std::fs::write(dir.path().join("phone"), key.to_string()).unwrap();
        let auth = Auth::of_keys(crate::auth::Keys::read(dir.path()).unwrap());
        for (value, good) in [("Bearer phone.secret", true), ("Bearer phone.x", false)] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
            let seat = Seat::of(Credential::take(&mut headers), false);
            for time in 1..=2 {
                let proof = seat.proof(&auth, Now::default()).await;
                let who = proof.and_then(|proof| proof.permits(Action::Create, None));
                assert_eq!(who.is_ok(), good, "{value}, time {time}");
                assert!(seat.credential.lock().unwrap().is_none(), "{value}");
            }
        }
    }
}
