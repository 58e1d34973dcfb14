//! The movie header: its tracks, and how long each is presented.

use super::boxes::{Header, be, body, each, field, malformed, micros};
use super::tables;
use crate::media::sparse::{Sparse, Stop, Walked};
use crate::media::verdict::Reason;

/// Phones write eight at most.
const MAX_TRACKS: usize = 256;
/// A duration of all ones is an unknown one.
const UNKNOWN: [u64; 2] = [0xffff_ffff, u64::MAX];

/// What the movie header says.
#[derive(Debug, Default)]
pub(super) struct Movie {
    timescale: u64,
    duration: u64,
    pub(super) fragmented: bool,
    /// Microseconds of all fragments, as declared.
    declared: Option<u64>,
    /// Whether the last fragment was seen.
    pub(super) measured: bool,
    pub(super) tracks: Vec<Track>,
}

/// One track.
#[derive(Debug, Default)]
pub(super) struct Track {
    pub(super) id: u64,
    handler: [u8; 4],
    pub(super) timescale: u64,
    /// Units of its own clock that the movie header's tables or header give it.
    pub(super) media: u64,
    edits: Option<Vec<tables::Edit>>,
    /// Frames in tables and seen fragments, when known.
    pub(super) samples: Option<u64>,
    pub(super) default_duration: u64,
    /// First and last time of the fragments seen, in units of the track.
    pub(super) fragments: Option<(u64, u64)>,
}

impl Track {
    pub(super) fn is_video(&self) -> bool {
        &self.handler == b"vide"
    }

    /// Microseconds that the track is presented, fragments aside.
    fn presented(&self, movie_scale: u64) -> u64 {
        let media = micros(self.media, self.timescale);
        match &self.edits {
            None => media,
            Some(edits) => edits.iter().fold(0, |sum: u64, edit| {
                sum.saturating_add(edit.presented(movie_scale, media))
            }),
        }
    }

    fn fragment_micros(&self) -> u64 {
        self.fragments.map_or(0, |(first, last)| {
            micros(last.saturating_sub(first), self.timescale)
        })
    }
}

impl Movie {
    /// Microseconds that the longest track with pictures or sound plays.
    pub(super) fn duration(&self, indexed: Option<u64>) -> Walked<u64> {
        let played = self
            .tracks
            .iter()
            .filter(|track| track.is_video() || &track.handler == b"soun");
        let longest = played
            .map(|track| match track.fragments {
                Some(_) => track.fragment_micros(),
                None => track.presented(self.timescale),
            })
            .max()
            .unwrap_or(0);
        if self.fragmented && !self.measured {
            return match self.declared.max(indexed) {
                Some(declared) => Ok(declared.max(longest)),
                None if longest > 0 && self.tracks.iter().all(|t| t.fragments.is_none()) => {
                    Ok(longest)
                }
                None => Err(Reason::DurationUnknown
                    .because("its last fragment was not found")
                    .into()),
            };
        }
        match longest {
            0 if !UNKNOWN.contains(&self.duration) => Ok(micros(self.duration, self.timescale)),
            longest => Ok(longest),
        }
    }
}

/// Reads a `moov` box.
pub(super) fn read(file: &Sparse, moov: Header) -> Walked<Movie> {
    let mut movie = Movie {
        timescale: 1,
        ..Movie::default()
    };
    let mut extends = Vec::new();
    let read = each(file, moov.body, moov.end, |found| {
        match &found.kind {
            b"mvhd" => (movie.timescale, movie.duration) = clock(file, found, "movie header")?,
            b"trak" => {
                if movie.tracks.len() == MAX_TRACKS {
                    return malformed("it has too many tracks");
                }
                movie.tracks.push(track(file, found)?);
            }
            b"mvex" => {
                movie.fragmented = true;
                each(file, found.body, found.end, |found| match &found.kind {
                    b"trex" => {
                        let trex = body(file, found, 24)?;
                        let id = field(trex, 4, 4, "trex")?;
                        extends.push((id, field(trex, 12, 4, "trex")?));
                        Ok(())
                    }
                    b"mehd" => {
                        movie.duration = movie_length(body(file, found, 12)?)?;
                        movie.declared = Some(micros(movie.duration, movie.timescale));
                        Ok(())
                    }
                    _ => Ok(()),
                })?;
            }
            _ => {}
        }
        Ok(())
    });
    match read {
        // The tables of a long film do not fit; what was found before them is enough.
        Err(Stop::Need { .. }) if file.left() == 0 && movie.tracks.iter().any(Track::is_video) => {}
        other => other?,
    }
    for track in &mut movie.tracks {
        let own = extends.iter().find(|(id, _)| *id == track.id);
        track.default_duration = own.map_or(0, |(_, duration)| *duration);
    }
    Ok(movie)
}

