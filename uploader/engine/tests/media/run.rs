//! Runs a look and holds it to its bounds.

use kinora_upload_engine::media::{MAX_READS, Piece, READ, Reason, Step, Verdict, Walk};

/// What a file is to be found as.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Want {
    /// Accepted, and plays so many seconds.
    Plays(f64),
    /// Refused.
    Refused(Reason),
}

/// Looks with reads of `window` bytes.
pub(crate) fn look(file: &[u8], window: Option<u64>, max_seconds: u64) -> Verdict {
    let length = file.len() as u64;
    let mut walk = match window {
        None => Walk::new(length, true, max_seconds),
        Some(window) => Walk::with_window(length, window, max_seconds),
    };
    for reads in 0.. {
        match walk.step() {
            Step::Done(verdict) => return verdict,
            Step::Read { from, to } => {
                assert!(reads < MAX_READS, "a fifth read");
                assert!(window.is_some() || reads == 0, "a second read of all");
                assert!(from < to && to <= length, "[{from}, {to}) of {length}");
                assert!(to - from <= window.map_or(length, |window| window.max(4096)));
                let bytes = file[from as usize..to as usize].to_vec();
                walk.give(Piece::new(bytes)).unwrap();
            }
        }
    }
    unreachable!()
}

/// How a verdict differs from what is wanted; with a reason only when `strictly`.
fn differs(verdict: &Verdict, want: Want, strictly: bool) -> Option<String> {
    let right = match (verdict, want) {
        (Verdict::Accepted(media), Want::Plays(seconds)) => {
            (media.duration_ms as f64 / 1000.0 - seconds).abs() < 0.35
        }
        (Verdict::Rejected(why), Want::Refused(reason)) => why.reason == reason || !strictly,
        _ => false,
    };
    (!right).then(|| format!("want {want:?}, got {verdict:?}"))
}

/// Looks at one file in every way; what is wrong with the verdicts.
pub(crate) fn check(name: &str, file: &[u8], max_seconds: u64, want: Want) -> Vec<String> {
    let third = file.len() as u64 / 3 + 1;
    let ways = [
        ("whole", None, true),
        ("in ranges", Some(READ), true),
        ("in thirds", Some(third), false),
    ];
    ways.iter()
        .filter_map(|(way, window, strictly)| {
            let verdict = look(file, *window, max_seconds);
            let wrong = differs(&verdict, want, *strictly)?;
            Some(format!("{name} ({} bytes), {way}: {wrong}", file.len()))
        })
        .collect()
}
