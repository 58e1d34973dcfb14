//! Reads what ffmpeg prints. Pure: text in, facts out (there is no ffprobe to ask for JSON).

/// Seconds of the `Duration: hh:mm:ss.cc` line, if ffmpeg knows it.
#[must_use]
pub fn duration(stderr: &str) -> Option<f64> {
    let rest = stderr.split("Duration: ").nth(1)?;
    let mut parts = rest.split([',', ' ', '\n']).next()?.splitn(3, ':');
    let hours: f64 = parts.next()?.parse().ok()?;
    let minutes: f64 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next()?.parse().ok()?;
    Some(hours * 3600.0 + minutes * 60.0 + seconds)
}

/// 0 to 99 of a line of `-progress`; `None` for other lines and for sources of unknown length.
#[must_use]
pub fn percent(line: &str, duration_seconds: Option<f64>) -> Option<u32> {
    let micros: f64 = line.strip_prefix("out_time_us=")?.trim().parse().ok()?;
    let total = duration_seconds.filter(|d| *d > 0.0)?;
    let share = (micros / 1_000_000.0 / total * 100.0).clamp(0.0, 99.0);
    // In 0..=99, so nothing is cut off.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Some(share as u32)
}

/// ffmpeg's last line that says something, without paths of ours.
#[must_use]
pub fn last_words(stderr: &str) -> String {
    let line = stderr
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("Error opening input file"))
        .unwrap_or("ffmpeg said nothing");
    // "[in#0 @ 0x55e56d671e80] Error …" begins with an address that differs each time.
    let text = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] "))
        .map_or(line, |(_, text)| text);
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rstest::rstest]
    #[case::ten_seconds(
        "  Duration: 00:00:10.00, start: 0.000000, bitrate: 407 kb/s",
        Some(10.0)
    )]
    #[case::more_than_an_hour("Duration: 01:02:03.50, start", Some(3723.5))]
    #[case::unknown("  Duration: N/A, bitrate: N/A", None)]
    #[case::none("At least one output file must be specified", None)]
    fn durations(#[case] stderr: &str, #[case] want: Option<f64>) {
        assert_eq!(duration(stderr), want);
    }

    #[rstest::rstest]
    #[case::half("out_time_us=5000000", Some(10.0), Some(50))]
    #[case::never_a_hundred_before_the_end("out_time_us=99000000", Some(10.0), Some(99))]
    #[case::before_the_first_frame("out_time_us=N/A", Some(10.0), None)]
    #[case::negative("out_time_us=-20", Some(10.0), Some(0))]
    #[case::unknown_length("out_time_us=5000000", None, None)]
    #[case::another_line("frame=12", Some(10.0), None)]
    fn percents(#[case] line: &str, #[case] total: Option<f64>, #[case] want: Option<u32>) {
        assert_eq!(percent(line, total), want);
    }

    #[test]
    fn the_last_words_are_the_last_line_that_names_no_file() {
        let stderr = "[in#0 @ 0x5] moov atom not found\n[in#0 @ 0x5] Error opening input: Invalid data found\nError opening input file /tmp/a/source.\n\n";
        assert_eq!(
            last_words(stderr),
            "Error opening input: Invalid data found"
        );
    }
}
