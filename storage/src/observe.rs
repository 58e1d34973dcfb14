//! How long calls to the store take and how they end, for whoever counts: every attempt of every call is told once.
//! A call that its caller gave up is not told.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use crate::error::StoreErrorKind;

/// The kinds of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoreCall {
    /// GetObject, whole or a range.
    Get,
    /// HeadObject.
    Head,
    /// ListObjectsV2, one page.
    List,
    /// PutObject, with or without a condition.
    Put,
    /// DeleteObject.
    Delete,
    /// DeleteObjects, one batch.
    DeleteMany,
    /// CreateMultipartUpload.
    CreateMultipart,
    /// UploadPart.
    UploadPart,
    /// ListParts, one page.
    ListParts,
    /// CompleteMultipartUpload.
    Complete,
    /// AbortMultipartUpload.
    Abort,
}

impl StoreCall {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::Get,
        Self::Head,
        Self::List,
        Self::Put,
        Self::Delete,
        Self::DeleteMany,
        Self::CreateMultipart,
        Self::UploadPart,
        Self::ListParts,
        Self::Complete,
        Self::Abort,
    ];

    /// As metrics and traces name it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::List => "list",
            Self::Put => "put",
            Self::Delete => "delete",
            Self::DeleteMany => "delete_many",
            Self::CreateMultipart => "create_multipart",
            Self::UploadPart => "upload_part",
            Self::ListParts => "list_parts",
            Self::Complete => "complete",
            Self::Abort => "abort",
        }
    }

    /// The call as it is named in errors: what it is, and on what.
    pub(crate) fn on(self, text: String) -> Action {
        Action { call: self, text }
    }
}

/// Is told how every attempt of a call ended.
pub trait Observer: Send + Sync + 'static {
    /// One attempt; an error by its class.
    fn observed(&self, call: StoreCall, ended: Result<(), StoreErrorKind>, took: Duration);
}

/// What is attempted: its kind for those who count, its text for those who read.
pub(crate) struct Action {
    pub(crate) call: StoreCall,
    text: String,
}

impl Deref for Action {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<&Action> for String {
    fn from(action: &Action) -> Self {
        action.text.clone()
    }
}
