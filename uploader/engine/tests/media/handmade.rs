//! Files made by hand: what a writer of files would never do, and what only some do.

use kinora_upload_engine::media::Reason;

use crate::run::{Want, check};

/// A box.
pub(crate) fn bx(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u32 + 8).to_be_bytes().to_vec();
    out.extend(kind);
    out.extend(body);
    out
}

/// A box with a size of 64 bits that need not be true.
fn wide(kind: &[u8; 4], size: u64, body: &[u8]) -> Vec<u8> {
    let mut out = 1u32.to_be_bytes().to_vec();
    out.extend(kind);
    out.extend(size.to_be_bytes());
    out.extend(body);
    out
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

pub(crate) fn ftyp() -> Vec<u8> {
    bx(b"ftyp", b"isom\0\0\x02\0isomiso2")
}

fn mvhd(seconds: u32) -> Vec<u8> {
    bx(b"mvhd", &words(&[0, 0, 0, 1000, seconds * 1000]))
}

/// A track of `samples` frames of a tenth of a second; extra boxes go beside its media.
fn trak(handler: &[u8; 4], stts: &[u32], mdhd: u32, extra: &[u8]) -> Vec<u8> {
    let stbl = [
        bx(b"stsd", &words(&[0, 1])),
        bx(b"stts", &words(stts)),
        bx(b"stco", &words(&[0, 1, 40])),
    ]
    .concat();
    let hdlr = [&[0; 8], &handler[..], &[0; 12]].concat();
    let mdia = [
        bx(b"mdhd", &words(&[0, 0, 0, 1000, mdhd])),
        bx(b"hdlr", &hdlr),
        bx(b"minf", &bx(b"stbl", &stbl)),
    ]
    .concat();
    let tkhd = bx(b"tkhd", &words(&[3, 0, 0, 1, 0, 0]));
    bx(b"trak", &[&tkhd[..], extra, &bx(b"mdia", &mdia)].concat())
}

fn clip(seconds: u32) -> Vec<u8> {
    trak(b"vide", &[0, 1, seconds * 10, 100], seconds * 1000, &[])
}

fn moov(tracks: &[Vec<u8>]) -> Vec<u8> {
    bx(b"moov", &[mvhd(5), tracks.concat()].concat())
}

fn mdat() -> Vec<u8> {
    bx(b"mdat", &[0x20; 4000])
}

fn mp4(boxes: &[Vec<u8>]) -> Vec<u8> {
    [ftyp(), boxes.concat()].concat()
}

/// A plain MP4 of five seconds.
pub(crate) fn plain() -> Vec<u8> {
    mp4(&[moov(&[clip(5)]), mdat()])
}

fn elst(entries: &[u32]) -> Vec<u8> {
    let table = [&[0, entries.len() as u32 / 3], entries].concat();
    bx(b"edts", &bx(b"elst", &words(&table)))
}

/// A fragmented MP4 whose `trun` says this.
fn fragmented(trun: &[u32]) -> Vec<u8> {
    let trex = bx(b"trex", &words(&[0, 1, 1, 100, 0, 0]));
    let track = trak(b"vide", &[0, 0], 0, &[]);
    let head = bx(b"moov", &[mvhd(0), track, bx(b"mvex", &trex)].concat());
    let traf = [
        bx(b"tfhd", &words(&[0, 1])),
        bx(b"tfdt", &words(&[0, 0])),
        bx(b"trun", &words(trun)),
    ]
    .concat();
    let moof = [bx(b"mfhd", &words(&[0, 1])), bx(b"traf", &traf)].concat();
    mp4(&[head, bx(b"moof", &moof), mdat()])
}

/// An element with a size of eight bytes.
fn el(id: u32, body: &[u8]) -> Vec<u8> {
    sized(id, (1 << 56) | body.len() as u64, body)
}

fn sized(id: u32, size: u64, body: &[u8]) -> Vec<u8> {
    let id = id.to_be_bytes();
    let skip = id.iter().take_while(|byte| **byte == 0).count();
    [&id[skip..], &size.to_be_bytes(), body].concat()
}

fn webm(children: &[Vec<u8>]) -> Vec<u8> {
    let head = el(0x1a45_dfa3, &el(0x4282, b"webm"));
    [head, el(0x1853_8067, &children.concat())].concat()
}

fn info(scale: u32, duration: f64) -> Vec<u8> {
    let scale = el(0x002a_d7b1, &scale.to_be_bytes());
    let duration = el(0x4489, &duration.to_be_bytes());
    el(0x1549_a966, &[scale, duration].concat())
}

fn tracks(kind: u8) -> Vec<u8> {
    let entry = [el(0xd7, &[1]), el(0x83, &[kind])].concat();
    el(0x1654_ae6b, &el(0xae, &entry))
}

fn cluster(time: u32) -> Vec<u8> {
    let block = el(0xa3, &[0x81, 0, 0, 0x80, 1, 2, 3]);
    el(
        0x1f43_b675,
        &[el(0xe7, &time.to_be_bytes()), block].concat(),
    )
}

/// A plain WebM of five seconds.
pub(crate) fn plain_webm() -> Vec<u8> {
    webm(&[
        info(1_000_000, 5000.0),
        tracks(1),
        cluster(0),
        cluster(4900),
    ])
}

/// A WebM that names the place of its tracks, after its clusters.
fn tracks_last() -> Vec<u8> {
    let (info, frames) = (
        info(1_000_000, 5000.0),
        [cluster(0), cluster(4900)].concat(),
    );
    let seek = |at: u64| {
        let id = el(0x53ab, &0x1654_ae6bu32.to_be_bytes());
        let entry = [id, el(0x53ac, &at.to_be_bytes())].concat();
        el(0x114d_9b74, &el(0x4dbb, &entry))
    };
    let at = seek(0).len() + info.len() + frames.len();
    webm(&[seek(at as u64), info, frames, tracks(1)])
}

fn zip() -> Vec<u8> {
    let mut zip = b"PK\x03\x04\x14\0\0\0\x08\0".to_vec();
    zip.extend([7; 300]);
    zip
}

fn with(base: Vec<u8>, more: Vec<u8>) -> Vec<u8> {
    [base, more].concat()
}

fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(bx(b"free", &[]), |inner, _| bx(b"moov", &inner))
}

