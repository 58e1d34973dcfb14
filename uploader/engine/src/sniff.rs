//! A look at the first bytes: ISO BMFF (MP4, QuickTime, 3GP) by its brands, Matroska and WebM by
//! the EBML DocType. It keeps texts and pictures out before a byte is stored; whether the file
//! really is a video is found out later.

/// At most so many bytes are looked at.
pub const LOOK: usize = 4096;

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniff {
    /// A container of videos.
    Video,
    /// Not one; the text says what was missing.
    NotVideo(&'static str),
    /// Cannot be said yet.
    More,
}

const NO_CONTAINER: &str = "the first bytes are neither MP4, QuickTime or 3GP nor WebM or Matroska";
const NO_VIDEO_BRAND: &str = "the file is of the MP4 family, but says it holds audio or pictures";
const NO_DOCTYPE: &str = "the file is EBML, but neither WebM nor Matroska";

/// Major brands of the MP4 family that are no videos, whatever they are compatible with.
const NOT_VIDEO: [&[u8; 4]; 9] = [
    b"M4A ", b"M4B ", b"M4P ", b"heic", b"heix", b"mif1", b"msf1", b"avif", b"crx ",
];
const VIDEO: [&[u8; 4]; 16] = [
    b"mp41", b"mp42", b"mp71", b"avc1", b"hvc1", b"hev1", b"av01", b"qt  ", b"M4V ", b"M4VP",
    b"MSNV", b"dash", b"mmp4", b"NDSC", b"XAVC", b"f4v ",
];

fn is_video_brand(brand: &[u8]) -> bool {
    VIDEO.iter().any(|known| known.as_slice() == brand)
        || [&b"iso"[..], b"3gp", b"3g2", b"3gr", b"3gs", b"3ge"]
            .iter()
            .any(|family| brand.starts_with(family))
}

/// Judges the first bytes of a file; `ended` says that no more will come.
#[must_use]
pub fn sniff(head: &[u8], ended: bool) -> Sniff {
    let head = head.get(..LOOK).unwrap_or(head);
    let ended = ended || head.len() == LOOK;
    let more = |verdict| {
        if ended {
            Sniff::NotVideo(verdict)
        } else {
            Sniff::More
        }
    };
    match head {
        [0x1a, 0x45, 0xdf, 0xa3, ebml @ ..] => match doctype(ebml) {
            Some(b"webm" | b"matroska") => Sniff::Video,
            Some(_) => Sniff::NotVideo(NO_DOCTYPE),
            None => more(NO_DOCTYPE),
        },
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => file_type(head, ended),
        head if head.len() < 8 => more(NO_CONTAINER),
        _ => Sniff::NotVideo(NO_CONTAINER),
    }
}

fn file_type(head: &[u8], ended: bool) -> Sniff {
    let size = head
        .first_chunk::<4>()
        .map_or(0, |size| u32::from_be_bytes(*size) as usize);
    let Some(major) = head.get(8..12) else {
        return if ended {
            Sniff::NotVideo(NO_CONTAINER)
        } else {
            Sniff::More
        };
    };
    if NOT_VIDEO.iter().any(|brand| brand.as_slice() == major) {
        return Sniff::NotVideo(NO_VIDEO_BRAND);
    }
    if is_video_brand(major) {
        return Sniff::Video;
    }
    let there = head.get(16..size.min(head.len())).unwrap_or_default();
    if there.chunks_exact(4).any(is_video_brand) {
        return Sniff::Video;
    }
    if head.len() < size.min(LOOK) && !ended {
        Sniff::More
    } else {
        Sniff::NotVideo(NO_VIDEO_BRAND)
    }
}

/// The DocType of an EBML header, after its four id bytes.
fn doctype(ebml: &[u8]) -> Option<&[u8]> {
    let (header, body) = vint(ebml)?;
    let mut rest = body.get(..header.min(body.len()))?;
    loop {
        let id_len = rest.first()?.leading_zeros() as usize + 1;
        let id = rest.get(..id_len)?;
        let (size, value) = vint(rest.get(id_len..)?)?;
        if id == [0x42, 0x82] {
            return value.get(..size);
        }
        rest = value.get(size..)?;
    }
}

/// An EBML variable-length size, and what follows it.
fn vint(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let first = *bytes.first()?;
    let len = first.leading_zeros() as usize + 1;
    if len > 8 {
        return None;
    }
    let mut value = u64::from(first) & ((1u64 << (8 - len)) - 1);
    for byte in bytes.get(1..len)? {
        value = value << 8 | u64::from(*byte);
    }
    Some((usize::try_from(value).ok()?, bytes.get(len..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ftyp(brands: &[&[u8; 4]]) -> Vec<u8> {
        let size = 12 + 4 * brands.len() as u32;
        let mut head = size.to_be_bytes().to_vec();
        head.extend(b"ftyp");
        head.extend(brands[0]);
        head.extend([0, 0, 2, 0]);
        brands[1..].iter().for_each(|brand| head.extend(*brand));
        head
    }

    fn ebml(doctype: &[u8]) -> Vec<u8> {
        let mut body = vec![0x42, 0x86, 0x81, 1, 0x42, 0x82, 0x80 | doctype.len() as u8];
        body.extend(doctype);
        let mut head = vec![0x1a, 0x45, 0xdf, 0xa3, 0x80 | body.len() as u8];
        head.extend(body);
        head
    }

    #[test]
    fn the_first_bytes_tell_videos_from_the_rest() {
        let text = b"this text calls itself clip.mp4 and is none";
        let cases = [
            ("an MP4 by its major brand", ftyp(&[b"isom", b"iso2"]), true),
            ("QuickTime", ftyp(&[b"qt  "]), true),
            ("3GP", ftyp(&[b"3gp5", b"3gp5"]), true),
            (
                "an unknown major brand compatible with mp42",
                ftyp(&[b"XYZ1", b"mp42"]),
                true,
            ),
            (
                "an audio book that is compatible with mp42",
                ftyp(&[b"M4A ", b"mp42", b"isom"]),
                false,
            ),
            ("a photo", ftyp(&[b"heic", b"mif1"]), false),
            ("WebM", ebml(b"webm"), true),
            ("Matroska", ebml(b"matroska"), true),
            ("another EBML", ebml(b"other"), false),
            ("a text", text.to_vec(), false),
            ("five bytes and no more", b"hello".to_vec(), false),
        ];
        for (name, head, want) in cases {
            assert_eq!(matches!(sniff(&head, true), Sniff::Video), want, "{name}");
        }
    }

    #[test]
    fn a_prefix_of_a_video_is_never_refused_and_a_text_is_at_eight_bytes() {
        for whole in [ftyp(&[b"XYZ1", b"abcd", b"mp42"]), ebml(b"webm")] {
            for cut in 0..whole.len() {
                assert!(
                    !matches!(sniff(&whole[..cut], false), Sniff::NotVideo(_)),
                    "cut at {cut}"
                );
            }
            assert_eq!(sniff(&whole, false), Sniff::Video);
        }
        assert!(matches!(sniff(b"plain te", false), Sniff::NotVideo(_)));
    }
}
