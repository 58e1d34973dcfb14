//! Fault knobs: what a call is to suffer. Pure but for the lock around the present setting.

use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tonic::Code;

use crate::failure::Failure;

/// The setting, as `/faults` shows and takes it. A PUT replaces all of it; what is left out is off.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Faults {
    /// Share of calls (0 to 1) answered with `errorCode`.
    pub error_rate: f64,
    /// Name of a gRPC code, `INTERNAL` if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// Share of calls (0 to 1) answered with RESOURCE_EXHAUSTED.
    pub throttle_rate: f64,
    /// RetryInfo of throttled calls; 0 leaves it out.
    pub retry_after_ms: u64,
    /// Every call takes at least so long before its answer, good or bad.
    pub latency_ms: u64,
    /// The process ends with status 137 in the middle of a call, after the download.
    pub crash: bool,
    /// Calls are answered with INVALID_ARGUMENT: `true`, or the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reject: Option<Reject>,
    /// Outputs are copies of the source: nothing is probed or transcoded.
    pub copy: bool,
    /// Calls must bear this token; others are answered with UNAUTHENTICATED.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Only for the next n calls; then everything is off. Absent: until changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// `true`, `false`, or a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reject {
    /// On or off, with a message of ours.
    Switch(bool),
    /// On, with this message.
    Message(String),
}

/// What one call is to suffer.
#[derive(Debug, Default)]
pub struct Ordeal {
    /// Before anything else.
    pub latency: Duration,
    /// Instead of the work.
    pub failure: Option<Failure>,
    /// In the middle of the work.
    pub crash: bool,
    /// Instead of probing and transcoding.
    pub copy: bool,
}

/// What a call without the right token is told.
const NO_TOKEN: &str = "the call bears no token that this service knows";

impl Faults {
    /// Checks what a person sent.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn check(&self) -> Result<(), String> {
        for (name, rate) in [
            ("errorRate", self.error_rate),
            ("throttleRate", self.throttle_rate),
        ] {
            if !(0.0..=1.0).contains(&rate) {
                return Err(format!("{name} is {rate}; it is a share from 0 to 1"));
            }
        }
        if self.next == Some(0) {
            return Err("next is 0; leave it out, or give how many calls suffer".to_owned());
        }
        self.code().map(|_| ())
    }

    fn code(&self) -> Result<Code, String> {
        let name = self.error_code.as_deref().unwrap_or("INTERNAL");
        CODES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, code)| *code)
            .ok_or_else(|| format!("errorCode `{name}` is no gRPC code of a failure"))
    }

    /// `draw` is uniform in [0, 1); `authorization` is the call's.
    #[must_use]
    pub fn ordeal(&self, draw: f64, authorization: Option<&str>) -> Ordeal {
        Ordeal {
            latency: Duration::from_millis(self.latency_ms),
            failure: self.failure(draw, authorization),
            crash: self.crash,
            copy: self.copy,
        }
    }

    fn failure(&self, draw: f64, authorization: Option<&str>) -> Option<Failure> {
        let injected = |code, message: &str, retry_after| {
            Some(Failure::Injected {
                code,
                message: message.to_owned(),
                retry_after,
            })
        };
        let borne = authorization.and_then(|value| value.strip_prefix("Bearer "));
        if self
            .token
            .as_deref()
            .is_some_and(|token| borne != Some(token))
        {
            return injected(Code::Unauthenticated, NO_TOKEN, None);
        }
        match &self.reject {
            Some(Reject::Switch(true)) => {
                return injected(Code::InvalidArgument, "rejected by a fault knob", None);
            }
            Some(Reject::Message(message)) => {
                return injected(Code::InvalidArgument, message, None);
            }
            Some(Reject::Switch(false)) | None => {}
        }
        let wait = (self.retry_after_ms > 0).then(|| Duration::from_millis(self.retry_after_ms));
        if draw < self.throttle_rate {
            return injected(Code::ResourceExhausted, "throttled by a fault knob", wait);
        }
        if draw < self.throttle_rate + self.error_rate {
            let code = self.code().unwrap_or(Code::Internal);
            return injected(code, "failed by a fault knob", None);
        }
        None
    }
}

/// The setting that calls draw from.
#[derive(Debug, Default)]
pub struct FaultBoard {
    present: Mutex<Faults>,
}

impl FaultBoard {
    /// The present setting.
    pub fn get(&self) -> Faults {
        self.lock().clone()
    }

    /// Replaces it.
    ///
    /// # Errors
    /// As [`Faults::check`]; the old setting stays.
    pub fn set(&self, faults: Faults) -> Result<(), String> {
        faults.check()?;
        *self.lock() = faults;
        Ok(())
    }

