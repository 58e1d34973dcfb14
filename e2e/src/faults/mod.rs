//! `cargo xtask faults`: which tests cover which fault, invariant and control. The names are in `names.txt`; a test says
//! in its doc comment, or a file of tests in its header, `covers: F12, T3`, and this reads it from there.

mod scan;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use crate::tools::repository_root;
use scan::{Cited, Name, scan};

const NAMES: &str = include_str!("names.txt");
/// Not ours to read, or not written by hand.
const SKIPPED: [&str; 4] = ["target", ".git", "node_modules", "manifests"];

/// What to print.
#[derive(Clone, Copy, Debug, Args)]
pub struct Options {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Print only what no test covers.
    #[arg(long)]
    missing: bool,
}

/// One name and the tests that cover it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Row {
    name: String,
    title: &'static str,
    tests: Vec<String>,
}

/// Prints the table.
///
/// # Errors
/// A file cannot be read, or a test covers a name that does not exist.
pub fn run(options: Options) -> Result<ExitCode> {
    let known = known()?;
    let cited = tree(repository_root())?;
    let unknown: Vec<String> = cited
        .iter()
        .filter(|cited| !known.contains_key(&cited.name))
        .map(|cited| format!("{} covers {}", cited.test, cited.name))
        .collect();
    if !unknown.is_empty() {
        bail!("there are no such names:\n  {}", unknown.join("\n  "));
    }
    let mut rows = table(&known, &cited);
    let covered = rows.iter().filter(|row| !row.tests.is_empty()).count();
    let all = rows.len();
    rows.retain(|row| !options.missing || row.tests.is_empty());
    let text = if options.json {
        let object = serde_json::json!({"names": all, "covered": covered, "rows": rows});
        serde_json::to_string_pretty(&object)?
    } else {
        rows.iter().map(shown).collect::<String>()
            + &format!("{covered} of {all} names are covered")
    };
    use std::io::Write as _;
    // That nobody reads on (`| head`) is no error.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(ExitCode::SUCCESS)
}

fn shown(row: &Row) -> String {
    let tests = row.tests.iter().map(|test| format!("       {test}\n"));
    let tests: String = tests.collect();
    let none = if tests.is_empty() { "  (no test)" } else { "" };
    format!("{:<4} {}{none}\n{tests}", row.name, row.title)
}

fn known() -> Result<BTreeMap<Name, &'static str>> {
    let line = |line: &'static str| {
        let (name, title) = line.split_once(' ').context("a name and a title")?;
        let name = Name::parse(name).with_context(|| format!("{name} is no name"))?;
        Ok((name, title))
    };
    NAMES.lines().map(line).collect()
}

fn table(known: &BTreeMap<Name, &'static str>, cited: &[Cited]) -> Vec<Row> {
    let row = |(name, title): (&Name, &&'static str)| {
        let covering = cited.iter().filter(|cited| cited.name == *name);
        let mut tests: Vec<String> = covering.map(|cited| cited.test.clone()).collect();
        tests.sort();
        tests.dedup();
        Row {
            name: name.to_string(),
            title,
            tests,
        }
    };
    known.iter().map(row).collect()
}

/// What the Rust files below a folder cite.
fn tree(root: &Path) -> Result<Vec<Cited>> {
    let (mut folders, mut cited) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder);
        for entry in entries.with_context(|| format!("list {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.unwrap_or_default();
            if path.is_dir() && !SKIPPED.contains(&name) {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("read {}", path.display()))?;
                let shown = path.strip_prefix(root).unwrap_or(&path);
                cited.extend(scan(&shown.display().to_string(), &text));
            }
        }
    }
    Ok(cited)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is cited in this very tree exists, so the command never fails on what was landed.
    #[test]
    fn every_name_that_a_test_covers_exists_and_has_one_title() {
        let known = known().unwrap();
        assert_eq!(known.len(), NAMES.lines().count(), "a name is there twice");
        for (letter, most) in [('F', 61), ('T', 27), ('S', 20), ('I', 11)] {
            let of = |name: &&Name| name.letter == letter;
            assert_eq!(known.keys().filter(of).count(), most, "{letter}");
            assert!(
                known
                    .keys()
                    .filter(of)
                    .all(|name| (1..=most).contains(&name.number))
            );
        }
        let cited = tree(repository_root()).unwrap();
        assert!(cited.len() > 200, "the tree is read");
        for cited in cited {
            assert!(
                known.contains_key(&cited.name),
                "{} covers {}",
                cited.test,
                cited.name
            );
        }
    }

    #[test]
    fn rows_name_their_tests_once_and_say_when_there_are_none() {
        let known = BTreeMap::from([
            (Name::parse("F1").unwrap(), "one"),
            (Name::parse("F2").unwrap(), "two"),
        ]);
        let source = "/// covers: F1\n#[test]\nfn a() {}\n/// covers: F1, F1\nfn b() {}\n";
        let rows = table(&known, &scan("x.rs", source));
        assert_eq!(rows[0].tests, ["x.rs: a", "x.rs: b"]);
        assert_eq!(shown(&rows[1]), "F2   two  (no test)\n");
    }
}
