//! One bucket: what is there under its keys, and what lies below where it keeps versions.

use std::collections::{BTreeMap, HashMap};

use crate::state::{About, Object, Part, Refusal};
use crate::versions::Versions;

#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) key: String,
    pub(crate) about: About,
    /// In order of arrival.
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug, Default)]
pub(crate) struct Bucket {
    pub(crate) objects: BTreeMap<String, Object>,
    /// Where the bucket keeps them.
    pub(crate) versions: Option<Versions>,
    pub(crate) uploads: BTreeMap<String, Upload>,
    pub(crate) completed: HashMap<String, String>,
}

impl Bucket {
    pub(crate) fn store(&mut self, key: &str, object: Object) {
        if let Some(versions) = &mut self.versions {
            versions.add(key, Some(&object));
        }
        self.objects.insert(key.to_owned(), object);
    }

    /// Removes the object; the id of the marker that hides its versions.
    pub(crate) fn remove(&mut self, key: &str) -> Option<String> {
        self.objects.remove(key);
        let versions = self.versions.as_mut()?;
        Some(versions.add(key, None))
    }

    /// Removes a version for good.
    pub(crate) fn remove_version(&mut self, key: &str, id: &str) -> Result<(), Refusal> {
        let versions = self.versions.as_mut().ok_or(Refusal::NotImplemented)?;
        match versions.remove(key, id)? {
            Some(object) => self.objects.insert(key.to_owned(), object),
            None => self.objects.remove(key),
        };
        Ok(())
    }
}
