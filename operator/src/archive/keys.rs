//! Which keys a job's objects have, and which keys a job may name at all. Pure.
//!
//! The admission policy of the chart says the same; this is the fence where the policy is absent.

use std::collections::BTreeMap;

use kinora_crds::{VideoJob, names};
use kinora_storage::{Day, UploadId, keys};
use kube::ResourceExt;

use crate::core::seams::StoreWorkError;

/// Who may name which keys.
#[derive(Clone, Debug, Default)]
pub struct KeyPolicy {
    /// The namespace of upload jobs; only there `videos/` keys may be named.
    pub jobs_namespace: String,
    /// Prefixes that an administrator gave to namespaces.
    pub allowed: BTreeMap<String, Vec<String>>,
}

/// A job as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filed {
    /// Upload id, or the uid of a declared job.
    pub id: String,
    /// The upload, if the job is of one.
    pub upload: Option<UploadId>,
    /// Day of all its keys.
    pub day: Day,
    /// Uid of the job.
    pub uid: String,
}

/// The upload a job was made for: label, name and id must agree.
pub fn upload_of(job: &VideoJob) -> Option<UploadId> {
    let name = job.metadata.name.as_deref()?;
    let id = name
        .strip_prefix(names::JOB_NAME_PREFIX)
        .filter(|_| job.is_upload())?;
    id.parse().ok()
}

/// Where a job's objects are.
///
/// # Errors
/// `Unusable` for an object without uid or creationTimestamp, which no API server returns.
pub fn filed(job: &VideoJob) -> Result<Filed, StoreWorkError> {
    let unusable =
        |what: &str| StoreWorkError::Unusable(format!("job {} has no {what}", job.name_any()));
    let uid = job.metadata.uid.clone().ok_or_else(|| unusable("uid"))?;
    if let Some(upload) = upload_of(job) {
        return Ok(Filed {
            id: upload.as_str().to_owned(),
            day: upload.day(),
            upload: Some(upload),
            uid,
        });
    }
    let created = job
        .metadata
        .creation_timestamp
        .as_ref()
        .ok_or_else(|| unusable("creationTimestamp"))?;
    Ok(Filed {
        id: uid.clone(),
        upload: None,
        day: Day::from_timestamp(created.0),
        uid,
    })
}

impl Filed {
    /// Key of the final record.
    pub fn record(&self) -> String {
        keys::record(self.day, &self.id)
    }

    /// Key of the dead letter's marker.
    pub fn dead(&self) -> String {
        keys::dead(self.day, &self.id)
    }

    /// Key of the decision, for uploads.
    pub fn active(&self) -> Option<String> {
        self.upload.as_ref().map(keys::active)
    }

    /// Prefix of the outputs of one attempt.
    pub fn outputs(&self, attempt: u32, pod_uid: &str) -> String {
        keys::outputs_prefix(self.day, &self.uid, i64::from(attempt), pod_uid)
    }

    /// Prefix of the outputs of all attempts.
    pub fn all_outputs(&self) -> String {
        keys::outputs_of_job(self.day, &self.uid)
    }
}

