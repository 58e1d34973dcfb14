//! A workers' Deployment that the API server will not take: what a leader remembers of it, and what the pool says. Pure.

use std::time::Duration;

use kinora_crds::conditions::{self, reason};
use tokio::time::Instant;

use super::apply::ApplyError;
use super::facts::Problem;

/// How soon the same Deployment is tried again: what refuses it may be mended without a change of the pool.
pub const TRY_AGAIN: Duration = Duration::from_secs(30);
/// Most of the server's words that are kept, in bytes.
const MAX_WORDS: usize = 768;

/// The last refusal of a Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Hash of what was refused.
    hash: String,
    at: Instant,
    words: String,
}

impl Refusal {
    /// What this error says of the Deployment with this hash; `None` if it is the server's own trouble and not its verdict.
    pub(super) fn of(error: &ApplyError, hash: &str, at: Instant) -> Option<Self> {
        let ApplyError::Api { source, .. } = error else {
            return None;
        };
        let kube::Error::Api(status) = source.as_ref() else {
            return None;
        };
        matches!(status.code, 400 | 403 | 413 | 422).then(|| Self {
            hash: hash.to_owned(),
            at,
            words: conditions::cut(&status.message, MAX_WORDS).to_owned(),
        })
    }

    /// How long the Deployment with this hash is not tried; `None` if it may be now.
    pub fn wait(&self, hash: Option<&str>, now: Instant) -> Option<Duration> {
        let left = TRY_AGAIN.saturating_sub(now.duration_since(self.at));
        (hash == Some(self.hash.as_str()) && !left.is_zero()).then_some(left)
    }

    /// The server's words.
    pub fn words(&self) -> &str {
        &self.words
    }

    /// What the pool says.
    pub fn problem(&self) -> Problem {
        Problem {
            reason: reason::WORKERS_REFUSED,
            // What to do stands first: the server's words may be long, or cut.
            message: format!(
                "the API server refuses the workers' Deployment: mend spec.template, or the policy, quota or right that its \
                 words name; it is tried again every {} s: {}",
                TRY_AGAIN.as_secs(),
                self.words
            ),
        }
    }
}

#[cfg(test)]
#[path = "refusal_tests.rs"]
mod tests;
