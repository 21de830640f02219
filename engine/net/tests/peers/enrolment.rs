//! How a node comes to belong to a fleet, and how the others learn of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstay_core::clock::Clock;
use backstay_core::units::Timestamp;
use backstay_net::enrol::{Admitted, Enroller, Invitation, InviteError, Inviting, JoinError, Joining, join};
use backstay_net::hold::Rights;
use backstay_net::identity::{Authority, Certificate, Member, NodeKey, Roster};
use backstay_vault::keys::{Secret, Signer};
use backstay_wire::peer::{JoinRequest, Refusal};
use bytes::Bytes;
use tokio::task::JoinHandle;

use crate::fleet::{Fleet, Holder, NOW, VALID, node};

/// Enrols whoever comes, into the roster of the test's fleet.
struct Clerk {
    fleet: Arc<Fleet>,
    refused: Mutex<Vec<String>>,
}

impl Enroller for Clerk {
    fn enrol(&self, request: &JoinRequest, _: SocketAddr) -> Result<Admitted, Refusal> {
        let name = node(&request.node);
        let key = NodeKey::new(request.tls_key);
        let member = Member {
            signer: backstay_core::id::SignerKey::new(request.signing_key),
            recipient: request.recipient.clone(),
            tls_key: key.hash(),
            tailnet_id: None,
        };
        let authority = request.authority.clone();
        self.fleet.change(|roster| {
            roster.members.insert(name.clone(), member);
            roster.authorities.push(authority.into());
        });
        let certificate = self.fleet.authority.issue(&name, &key, NOW, VALID).expect("a certificate");
        Ok(Admitted {
            chain: vec![certificate],
            bundle: b"sealed keys".to_vec(),
            roster: self.fleet.newest().bytes().clone(),
            fleet_file: Bytes::from_static(b"[fleet]\n"),
        })
    }

    fn refused(&self, _: SocketAddr, why: &str) {
        self.refused.lock().expect("no panic").push(why.to_owned());
    }
}

struct Open {
    fleet: Arc<Fleet>,
    clerk: Arc<Clerk>,
    invitation: Invitation,
    waiting: JoinHandle<Result<(), InviteError>>,
}

/// An invitation of cobblestone by nullstone, open for so long.
fn invite(for_long: Duration) -> Open {
    let fleet = Arc::new(Fleet::new());
    fleet.enrol("nullstone");
    let seed = Secret::random();
    let own =
        fleet.authority.issue(&node("nullstone"), &NodeKey::of_seed(&seed), NOW, VALID).expect("issues");
    let chain = vec![own, fleet.authority.certificate().clone()];
    let inviting = Inviting::open((Ipv4Addr::LOCALHOST, 0).into(), Certificate::from_seed(chain, &seed));
    let inviting = inviting.expect("a socket");
    let address = inviting.address().expect("an address").to_string();
    let names = (fleet.name.clone(), node("cobblestone"), node("nullstone"));
    let until = NOW.saturating_add(for_long);
    let (authority, admin) = (fleet.authority.certificate().to_vec(), fleet.admin.public());
    let invitation = Invitation::new(names, fleet.domain, vec![address], until, &authority, admin);
    let clerk = Arc::new(Clerk { fleet: Arc::clone(&fleet), refused: Mutex::default() });
    let waiting = tokio::spawn({
        let (invitation, clerk, clock) = (invitation.clone(), Arc::clone(&clerk), Arc::clone(&fleet.clock));
        async move { inviting.wait(&invitation, clerk, clock).await }
    });
    Open { fleet, clerk, invitation, waiting }
}

fn joining(open: &Open, seed: &Secret) -> Joining {
    let own = Authority::generate(&open.fleet.name, &Secret::random(), NOW).expect("an authority");
    Joining {
        tls_key: NodeKey::of_seed(seed),
        signer: Signer::from_seed(&Secret::random()).public(),
        recipient: "age1cobblestone".to_owned(),
        authority: own.certificate().clone(),
    }
}