    /// What the call that begins now is to suffer; counts `next` down.
    pub fn take(&self, draw: f64, authorization: Option<&str>) -> Ordeal {
        let mut present = self.lock();
        let ordeal = present.ordeal(draw, authorization);
        match present.next {
            Some(0 | 1) => *present = Faults::default(),
            Some(n) => present.next = Some(n - 1),
            None => {}
        }
        ordeal
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Faults> {
        self.present
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

const CODES: &[(&str, Code)] = &[
    ("CANCELLED", Code::Cancelled),
    ("UNKNOWN", Code::Unknown),
    ("INVALID_ARGUMENT", Code::InvalidArgument),
    ("DEADLINE_EXCEEDED", Code::DeadlineExceeded),
    ("NOT_FOUND", Code::NotFound),
    ("ALREADY_EXISTS", Code::AlreadyExists),
    ("PERMISSION_DENIED", Code::PermissionDenied),
    ("RESOURCE_EXHAUSTED", Code::ResourceExhausted),
    ("FAILED_PRECONDITION", Code::FailedPrecondition),
    ("ABORTED", Code::Aborted),
    ("OUT_OF_RANGE", Code::OutOfRange),
    ("UNIMPLEMENTED", Code::Unimplemented),
    ("INTERNAL", Code::Internal),
    ("UNAVAILABLE", Code::Unavailable),
    ("DATA_LOSS", Code::DataLoss),
    ("UNAUTHENTICATED", Code::Unauthenticated),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(json: &str) -> Faults {
        let faults: Faults = serde_json::from_str(json).unwrap();
        faults.check().unwrap();
        faults
    }

    #[rstest::rstest]
    #[case::nothing_set("{}", 0.0, None)]
    #[case::an_error_in_its_share(r#"{"errorRate":0.3}"#, 0.29, Some(Code::Internal))]
    #[case::no_error_beyond_it(r#"{"errorRate":0.3}"#, 0.3, None)]
    #[case::a_chosen_code(
        r#"{"errorRate":1,"errorCode":"UNAVAILABLE"}"#,
        0.99,
        Some(Code::Unavailable)
    )]
    #[case::throttled_first(
        r#"{"errorRate":0.5,"throttleRate":0.5}"#,
        0.4,
        Some(Code::ResourceExhausted)
    )]
    #[case::then_failed(r#"{"errorRate":0.5,"throttleRate":0.5}"#, 0.6, Some(Code::Internal))]
    #[case::rejected(r#"{"reject":true}"#, 0.9, Some(Code::InvalidArgument))]
    #[case::rejected_with_a_message(r#"{"reject":"cat video"}"#, 0.9, Some(Code::InvalidArgument))]
    #[case::not_rejected(r#"{"reject":false}"#, 0.9, None)]
    fn draws(#[case] json: &str, #[case] draw: f64, #[case] want: Option<Code>) {
        let failure = faults(json).ordeal(draw, None).failure;
        assert_eq!(failure.map(|f| f.code()), want);
    }

    #[rstest::rstest]
    #[case::the_right_one(Some("Bearer one"), None)]
    #[case::another(Some("Bearer two"), Some(Code::Unauthenticated))]
    #[case::no_bearer(Some("one"), Some(Code::Unauthenticated))]
    #[case::none(None, Some(Code::Unauthenticated))]
    fn tokens(#[case] authorization: Option<&str>, #[case] want: Option<Code>) {
        let failure = faults(r#"{"token":"one"}"#)
            .ordeal(0.5, authorization)
            .failure;
        assert_eq!(failure.map(|f| f.code()), want);
    }

    #[rstest::rstest]
    #[case::a_rate_above_one(r#"{"errorRate":2}"#)]
    #[case::a_code_that_is_none(r#"{"errorCode":"OOPS"}"#)]
    #[case::ok_is_no_error(r#"{"errorCode":"OK"}"#)]
    #[case::a_typo(r#"{"erorRate":1}"#)]
    #[case::no_calls(r#"{"next":0}"#)]
    fn refused(#[case] json: &str) {
        let parsed: Result<Faults, _> = serde_json::from_str(json);
        assert!(
            parsed
                .map_err(|e| e.to_string())
                .and_then(|f| f.check())
                .is_err()
        );
    }

    #[test]
    fn next_n_calls_suffer_and_then_all_is_well() {
        let board = FaultBoard::default();
        board
            .set(faults(r#"{"errorRate":1,"crash":true,"next":2}"#))
            .unwrap();
        assert!(board.take(0.0, None).failure.is_some());
        assert_eq!(board.get().next, Some(1));
        assert!(board.take(0.0, None).crash);
        assert!(board.take(0.0, None).failure.is_none());
        assert_eq!(board.get(), Faults::default());
    }
}
