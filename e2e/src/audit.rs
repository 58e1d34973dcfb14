//! The API server's audit log: who wrote what, exactly.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read as _, Seek as _, SeekFrom};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::Cluster;

/// One mutating request that succeeded.
#[derive(Clone, Debug)]
pub struct Write {
    /// `create`, `patch`, `update` or `delete`.
    pub verb: String,
    /// `videojobs` or `videojobs/status`.
    pub resource: String,
    /// Name of the object.
    pub name: String,
    /// Made by one of Kinora's own ServiceAccounts.
    pub by_kinora: bool,
    /// uid of the pod whose token was shown; empty for others.
    pub pod_uid: String,
    /// When it came.
    pub at: Timestamp,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)
    }
}

/// Every successful write of the audit log.
///
/// # Errors
/// The log cannot be read.
pub fn writes(cluster: &Cluster) -> Result<Vec<Write>> {
    writes_from(cluster, 0)
}

/// Every successful write after so many bytes of the log.
///
/// # Errors
/// The log cannot be read.
pub fn writes_from(cluster: &Cluster, bytes: u64) -> Result<Vec<Write>> {
    let path = cluster.audit_log();
    let read = || {
        let mut file = std::fs::File::open(&path)?;
        file.seek(SeekFrom::Start(bytes))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let text = read().with_context(|| format!("read {}", path.display()))?;
    Ok(text.lines().filter_map(parse).collect())
}

/// The writes of one VideoJob.
///
/// # Errors
/// The log cannot be read.
pub fn writes_of_job(cluster: &Cluster, name: &str) -> Result<Vec<Write>> {
    let all = writes(cluster)?;
    Ok(all
        .into_iter()
        .filter(|write| write.name == name && write.resource.starts_with("videojobs"))
        .collect())
}

/// Counts by `verb resource` over Kinora's own writes to VideoJobs.
///
/// # Errors
/// The log cannot be read.
pub fn by_kind(cluster: &Cluster) -> Result<BTreeMap<String, usize>> {
    let mut counts = BTreeMap::new();
    for write in writes(cluster)?
        .iter()
        .filter(|write| write.by_kinora && write.resource.starts_with("videojobs"))
    {
        *counts.entry(write.to_string()).or_insert(0) += 1;
    }
    Ok(counts)
}

fn parse(line: &str) -> Option<Write> {
    let event: Value = serde_json::from_str(line).ok()?;
    let verb = event["verb"].as_str()?;
    let done = event["stage"] == "ResponseComplete"
        && event["responseStatus"]["code"]
            .as_i64()
            .is_some_and(|code| code < 300);
    if !done || !matches!(verb, "create" | "patch" | "update" | "delete") {
        return None;
    }
    let object = &event["objectRef"];
    let mut resource = object["resource"].as_str()?.to_owned();
    if let Some(sub) = object["subresource"].as_str() {
        resource = format!("{resource}/{sub}");
    }
    Some(Write {
        verb: verb.to_owned(),
        resource,
        // A create names its object in the path only when the name is not in the body.
        name: object["name"].as_str().unwrap_or_default().to_owned(),
        by_kinora: event["user"]["username"]
            .as_str()
            .is_some_and(|user| user.contains(":kinora-")),
        pod_uid: event["user"]["extra"]["authentication.kubernetes.io/pod-uid"][0]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        at: event["requestReceivedTimestamp"]
            .as_str()
            .and_then(|at| at.parse().ok())
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn counts_completed_writes_only() {
        let line = r#"{"stage":"ResponseComplete","verb":"patch","requestReceivedTimestamp":"2026-01-01T00:00:00.5Z","user":{"username":"system:serviceaccount:kinora-system:kinora-operator","extra":{"authentication.kubernetes.io/pod-uid":["u-1"]}},"objectRef":{"resource":"videojobs","subresource":"status","name":"vj-a"},"responseStatus":{"code":200}}"#;
        let write = parse(line).unwrap();
        assert_eq!(
            (write.to_string().as_str(), write.by_kinora),
            ("patch videojobs/status", true)
        );
        assert_eq!(
            (write.pod_uid.as_str(), write.at.as_millisecond()),
            ("u-1", 1_767_225_600_500)
        );
        assert!(parse(&line.replace("200", "409")).is_none());
        assert!(parse(&line.replace("patch", "get")).is_none());
    }
}
