//! The corpus of ffmpeg: codecs, containers, layouts, lengths around the limit, cuts.

use std::sync::Mutex;

use kinora_upload_engine::media::Reason;

use crate::ffmpeg::{picture, run, tone};
use crate::run::{Want, check};

const X264: &str = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p";
const LIMIT: u64 = 15;

/// Name, inputs and codecs, output, what is wanted.
type Row = (String, String, String, Want);

fn row(name: &str, args: String, out: &str, want: Want) -> Row {
    (name.into(), args, out.into(), want)
}

/// Five seconds each.
fn codecs() -> Vec<Row> {
    let both = format!("{} {}", picture(5.0), tone(5.0));
    [
        ("h264 aac", "-c:v libx264 -preset ultrafast -c:a aac", "mp4"),
        (
            "h264 mp3",
            "-c:v libx264 -preset ultrafast -c:a libmp3lame",
            "mp4",
        ),
        (
            "hevc aac",
            "-c:v libx265 -preset ultrafast -x265-params log-level=0 -tag:v hvc1 -c:a aac",
            "mp4",
        ),
        (
            "av1 opus",
            "-c:v libaom-av1 -cpu-used 8 -usage realtime -c:a libopus",
            "mp4",
        ),
        (
            "vp9 opus in mp4",
            "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus",
            "mp4",
        ),
        ("mpeg4 part 2", "-c:v mpeg4 -c:a aac", "mp4"),
        (
            "m4v",
            "-c:v libx264 -preset ultrafast -c:a aac -f mp4 -brand M4V",
            "m4v",
        ),
        (
            "quicktime h264",
            "-c:v libx264 -preset ultrafast -c:a aac",
            "mov",
        ),
        ("quicktime prores pcm", "-c:v prores -c:a pcm_s16le", "mov"),
        ("quicktime mjpeg", "-c:v mjpeg -c:a pcm_s16le", "mov"),
        ("quicktime png", "-c:v png -an", "mov"),
        ("quicktime animation", "-c:v qtrle -an", "mov"),
        (
            "quicktime with timecode",
            "-c:v libx264 -preset ultrafast -timecode 00:00:00:00",
            "mov",
        ),
        ("3gp h264", "-c:v libx264 -preset ultrafast -c:a aac", "3gp"),
        ("3gp h263", "-vf scale=128:96 -c:v h263 -c:a aac", "3gp"),
        ("3g2", "-c:v mpeg4 -c:a aac", "3g2"),
        (
            "webm vp8 vorbis",
            "-c:v libvpx -deadline realtime -cpu-used 8 -c:a libvorbis",
            "webm",
        ),
        (
            "webm vp9 opus",
            "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus",
            "webm",
        ),
        (
            "webm av1",
            "-c:v libaom-av1 -cpu-used 8 -usage realtime -an",
            "webm",
        ),
        (
            "matroska h264",
            "-c:v libx264 -preset ultrafast -c:a aac",
            "mkv",
        ),
        ("matroska ffv1 flac", "-c:v ffv1 -c:a flac", "mkv"),
        (
            "matroska mpeg2",
            "-c:v mpeg2video -r 25 -c:a libmp3lame",
            "mkv",
        ),
        ("matroska theora", "-c:v libtheora -c:a libvorbis", "mkv"),
    ]
    .map(|(name, codec, out)| row(name, format!("{both} {codec}"), out, Want::Plays(5.0)))
    .into()
}

fn layouts() -> Vec<Row> {
    let both = format!("{} {} {X264} -c:a aac", picture(6.0), tone(6.0));
    let silent = format!("{} {X264}", picture(6.0));
    let vp8 = "-c:v libvpx -deadline realtime -cpu-used 8";
    let live = format!("{} {} {vp8} -c:a libopus", picture(6.0), tone(6.0));
    let (starts_late, six) = ("-itsoffset 1", Want::Plays(6.0));
    vec![
        row(
            "faststart",
            format!("{both} -movflags +faststart"),
            "mp4",
            six,
        ),
        row("no sound", silent.clone(), "mp4", six),
        row(
            "fragments by keyframe",
            format!("{both} -g 10 -movflags +frag_keyframe"),
            "mp4",
            six,
        ),
        row(
            "fragments with an empty moov",
            format!("{both} -g 10 -movflags +frag_keyframe+empty_moov+default_base_moof"),
            "mp4",
            six,
        ),
        row(
            "fragments with a segment index",
            format!("{both} -g 10 -movflags +dash+global_sidx+frag_keyframe"),
            "mp4",
            six,
        ),
        row(
            "fragments without index at the end",
            format!("{both} -g 10 -movflags +frag_keyframe+empty_moov+skip_trailer"),
            "mp4",
            six,
        ),
        row(
            "a fragment a frame",
            format!("{silent} -movflags +frag_every_frame+empty_moov"),
            "mp4",
            six,
        ),
        row(
            "fragments through a pipe",
            format!("{both} -g 10 -movflags +frag_keyframe+empty_moov"),
            "pipe:mp4",
            six,
        ),
        row(
            "separate fragments",
            format!("{both} -g 10 -movflags +separate_moof+frag_keyframe"),
            "mov",
            six,
        ),
        row(
            "cmaf",
            format!("{silent} -g 10 -movflags +cmaf"),
            "mp4",
            six,
        ),
        row(
            "b-frames and an edit list",
            format!("{silent} -bf 2 -preset medium"),
            "mp4",
            six,
        ),
        row(
            "a silent beginning",
            format!("{starts_late} {both}"),
            "mp4",
            Want::Plays(7.0),
        ),
        row("webm through a pipe", live.clone(), "pipe:webm", six),
        row(
            "webm as browsers record",
            format!("{live} -live 1"),
            "pipe:webm",
            six,
        ),
        row(
            "webm with the index first",
            format!("{live} -cues_to_front 1"),
            "webm",
            six,
        ),
        row(
            "matroska through a pipe",
            both.clone(),
            "pipe:matroska",
            six,
        ),
        row(
            "small clusters",
            format!("{both} -cluster_time_limit 500"),
            "mkv",
            six,
        ),
        row(
            "two pictures and a tone",
            format!("{} {silent} -map 0 -map 1", picture(6.0)),
            "mp4",
            six,
        ),
    ]
}

