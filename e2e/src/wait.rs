//! Waiting for a condition, never for a time.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const PAUSE: Duration = Duration::from_millis(100);

/// Asks until the answer is there. A failed question counts as "not yet" and is named when the time is up.
///
/// # Errors
/// `what` did not happen within `limit`.
pub async fn until<T, F, Fut>(what: &str, limit: Duration, mut ask: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>>>,
{
    let started = Instant::now();
    loop {
        let last = match ask().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => "not yet".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if started.elapsed() > limit {
            bail!("waited {} s for {what}: {last}", limit.as_secs());
        }
        tokio::time::sleep(PAUSE).await;
    }
}