fn movie_length(mehd: &[u8]) -> Walked<u64> {
    let wide = mehd.first() == Some(&1);
    field(mehd, 4, if wide { 8 } else { 4 }, "mehd")
}

/// Timescale and duration of `mvhd` or `mdhd`.
fn clock(file: &Sparse, found: Header, what: &str) -> Walked<(u64, u64)> {
    let bytes = body(file, found, 32)?;
    let (timescale, duration) = match bytes.first() {
        Some(1) => (field(bytes, 20, 4, what)?, field(bytes, 24, 8, what)?),
        _ => (field(bytes, 12, 4, what)?, field(bytes, 16, 4, what)?),
    };
    match timescale {
        0 => malformed(format!("the clock of its {what} stands still")),
        _ => Ok((timescale, duration)),
    }
}

fn track(file: &Sparse, trak: Header) -> Walked<Track> {
    let mut track = Track {
        timescale: 1,
        ..Track::default()
    };
    each(file, trak.body, trak.end, |found| {
        match &found.kind {
            b"tkhd" => {
                let tkhd = body(file, found, 32)?;
                let at = if tkhd.first() == Some(&1) { 20 } else { 12 };
                track.id = field(tkhd, at, 4, "tkhd")?;
            }
            b"edts" => each(file, found.body, found.end, |found| {
                if &found.kind == b"elst" {
                    track.edits = tables::edit_list(file, found)?;
                }
                Ok(())
            })?,
            b"mdia" => media(file, found, &mut track)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(track)
}

fn media(file: &Sparse, mdia: Header, track: &mut Track) -> Walked<()> {
    each(file, mdia.body, mdia.end, |found| {
        match &found.kind {
            b"mdhd" => {
                let (timescale, duration) = clock(file, found, "track header")?;
                track.timescale = timescale;
                if !UNKNOWN.contains(&duration) {
                    track.media = track.media.max(duration);
                }
            }
            b"hdlr" => {
                let hdlr = body(file, found, 12)?;
                track.handler = be(hdlr, 8, 4)
                    .and_then(|kind| u32::try_from(kind).ok())
                    .unwrap_or(0)
                    .to_be_bytes();
            }
            b"minf" => each(file, found.body, found.end, |found| match &found.kind {
                b"stbl" => sample_tables(file, found, track),
                _ => Ok(()),
            })?,
            _ => {}
        }
        Ok(())
    })
}

/// The tables say more than the headers, but in a long film they are too large to be read.
fn sample_tables(file: &Sparse, stbl: Header, track: &mut Track) -> Walked<()> {
    let read = each(file, stbl.body, stbl.end, |found| {
        match &found.kind {
            b"stsd" if field(body(file, found, 8)?, 4, 4, "stsd")? == 0 => {
                track.samples = Some(0);
            }
            b"stts" => {
                if let Some((samples, units)) = tables::times(file, found)? {
                    track.samples = Some(track.samples.map_or(samples, |have| have.min(samples)));
                    // Players go by the table, whatever the header says.
                    if units > 0 {
                        track.media = units;
                    }
                }
            }
            b"stco" => tables::chunks(file, found, 4)?,
            b"co64" => tables::chunks(file, found, 8)?,
            _ => {}
        }
        Ok(())
    });
    match read {
        Err(Stop::Need { .. }) => Ok(()),
        other => other,
    }
}
