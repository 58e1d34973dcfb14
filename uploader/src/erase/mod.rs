//! Erasing a video for good: its bytes, outputs, index and personal fields, with all their versions. A hold wins over
//! it, and so does whatever is not at its end: a video is cancelled first, and the wish waits for its record. The
//! tombstone is written before anything is deleted, so that sweep, audit and redrive find that there is nothing to do.

mod document;

use bytes::Bytes;
use jiff::Timestamp;
use kinora_crds::names::job_name;
use kinora_storage::documents::{
    self as stored, Active, Document, DocumentError, Pending, Record, VERSION, encode,
};
use kinora_storage::versions::Purge;
use kinora_storage::{
    CasOutcome, Condition, Day, PutOptions, StoreError, StoreErrorKind, UploadId, keys,
};
use kinora_upload_engine::{Phase, State};

pub use document::{AuditLine, Erasure, Happened, tombstone};

use crate::app::App;
use crate::drive::Driver;

/// What is done with a wish to erase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ErasePolicy {
    /// It is carried out as soon as the video is at its end.
    Allow,
    /// It is kept, until the policy allows it or retention has removed the video.
    #[default]
    Defer,
    /// It is refused: the duty to keep comes first.
    Refuse,
}

/// Why an erasure does not go on now.
#[derive(Debug, thiserror::Error)]
pub enum EraseError {
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document cannot be read or written.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Somebody else writes the same document.
    #[error("erase {0}: its record is being written")]
    Busy(UploadId),
}

/// How far an erasure came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// To its end.
    Erased,
    /// The video is not at its end.
    NotYet,
    /// An administrator holds the video.
    Held,
}

type Result<T> = std::result::Result<T, EraseError>;

/// Appends a line to the audit trail.
///
/// # Errors
/// When it is not certain that it is stored.
pub async fn audit(app: &App, erasure: &Erasure, happened: Happened) -> Result<()> {
    let at = app.store.now();
    let line = AuditLine {
        v: VERSION,
        id: erasure.id.clone(),
        tenant: erasure.tenant.clone(),
        happened,
        by: erasure.by.clone(),
        reason: erasure.reason.clone(),
        locked: erasure.locked,
        at,
    };
    let (ms, nonce) = (at.as_millisecond(), rand::random());
    let key = keys::erase_audit(Day::from_timestamp(at), ms, &erasure.id, nonce);
    tracing::info!(upload = %erasure.id, ?happened, locked = erasure.locked, "an erasure");
    write(app, &key, &line, Condition::IfAbsent).await.map(drop)
}

/// Stores the wish, unless there is one; the one that is stored, and whether it is new.
///
/// # Errors
/// When it is not certain that it is stored.
pub async fn wish(app: &App, erasure: &Erasure) -> Result<(Erasure, bool)> {
    let key = keys::erasure(&erasure.id);
    match write(app, &key, erasure, Condition::IfAbsent).await? {
        CasOutcome::Won { .. } => Ok((erasure.clone(), true)),
        CasOutcome::Lost(other) => Ok((stored::decode(&other.bytes)?, false)),
        CasOutcome::Gone => Err(EraseError::Busy(erasure.id.clone())),
    }
}

/// Whether an administrator holds the video.
///
/// # Errors
/// When the store does not answer: then nothing is known.
pub async fn is_held(app: &App, id: &UploadId) -> Result<bool> {
    Ok(app.store.head(&keys::hold(id.as_str())).await?.is_some())
}

/// Carries a wish out, as far as it goes. Safe to repeat, and to do twice at once.
///
/// # Errors
/// When the store does not answer: the next try goes on.
pub async fn carry_out(driver: &Driver, mut erasure: Erasure) -> Result<Carried> {
    let (app, id) = (&driver.app, &driver.id);
    if is_held(app, id).await? {
        return Ok(Carried::Held);
    }
    if !ended_upload(driver).await? {
        return Ok(Carried::NotYet);
    }
    let record = read::<Record>(app, &keys::record_for_upload(id)).await?;
    if !at_its_end(driver, record.as_ref().map(|(record, _)| record)).await? {
        return Ok(Carried::NotYet);
    }
    if record
        .as_ref()
        .is_some_and(|(record, _)| record.is_tombstone())
    {
        // Another carrier buried it since this wish was read, and only the stored one knows what the record said.
        if let Some((stored, _)) = read::<Erasure>(app, &keys::erasure(id)).await? {
            erasure = stored;
        }
    } else {
        if let Some((record, _)) = &record {
            // What the tombstone will not know is remembered first.
            erasure.index_key.clone_from(&record.index_key);
            erasure.job_uid = record.job.as_ref().map(|job| job.uid.clone());
            write(app, &keys::erasure(id), &erasure, Condition::None).await?;
        }
        bury(app, &erasure, record).await?;
    }
    let locked = remove(app, &erasure).await?;
    if erasure.erased.is_none() {
        erasure.locked = (locked > 0).then_some(locked);
        audit(app, &erasure, Happened::Erased).await?;
        erasure.erased = Some(app.store.now());
        write(app, &keys::erasure(id), &erasure, Condition::None).await?;
    }
    Ok(Carried::Erased)
}

