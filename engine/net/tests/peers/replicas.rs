//! Live replicas between two nodes, with ZFS in memory on both: what arrives, what is resumed, and what is refused with its reason.

use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay_core::config::DatasetName;
use backstay_core::units::Timestamp;
use backstay_net::hold::Rights;
use backstay_net::identity::OwnCertificate;
use backstay_net::link::Link;
use backstay_net::replica::RemoteHolder;
use backstay_vault::store::Pace;
use backstay_zfs::error::{Class, Refusal, ZfsError};
use backstay_zfs::guid::DatasetGuid;
use backstay_zfs::name::{FlowTarget, OwnSnapshot, SnapshotName};
use backstay_zfs::plan::{Snapshots, Structure, member_of};
use backstay_zfs::replicate::{
    Arriving, Holder as _, HolderError, LocalHolder, Outcome, Progress, ReplicateError, Replication, Report,
    replicate,
};
use backstay_zfs::state::{Dataset, DatasetKind};
use backstay_zfs::zfs::{Form, Receiving, Stream, Zfs as _};
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::cutting::Cutting;
use crate::fleet::{Caller, Fleet, Holder, node};
use crate::model::ModelZfs;

fn name(text: &str) -> DatasetName {
    DatasetName::parse(text).expect("a name")
}

/// `tank/m` at nullstone, and `pool/held/m` at cobblestone.
struct World {
    source: ModelZfs,
    held: ModelZfs,
    fleet: Fleet,
    holder: Holder,
    caller: Caller,
    runtime: Handle,
    taken: u32,
    _folder: TempDir,
}

impl World {
    fn new() -> Self {
        let fleet = Fleet::new();
        let own = fleet.enrol("nullstone");
        Self::with(fleet, own)
    }

    fn with(fleet: Fleet, own: OwnCertificate) -> Self {
        let (source, held) = (ModelZfs::new(1), ModelZfs::new(2));
        ["tank", "tank/m", "tank/m/a"].iter().for_each(|set| source.host().create(&name(set)).expect("new"));
        ["pool", "pool/held"].iter().for_each(|set| held.host().create(&name(set)).expect("new"));
        let folder = tempfile::tempdir().expect("a folder");
        let holder = Holder::start(&fleet, "cobblestone");
        for other in ["nullstone", "millstone"] {
            holder.hold(other, &folder.path().join(other), Rights::Write);
        }
        let clock = || Timestamp::from_seconds(1_800_000_000);
        for service in ["m", "backstay-aside"] {
            let place = name("pool/held").join(service).expect("short");
            let local = LocalHolder::new(Arc::new(held.clone()), place, clock);
            let of = (node("nullstone"), service.parse().expect("a name"));
            holder.spaces.replicas.lock().expect("no panic").insert(of, Arc::new(local));
        }
        let caller = fleet.caller_with("nullstone", own);
        let runtime = Handle::current();
        Self { source, held, fleet, holder, caller, runtime, taken: 0, _folder: folder }
    }

    fn what(&self) -> Replication {
        Replication {
            root: name("tank/m"),
            except: Vec::new(),
            domain: self.fleet.domain,
            target: FlowTarget::Replica("cobblestone".to_owned()),
            select: Snapshots::All,
            at_once: 2,
        }
    }

    fn link(&self) -> Link {
        self.caller.link(&self.holder)
    }

    fn remote(&self) -> Result<RemoteHolder, HolderError> {
        self.remote_over(self.link(), "m")
    }

    fn remote_over(&self, link: Link, service: &str) -> Result<RemoteHolder, HolderError> {
        let service = service.parse().expect("a name");
        RemoteHolder::open(link, service, Arc::new(Pace::unlimited()), self.runtime.clone())
    }

    fn write(&self, blocks: std::ops::Range<u64>) {
        let mut host = self.source.host();
        for block in blocks {
            let value = host.draw();
            host.write(&name("tank/m/a"), block, Some(value)).expect("is there");
        }
    }

