//! A `files` source: whether its tree is there, readable and can be watched. Pure: facts in, findings out. The databases in it
//! have a file of their own.

use std::path::PathBuf;

use super::finding::Finding;
use super::mounts::Medium;
use super::names::Names;
use super::place::{Place, Presence};
use super::sample::{ENTRIES_MAX, Sample, TIME_MAX};
use super::words::{Words, quote, toml_text, user};

/// So much more than it has directories is proposed as a limit: trees grow.
const ROOM_TO_GROW: u64 = 2;

/// File systems that are named one by one.
const NAMED_MAX: usize = 5;

/// No less is proposed: what large machines have by themselves.
const WATCHES_LEAST: u64 = 524_288;

/// What is known of a source beside its tree.
#[derive(Debug, Clone)]
pub struct Tree<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its service.
    pub service: &'a str,
    /// Its root, as configured.
    pub root: PathBuf,
    /// Whether changes are watched for.
    pub is_watched: bool,
    /// Entries of its newest point, in any vault.
    pub last_entries: Option<u64>,
    /// The user of the daemon.
    pub daemon_uid: u32,
}

impl Tree<'_> {
    fn subject(&self) -> String {
        format!("source {}", self.name)
    }

    /// Judges the root.
    pub fn judge_root(&self, place: &Place, words: &Words) -> Vec<Finding> {
        let subject = self.subject();
        let root = self.root.display();
        let setting =
            format!("correct `path` of [service.{}] in {}", self.service, words.fleet_file.display());
        // What is there is there, whatever fstab wants.
        let has_nothing =
            matches!(place.presence, Presence::Missing | Presence::Directory { is_empty: true, .. });
        if let (true, Some(point)) = (has_nothing, &place.unmounted) {
            return vec![
                Finding::problem(
                    &subject,
                    "mounted",
                    format!("{} is not mounted, and the source is {root}", point.display()),
                )
                .because("what is captured is what lies under the mount point, which is most likely nothing")
                .run(words.as_root(&format!("mount {}", quote(point)))),
            ];
        }
        let is_empty = match &place.presence {
            Presence::Directory { is_empty, .. } => *is_empty,
            Presence::Missing => {
                return vec![
                    Finding::problem(&subject, "present", format!("{root} is not there"))
                        .because("nothing is captured; its points stay as they are")
                        .advise(format!("mount what belongs there (`findmnt`, `lsblk -f`), or {setting}")),
                ];
            }
            Presence::OtherThanDirectory => {
                return vec![
                    Finding::problem(&subject, "present", format!("{root} is not a directory"))
                        .because("a source is a directory with all that is in it")
                        .set(
                            format!("{}, in [service.{}]", words.fleet_file.display(), self.service),
                            self.parent_line(),
                        ),
                ];
            }
            Presence::Closed(why) => {
                return vec![self.closed(&format!("{root} cannot be looked at: {why}"), words)];
            }
        };
        let mut findings = Vec::new();
        findings.push(match (is_empty, self.last_entries) {
            // The root itself is an entry.
            (true, Some(last)) if last > 1 => {
                Finding::warning(&subject, "present", format!("{root} is empty, and its newest point has {last} entries"))
                    .because("most likely something is not mounted there. Points of before are kept: the newest four after which nearly all was gone never go by `keep`")
                    .advise(format!("mount what belongs there (`findmnt {}`, /etc/fstab)", quote(&self.root)))
            }
            (true, _) => Finding::note(&subject, "present", format!("{root} is there, and empty")),
            (false, _) => Finding::ok(&subject, "present", format!("{root} is there, on {}", place.medium_words())),
        });
        findings.extend(self.network(place, words));
        findings
    }

    fn parent_line(&self) -> String {
        let parent = self.root.parent().unwrap_or(&self.root);
        format!("files = {{ path = {} }}", toml_text(&parent.display().to_string()))
    }

    fn network(&self, place: &Place, words: &Words) -> Option<Finding> {
        let mount =
            place.mount.as_ref().filter(|mount| mount.medium() == Medium::Network && self.is_watched)?;
        Some(
            Finding::note(&self.subject(), "network", format!("it lies on another machine ({})", mount.kind))
                .because("what other machines change there is not seen; it is captured when it is due, as the RPO says. Without watching nothing else is lost")
                .set(
                    format!("{}, in `files` of [service.{}]", words.fleet_file.display(), self.service),
                    "watch = false",
                ),
        )
    }

    fn closed(&self, what: &str, words: &Words) -> Finding {
        let finding = Finding::warning(&self.subject(), "readable", what);
        if words.uid != self.daemon_uid {
            return finding
                .because(format!(
                    "this runs as {}, and the daemon as {}",
                    user(words.uid),
                    user(self.daemon_uid)
                ))
                .run(words.as_user(self.daemon_uid, &words.backstay("doctor")));
        }
        // No line gives the rights in the tree itself: that would change the mode of everything in it, which is what is
        // protected, and some programs refuse files that others may read (keys of ssh).
        Finding { level: super::Level::Problem, ..finding }
            .because("what cannot be read is not captured, and each capture ends with 3")
            .advise("run the daemon as root, or let it read everything: `AmbientCapabilities=CAP_DAC_READ_SEARCH` below [Service] of its unit. What need not be captured, name in `exclude`")
    }

    /// Judges what a look through the tree has found.
    pub fn judge_sample(&self, sample: &Sample, words: &Words) -> Vec<Finding> {
        let seen = match sample.stopped {
            None if sample.entries == 1 => "its only entry".to_owned(),
            None => format!("all {} entries", sample.entries),
            Some("time") => {
                format!("the {} entries that were looked at within {} s", sample.entries, TIME_MAX.as_secs())
            }
            Some(_) => format!("the first {ENTRIES_MAX} entries"),
        };
        let Some(first) = sample.unreadable.first() else {
            return vec![Finding::ok(
                &self.subject(),
                "readable",
                format!("{} can be read by {}", seen, user(words.uid)),
            )];
        };
        let more = match sample.unreadable_count {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let what = format!("of {seen}, {} cannot read {}{more}", user(words.uid), first.display());
        vec![self.closed(&what, words)]
    }
}

