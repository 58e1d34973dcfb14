//! Upload ids and days: the two values every key follows from.
//! Pure: no clock, no randomness but in `UploadId::mint`.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use ulid::Ulid;

/// Largest millisecond a ULID can carry (48 bits).
pub const MAX_ULID_MS: u64 = (1 << 48) - 1;

/// Why a string is not a cell, an upload id or a day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Cells are short and appear in Kubernetes names.
    #[error("cell {0:?} must be 1 to 4 characters of a-z and 0-9")]
    Cell(String),
    /// Not `<cell>-<ulid>` in lower case, or a time that no calendar date has.
    #[error("upload id {0:?} must be <cell>-<26 characters of a lower-case ULID>")]
    Upload(String),
    /// Not `yyyy-mm-dd`.
    #[error("day {0:?} must be yyyy-mm-dd")]
    Day(String),
}

/// The name of one control plane, part of every id it mints.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell(String);

impl Cell {
    /// The cell's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Cell {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        if (1..=4).contains(&text.len()) && text.bytes().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError::Cell(text.to_owned()))
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Default for Cell {
    fn default() -> Self {
        Self("a".to_owned())
    }
}

/// `<cell>-<ulid>`, lower case: chosen once, at create; every key of an upload follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UploadId {
    text: String,
    cell_len: usize,
    ms: u64,
}

impl UploadId {
    /// A new id of this cell from the local clock and 80 random bits.
    #[must_use]
    pub fn mint(cell: &Cell) -> Self {
        let ms = jiff::Timestamp::now().as_millisecond();
        Self::from_parts(cell, u64::try_from(ms).unwrap_or(0), rand::random())
    }

    /// The id of this cell, millisecond and randomness (the low 80 bits count).
    #[must_use]
    pub fn from_parts(cell: &Cell, unix_ms: u64, random: u128) -> Self {
        let ms = unix_ms.min(last_ms());
        let ulid = Ulid::from_parts(ms, random)
            .to_string()
            .to_ascii_lowercase();
        Self {
            text: format!("{cell}-{ulid}"),
            cell_len: cell.as_str().len(),
            ms,
        }
    }

    /// The whole id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The cell that minted the id and owns all its state.
    #[must_use]
    pub fn cell(&self) -> &str {
        &self.text[..self.cell_len]
    }

    /// When the id was minted, Unix milliseconds by the minter's clock.
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        self.ms
    }

    /// The UTC date of the id.
    #[must_use]
    pub fn day(&self) -> Day {
        Day::from_unix_ms(self.ms)
    }

    /// The two hex digits that spread keys: the first byte of SHA-256 of the id.
    #[must_use]
    pub fn hh(&self) -> String {
        hh(&self.text)
    }

    /// `2^48 - 1 - ms` as 12 hex digits: ascending order is newest first.
    #[must_use]
    pub fn reverse_time(&self) -> String {
        format!("{:012x}", MAX_ULID_MS - self.ms)
    }
}

impl FromStr for UploadId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::Upload(text.to_owned());
        let (cell, ulid) = text.split_once('-').ok_or_else(bad)?;
        let cell: Cell = cell.parse().map_err(|_| bad())?;
        let parsed = Ulid::from_string(&ulid.to_ascii_uppercase()).map_err(|_| bad())?;
        // Printing it again refuses upper case, the letters Crockford maps (i, l, o) and overflow.
        let id = Self::from_parts(&cell, parsed.timestamp_ms(), parsed.random());
        if id.text == text { Ok(id) } else { Err(bad()) }
    }
}

