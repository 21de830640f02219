//! What the configuration means for what survives: whether copies lie on disks of their own, whether sources overlap, what is
//! left out. Pure: the configuration and names of disks in, findings out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use backstay_core::config::{Config, Source, SourceKind};

use super::disks::Disks;
use super::finding::Finding;
use super::words::{Words, counted};

/// The subject of what is not of one source.
pub const SUBJECT: &str = "configuration";

/// Disks of paths that could be looked at.
pub type Lying = BTreeMap<PathBuf, Disks>;

/// Judges the configuration as a whole; `warnings` are those of `check-config`, `lying` says what lies on which disk.
pub fn judge(config: &Config, warnings: Vec<String>, lying: &Lying, words: &Words) -> Vec<Finding> {
    let own = config.sources_at_home_on(&config.node.name).count();
    let what = format!(
        "{} is read: {}, {}, {own} of them at home on {}",
        words.config.display(),
        counted(config.vaults.len(), "vault"),
        counted(config.sources.len(), "source"),
        config.node.name
    );
    let mut findings = vec![Finding::ok(SUBJECT, "read", what)];
    if own == 0 {
        findings.push(
            Finding::warning(SUBJECT, "sources", format!("no source is at home on {}", config.node.name))
                .because("this node captures nothing")
                .set(
                    words.fleet_file.display().to_string(),
                    format!(
                        "[service.NAME]\nprimary = \"{}\"\nfiles = {{ path = \"/srv/NAME\" }}",
                        config.node.name
                    ),
                ),
        );
    }
    findings.extend(warnings.into_iter().map(|warning| {
        Finding::warning(SUBJECT, "acted_on", warning)
            .because("it is read, and has no effect in this version")
    }));
    findings.extend(same_vaults(config, words));
    for source in config.sources_at_home_on(&config.node.name) {
        findings.extend(copies(source, config, lying, words));
        findings.extend(left_out(source, config));
    }
    findings.extend(overlaps(config));
    findings
}

fn directory_of<'c>(config: &'c Config, vault: &str) -> Option<&'c Path> {
    let vault = config.vaults.values().find(|known| known.name.as_str() == vault)?;
    vault.kind.directory()
}

/// Two vaults in one directory would count one copy as two.
fn same_vaults(config: &Config, words: &Words) -> Vec<Finding> {
    let names: Vec<&str> = config.vaults.keys().map(|name| name.as_str()).collect();
    let mut findings = Vec::new();
    for (place, name) in names.iter().enumerate() {
        for other in &names[..place] {
            let (Some(path), Some(before)) = (directory_of(config, name), directory_of(config, other)) else {
                continue;
            };
            if path.starts_with(before) || before.starts_with(path) {
                let what = match path == before {
                    true => format!("vaults {other} and {name} have one directory, {}", path.display()),
                    false => format!(
                        "vaults {other} and {name} lie in one another: {}, {}",
                        before.display(),
                        path.display()
                    ),
                };
                findings.push(
                    Finding::problem(SUBJECT, "vaults", what)
                        .because("one copy would be counted as two, and one vault takes objects of the other for strange files")
                        .set(format!("{}, in [vault.{name}]", words.fleet_file.display()), "path = \"/ANOTHER/DISK/VAULT\""),
                );
            }
        }
    }
    findings
}

