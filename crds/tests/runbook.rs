//! Whoever is woken by an alert, or reads a reason, finds it in the runbook; alerts look at documented metrics only,
//! and kubectl knows what the documentation asks it for.

// Helpers of a test crate do not count as tests for clippy.toml.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use kinora_crds::conditions::reason;
use kinora_crds::events::EventReason;
use serde_json::Value;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read_to_string(root.join(path)).unwrap()
}

/// First cells of the rows of the table with this head.
fn entries(markdown: &str, head: &str) -> BTreeSet<String> {
    let table = markdown
        .lines()
        .skip_while(|line| !line.starts_with(&format!("| {head} |")));
    let rows = table.skip(2).take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| Some(row.split('`').nth(1)?.to_owned()))
        .collect()
}

/// Every rule of the alerts: its name, and the rule.
fn rules() -> Vec<(String, Value)> {
    let file: Value = serde_yaml::from_str(&read("charts/kinora/files/alerts.yaml")).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    rules
        .map(|rule| {
            let name = rule.get("alert").or(rule.get("record")).unwrap();
            (name.as_str().unwrap().to_owned(), rule.clone())
        })
        .collect()
}

/// Names of metrics as the tables have them, with the series that histograms are made of.
fn documented() -> BTreeSet<String> {
    let text = read("docs/metrics.md");
    let mut all = BTreeSet::new();
    for row in text.lines().filter(|line| line.starts_with("| `kinora_")) {
        let name = row.split('`').nth(1).unwrap();
        if row.contains("| histogram |") {
            all.extend(["_bucket", "_sum", "_count"].map(|ending| format!("{name}{ending}")));
        } else {
            all.insert(name.to_owned());
        }
    }
    all
}

