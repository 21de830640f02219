//! What the page says: pure text of known width, in which commands can be typed as they stand.

use backstay_core::config::{S3Vault, bucket_and_prefix};
use backstay_core::units::Timestamp;
use serde::Serialize;

use super::Sealed;

/// No line is longer.
pub const WIDTH: usize = 80;

/// Before a command.
const INDENT: &str = "    ";

/// The file into which the page is typed, in its commands.
const PAGE_FILE: &str = "kit.txt";

/// Where more is said.
const MORE: &str = "docs/worst-day.md";

/// A vault as the page names it.
#[derive(Debug, Clone, Serialize)]
pub struct ShownVault {
    /// Its name in the configuration.
    pub name: String,
    /// `dir`, `s3`, `peer`.
    pub kind: String,
    /// Where it is; of one at another node, which.
    pub place: String,
    /// Whether the key was tried on it and opens it; why not, otherwise.
    pub problem: Option<String>,
    /// Whether the access key of its bucket is sealed on the page.
    pub has_access_key: bool,
    /// The bucket, if it is in one.
    #[serde(skip)]
    pub bucket: Option<S3Vault>,
    /// The directory, if it is one of this machine.
    #[serde(skip)]
    pub directory: Option<String>,
}

/// What stands on it.
#[derive(Debug)]
pub struct Page<'k> {
    /// The fleet.
    pub fleet: &'k str,
    /// The node that has printed it.
    pub node: &'k str,
    /// When.
    pub made: Timestamp,
    /// Where the node's configuration is, where it is not in the usual place.
    pub config: Option<String>,
    /// All nodes.
    pub nodes: Vec<String>,
    /// The vaults.
    pub vaults: &'k [ShownVault],
    /// To whom their keys are wrapped.
    pub holders: &'k [String],
    /// The public half of the key.
    pub recipient: &'k str,
    /// The key.
    pub sealed: &'k Sealed,
}

