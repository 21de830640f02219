//! Who may do what this user may not: a file of another user is the most likely reason why a command is refused.

use std::fs;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What to do about an error at this path, as a part of a sentence.
pub fn advice(path: &Path, error: &Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => {}
        ErrorKind::IsADirectory => return "it has to be a file".to_owned(),
        _ => return "see that its disk is there and works".to_owned(),
    }
    // What lies in a closed directory cannot be asked.
    let owner = path.ancestors().find_map(|above| fs::metadata(above).ok()).map(|found| found.uid());
    match owner {
        Some(0) => "it is root's: run the command as root (`sudo backstay …`)".to_owned(),
        Some(uid) => format!(
            "it belongs to the user with number {uid}: run the command as that one (`sudo -u '#{uid}' backstay …`)"
        ),
        None => "run the command as the user that it belongs to".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_is_told_whose_it_is() {
        let denied = Error::from(ErrorKind::PermissionDenied);
        assert!(
            advice(Path::new("/proc/1/nosuch/file"), &denied).contains("sudo backstay"),
            "root has /proc/1"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let owner = fs::metadata(folder.path()).expect("is there").uid();
        let said = advice(&folder.path().join("not/there"), &denied);
        assert!(said.contains(if owner == 0 { "root's" } else { "sudo -u '#" }), "{said}");
        assert!(!advice(folder.path(), &Error::from(ErrorKind::InvalidData)).contains("sudo"));
    }
}
