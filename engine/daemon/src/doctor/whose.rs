//! Who looks, and for whom: what root can read and write says nothing of a daemon that runs as another user. Takes back what
//! was found good by trying it as root; judges nothing itself.

use super::finding::{Finding, Level};
use super::words::{Words, owner, user};

/// What is tried by the user that looks, by the words for its checks: a file is read, written, or a program is started.
const TRIED: [&str; 6] = ["attributes", "keys", "opens", "program", "readable", "writing"];

/// The warning that comes first, where root looks for a daemon of another user.
pub fn warning(daemon_uid: u32, words: &Words) -> Option<Finding> {
    is_other(daemon_uid, words).then(|| {
        let what = format!("this runs as root, and the daemon as {}", user(daemon_uid));
        Finding::warning("daemon", "user", what)
            .because(
                "what root can read and write says nothing of what the daemon can: that user finds it out",
            )
            .run(words.as_user(daemon_uid, &words.backstay("doctor")))
    })
}

/// What is good for root alone is not told as good.
pub fn restrained(finding: Finding, daemon_uid: u32, words: &Words) -> Finding {
    let is_tried = match finding.subject.as_str() {
        // What its files say is the same for whoever reads them.
        "unit" => false,
        "secrets" => true,
        _ => TRIED.contains(&finding.check),
    };
    if finding.level > Level::Ok || !is_tried || !is_other(daemon_uid, words) {
        return finding;
    }
    let what = format!("{} (as root; not as {})", finding.what, owner(daemon_uid));
    Finding { level: Level::Note, what, ..finding }
}

fn is_other(daemon_uid: u32, words: &Words) -> bool {
    words.uid == 0 && daemon_uid != 0
}

#[cfg(test)]
mod tests {
    use super::super::finding::Fix;
    use super::*;

    #[test]
    fn what_is_good_for_root_is_not_told_as_good_for_another_user() {
        let root = Words::of_tests(0);
        let found = warning(4_000_000, &root).expect("a warning");
        let again = Fix::Command("sudo -u '#4000000' backstay doctor".into());
        assert_eq!((found.level, found.fix), (Level::Warning, Some(again)));
        let writing = || Finding::ok("vault usb", "writing", "a file was written");
        let told = restrained(writing(), 4_000_000, &root);
        assert_eq!(
            (told.level, told.what.as_str()),
            (Level::Note, "a file was written (as root; not as 4000000)")
        );
        // Who is the daemon's user, or cannot be, finds out what is true; what is bad stays as it is.
        for (daemon_uid, words) in [(0, &root), (1000, &Words::of_tests(1000)), (0, &Words::of_tests(1000))] {
            assert_eq!(warning(daemon_uid, words), None);
            assert_eq!(restrained(writing(), daemon_uid, words), writing());
        }
        for finding in [
            Finding::problem("vault usb", "writing", "x"),
            Finding::ok("unit", "writing", "x"),
            Finding::ok("vault usb", "room", "x"),
        ] {
            assert_eq!(restrained(finding.clone(), 4_000_000, &root), finding);
        }
    }
}