/// Whether the copies of a source survive what it does not.
fn copies(source: &Source, config: &Config, lying: &Lying, words: &Words) -> Vec<Finding> {
    let subject = format!("source {}", source.name);
    let targets: Vec<&str> = source.flows.iter().filter_map(|flow| flow.target.vault()).collect();
    let root = match &source.kind {
        SourceKind::Files(files) => lying.get(&files.path),
        _ => None,
    };
    let disks = |vault: &str| lying.get(directory_of(config, vault)?);
    let shares = |vault: &&str| root.zip(disks(vault)).is_some_and(|(root, vault)| !root.is_disjoint(vault));
    let beside: Vec<&str> = targets.iter().copied().filter(shares).collect();
    let mut findings = Vec::new();
    if !beside.is_empty() && beside.len() == targets.len() {
        let what = format!(
            "its only copies, in {}, lie on the same disk as it does ({})",
            beside.join(" and "),
            named(root)
        );
        let finding = Finding::warning(&subject, "disks", what).because(
            "a disk that dies takes the source and its points; a mistake or a deleted file is all that they are good for",
        );
        return vec![finding.set(words.fleet_file.display().to_string(), another_vault(config, &targets))];
    }
    if !beside.is_empty() {
        let what =
            format!("vault {} lies on the same disk as the source ({})", beside.join(" and "), named(root));
        let why = "it does not survive that disk; the other vaults of the source do";
        findings.push(Finding::note(&subject, "disks", what).because(why));
    }
    let all: Vec<&Disks> = targets.iter().filter_map(|vault| disks(vault)).collect();
    let common = all
        .iter()
        .skip(1)
        .fold(all.first().map(|first| (*first).clone()).unwrap_or_default(), |common, disks| &common & disks);
    if let [only] = targets[..] {
        findings.push(
            Finding::note(&subject, "copies", format!("it goes to one vault alone, {only}"))
                .because("when that one is lost, so are all points. A second vault on a disk elsewhere survives it")
                .set(words.fleet_file.display().to_string(), another_vault(config, &targets)),
        );
    } else if targets.len() > 1 && all.len() == targets.len() && !common.is_empty() {
        let what = format!("vaults {} lie on one disk ({})", targets.join(" and "), named(Some(&common)));
        findings.push(
            Finding::warning(&subject, "disks", what)
                .because("one disk that dies takes all of its points")
                .set(
                    format!("{}, in [vault.{}]", words.fleet_file.display(), targets[targets.len() - 1]),
                    "path = \"/ANOTHER/DISK/VAULT\"",
                ),
        );
    } else if beside.is_empty()
        && all.len() == targets.len()
        && (root.is_some() || !matches!(source.kind, SourceKind::Files(_)))
    {
        let places: Vec<String> =
            targets.iter().map(|vault| format!("{vault} ({})", named(disks(vault)))).collect();
        findings.push(Finding::ok(&subject, "copies", format!("it goes to {}", places.join(" and "))));
    }
    findings
}

fn named(disks: Option<&Disks>) -> String {
    let names: Vec<&str> = disks.into_iter().flatten().map(String::as_str).collect();
    names.join(", ")
}

/// Lines of a further vault. Where the targets are named, nobody but the operator knows: that is a comment, so that what is
/// pasted is valid wherever it goes.
fn another_vault(config: &Config, targets: &[&str]) -> String {
    let is_free = |name: &&str| config.vaults.keys().all(|known| known.as_str() != *name);
    let name = ["usb", "nas", "second", "third", "another"].into_iter().find(is_free).unwrap_or("one-more");
    let to: Vec<String> = targets.iter().chain([&name]).map(|name| format!("\"{name}\"")).collect();
    format!(
        "[vault.{name}]\nkind = \"dir\"\npath = \"/mnt/{name}/backstay-vault\"\n# and in [policy.default], or where the source has its `to`: to = [{}]",
        to.join(", ")
    )
}

/// What of Backstay's own lies in a source.
fn left_out(source: &Source, config: &Config) -> Option<Finding> {
    let SourceKind::Files(files) = &source.kind else { return None };
    let vaults = config.vaults.values();
    let vaults = vaults.filter_map(|vault| Some((format!("vault {}", vault.name), vault.kind.directory()?)));
    let own = [
        ("state".to_owned(), config.node.state.as_path()),
        ("scratch".to_owned(), config.node.scratch.as_path()),
    ];
    let inside: Vec<String> = vaults
        .chain(own)
        .filter(|(_, path)| path.starts_with(&files.path))
        .map(|(what, path)| format!("{what} ({})", path.display()))
        .collect();
    (!inside.is_empty()).then(|| {
        Finding::note(
            &format!("source {}", source.name),
            "left_out",
            format!("{} in its tree are left out", inside.join(", ")),
        )
        .because("Backstay does not protect what it makes itself; the recovery key does")
    })
}

