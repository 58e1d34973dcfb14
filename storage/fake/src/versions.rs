//! Versions of objects, where a bucket keeps them: what is overwritten or deleted lives on below, and a lock holds it.

use std::collections::BTreeMap;

use crate::state::{Object, Refusal};

#[derive(Clone, Debug)]
pub(crate) struct Version {
    number: u64,
    /// None is a delete marker.
    pub(crate) object: Option<Object>,
    locked: bool,
}

impl Version {
    pub(crate) fn id(&self) -> String {
        let kind = if self.object.is_some() {
            "version"
        } else {
            "marker"
        };
        format!("{kind}-{:06}", self.number)
    }
}

/// A version, its key, and whether it is the current one.
pub(crate) type Listed = (String, Version, bool);

/// Of all keys, in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    of: BTreeMap<String, Vec<Version>>,
    minted: u64,
    /// Nobody may remove one, locked or not.
    pub(crate) forbidden: bool,
}

impl Versions {
    /// A new current version; its id.
    pub(crate) fn add(&mut self, key: &str, object: Option<&Object>) -> String {
        self.minted += 1;
        let version = Version {
            number: self.minted,
            object: object.cloned(),
            locked: false,
        };
        let id = version.id();
        self.of.entry(key.to_owned()).or_default().push(version);
        id
    }

    /// Removes one for good, or finds it gone; the object that is the current one then.
    pub(crate) fn remove(&mut self, key: &str, id: &str) -> Result<Option<Object>, Refusal> {
        if self.forbidden {
            return Err(Refusal::AccessDenied);
        }
        let Some(all) = self.of.get_mut(key) else {
            return Ok(None);
        };
        if all.iter().any(|one| one.id() == id && one.locked) {
            return Err(Refusal::AccessDenied);
        }
        all.retain(|one| one.id() != id);
        Ok(all.last().and_then(|one| one.object.clone()))
    }

    /// Locks what is there; markers are never locked.
    pub(crate) fn lock(&mut self, prefix: &str) {
        let of = self.of.iter_mut();
        for (_, all) in of.filter(|(key, _)| key.starts_with(prefix)) {
            for one in all.iter_mut().filter(|one| one.object.is_some()) {
                one.locked = true;
            }
        }
    }

    /// By key, the newest first, after that version of that key: it may be gone by now.
    pub(crate) fn list(&self, prefix: &str, after: Option<(&str, &str)>) -> Vec<Listed> {
        let newest_first = |(key, all): (&String, &Vec<Version>)| {
            let all = all.iter().rev().enumerate();
            let listed = |(at, one): (usize, &Version)| (key.clone(), one.clone(), at == 0);
            all.map(listed).collect::<Vec<_>>()
        };
        let of = self.of.iter().filter(|(key, _)| key.starts_with(prefix));
        let mut listed: Vec<Listed> = of.flat_map(newest_first).collect();
        if let Some((key, id)) = after {
            let number = id.rsplit('-').next().and_then(|digits| digits.parse().ok());
            let number = number.unwrap_or(0);
            listed.retain(|(other, one, _)| {
                other.as_str() > key || (other == key && one.number < number)
            });
        }
        listed
    }
}
