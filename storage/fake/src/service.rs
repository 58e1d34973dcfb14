//! One request: signed, noted, perhaps struck by a fault, then done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateBucketInput, CreateBucketOutput,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput,
    DeleteObjectsInput, DeleteObjectsOutput, GetObjectInput, GetObjectOutput, HeadObjectInput,
    HeadObjectOutput, ListObjectVersionsInput, ListObjectVersionsOutput, ListObjectsV2Input,
    ListObjectsV2Output, ListPartsInput, ListPartsOutput, PutObjectInput, PutObjectOutput,
    StreamingBlob, UploadPartInput, UploadPartOutput,
};
use s3s::path::S3Path;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use crate::behaviour::Behaviour;
use crate::clock::Clock;
use crate::faults::{Fault, Faults};
use crate::journal::{Journal, Op};
use crate::state::{Condition, Refusal, State};
use crate::{ACCESS_KEY_ID, BUCKET, SECRET_ACCESS_KEY};

/// Everything that requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) behaviour: Behaviour,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
    pub(crate) clock: Clock,
    state: Mutex<State>,
    writers: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// What is known of one request outside of the protocol.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) fault: OnceLock<Fault>,
    pub(crate) noted: OnceLock<usize>,
}

impl Shared {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        let mut state = State::new(behaviour.clone());
        state.create_bucket(BUCKET);
        Self {
            behaviour,
            faults: Faults::default(),
            journal: Journal::default(),
            clock: Clock::default(),
            state: Mutex::new(state),
            writers: Mutex::default(),
        }
    }

    pub(crate) fn wants_part_checksums(&self) -> bool {
        self.state().wants_part_checksums()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A conditional writer's turn at its key, where the store lets the contended ones wait.
    pub(crate) async fn turn(
        &self,
        key: &str,
        condition: &Condition,
    ) -> Option<tokio::sync::OwnedMutexGuard<()>> {
        let wait = self.behaviour.contended_wait;
        if *condition == Condition::None || wait.is_zero() {
            return None;
        }
        let lock = {
            let mut writers = self.writers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(writers.entry(key.to_owned()).or_default())
        };
        let turn = match Arc::clone(&lock).try_lock_owned() {
            Ok(turn) => turn,
            Err(_) => {
                tokio::time::sleep(wait).await;
                lock.lock_owned().await
            }
        };
        // Whoever came at the same time gets to see that the key is taken.
        tokio::task::yield_now().await;
        Some(turn)
    }
}

impl From<Refusal> for S3Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoSuchBucket => s3_error!(NoSuchBucket),
            Refusal::NoSuchKey => s3_error!(NoSuchKey),
            Refusal::NoSuchUpload => s3_error!(NoSuchUpload),
            Refusal::PreconditionFailed => s3_error!(PreconditionFailed),
            Refusal::InvalidPart => s3_error!(InvalidPart),
            Refusal::InvalidPartOrder => s3_error!(InvalidPartOrder),
            Refusal::EntityTooSmall => s3_error!(EntityTooSmall),
            Refusal::BadDigest => s3_error!(BadDigest),
            Refusal::AccessDenied => s3_error!(AccessDenied),
            Refusal::NotImplemented => s3_error!(NotImplemented),
        }
    }
}

/// A body as one piece; the server hands it over as one.
pub(crate) async fn gather(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(mut body) = body else {
        return Ok(Bytes::new());
    };
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|_| s3_error!(IncompleteBody))?;
        if first.is_empty() && rest.is_empty() {
            first = chunk;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&chunk);
        }
    }
    Ok(if rest.is_empty() {
        first
    } else {
        rest.freeze()
    })
}

/// The fault that struck this request.
pub(crate) fn fault<T>(request: &S3Request<T>) -> Option<Fault> {
    let slot = request.extensions.get::<Arc<Slot>>()?;
    slot.fault.get().copied()
}

struct Keys;

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        if access_key == ACCESS_KEY_ID {
            Ok(SECRET_ACCESS_KEY.into())
        } else {
            Err(s3_error!(InvalidAccessKeyId))
        }
    }
}