/// Trees in one another are read twice.
fn overlaps(config: &Config) -> Vec<Finding> {
    let trees: Vec<(&str, &Path)> = config
        .sources_at_home_on(&config.node.name)
        .filter_map(|source| match &source.kind {
            SourceKind::Files(files) => Some((source.name.as_str(), files.path.as_path())),
            _ => None,
        })
        .collect();
    let mut findings = Vec::new();
    for (place, (name, path)) in trees.iter().enumerate() {
        for (other, before) in &trees[..place] {
            if path.starts_with(before) || before.starts_with(path) {
                let (inner, outer) = if path.starts_with(before) { (name, other) } else { (other, name) };
                let what = format!("{inner} lies within {outer}");
                findings.push(
                    Finding::note(SUBJECT, "overlap", what)
                        .because("what both have is read twice, stored once, and comes back from either; `exclude` of the outer one leaves it out there"),
                );
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use backstay_core::config::{ConfigTexts, SourceText};

    use super::super::finding::Level;
    use super::*;

    /// Findings on vaults `a` and `b` and a source in `/srv/s`, that are not good.
    fn bad(a: &str, b: &str, rest: &str, devices: &[(&str, u64)]) -> Vec<(&'static str, Level)> {
        let text = format!(
            "[fleet]\nname = \"f\"\n[node]\nname = \"n\"\nstate = \"/var/lib/backstay\"\n\
             [vault.a]\nkind = \"dir\"\npath = \"{a}\"\n[vault.b]\nkind = \"dir\"\npath = \"{b}\"\n{rest}"
        );
        let config = Config::parse(ConfigTexts::Single(SourceText { name: "t", text: &text }));
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        let lying = devices
            .iter()
            .map(|(path, device)| (path.into(), Disks::from([format!("sd{device}")])))
            .collect();
        let found = judge(&config, Vec::new(), &lying, &Words::of_tests(0));
        found
            .into_iter()
            .filter(|finding| finding.level != Level::Ok)
            .map(|found| (found.check, found.level))
            .collect()
    }

    fn source(to: &str) -> String {
        format!("[service.s]\nto = {to}\nfiles = {{ path = \"/srv/s\" }}\n")
    }

    #[test]
    fn copies_are_judged_by_the_disks_that_they_lie_on() {
        let both = source("[\"a\", \"b\"]");
        let on = |s, a, b| bad("/a", "/b", &both, &[("/srv/s", s), ("/a", a), ("/b", b)]);
        assert_eq!(on(1, 2, 3), []);
        assert_eq!(on(1, 1, 3), [("disks", Level::Note)]);
        assert_eq!(on(1, 1, 1), [("disks", Level::Warning)]);
        assert_eq!(on(1, 2, 2), [("disks", Level::Warning)]);
        let one = source("[\"a\"]");
        assert_eq!(bad("/a", "/b", &one, &[("/srv/s", 1), ("/a", 2)]), [("copies", Level::Note)]);
        assert_eq!(bad("/a", "/b", &one, &[("/srv/s", 1), ("/a", 1)]), [("disks", Level::Warning)]);
        // What cannot be looked at is not guessed at.
        assert_eq!(bad("/a", "/b", &both, &[]), []);
    }

    #[test]
    fn vaults_in_one_another_and_trees_in_one_another_are_told() {
        let both = source("[\"a\", \"b\"]");
        assert_eq!(bad("/a", "/a", &both, &[]), [("vaults", Level::Problem)]);
        assert_eq!(bad("/a", "/a/b", &both, &[]), [("vaults", Level::Problem)]);
        let inner = format!("{both}[service.t]\nto = [\"a\", \"b\"]\nfiles = {{ path = \"/srv/s/t\" }}\n");
        assert_eq!(bad("/a", "/b", &inner, &[]), [("overlap", Level::Note)]);
        assert_eq!(bad("/srv/s/vault", "/b", &both, &[]), [("left_out", Level::Note)]);
    }
}