fn unusual() -> Vec<(&'static str, Vec<u8>)> {
    let to_the_end = [words(&[0]), b"mdat".to_vec(), vec![9; 100]].concat();
    let two_edits = elst(&[1000, u32::MAX, 0x10000, 4000, 0, 0x10000]);
    let trimmed = elst(&[5000, 2000, 0x10000]);
    let long_media = trak(b"vide", &[0, 1, 600, 100], 60_000, &trimmed);
    let minf_of_old = bx(b"udta", &[0; 4]);
    vec![
        ("a plain file", plain()),
        ("moov last", mp4(&[mdat(), moov(&[clip(5)])])),
        ("mdat to the end", mp4(&[moov(&[clip(5)]), to_the_end])),
        (
            "mdat with 64 bits",
            mp4(&[wide(b"mdat", 116, &[1; 100]), moov(&[clip(5)])]),
        ),
        (
            "free, skip, wide and unknown boxes",
            mp4(&[
                bx(b"free", &[0; 99]),
                bx(b"wide", &[]),
                bx(b"skip", &[1; 5]),
                bx(b"uuid", &[7; 40]),
                bx(b"xyz1", &[3; 9]),
                moov(&[clip(5)]),
                mdat(),
                bx(b"free", &[0; 5000]),
            ]),
        ),
        (
            "an edit list that trims a minute",
            mp4(&[moov(&[long_media]), mdat()]),
        ),
        (
            "an empty edit before",
            mp4(&[
                moov(&[trak(b"vide", &[0, 1, 40, 100], 4000, &two_edits)]),
                mdat(),
            ]),
        ),
        (
            "an edit of length 0",
            mp4(&[
                moov(&[trak(
                    b"vide",
                    &[0, 1, 50, 100],
                    5000,
                    &elst(&[0, 0, 0x10000]),
                )]),
                mdat(),
            ]),
        ),
        (
            "a negative time between frames",
            mp4(&[
                moov(&[trak(b"vide", &[0, 2, 50, 100, 1, 0xffff_ff00], 5000, &[])]),
                mdat(),
            ]),
        ),
        (
            "a header that says more than its table",
            mp4(&[
                moov(&[trak(b"vide", &[0, 1, 50, 100], 90_000, &[])]),
                mdat(),
            ]),
        ),
        (
            "a metadata track of an hour",
            mp4(&[
                moov(&[
                    clip(5),
                    trak(b"meta", &[0, 1, 1, 3_600_000], 3_600_000, &[]),
                ]),
                mdat(),
            ]),
        ),
        ("zeros at the end", with(plain(), vec![0; 5])),
        ("many zeros at the end", with(plain(), vec![0; 500])),
        (
            "a web page in a free box",
            mp4(&[bx(b"free", b"<html><script>"), moov(&[clip(5)]), mdat()]),
        ),
        (
            "an archive in a free box",
            mp4(&[moov(&[clip(5)]), mdat(), bx(b"free", &zip())]),
        ),
        (
            "a terminator after the user data",
            mp4(&[moov(&[clip(5), minf_of_old]), mdat()]),
        ),
        (
            "fifty thousand empty boxes",
            mp4(&[moov(&[clip(5)]), mdat(), bx(b"free", &[]).repeat(50_000)]),
        ),
        ("a fragment", fragmented(&[0, 50])),
        ("WebM", plain_webm()),
        (
            "WebM with a void after the segment",
            with(plain_webm(), el(0xec, &[0; 30])),
        ),
        ("WebM whose tracks come last", tracks_last()),
        (
            "WebM without a number for its length",
            webm(&[
                info(1_000_000, f64::NAN),
                tracks(1),
                cluster(0),
                cluster(5000),
            ]),
        ),
        (
            "WebM with a negative length",
            webm(&[info(1_000_000, -3.0), tracks(1), cluster(0), cluster(5000)]),
        ),
        (
            "WebM that begins late",
            webm(&[tracks(1), cluster(900_000), cluster(905_000)]),
        ),
    ]
}

