//! Foreign text made fit for status fields and logs. Pure.
//!
//! What a service says may hold presigned URLs, control characters or megabytes: none of it may reach the API server.

use kinora_protocol::MAX_MESSAGE_BYTES;

/// Longest progress step in bytes.
pub const MAX_STEP_BYTES: usize = 64;

/// A message for `Outcome.message`: one line, no secrets of URLs, at most [`MAX_MESSAGE_BYTES`].
#[must_use]
pub fn message(raw: &str) -> String {
    clean(raw, MAX_MESSAGE_BYTES)
}

/// A progress step: as [`message`], at most [`MAX_STEP_BYTES`].
#[must_use]
pub fn step(raw: &str) -> String {
    clean(raw, MAX_STEP_BYTES)
}

fn clean(raw: &str, max_bytes: usize) -> String {
    // Words are cut before the length is, or half a signature could survive; the bound before both keeps the work bounded.
    let bounded = truncate(raw, max_bytes * 8);
    let mut out = String::with_capacity(bounded.len().min(max_bytes));
    for word in bounded.split(|c: char| c.is_whitespace() || c.is_control()) {
        if word.is_empty() {
            continue;
        }
        if !out.is_empty() {
            out.push(' ');
        }
        push_without_query(&mut out, word);
        if out.len() > max_bytes {
            break;
        }
    }
    truncate(&out, max_bytes).to_owned()
}

/// A URL loses everything from its `?` on: the query of a presigned URL is a credential.
fn push_without_query(out: &mut String, word: &str) {
    let lower = word.to_ascii_lowercase();
    let secret = ["x-amz-", "signature="]
        .iter()
        .filter_map(|mark| lower.find(mark))
        .min();
    let query = word
        .find('?')
        .filter(|_| word.contains("://") || secret.is_some());
    match query.into_iter().chain(secret).min() {
        Some(cut) => {
            out.push_str(word.get(..cut).unwrap_or_default());
            out.push('…');
        }
        None => out.push_str(word),
    }
}

/// The longest prefix of at most `max_bytes` that ends at a character boundary.
fn truncate(text: &str, max_bytes: usize) -> &str {
    let mut end = text.len().min(max_bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::plain_text_stays("moov atom not found", "moov atom not found")]
    #[case::control_characters_and_line_breaks_become_blanks(
        "a\u{0}b\r\n\tc\u{1b}[1m",
        "a b c [1m"
    )]
    #[case::a_url_loses_its_query(
        "GET http://s/v/1?X-Amz-Signature=abc failed",
        "GET http://s/v/1… failed"
    )]
    #[case::a_quoted_url_loses_its_query("bad 'https://s/k?sig=1'", "bad 'https://s/k…")]
    #[case::a_bare_query_of_a_presigned_url_goes(
        "path /k?a=1&X-Amz-Credential=z end",
        "path /k… end"
    )]
    #[case::an_encoded_url_is_cut_at_its_signature(
        "https%3A%2F%2Fs%3FX-Amz-Signature%3Dabc",
        "https%3A%2F%2Fs%3F…"
    )]
    #[case::a_question_is_no_url("really? yes", "really? yes")]
    fn messages(#[case] raw: &str, #[case] want: &str) {
        assert_eq!(message(raw), want);
    }

    #[test]
    fn a_long_message_is_cut_at_a_character_boundary() {
        let cut = message(&"é".repeat(5000));
        assert_eq!(cut.len(), MAX_MESSAGE_BYTES);
        let odd = message(&format!("x{}", "é".repeat(5000)));
        assert_eq!(odd.len(), MAX_MESSAGE_BYTES - 1);
    }

    #[test]
    fn a_signature_at_the_length_limit_does_not_survive_in_part() {
        let raw = format!("{} http://s/k?X-Amz-Signature=secret", "a".repeat(1000));
        assert!(!message(&raw).contains("X-Amz"));
    }
}