/// Every word of an expression that is a metric's.
fn metrics(expression: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = expression.split(|c| !is_part(c));
    words
        .filter(|word| word.starts_with("kinora"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_reason_of_a_condition_and_of_an_event_has_an_entry_in_the_runbook() {
    let runbook = read("docs/runbook.md");
    let mut reasons = entries(&runbook, "reason of a job");
    reasons.extend(entries(&runbook, "reason of a pool"));
    let want: BTreeSet<String> = reason::ALL.iter().map(|word| (*word).to_owned()).collect();
    assert_eq!(reasons, want, "docs/runbook.md against conditions::reason");
    let want: BTreeSet<String> = EventReason::ALL
        .iter()
        .map(|reason| reason.word().to_owned())
        .collect();
    assert_eq!(
        entries(&runbook, "event"),
        want,
        "docs/runbook.md against events::EventReason"
    );
}

#[test]
fn every_alert_has_its_heading_in_the_runbook_and_no_heading_is_of_none() {
    let runbook = read("docs/runbook.md");
    let section = runbook.lines().skip_while(|line| *line != "## Alerts");
    let section = section.skip(1).take_while(|line| !line.starts_with("## "));
    let headings: BTreeSet<String> = section
        .filter_map(|line| line.strip_prefix("### ").map(str::to_owned))
        .collect();
    let alerts: Vec<(String, Value)> = rules()
        .into_iter()
        .filter(|(_, rule)| rule.get("alert").is_some())
        .collect();
    let names: BTreeSet<String> = alerts.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, headings);
    assert_eq!(names.len(), alerts.len(), "a name is there twice");
    for (name, rule) in alerts {
        let notes = &rule["annotations"];
        let link = format!("docs/runbook.md#{}", name.to_lowercase());
        assert_eq!(notes["runbook_url"], link, "{name}");
        for word in ["summary", "description"] {
            assert!(!notes[word].as_str().unwrap().is_empty(), "{name}: {word}");
        }
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert!(["warning", "critical"].contains(&severity), "{name}");
        assert!(rule["for"].is_string(), "{name}");
    }
}

#[test]
fn rules_look_at_documented_metrics_only_and_their_brackets_match() {
    let documented = documented();
    for (name, rule) in rules() {
        let expression = rule["expr"].as_str().unwrap();
        let used = metrics(expression);
        assert!(!used.is_empty(), "{name}: {expression}");
        let unknown: Vec<_> = used.difference(&documented).collect();
        assert!(unknown.is_empty(), "{name}: {unknown:?} is not documented");
        for (open, close) in [('(', ')'), ('[', ']'), ('{', '}')] {
            let count = |bracket| expression.matches(bracket).count();
            assert_eq!(count(open), count(close), "{name}: {expression}");
        }
    }
}

fn minutes(duration: &str) -> u32 {
    duration.strip_suffix('m').unwrap().parse().unwrap()
}

#[test]
fn an_alert_over_what_comes_and_goes_bears_its_gaps_and_is_not_raised_by_one_moment() {
    let rules = rules();
    for (name, gauge) in [
        ("KinoraAdmissionClosed", "kinora_admission_closed"),
        (
            "KinoraServiceMisconfigured",
            "kinora_pool_breaker{state=\"refused\"}",
        ),
    ] {
        let (_, rule) = rules.iter().find(|(other, _)| other == name).unwrap();
        let expression = rule["expr"].as_str().unwrap();
        let begin = format!("max_over_time({gauge}[");
        let (_, rest) = expression.split_once(&begin).expect(name);
        let window = minutes(rest.split(']').next().unwrap());
        assert!(window < minutes(rule["for"].as_str().unwrap()), "{name}");
    }
}

/// What `increase` is asked of in an expression: selectors with their windows.
fn increases(expression: &str) -> Vec<(&str, &str)> {
    let calls = expression.split("increase(").skip(1);
    calls
        .map(|call| call.split(']').next().unwrap().rsplit_once('[').unwrap())
        .collect()
}

#[test]
fn an_alert_that_one_event_raises_sees_it_in_a_counter_that_begins_above_zero() {
    let at_once = |rule: &Value| rule["for"] == "0m";
    let mut seen = 0;
    for (name, rule) in rules().iter().filter(|(_, rule)| at_once(rule)) {
        let expression = rule["expr"].as_str().unwrap();
        for (counter, window) in increases(expression) {
            // A whole window before: one scrape that failed is no hole then.
            let before = format!("last_over_time({counter}[{window}] offset {window})");
            let young = format!("sum({counter} unless {before}) > 0");
            assert!(expression.contains(&young), "{name}: {young}");
            seen += 1;
        }
    }
    assert!(seen > 0);
}

fn alert(name: &str) -> String {
    let rules = rules();
    let (_, rule) = rules.iter().find(|(other, _)| other == name).unwrap();
    rule["expr"].as_str().unwrap().to_owned()
}

#[test]
fn no_workers_are_wanted_while_the_service_is_away_or_left_alone() {
    let away = "unless on (namespace, pool) max by (namespace, pool) \
                (kinora_pool_breaker{state=~\"open|refused\"}) > 0 \
                unless on (namespace, pool) max by (namespace, pool) (kinora_pool_paused) > 0";
    let expression = alert("KinoraNoWorkers");
    assert!(expression.ends_with(away), "{expression}");
}

#[test]
fn a_late_audit_is_told_only_where_the_counter_is_older_than_the_window() {
    let expression = alert("KinoraAuditLate");
    let asked = increases(&expression);
    let [(counter, window)] = asked[..] else {
        panic!("{expression}");
    };
    let seen = format!("and sum(last_over_time({counter}[1h] offset {window})) >= 0");
    assert!(expression.ends_with(&seen), "{expression}");
}

/// Kubernetes' own kinds that the documentation looks at.
const KUBERNETES: [&str; 4] = ["crd", "lease", "pods", "secret"];

/// What kubectl is told to look at or to change, by one line: `pods` and `lease` of `get pods,lease`.
fn resources(line: &str) -> Vec<&str> {
    const VERBS: [&str; 5] = ["get", "describe", "patch", "explain", "delete"];
    let commands = line.split("kubectl ").skip(1);
    let commands = commands.map(|command| command.split('`').next().unwrap());
    let words = commands.filter_map(|command| {
        let mut words = command.split_whitespace().peekable();
        if words.next_if_eq(&"-n").is_some() {
            words.next();
        }
        words.next().filter(|verb| VERBS.contains(verb))?;
        words.next().filter(|word| !word.starts_with('-'))
    });
    words
        .flat_map(|word| word.split(','))
        .map(|word| word.split(['.', '/']).next().unwrap())
        .collect()
}

#[test]
fn kubectl_knows_every_resource_that_the_documentation_names() {
    let mut known: BTreeSet<String> = KUBERNETES.map(str::to_owned).into();
    for definition in kinora_crds::definitions().unwrap() {
        let names = definition.crd().unwrap().spec.names;
        known.extend([names.plural]);
        known.extend(names.singular);
        known.extend(names.short_names.into_iter().flatten());
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let files = std::fs::read_dir(folder).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let pages = names.filter(|name| name.ends_with(".md"));
    let mut seen = BTreeSet::new();
    for page in pages
        .map(|name| format!("docs/{name}"))
        .chain(["README.md".to_owned()])
    {
        for word in read(&page).lines().flat_map(resources) {
            assert!(known.contains(word), "{page}: kubectl knows no {word:?}");
            seen.insert(word.to_owned());
        }
    }
    for word in ["vpools", "vpool", "videojobs", "pods", "secret"] {
        assert!(seen.contains(word), "{word} of {seen:?}");
    }
}
