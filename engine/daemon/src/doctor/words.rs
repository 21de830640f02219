//! Words for a shell and for people: quoting, this program's own command line, names of users, sizes of shares.

use std::fs;
use std::path::{Path, PathBuf};

use backstay_core::units::ByteSize;

/// Where the configuration lies when nobody says otherwise.
const CONFIG_DEFAULT: &str = "/etc/backstay";

/// What the printed lines are made with.
#[derive(Debug, Clone)]
pub struct Words {
    /// The configuration, absolute where that can be told.
    pub config: PathBuf,
    /// Where `node.toml` is, or the one file.
    pub node_file: PathBuf,
    /// Where `fleet.toml` is, or the one file.
    pub fleet_file: PathBuf,
    /// The user of this process.
    pub uid: u32,
    /// Home directory of who types.
    pub home: PathBuf,
}

impl Words {
    /// For the configuration at this path.
    pub fn of(config: &Path) -> Self {
        let config = std::path::absolute(config).unwrap_or_else(|_| config.to_path_buf());
        let (node_file, fleet_file) = match config.is_dir() {
            true => (config.join("node.toml"), config.join("fleet.toml")),
            false => (config.clone(), config.clone()),
        };
        let home = std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let uid = rustix::process::geteuid().as_raw();
        Self { config, node_file, fleet_file, uid, home: home.unwrap_or_else(|| "/root".into()) }
    }

    /// Where the `path` of a vault in a directory stands: what is held for another node, in the node's own file.
    pub fn place_of_vault(&self, name: &str) -> String {
        match name.strip_prefix("held.") {
            Some(node) => format!("[hold.{node}] in {}", self.node_file.display()),
            None => format!("[vault.{name}] in {}", self.fleet_file.display()),
        }
    }

    /// A command line of Backstay with this configuration.
    pub fn backstay(&self, rest: &str) -> String {
        match self.config == Path::new(CONFIG_DEFAULT) {
            true => format!("backstay {rest}"),
            false => format!("backstay --config {} {rest}", quote(&self.config)),
        }
    }

    /// Where a recovery key is proposed to be written.
    pub fn recovery_key(&self) -> PathBuf {
        self.home.join("backstay-recovery.key")
    }

    /// A command line as the user with this number.
    pub fn as_user(&self, uid: u32, line: &str) -> String {
        match uid {
            own if own == self.uid => line.to_owned(),
            0 => format!("sudo {line}"),
            other => match user_name(other) {
                Some(name) => format!("sudo -u {name} {line}"),
                None => format!("sudo -u '#{other}' {line}"),
            },
        }
    }

    /// A command line that takes root's rights.
    pub fn as_root(&self, line: &str) -> String {
        match self.uid {
            0 => line.to_owned(),
            _ => format!("sudo sh -c {}", quote(Path::new(line))),
        }
    }
}

#[cfg(test)]
impl Words {
    /// Of the user with this number, with the configuration where it lies when nobody says otherwise.
    pub fn of_tests(uid: u32) -> Self {
        Self {
            config: CONFIG_DEFAULT.into(),
            node_file: "/etc/backstay/node.toml".into(),
            fleet_file: "/etc/backstay/fleet.toml".into(),
            uid,
            home: "/root".into(),
        }
    }
}

