//! Which protocol a client speaks, by the first bytes it sends. They are only looked at, and stay
//! for the protocol to read.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;

/// No method of HTTP/1.1 begins with these; an HTTP/2 connection does.
const PRIOR_KNOWLEDGE: &[u8] = b"PRI * HTTP/2.0";
/// A client that sends its first bytes one by one is looked at this often.
const AGAIN: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Waits for the first bytes. It has no end of its own when too few come.
pub(super) async fn look(stream: &TcpStream) -> io::Result<Protocol> {
    let mut first = [0; PRIOR_KNOWLEDGE.len()];
    loop {
        let n = stream.peek(&mut first).await?;
        match judge(&first[..n]) {
            Some(protocol) => return Ok(protocol),
            None if n == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            None => tokio::time::sleep(AGAIN).await,
        }
    }
}

fn judge(first: &[u8]) -> Option<Protocol> {
    if !PRIOR_KNOWLEDGE.starts_with(first) {
        return Some(Protocol::Http1);
    }
    (first.len() == PRIOR_KNOWLEDGE.len()).then_some(Protocol::Http2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_protocol() {
        for (first, want) in [
            ("", None),
            ("P", None),
            ("PRI", None),
            ("PRI * HTTP/2.0", Some(Protocol::Http2)),
            ("PA", Some(Protocol::Http1)),
            ("POST /v1/upl", Some(Protocol::Http1)),
            ("PRI * HTTP/1", Some(Protocol::Http1)),
            ("GET", Some(Protocol::Http1)),
            ("\u{16}\u{3}\u{1}", Some(Protocol::Http1)),
        ] {
            assert_eq!(judge(first.as_bytes()), want, "{first:?}");
        }
    }
}