fn lengths() -> Vec<Row> {
    let long = || Want::Refused(Reason::TooLong);
    let mut rows = Vec::new();
    for (seconds, want) in [
        (0.1, Want::Plays(0.1)),
        (14.9, Want::Plays(14.9)),
        (15.0, Want::Plays(15.0)),
        (15.4, Want::Plays(15.4)),
        (15.8, long()),
        (16.0, long()),
        (31.0, long()),
    ] {
        let plain = format!("{} {X264} -g 10", picture(seconds));
        let vp8 = format!(
            "{} -c:v libvpx -deadline realtime -cpu-used 8 -g 10",
            picture(seconds)
        );
        rows.push(row(&format!("{seconds} s mp4"), plain.clone(), "mp4", want));
        let fragmented = format!("{plain} -movflags +frag_keyframe+empty_moov+skip_trailer");
        rows.push(row(
            &format!("{seconds} s fragmented"),
            fragmented,
            "mp4",
            want,
        ));
        rows.push(row(&format!("{seconds} s mkv"), plain, "mkv", want));
        rows.push(row(
            &format!("{seconds} s live webm"),
            format!("{vp8} -live 1"),
            "pipe:webm",
            want,
        ));
    }
    let hour = format!("-f lavfi -i color=s=16x16:r=1:d=3600 {X264}");
    rows.push(row("an hour", hour, "mp4", long()));
    let lingering = format!("{} {} {X264} -c:a aac", picture(3.0), tone(30.0));
    rows.push(row("sound that goes on", lingering.clone(), "mp4", long()));
    rows.push(row("sound that goes on", lingering, "mkv", long()));
    rows
}

fn no_pictures() -> Vec<Row> {
    let none = || Want::Refused(Reason::NoVideoTrack);
    let sound = tone(3.0);
    vec![
        row("sound only", format!("{sound} -c:a aac"), "mp4", none()),
        row(
            "sound only",
            format!("{sound} -c:a pcm_s16le"),
            "mov",
            none(),
        ),
        row("sound only", format!("{sound} -c:a aac"), "3gp", none()),
        row(
            "sound only",
            format!("{sound} -c:a libopus"),
            "webm",
            none(),
        ),
        row("sound only", format!("{sound} -c:a flac"), "mkv", none()),
        row(
            "live sound only",
            format!("{sound} -c:a libopus -live 1"),
            "pipe:webm",
            none(),
        ),
        row(
            "fragmented sound",
            format!("{sound} -c:a aac -movflags +frag_keyframe+empty_moov"),
            "mp4",
            none(),
        ),
        row(
            "music file",
            format!("{sound} -c:a aac"),
            "m4a",
            Want::Refused(Reason::NotAVideo),
        ),
        row(
            "avi",
            format!("{} -c:v mpeg4", picture(3.0)),
            "avi",
            Want::Refused(Reason::NotAVideo),
        ),
        row(
            "mpeg-ts",
            format!("{} {X264}", picture(3.0)),
            "ts",
            Want::Refused(Reason::NotAVideo),
        ),
        row(
            "flv",
            format!("{} {X264}", picture(3.0)),
            "flv",
            Want::Refused(Reason::NotAVideo),
        ),
        row("gif", picture(1.0), "gif", Want::Refused(Reason::NotAVideo)),
    ]
}

