//! The directory of a vault: whether its disk is there, what it lies on, room and rights. Pure: facts in, findings out.

use std::ops::ControlFlow::{self, Break, Continue};

use super::finding::Finding;
use super::mounts::Medium;
use super::place::{Least, Place, Presence, Writing, is_permission, words_of};
use super::words::{Words, owner, quote, user};

/// Less room than that is warned of, unless a fifth of the disk is free, and is a problem.
const LEAST: Least = Least { warning_bytes: 10 << 30, problem_bytes: 64 << 20 };

/// Other users may write.
const WRITABLE_BY_OTHERS: u32 = 0o002;
/// The group may.
const WRITABLE_BY_GROUP: u32 = 0o020;
/// Others may read.
const READABLE_BY_OTHERS: u32 = 0o005;

/// What is known of a vault beside its place.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whether this node has seen it before.
    pub is_seen: bool,
    /// The user of the daemon.
    pub daemon_uid: u32,
}

/// Judges the place of a vault; whether what is there is the vault, its opening tells.
pub fn judge(known: Known<'_>, place: &Place, words: &Words) -> Vec<Finding> {
    let subject = format!("vault {}", known.name);
    let mut findings = match presence(&subject, known, place, words) {
        Break(finding) => return vec![finding],
        Continue(finding) => vec![finding],
    };
    findings.push(medium(&subject, known.name, place, words));
    findings.push(writing(&subject, known, place, words));
    findings.extend(rights(&subject, place, words));
    let advice = format!(
        "give the disk more room, or keep fewer points: `keep` of the sources, then `{}` (what it deletes leaves the trash after the vault's `undelete`)",
        words.backstay(&format!("vault prune {}", known.name))
    );
    let grows = "when it is full nothing more is captured to this vault";
    findings.extend(place.room.judge(&subject, &place.nearest, LEAST, grows, &advice));
    findings
}

/// Breaks where nothing that could be said of another disk helps.
fn presence(subject: &str, known: Known<'_>, place: &Place, words: &Words) -> ControlFlow<Finding, Finding> {
    let path = place.path.display();
    let is_there = matches!(place.presence, Presence::Directory { is_empty: false, .. });
    // A vault that is there is there, whatever fstab wants.
    if let (false, Some(point)) = (is_there, &place.unmounted) {
        let what = format!("{} is not mounted, and the vault belongs in {path}", point.display());
        let why = format!(
            "nothing is captured to {}, and its points cannot be restored until its disk is there",
            known.name
        );
        return Break(
            Finding::problem(subject, "mounted", what)
                .because(why)
                .run(words.as_root(&format!("mount {}", quote(point)))),
        );
    }
    match &place.presence {
        Presence::Directory { is_empty: true, .. } | Presence::Missing if known.is_seen => {
            let lies = place.medium_words();
            let what = format!("the vault is not in {path}, where it was; what is there lies on {lies}");
            Break(Finding::problem(subject, "mounted", what)
                .because("most likely its disk is not mounted. Backstay makes no new vault in its place, and nothing is captured to it")
                .advise(format!(
                    "mount its disk (`lsblk -f` shows which there are), and add it to /etc/fstab with `nofail`. If the vault was moved, correct `path` of {}",
                    words.place_of_vault(known.name)
                )))
        }
        Presence::Directory { .. } => Continue(Finding::ok(subject, "present", format!("{path} is there"))),
        Presence::Missing => {
            let parent = place.path.parent().unwrap_or(&place.path);
            if place.missing_levels <= 1 {
                return Continue(Finding::ok(subject, "present", format!("{path} can be made")));
            }
            let what =
                format!("the directory {}, in which the vault belongs, is not there", parent.display());
            let finding = Finding::problem(subject, "present", what)
                .because("Backstay makes the vault's own directory only: a missing one above it is most likely a disk that is not mounted");
            // What root makes, a daemon of another user could not write: the vault itself is made as that one's, and what is
            // above it stays root's.
            let make = words.as_root(&match known.daemon_uid {
                0 => format!("mkdir -p {}", quote(parent)),
                uid => format!("install -d -o {} -m 700 {}", owner(uid), quote(&place.path)),
            });
            // Where disks are mounted, a directory that is made hides that there is none.
            let is_for_disks = ["/mnt", "/media", "/run/media"].iter().any(|top| parent.starts_with(top));
            Break(match is_for_disks {
                true => finding.advise(format!(
                    "mount the disk of the vault (`lsblk -f` shows which there are). Only if new vaults are meant to be on {}: `{make}`",
                    place.medium_words()
                )),
                false => finding.run(make),
            })
        }
        Presence::OtherThanDirectory => Break(
            Finding::problem(subject, "present", format!("{path} is not a directory"))
                .because("a vault is a directory")
                .advise(format!("give another `path` to {}", words.place_of_vault(known.name))),
        ),
        Presence::Closed(why) => {
            let look = words.as_user(known.daemon_uid, &words.backstay("doctor"));
            Break(
                Finding::warning(subject, "present", format!("{path} cannot be looked at: {why}"))
                    .because(format!(
                        "this runs as {}, and the daemon as {}",
                        user(words.uid),
                        user(known.daemon_uid)
                    ))
                    .run(look),
            )
        }
    }
}

