//! Reads `covers:` out of the comments of a source file. Pure.

use std::fmt;

/// A fault, invariant or control: a letter and a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) letter: char,
    pub(super) number: usize,
}

/// A test, or a file of tests, and one name that it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cited {
    pub(super) test: String,
    pub(super) name: Name,
}

impl Name {
    /// `F12`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let letter = text.chars().next().filter(|c| "FTSI".contains(*c))?;
        let digits = &text[1..];
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        let number = digits.parse().ok().filter(|_| plain && digits.len() < 4)?;
        Some(Self { letter, number })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.letter, self.number)
    }
}

/// What a file cites: each doc comment for the function that follows, the header for the whole file.
pub(super) fn scan(path: &str, text: &str) -> Vec<Cited> {
    let mut all = Vec::new();
    let mut waiting: Vec<Name> = Vec::new();
    for line in text.lines().map(str::trim_start) {
        if let Some(comment) = line.strip_prefix("//!") {
            let cite = |name| Cited {
                test: path.to_owned(),
                name,
            };
            all.extend(names(comment).into_iter().map(cite));
        } else if let Some(comment) = line.strip_prefix("///") {
            waiting.extend(names(comment));
        } else if let Some(function) = function(line) {
            let cite = |name| Cited {
                test: format!("{path}: {function}"),
                name,
            };
            all.extend(waiting.drain(..).map(cite));
        } else if !line.is_empty() && !line.starts_with(['#', '/']) {
            // Something else has this comment, and its name is the file's business.
            let cite = |name| Cited {
                test: path.to_owned(),
                name,
            };
            all.extend(waiting.drain(..).map(cite));
        }
    }
    all
}

/// The name of the function that a line begins.
fn function(line: &str) -> Option<&str> {
    let before = line.find("fn ")?;
    let words = line[..before].split_whitespace();
    let modifiers = ["async", "const", "pub", "pub(crate)", "pub(super)"];
    if !words.into_iter().all(|word| modifiers.contains(&word)) {
        return None;
    }
    let rest = &line[before + 3..];
    rest.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
}

/// `covers: F1–F3, T2` in a comment; what is no name ends the list.
fn names(comment: &str) -> Vec<Name> {
    let Some((_, list)) = comment.split_once("covers: ") else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for part in list.split(',') {
        let part = part.trim().trim_end_matches('.');
        let (from, to) = part.split_once(['–', '-']).unwrap_or((part, part));
        let (Some(from), Some(to)) = (Name::parse(from), Name::parse(to)) else {
            break;
        };
        let letter = from.letter;
        all.extend((from.number..=to.number).map(|number| Name { letter, number }));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let cited = scan("a.rs", text);
        let line = |cited: &Cited| format!("{} {}", cited.test, cited.name);
        cited.iter().map(line).collect()
    }

    #[test]
    fn names_are_read_with_the_test_that_has_them() {
        // The word is put together here, or this file would cite what its examples do.
        let covers = ["cov", "ers:"].concat();
        let cases: [(String, &[&str]); 8] = [
            (
                format!("/// {covers} F1, T2\n#[test]\nfn x() {{}}"),
                &["a.rs: x F1", "a.rs: x T2"],
            ),
            (
                format!("//! Words. {covers} F1–F3"),
                &["a.rs F1", "a.rs F2", "a.rs F3"],
            ),
            (
                format!(
                    "    /// Words. {covers} S18\n    #[tokio::test(flavor = \"x\")]\n    async fn y_z() {{"
                ),
                &["a.rs: y_z S18"],
            ),
            (
                format!("/// {covers} I4.\nfn x() {{}}\nfn y() {{}}"),
                &["a.rs: x I4"],
            ),
            (
                format!("/// {covers} F1, and more\nfn x() {{}}"),
                &["a.rs: x F1"],
            ),
            (format!("/// {covers} F01\nfn x() {{}}"), &[]),
            (format!("// {covers} F1\nfn x() {{}}"), &[]),
            (
                format!("/// {covers} F7\nstruct X;\nfn x() {{}}"),
                &["a.rs F7"],
            ),
        ];
        for (text, want) in cases {
            assert_eq!(found(&text), want, "{text}");
        }
    }
}