    fn snapshot(&mut self) {
        self.taken += 1;
        let at = Timestamp::from_seconds(1_790_000_000 + i64::from(self.taken));
        let own = OwnSnapshot { at, set: self.taken };
        let members = self.source.list(&name("tank/m")).expect("lists");
        let names: Vec<_> = members.iter().map(|member| own.of(&member.name).expect("short")).collect();
        self.source.snapshot(&names).expect("taken");
    }

    fn replicate(&self, holder: &dyn backstay_zfs::replicate::Holder) -> Report {
        replicate(&self.source, holder, &self.what(), &Progress::default()).expect("both are there")
    }

    fn replicate_all(&self) -> Report {
        let report = self.replicate(&self.remote().expect("is reached"));
        assert!(report.is_done(), "{:?}", report.members);
        assert!(report.complete.is_some());
        self.assert_alike();
        report
    }

    fn replica(&self, of: &str) -> Dataset {
        self.held.list(&name(of)).expect("lists").remove(0)
    }

    /// Each member's newest snapshot is the newest of its replica, with the same contents, and held there.
    fn assert_alike(&self) {
        let replicas = self.held.list(&name("pool/held/m")).expect("lists");
        for member in self.source.list(&name("tank/m")).expect("lists") {
            let replica = replicas.iter().find(|replica| member_of(replica) == Some(member.guid));
            let replica = replica.unwrap_or_else(|| panic!("{} has no replica", member.name));
            let (here, there) = (member.newest().expect("taken"), replica.newest().expect("came"));
            assert_eq!((here.guid, 1, None), (there.guid, there.holds, replica.resume_token.clone()));
            let contents = |zfs: &ModelZfs, set: &Dataset, mark: &str| {
                let shot = SnapshotName::new(&set.name, mark).expect("a name");
                let blocks = zfs.host().shot(&shot).expect("is there").blocks.clone();
                blocks.into_iter().map(|(block, found)| (block, found.value)).collect::<Vec<_>>()
            };
            let (here, there) =
                (contents(&self.source, &member, &here.mark), contents(&self.held, replica, &there.mark));
            assert_eq!(here, there, "{}", member.name);
        }
    }

    /// A whole stream of a snapshot, and what is said of it.
    fn stream(&self, of: &str, replica: &str) -> (Arriving, Vec<u8>) {
        let member = self.source.list(&name(of)).expect("lists").remove(0);
        let newest = member.newest().expect("taken");
        let snapshot = SnapshotName::new(&member.name, &newest.mark).expect("a name");
        let stream = Stream { snapshot, base: None, form: Form::Plain, resume: None, held_by: None };
        let mut bytes = Vec::new();
        self.source.send(&stream).expect("sends").read_to_end(&mut bytes).expect("reads");
        let arriving = Arriving {
            member: member.guid,
            replica: name(replica),
            mark: newest.mark.clone(),
            guid: newest.guid,
            form: Form::Plain,
            makes: Some((DatasetKind::Filesystem, None)),
        };
        (arriving, bytes)
    }
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("no panic")
}

fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what} has not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The error of the one member that has failed.
fn failed(report: Report) -> HolderError {
    let failed = report.members.into_iter().find_map(|(_, outcome)| match outcome {
        Outcome::Failed(ReplicateError::Holder(error)) => Some(error),
        _ => None,
    });
    failed.expect("one has failed")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_arrives_whole_and_then_what_is_new_of_it() {
    let mut world = World::new();
    blocking(move || {
        world.write(0..3000);
        world.snapshot();
        let first = world.replicate_all();
        assert!(first.sent_bytes > 3000 * 24);
        world.write(7..20);
        world.snapshot();
        let second = world.replicate_all();
        assert!(second.sent_bytes < 2000, "{} bytes: a full was sent", second.sent_bytes);
        assert_eq!(world.replicate_all().sent_bytes, 0);
        world.source.rename(&name("tank/m/a"), &name("tank/m/b")).expect("renames");
        world.source.host().create(&name("tank/m/a")).expect("new");
        world.snapshot();
        world.replicate_all();
        assert_eq!(world.replica("pool/held/m/b").snapshots.len(), 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_connection_is_lost_goes_on_where_it_was() {
    let mut world = World::new();
    blocking(move || {
        world.write(0..4000);
        world.snapshot();
        let link = world.link();
        let holder = world.remote_over(link.clone(), "m").expect("is reached");
        let (held, runtime) = (world.held.clone(), world.runtime.clone());
        let close = Box::new(move || {
            let is_partial = || {
                let replica = held.list(&name("pool/held/m/a")).expect("lists");
                replica.first().is_some_and(|replica| replica.resume_token.is_some())
            };
            eventually("a part of the stream", is_partial);
            runtime.block_on(link.close());
        });
        let report = world.replicate(&Cutting::new(holder, name("pool/held/m/a"), 48_000, close));
        let error = failed(report);
        assert!(
            matches!(error, HolderError::Zfs(ZfsError::Told { class: Class::Transient, .. })),
            "{error:?}"
        );
        assert!(error.to_string().contains("the connection was lost"), "{error}");
        assert!(world.replica("pool/held/m/a").resume_token.is_some());
        let rest = world.replicate_all().sent_bytes;
        assert!(rest < 4000 * 24 - 40_000, "{rest} bytes: it was begun anew");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_full_is_told_as_that_before_the_stream_has_ended() {
    let mut world = World::new();
    blocking(move || {
        world.write(0..50_000);
        world.snapshot();
        world.held.host().room_bytes = 48_000;
        let report = world.replicate(&world.remote().expect("is reached"));
        assert!(report.sent_bytes < 50_000 * 24, "all of it was sent");
        let error = failed(report);
        let is_full =
            matches!(&error, HolderError::Zfs(ZfsError::Refused { refusal: Refusal::NO_SPACE, .. }));
        assert!(is_full && error.class() == Class::Operator, "{error:?}");
        assert!(error.to_string().contains("make room in the pool"), "{error}");
        world.held.host().room_bytes = u64::MAX;
        world.replicate_all();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_granted_is_denied() {
    let mut world = World::new();
    let millstone = world.fleet.caller("millstone");
    blocking(move || {
        world.snapshot();
        world.replicate_all();
        let refused = |error: HolderError, why: &str| {
            assert!(matches!(&error, HolderError::Refused(said) if said.contains(why)), "{error:?}");
            assert_eq!(error.class(), Class::Operator);
        };
        let of_another = world.remote_over(millstone.link(&world.holder), "m");
        refused(of_another.expect_err("is not its own"), "no replicas of m of millstone");
        let other = world.remote_over(world.link(), "other");
        refused(other.expect_err("is not granted"), "no replicas of other of nullstone");
        let remote = world.remote().expect("is reached");
        let outside = "is not below pool/held/m";
        let changes = [
            Structure::MarkGone { replica: name("pool/held") },
            Structure::SetAside { replica: name("pool") },
            Structure::Abort { replica: name("pool/held/mine") },
            Structure::Rename { from: name("pool/held/m/a"), to: name("pool/stolen") },
            Structure::Adopt { replica: name("pool/other"), member: DatasetGuid(1) },
        ];
        for change in changes {
            refused(remote.change(&change).expect_err("is outside"), outside);
        }
        let aside = world.remote_over(world.link(), "backstay-aside").expect("is reached");
        let change = Structure::Abort { replica: name("pool/held/backstay-aside/x") };
        refused(aside.change(&change).expect_err("is the operator's"), "was set aside");
        let guid = world.replica("pool/held/m").snapshots[0].guid;
        let flow = world.what().flow(DatasetGuid(1));
        refused(remote.settle(&name("pool/held"), guid, flow).expect_err("is outside"), outside);
        let gone = remote.settle(&name("pool/held/m/none"), guid, flow).expect_err("is not there");
        assert_eq!(gone.class(), Class::Stale, "{gone}");
        let (arriving, bytes) = world.stream("tank/m/a", "pool/other");
        let mut receiving = remote.receive(&arriving).expect("begins");
        let _ = receiving.write_all(&bytes);
        let error = receiving.finish().expect_err("is outside");
        assert_eq!(error.class(), Class::Operator);
        assert!(error.to_string().contains(outside), "{error}");
        assert!(world.held.list(&name("pool/other")).expect("lists").is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_not_what_was_said_is_refused_before_zfs_sees_it() {
    let mut world = World::new();
    blocking(move || {
        world.write(0..50);
        world.snapshot();
        let remote = world.remote().expect("is reached");
        let (arriving, bytes) = world.stream("tank/m/a", "pool/held/m");
        let (other, _) = world.stream("tank/m", "pool/held/m");
        let mut receiving = remote.receive(&Arriving { guid: other.guid, ..arriving }).expect("begins");
        // Until it is known that it is refused.
        let broken = loop {
            if let Err(error) = receiving.write_all(&bytes) {
                break error;
            }
        };
        assert_eq!(broken.kind(), ErrorKind::BrokenPipe);
        let error = receiving.finish().expect_err("is another one");
        assert!(error.to_string().contains("the stream is of the snapshot"), "{error}");
        assert!(world.held.list(&name("pool/held/m")).expect("lists").is_empty());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_streams_at_once_than_there_can_be_have_to_wait() {
    let mut world = World::new();
    blocking(move || {
        world.write(0..100);
        (0..9).for_each(|n| world.source.host().create(&name(&format!("tank/m/{n}"))).expect("new"));
        world.snapshot();
        world.held.host().create(&name("pool/held/m")).expect("new");
        let remote = world.remote().expect("is reached");
        let begin = |n: usize| {
            let (arriving, bytes) = world.stream("tank/m/a", &format!("pool/held/m/{n}"));
            let mut receiving = remote.receive(&arriving).expect("begins");
            receiving.write_all(&bytes[..bytes.len() - 24]).expect("is taken");
            (receiving, bytes)
        };
        let is_begun = |n: usize| {
            let listed = world.held.list(&name(&format!("pool/held/m/{n}"))).expect("lists");
            listed.first().is_some_and(|set| set.resume_token.is_some())
        };
        let mut begun: Vec<(Box<dyn Receiving>, Vec<u8>)> = (0..8).map(begin).collect();
        (0..8).for_each(|n| eventually("a stream", || is_begun(n)));
        let ninth = |n| -> Result<(), ZfsError> {
            let (arriving, bytes) = world.stream("tank/m/a", &format!("pool/held/m/{n}"));
            let mut receiving = remote.receive(&arriving).expect("begins");
            let _ = receiving.write_all(&bytes);
            receiving.finish()
        };
        let error = ninth(8).expect_err("is one too much");
        assert_eq!(error.class(), Class::Transient);
        assert!(error.to_string().contains("sends 8 streams"), "{error}");
        // Whoever gives up makes room, and what came stays; the others come to their end.
        drop(begun.pop());
        eventually("room", || ninth(8).is_ok());
        assert!(is_begun(7));
        for (n, (mut receiving, bytes)) in begun.into_iter().enumerate() {
            receiving.write_all(&bytes[bytes.len() - 24..]).expect("is taken");
            receiving.finish().expect("is whole");
            assert_eq!(world.replica(&format!("pool/held/m/{n}")).snapshots.len(), 1);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_an_expired_certificate_replicas_are_looked_at_and_not_changed() {
    let fleet = Fleet::new();
    let own = fleet.enrol_for("nullstone", Duration::from_secs(3600));
    let mut world = World::with(fleet, own);
    blocking(move || {
        world.snapshot();
        world.replicate_all();
        world.fleet.clock.advance(Duration::from_secs(7200));
        let remote = world.remote().expect("it may look");
        assert_eq!(remote.list().expect("it may look"), world.held.list(remote.place()).expect("lists"));
        let expired = "its certificate has expired";
        let change = Structure::MarkGone { replica: name("pool/held/m/a") };
        let error = remote.change(&change).expect_err("it may change nothing");
        assert!(error.to_string().contains(expired), "{error}");
        let (arriving, bytes) = world.stream("tank/m/a", "pool/held/m/new");
        let mut receiving = remote.receive(&arriving).expect("begins");
        let _ = receiving.write_all(&bytes);
        let error = receiving.finish().expect_err("it may send nothing");
        assert!(error.to_string().contains(expired), "{error}");
    })
    .await;
}
