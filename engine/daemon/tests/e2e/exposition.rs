//! A strict reader of Prometheus' text form, version 0.0.4: what it does not allow is a failed test.

use std::collections::BTreeMap;

/// One series: its labels, in the order of the page, and its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) value: f64,
}

/// A metric.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) series: Vec<Series>,
}

/// Reads a page. The series of a histogram are under its own name, with what they are (`bucket`, `sum`, `count`) as
/// the label `part`.
#[track_caller]
pub(crate) fn read(page: &str) -> BTreeMap<String, Family> {
    assert!(page.ends_with('\n'), "the last line is not ended");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut seen = std::collections::BTreeSet::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap_or_else(|| panic!("no text: {line}"));
            assert!(!text.is_empty() && is_name(name), "{line}");
            assert!(!families.contains_key(name), "{name} comes twice");
            families.insert(name.to_owned(), Family::default());
            name.clone_into(&mut current);
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap_or_else(|| panic!("no type: {line}"));
            assert_eq!(name, current, "a type for another metric than the one explained: {line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            families.get_mut(name).expect("it is explained").kind = kind.to_owned();
        } else {
            let (name, mut series) = series(line);
            let family = families.get_mut(&current).unwrap_or_else(|| panic!("not explained: {line}"));
            assert!(!family.kind.is_empty(), "no type before {line}");
            if name != current {
                let part = name.strip_prefix(&format!("{current}_")).filter(|_| family.kind == "histogram");
                let part = part.unwrap_or_else(|| panic!("{line} stands below {current}"));
                assert!(["bucket", "sum", "count"].contains(&part), "{line}");
                series.labels.push(("part".into(), part.into()));
            }
            let mut labels = series.labels.clone();
            labels.sort();
            assert!(seen.insert((name, labels)), "{line} comes twice");
            family.series.push(series);
        }
    }
    families
}

impl Series {
    /// The value of a label.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

/// `name{label="value",…} value`
#[track_caller]
fn series(line: &str) -> (String, Series) {
    let (head, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
    let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
    let Some((name, rest)) = head.split_once('{') else {
        assert!(is_name(head), "{line}");
        return (head.to_owned(), Series { labels: Vec::new(), value });
    };
    assert!(is_name(name), "{line}");
    let mut rest = rest.strip_suffix('}').unwrap_or_else(|| panic!("labels without an end: {line}"));
    let mut labels = Vec::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label: {line}"));
        assert!(is_name(label) && !label.contains(':'), "{line}");
        // None of the values here needs an escape; one that has it shows as a wrong end.
        let (value, after) = quoted.split_once('"').unwrap_or_else(|| panic!("no end of a value: {line}"));
        assert!(!value.contains('\\'), "{line}");
        labels.push((label.to_owned(), value.to_owned()));
        rest = match after.strip_prefix(',') {
            Some(more) => more,
            None if after.is_empty() => after,
            None => panic!("something after a label: {line}"),
        };
    }
    (name.to_owned(), Series { labels, value })
}

fn is_name(text: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    text.starts_with(is_letter) && text.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}
