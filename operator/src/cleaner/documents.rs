//! What the cleaner keeps in the store: each day's period, and a note of every batch.

use jiff::Timestamp;
use kinora_storage::documents::Document;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `retention/<day>`: the period that was in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Period {
    pub(super) v: u32,
    pub(super) days: u32,
    #[serde(flatten)]
    pub(super) extra: Map<String, Value>,
}

impl Document for Period {
    const WHAT: &'static str = "retention period";
}

/// What one batch deleted, and why it could.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note<'a> {
    pub(super) v: u32,
    pub(super) at: Timestamp,
    pub(super) day: String,
    pub(super) period_days: u64,
    pub(super) ids: Vec<&'a str>,
    pub(super) keys: Vec<&'a str>,
}
