//! What `/metrics` of a component tells, as rows of a table for people: its documentation is compared with that, and rules
//! over metrics with the documentation.

use std::collections::{BTreeMap, BTreeSet};

/// One row for each metric of an OpenMetrics text, sorted by name: `` | `name` | type | `labels` | meaning | ``.
#[must_use]
pub fn rows(text: &str) -> Vec<String> {
    let mut help = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((name, rest)) = line.strip_prefix("# HELP ").and_then(|l| l.split_once(' ')) {
            help.insert(name, rest.trim_end_matches('.'));
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' '))
        {
            kinds.insert(name, kind);
        } else if let Some((series, rest)) = line.split_once('{') {
            let name = ["_total", "_bucket", "_sum", "_count"]
                .iter()
                .find_map(|ending| series.strip_suffix(ending))
                .unwrap_or(series);
            let pairs = rest.split('}').next().unwrap_or_default().split(',');
            let names = pairs.filter_map(|pair| Some(pair.split_once('=')?.0));
            let names = names.filter(|name| *name != "le");
            labels.entry(name).or_default().extend(names);
        }
    }
    let row = |(name, kind): (&&str, &&str)| {
        let ending = if *kind == "counter" { "_total" } else { "" };
        let labels = labels.get(name).into_iter().flatten();
        let labels: Vec<String> = labels.map(|label| format!("`{label}`")).collect();
        let meaning = help.get(name).copied().unwrap_or_default();
        format!(
            "| `{name}{ending}` | {kind} | {} | {meaning} |",
            labels.join(", ")
        )
    };
    kinds.iter().map(row).collect()
}

/// The row of a label: its values, or where they come from.
#[must_use]
pub fn values(label: &str, words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    format!("| {label} | {} |", words.join(", "))
}

/// The rows of all tables, heads left out, in the section of a Markdown text that begins with this heading.
#[must_use]
pub fn documented<'a>(markdown: &'a str, heading: &str) -> Vec<&'a str> {
    let depth = heading.chars().take_while(|c| *c == '#').count();
    let ends = |line: &&str| {
        let marks = line.chars().take_while(|c| *c == '#').count();
        marks == 0 || marks > depth
    };
    let section = markdown.lines().skip_while(|line| *line != heading).skip(1);
    section
        .take_while(ends)
        .filter(|line| line.starts_with("| `"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a_jobs Jobs that ended.\n# TYPE a_jobs counter\na_jobs_total{state=\"done\"} 1\n\
        # HELP a_age Age.\n# TYPE a_age gauge\na_age 3\n\
        # HELP a_call Calls.\n# TYPE a_call histogram\na_call_bucket{le=\"1\",on=\"x\"} 0\n# EOF\n";

    #[test]
    fn a_row_has_name_kind_labels_and_meaning() {
        let want = [
            "| `a_age` | gauge |  | Age |",
            "| `a_call` | histogram | `on` | Calls |",
            "| `a_jobs_total` | counter | `state` | Jobs that ended |",
        ];
        assert_eq!(rows(TEXT), want);
    }

    #[test]
    fn the_rows_of_a_section_are_those_down_to_the_next_heading_of_its_kind() {
        let text = "# M\n\n| `no` |\n## One\n| metric |\n|---|\n| `a` |\n### Labels\n| `b` | `x` |\n## Two\n| `c` |\n";
        assert_eq!(documented(text, "## One"), ["| `a` |", "| `b` | `x` |"]);
        assert_eq!(documented(text, "## Two"), ["| `c` |"]);
        assert!(documented(text, "## Three").is_empty());
        assert_eq!(values("`b`", &["x", "y"]), "| `b` | `x`, `y` |");
    }
}
