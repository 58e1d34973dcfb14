//! Matroska and WebM (RFC 9559): the segment's children, which must add up to the file. A duration
//! that is not declared, as in every recording of a browser, is found in the last blocks.

mod blocks;
mod element;

use super::sparse::{Sparse, Stop, Walked};
use super::verdict::{Media, Reason};
use blocks::Times;
use element::{Element, each, element, float, malformed, uint};

const SEGMENT: u32 = 0x1853_8067;
const SEEK_HEAD: u32 = 0x114d_9b74;
const SEEK: u32 = 0x4dbb;
const SEEK_ID: u32 = 0x53ab;
const SEEK_POSITION: u32 = 0x53ac;
const INFO: u32 = 0x1549_a966;
const TIMESTAMP_SCALE: u32 = 0x002a_d7b1;
const DURATION: u32 = 0x4489;
const TRACKS: u32 = 0x1654_ae6b;
const TRACK_ENTRY: u32 = 0xae;
const TRACK_NUMBER: u32 = 0xd7;
const TRACK_TYPE: u32 = 0x83;
const DEFAULT_DURATION: u32 = 0x0023_e383;
const CLUSTER: u32 = 0x1f43_b675;
const CUES: u32 = 0x1c53_bb6b;
const TAGS: u32 = 0x1254_c367;
const CHAPTERS: u32 = 0x1043_a770;
const ATTACHMENTS: u32 = 0x1941_a469;
const VOID: u32 = 0xec;
/// Children of a segment: one of them ends a cluster of unknown size.
const LEVEL_1: [u32; 8] = [
    SEEK_HEAD,
    INFO,
    TRACKS,
    CLUSTER,
    CUES,
    TAGS,
    CHAPTERS,
    ATTACHMENTS,
];
const MAX_TRACKS: usize = 256;

/// One track.
#[derive(Clone, Copy, Debug, Default)]
struct Track {
    number: u64,
    kind: u64,
    /// Nanoseconds of a frame, or 0.
    frame_nanos: u64,
}

/// What the segment has shown so far.
#[derive(Debug)]
struct Seen {
    /// Nanoseconds of a unit of time.
    scale: u64,
    /// Declared length in units.
    declared: Option<f64>,
    tracks: Option<Vec<Track>>,
    /// Where the tracks are, when they come later.
    tracks_at: Option<u64>,
    clusters: u64,
    times: Times,
}

pub(super) fn walk(file: &Sparse) -> Walked<Media> {
    let length = file.length();
    let head = element(file, 0, length)?;
    let segment = element(file, head.known_end()?, length)?;
    if segment.id != SEGMENT {
        return Err(Reason::NotAVideo
            .because("it has no segment after its EBML header")
            .into());
    }
    let mut seen = Seen {
        scale: 1_000_000,
        declared: None,
        tracks: None,
        tracks_at: None,
        clusters: 0,
        times: Times::default(),
    };
    let end = segment.end.unwrap_or(length);
    let complete = match children(file, segment, segment.body, end, &mut seen) {
        Ok(()) => {
            after(file, end)?;
            true
        }
        Err(need @ Stop::Need { .. }) => {
            beyond_the_head(file, segment, end, &mut seen, need)?;
            false
        }
        Err(stop) => return Err(stop),
    };
    judge(&seen, complete)
}

/// The middle of the file is not read: the rest of what must be known comes from its end.
fn beyond_the_head(
    file: &Sparse,
    segment: Element,
    end: u64,
    seen: &mut Seen,
    need: Stop,
) -> Walked<()> {
    if seen.tracks.is_none() || (seen.clusters == 0 && file.left() > 0) {
        return Err(need);
    }
    seen.times.lost = true;
    let found = match file.tail() {
        Some((start, bytes)) => search(file, segment, end, (start, bytes), seen)?,
        None => return file.longer_tail().map_or(Ok(()), Err),
    };
    // A declared length and a size that adds up are worth one look at the end, not more.
    if found || (seen.length().is_some() && segment.end.is_some()) {
        return Ok(());
    }
    file.longer_tail().map_or(Ok(()), Err)
}

/// Looks for a cluster from which the children go exactly to the end.
fn search(
    file: &Sparse,
    segment: Element,
    end: u64,
    (start, bytes): (u64, &[u8]),
    seen: &mut Seen,
) -> Walked<bool> {
    let mut cut = None;
    for (at, window) in bytes.windows(4).enumerate() {
        if window != CLUSTER.to_be_bytes() {
            continue;
        }
        let before = seen.times;
        match children(file, segment, start + at as u64, end, seen) {
            Ok(()) => {
                seen.times.lost = false;
                return Ok(true);
            }
            Err(Stop::Reject(why)) if why.reason == Reason::Truncated => cut = Some(why),
            Err(Stop::Reject(_)) => file.visit()?,
            Err(need @ Stop::Need { .. }) => return Err(need),
        }
        seen.times = before;
    }
    cut.map_or(Ok(false), |why| Err(why.into()))
}