impl Page<'_> {
    /// Its lines.
    pub fn lines(&self) -> Vec<String> {
        let mut out = Lines(Vec::new());
        out.text(&format!("BACKSTAY RECOVERY KIT - fleet {}", self.fleet));
        out.text(&format!("made {} on {} by backstay {}", self.made, self.node, env!("CARGO_PKG_VERSION")));
        out.empty();
        out.text(
            "With this page and its passphrase a bare machine brings everything back from a vault. Keep it on paper, away from the machines, and the passphrase in another place. Whoever has both has all data.",
        );
        out.text(
            "Print it again when a vault is added or moved, when the access key of a bucket changes, or when there is another recovery key. `backstay vault keys rotate` does not change it: this page opens what is sealed after it as well.",
        );
        out.empty();
        self.say_vaults(&mut out);
        out.empty();
        self.say_what_to_do(&mut out);
        out.empty();
        out.text("THE KEY (age; `age -d` opens these lines as well)");
        out.0.extend(self.sealed.lines());
        out.0
    }

    fn say_vaults(&self, out: &mut Lines) {
        out.text("VAULTS");
        for vault in self.vaults {
            let key = match (&vault.bucket, vault.has_access_key) {
                (None, _) => "",
                (Some(_), true) => "; its access key is sealed below",
                (Some(_), false) => {
                    "; its access key is NOT on this page: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                }
            };
            out.text(&format!("{}: {}{key}", vault.name, vault.place));
            if let Some(problem) = &vault.problem {
                out.text(&format!("  NOT TRIED when this was printed: {problem}"));
            }
        }
        out.text(&format!(
            "Nodes: {}. Keys in the vaults: {}.",
            self.nodes.join(", "),
            self.holders.join(", ")
        ));
        out.text(&format!("The key below is {}", self.recipient));
    }

    fn say_what_to_do(&self, out: &mut Lines) {
        out.text(&format!("ON THE WORST DAY (more: {MORE})"));
        out.text(&format!(
            "1. Put the program `backstay`, {} or newer, on the new machine.",
            env!("CARGO_PKG_VERSION")
        ));
        out.text(&format!(
            "2. Type or scan this page, or the key below with its check letters, into {PAGE_FILE}. A line that was typed wrong is named. The passphrase is asked for."
        ));
        out.text("3. See what there is, and where it would go:");
        let Some(from) = self.from() else {
            out.text("   (No vault here can be reached from a bare machine: bring the disk of one, and");
            out.text("   give its directory as --from.)");
            return;
        };
        let mut all: Vec<String> = vec!["backstay".into(), "restore".into(), "--all".into()];
        all.extend(from);
        all.extend(["--key-file", PAGE_FILE].map(str::to_owned));
        let mut here = all.clone();
        if let Some(config) = &self.config {
            here.extend(["--config".to_owned(), quoted(config)]);
        }
        out.command(&[&here[..], &["--dry-run".to_owned()]].concat());
        out.text(&format!(
            "4. Bring back what was on {}, configuration and all, to where it was. Nothing is written over; the same command again goes on after an interruption:",
            self.node
        ));
        out.command(&[&here[..], &["--node".to_owned(), self.node.to_owned()]].concat());
        out.text("   Or everything of all nodes, each source in a directory of its own:");
        out.command(&[&all[..], &["--to".to_owned(), "/srv/restored".to_owned()]].concat());
        out.text(&format!(
            "5. Have backups go on: the vaults do not know the new machine yet. The restore prints the commands that are left, `backstay doctor` says what is missing, and {MORE} has all of it."
        ));
    }

    /// Where to restore from: a bucket outlives the machines; a directory does not always.
    fn from(&self) -> Option<Vec<String>> {
        let from = |place: String| vec!["--from".to_owned(), place];
        let in_bucket = self.vaults.iter().find_map(|vault| vault.bucket.as_ref());
        if let Some(bucket) = in_bucket {
            let mut from = from(bucket_and_prefix(bucket));
            let given = [("--endpoint", &bucket.endpoint), ("--region", &bucket.region)];
            for (option, value) in given {
                from.extend(value.iter().flat_map(|value| [option.to_owned(), quoted(value)]));
            }
            return Some(from);
        }
        let directory = self.vaults.iter().find_map(|vault| vault.directory.as_ref());
        directory.map(|directory| from(quoted(directory)))
    }
}

/// A word as a shell takes it for one.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+=,".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

/// Lines that are no longer than the page is wide.
struct Lines(Vec<String>);

impl Lines {
    fn empty(&mut self) {
        self.0.push(String::new());
    }

    /// Text, broken between words, and within one that is too long.
    fn text(&mut self, text: &str) {
        let mut indent: String = text.chars().take_while(|c| *c == ' ').collect();
        // What belongs to a number stands beside it.
        let hanging = if text.as_bytes().get(1) == Some(&b'.') { "   " } else { indent.as_str() }.to_owned();
        let mut line = String::new();
        for word in text.split_whitespace() {
            let mut word = word;
            let needed = |line: &str, word: &str| line.chars().count() + 1 + word.chars().count();
            if !line.is_empty() && needed(&line, word) > WIDTH {
                self.0.push(std::mem::take(&mut line));
                indent.clone_from(&hanging);
            }
            if line.is_empty() {
                line.push_str(&indent);
            } else {
                line.push(' ');
            }
            while line.chars().count() + word.chars().count() > WIDTH {
                let room = WIDTH - line.chars().count();
                let cut = word.char_indices().nth(room).map_or(word.len(), |(at, _)| at);
                line.push_str(&word[..cut]);
                self.0.push(std::mem::take(&mut line));
                word = &word[cut..];
            }
            line.push_str(word);
        }
        self.0.push(line);
    }

