//! Names of owners and groups, as this host's own files say. Directories on the network are not asked: a
//! name is a help for people and for restores elsewhere, the numbers are what counts here.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::row::OWNER_NAME_BYTES_MAX;

/// How much of `/etc/passwd` and of `/etc/group` is read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Names by number.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Owners {
    /// From `/etc/passwd` and `/etc/group`. What cannot be read gives no names.
    pub fn of_this_host() -> Self {
        Self {
            users: read(Path::new("/etc/passwd")).unwrap_or_default(),
            groups: read(Path::new("/etc/group")).unwrap_or_default(),
        }
    }

    /// The name of a user.
    pub fn user(&self, uid: u32) -> Option<&str> {
        self.users.get(&uid).map(String::as_str)
    }

    /// The name of a group.
    pub fn group(&self, gid: u32) -> Option<&str> {
        self.groups.get(&gid).map(String::as_str)
    }
}

fn read(path: &Path) -> io::Result<HashMap<u32, String>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(parse(&bytes))
}

/// Lines of `name:password:number:…`; of several names for a number the first counts.
fn parse(bytes: &[u8]) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let mut fields = line.split(':');
        let (Some(name), Some(_), Some(number)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if let Ok(number) = number.parse()
            && (1..=OWNER_NAME_BYTES_MAX).contains(&name.len())
        {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_a_number_counts_and_broken_lines_do_not() {
        let names = parse(b"root:x:0:0::/root:/bin/sh\ntoor:x:0:\n:x:1:\nx\ny:x:z:\n\xff:x:2:\nlast:x:3");
        assert_eq!(names, HashMap::from([(0, "root".to_owned()), (3, "last".to_owned())]));
    }

    #[test]
    fn this_host_knows_root() {
        let owners = Owners::of_this_host();
        assert_eq!((owners.user(0), owners.group(0)), (Some("root"), Some("root")));
        assert_eq!(owners.user(4_000_000_000), None);
    }
}
