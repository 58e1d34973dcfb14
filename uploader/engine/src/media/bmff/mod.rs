//! MP4, QuickTime and 3GP: the chain of top-level boxes, which must add up to the file; the movie
//! header at its beginning or its end; fragments.

mod boxes;
mod fragments;
mod movie;
mod tables;
mod tail;

use super::sparse::{Sparse, Stop, Walked};
use super::verdict::{Media, Reason};
use boxes::{Header, header};
use movie::Movie;

/// What the chain of boxes has shown so far.
#[derive(Default)]
struct Seen {
    movie: Option<Movie>,
    /// Whether there is a place for media data.
    data: bool,
    /// Microseconds that an index of segments adds up to.
    indexed: Option<u64>,
}

pub(super) fn walk(file: &Sparse) -> Walked<Media> {
    let mut seen = Seen::default();
    match chain(file, 0, &mut seen) {
        Ok(()) => judge(&seen, true),
        Err(Stop::Need { from, to }) => match &mut seen.movie {
            Some(movie) if movie.fragmented => {
                let measured = tail::fragments(file, movie)?;
                movie.measured = measured;
                judge(&seen, false)
            }
            // What is left are boxes after the movie that nothing depends on.
            Some(_) if file.left() == 0 => judge(&seen, false),
            None if file.left() <= 1 => {
                seen.movie = Some(tail::movie(file)?);
                seen.data = true;
                judge(&seen, false)
            }
            Some(_) | None => Err(Stop::Need { from, to }),
        },
        Err(stop) => Err(stop),
    }
}

/// Takes the top-level boxes from `at` to the end of the file into account.
fn chain(file: &Sparse, mut at: u64, seen: &mut Seen) -> Walked<()> {
    while at < file.length() {
        if is_padding(file, at)? {
            return Ok(());
        }
        let found = header(file, at, file.length())?;
        take(file, found, seen)?;
        at = found.end;
    }
    Ok(())
}

/// Fewer bytes than a box has, all zero.
fn is_padding(file: &Sparse, at: u64) -> Walked<bool> {
    let rest = file.length() - at;
    Ok(rest < 8 && file.get(at, file.length())?.iter().all(|byte| *byte == 0))
}

fn take(file: &Sparse, found: Header, seen: &mut Seen) -> Walked<()> {
    match &found.kind {
        // A second one is of an older edit: the first counts.
        b"moov" if seen.movie.is_none() => seen.movie = Some(movie::read(file, found)?),
        b"mdat" => seen.data |= found.end > found.body,
        b"sidx" => {
            let more = tables::segment_index(file, found)?;
            seen.indexed = Some(seen.indexed.unwrap_or(0).saturating_add(more));
        }
        b"moof" => {
            if let Some(movie) = &mut seen.movie {
                fragments::read(file, found, &mut movie.tracks)?;
                movie.measured = true;
            }
        }
        _ => {}
    }
    Ok(())
}

/// The verdict on a file whose boxes are known; `complete` says that none was left out.
fn judge(seen: &Seen, complete: bool) -> Walked<Media> {
    let Some(movie) = &seen.movie else {
        return Err(Reason::NotAVideo.because("it has no movie header").into());
    };
    let videos = movie.tracks.iter().filter(|track| track.is_video());
    let with_frames = videos.filter(|track| match track.samples {
        Some(samples) if complete || !movie.fragmented => samples > 0,
        _ => true,
    });
    let video_tracks = with_frames.count();
    if video_tracks == 0 {
        return Err(Reason::NoVideoTrack
            .because("it has no video track with pictures")
            .into());
    }
    if complete && !seen.data {
        return Err(Reason::Truncated.because("it has no media data").into());
    }
    Ok(Media {
        duration_ms: movie.duration(seen.indexed)? / 1000,
        video_tracks,
        tracks: movie.tracks.len(),
    })
}
