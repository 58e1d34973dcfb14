//! What was asked of the store, in the order in which it was decided, and what came of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    /// PutObject.
    Put,
    /// GetObject.
    Get,
    /// HeadObject.
    Head,
    /// DeleteObject.
    Delete,
    /// DeleteObjects.
    DeleteMany,
    /// ListObjectsV2.
    List,
    /// CreateMultipartUpload.
    CreateMultipart,
    /// UploadPart.
    UploadPart,
    /// ListParts.
    ListParts,
    /// CompleteMultipartUpload.
    Complete,
    /// AbortMultipartUpload.
    Abort,
    /// Any other.
    Other,
}

impl Op {
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "PutObject" => Self::Put,
            "GetObject" => Self::Get,
            "HeadObject" => Self::Head,
            "DeleteObject" => Self::Delete,
            "DeleteObjects" => Self::DeleteMany,
            "ListObjectsV2" => Self::List,
            "CreateMultipartUpload" => Self::CreateMultipart,
            "UploadPart" => Self::UploadPart,
            "ListParts" => Self::ListParts,
            "CompleteMultipartUpload" => Self::Complete,
            "AbortMultipartUpload" => Self::Abort,
            _ => Self::Other,
        }
    }
}

/// What the caller saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Running,
    /// An answer with this status.
    Answered(u16),
    /// The connection ended, or no answer came.
    Cut,
}

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The operation.
    pub op: Op,
    /// The object's key; empty for operations on the bucket.
    pub key: String,
    /// What the caller saw.
    pub outcome: Outcome,
}

/// All requests since the start or the last [`Journal::clear`].
#[derive(Debug, Default)]
pub struct Journal(Mutex<Vec<Call>>);

impl Journal {
    fn calls_mut(&self) -> MutexGuard<'_, Vec<Call>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, op: Op, key: &str) -> usize {
        let mut calls = self.calls_mut();
        calls.push(Call {
            op,
            key: key.to_owned(),
            outcome: Outcome::Running,
        });
        calls.len() - 1
    }

    pub(crate) fn end(&self, at: usize, outcome: Outcome) {
        if let Some(call) = self.calls_mut().get_mut(at) {
            call.outcome = outcome;
        }
    }

    /// A copy.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.calls_mut().clone()
    }

    /// How many requests there were.
    #[must_use]
    pub fn len(&self) -> usize {
        self.calls_mut().len()
    }

    /// Whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Requests of one operation.
    #[must_use]
    pub fn count(&self, op: Op) -> usize {
        self.calls_mut().iter().filter(|call| call.op == op).count()
    }

    /// Forgets all; no request may be running.
    pub fn clear(&self) {
        self.calls_mut().clear();
    }
}
