//! What the answers of an HTTP service add up to: one answer in, the next request or the report out. Pure.
//!
//! A 200 is the result, a 202 names where to ask again, everything else is a raw fact for the operator's engine. Answers are
//! untrusted (S15): nothing is asked of another origin, and every wait has a bound.

use std::time::Duration;

use http::HeaderMap;
use http::header::{LOCATION, RETRY_AFTER};
use jiff::Timestamp;
use kinora_protocol::dispatch::HttpStatus;
use kinora_protocol::dispatch::outcome::Fact;
use kinora_protocol::processing::Progress;
use reqwest::Url;
use tonic::Code;

use super::http_json;
use crate::answer::{broken, check};
use crate::report::Report;
use crate::{retry_after, text};

/// Between two questions when the service names no time.
const POLL_PAUSE: Duration = Duration::from_secs(1);
/// Whatever the service names, it is not asked more often, ...
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// ... nor more rarely: an absurd number must not outwait the result.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// Questions in a row that may fail before the call is given up: the service still works on it meanwhile.
const MAX_MISSES: u32 = 5;
/// The same where it does not take the credentials: some five minutes, in which a rotated token comes to this pod.
const MAX_REFUSALS: u32 = 10;
const MAX_LOCATION_BYTES: usize = 2048;

/// A body, as far as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// All of it.
    Whole(Vec<u8>),
    /// The connection ended before the body did.
    Cut(Vec<u8>),
    /// There was more than is taken.
    TooLong(Vec<u8>),
}

impl Body {
    fn start(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) | Self::Cut(bytes) | Self::TooLong(bytes) => bytes,
        }
    }
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Body,
}

/// What to do after an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// The call is over.
    Done(Report),
    /// Ask [`Conversation::at`] again after this pause.
    Ask {
        /// At least [`MIN_PAUSE`], at most [`MAX_PAUSE`].
        pause: Duration,
        /// How far the service is, if it said.
        progress: Option<Progress>,
        /// What ends the call if there is no time for another question: how this one failed.
        miss: Option<Report>,
    },
}

/// One call: a POST, and the questions after a 202.
#[derive(Clone, Debug)]
pub struct Conversation {
    at: Url,
    accepted: bool,
    over: bool,
    /// Questions in a row that failed, and how many may: a service with new credentials may restart behind the refusals.
    misses: u32,
    patience: u32,
}

impl Conversation {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(endpoint: Url) -> Self {
        Self {
            at: endpoint,
            accepted: false,
            over: false,
            misses: 0,
            patience: 0,
        }
    }

    /// Where the next request goes.
    #[must_use]
    pub fn at(&self) -> &Url {
        &self.at
    }

    /// True once the service has taken the work over: the next request is a GET.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.accepted
    }

    /// What to DELETE if the call is given up now; `None` if the service has ended it or never took it over.
    #[must_use]
    pub fn abandoned(&self) -> Option<&Url> {
        (self.accepted && !self.over).then_some(&self.at)
    }

    /// The service answered.
    pub fn answered(&mut self, answer: &Answer, now: Timestamp) -> Next {
        match answer.status {
            200 => self.end(result(&answer.body)),
            202 => self.accepted(answer, now),
            201 | 203..=299 => self.end(broken(&format!(
                "the service answered status {}; the protocol knows 200 and 202",
                answer.status
            ))),
            404 | 410 if self.accepted => self.end(broken(&format!(
                "the service does not know the call any more that it had accepted (status {})",
                answer.status
            ))),
            // The question failed, not the call.
            408 | 425 | 429 | 502..=504 if self.accepted => {
                let wait = wait_of(answer, now);
                self.missed(of_status(answer, now), wait, MAX_MISSES)
            }
            401 | 403 if self.accepted => self.missed(of_status(answer, now), None, MAX_REFUSALS),
            _ => self.end(of_status(answer, now)),
        }
    }

    /// There was no answer; `report` says why.
    pub fn unanswered(&mut self, report: Report) -> Next {
        let is = |code| report.fact == Report::found(code, "").fact;
        match self.accepted {
            true if is(Code::Unavailable) => self.missed(report, None, MAX_MISSES),
            true if is(Code::Unauthenticated) => self.missed(report, None, MAX_REFUSALS),
            _ => Next::Done(report),
        }
    }

    fn end(&mut self, report: Report) -> Next {
        self.over = true;
        Next::Done(report)
    }

    fn missed(&mut self, report: Report, wait: Option<Duration>, most: u32) -> Next {
        self.misses += 1;
        self.patience = self.patience.max(most);
        if self.misses > self.patience {
            return Next::Done(report);
        }
        let backoff = POLL_PAUSE * 2u32.pow(self.misses - 1);
        Next::Ask {
            pause: wait.unwrap_or_default().max(backoff).min(MAX_PAUSE),
            progress: None,
            miss: Some(report),
        }
    }

    fn accepted(&mut self, answer: &Answer, now: Timestamp) -> Next {
        match self.location(&answer.headers) {
            Ok(Some(next)) => self.at = next,
            Ok(None) if self.accepted => {}
            Ok(None) => return Next::Done(broken("status 202 without a Location to ask at")),
            Err(report) => return Next::Done(report),
        }
        self.accepted = true;
        (self.misses, self.patience) = (0, 0);
        Next::Ask {
            pause: wait_of(answer, now)
                .unwrap_or(POLL_PAUSE)
                .clamp(MIN_PAUSE, MAX_PAUSE),
            progress: http_json::progress(answer.body.start()),
            miss: None,
        }
    }

    fn location(&self, headers: &HeaderMap) -> Result<Option<Url>, Report> {
        let Some(value) = headers.get(LOCATION) else {
            return Ok(None);
        };
        let unusable = || broken("the Location of status 202 is not usable");
        let value = value.to_str().map_err(|_| unusable())?;
        if value.len() > MAX_LOCATION_BYTES {
            return Err(unusable());
        }
        let next = self.at.join(value).map_err(|_| unusable())?;
        let foreign = next.origin() != self.at.origin()
            || !next.username().is_empty()
            || next.password().is_some();
        if foreign {
            // Every job would meet the same: a matter of configuration, not of this video.
            return Err(Report::found(
                Code::Unimplemented,
                "the Location of status 202 is on another host, scheme or port, where Kinora does not follow",
            ));
        }
        Ok(Some(next))
    }
}

fn result(body: &Body) -> Report {
    let bytes = match body {
        Body::Whole(bytes) => bytes,
        Body::Cut(_) => return broken("the body of status 200 was cut short"),
        Body::TooLong(_) => return broken("the body of status 200 is longer than 1 MiB"),
    };
    match http_json::result(bytes) {
        Ok(result) => match check(result) {
            Ok(succeeded) => Report::succeeded(succeeded),
            Err(report) => report,
        },
        Err(problem) => broken(&problem),
    }
}

fn of_status(answer: &Answer, now: Timestamp) -> Report {
    let said = http_json::saying(answer.body.start());
    let message = match said.trim() {
        "" => format!("the processing service answered status {}", answer.status),
        said => said.to_owned(),
    };
    Report {
        fact: Fact::Http(HttpStatus {
            status: u32::from(answer.status),
        }),
        message: text::message(&message),
        retry_after: wait_of(answer, now),
    }
}

fn wait_of(answer: &Answer, now: Timestamp) -> Option<Duration> {
    retry_after::parse(answer.headers.get(RETRY_AFTER)?.to_str().ok()?, now)
}

#[cfg(test)]
#[path = "http_answer_tests.rs"]
mod tests;