fn medium(subject: &str, name: &str, place: &Place, words: &Words) -> Finding {
    let lies = place.medium_words();
    let elsewhere = format!("give {} a `path` on a disk", words.place_of_vault(name));
    match place.mount.as_ref().map(|mount| mount.medium()) {
        Some(Medium::Memory) => Finding::problem(subject, "medium", format!("it lies in memory ({lies})"))
            .because("all of it is gone when this host is booted")
            .advise(elsewhere),
        Some(Medium::Layer) => {
            Finding::warning(subject, "medium", format!("it lies in the layer of a container ({lies})"))
                .because("all of it is gone when the container is made anew")
                .advise(format!("{elsewhere} of the host, such as a volume"))
        }
        Some(Medium::Network) => Finding::note(
            subject,
            "medium",
            format!("it lies on another machine ({lies})"),
        )
        .because(
            "a server that answers late makes captures late; one that hangs is given up, and its flows age",
        ),
        Some(Medium::Disk) | None => Finding::ok(subject, "medium", format!("it lies on {lies}")),
    }
}

fn writing(subject: &str, known: Known<'_>, place: &Place, words: &Words) -> Finding {
    let nearest = place.nearest.display();
    let errno = match place.writing {
        Writing::Tried => return Finding::ok(subject, "writing", "a file was written and synced there"),
        Writing::Permitted => return Finding::ok(subject, "writing", "this user may write there"),
        Writing::Refused(errno) => errno,
    };
    if let Some(mount) = place.mount.as_ref().filter(|mount| mount.is_read_only) {
        let point = &mount.point;
        let what = format!("{} is mounted for reading only", point.display());
        return Finding::problem(subject, "writing", what)
            .because("nothing can be captured to this vault")
            // No line to run: writing to a disk with errors makes them worse.
            .advise(format!(
                "look into `dmesg`: a disk with errors becomes so by itself, and is to be replaced. If it is sound: {}",
                words.as_root(&format!("mount -o remount,rw {}", quote(point)))
            ));
    }
    // Root is refused what others may do where a server gives it no rights, and is given what others are refused.
    if words.uid != known.daemon_uid && (words.uid != 0 || is_permission(errno)) {
        let what = format!("whether {nearest} can be written is not known: this runs as {}", user(words.uid));
        let look = words.as_user(known.daemon_uid, &words.backstay("doctor"));
        return Finding::warning(subject, "writing", what)
            .because(format!("the daemon runs as {}", user(known.daemon_uid)))
            .run(look);
    }
    let what = format!("nothing can be written to {nearest}: {}", words_of(errno));
    let finding = Finding::problem(subject, "writing", what).because("nothing can be captured to this vault");
    match giving(known, place).filter(|_| is_permission(errno)) {
        Some(line) => finding.run(words.as_root(&line)),
        None => finding.advise(format!(
            "see why it is refused: `ls -ld {0}`, `findmnt -T {0}`, `df -h {0}`, `dmesg`; a server of NFS gives root no rights unless it exports with `no_root_squash`",
            quote(&place.nearest)
        )),
    }
}

/// The line that gives a daemon which is not root its vault; never what is above it or in it. `None` where nobody but the
/// operator knows whose it is.
fn giving(known: Known<'_>, place: &Place) -> Option<String> {
    if known.daemon_uid == 0 {
        return None;
    }
    let (name, path) = (owner(known.daemon_uid), quote(&place.path));
    match place.presence {
        Presence::Missing => Some(format!("install -d -o {name} -m 700 {path}")),
        Presence::Directory { uid, .. } if uid == known.daemon_uid => Some(format!("chmod u+rwx {path}")),
        // One of another user may be the vault of that one's daemon, and one with something else in it is no vault.
        Presence::Directory { uid: 0, is_empty, .. } if is_empty || known.is_seen => {
            Some(format!("chown {name} {path}"))
        }
        _ => None,
    }
}

