//! Condition types and reasons of the three kinds, and how a set of conditions is written: always whole, with
//! `observedGeneration`, the transition time moving only when the status flips. Pure; time is an argument.

pub mod reason;

use crate::{Condition, Time};

/// VideoJob: Unknown while active, then True or False.
pub const SUCCEEDED: &str = "Succeeded";
/// VideoJob, VideoJobRedrive: True in every end state.
pub const FINISHED: &str = "Finished";
/// All kinds: present and True while suspended.
pub const SUSPENDED: &str = "Suspended";
/// All kinds: present only when True.
pub const RECONCILING: &str = "Reconciling";
/// All kinds: present only when True.
pub const STALLED: &str = "Stalled";
/// VideoWorkerPool: workers and service are fit, or nothing is asked of them.
pub const READY: &str = "Ready";
/// VideoWorkerPool: something other than the backlog decides the number of workers.
pub const SCALING_LIMITED: &str = "ScalingLimited";
/// VideoWorkerPool: whether the processing service answers.
pub const SERVICE_HEALTHY: &str = "ServiceHealthy";

/// Longest message written, in bytes; the schema allows more so that no newer writer is refused.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// `"True"`
    True,
    /// `"False"`
    False,
    /// `"Unknown"`
    Unknown,
}

impl Status {
    /// The API's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Status {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// Builds the whole set of conditions of one status write; see [`Conditions::carry`].
#[derive(Clone, Debug)]
pub struct Conditions {
    generation: Option<i64>,
    now: Time,
    list: Vec<Condition>,
}

impl Conditions {
    /// An empty set about this generation, at this time.
    #[must_use]
    pub fn new(generation: Option<i64>, now: Time) -> Self {
        Self {
            generation,
            now,
            list: Vec::new(),
        }
    }

    /// Adds one condition; a type added twice keeps the last. Messages are cut at [`MAX_MESSAGE_BYTES`].
    #[must_use]
    pub fn with(
        mut self,
        type_: &str,
        status: impl Into<Status>,
        reason: &str,
        message: &str,
    ) -> Self {
        self.list.retain(|c| c.type_ != type_);
        self.list.push(Condition {
            type_: type_.to_owned(),
            status: status.into().as_str().to_owned(),
            reason: reason.to_owned(),
            message: cut(message, MAX_MESSAGE_BYTES).to_owned(),
            observed_generation: self.generation,
            last_transition_time: self.now.clone(),
        });
        self
    }

    /// The set to write over `old`: the transition time of a condition whose status did not flip is the old one.
    #[must_use]
    pub fn carry(mut self, old: &[Condition]) -> Vec<Condition> {
        for new in &mut self.list {
            if let Some(before) = find(old, &new.type_).filter(|c| c.status == new.status) {
                new.last_transition_time = before.last_transition_time.clone();
            }
        }
        self.list
    }
}

/// The condition of this type, if present.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the condition is present and True.
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == Status::True.as_str())
}

/// The longest prefix of at most `max` bytes that ends between characters.
#[must_use]
pub fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn the_transition_time_moves_only_when_the_status_flips() {
        let set = |now, succeeded: Status| {
            Conditions::new(Some(2), at(now))
                .with(SUCCEEDED, succeeded, reason::PROCESSING, "")
                .with(FINISHED, false, reason::PROCESSING, "")
        };
        let first = set(10, Status::Unknown).carry(&[]);
        let second = set(20, Status::True).carry(&first);
        assert_eq!(
            find(&second, SUCCEEDED).unwrap().last_transition_time,
            at(20)
        );
        assert_eq!(
            find(&second, FINISHED).unwrap().last_transition_time,
            at(10)
        );
        assert_eq!(
            find(&second, FINISHED).unwrap().observed_generation,
            Some(2)
        );
    }

    #[test]
    fn a_type_is_there_once_and_a_message_is_cut_between_characters() {
        let long = "ü".repeat(MAX_MESSAGE_BYTES);
        let set = Conditions::new(None, at(1))
            .with(STALLED, true, reason::POISON, "first")
            .with(STALLED, true, reason::POISON, &format!("x{long}"))
            .carry(&[]);
        assert_eq!(set.len(), 1);
        assert_eq!(set[0].message.len(), MAX_MESSAGE_BYTES - 1);
    }
}
