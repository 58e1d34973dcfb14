//! What a pass of the cleaner did, or why it ended early.

use kinora_storage::StoreError;

/// Why a pass ended early; nothing was deleted that must not be.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The clocks differ.
    #[error(
        "this clock and the store's differ by {0} s: nothing is deleted until they agree within 300 s"
    )]
    Clocks(i64),
    /// A document cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// Another replica leads.
    #[error("this replica leads no more")]
    NotLeader,
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Videos and declared jobs that are gone.
    pub deleted: u64,
    /// Objects that are gone.
    pub objects: u64,
    /// Left because somebody holds them.
    pub held: u64,
    /// Left because they are young by the store's date, or have not ended.
    pub left: u64,
    /// Left because a document cannot be read: a record, or the period of a day.
    pub unusable: u64,
    /// Of the sample: videos that are there.
    pub whole: u64,
    /// Of the sample: videos that are gone before their time.
    pub missing: u64,
}
