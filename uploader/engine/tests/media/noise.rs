//! Noise: no bytes whatever make the look panic, read beyond the file or read a fifth time.

use proptest::prelude::*;

use crate::handmade::{ftyp, plain, plain_webm};
use crate::run::look;

/// Words that parsers look for.
const WORDS: [&[u8]; 16] = [
    b"moov",
    b"trak",
    b"moof",
    b"traf",
    b"trun",
    b"mdat",
    b"elst",
    b"stts",
    b"sidx",
    b"mfra",
    b"\x1f\x43\xb6\x75",
    b"\x18\x53\x80\x67",
    b"\xff\xff\xff\xff",
    b"\x01\0\0\0",
    b"\0\0\0\x01",
    b"\0\0\0\0",
];

fn noise() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        prop::sample::select(WORDS.to_vec()).prop_map(<[u8]>::to_vec),
        prop::collection::vec(any::<u8>(), 0..12),
        (0u32..200).prop_map(|size| size.to_be_bytes().to_vec()),
    ];
    let head = prop_oneof![
        Just(Vec::new()),
        Just(ftyp()),
        Just(b"\x1a\x45\xdf\xa3\x87\x42\x82\x84webm".to_vec()),
    ];
    (head, prop::collection::vec(word, 0..400))
        .prop_map(|(head, words)| [head, words.concat()].concat())
}

fn look_in_every_way(file: &[u8], window: u64) {
    look(file, None, 15);
    look(file, Some(window), 15);
    look(file, Some(file.len() as u64 / 4 + 1), 15);
}

/// The parsers as a fuzz target: `cargo bolero test -p kinora-upload-engine noise::any_bytes_end_in_a_verdict`.
#[test]
fn any_bytes_end_in_a_verdict() {
    let heads = [Vec::new(), ftyp(), plain(), plain_webm()];
    bolero::check!()
        .with_type::<(u8, u16, Vec<u8>)>()
        .for_each(|(head, window, bytes)| {
            let head = &heads[usize::from(*head) % heads.len()];
            let keep = head.len() - usize::from(*window) % (head.len() + 1);
            let file = [&head[..keep], bytes].concat();
            if !file.is_empty() {
                look_in_every_way(&file, 4096 + u64::from(*window));
            }
        });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn noise_ends_in_a_verdict(file in noise(), window in 4096u64..10_000) {
        look_in_every_way(&file, window);
    }

    #[test]
    fn a_damaged_video_ends_in_a_verdict(
        webm in any::<bool>(),
        filling in 0usize..30_000,
        hits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut file = if webm { plain_webm() } else { plain() };
        file.extend(if webm { Vec::new() } else { crate::handmade::bx(b"free", &vec![7; filling]) });
        for (at, byte) in hits {
            let at = at.index(file.len().min(700));
            file[at] = byte;
        }
        look_in_every_way(&file, 4096);
        file.truncate(cut.index(file.len()) + 1);
        look_in_every_way(&file, 4096);
    }
}