    /// A command, which a shell reads as one although it takes several lines.
    fn command(&mut self, words: &[String]) {
        // Room for what says that it goes on.
        let width = WIDTH - 2;
        let mut line = INDENT.to_owned();
        let mut is_first = true;
        for word in words {
            let needed = line.chars().count() + usize::from(!is_first) + word.chars().count();
            if needed > width && !is_first {
                self.0.push(format!("{line} \\"));
                line = format!("{INDENT}  ");
            } else if !is_first {
                line.push(' ');
            }
            is_first = false;
            for c in word.chars() {
                // Of a word that no line holds, the rest stands at the very beginning of the next: a shell joins them. Not
                // within quotes, where it would not.
                if line.chars().count() >= width && !word.starts_with('\'') {
                    self.0.push(format!("{line}\\"));
                    line = String::new();
                }
                line.push(c);
            }
        }
        self.0.push(line);
    }
}

#[cfg(test)]
mod tests {
    use backstay_core::config::VaultAddress;

    use super::*;

    fn vault(place: &str) -> ShownVault {
        let VaultAddress::S3(bucket) = place.parse().expect("an address") else { panic!("{place}") };
        ShownVault {
            name: "offsite".to_owned(),
            kind: "s3".to_owned(),
            place: place.to_owned(),
            problem: None,
            has_access_key: true,
            bucket: Some(bucket),
            directory: None,
        }
    }

    fn lines(vaults: &[ShownVault], config: Option<&str>) -> Vec<String> {
        let sealed = Sealed(vec![7; 400]);
        let page = Page {
            fleet: "home",
            node: "alpha",
            made: Timestamp::from_seconds(1_800_000_000),
            config: config.map(str::to_owned),
            nodes: vec!["alpha".to_owned(), "beta".to_owned()],
            vaults,
            holders: &["alpha".to_owned(), "recovery".to_owned()],
            recipient: "age1abcdef",
            sealed: &sealed,
        };
        page.lines()
    }

    /// The commands, as a shell would read them.
    fn commands(lines: &[String]) -> Vec<String> {
        let text = lines.join("\n").replace("\\\n", "");
        let commands = text.lines().filter_map(|line| line.strip_prefix(INDENT)).map(str::trim);
        let joined = commands.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        joined.filter(|line| line.starts_with("backstay")).collect()
    }

    #[test]
    fn the_page_says_for_which_fleet_it_is_and_when_it_was_made_and_has_the_commands() {
        let place = "s3://backups/home/?endpoint=https://s3.example&region=hel1";
        let lines = lines(&[vault(place)], None);
        let text = lines.join("\n");
        assert!(lines[0].contains("fleet home"), "{text}");
        assert!(lines[1].contains("2027-01-15T08:00:00Z on alpha"), "{text}");
        let common = "backstay restore --all --from s3://backups/home/ --endpoint https://s3.example --region hel1 --key-file kit.txt";
        assert_eq!(
            commands(&lines),
            [
                format!("{common} --dry-run"),
                format!("{common} --node alpha"),
                format!("{common} --to /srv/restored")
            ],
            "{text}"
        );
        assert!(text.contains("-----BEGIN AGE ENCRYPTED FILE-----\n"), "{text}");
    }

    #[test]
    fn no_line_is_wider_than_the_page_and_a_shell_reads_what_was_meant() {
        let (bucket, prefix) = ("b".repeat(63), "p/".repeat(120));
        let endpoint = format!("https://{}.example", "e".repeat(200));
        let place = format!("s3://{bucket}/{prefix}?endpoint={endpoint}&region=hel1");
        let lines = lines(&[vault(&place)], Some("/etc/back stay"));
        for line in &lines {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
        let [_, own, _] = &commands(&lines)[..] else { panic!("{lines:?}") };
        let wanted = format!("--from s3://{bucket}/{prefix} --endpoint {endpoint} --region hel1");
        assert!(own.contains(&wanted), "{own}");
        assert!(own.contains("--config '/etc/back stay' --node alpha"), "{own}");
    }

    #[test]
    fn without_a_vault_that_a_bare_machine_reaches_it_says_so() {
        let peer = ShownVault { bucket: None, place: "held by beta".to_owned(), ..vault("s3://backups/") };
        let text = lines(&[peer], None).join("\n");
        assert!(text.contains("No vault here can be reached from a bare machine"), "{text}");
    }
}