impl KeyPolicy {
    /// The job's source key, if the job may name it.
    ///
    /// # Errors
    /// [`StoreWorkError::ForeignKey`].
    pub fn source<'a>(&self, job: &'a VideoJob) -> Result<&'a str, StoreWorkError> {
        let key = job.spec.source.key.as_str();
        let namespace = job.namespace().unwrap_or_default();
        if self.may(job, &namespace, key) {
            Ok(key)
        } else if upload_of(job).is_some_and(|upload| key == keys::video(&upload)) {
            Err(StoreWorkError::Unavailable(format!(
                "the job of an upload is in {namespace}, and jobs.namespace is {}: put that back until it has ended",
                self.jobs_namespace
            )))
        } else {
            Err(StoreWorkError::ForeignKey {
                key: key.to_owned(),
                namespace,
            })
        }
    }

    fn may(&self, job: &VideoJob, namespace: &str, key: &str) -> bool {
        if key.starts_with('/') || key.split('/').any(|part| part == ".." || part == ".") {
            return false;
        }
        if let Some(upload) = upload_of(job).filter(|_| namespace == self.jobs_namespace) {
            return key == keys::video(&upload);
        }
        let own = |prefix: &String| !prefix.is_empty() && key.starts_with(prefix.as_str());
        let imported = key
            .strip_prefix("imports/")
            .and_then(|rest| rest.split_once('/'));
        imported.is_some_and(|(owner, rest)| owner == namespace && !rest.is_empty())
            || self
                .allowed
                .get(namespace)
                .is_some_and(|prefixes| prefixes.iter().any(own))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "a-01arz3ndektsv4rrffq69g5fav";

    fn job(namespace: &str, name: &str, origin: Option<&str>, key: &str) -> VideoJob {
        let labels = origin.map(|origin| json!({"kinora.dev/origin": origin}));
        serde_json::from_value(json!({
            "apiVersion": "kinora.dev/v1alpha1", "kind": "VideoJob",
            "metadata": {
                "name": name, "namespace": namespace, "uid": "7d1f0e6c-3f7a-4b0c-9d53-0a1b2c3d4e5f",
                "creationTimestamp": "2026-03-04T23:59:59Z", "labels": labels,
            },
            "spec": {"source": {"key": key}},
        }))
        .unwrap()
    }

    /// covers: S16, T26
    #[test]
    fn a_job_names_only_keys_of_its_own() {
        let policy = KeyPolicy {
            jobs_namespace: "videos".to_owned(),
            allowed: [(
                "films".to_owned(),
                vec!["library/films/".to_owned(), String::new()],
            )]
            .into(),
        };
        let video = keys::video(&ID.parse().unwrap());
        let name = format!("vj-{ID}");
        let upload = Some("upload");
        let table = [
            (
                "an upload names its own video",
                job("videos", &name, upload, &video),
                true,
            ),
            (
                "not without the label",
                job("videos", &name, None, &video),
                false,
            ),
            (
                "not with another label",
                job("videos", &name, Some("git"), &video),
                false,
            ),
            (
                "not under another name",
                job("videos", "vj-x", upload, &video),
                false,
            ),
            (
                "not from another namespace",
                job("films", &name, upload, &video),
                false,
            ),
            (
                "an upload names nobody else's video",
                job("videos", &name, upload, "videos/2016-07-30/bd/other"),
                false,
            ),
            (
                "nor an import",
                job("videos", &name, upload, "imports/videos/x"),
                false,
            ),
            (
                "a declared job names its namespace's imports",
                job("films", "x", None, "imports/films/a/b.mp4"),
                true,
            ),
            (
                "not those of others",
                job("films", "x", None, "imports/other/a"),
                false,
            ),
            (
                "not of a namespace that begins alike",
                job("films", "x", None, "imports/films2/a"),
                false,
            ),
            (
                "not the folder itself",
                job("films", "x", None, "imports/films/"),
                false,
            ),
            (
                "a given prefix",
                job("films", "x", None, "library/films/a"),
                true,
            ),
            (
                "not in another namespace",
                job("other", "x", None, "library/films/a"),
                false,
            ),
            (
                "an empty prefix gives nothing",
                job("films", "x", None, "records/a"),
                false,
            ),
            (
                "no climbing",
                job("films", "x", None, "imports/films/../other/a"),
                false,
            ),
            (
                "no absolute key",
                job("films", "x", None, "/imports/films/a"),
                false,
            ),
        ];
        for (name, job, want) in table {
            assert_eq!(policy.source(&job).is_ok(), want, "{name}");
        }
    }

    #[test]
    fn uploads_are_filed_under_their_id_and_declared_jobs_under_their_uid() {
        let upload = filed(&job("videos", &format!("vj-{ID}"), Some("upload"), "k")).unwrap();
        let id: UploadId = ID.parse().unwrap();
        assert_eq!(upload.record(), keys::record_for_upload(&id));
        assert_eq!(upload.active(), Some(keys::active(&id)));
        assert!(
            upload
                .outputs(2, "0a1b2c3d-4e5f")
                .starts_with("outputs/2016-07-30/")
        );
        assert!(upload.outputs(2, "0a1b2c3d-4e5f").ends_with("/2-0a1b2c3d/"));
        let declared = filed(&job("films", "x", None, "k")).unwrap();
        let uid = "7d1f0e6c-3f7a-4b0c-9d53-0a1b2c3d4e5f";
        assert_eq!(
            declared.record(),
            keys::record_for_declared(uid, "2026-03-04".parse().unwrap())
        );
        assert_eq!(declared.active(), None);
    }

    /// `jobs.namespace` was changed: they wait until it is put back, and are no dead letters.
    #[test]
    fn the_jobs_of_uploads_in_another_namespace_wait() {
        let upload = format!("vj-{ID}");
        let source = keys::video(&ID.parse().unwrap());
        let policy = KeyPolicy {
            jobs_namespace: "new".to_owned(),
            ..KeyPolicy::default()
        };
        let left = job("old", &upload, Some("upload"), &source);
        assert!(matches!(
            policy.source(&left),
            Err(StoreWorkError::Unavailable(_))
        ));
        let forged = job(
            "old",
            &upload,
            Some("upload"),
            "videos/2026-01-01/00/another",
        );
        assert!(matches!(
            policy.source(&forged),
            Err(StoreWorkError::ForeignKey { .. })
        ));
    }
}