fn bad() -> Vec<(&'static str, Vec<u8>, Reason)> {
    use Reason::{Malformed, NoVideoTrack, NotAVideo, TooLong, Truncated};
    let huge_table = trak(b"vide", &[0, u32::MAX, 50, 100], 5000, &[]);
    let lying = trak(b"vide", &[0, 1, 600, 100], 5000, &[]);
    let endless = trak(b"vide", &[0, 1, u32::MAX, 0x0fff_ffff], 5000, &[]);
    let far = bx(b"edts", &bx(b"elst", &words(&[0, u32::MAX, 1, 1, 1])));
    let still = bx(
        b"moov",
        &[bx(b"mvhd", &words(&[0, 0, 0, 0, 0])), clip(5)].concat(),
    );
    let short_header = bx(b"moov", &bx(b"mvhd", &[0; 7]));
    let mut big_child = moov(&[clip(5)]);
    big_child[8..12].copy_from_slice(&0x0fff_ffffu32.to_be_bytes());
    let unknown = (1 << 57) - 1;
    vec![
        ("nothing", Vec::new(), NotAVideo),
        (
            "a text",
            b"this is not a video, only its name is clip.mp4".to_vec(),
            NotAVideo,
        ),
        ("an archive", zip(), NotAVideo),
        ("an archive before a video", with(zip(), plain()), NotAVideo),
        (
            "a web page before a video",
            with(b"<html>".to_vec(), plain()),
            NotAVideo,
        ),
        ("ftyp only", ftyp(), NotAVideo),
        ("ftyp and spaces", mp4(&[mdat()]), NotAVideo),
        (
            "ftyp before Matroska",
            with(ftyp(), plain_webm()),
            Malformed,
        ),
        ("an archive after a video", with(plain(), zip()), Malformed),
        (
            "a text after a video",
            with(plain(), b"\x89\x01\x02\x03\x04 and so on".to_vec()),
            Malformed,
        ),
        ("no tracks", mp4(&[moov(&[]), mdat()]), NoVideoTrack),
        (
            "only sound",
            mp4(&[moov(&[trak(b"soun", &[0, 1, 50, 100], 5000, &[])]), mdat()]),
            NoVideoTrack,
        ),
        (
            "a video track of no frames",
            mp4(&[moov(&[trak(b"vide", &[0, 0], 5000, &[])]), mdat()]),
            NoVideoTrack,
        ),
        ("a fragment of no frames", fragmented(&[0, 0]), NoVideoTrack),
        ("no media data", mp4(&[moov(&[clip(5)])]), Truncated),
        (
            "media data beyond the end",
            mp4(&[moov(&[clip(5)]), wide(b"mdat", 1 << 40, &[0; 100])]),
            Truncated,
        ),
        (
            "a box as large as can be",
            mp4(&[wide(b"free", u64::MAX, &[])]),
            Truncated,
        ),
        (
            "a box of 64 bits without them",
            mp4(&[words(&[1]), b"free".to_vec()]),
            Truncated,
        ),
        (
            "a box smaller than its header",
            mp4(&[words(&[4]), b"free".to_vec()]),
            Malformed,
        ),
        (
            "a box larger than its parent",
            mp4(&[big_child, mdat()]),
            Malformed,
        ),
        (
            "a table larger than its box",
            mp4(&[moov(&[huge_table]), mdat()]),
            Malformed,
        ),
        (
            "an edit list larger than its box",
            mp4(&[moov(&[trak(b"vide", &[0, 1, 50, 100], 5000, &far)]), mdat()]),
            Malformed,
        ),
        (
            "a header that says less than its table",
            mp4(&[moov(&[lying]), mdat()]),
            TooLong,
        ),
        (
            "frames for longer than the universe",
            mp4(&[moov(&[endless]), mdat()]),
            TooLong,
        ),
        (
            "a fragment of four billion frames",
            fragmented(&[0, u32::MAX]),
            TooLong,
        ),
        (
            "a fragment that lists frames it has not",
            fragmented(&[0x100, u32::MAX]),
            Malformed,
        ),
        (
            "a clock that stands still",
            mp4(&[still, mdat()]),
            Malformed,
        ),
        (
            "a movie header cut short",
            mp4(&[short_header, mdat()]),
            Malformed,
        ),
        (
            "a thousand tracks",
            mp4(&[moov(&vec![clip(5); 1000]), mdat()]),
            Malformed,
        ),
        (
            "boxes in boxes",
            mp4(&[nested(20_000), mdat()]),
            NoVideoTrack,
        ),
        (
            "WebM of sound",
            webm(&[info(1_000_000, 5000.0), tracks(2), cluster(0)]),
            NoVideoTrack,
        ),
        (
            "WebM without tracks",
            webm(&[info(1_000_000, 5000.0), cluster(0)]),
            NoVideoTrack,
        ),
        (
            "WebM without frames",
            webm(&[info(1_000_000, 5000.0), tracks(1)]),
            NoVideoTrack,
        ),
        (
            "WebM that says less than it has",
            webm(&[
                info(1_000_000, 5000.0),
                tracks(1),
                cluster(0),
                cluster(60_000),
            ]),
            TooLong,
        ),
        (
            "WebM of infinite length",
            webm(&[info(1_000_000, 1e300), tracks(1), cluster(0)]),
            TooLong,
        ),
        (
            "WebM with slow units",
            webm(&[info(u32::MAX, 5000.0), tracks(1), cluster(0)]),
            TooLong,
        ),
        (
            "WebM whose clock stands still",
            webm(&[info(0, 5000.0), tracks(1), cluster(0)]),
            Malformed,
        ),
        (
            "WebM with a huge element",
            webm(&[tracks(1), sized(0xec, (1 << 57) - 2, &[])]),
            Truncated,
        ),
        (
            "WebM with tracks of unknown size",
            webm(&[sized(0x1654_ae6b, unknown | 1 << 56, &[1]), cluster(0)]),
            Malformed,
        ),
        (
            "WebM with an archive behind it",
            with(plain_webm(), zip()),
            Truncated,
        ),
        (
            "WebM with a text behind it",
            with(plain_webm(), el(0x4282, b"more")),
            Malformed,
        ),
        (
            "EBML of another kind",
            el(0x1a45_dfa3, &el(0x4282, b"recipes")),
            NotAVideo,
        ),
        (
            "EBML without a segment",
            [el(0x1a45_dfa3, &el(0x4282, b"webm")), el(0xec, &[0; 40])].concat(),
            NotAVideo,
        ),
    ]
}

/// covers: S7, F48
#[test]
fn files_made_by_hand_are_seen_through() {
    let mut wrong = Vec::new();
    for (name, file) in unusual() {
        wrong.extend(check(name, &file, 15, Want::Plays(5.0)));
    }
    for (name, file, reason) in bad() {
        wrong.extend(check(name, &file, 15, Want::Refused(reason)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_refusal_names_the_limit_and_its_word_can_be_read_again() {
    let long = mp4(&[moov(&[clip(61)]), mdat()]);
    let kinora_upload_engine::media::Verdict::Rejected(why) = crate::run::look(&long, None, 15)
    else {
        panic!("accepted");
    };
    assert_eq!(why.detail, "the video plays 61.0 s, the limit is 15 s");
    assert_eq!(why.duration_ms, Some(61_000));
    assert_eq!(Reason::of("TooLong"), Some(Reason::TooLong));
    assert!(Reason::TooLong.advice(15).contains("15 s"));
    assert_eq!(Reason::of("Empty"), None);
}