/// Notes the request and decides its fault; the signature was found good before.
struct Gate(Arc<Shared>);

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        if cx.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Signature is required"));
        }
        let op = Op::of(cx.s3_op().name());
        let (bucket, key) = match cx.s3_path() {
            S3Path::Object { bucket, key } => (bucket.to_string(), key.to_string()),
            S3Path::Bucket { bucket } => (bucket.to_string(), String::new()),
            S3Path::Root => (String::new(), String::new()),
        };
        let noted = self.0.journal.begin(op, &key);
        let fault = self.0.faults.of(op, &key);
        if let Some(slot) = cx.extensions_mut().get::<Arc<Slot>>() {
            let _ = slot.noted.set(noted);
            if let Some(fault) = fault {
                let _ = slot.fault.set(fault);
            }
        }
        match fault {
            Some(Fault::LostRequest | Fault::InternalError) => Err(s3_error!(InternalError)),
            Some(Fault::SlowDown) => Err(s3_error!(SlowDown)),
            Some(Fault::Conflict) => Err(s3_error!(ConditionalRequestConflict)),
            Some(Fault::TimeTooSkewed) => Err(s3_error!(RequestTimeTooSkewed)),
            Some(Fault::AbortedBefore) => {
                self.0.state().abort_all(&bucket, &key);
                Ok(())
            }
            Some(
                Fault::LostAnswer
                | Fault::NoAnswer
                | Fault::DoneInternalError
                | Fault::ErrorInside200
                | Fault::DoneErrorInside200
                | Fault::Slow(_)
                | Fault::PartSurvives,
            )
            | None => Ok(()),
        }
    }
}

/// The store behind the protocol.
pub(crate) struct Backend(pub(crate) Arc<Shared>);

pub(crate) fn service(shared: &Arc<Shared>) -> S3Service {
    let mut config = S3Config::default();
    // Clients sign by the time that they hear from here, wherever tests have moved it.
    config.presigned_url_max_skew_time_secs = u32::MAX;
    let mut builder = S3ServiceBuilder::new(Backend(Arc::clone(shared)));
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    builder.set_auth(Keys);
    builder.set_access(Gate(Arc::clone(shared)));
    builder.build()
}

type Answer<T> = S3Result<S3Response<T>>;

#[async_trait::async_trait]
impl S3 for Backend {
    async fn create_bucket(&self, r: S3Request<CreateBucketInput>) -> Answer<CreateBucketOutput> {
        self.0.state().create_bucket(&r.input.bucket);
        Ok(S3Response::new(CreateBucketOutput::default()))
    }
    async fn put_object(&self, r: S3Request<PutObjectInput>) -> Answer<PutObjectOutput> {
        self.0.put_object(r.input).await.map(S3Response::new)
    }
    async fn get_object(&self, r: S3Request<GetObjectInput>) -> Answer<GetObjectOutput> {
        self.0.get_object(&r.input).map(S3Response::new)
    }
    async fn head_object(&self, r: S3Request<HeadObjectInput>) -> Answer<HeadObjectOutput> {
        self.0.head_object(&r.input).map(S3Response::new)
    }
    async fn delete_object(&self, r: S3Request<DeleteObjectInput>) -> Answer<DeleteObjectOutput> {
        self.0.delete_object(&r.input).map(S3Response::new)
    }
    async fn delete_objects(
        &self,
        r: S3Request<DeleteObjectsInput>,
    ) -> Answer<DeleteObjectsOutput> {
        self.0.delete_objects(&r.input).map(S3Response::new)
    }
    async fn list_objects_v2(
        &self,
        r: S3Request<ListObjectsV2Input>,
    ) -> Answer<ListObjectsV2Output> {
        self.0.list_objects(&r.input).map(S3Response::new)
    }
    async fn list_object_versions(
        &self,
        r: S3Request<ListObjectVersionsInput>,
    ) -> Answer<ListObjectVersionsOutput> {
        self.0.list_versions(&r.input).map(S3Response::new)
    }
    async fn create_multipart_upload(
        &self,
        r: S3Request<CreateMultipartUploadInput>,
    ) -> Answer<CreateMultipartUploadOutput> {
        self.0.create_multipart(r.input).map(S3Response::new)
    }
    async fn upload_part(&self, r: S3Request<UploadPartInput>) -> Answer<UploadPartOutput> {
        self.0.upload_part(r.input).await.map(S3Response::new)
    }
    async fn list_parts(&self, r: S3Request<ListPartsInput>) -> Answer<ListPartsOutput> {
        self.0.list_parts(&r.input).map(S3Response::new)
    }
    async fn complete_multipart_upload(
        &self,
        r: S3Request<CompleteMultipartUploadInput>,
    ) -> Answer<CompleteMultipartUploadOutput> {
        let fault = fault(&r);
        Shared::complete(&self.0, r.input, fault)
            .await
            .map(S3Response::new)
    }
    async fn abort_multipart_upload(
        &self,
        r: S3Request<AbortMultipartUploadInput>,
    ) -> Answer<AbortMultipartUploadOutput> {
        let survives = fault(&r) == Some(Fault::PartSurvives);
        self.0.abort(&r.input, survives).map(S3Response::new)
    }
}
