//! The store's name, resolved so that name servers in trouble stop nobody who has been there before: a look-up gets so much time,
//! what was found last is used where it fails, and only so many of them wait for an answer that does not come.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use futures::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Less than a connection may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Look-ups at once. The system's block a thread each, for as long as its configuration says.
const AT_ONCE: usize = 8;

/// Finds the addresses of a host.
pub type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// See the module. Clones share what is known.
#[derive(Clone)]
pub(crate) struct LastGood {
    lookup: Lookup,
    places: Arc<Semaphore>,
    known: Arc<Mutex<HashMap<String, Vec<IpAddr>>>>,
    patience: Duration,
}

impl LastGood {
    pub(crate) fn over(lookup: Lookup) -> Self {
        Self {
            lookup,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            known: Arc::default(),
            patience: PATIENCE,
        }
    }

    /// Over the resolver of the system.
    pub(crate) fn system() -> Self {
        Self::over(Arc::new(|host| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((host, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        }))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Vec<IpAddr>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let last = self.known().get(host).cloned();
        let free = Arc::clone(&self.places).try_acquire_owned().ok();
        if let (None, Some(last)) = (&free, &last) {
            // Enough others ask at this moment.
            return Ok(last.clone());
        }
        let error = match self.look_up(host, free).await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        if last.is_some() {
            tracing::warn!(%host, %error, "no answer about a name, its last addresses are used");
        }
        last.ok_or(error)
    }

    async fn look_up(
        &self,
        host: &str,
        free: Option<OwnedSemaphorePermit>,
    ) -> io::Result<Vec<IpAddr>> {
        let looked = async {
            let place = match free {
                Some(place) => place,
                None => {
                    let next = Arc::clone(&self.places).acquire_owned();
                    next.await.map_err(io::Error::other)?
                }
            };
            let (all, host) = (self.clone(), host.to_owned());
            // It goes on when nobody waits for it any more: what it finds is for the next one.
            let looking = tokio::spawn(async move {
                let found = (all.lookup)(host.clone()).await?;
                drop(place);
                if found.is_empty() {
                    return Err(io::Error::other("the name has no address"));
                }
                all.known().insert(host, found.clone());
                Ok(found)
            });
            looking.await.map_err(io::Error::other)?
        };
        let looked = tokio::time::timeout(self.patience, looked).await;
        looked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl fmt::Debug for LastGood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LastGood").finish_non_exhaustive()
    }
}

impl ResolveDns for LastGood {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        let found = self.addresses(name);
        DnsFuture::new(async move { found.await.map_err(ResolveDnsError::new) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const HOST: &str = "store.test";

    /// What name servers do.
    #[derive(Clone, Copy)]
    enum Servers {
        Answer(u8),
        Fail,
        SayNothing,
    }

    /// A resolver over servers that change, and how often they were asked.
    fn names() -> (LastGood, Arc<Mutex<Servers>>, Arc<AtomicUsize>) {
        let (servers, asked) = (
            Arc::new(Mutex::new(Servers::Fail)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (now, count) = (servers.clone(), asked.clone());
        let lookup: Lookup = Arc::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            let now = *now.lock().unwrap();
            Box::pin(async move {
                match now {
                    Servers::Answer(last) => Ok(vec![IpAddr::from([10, 0, 0, last])]),
                    Servers::Fail => Err(io::Error::other("SERVFAIL")),
                    Servers::SayNothing => std::future::pending().await,
                }
            })
        });
        let names = LastGood {
            patience: Duration::from_millis(50),
            ..LastGood::over(lookup)
        };
        (names, servers, asked)
    }

    /// covers: F61
    #[tokio::test]
    async fn the_last_good_addresses_are_used_while_there_is_no_answer() {
        let (names, servers, _) = names();
        let steps = [
            ("never found", Servers::Fail, None),
            ("never heard of", Servers::SayNothing, None),
            ("found", Servers::Answer(1), Some(1)),
            ("failing", Servers::Fail, Some(1)),
            ("silent", Servers::SayNothing, Some(1)),
            ("moved", Servers::Answer(2), Some(2)),
            ("failing again", Servers::Fail, Some(2)),
        ];
        for (name, now, want) in steps {
            *servers.lock().unwrap() = now;
            let found = names.addresses(HOST).await.ok();
            let want = want.map(|last| vec![IpAddr::from([10, 0, 0, last])]);
            assert_eq!(found, want, "{name}");
        }
        *servers.lock().unwrap() = Servers::Fail;
        assert!(names.addresses("other.test").await.is_err(), "another name");
    }

    /// covers: F61
    #[tokio::test]
    async fn look_ups_without_an_answer_do_not_pile_up() {
        let (names, servers, asked) = names();
        *servers.lock().unwrap() = Servers::SayNothing;
        for _ in 0..3 * AT_ONCE {
            assert!(names.addresses(HOST).await.is_err());
        }
        assert_eq!(asked.load(Ordering::Relaxed), AT_ONCE);
    }

    /// covers: F61
    #[tokio::test]
    async fn many_that_ask_at_once_all_find_the_name_whether_it_is_known_or_not() {
        let (names, servers, asked) = names();
        *servers.lock().unwrap() = Servers::Answer(1);
        let crowd = || futures::future::join_all((0..3 * AT_ONCE).map(|_| names.addresses(HOST)));
        assert!(crowd().await.iter().all(Result::is_ok), "the first time");
        *servers.lock().unwrap() = Servers::SayNothing;
        let before = asked.load(Ordering::Relaxed);
        assert!(crowd().await.iter().all(Result::is_ok), "known");
        assert_eq!(asked.load(Ordering::Relaxed), before + AT_ONCE);
    }
}