/// Too large for one read: the end and the middle are looked for.
fn large() -> Vec<Row> {
    let raw = "-f lavfi -i testsrc=s=320x240:r=10:d=10 -c:v rawvideo -pix_fmt yuv420p";
    let jpeg = "-f lavfi -i testsrc2=s=640x480:r=10:d=12 -c:v mjpeg -q:v 1 -pix_fmt yuvj444p";
    let noisy = format!("{jpeg} -huffman default");
    let (ten, twelve) = (Want::Plays(10.0), Want::Plays(12.0));
    vec![
        row("large, moov at the end", raw.into(), "mov", ten),
        row(
            "large, moov first",
            format!("{raw} -movflags +faststart"),
            "mov",
            ten,
        ),
        row("large matroska", raw.into(), "mkv", ten),
        row(
            "large live matroska",
            format!("{raw} -live 1 -cluster_size_limit 1000000"),
            "pipe:matroska",
            ten,
        ),
        row(
            "large fragments",
            format!("{noisy} -movflags +frag_keyframe+empty_moov -frag_duration 1000000"),
            "mp4",
            twelve,
        ),
        row(
            "large fragments without an index",
            format!("{noisy} -movflags +empty_moov+skip_trailer -frag_duration 1000000"),
            "mp4",
            twelve,
        ),
    ]
}

/// Two at a time: the machine has other work.
fn make(rows: Vec<Row>) -> Vec<(String, Vec<u8>, Want)> {
    let (todo, done) = (Mutex::new(rows), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((name, args, out, want)) = { todo.lock().unwrap().pop() } {
                    let name = format!("{name}, {}", out.trim_start_matches("pipe:"));
                    let file = run(&name, &args, &out);
                    done.lock().unwrap().push((name, file, want));
                }
            });
        }
    });
    done.into_inner().unwrap()
}

/// covers: S7, F48
#[test]
fn files_of_ffmpeg_are_accepted_or_refused_for_what_they_are() {
    let rows = [codecs(), layouts(), lengths(), no_pictures(), large()].concat();
    let files = make(rows);
    assert!(files.len() >= 60, "{} files", files.len());
    let wrong: Vec<String> = files
        .iter()
        .flat_map(|(name, file, want)| check(name, file, LIMIT, *want))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (name, file, want) in files {
        if let Want::Refused(Reason::TooLong) = want {
            assert!(
                matches!(
                    crate::run::look(&file, None, 4000),
                    kinora_upload_engine::media::Verdict::Accepted(_)
                ),
                "{name}: a profile of more than an hour takes it"
            );
        }
    }
}

/// covers: F48
#[test]
fn a_file_cut_anywhere_is_no_video() {
    let both = format!("{} {} {X264} -c:a aac -g 10", picture(6.0), tone(6.0));
    let vp8 = format!(
        "{} -c:v libvpx -deadline realtime -cpu-used 8",
        picture(6.0)
    );
    let whole = make(vec![
        row("moov last", both.clone(), "mp4", Want::Plays(6.0)),
        row(
            "moov first",
            format!("{both} -movflags +faststart"),
            "mp4",
            Want::Plays(6.0),
        ),
        row(
            "fragments",
            format!("{both} -movflags +frag_keyframe+empty_moov"),
            "mp4",
            Want::Plays(6.0),
        ),
        row("quicktime", both.clone(), "mov", Want::Plays(6.0)),
        row("webm", vp8.clone(), "webm", Want::Plays(6.0)),
        row("matroska", both, "mkv", Want::Plays(6.0)),
        row(
            "live webm",
            format!("{vp8} -live 1"),
            "pipe:webm",
            Want::Plays(6.0),
        ),
    ]);
    let mut wrong = Vec::new();
    for (name, file, want) in &whole {
        wrong.extend(check(name, file, LIMIT, *want));
        for part in [30, 250, 500, 750, 990, 999] {
            let cut = &file[..file.len() * part / 1000];
            let name = format!("{name} cut at {part} ‰");
            for window in [None, Some(1 << 20), Some(cut.len() as u64 / 3 + 1)] {
                let verdict = crate::run::look(cut, window, LIMIT);
                if matches!(verdict, kinora_upload_engine::media::Verdict::Accepted(_)) {
                    wrong.push(format!("{name}, window {window:?}: {verdict:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the tests of the whole system send: samples, also with a filled-up end.
#[test]
fn the_samples_are_accepted_also_padded() {
    for (name, seconds) in [("bikes", 10.0), ("bigbuckbunny", 5.3)] {
        let path = format!(
            "{}/../../e2e/samples/{name}.mp4",
            env!("CARGO_MANIFEST_DIR")
        );
        let plain = std::fs::read(path).unwrap();
        let padding = crate::handmade::bx(b"free", &vec![0; 9_000_000]);
        let padded = [plain.clone(), padding].concat();
        for file in [plain, padded] {
            let wrong = check(name, &file, LIMIT, Want::Plays(seconds));
            assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        }
    }
}
