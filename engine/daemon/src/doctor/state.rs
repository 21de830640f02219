//! The state directory and the scratch directory: where they lie, whose they are, what they must have room for. Pure: facts
//! in, findings out.

use rustix::io::Errno;

use super::finding::Finding;
use super::mounts::Medium;
use super::place::{Least, Place, Presence, Writing, is_permission, words_of};
use super::words::{Words, needs, owner, quote, user};

const STATE: &str = "state";
const SCRATCH: &str = "scratch";

/// Indexes, local states and notes: a gigabyte is left soon.
const LEAST: Least = Least { warning_bytes: 1 << 30, problem_bytes: 32 << 20 };

/// What other users are given by a mode.
const OTHERS: u32 = 0o077;

/// What stays free in scratch beside what the point has, and what an entry takes (as the restore of a proof counts).
const SCRATCH_FREE_BYTES: u64 = 256 << 20;
const ENTRY_BYTES: u64 = 4096;

/// What was found of the identity under the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keys {
    /// There is none yet.
    None,
    /// There is none, and there was one: this node knows a vault of this name.
    Lost {
        /// A vault that it knows.
        vault: String,
    },
    /// Signing key and age identity; with or without the keys of a domain.
    Whole {
        /// Whether it has the keys of a domain.
        has_domain: bool,
    },
    /// It cannot be read, or is damaged.
    Unreadable(String),
}

/// Judges `node.state`.
pub fn judge(place: &Place, keys: &Keys, words: &Words) -> Vec<Finding> {
    let path = place.path.display();
    let (mode, uid) = match &place.presence {
        Presence::Directory { mode, uid, .. } => (*mode, *uid),
        Presence::Missing if place.unmounted.is_some() => {
            let point = place.unmounted.as_ref().unwrap_or(&place.path).display();
            let what = format!("{point} is not mounted, and the state belongs in {path}");
            return vec![
                Finding::problem(STATE, "present", what)
                    .because(
                        "a state that is made anew in its place has another identity, which no vault trusts",
                    )
                    .run(words.as_root(&format!(
                        "mount {}",
                        quote(place.unmounted.as_ref().unwrap_or(&place.path))
                    ))),
            ];
        }
        Presence::Missing => {
            let finding = match place.writing {
                Writing::Refused(errno) => unmakeable(place, errno, words),
                _ => Finding::note(
                    STATE,
                    "present",
                    format!("{path} is not there yet: the first command that captures makes it"),
                ),
            };
            return std::iter::once(finding).chain(medium(place, words)).collect();
        }
        Presence::OtherThanDirectory => {
            let finding = Finding::problem(STATE, "present", format!("{path} is not a directory"));
            let advice = format!("give another `state` in [node] of {}", words.node_file.display());
            return vec![
                finding.because("identity, keys and notes of this node are kept there").advise(advice),
            ];
        }
        Presence::Closed(why) => {
            let finding = Finding::warning(STATE, "present", format!("{path} cannot be looked at: {why}"));
            let look = words.as_user(0, &words.backstay("doctor"));
            return vec![finding.because(format!("this runs as {}", user(words.uid))).run(look)];
        }
    };
    let whose = format!("{path} belongs to {} and has mode {mode:04o}", user(uid));
    let mut findings = vec![match mode & OTHERS {
        0 => Finding::ok(STATE, "rights", whose),
        _ => Finding::problem(STATE, "rights", format!("other users can get into {path} (mode {mode:04o})"))
            .because("keys lie there in clear, and names of protected files. Who has read keys has them: `backstay vault keys rotate --compromised` if that may be")
            .run(words.as_user(uid, &format!("chmod 700 {}", quote(&place.path)))),
    }];
    findings.extend(medium(place, words));
    findings.extend(keys_found(keys, place, words, uid));
    if uid == words.uid || words.uid == 0 {
        findings.push(match &place.writing {
            Writing::Tried => Finding::ok(STATE, "writing", "a file was written and synced there"),
            Writing::Permitted => Finding::ok(STATE, "writing", "this user may write there"),
            Writing::Refused(errno) => {
                let why = words_of(*errno);
                Finding::problem(STATE, "writing", format!("nothing can be written there: {why}"))
                    .because("nothing can be captured: what was captured is noted there")
                    .advise(format!(
                        "see why the file system of {path} refuses it: `findmnt -T {}`, `dmesg`",
                        quote(&place.path)
                    ))
            }
        });
    }
    let grows = "indexes and notes of captures are kept there; when it is full, captures fail";
    let advice = format!("make room, or move it: `state` in [node] of {}", words.node_file.display());
    findings.extend(place.room.judge(STATE, &place.nearest, LEAST, grows, &advice));
    findings
}

