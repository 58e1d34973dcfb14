//! Upload profiles: what a client may ask for by name. Limits and pool come from the profile,
//! never from the request.

use std::collections::BTreeMap;
use std::path::Path;

use kinora_upload_engine::grid;
use serde::Deserialize;

/// Name of the profile used when a request names none.
pub const DEFAULT: &str = "default";
/// TTLs of upload jobs are never below this, or a late finisher could run a video twice.
const TTL_FLOOR_SECONDS: i64 = 900;
/// The most that a VideoJob may have: one with more is refused, and its video would stay stored.
const TTL_CEILING_SECONDS: i64 = 315_360_000;

/// What files a profile takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accept {
    /// Only videos: by their first bytes, and by their container when they are whole.
    #[default]
    Video,
    /// Anything; for protocol suites.
    Any,
}

/// One profile.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Profile {
    /// The VideoWorkerPool; absent: the namespace's default pool.
    #[serde(default)]
    pub pool: Option<String>,
    /// Most bytes of a video.
    #[serde(default = "max_bytes")]
    pub max_bytes: u64,
    /// Most seconds a video may play; half a second more is let pass, as phones stop late.
    #[serde(default = "max_seconds")]
    pub max_seconds: u64,
    /// Seconds after which a finished job is deleted.
    #[serde(default = "ttl")]
    pub ttl_seconds_after_finished: i64,
    /// What files it takes.
    #[serde(default)]
    pub accept: Accept,
}

fn max_bytes() -> u64 {
    300_000_000
}

fn max_seconds() -> u64 {
    15
}

fn ttl() -> i64 {
    TTL_FLOOR_SECONDS
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            pool: None,
            max_bytes: max_bytes(),
            max_seconds: max_seconds(),
            ttl_seconds_after_finished: ttl(),
            accept: Accept::Video,
        }
    }
}

/// All profiles by name; `default` is always among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profiles {
    default: Profile,
    others: BTreeMap<String, Profile>,
}

/// Profiles that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfilesError {
    /// The file cannot be read.
    #[error("read --profiles-file {path}: {cause}")]
    Read {
        /// Path of the file.
        path: String,
        /// What the system said.
        #[source]
        cause: std::io::Error,
    },
    /// Not the YAML of profiles.
    #[error(
        "--profiles-file: {0}; it maps a name to pool, maxBytes, maxSeconds, ttlSecondsAfterFinished and accept"
    )]
    Malformed(#[from] serde_yaml::Error),
    /// A value that is not allowed.
    #[error("--profiles-file: profile {name}: {problem}")]
    Refused {
        /// Name of the profile.
        name: String,
        /// What is wrong and what to do.
        problem: &'static str,
    },
    /// Its parts do not fit into the memory of bodies.
    #[error(
        "--profiles-file: profile {name}: maxBytes {max_bytes} makes parts of {part} bytes, more than --body-memory-bytes \
         {memory}: lower maxBytes, or raise --body-memory-bytes to {part} or more and the memory limit with it"
    )]
    Parts {
        /// Name of the profile.
        name: String,
        /// Its limit.
        max_bytes: u64,
        /// Bytes of a part of its largest videos.
        part: u64,
        /// Bytes of bodies that may be in memory.
        memory: u64,
    },
}

impl Profiles {
    /// Reads profiles from a file.
    ///
    /// # Errors
    /// When the file is missing or wrong, or a profile needs `insecure`.
    pub fn read(path: &Path, insecure: bool) -> Result<Self, ProfilesError> {
        let text = std::fs::read_to_string(path).map_err(|cause| ProfilesError::Read {
            path: path.display().to_string(),
            cause,
        })?;
        Self::parse(&text, insecure)
    }

