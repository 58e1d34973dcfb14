//! Reading ListParts: an overwritten part may be listed twice, and a list may have holes. Pure.

use std::collections::BTreeMap;

use crate::types::Part;

/// One entry for each part number: the one whose ETag was given when it was uploaded, else the newest
/// (the later in the list among equal times). Ascending by number.
#[must_use]
pub fn pick_parts(listed: &[Part], given: &BTreeMap<i32, String>) -> Vec<Part> {
    let mut picked: BTreeMap<i32, &Part> = BTreeMap::new();
    for part in listed {
        let known = given.get(&part.number);
        let better = picked.get(&part.number).is_none_or(|held| {
            let ours = |p: &Part| known.is_some_and(|etag| *etag == p.etag);
            (ours(part), part.last_modified) >= (ours(held), held.last_modified)
        });
        if better {
            picked.insert(part.number, part);
        }
    }
    picked.into_values().cloned().collect()
}

/// How many parts from number 1 on are there without a hole, each of exactly `part_size` bytes; the last of all may
/// have `last_size` if it is part `last_number` (from 1). `picked` ascends by number, one entry each.
#[must_use]
pub fn contiguous(picked: &[Part], part_size: u64, last: Option<(i32, u64)>) -> usize {
    let whole = |part: &Part| match last {
        Some((number, size)) if number == part.number => part.size == size,
        _ => part.size == part_size,
    };
    picked
        .iter()
        .zip(1..)
        .take_while(|(part, number)| part.number == *number && whole(part))
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(number: i32, size: u64, etag: &str, second: i64) -> Part {
        let last_modified = jiff::Timestamp::from_second(second).ok();
        Part {
            number,
            size,
            etag: etag.into(),
            last_modified,
            crc64nvme: None,
        }
    }

    #[test]
    fn a_part_listed_twice_counts_once() {
        let given = BTreeMap::from([(1, "ours".to_owned())]);
        let none = BTreeMap::new();
        let old_ours = [part(1, 8, "ours", 1), part(1, 5, "zombie", 2)];
        let table = [
            (
                "the given ETag wins over a newer one",
                &old_ours[..],
                &given,
                "ours",
            ),
            (
                "without one the newest wins",
                &old_ours[..],
                &none,
                "zombie",
            ),
            (
                "whatever the order",
                &[part(1, 5, "new", 2), part(1, 8, "old", 1)][..],
                &none,
                "new",
            ),
            (
                "equal times: the later entry",
                &[part(1, 5, "first", 1), part(1, 8, "second", 1)][..],
                &none,
                "second",
            ),
            (
                "a given ETag that is not listed falls back to the newest",
                &[part(1, 5, "x", 1)][..],
                &given,
                "x",
            ),
        ];
        for (name, listed, given, want) in table {
            let picked = pick_parts(listed, given);
            assert_eq!((picked.len(), picked[0].etag.as_str()), (1, want), "{name}");
        }
    }

    #[test]
    fn only_an_unbroken_run_of_full_parts_counts() {
        let full = |number| part(number, 8, "e", 1);
        let table = [
            ("none", vec![], None, 0),
            ("a run", vec![full(1), full(2)], None, 2),
            ("a hole ends it", vec![full(1), full(3)], None, 1),
            ("the first is missing", vec![full(2)], None, 0),
            (
                "a short one in the middle ends it",
                vec![full(1), part(2, 5, "e", 1), full(3)],
                None,
                1,
            ),
            (
                "the last may be short when the length is known",
                vec![full(1), part(2, 5, "e", 1)],
                Some((2, 5)),
                2,
            ),
            (
                "but only of its right size",
                vec![full(1), part(2, 4, "e", 1)],
                Some((2, 5)),
                1,
            ),
        ];
        for (name, picked, last, want) in table {
            assert_eq!(contiguous(&picked, 8, last), want, "{name}");
        }
    }
}
