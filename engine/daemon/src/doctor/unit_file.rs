//! The files of the systemd unit, read as systemd reads them: continued lines, drop-ins in their order, lists that an empty
//! value empties, quoted words, capabilities that are taken away with `~`. Judges nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// Where units are looked for, the first found counts.
const FOLDERS: [&str; 4] =
    ["etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system"];

/// Its name.
pub const NAME: &str = "backstay.service";

/// What the unit's files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The file.
    pub file: PathBuf,
    /// Whether it starts with the system.
    pub is_enabled: bool,
    /// Keys and values, in their order, drop-ins last.
    settings: Vec<(String, String)>,
}

impl Unit {
    /// Reads the unit and its drop-ins below `root`, which is `/` but in tests.
    pub fn read(root: &Path) -> Option<Self> {
        let folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
        let file = folders.iter().map(|folder| folder.join(NAME)).find(|file| file.is_file())?;
        let mut settings = settings(&fs::read_to_string(&file).ok()?);
        let mut drop_ins: Vec<PathBuf> = Vec::new();
        for folder in &folders {
            let entries = fs::read_dir(folder.join(format!("{NAME}.d"))).into_iter().flatten().flatten();
            let is_drop_in = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "conf");
            // One of the same name in a folder before hides it.
            for path in entries.map(|entry| entry.path()).filter(is_drop_in) {
                if drop_ins.iter().all(|known| known.file_name() != path.file_name()) {
                    drop_ins.push(path);
                }
            }
        }
        drop_ins.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        for drop_in in drop_ins {
            settings
                .extend(fs::read_to_string(drop_in).map(|text| self::settings(&text)).unwrap_or_default());
        }
        let wants = "etc/systemd/system/multi-user.target.wants";
        let is_enabled = fs::symlink_metadata(root.join(wants).join(NAME)).is_ok();
        Some(Self { file, is_enabled, settings })
    }

    /// The last value of a key.
    pub fn last(&self, key: &str) -> Option<&str> {
        self.settings.iter().rev().find(|(of, _)| of == key).map(|(_, value)| value.as_str())
    }

    /// The words of all values of a list; an empty value empties it.
    pub fn list(&self, key: &str) -> Vec<String> {
        let mut words = Vec::new();
        for (_, value) in self.settings.iter().filter(|(of, _)| of == key) {
            match value.is_empty() {
                true => words.clear(),
                false => words.extend(words_of(value)),
            }
        }
        words
    }

    /// Whether a capability may be had (systemd.exec(5), `CapabilityBoundingSet`): all, until the first value says which; those
    /// after it add to it, or take away with `~`. What is empty sets it to none, or with `~` to all.
    pub fn may(&self, capability: &str) -> bool {
        let (mut is_all, mut has) = (true, true);
        for (_, value) in self.settings.iter().filter(|(of, _)| of == "CapabilityBoundingSet") {
            let (takes_away, names) = match value.strip_prefix('~') {
                Some(names) => (true, words_of(names)),
                None => (false, words_of(value)),
            };
            let is_named = names.iter().any(|name| name == capability);
            if names.is_empty() || is_all {
                has = is_named != takes_away;
            } else if is_named {
                has = !takes_away;
            }
            is_all = names.is_empty() && takes_away;
        }
        has
    }

    /// The configuration that it runs with.
    pub fn config(&self) -> Option<PathBuf> {
        let words = words_of(self.last("ExecStart")?);
        let option = words.iter().position(|word| word == "--config");
        match option {
            Some(place) => words.get(place + 1).map(PathBuf::from),
            None => Some("/etc/backstay".into()),
        }
    }

    /// The program that it starts.
    pub fn program(&self) -> Option<PathBuf> {
        let first = words_of(self.last("ExecStart")?).into_iter().next()?;
        Some(first.trim_start_matches(['-', '@', ':', '+', '!']).into())
    }

    /// Whether it lets the daemon write there.
    pub fn may_write(&self, path: &Path) -> bool {
        if self.last("ProtectSystem") != Some("strict") {
            return true;
        }
        let listed = self.list("ReadWritePaths").into_iter();
        let listed = listed.map(|path| path.trim_start_matches(['-', '+']).to_owned());
        let own = self.list("StateDirectory").into_iter().map(|name| format!("/var/lib/{name}"));
        let mut allowed = listed.chain(own);
        allowed.any(|allowed| path.starts_with(allowed))
    }
}