    /// Reads profiles from YAML.
    ///
    /// # Errors
    /// As `read`.
    pub fn parse(text: &str, insecure: bool) -> Result<Self, ProfilesError> {
        let mut others: BTreeMap<String, Profile> =
            serde_yaml::from_str::<Option<_>>(text)?.unwrap_or_default();
        let default = others.remove(DEFAULT).unwrap_or_default();
        let all = Self { default, others };
        for (name, profile) in all.iter() {
            let refused = |problem| {
                Err(ProfilesError::Refused {
                    name: name.to_owned(),
                    problem,
                })
            };
            if name.is_empty() || name.len() > 63 {
                return refused("its name must have 1 to 63 characters");
            }
            if profile.max_bytes == 0 {
                return refused("maxBytes must be above 0");
            }
            if profile.max_seconds == 0 {
                return refused("maxSeconds must be above 0");
            }
            if !insecure && profile.ttl_seconds_after_finished < TTL_FLOOR_SECONDS {
                return refused("ttlSecondsAfterFinished below 900 needs --insecure");
            }
            if profile.ttl_seconds_after_finished > TTL_CEILING_SECONDS {
                return refused("ttlSecondsAfterFinished must be 315360000 (ten years) or less");
            }
            if !insecure && profile.accept == Accept::Any {
                return refused("accept: any needs --insecure");
            }
        }
        Ok(all)
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &Profile)> {
        let others = self.others.iter();
        std::iter::once((DEFAULT, &self.default))
            .chain(others.map(|(name, profile)| (name.as_str(), profile)))
    }

    /// Requires that a part of every video fits into the memory of bodies, in bytes.
    ///
    /// # Errors
    /// When one does not.
    pub fn fit(&self, memory: u64) -> Result<(), ProfilesError> {
        for (name, profile) in self.iter() {
            let part = grid::part_size(None, profile.max_bytes);
            if part > memory {
                return Err(ProfilesError::Parts {
                    name: name.to_owned(),
                    max_bytes: profile.max_bytes,
                    part,
                    memory,
                });
            }
        }
        Ok(())
    }

    /// The profile of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Profile> {
        match name {
            DEFAULT => Some(&self.default),
            _ => self.others.get(name),
        }
    }

    /// The same; the default in place of one that is not known here.
    #[must_use]
    pub fn or_default(&self, name: &str) -> &Profile {
        self.get(name).unwrap_or(&self.default)
    }

    /// The largest video any profile takes, in bytes.
    #[must_use]
    pub fn max_bytes(&self) -> u64 {
        let all = self.iter().map(|(_, profile)| profile.max_bytes);
        all.max().unwrap_or_default()
    }

    /// The names, for messages.
    #[must_use]
    pub fn names(&self) -> String {
        let all = self.iter().map(|(name, _)| name);
        all.collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read_with_defaults_and_refused_with_a_reason() {
        let cases = [
            ("nothing: the default profile", "", false, true),
            ("a pool", "fast: {pool: fast}", false, true),
            ("a typo", "fast: {pol: fast}", false, false),
            ("any file", "raw: {accept: any}", false, false),
            ("any file, insecure", "raw: {accept: any}", true, true),
            (
                "a short TTL",
                "raw: {ttlSecondsAfterFinished: 5}",
                false,
                false,
            ),
            (
                "ten years",
                "raw: {ttlSecondsAfterFinished: 315360000}",
                false,
                true,
            ),
            (
                "a TTL that no VideoJob may have",
                "raw: {ttlSecondsAfterFinished: 315360001}",
                true,
                false,
            ),
            ("no bytes", "raw: {maxBytes: 0}", true, false),
            ("no seconds", "raw: {maxSeconds: 0}", true, false),
            ("three minutes", "long: {maxSeconds: 180}", false, true),
        ];
        for (name, yaml, insecure, want) in cases {
            let got = Profiles::parse(yaml, insecure);
            assert_eq!(got.is_ok(), want, "{name}: {got:?}");
        }
        let all = Profiles::parse("fast: {pool: fast, maxBytes: 5}", false).unwrap();
        assert_eq!(all.get(DEFAULT), Some(&Profile::default()));
        assert_eq!(all.names(), "default, fast");
    }
    #[test]
    fn a_profile_whose_parts_do_not_fit_into_memory_is_refused_by_name_with_both_ways_out() {
        const MIB: u64 = 1 << 20;
        let profiles = |max_bytes: u64| {
            Profiles::parse(&format!("film: {{maxBytes: {max_bytes}}}"), false).unwrap()
        };
        let cases = [
            ("the default", Profiles::default(), true),
            ("as large as fits", profiles(144 * MIB * 1000), true),
            ("a byte more", profiles(144 * MIB * 1000 + 1), false),
        ];
        for (name, all, want) in cases {
            assert_eq!(all.fit(144 * MIB).is_ok(), want, "{name}");
        }
        let refused = profiles(200_000 * MIB).fit(144 * MIB).unwrap_err();
        let said = refused.to_string();
        for word in [
            "profile film",
            "lower maxBytes",
            "--body-memory-bytes to 209715200",
        ] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
}
