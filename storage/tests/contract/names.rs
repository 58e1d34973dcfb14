//! The store's name does not resolve, or not in time.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use kinora_fake_s3::{BUCKET, Behaviour, FakeS3, Fault, Op, Rule};
use kinora_storage::{Lookup, Store, StoreArgs, StoreErrorKind};

/// Name servers: an address, or silence.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<Option<IpAddr>>>);

impl Names {
    fn set(&self, address: Option<IpAddr>) {
        *self.0.lock().unwrap() = address;
    }

    fn lookup(&self) -> Lookup {
        let names = self.clone();
        Arc::new(move |_| {
            let found = *names.0.lock().unwrap();
            Box::pin(async move {
                match found {
                    Some(address) => Ok(vec![address]),
                    None => std::future::pending().await,
                }
            })
        })
    }
}

/// covers: F61
#[tokio::test]
async fn a_name_that_is_not_found_in_time_is_a_store_that_is_away_and_one_found_before_is_not() {
    let s3 = FakeS3::start(Behaviour::aws()).unwrap();
    let endpoint = s3.endpoint().replace("127.0.0.1", "store.test");
    let args = StoreArgs::new(endpoint, BUCKET, s3.credentials_dir());
    let names = Names::default();
    let store = Store::with_names(&args, names.lookup()).unwrap();
    let error = store.head("x").await.unwrap_err();
    let kinds = [StoreErrorKind::Unavailable, StoreErrorKind::Timeout];
    assert!(kinds.contains(&error.kind), "{error}");

    // The name servers are back, and nothing has to be started again.
    names.set(Some([127, 0, 0, 1].into()));
    assert!(store.head("x").await.unwrap().is_none());

    // Away again: connections that end are made anew to where the store was.
    names.set(None);
    s3.faults()
        .add(Rule::on(Op::Head, Fault::LostAnswer).times(2));
    assert!(store.head("x").await.unwrap().is_none());
    assert!(s3.journal().count(Op::Head) >= 4, "over another connection");
}