/// The words of a value: quotes of both kinds, wherever they begin; what follows a backslash is itself; `%%` is `%`.
fn words_of(value: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', _) => word.get_or_insert_default().extend(chars.next()),
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words.into_iter().map(|word| word.replace("%%", "%")).collect()
}

fn settings(text: &str) -> Vec<(String, String)> {
    let mut settings = Vec::new();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    while let Some(line) = lines.next() {
        let mut line = line.to_owned();
        while let Some(begun) = line.strip_suffix('\\') {
            line = format!("{begun} {}", lines.next().unwrap_or_default());
        }
        if let Some((key, value)) = line.split_once('=') {
            settings.push((key.trim().to_owned(), value.trim().to_owned()));
        }
    }
    settings
}

#[cfg(test)]
impl Unit {
    /// One that is installed here and says nothing.
    pub fn of_tests(file: &str) -> Self {
        Self { file: file.into(), is_enabled: true, settings: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(lines: &[(&str, &str)]) -> Unit {
        let settings = lines.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Unit { settings, ..Unit::of_tests("/x") }
    }

    #[test]
    fn lines_that_go_on_and_comments_are_read_as_systemd_does() {
        let read = settings("# A=1\n; B=2\n[Service]\nC = 3 \\\n  4\nD=\n");
        let pairs: Vec<(&str, &str)> =
            read.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("C", "3  4"), ("D", "")]);
    }

    #[test]
    fn words_are_quoted_as_systemd_has_it() {
        for (value, expected) in [
            ("a  b", vec!["a", "b"]),
            (r#"-"/mnt/my disk" '/b c'"#, vec!["-/mnt/my disk", "/b c"]),
            (r#""a\"b\\c" d\ e"#, vec![r#"a"b\c"#, "d e"]),
            ("100%%", vec!["100%"]),
            (r#""""#, vec![""]),
            ("", vec![]),
        ] {
            assert_eq!(words_of(value), expected, "{value}");
        }
        let unit = with(&[
            ("ProtectSystem", "strict"),
            ("ReadWritePaths", r#"-"/mnt/my disk" /srv/100%%"#),
            ("ExecStart", r#"/usr/bin/backstay --config "/srv/my node.toml" run"#),
        ]);
        assert!(unit.may_write(Path::new("/mnt/my disk/vault")) && unit.may_write(Path::new("/srv/100%/x")));
        assert!(!unit.may_write(Path::new("/mnt/my")) && !unit.may_write(Path::new("/srv")));
        assert_eq!(unit.config(), Some("/srv/my node.toml".into()));
    }

    #[test]
    fn capabilities_are_added_and_taken_away() {
        let has = |values: &[&str]| {
            let lines: Vec<_> = values.iter().map(|value| ("CapabilityBoundingSet", *value)).collect();
            ["CAP_KILL", "CAP_CHOWN"].map(|capability| with(&lines).may(capability))
        };
        assert_eq!(has(&[]), [true, true]);
        assert_eq!(has(&["CAP_KILL"]), [true, false]);
        assert_eq!(has(&["~CAP_KILL"]), [false, true]);
        assert_eq!(has(&["CAP_KILL", "CAP_CHOWN"]), [true, true]);
        assert_eq!(has(&["CAP_KILL CAP_CHOWN", "~CAP_KILL"]), [false, true]);
        assert_eq!(has(&["~CAP_KILL", "CAP_KILL"]), [true, true]);
        assert_eq!(has(&["CAP_KILL", ""]), [false, false]);
        assert_eq!(has(&["CAP_KILL", "~"]), [true, true]);
    }
}