/// Where there is no state yet, the daemon is of whoever looks, as far as can be told.
fn unmakeable(place: &Place, errno: Errno, words: &Words) -> Finding {
    let what = format!("{} is not there and cannot be made: {}", place.path.display(), words_of(errno));
    let finding = Finding::problem(STATE, "present", what)
        .because("identity, keys and notes of this node are kept there");
    match is_permission(errno) && words.uid != 0 {
        // What root makes for itself, a daemon of this user could not write.
        true => finding.run(words.as_root(&format!(
            "install -d -o {} -m 700 {}",
            owner(words.uid),
            quote(&place.path)
        ))),
        false => finding.advise(format!(
            "see why it is refused: `findmnt -T {0}`, `df -h {0}`, `dmesg`; or give another `state` in [node] of {1}",
            quote(&place.nearest),
            words.node_file.display()
        )),
    }
}

fn medium(place: &Place, words: &Words) -> Option<Finding> {
    let lies = place.medium_words();
    let advice = format!(
        "give `state` in [node] of {} a path on a disk, and move what is there with the daemon stopped",
        words.node_file.display()
    );
    Some(match place.mount.as_ref()?.medium() {
        Medium::Memory => Finding::problem(STATE, "medium", format!("it lies in memory ({lies})"))
            .because("identity and keys are gone when this host is booted: without a recovery key nobody can read the vaults then")
            .advise(advice),
        Medium::Layer => Finding::warning(STATE, "medium", format!("it lies in the layer of a container ({lies})"))
            .because("identity and keys are gone when the container is made anew: without a recovery key nobody can read the vaults then")
            .advise(format!("{advice}, such as a volume")),
        Medium::Network => Finding::warning(STATE, "medium", format!("it lies on another machine ({lies})"))
            .because("its lock may not hold between hosts, keys are on that machine in clear, and nothing is captured while it does not answer")
            .advise(advice),
        Medium::Disk => Finding::ok(STATE, "medium", format!("it lies on {lies}")),
    })
}

fn keys_found(keys: &Keys, place: &Place, words: &Words, uid: u32) -> Option<Finding> {
    Some(match keys {
        Keys::None => Finding::note(
            STATE,
            "keys",
            "this node has no identity yet: the first command that captures makes it",
        ),
        Keys::Lost { vault } => {
            let key = quote(&words.recovery_key());
            let take = words.backstay(&format!("vault custodian take {vault} --key-file {key}"));
            let what = format!("the node's identity and keys are gone from {}", place.path.display());
            Finding::problem(STATE, "keys", what)
                .because("vaults that it has written to open no more, and nothing is captured to them")
                .advise(format!(
                    "bring back {} from a copy, or go on with the recovery key: `{take}`, for each vault",
                    place.path.join("identity").display()
                ))
        }
        Keys::Whole { has_domain: true } => {
            Finding::ok(STATE, "keys", "the node's identity and the keys of its vaults are there")
        }
        Keys::Whole { has_domain: false } => Finding::note(
            STATE,
            "keys",
            "the node's identity is there, and no keys of vaults yet: the first vault makes them",
        ),
        Keys::Unreadable(why) if uid != words.uid && words.uid != 0 => {
            let look = words.as_user(uid, &words.backstay("doctor"));
            let what = format!(
                "vaults are not looked into: {} may not read the keys in {}",
                user(words.uid),
                place.path.display()
            );
            Finding::warning(STATE, "keys", what).because(why.clone()).run(look)
        }
        Keys::Unreadable(why) => return Some(Finding::told(super::Level::Problem, STATE, "keys", why)),
    })
}