fn rights(subject: &str, place: &Place, words: &Words) -> Option<Finding> {
    let Presence::Directory { mode, uid, .. } = place.presence else { return None };
    let path = place.path.display();
    let chmod = |change: &str| words.as_user(uid, &format!("chmod {change} {}", quote(&place.path)));
    let whose = format!("{path} belongs to {} and has mode {mode:04o}", user(uid));
    let found = if mode & WRITABLE_BY_OTHERS != 0 {
        Finding::problem(subject, "rights", format!("every user can write to {path} (mode {mode:04o})"))
            .because("whoever logs in here can delete all points; nobody can read them without the keys")
            .run(chmod("go-w"))
    } else if mode & WRITABLE_BY_GROUP != 0 {
        Finding::note(subject, "rights", format!("the group of {path} can write to it (mode {mode:04o})"))
            .because("its members can delete all points")
            .run(chmod("g-w"))
    } else if mode & READABLE_BY_OTHERS != 0 {
        Finding::ok(
            subject,
            "rights",
            format!("{whose}; others see sizes and times only, since it is encrypted"),
        )
    } else {
        Finding::ok(subject, "rights", whose)
    };
    Some(found)
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::super::finding::{Fix, Level};
    use super::super::mounts::Mount;
    use super::super::place::Room;
    use super::*;

    fn place() -> Place {
        Place {
            path: "/mnt/usb/vault".into(),
            presence: Presence::Directory { mode: 0o700, uid: 0, is_empty: false },
            nearest: "/mnt/usb/vault".into(),
            missing_levels: 0,
            device: 1,
            mount: Some(Mount {
                point: "/mnt/usb".into(),
                kind: "ext4".into(),
                device: "/dev/sda1".into(),
                is_read_only: false,
            }),
            room: Room { free_bytes: 500 << 30, bytes: 1000 << 30, free_entries: 0, entries: 0 },
            writing: Writing::Tried,
            attributes: None,
            unmounted: None,
        }
    }

    /// The findings that are not good, with the level, and what is to be run.
    fn bad(place: &Place, is_seen: bool, uid: u32) -> Vec<(&'static str, Level, String)> {
        let known = Known { name: "usb", is_seen, daemon_uid: 0 };
        let found = judge(known, place, &Words::of_tests(uid))
            .into_iter()
            .filter(|finding| finding.level != Level::Ok);
        found
            .map(|finding| {
                (finding.check, finding.level, finding.fix.map_or(String::new(), |fix| fix.text().to_owned()))
            })
            .collect()
    }

    fn line(check: &'static str, level: Level, fix: &str) -> Vec<(&'static str, Level, String)> {
        vec![(check, level, fix.to_owned())]
    }

    #[test]
    fn a_good_place_has_nothing_to_tell() {
        assert_eq!(bad(&place(), true, 0), []);
        let new = Place { presence: Presence::Missing, nearest: "/mnt/usb".into(), ..place() };
        assert_eq!(bad(&new, false, 0), []);
    }

    #[test]
    fn a_disk_that_fstab_knows_is_mounted_by_a_line() {
        let gone = Place { unmounted: Some("/mnt/usb".into()), presence: Presence::Missing, ..place() };
        for is_seen in [true, false] {
            assert_eq!(bad(&gone, is_seen, 0), line("mounted", Level::Problem, "mount /mnt/usb"));
        }
        assert_eq!(bad(&gone, true, 1000), line("mounted", Level::Problem, "sudo sh -c 'mount /mnt/usb'"));
        let bound = Place { unmounted: Some("/mnt/usb".into()), ..place() };
        assert_eq!(bad(&bound, true, 0), [], "the vault is there all the same");
    }

    #[test]
    fn a_vault_that_was_there_is_missed_and_a_new_one_is_not() {
        for presence in [Presence::Missing, Presence::Directory { mode: 0o755, uid: 0, is_empty: true }] {
            let gone = Place { presence, nearest: "/mnt/usb".into(), ..place() };
            let found = bad(&gone, true, 0);
            assert_eq!((found[0].0, found[0].1), ("mounted", Level::Problem));
            assert!(found[0].2.contains("lsblk -f") && found[0].2.contains("[vault.usb]"), "{found:?}");
            assert_eq!(bad(&gone, false, 0), []);
        }
        let path = "/nonexistent/a/vault".into();
        let no_parent =
            Place { path, presence: Presence::Missing, nearest: "/".into(), missing_levels: 3, ..place() };
        assert_eq!(bad(&no_parent, false, 0), line("present", Level::Problem, "mkdir -p /nonexistent/a"));
        let known = Known { name: "usb", is_seen: false, daemon_uid: 4_000_000 };
        let found = judge(known, &no_parent, &Words::of_tests(0));
        let own = "install -d -o 4000000 -m 700 /nonexistent/a/vault";
        assert_eq!(found[0].fix, Some(Fix::Command(own.into())));
    }

    #[test]
    fn rights_and_media_are_judged() {
        let mode =
            |mode| Place { presence: Presence::Directory { mode, uid: 0, is_empty: false }, ..place() };
        assert_eq!(bad(&mode(0o777), true, 0), line("rights", Level::Problem, "chmod go-w /mnt/usb/vault"));
        assert_eq!(bad(&mode(0o770), true, 0), line("rights", Level::Note, "chmod g-w /mnt/usb/vault"));
        assert_eq!(bad(&mode(0o755), true, 0), []);
        for (kind, level) in [("tmpfs", Level::Problem), ("overlay", Level::Warning), ("nfs4", Level::Note)] {
            let mount = Mount { kind: kind.into(), ..place().mount.expect("one") };
            let found = bad(&Place { mount: Some(mount), ..place() }, true, 0);
            assert_eq!((found[0].0, found[0].1), ("medium", level), "{kind}");
        }
    }

    #[test]
    fn rights_are_given_to_the_vault_alone_and_only_where_rights_lack() {
        let known = |is_seen, daemon_uid| Known { name: "usb", is_seen, daemon_uid };
        let fix = |known, place: &Place, uid| {
            let found = judge(known, place, &Words::of_tests(uid));
            let mut writing = found.into_iter().filter(|finding| finding.check == "writing");
            writing.next().and_then(|finding| finding.fix).expect("something to do")
        };
        let (uid, name) = (4_000_000, "4000000");
        let refused = |presence, errno| Place { presence, writing: Writing::Refused(errno), ..place() };
        let own = |uid, is_empty| Presence::Directory { mode: 0o700, uid, is_empty };
        for (presence, is_seen, line) in [
            (Presence::Missing, false, format!("install -d -o {name} -m 700 /mnt/usb/vault")),
            (own(0, true), false, format!("chown {name} /mnt/usb/vault")),
            (own(0, false), true, format!("chown {name} /mnt/usb/vault")),
            (own(uid, false), true, "chmod u+rwx /mnt/usb/vault".to_owned()),
        ] {
            for errno in [Errno::ACCESS, Errno::PERM] {
                let place = Place { nearest: "/mnt/usb".into(), ..refused(presence.clone(), errno) };
                let expected = Fix::Command(format!("sudo sh -c '{line}'"));
                assert_eq!(fix(known(is_seen, uid), &place, uid), expected, "{presence:?}");
            }
        }
        let is_advice = |fix: Fix| matches!(fix, Fix::Advice(text) if text.contains("findmnt -T"));
        // Another user's, something that is no vault, a disk that is full or broken, and a server that refuses root.
        for (presence, errno, uid) in [
            (own(7, true), Errno::ACCESS, uid),
            (own(0, false), Errno::ACCESS, uid),
            (Presence::Missing, Errno::NOSPC, uid),
            (own(uid, true), Errno::IO, uid),
            (Presence::Missing, Errno::ACCESS, 0),
            (own(0, true), Errno::PERM, 0),
        ] {
            assert!(
                is_advice(fix(known(false, uid), &refused(presence.clone(), errno), uid)),
                "{presence:?}"
            );
        }
        // As root it is not known for another user, but that a disk is full is.
        let at_root = |errno| fix(known(true, uid), &refused(own(uid, false), errno), 0);
        assert_eq!(at_root(Errno::ACCESS), Fix::Command("sudo -u '#4000000' backstay doctor".into()));
        assert!(is_advice(at_root(Errno::NOSPC)));
    }

    #[test]
    fn what_cannot_be_written_is_mended_where_the_reason_is() {
        let refused = Place { writing: Writing::Refused(Errno::ACCESS), ..place() };
        let found = bad(&refused, true, 1000);
        assert_eq!((found[0].1, found[0].2.as_str()), (Level::Warning, "sudo backstay doctor"));
        let mount = Mount { is_read_only: true, ..place().mount.expect("one") };
        let read_only = Place { mount: Some(mount), writing: Writing::Refused(Errno::ROFS), ..place() };
        let known = Known { name: "usb", is_seen: true, daemon_uid: 0 };
        let fix =
            judge(known, &read_only, &Words::of_tests(0)).into_iter().find(|one| one.check == "writing");
        let fix = fix.and_then(|finding| finding.fix);
        assert!(
            matches!(&fix, Some(Fix::Advice(advice)) if advice.ends_with("mount -o remount,rw /mnt/usb")),
            "{fix:?}"
        );
        let closed = Place { presence: Presence::Closed("Permission denied".into()), ..place() };
        let known = Known { name: "usb", is_seen: true, daemon_uid: 0 };
        let found = judge(known, &closed, &Words::of_tests(1000));
        assert_eq!(found[0].fix, Some(Fix::Command("sudo backstay doctor".into())));
    }
}