impl Tree<'_> {
    /// Judges other file systems in the tree that are no part of it; those that another source has are not among them.
    pub fn judge_foreign(&self, foreign: &[PathBuf], names: &mut Names, words: &Words) -> Option<Finding> {
        let (first, others) = foreign.split_first()?;
        let named: Vec<String> =
            foreign.iter().take(NAMED_MAX).map(|path| path.display().to_string()).collect();
        let more = match (others.len() + 1).saturating_sub(NAMED_MAX) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let what = format!("other file systems in its tree are not captured: {}{more}", named.join(", "));
        let name =
            names.service(&first.file_name().map_or(String::new(), |name| name.to_string_lossy().into()));
        Some(
            Finding::warning(&self.subject(), "file_systems", what)
                .because(format!(
                    "they are empty directories in its points. Where that is meant, name them in `exclude`; else say `one_file_system = false` in `files` of [service.{}], or give each a source of its own, as this does",
                    self.service
                ))
                .set(
                    words.fleet_file.display().to_string(),
                    format!("[service.{name}]\nfiles = {{ path = {} }}", toml_text(&first.display().to_string())),
                ),
        )
    }
}

/// What the system lets a user watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchLimits {
    /// `fs.inotify.max_user_watches`.
    pub watches: u64,
    /// `fs.inotify.max_user_instances`.
    pub instances: u64,
}

/// Trees that are watched, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watched {
    /// How many.
    pub trees: u64,
    /// Their directories, each of which takes a watch.
    pub directories: u64,
    /// Whether there are more.
    pub is_least: bool,
}