/// The largest point that a proof restores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Largest {
    /// Its source.
    pub source: String,
    /// Bytes of its contents.
    pub bytes: u64,
    /// Its entries.
    pub entries: u64,
}

/// Judges `node.scratch`; `largest` is what has to have room there, if anything does.
pub fn judge_scratch(place: &Place, largest: Option<&Largest>, words: &Words) -> Vec<Finding> {
    let Some(largest) = largest else {
        return vec![Finding::ok(SCRATCH, "room", "no proof restores anything there")];
    };
    let path = place.path.display();
    let node_file = words.node_file.display();
    let mut findings = Vec::new();
    let elsewhere = "scratch = \"/DIRECTORY/WITH/ROOM\"";
    if let Writing::Refused(errno) = place.writing
        && (place.presence == Presence::Missing || place.is_directory())
        && words.uid == 0
    {
        findings.push(
            Finding::problem(SCRATCH, "writing", format!("{path} cannot be written: {}", words_of(errno)))
                .because("points are restored there to prove them")
                .set(format!("{node_file}, in [node]"), elsewhere),
        );
        return findings;
    }
    let needed = largest.bytes + largest.entries * ENTRY_BYTES + SCRATCH_FREE_BYTES;
    let free = place.room.free_bytes;
    let of = format!("to restore {}, {}", largest.source, needs(needed, free));
    findings.push(match free >= needed {
        true => Finding::ok(SCRATCH, "room", of),
        false => Finding::note(SCRATCH, "room", of)
            .because("unless the files have many holes, the contents of its points are read in place of a restore: that proves less")
            .set(format!("{node_file}, in [node]"), elsewhere),
    });
    findings.extend(attributes(place, words));
    findings
}