fn clock(open: &Open) -> Arc<dyn Clock> {
    Arc::clone(&open.fleet.clock) as Arc<dyn Clock>
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_invited_gets_what_it_needs_and_the_invitation_is_over() {
    let mut open = invite(HOUR);
    let invitation: Invitation = open.invitation.to_text().parse().expect("as it was copied");
    let seed = Secret::random();
    let shown = joining(&open, &seed);
    let joined = join(&invitation, &shown, clock(&open)).await.expect("joins");
    assert_eq!(joined.bundle, b"sealed keys");
    assert_eq!(joined.fleet_file, "[fleet]\n");
    let member = &joined.roster.members[&node("cobblestone")];
    assert_eq!((member.signer, member.tls_key), (shown.signer, shown.tls_key.hash()));
    joined.done().await;
    (&mut open.waiting).await.expect("no panic").expect("enrolled");
    // By whomever it is taken up again.
    let again =
        join(&invitation, &joining(&open, &Secret::random()), clock(&open)).await.expect_err("is over");
    assert!(matches!(again, JoinError::Unreachable { .. }), "{again}");
    assert_eq!(open.fleet.newest().members[&node("cobblestone")].tls_key, shown.tls_key.hash());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_invitation_another_node_and_a_late_one_are_refused_and_the_invited_node_still_joins() {
    let open = invite(HOUR);
    let guessed = Invitation::new(
        (open.fleet.name.clone(), node("cobblestone"), node("nullstone")),
        open.fleet.domain,
        open.invitation.addresses.clone(),
        open.invitation.until,
        open.fleet.authority.certificate(),
        open.fleet.admin.public(),
    );
    let refused = async |invitation: &Invitation| {
        let error = join(invitation, &joining(&open, &Secret::random()), clock(&open)).await;
        error.expect_err("is refused").to_string()
    };
    let why = refused(&guessed).await;
    assert!(why.contains("not the invitation that is open here"), "{why}");
    let mut other_node = open.invitation.clone();
    other_node.node = node("millstone");
    let why = refused(&other_node).await;
    assert!(why.contains("cobblestone was invited, and not millstone"), "{why}");
    assert_eq!(open.clerk.refused.lock().expect("no panic").len(), 2);
    let joined =
        join(&open.invitation, &joining(&open, &Secret::random()), clock(&open)).await.expect("joins");
    joined.done().await;
    open.waiting.await.expect("no panic").expect("enrolled");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_connects_and_says_nothing_keeps_nobody_out() {
    let mut open = invite(HOUR);
    let address: SocketAddr = open.invitation.addresses[0].parse().expect("an address");
    // Datagrams that begin nothing, and connections that are never gone on with.
    let mut silent = Vec::new();
    for _ in 0..5 {
        silent.push(backstay_testkit::intruder::connect(address, b"backstay-join/0", None).await.0);
    }
    let joined =
        join(&open.invitation, &joining(&open, &Secret::random()), clock(&open)).await.expect("joins");
    joined.done().await;
    (&mut open.waiting).await.expect("no panic").expect("enrolled");
    drop(silent);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_ends_at_its_time() {
    let open = invite(HOUR);
    open.fleet.clock.advance(HOUR);
    let over = open.waiting.await.expect("no panic").expect_err("nobody came");
    assert!(matches!(over, InviteError::Over), "{over}");
    let shown = Joining {
        tls_key: NodeKey::of_seed(&Secret::random()),
        signer: open.fleet.admin.public(),
        recipient: "age1late".to_owned(),
        authority: open.fleet.authority.certificate().clone(),
    };
    let clock = Arc::clone(&open.fleet.clock) as Arc<dyn Clock>;
    let late = join(&open.invitation, &shown, clock).await.expect_err("is over");
    assert!(late.to_string().contains("the invitation is over: ask for a new one"), "{late}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_answers_in_the_place_of_the_inviting_node_learns_nothing() {
    let open = invite(HOUR);
    // The same names, another authority.
    let other = invite(HOUR);
    let mut invitation = open.invitation.clone();
    invitation.addresses.clone_from(&other.invitation.addresses);
    let error = join(&invitation, &joining(&open, &Secret::random()), clock(&open))
        .await
        .expect_err("is not believed");
    assert!(error.to_string().contains("does not show the authority that the invitation names"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roster_goes_to_whoever_has_an_older_one_whichever_side_that_is() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let holder = Holder::start(&fleet, "cobblestone");
    holder.hold("nullstone", folder.path(), Rights::Write);
    // A node with a roster of its own, as it was at that time.
    let own = fleet.enrol("nullstone");
    let older = fleet.newest();
    fleet.change(|_| {});
    let (keeper, link) = fleet.apart("nullstone", own.clone(), older, &holder);
    link.greet().await.expect("reaches it");
    assert_eq!(keeper.watch().borrow().number, fleet.newest().number, "it has got the newer one");
    // The other way: the admin has changed it there.
    let newer = {
        let mut roster = Roster::clone(&fleet.newest());
        roster.number += 1;
        roster.made = Timestamp::from_seconds(5);
        roster.sign(&fleet.admin)
    };
    let (_, link) = fleet.apart("nullstone", own, Arc::new(newer), &holder);
    link.greet().await.expect("reaches it");
    assert_eq!(fleet.newest().made, Timestamp::from_seconds(5), "the holder has got the newer one");
    holder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_a_holder_does_not_know_yet_shows_that_it_belongs_to_the_fleet() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let holder = Holder::start(&fleet, "cobblestone");
    holder.hold("nullstone", folder.path(), Rights::Write);
    let before = fleet.newest();
    // Enrolled elsewhere: the certificate is of the same authority.
    let seed = Secret::random();
    let key = NodeKey::of_seed(&seed);
    let certificate = fleet.authority.issue(&node("nullstone"), &key, NOW, VALID).expect("a certificate");
    let own = backstay_net::identity::OwnCertificate::new(Certificate::from_seed(vec![certificate], &seed))
        .expect("good");
    let mut roster = Roster::clone(&before);
    roster.number += 1;
    let member = Member {
        signer: Signer::from_seed(&Secret::random()).public(),
        recipient: "age1nullstone".to_owned(),
        tls_key: key.hash(),
        tailnet_id: None,
    };
    // One that does not have it is refused.
    let (_, link) = fleet.apart("nullstone", own.clone(), Arc::clone(&before), &holder);
    let why = link.greet().await.expect_err("is not known").to_string();
    assert!(why.contains("is not, or not any more, a node of the fleet"), "{why}");
    // One that claims to have one, and has none that the admin has signed, is as well.
    roster.members.insert(node("nullstone"), member);
    let forged = Arc::new(roster.clone().sign(&Signer::from_seed(&Secret::random())));
    let (_, link) = fleet.apart("nullstone", own.clone(), forged, &holder);
    let store = fleet.store_over(&link);
    use backstay_vault::store::{Folder, Store};
    store.list(&Folder::new(&[&"packs"])).await.expect_err("is not let in");
    assert_eq!(fleet.newest().number, before.number);
    let (_, link) = fleet.apart("nullstone", own, Arc::new(roster.sign(&fleet.admin)), &holder);
    let store = fleet.store_over(&link);
    store.list(&Folder::new(&[&"packs"])).await.expect("is let in by its roster");
    assert_eq!(fleet.newest().number, before.number + 1);
    holder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_for_the_key_that_was_shown_also_when_it_is_expired() {
    let fleet = Fleet::new();
    let folder = tempfile::tempdir().expect("a folder");
    let holder = Holder::start(&fleet, "cobblestone");
    holder.hold("nullstone", folder.path(), Rights::Write);
    holder.issue_by(Authority::generate(&fleet.name, &Secret::random(), NOW).expect("an authority"), &fleet);
    let seed = Secret::random();
    let certificate = fleet.enrol_key_for("nullstone", &NodeKey::of_seed(&seed), HOUR);
    let own = backstay_net::identity::OwnCertificate::new(Certificate::from_seed(vec![certificate], &seed))
        .expect("good");
    fleet.clock.advance(2 * HOUR);
    let caller = fleet.caller_with("nullstone", own.clone());
    let chain = caller.link(&holder).renew().await.expect("renews");
    own.replace(Certificate::from_seed(chain, &seed)).expect("is for its key");
    use backstay_vault::name::Named;
    use backstay_vault::store::Store;
    let content = Bytes::from_static(b"written again");
    let name = Named::Pack(backstay_core::id::PackId::new(*blake3::hash(&content).as_bytes())).to_name();
    caller.store(&holder).put(&name, content).await.expect("it may write again");
    holder.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_roster_that_was_changed_on_two_nodes_at_once_is_told_and_not_taken() {
    let fleet = Fleet::new();
    fleet.enrol("nullstone");
    let newest = fleet.newest();
    let (keeper, _link) = {
        let folder = tempfile::tempdir().expect("a folder");
        let holder = Holder::start(&fleet, "cobblestone");
        holder.hold("nullstone", folder.path(), Rights::Write);
        let own = fleet.enrol("nullstone");
        fleet.apart("nullstone", own, fleet.newest(), &holder)
    };
    let number = keeper.watch().borrow().number;
    let other = |seconds| {
        let mut roster = Roster::clone(&newest);
        (roster.number, roster.made) = (number + 1, Timestamp::from_seconds(seconds));
        roster.sign(&fleet.admin).bytes().clone()
    };
    assert!(keeper.offer(other(1)).expect("is newer"));
    let forked = keeper.offer(other(2)).expect_err("is another one of that number");
    assert!(forked.to_string().contains("changed on two nodes at the same time"), "{forked}");
    assert!(!keeper.offer(other(1)).expect("is the same"));
    assert!(!keeper.offer(newest.bytes().clone()).expect("is older"));
}