/// Takes the segment's children from `at` to `end` into account.
fn children(file: &Sparse, segment: Element, mut at: u64, end: u64, seen: &mut Seen) -> Walked<()> {
    while at < end {
        let found = element(file, at, end)?;
        at = match found.id {
            CLUSTER => {
                seen.clusters += 1;
                if let (None, Some(at)) = (&seen.tracks, seen.tracks_at) {
                    take(file, segment, element(file, at, end)?, seen)?;
                }
                let tracks = seen.tracks.as_deref().unwrap_or_default();
                blocks::cluster(file, found, end, seen.scale, tracks, &mut seen.times)?
            }
            _ => {
                take(file, segment, found, seen)?;
                found.known_end()?
            }
        };
    }
    Ok(())
}

fn take(file: &Sparse, segment: Element, found: Element, seen: &mut Seen) -> Walked<()> {
    match found.id {
        SEEK_HEAD => each(file, found.body, found.known_end()?, |seek| {
            seek_entry(file, segment, seek, seen)
        }),
        INFO => each(file, found.body, found.known_end()?, |field| {
            match field.id {
                TIMESTAMP_SCALE => seen.scale = uint(file, field)?,
                DURATION => seen.declared = Some(float(file, field)?),
                _ => {}
            }
            match seen.scale {
                0 => malformed("its clock stands still"),
                _ => Ok(()),
            }
        }),
        TRACKS => {
            let mut tracks = Vec::new();
            each(file, found.body, found.known_end()?, |entry| {
                if entry.id == TRACK_ENTRY {
                    tracks.push(track(file, entry)?);
                }
                match tracks.len() {
                    0..=MAX_TRACKS => Ok(()),
                    _ => malformed("it has too many tracks"),
                }
            })?;
            seen.tracks.get_or_insert(tracks);
            Ok(())
        }
        _ => Ok(()),
    }
}

fn seek_entry(file: &Sparse, segment: Element, seek: Element, seen: &mut Seen) -> Walked<()> {
    if seek.id != SEEK {
        return Ok(());
    }
    let (mut id, mut position) = (0, None);
    each(file, seek.body, seek.known_end()?, |field| {
        match field.id {
            SEEK_ID => id = uint(file, field)?,
            SEEK_POSITION => position = Some(uint(file, field)?),
            _ => {}
        }
        Ok(())
    })?;
    if id == u64::from(TRACKS) {
        seen.tracks_at = position.and_then(|position| segment.body.checked_add(position));
    }
    Ok(())
}

fn track(file: &Sparse, entry: Element) -> Walked<Track> {
    let mut track = Track::default();
    each(file, entry.body, entry.known_end()?, |field| {
        match field.id {
            TRACK_NUMBER => track.number = uint(file, field)?,
            TRACK_TYPE => track.kind = uint(file, field)?,
            DEFAULT_DURATION => track.frame_nanos = uint(file, field)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(track)
}

/// After the segment nothing may come but filling.
fn after(file: &Sparse, end: u64) -> Walked<()> {
    if end == file.length() {
        return Ok(());
    }
    match element(file, end, file.length())? {
        Element { id: VOID, .. } => Ok(()),
        Element { at, .. } => malformed(format!("something else follows the segment at byte {at}")),
    }
}

impl Seen {
    /// The declared length in nanoseconds, if it is one.
    fn length(&self) -> Option<u64> {
        let nanos = self.declared? * self.scale as f64;
        // A cast saturates; what is beyond is too long anyway.
        (nanos.is_finite() && nanos > 0.0).then_some(nanos as u64)
    }
}

fn judge(seen: &Seen, complete: bool) -> Walked<Media> {
    let tracks = seen.tracks.as_deref().unwrap_or_default();
    let video_tracks = tracks.iter().filter(|track| track.kind == 1).count();
    if video_tracks == 0 || (complete && seen.times.pictures == 0) {
        return Err(Reason::NoVideoTrack
            .because("it has no video track with pictures")
            .into());
    }
    let measured = (!seen.times.lost).then(|| seen.times.nanos());
    let Some(nanos) = seen.length().max(measured) else {
        return Err(Reason::DurationUnknown
            .because("its last frames were not found")
            .into());
    };
    Ok(Media {
        duration_ms: nanos / 1_000_000,
        video_tracks,
        tracks: tracks.len(),
    })
}
