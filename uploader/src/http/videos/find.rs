//! Where a video stands, whoever asks. Read in the order state, decision with its job, record, outbox: each is there
//! before the one before it goes. What is found is shared by all who wait for it, so who may see it is asked apart.

use kinora_crds::VideoJob;
use kinora_crds::names::job_name;
use kinora_storage::documents::{
    self as stored, Active, Decision, Document, Owner, Pending, Record,
};
use kinora_storage::keys;
use kinora_upload_engine::{Phase, Principal, State};

use super::view::{VideoState, View};
use crate::documents::is_direct;
use crate::drive::Driver;
use crate::http::answers::may;
use crate::http::problem::{Kind, Problem};

/// What is known under an id.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::http) struct Found {
    owner: Option<Owner>,
    tenant: String,
    pub(in crate::http) what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::http) enum What {
    /// A video, or what may become one.
    Video(Box<View>),
    /// An upload that ended without a video, and why.
    Ended(String),
    /// A video that was erased.
    Erased,
}

impl Found {
    fn new(owner: Owner, tenant: &str, view: View) -> Self {
        Self {
            owner: Some(owner),
            tenant: tenant.to_owned(),
            what: What::Video(Box::new(view)),
        }
    }

    /// An upload that ended so.
    #[cfg(test)]
    pub(super) fn ended(why: &str) -> Self {
        Self {
            owner: None,
            tenant: String::new(),
            what: What::Ended(why.to_owned()),
        }
    }

    /// Whether this caller may see it.
    pub(in crate::http) fn is_for(&self, who: &Principal) -> bool {
        match &self.owner {
            Some(owner) => may(who, owner, &self.tenant),
            // Of an erased video only the tenant is known.
            None => who.tenant_wide && who.tenant == self.tenant,
        }
    }

    /// Whether waiting for more makes no sense.
    pub(in crate::http) fn is_final(&self) -> bool {
        match &self.what {
            What::Video(view) => view.is_final(),
            What::Ended(_) | What::Erased => true,
        }
    }

    /// Differs whenever the answer would.
    pub(in crate::http) fn tag(&self) -> Option<String> {
        match &self.what {
            What::Video(view) => Some(view.tag()),
            What::Ended(_) | What::Erased => None,
        }
    }

    /// The view, for those who may see it.
    pub(in crate::http) fn into_view(self, who: &Principal) -> Result<View, Problem> {
        if !self.is_for(who) {
            return Err(Problem::not_found());
        }
        match self.what {
            What::Video(view) => Ok(*view),
            What::Ended(why) => Err(Problem::gone(format!(
                "The upload has ended ({why}). Create a new one."
            ))),
            What::Erased => Err(Problem::new(
                Kind::Erased,
                "It was erased on request, with all that was made of it.",
            )),
        }
    }
}

/// Looks for a video or an upload.
pub(in crate::http) async fn find(driver: &Driver) -> Result<Option<Found>, Problem> {
    let Some(doc) = read_state(driver).await? else {
        if let Some(found) = settled(driver).await? {
            return Ok(Some(found));
        }
        if let Some(pending) = read::<Pending>(driver, &keys::pending(&driver.id)).await? {
            // Of a whole file in one request it comes before the bytes, which may never come.
            if !is_direct(&pending) || driver.app.store.head(&pending.key).await?.is_some() {
                return Ok(Some(of_pending(driver, pending)));
            }
        }
        // What was in the outbox a moment ago is decided now.
        return settled(driver).await;
    };
    let owner = Owner {
        iss: doc.owner.iss.clone(),
        sub: doc.owner.sub.clone(),
    };
    match doc.phase {
        Phase::Open | Phase::Closed => {
            let view = View::uploading(&driver.id, &doc);
            Ok(Some(Found::new(owner, &doc.tenant, view)))
        }
        Phase::Dead => {
            // A late try of a create leaves its marker beside the video that another try made.
            if let Some(found) = settled(driver).await? {
                return Ok(Some(found));
            }
            Ok(Some(Found {
                owner: Some(owner),
                tenant: doc.tenant,
                what: What::Ended(doc.reason.unwrap_or_default()),
            }))
        }
        Phase::Finishing => {
            if let Some(found) = settled(driver).await? {
                return Ok(Some(found));
            }
            // All bytes are there; that may be said once the outbox knows it.
            let pending = read::<Pending>(driver, &keys::pending(&driver.id)).await?;
            let view = match pending {
                Some(_) => View::new(&driver.id, VideoState::Stored, Some(doc.offset)),
                None => View::new(&driver.id, VideoState::Uploading, None),
            };
            Ok(Some(Found::new(owner, &doc.tenant, view)))
        }
    }
}