impl TryFrom<String> for UploadId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<UploadId> for String {
    fn from(id: UploadId) -> Self {
        id.text
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A UTC calendar date, printed `yyyy-mm-dd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(Date);

impl Day {
    /// The UTC date of a time; times no calendar has become its last day.
    #[must_use]
    pub fn from_unix_ms(ms: u64) -> Self {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(ms).map_or(Self(Date::MAX), Self::from_timestamp)
    }

    /// The UTC date of a timestamp.
    #[must_use]
    pub fn from_timestamp(time: jiff::Timestamp) -> Self {
        Self(time.to_zoned(TimeZone::UTC).date())
    }

    /// The date.
    #[must_use]
    pub fn date(&self) -> Date {
        self.0
    }

    /// So many days later, or earlier; none beyond the calendar.
    #[must_use]
    pub fn plus(&self, days: i64) -> Option<Self> {
        let days = jiff::Span::new().try_days(days).ok()?;
        self.0.checked_add(days).ok().map(Self)
    }
}

impl FromStr for Day {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = || IdError::Day(text.to_owned());
        let day = Self(text.parse().map_err(|_| bad())?);
        if day.to_string() == text {
            Ok(day)
        } else {
            Err(bad())
        }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// First byte of SHA-256 of `name`, as two hex digits.
#[must_use]
pub fn hh(name: &str) -> String {
    hex::encode(&Sha256::digest(name.as_bytes())[..1])
}

/// The last millisecond that still has a calendar date.
fn last_ms() -> u64 {
    u64::try_from(jiff::Timestamp::MAX.as_millisecond())
        .map_or(MAX_ULID_MS, |ms| ms.min(MAX_ULID_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_accepted_only_in_their_one_spelling() {
        let table = [
            ("an id as minted", "a-01arz3ndektsv4rrffq69g5fav", true),
            ("the longest cell", "eu12-01arz3ndektsv4rrffq69g5fav", true),
            ("upper case", "a-01ARZ3NDEKTSV4RRFFQ69G5FAV", false),
            ("no cell", "01arz3ndektsv4rrffq69g5fav", false),
            ("an empty cell", "-01arz3ndektsv4rrffq69g5fav", false),
            ("a cell of five", "abcde-01arz3ndektsv4rrffq69g5fav", false),
            (
                "a cell that climbs",
                "../x-01arz3ndektsv4rrffq69g5fav",
                false,
            ),
            (
                "a letter that Crockford maps to another",
                "a-01arz3ndektsv4rrffq69g5fao",
                false,
            ),
            (
                "a ULID that overflows",
                "a-81arz3ndektsv4rrffq69g5fav",
                false,
            ),
            (
                "a time after the last calendar date",
                "a-7zzzzzzzzzzzzzzzzzzzzzzzzz",
                false,
            ),
            ("one character short", "a-01arz3ndektsv4rrffq69g5fa", false),
            ("a slash at the end", "a-01arz3ndektsv4rrffq69g5fav/", false),
            ("a percent escape", "a-01arz3ndektsv4rrffq69g5f%2f", false),
            ("a NUL", "a-01arz3ndektsv4rrffq69g5fa\0", false),
            ("nothing", "", false),
        ];
        for (name, text, want) in table {
            assert_eq!(text.parse::<UploadId>().is_ok(), want, "{name}");
        }
    }

    #[test]
    fn day_hash_and_reverse_time_follow_from_the_id() {
        let id: UploadId = "a-01arz3ndektsv4rrffq69g5fav".parse().unwrap();
        assert_eq!(id.unix_ms(), 1_469_922_850_259);
        assert_eq!(id.day().to_string(), "2016-07-30");
        assert_eq!(id.cell(), "a");
        // Checked with sha256sum and printf.
        assert_eq!(id.hh(), "a5");
        assert_eq!(id.reverse_time(), "fea9c1c54a2c");
    }

    #[test]
    fn minted_ids_are_todays_and_differ() {
        let cell: Cell = "b7".parse().unwrap();
        let (one, two) = (UploadId::mint(&cell), UploadId::mint(&cell));
        assert_ne!(one, two);
        assert_eq!(one.cell(), "b7");
        let now = jiff::Timestamp::now().as_millisecond();
        assert!(u64::try_from(now).unwrap().abs_diff(one.unix_ms()) < 60_000);
    }

    #[test]
    fn days_have_one_spelling() {
        for (text, want) in [
            ("2026-02-28", true),
            ("2026-02-29", false),
            ("2026-2-28", false),
            ("20260228", false),
        ] {
            assert_eq!(text.parse::<Day>().is_ok(), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_id_survives_text_and_json(ms in 0..=MAX_ULID_MS, random: u128) {
            let id = UploadId::from_parts(&Cell::default(), ms, random);
            prop_assert_eq!(&id.as_str().parse::<UploadId>().unwrap(), &id);
            let json = serde_json::to_string(&id).unwrap();
            prop_assert_eq!(&serde_json::from_str::<UploadId>(&json).unwrap(), &id);
        }

        #[test]
        fn later_ids_list_earlier(a in 0..253_402_000_000_000u64, b in 0..253_402_000_000_000u64) {
            let cell = Cell::default();
            let (ia, ib) = (UploadId::from_parts(&cell, a, 0), UploadId::from_parts(&cell, b, 0));
            prop_assert_eq!(a.cmp(&b), ib.reverse_time().cmp(&ia.reverse_time()));
        }

        #[test]
        fn no_other_text_is_an_id(text in "\\PC{0,40}") {
            if let Ok(id) = text.parse::<UploadId>() {
                prop_assert!(id.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
            }
        }
    }
}