fn attributes(place: &Place, words: &Words) -> Option<Finding> {
    let found = place.attributes?;
    let lacking: Vec<&str> = [(found.extended, "extended attributes"), (found.acl, "access control lists")]
        .into_iter()
        .filter_map(|(has, name)| (!has).then_some(name))
        .collect();
    Some(match lacking.is_empty() {
        true => Finding::ok(
            SCRATCH,
            "attributes",
            "extended attributes and access control lists can be written there",
        ),
        false => Finding::note(
            SCRATCH,
            "attributes",
            format!("its file system takes no {}", lacking.join(" and no ")),
        )
        .because("a proof of points that have them fails, or says that it could not show them")
        .set(format!("{}, in [node]", words.node_file.display()), "scratch = \"/DIRECTORY/ON/EXT4/OR/XFS\""),
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::mounts::Mount;
    use super::super::place::{Attributes, Room};
    use super::*;

    fn place() -> Place {
        Place {
            path: "/var/lib/backstay".into(),
            presence: Presence::Directory { mode: 0o700, uid: 0, is_empty: false },
            nearest: "/var/lib/backstay".into(),
            missing_levels: 0,
            device: 1,
            mount: Some(Mount {
                point: "/".into(),
                kind: "ext4".into(),
                device: "/dev/vda1".into(),
                is_read_only: false,
            }),
            room: Room { free_bytes: 50 << 30, bytes: 100 << 30, free_entries: 0, entries: 0 },
            writing: Writing::Tried,
            attributes: Some(Attributes { extended: true, acl: true }),
            unmounted: None,
        }
    }

    fn bad(findings: Vec<Finding>) -> Vec<(&'static str, Level, String)> {
        let bad = findings.into_iter().filter(|finding| finding.level != Level::Ok);
        bad.map(|finding| {
            (finding.check, finding.level, finding.fix.map_or(String::new(), |fix| fix.text().to_owned()))
        })
        .collect()
    }

    #[test]
    fn a_state_that_others_can_enter_or_that_goes_with_the_boot_is_a_problem() {
        let whole = Keys::Whole { has_domain: true };
        assert_eq!(bad(judge(&place(), &whole, &Words::of_tests(0))), []);
        let open =
            Place { presence: Presence::Directory { mode: 0o755, uid: 0, is_empty: false }, ..place() };
        assert_eq!(
            bad(judge(&open, &whole, &Words::of_tests(0))),
            [("rights", Level::Problem, "chmod 700 /var/lib/backstay".to_owned())]
        );
        for (kind, level) in [("tmpfs", Level::Problem), ("overlay", Level::Warning), ("nfs", Level::Warning)]
        {
            let mount = Mount { kind: kind.into(), ..place().mount.expect("one") };
            let found = bad(judge(&Place { mount: Some(mount), ..place() }, &whole, &Words::of_tests(0)));
            assert_eq!((found[0].0, found[0].1), ("medium", level), "{kind}");
        }
    }

    #[test]
    fn who_may_not_read_the_keys_is_told_as_whom_to_look() {
        let keys = Keys::Unreadable("cannot read: Permission denied; it is root's".to_owned());
        let found = bad(judge(&place(), &keys, &Words::of_tests(1000)));
        assert_eq!(found, [("keys", Level::Warning, "sudo backstay doctor".to_owned())]);
        let found = bad(judge(&place(), &keys, &Words::of_tests(0)));
        assert_eq!(found, [("keys", Level::Problem, "it is root's".to_owned())]);
    }

    #[test]
    fn an_identity_that_is_gone_is_told_from_one_that_never_was() {
        assert_eq!(bad(judge(&place(), &Keys::None, &Words::of_tests(0)))[0].1, Level::Note);
        let found = bad(judge(&place(), &Keys::Lost { vault: "usb".into() }, &Words::of_tests(0)));
        assert_eq!(found[0].1, Level::Problem);
        assert!(found[0].2.contains("backstay vault custodian take usb --key-file "), "{found:?}");
    }

    #[test]
    fn a_state_that_is_not_there_yet_is_a_note_unless_it_cannot_be_made() {
        let missing = Place { presence: Presence::Missing, ..place() };
        assert_eq!(
            bad(judge(&missing, &Keys::None, &Words::of_tests(0))),
            [("present", Level::Note, String::new())]
        );
        let refused = |errno| Place { writing: Writing::Refused(errno), ..missing.clone() };
        let found = bad(judge(&refused(Errno::ACCESS), &Keys::None, &Words::of_tests(4_000_000)));
        // Of whom the daemon is: root's own it could not write.
        assert_eq!(found[0].2, "sudo sh -c 'install -d -o 4000000 -m 700 /var/lib/backstay'");
        // Rights do not help where something else refuses it.
        for (errno, uid) in [(Errno::NOSPC, 1000), (Errno::ROFS, 0), (Errno::ACCESS, 0)] {
            let found = bad(judge(&refused(errno), &Keys::None, &Words::of_tests(uid)));
            assert!(found[0].2.starts_with("see why it is refused"), "{found:?}");
        }
    }

    #[test]
    fn scratch_must_hold_the_largest_point_that_a_proof_restores() {
        let of = |bytes| Largest { source: "mail.files".into(), bytes, entries: 10 };
        assert_eq!(bad(judge_scratch(&place(), Some(&of(1 << 30)), &Words::of_tests(0))), []);
        let found = bad(judge_scratch(&place(), Some(&of(60 << 30)), &Words::of_tests(0)));
        assert_eq!((found[0].0, found[0].1), ("room", Level::Note));
        assert_eq!(bad(judge_scratch(&place(), None, &Words::of_tests(0))), []);
        let plain = Place { attributes: Some(Attributes { extended: true, acl: false }), ..place() };
        assert_eq!(bad(judge_scratch(&plain, Some(&of(1)), &Words::of_tests(0)))[0].0, "attributes");
    }
}
