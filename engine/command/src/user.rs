//! As whom a program runs. Owns the look-up of users, which goes through the system's own tools so that it knows what
//! they know (LDAP and the like); becoming somebody is the launcher's.

use std::process::Command;

use backstay_core::config::UserName;

use crate::launch::{Becomes, SEARCH_PATH};

/// Home directory of somebody whom the system does not know.
const HOME_UNKNOWN: &str = "/";

/// Most groups of a user: more than the kernel lets a process have.
const GROUPS_MAX: usize = 65_536;

/// A user that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// There is none of this name.
    #[error("there is no user {name} on this machine; correct command_user in [allow] of node.toml")]
    Unknown {
        /// The name.
        name: String,
    },
    /// The system does not say.
    #[error("cannot look up the user {name}: {why}; see whether `{tool}` works on this machine")]
    LookUp {
        /// The name, or the number.
        name: String,
        /// What was asked.
        tool: String,
        /// What went wrong.
        why: String,
    },
}

/// As whom a program runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name; the number of a user without one.
    pub name: String,
    /// The home directory.
    pub home: String,
    /// Whose rights the program has then; nothing changes when absent.
    pub(crate) becomes: Option<Becomes>,
}

/// What the system's table of users says.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

impl User {
    /// The user that this process runs as.
    pub fn own() -> Result<Self, UserError> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let (name, home) = match entry(&uid)? {
            Some(entry) => (entry.name, entry.home),
            None => (uid, HOME_UNKNOWN.to_owned()),
        };
        Ok(Self { name, home, becomes: None })
    }

    /// The user of this name, with all its groups.
    pub fn named(name: &UserName) -> Result<Self, UserError> {
        let found = entry(name.as_str())?.filter(|entry| entry.name == name.as_str());
        let Some(Entry { name, uid, gid, home }) = found else {
            return Err(UserError::Unknown { name: name.to_string() });
        };
        let becomes = match rustix::process::geteuid().as_raw() == uid {
            true => None,
            false => Some(Becomes { uid, gid, groups: groups(&name)? }),
        };
        Ok(Self { name, home, becomes })
    }
}

/// The entry of a user by name or number; `None` when there is none.
fn entry(user: &str) -> Result<Option<Entry>, UserError> {
    // Exit code 2: no such key in the database.
    let Some(line) = ask(user, "getent", &["passwd", user], Some(2))? else { return Ok(None) };
    let entry = parse_entry(&line);
    entry.map(Some).ok_or_else(|| UserError::LookUp {
        name: user.to_owned(),
        tool: format!("getent passwd {user}"),
        why: "its answer has another form than /etc/passwd".to_owned(),
    })
}

fn parse_entry(line: &str) -> Option<Entry> {
    let fields: Vec<&str> = line.lines().next()?.split(':').collect();
    let [name, _, uid, gid, _, home, _] = fields[..] else { return None };
    let home = if home.is_empty() { HOME_UNKNOWN } else { home };
    Some(Entry {
        name: name.to_owned(),
        uid: uid.parse().ok()?,
        gid: gid.parse().ok()?,
        home: home.to_owned(),
    })
}

fn groups(name: &str) -> Result<Vec<u32>, UserError> {
    let answer = ask(name, "id", &["-G", name], None)?.unwrap_or_default();
    let groups: Option<Vec<u32>> =
        answer.split_whitespace().take(GROUPS_MAX).map(|group| group.parse().ok()).collect();
    groups.ok_or_else(|| UserError::LookUp {
        name: name.to_owned(),
        tool: format!("id -G {name}"),
        why: "its answer is not a list of numbers".to_owned(),
    })
}

/// What a tool prints; `None` when it ends with the code that says "there is none".
fn ask(
    name: &str,
    tool: &str,
    arguments: &[&str],
    none_code: Option<i32>,
) -> Result<Option<String>, UserError> {
    let failed = |why: String| UserError::LookUp {
        name: name.to_owned(),
        tool: format!("{tool} {}", arguments.join(" ")),
        why,
    };
    // It runs with the rights of the daemon, so it gets nothing that a configuration could have chosen.
    let output = Command::new(tool).args(arguments).env_clear().env("PATH", SEARCH_PATH).output();
    let output = output.map_err(|error| failed(format!("{tool}: {error}")))?;
    if none_code.is_some() && output.status.code() == none_code {
        return Ok(None);
    }
    if !output.status.success() {
        return Err(failed(format!("{tool}: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    String::from_utf8(output.stdout).map(Some).map_err(|_| failed("its answer is not text".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_the_table_has_it() {
        let line = "postgres:x:103:110:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash\n";
        let entry = parse_entry(line).expect("an entry");
        assert_eq!((entry.name.as_str(), entry.uid, entry.gid), ("postgres", 103, 110));
        assert_eq!(entry.home, "/var/lib/postgresql");
        assert_eq!(parse_entry("x:x:1:1:::\n").expect("an entry").home, "/");
        for line in ["", "x", "x:x:-1:1::/:/bin/sh", "x:x:1:one::/:/bin/sh", "a:b:1:2:c:d:e:f"] {
            assert_eq!(parse_entry(line), None, "{line:?}");
        }
    }

    #[test]
    fn the_own_user_needs_no_change_and_an_unknown_one_is_named() {
        let own = User::own().expect("the own user");
        assert_eq!(own.becomes, None);
        if let Ok(name) = own.name.parse::<UserName>() {
            assert_eq!(User::named(&name).expect("the same"), own);
        }
        let nobody: UserName = "no-such-user-here".parse().expect("a name");
        let error = User::named(&nobody).expect_err("there is none").to_string();
        assert!(error.contains("no-such-user-here") && error.contains("command_user"), "{error}");
    }
}
