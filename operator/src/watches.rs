//! Watches that begin with a streaming list where the API server has them, and with a list in pages where not: Kubernetes 1.33
//! refuses them unless the feature gate WatchList is on. And that are there again soon after an API server is.

use std::fmt::Debug;
use std::future::ready;
use std::time::Duration;

use futures::stream::{self, Stream, StreamExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{Config, Error, Event, Result, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

/// The server ends a watch that it has answered after this many seconds, and it goes on from where it was.
const WATCH_SECONDS: u32 = 140;
/// A connection on which an answer is due and nothing comes is given up after this: longer than a watch may say nothing, and
/// with it no longer than a watch may be blind, 5 minutes.
pub(crate) const SILENCE: Duration = Duration::from_secs(150);

/// A client that does not wait for ever for an answer. The time counts from the request on.
pub(crate) fn impatient(mut config: kube::Config, silence: Duration) -> kube::Config {
    config.read_timeout = Some(silence);
    config.reset_reader_on_write = true;
    config
}

/// As [`watch`], of few objects: they are listed in pages.
pub(crate) fn watch_few<K>(
    api: Api<K>,
    config: Config,
) -> impl Stream<Item = Result<Event<K>>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(api, config.timeout(WATCH_SECONDS))
}

/// What happens to these objects, for ever. Does not back off by itself.
pub(crate) fn watch<K>(api: Api<K>, config: Config) -> impl Stream<Item = Result<Event<K>>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = config.timeout(WATCH_SECONDS);
    let streaming = watcher(api.clone(), config.clone().streaming_lists()).boxed();
    let start = (streaming, Some((api, config)));
    stream::unfold(start, |(mut events, mut instead)| async move {
        let mut event = events.next().await?;
        if let Err(error) = &event
            && is_refused(error)
            && let Some((api, config)) = instead.take()
        {
            let kind = std::any::type_name::<K>().rsplit("::").next();
            tracing::info!(%error, kind, "no streaming lists here: listing in pages");
            events = watcher(api, config).boxed();
            event = events.next().await?;
        }
        Some((event, (events, instead)))
    })
}

/// Pauses after each failure. Not when the server has forgotten what happened since: then all is listed again at once, for what
/// is known is as old as the watch that broke off.
pub(crate) fn patient<K>(
    events: impl Stream<Item = Result<Event<K>>> + Send,
) -> impl Stream<Item = Result<Event<K>>> + Send
where
    K: Send,
{
    without_forgetting(events).backoff(Pauses::default())
}

/// A server that forgets again at once is told as a failure.
fn without_forgetting<K>(
    events: impl Stream<Item = Result<Event<K>>>,
) -> impl Stream<Item = Result<Event<K>>> {
    let mut was_expired = false;
    events.filter(move |event| {
        let expired = matches!(event, Err(error) if is_expired(error));
        let passes = !expired || was_expired;
        was_expired = expired;
        ready(passes)
    })
}

/// From 0.4 to 5 s, with jitter; from the beginning after half a minute without a failure.
#[derive(Debug, Default)]
struct Pauses(Option<(Instant, Duration)>);

const FIRST_PAUSE: Duration = Duration::from_millis(400);
const LONGEST_PAUSE: Duration = Duration::from_millis(2_500);
const FORGIVEN: Duration = Duration::from_secs(30);

impl Pauses {
    fn after_failure(&mut self, now: Instant) -> Duration {
        let pause = match self.0 {
            Some((at, pause)) if now - at < FORGIVEN => (pause * 2).min(LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        self.0 = Some((now, pause));
        rand::random_range(pause..pause * 2)
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.after_failure(Instant::now()))
    }
}

impl Backoff for Pauses {
    /// A listing that begins counts as an event, and may fail all the same.
    fn reset(&mut self) {}
}

fn is_expired(error: &Error) -> bool {
    match error {
        Error::WatchError(status) => status.code == 410,
        Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        _ => false,
    }
}

/// A parameter that the server does not know, or whose feature is off.
fn is_refused(error: &Error) -> bool {
    matches!(error, Error::WatchStartFailed(kube::Error::Api(status)) if matches!(status.code, 400 | 422))
}

#[cfg(test)]
mod silence_tests;

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::core::Status;

    use super::*;

    type Item = Result<Event<ConfigMap>>;

    fn failed(code: u16) -> Item {
        let status = Status::failure("told by the server", "x").with_code(code);
        Err(Error::WatchError(Box::new(status)))
    }

    #[tokio::test]
    async fn what_the_server_forgot_is_listed_at_once_but_not_for_ever() {
        let init = || Ok(Event::Init);
        let table = [
            ("once", vec![failed(410), init()], vec![true]),
            (
                "twice, with a listing between",
                vec![failed(410), init(), failed(410), init()],
                vec![true, true],
            ),
            (
                "twice in a row",
                vec![failed(410), failed(410), init()],
                vec![false, true],
            ),
            (
                "something else",
                vec![failed(500), init()],
                vec![false, true],
            ),
        ];
        for (name, items, want) in table {
            let events = without_forgetting(stream::iter(items));
            let got: Vec<_> = events.map(|event| event.is_ok()).collect().await;
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn pauses_grow_to_seconds_at_most_and_begin_anew_after_a_quiet_time() {
        let (mut pauses, start) = (Pauses::default(), Instant::now());
        let mut now = start;
        for n in 0..50 {
            let pause = pauses.after_failure(now);
            // However often a listing began meanwhile.
            pauses.reset();
            let least = if n < 3 { FIRST_PAUSE } else { LONGEST_PAUSE };
            assert!(
                (least..=LONGEST_PAUSE * 2).contains(&pause),
                "{n}: {pause:?}"
            );
            now += pause;
        }
        assert!(pauses.after_failure(now + FORGIVEN) < FIRST_PAUSE * 2);
    }
}
