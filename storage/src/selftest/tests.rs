//! The self-test against stores in memory that keep or break one promise each.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::*;

/// What is wrong with a store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    IgnoresConditions,
    /// Checks the condition, then writes: correct one at a time, wrong in a race.
    ChecksThenWrites,
    SwapCreates,
    AcceptsAnyCrc,
    NeverCompletes,
    Clock,
    /// Conditional writes land, and every second answer to one is lost.
    LosesAnswers,
    Down,
}

struct Memory {
    flaw: Flaw,
    objects: Mutex<BTreeMap<String, Object>>,
    calls: Mutex<u32>,
}

impl Memory {
    fn new(flaw: Flaw) -> Self {
        Self {
            flaw,
            objects: Mutex::default(),
            calls: Mutex::default(),
        }
    }

    fn holds(&self, key: &str, condition: &Condition) -> bool {
        let objects = self.objects.lock().unwrap();
        match (condition, objects.get(key)) {
            (Condition::None, _) | (Condition::IfAbsent, None) => true,
            (Condition::IfMatch(_), None) => self.flaw == Flaw::SwapCreates,
            (Condition::IfMatch(etag), Some(stored)) => stored.etag == *etag,
            (Condition::IfAbsent, Some(_)) => false,
        }
    }

    fn store(&self, key: &str, bytes: Bytes) -> String {
        let etag = format!("\"{}\"", crc64_base64(&bytes));
        let object = Object {
            bytes,
            etag: etag.clone(),
            last_modified: jiff::Timestamp::UNIX_EPOCH,
            metadata: Metadata::new(),
        };
        self.objects.lock().unwrap().insert(key.to_owned(), object);
        etag
    }

    fn check(&self, body: &Bytes, crc: Option<&str>) -> Result<(), StoreError> {
        if crc.is_some_and(|crc| crc != crc64_base64(body)) && self.flaw != Flaw::AcceptsAnyCrc {
            return Err(StoreError::new(
                StoreErrorKind::BadDigest,
                "put",
                "wrong checksum",
            ));
        }
        Ok(())
    }
}

#[async_trait]
impl Probe for Memory {
    async fn put(
        &self,
        key: &str,
        body: Bytes,
        options: PutOptions,
    ) -> Result<PutOutcome, StoreError> {
        self.check(&body, options.checksum.as_deref())?;
        if self.flaw == Flaw::Down {
            return Err(StoreError::new(
                StoreErrorKind::Unavailable,
                "put",
                "no connection",
            ));
        }
        let holds = self.flaw == Flaw::IgnoresConditions || self.holds(key, &options.condition);
        if self.flaw == Flaw::ChecksThenWrites {
            tokio::task::yield_now().await;
        }
        if !holds {
            return Ok(PutOutcome::Lost);
        }
        let etag = self.store(key, body);
        if options.condition == Condition::None {
            return Ok(PutOutcome::Written { etag });
        }
        let mut calls = self.calls.lock().unwrap();
        *calls += 1;
        if self.flaw == Flaw::LosesAnswers && calls.is_multiple_of(2) {
            return Err(StoreError::new(StoreErrorKind::Timeout, "put", "no answer"));
        }
        Ok(PutOutcome::Written { etag })
    }
    async fn get(&self, key: &str) -> Result<Option<Object>, StoreError> {
        Ok(self.objects.lock().unwrap().get(key).cloned())
    }
    async fn delete_many(&self, keys: &[String]) -> Result<(), StoreError> {
        self.objects
            .lock()
            .unwrap()
            .retain(|key, _| !keys.contains(key));
        Ok(())
    }
    async fn create_multipart(&self, _key: &str) -> Result<MultipartId, StoreError> {
        Ok(MultipartId("m".into()))
    }
    async fn upload_part(
        &self,
        _key: &str,
        _id: &MultipartId,
        body: Bytes,
        crc: &str,
    ) -> Result<String, StoreError> {
        self.check(&body, Some(crc)).map(|()| "\"p\"".into())
    }
    async fn list_parts(
        &self,
        _key: &str,
        _id: &MultipartId,
    ) -> Result<Option<Vec<Part>>, StoreError> {
        Ok(None)
    }
    async fn complete(
        &self,
        key: &str,
        _id: &MultipartId,
        _part: PartRef,
        _crc: &str,
    ) -> Result<bool, StoreError> {
        let done = self.flaw != Flaw::NeverCompletes;
        if done {
            self.store(key, Bytes::from_static(b"part"));
        }
        Ok(done)
    }
    async fn abort(&self, _key: &str, _id: &MultipartId) -> Result<(), StoreError> {
        Ok(())
    }
    fn skew_seconds(&self) -> Option<i64> {
        Some(if self.flaw == Flaw::Clock { -301 } else { 300 })
    }
}

/// covers: F13
#[tokio::test]
async fn each_broken_promise_is_found_and_named() {
    use Capability as C;
    let table = [
        ("an honest store", Flaw::None, vec![], true, true),
        (
            "answers lost after the write are no broken promise",
            Flaw::LosesAnswers,
            vec![],
            true,
            true,
        ),
        (
            "conditions ignored",
            Flaw::IgnoresConditions,
            vec![C::AtomicCreate, C::AtomicSwap, C::SwapNeedsObject],
            false,
            true,
        ),
        (
            "check, then write",
            Flaw::ChecksThenWrites,
            vec![C::AtomicCreate, C::AtomicSwap],
            false,
            true,
        ),
        (
            "a swap that creates",
            Flaw::SwapCreates,
            vec![C::SwapNeedsObject],
            false,
            true,
        ),
        (
            "checksums not verified",
            Flaw::AcceptsAnyCrc,
            vec![C::VerifiesChecksums],
            false,
            false,
        ),
        (
            "large objects that never become whole",
            Flaw::NeverCompletes,
            vec![C::CompletesParts],
            false,
            false,
        ),
        (
            "a clock five minutes and a second behind",
            Flaw::Clock,
            vec![],
            false,
            false,
        ),
    ];
    for (name, flaw, want_missing, want_several, want_single) in table {
        let store = Memory::new(flaw);
        let report = run(&store).await.unwrap();
        assert_eq!(report.missing, want_missing, "{name}");
        assert_eq!(
            report.require(false).is_ok(),
            want_several,
            "{name}: several replicas"
        );
        assert_eq!(
            report.require(true).is_ok(),
            want_single,
            "{name}: a single replica"
        );
        assert!(
            store.objects.lock().unwrap().is_empty(),
            "{name}: nothing is left behind"
        );
    }
}

#[tokio::test]
async fn a_refusal_says_what_is_missing_and_what_to_do() {
    let report = run(&Memory::new(Flaw::IgnoresConditions)).await.unwrap();
    let text = report.require(false).unwrap_err().to_string();
    assert!(
        text.contains("If-None-Match") && text.contains("--single-replica"),
        "{text}"
    );
}

#[tokio::test]
async fn a_store_that_is_down_is_not_called_dishonest() {
    let error = run(&Memory::new(Flaw::Down)).await.unwrap_err();
    assert!(matches!(error, SelfTestError::Store(cause) if cause.is_unknown_outcome()));
}
