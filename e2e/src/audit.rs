//! The API server's audit log: who wrote what, exactly.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result};
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
    let path = cluster.audit_log();
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
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
    })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn counts_completed_writes_only() {
        let line = r#"{"stage":"ResponseComplete","verb":"patch","user":{"username":"system:serviceaccount:kinora-system:kinora-operator"},"objectRef":{"resource":"videojobs","subresource":"status","name":"vj-a"},"responseStatus":{"code":200}}"#;
        let write = parse(line).unwrap();
        assert_eq!(
            (write.to_string().as_str(), write.by_kinora),
            ("patch videojobs/status", true)
        );
        assert!(parse(&line.replace("200", "409")).is_none());
        assert!(parse(&line.replace("patch", "get")).is_none());
    }
}
