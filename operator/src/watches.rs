//! Watches that begin with a streaming list where the API server has them, and with a list in pages where not: Kubernetes 1.33
//! refuses them unless the feature gate WatchList is on.

use std::fmt::Debug;

use futures::stream::{self, Stream, StreamExt};
use kube::runtime::watcher::{Config, Error, Event, Result, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// What happens to these objects, for ever. Does not back off by itself.
pub(crate) fn watch<K>(api: Api<K>, config: Config) -> impl Stream<Item = Result<Event<K>>> + Send
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
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

/// A parameter that the server does not know, or whose feature is off.
fn is_refused(error: &Error) -> bool {
    matches!(error, Error::WatchStartFailed(kube::Error::Api(status)) if matches!(status.code, 400 | 422))
}