/// Judges whether all of them can be watched; `None` where there is nothing to watch.
pub fn judge_watches(watched: Watched, limits: Option<WatchLimits>, words: &Words) -> Option<Finding> {
    const SUBJECT: &str = "watching";
    if watched.trees == 0 {
        return None;
    }
    let Some(limits) = limits else {
        return Some(
            Finding::warning(
                SUBJECT,
                "limits",
                "the limits of inotify cannot be read from /proc/sys/fs/inotify",
            )
            .because(
                "whether changes are seen is not known; captures are made when they are due all the same",
            ),
        );
    };
    let least = if watched.is_least { "at least " } else { "" };
    let (directories, trees) = (watched.directories, watched.trees);
    let line = |key: &str, value: u64| {
        words.as_root(&format!(
            "printf 'fs.inotify.{key} = {value}\\n' > /etc/sysctl.d/60-backstay-{key}.conf && sysctl -p /etc/sysctl.d/60-backstay-{key}.conf",
        ))
    };
    let why = "a tree with more is not watched at all, and captured only when it is due; other programs of the same user count as well";
    if limits.instances <= trees {
        let what =
            format!("{trees} trees are watched, and {} instances of inotify are allowed", limits.instances);
        return Some(
            Finding::warning(SUBJECT, "limits", what)
                .because("each tree takes one")
                .run(line("max_user_instances", (trees * 2).max(1024))),
        );
    }
    let proposed = (directories * ROOM_TO_GROW).next_power_of_two().max(WATCHES_LEAST);
    let what =
        format!("{least}{directories} directories are watched, of {} that are allowed", limits.watches);
    Some(if directories > limits.watches {
        Finding::warning(SUBJECT, "limits", what).because(why).run(line("max_user_watches", proposed))
    } else if directories * 5 > limits.watches * 4 {
        Finding::note(SUBJECT, "limits", what).because(why).run(line("max_user_watches", proposed))
    } else {
        Finding::ok(SUBJECT, "limits", what)
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Fix, Level};
    use super::super::mounts::Mount;
    use super::super::place::{Room, Writing};
    use super::*;

    fn tree() -> Tree<'static> {
        Tree {
            name: "mail.files",
            service: "mail",
            root: "/srv/mail".into(),
            is_watched: true,
            last_entries: Some(100),
            daemon_uid: 0,
        }
    }

    fn place(is_empty: bool) -> Place {
        Place {
            path: "/srv/mail".into(),
            presence: Presence::Directory { mode: 0o755, uid: 0, is_empty },
            nearest: "/srv/mail".into(),
            missing_levels: 0,
            device: 1,
            mount: Some(Mount {
                point: "/".into(),
                kind: "ext4".into(),
                device: "/dev/vda1".into(),
                is_read_only: false,
            }),
            room: Room::default(),
            writing: Writing::Tried,
            attributes: None,
            unmounted: None,
        }
    }

    fn levels(findings: &[Finding]) -> Vec<(&'static str, Level)> {
        findings.iter().map(|finding| (finding.check, finding.level)).collect()
    }

    #[test]
    fn a_root_that_is_gone_empty_or_not_mounted_is_told() {
        let words = Words::of_tests(0);
        assert_eq!(levels(&tree().judge_root(&place(false), &words)), [("present", Level::Ok)]);
        assert_eq!(levels(&tree().judge_root(&place(true), &words)), [("present", Level::Warning)]);
        let new = Tree { last_entries: None, ..tree() };
        assert_eq!(levels(&new.judge_root(&place(true), &words)), [("present", Level::Note)]);
        for presence in [Presence::Missing, Presence::OtherThanDirectory] {
            let gone = Place { presence, ..place(true) };
            assert_eq!(levels(&tree().judge_root(&gone, &words)), [("present", Level::Problem)]);
        }
        let unmounted = Place { unmounted: Some("/srv".into()), ..place(true) };
        let missing = Place { presence: Presence::Missing, ..unmounted.clone() };
        for place in [unmounted, missing] {
            let found = tree().judge_root(&place, &words);
            assert_eq!(found[0].fix, Some(Fix::Command("mount /srv".into())));
        }
        let there = Place { unmounted: Some("/srv".into()), ..place(false) };
        assert_eq!(levels(&tree().judge_root(&there, &words)), [("present", Level::Ok)]);
        let mount = Mount { kind: "nfs4".into(), ..place(false).mount.expect("one") };
        let far = Place { mount: Some(mount), ..place(false) };
        assert_eq!(levels(&tree().judge_root(&far, &words))[1], ("network", Level::Note));
    }

    #[test]
    fn what_cannot_be_read_is_a_problem_of_the_daemons_user_alone() {
        let sample = Sample {
            entries: 10,
            unreadable: vec!["/srv/mail/a".into()],
            unreadable_count: 3,
            ..Sample::default()
        };
        let own = Tree { daemon_uid: 1000, ..tree() };
        let found = &own.judge_sample(&sample, &Words::of_tests(1000))[0];
        assert_eq!(found.level, Level::Problem);
        assert!(found.what.contains("/srv/mail/a and 2 more"), "{found:?}");
        let is_advice = |fix: &Fix| matches!(fix, Fix::Advice(text) if text.contains("CAP_DAC_READ_SEARCH"));
        assert!(found.fix.as_ref().is_some_and(is_advice), "{found:?}");
        let found = &tree().judge_sample(&sample, &Words::of_tests(1000))[0];
        assert_eq!(
            (found.level, found.fix.clone()),
            (Level::Warning, Some(Fix::Command("sudo backstay doctor".into())))
        );
        assert_eq!(tree().judge_sample(&Sample::default(), &Words::of_tests(0))[0].level, Level::Ok);
    }

    #[test]
    fn file_systems_that_are_left_out_are_told_with_a_source_for_the_first() {
        let mut names = Names::default();
        assert_eq!(tree().judge_foreign(&[], &mut names, &Words::of_tests(0)), None);
        let foreign: Vec<PathBuf> = (0..7).map(|n| format!("/srv/mail/My Disk{n}").into()).collect();
        let found = tree().judge_foreign(&foreign, &mut names, &Words::of_tests(0)).expect("a finding");
        assert!(found.what.ends_with("/srv/mail/My Disk4 and 2 more"), "{found:?}");
        let lines = "[service.my-disk0]\nfiles = { path = \"/srv/mail/My Disk0\" }";
        let place = "/etc/backstay/fleet.toml".to_owned();
        assert_eq!(found.fix, Some(Fix::Setting { place, lines: lines.to_owned() }));
        // A table that is there already cannot be there twice.
        let again = tree().judge_foreign(&foreign, &mut names, &Words::of_tests(0)).expect("a finding");
        assert!(again.fix.is_some_and(|fix| fix.text().starts_with("[service.my-disk0-2]\n")));
    }

    #[test]
    fn more_directories_than_can_be_watched_are_told_with_the_line_that_raises_the_limit() {
        let limits = Some(WatchLimits { watches: 8192, instances: 128 });
        let judged = |directories, trees| {
            judge_watches(Watched { trees, directories, is_least: false }, limits, &Words::of_tests(0))
                .expect("a finding")
        };
        assert_eq!(judged(100, 1).level, Level::Ok);
        assert_eq!(judged(7000, 1).level, Level::Note);
        let found = judged(400_000, 1);
        assert_eq!(found.level, Level::Warning);
        let line = "printf 'fs.inotify.max_user_watches = 1048576\\n' > /etc/sysctl.d/60-backstay-max_user_watches.conf && sysctl -p /etc/sysctl.d/60-backstay-max_user_watches.conf";
        assert_eq!(found.fix, Some(Fix::Command(line.into())));
        assert_eq!(judged(10, 200).level, Level::Warning);
        assert!(judge_watches(Watched::default(), limits, &Words::of_tests(0)).is_none());
        let unknown = judge_watches(Watched { trees: 1, ..Watched::default() }, None, &Words::of_tests(0));
        assert_eq!(unknown.expect("a finding").level, Level::Warning);
    }
}