/// A video that is decided: by its decision and its job, or by its record.
pub(in crate::http) async fn settled(driver: &Driver) -> Result<Option<Found>, Problem> {
    if let Some(active) = read::<Active>(driver, &keys::active(&driver.id)).await? {
        return of_active(driver, active).await.map(Some);
    }
    let key = keys::record_for_upload(&driver.id);
    match read::<Record>(driver, &key).await? {
        Some(record) => Ok(Some(of_record(driver, &record).await)),
        None => Ok(None),
    }
}

/// Whether a video was stored under this id and erased since.
pub(in crate::http) async fn erased(driver: &Driver) -> Result<bool, Problem> {
    let record = read::<Record>(driver, &keys::record_for_upload(&driver.id)).await?;
    Ok(record.is_some_and(|record| record.is_tombstone()))
}

fn of_pending(driver: &Driver, pending: Pending) -> Found {
    let view = View::new(&driver.id, VideoState::Stored, Some(pending.length));
    Found::new(pending.owner, &pending.tenant, view.times(&pending.times))
}

async fn of_active(driver: &Driver, active: Active) -> Result<Found, Problem> {
    let size = Some(active.size);
    let found = |view| Ok(Found::new(active.owner.clone(), &active.tenant, view));
    if active.decision == Decision::Rejected {
        let mut view = View::new(&driver.id, VideoState::Rejected, size).times(&active.times);
        view.video.reason.clone_from(&active.reason);
        return found(view);
    }
    let stored = View::new(&driver.id, VideoState::Stored, size).times(&active.times);
    let job = job(driver).await.ok().flatten();
    let (view, redrives) = match &job {
        Some(job) => (stored.of_job(job), i64::from(job.redrives())),
        None => (stored, active.redrives),
    };
    if job.is_some() && !view.video.state.is_final() {
        return found(view);
    }
    // Not made yet; or at its end, gone after it, or not to be asked for: then the record may be there, and says more.
    let key = keys::record_for_upload(&driver.id);
    match read::<Record>(driver, &key).await? {
        Some(record) if record.ends(redrives) => found(View::of_record(&driver.id, &record)),
        _ => found(view),
    }
}

/// A dead letter may live again, before or after its decision does.
async fn of_record(driver: &Driver, record: &Record) -> Found {
    if record.is_tombstone() {
        return Found {
            owner: None,
            tenant: record.tenant.clone(),
            what: What::Erased,
        };
    }
    let mut view = View::of_record(&driver.id, record);
    if record.dead_lettered
        && let Ok(Some(job)) = job(driver).await
        && lives_after(&job, record)
    {
        view = View::new(&driver.id, VideoState::Queued, record.size)
            .times(&record.times)
            .of_job(&job);
    }
    Found {
        owner: record.owner.clone(),
        tenant: record.tenant.clone(),
        what: What::Video(Box::new(view)),
    }
}

/// Whether a job is of a later life than the record of a dead letter.
fn lives_after(job: &VideoJob, record: &Record) -> bool {
    i64::from(job.redrives()) > record.redrives
}

async fn job(driver: &Driver) -> Result<Option<VideoJob>, ()> {
    let name = job_name(driver.id.as_str());
    driver.app.jobs.get(&name).await.map_err(|error| {
        tracing::warn!(upload = %driver.id, %error, "status without Kubernetes");
    })
}

async fn read_state(driver: &Driver) -> Result<Option<State>, Problem> {
    let Some(object) = driver
        .app
        .store
        .get_document(&keys::state(&driver.id))
        .await?
    else {
        return Ok(None);
    };
    driver.touch(object.last_modified);
    State::parse(&object.bytes)
        .map(Some)
        .map_err(|error| Problem::try_again(&error.to_string()))
}

/// A document of the store.
pub(in crate::http) async fn read<T: Document>(
    driver: &Driver,
    key: &str,
) -> Result<Option<T>, Problem> {
    let Some(object) = driver.app.store.get_document(key).await? else {
        return Ok(None);
    };
    stored::decode(&object.bytes)
        .map(Some)
        .map_err(|error| Problem::try_again(&error.to_string()))
}
