//! The API server's audit log from some point on: who wrote what.

use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// A place in the log.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    path: PathBuf,
    at: u64,
}

/// Successful writes of Kinora's ServiceAccounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Writes {
    /// To VideoJobs, by verb and subresource.
    pub(crate) jobs: BTreeMap<String, usize>,
    /// To everything else.
    pub(crate) others: usize,
    /// Of either kind, refused by the API server.
    pub(crate) failed: usize,
}

impl Mark {
    /// The end of the log.
    pub(crate) fn now(path: &Path) -> Result<Self> {
        let length = std::fs::metadata(path).map_or(0, |meta| meta.len());
        Ok(Self {
            path: path.to_owned(),
            at: length,
        })
    }

    /// What was written since.
    pub(crate) fn writes(&self) -> Result<Writes> {
        let name = self.path.display();
        let mut file = std::fs::File::open(&self.path).with_context(|| format!("open {name}"))?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut text = String::new();
        file.read_to_string(&mut text)
            .with_context(|| format!("read {name}"))?;
        let mut writes = Writes::default();
        for line in text.lines() {
            writes.add(line);
        }
        Ok(writes)
    }
}

impl Writes {
    fn add(&mut self, line: &str) {
        let Ok(event) = serde_json::from_str::<Value>(line) else {
            return;
        };
        let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str);
        let ours = text("/user/username").is_some_and(|user| user.contains(":kinora-"));
        if !ours || text("/stage") != Some("ResponseComplete") {
            return;
        }
        let code = event.pointer("/responseStatus/code");
        if code.and_then(Value::as_i64).is_none_or(|code| code >= 300) {
            self.failed += 1;
            return;
        }
        if text("/objectRef/resource") != Some("videojobs") {
            self.others += 1;
            return;
        }
        let verb = text("/verb").unwrap_or_default();
        let kind = match text("/objectRef/subresource") {
            Some(part) => format!("{verb} {part}"),
            None => verb.to_owned(),
        };
        *self.jobs.entry(kind).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_kinora_wrote_since_the_mark_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let line = |user: &str, resource: &str, sub: &str, code: u16| {
            format!(
                r#"{{"stage":"ResponseComplete","verb":"patch","user":{{"username":"{user}"}},"objectRef":{{"resource":"{resource}"{sub}}},"responseStatus":{{"code":{code}}}}}"#
            )
        };
        let kinora = "system:serviceaccount:kinora-system:kinora-operator";
        let status = r#","subresource":"status""#;
        std::fs::write(&path, line(kinora, "videojobs", "", 200) + "\n").unwrap();
        let mark = Mark::now(&path).unwrap();
        let later = [
            line(kinora, "videojobs", "", 200),
            line(kinora, "videojobs", "", 200),
            line(kinora, "videojobs", status, 200),
            line(kinora, "videojobs", status, 409),
            line(kinora, "leases", "", 200),
            line("admin", "videojobs", "", 200),
        ];
        let old = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, old + &later.join("\n")).unwrap();
        let want = Writes {
            jobs: BTreeMap::from([("patch".to_owned(), 2), ("patch status".to_owned(), 1)]),
            others: 1,
            failed: 1,
        };
        assert_eq!(mark.writes().unwrap(), want);
    }
}
