//! The smallest MP4 that the look into a container accepts, so that stories can come to that step.

fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
}

fn full(kind: &[u8; 4], words: &[u32]) -> Vec<u8> {
    let body: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    boxed(kind, &body)
}

/// An MP4 of five seconds; two clients' differ in their media.
pub(crate) fn film(client: u8) -> Vec<u8> {
    let clock = [0, 0, 0, 1, 5];
    let table = [full(b"stsd", &[0, 1]), full(b"stts", &[0, 1, 5, 1])].concat();
    let media = [
        full(b"mdhd", &clock),
        full(b"hdlr", &[0, 0, u32::from_be_bytes(*b"vide")]),
        boxed(b"minf", &boxed(b"stbl", &table)),
    ];
    let track = boxed(b"trak", &boxed(b"mdia", &media.concat()));
    let head = boxed(b"moov", &[full(b"mvhd", &clock), track].concat());
    let brand = full(
        b"ftyp",
        &[
            u32::from_be_bytes(*b"isom"),
            512,
            u32::from_be_bytes(*b"isom"),
        ],
    );
    [brand, head, boxed(b"mdat", &[client; 5])].concat()
}