/// Whether no upload goes on under the id; the parts of one that was ended are let go of first.
async fn ended_upload(driver: &Driver) -> Result<bool> {
    let Some(object) = driver
        .app
        .store
        .get_document(&keys::state(&driver.id))
        .await?
    else {
        return Ok(true);
    };
    match State::parse(&object.bytes) {
        Ok(doc) if doc.phase == Phase::Dead => {
            // What stays in the store is not erased.
            Ok(driver.end(&doc).await)
        }
        // What is finished but for its last sweep is judged by its record.
        Ok(doc) if doc.phase == Phase::Finishing => Ok(false),
        Ok(_) | Err(_) => Ok(false),
    }
}

/// Whether the video has a record that no later life follows, or never was one.
async fn at_its_end(driver: &Driver, record: Option<&Record>) -> Result<bool> {
    let (app, id) = (&driver.app, &driver.id);
    let active = read::<Active>(app, &keys::active(id)).await?;
    let Some(record) = record else {
        let waits = read::<Pending>(app, &keys::pending(id)).await?;
        return Ok(active.is_none() && waits.is_none());
    };
    if active.is_some_and(|(active, _)| !record.ends(active.redrives)) {
        return Ok(false);
    }
    if !record.dead_lettered {
        return Ok(true);
    }
    // A dead letter may have been redriven.
    match app.jobs.get(&job_name(id.as_str())).await {
        Ok(job) => Ok(job.is_none_or(|job| kinora_crds::state::is_final(job.state()))),
        Err(error) => {
            tracing::warn!(upload = %id, %error, "an erasure waits for Kubernetes");
            Ok(false)
        }
    }
}

/// Puts the tombstone in the record's place.
async fn bury(app: &App, erasure: &Erasure, record: Option<(Record, String)>) -> Result<()> {
    let (record, etag) = record.unzip();
    let stone = tombstone(
        &erasure.id,
        &erasure.tenant,
        record.as_ref(),
        app.store.now(),
    );
    let condition = etag.map_or(Condition::IfAbsent, Condition::IfMatch);
    match write(
        app,
        &keys::record_for_upload(&erasure.id),
        &stone,
        condition,
    )
    .await?
    {
        CasOutcome::Won { .. } => Ok(()),
        CasOutcome::Lost(_) | CasOutcome::Gone => Err(EraseError::Busy(erasure.id.clone())),
    }
}

/// Removes all there is but the tombstone and the audit trail; how many versions stay because they are locked.
async fn remove(app: &App, erasure: &Erasure) -> Result<u64> {
    let id = &erasure.id;
    let mut all = vec![
        keys::video(id),
        keys::upload_prefix(id),
        keys::pending(id),
        keys::active(id),
        keys::dead(id.day(), id.as_str()),
    ];
    all.extend(erasure.index_key.clone());
    let outputs = erasure.job_uid.as_deref().filter(|uid| !uid.is_empty());
    all.extend(outputs.map(|uid| keys::outputs_of_job(id.day(), uid)));
    let all = all.into_iter().map(|prefix| (prefix, Purge::Everything));
    let earlier = [keys::record_for_upload(id), keys::erasure(id)];
    let earlier = earlier.map(|key| (key, Purge::Earlier));
    let (mut locked, mut denied) = (0, None);
    for (prefix, what) in all.chain(earlier) {
        match app.store.purge(&prefix, what).await {
            Ok(more) => locked += more,
            // What can be hidden is, wherever a right is missing.
            Err(error) if error.kind == StoreErrorKind::AccessDenied => {
                denied.get_or_insert(error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    denied.map_or(Ok(locked), |error| Err(error.into()))
}

/// The last look, a day later: what a worker that had been cut off has written since goes too, then the wish.
///
/// # Errors
/// When the store does not answer.
pub async fn forget(app: &App, erasure: &Erasure) -> Result<()> {
    remove(app, erasure).await?;
    let key = keys::erasure(&erasure.id);
    app.store.purge(&key, Purge::Everything).await?;
    Ok(())
}

/// Whether nothing is left to do for a video that has a tombstone, but the last look.
///
/// # Errors
/// When the wish cannot be read: then nothing is known.
pub async fn is_through(app: &App, id: &UploadId) -> Result<bool> {
    let wish = read::<Erasure>(app, &keys::erasure(id)).await?;
    Ok(wish.is_none_or(|(erasure, _)| erasure.erased.is_some()))
}

/// Whether so much time has gone by since it was carried out.
#[must_use]
pub fn is_past(erasure: &Erasure, now: Timestamp, ms: i64) -> bool {
    let since = |erased: Timestamp| now.as_millisecond() - erased.as_millisecond();
    erasure.erased.is_some_and(|erased| since(erased) >= ms)
}

async fn read<T: Document>(app: &App, key: &str) -> Result<Option<(T, String)>> {
    let Some(object) = app.store.get_document(key).await? else {
        return Ok(None);
    };
    Ok(Some((stored::decode(&object.bytes)?, object.etag)))
}

async fn write<T: Document>(
    app: &App,
    key: &str,
    document: &T,
    condition: Condition,
) -> Result<CasOutcome> {
    let body = Bytes::from(encode(document)?);
    Ok(app
        .store
        .cas(key, body, PutOptions::json(condition))
        .await?)
}