/// A path, or any other text, as one word of a shell.
pub fn quote(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:,@%=".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// A text for a basic string of TOML, with its quotes.
pub fn toml_text(text: &str) -> String {
    // JSON escapes what TOML does, in the same way.
    serde_json::Value::from(text).to_string()
}

/// A user as `chown` and `install` take it: by name, or by number.
pub fn owner(uid: u32) -> String {
    user_name(uid).unwrap_or_else(|| uid.to_string())
}

/// Whether a group has nobody in it but this user: the group of that name that many systems make with each user. Where it is
/// not known to these two files, others may be in it.
pub fn is_private_group(passwd: &str, groups: &str, uid: u32, gid: u32) -> bool {
    let number = |field: Option<&&str>| field.and_then(|field| field.parse::<u32>().ok());
    let users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut of_it = users.filter(|fields| number(fields.get(3)) == Some(gid));
    let is_own = of_it.next().is_some_and(|fields| number(fields.get(2)) == Some(uid));
    let mut groups = groups.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let has_members = groups
        .find(|fields| number(fields.get(2)) == Some(gid))
        .is_none_or(|fields| fields.get(3).is_none_or(|members| !members.trim().is_empty()));
    is_own && of_it.next().is_none() && !has_members
}

/// The name of a user as /etc/passwd has it.
pub fn user_name(uid: u32) -> Option<String> {
    let text = fs::read_to_string("/etc/passwd").ok()?;
    name_in(&text, uid)
}

fn name_in(passwd: &str, uid: u32) -> Option<String> {
    let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let mut of_it = fields.filter(|fields| fields.get(2).and_then(|number| number.parse().ok()) == Some(uid));
    of_it.next().map(|fields| fields[0].to_owned())
}

/// A user for people: by name, or by number.
pub fn user(uid: u32) -> String {
    match user_name(uid) {
        Some(name) if uid == 0 => name,
        Some(name) => format!("the user {name}"),
        None => format!("the user with number {uid}"),
    }
}

/// So many of something.
pub fn counted(count: usize, word: &str) -> String {
    match count {
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    }
}

/// Room that is needed and there, in words.
pub fn needs(needed: u64, free: u64) -> String {
    format!("{} are needed and {} are free", ByteSize(needed), ByteSize(free))
}

/// How much of a whole, in words.
pub fn percent(part: u64, whole: u64) -> String {
    let tenths = (u128::from(part) * 1000).checked_div(u128::from(whole)).unwrap_or(0);
    match tenths {
        0..100 => format!("{}.{} %", tenths / 10, tenths % 10),
        _ => format!("{} %", tenths / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_needs_it() {
        for (text, quoted) in
            [("/srv/a-b_c.d", "/srv/a-b_c.d"), ("a b", "'a b'"), ("a'b", r"'a'\''b'"), ("", "''")]
        {
            assert_eq!(quote(Path::new(text)), quoted);
        }
        assert_eq!(toml_text("a\"b\\c"), r#""a\"b\\c""#);
    }

    #[test]
    fn lines_name_the_configuration_and_the_user_only_where_needed() {
        let words = Words::of_tests(1000);
        assert_eq!(words.backstay("doctor"), "backstay doctor");
        let other = Words { config: "/srv/my node.toml".into(), ..words.clone() };
        assert_eq!(other.backstay("doctor"), "backstay --config '/srv/my node.toml' doctor");
        assert_eq!(words.as_user(0, "backstay doctor"), "sudo backstay doctor");
        assert_eq!(words.as_user(1000, "backstay doctor"), "backstay doctor");
        assert!(words.as_user(4_000_000, "x").contains("'#4000000'"));
        assert_eq!(words.as_root("a > b"), "sudo sh -c 'a > b'");
    }

    #[test]
    fn a_user_is_found_by_number() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\n";
        assert_eq!(name_in(passwd, 1000).as_deref(), Some("anna"));
        assert_eq!(name_in(passwd, 7), None);
    }

    #[test]
    fn a_group_is_private_where_nobody_else_is_in_it() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nanna:x:1000:1000::/home/anna:/bin/sh\nben:x:1001:100::/:/bin/sh\ncleo:x:1002:100::/:/bin/sh\n";
        let groups = "root:x:0:\nanna:x:1000:\nusers:x:100:\nadm:x:4:ben\n";
        assert!(is_private_group(passwd, groups, 1000, 1000));
        assert!(is_private_group(passwd, groups, 0, 0));
        for (uid, gid) in [(1000, 0), (1001, 100), (1000, 4), (1000, 7)] {
            assert!(!is_private_group(passwd, groups, uid, gid), "{uid} {gid}");
        }
        let with_ben = "anna:x:1000:ben\n";
        assert!(!is_private_group(passwd, with_ben, 1000, 1000));
    }

    #[test]
    fn shares_are_exact_where_they_are_small() {
        assert_eq!(percent(5, 1000), "0.5 %");
        assert_eq!(percent(999, 1000), "99 %");
        assert_eq!(percent(1, 0), "0.0 %");
    }
}
