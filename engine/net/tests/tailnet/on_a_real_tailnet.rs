//! What the client makes of real answers, and what it may rely on.

use std::net::{IpAddr, SocketAddr};

use backstay_core::config::{ListenAddress, NodeName};
use backstay_net::tailnet::{BackendState, OwnNode, TailnetError, vouches};
use backstay_testkit::process::wait_for;

use crate::node::Node;
use crate::rig::Rig;

const PORT: u16 = 7420;

fn cobblestone() -> NodeName {
    "cobblestone".parse().expect("a name")
}

/// The address of a node in the family of another.
fn like(node: &OwnNode, other: IpAddr) -> IpAddr {
    let found = node.addresses.iter().find(|address| address.is_ipv4() == other.is_ipv4());
    *found.expect("an address of each family")
}

/// Both nodes have the same view, once the control server has told them.
fn met(asker: &Node, other: &OwnNode) {
    let from = SocketAddr::new(other.addresses[0], PORT);
    wait_for("the other node", || {
        asker.whois(from).and_then(|peer| {
            let current = peer.stable_id == other.stable_id;
            current.then_some(()).ok_or(TailnetError::NotANode { address: from })
        })
    });
}

#[test]
#[ignore = "run by cargo xtask test tailnet"]
fn a_node_knows_itself_and_whoever_reaches_it() {
    let rig = Rig::start();
    let (null, cobble) = (rig.null.log_in(&rig.headscale), rig.cobble.log_in(&rig.headscale));

    for (node, own, name) in [(&rig.null, &null, "null"), (&rig.cobble, &cobble, "cobble")] {
        assert_eq!(rig.headscale.nodes_named(name), [own.stable_id.as_str()]);
        let printed = node.tailscale(&["ip"]).expect("its addresses");
        let addresses: Vec<_> = own.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(printed.lines().collect::<Vec<_>>(), addresses);
        assert_eq!(own.name, format!("{name}.tailnet.test"));
    }
    assert_ne!(null.stable_id, cobble.stable_id);
    met(&rig.null, &cobble);
    met(&rig.cobble, &null);

    let listen = ListenAddress::Tailnet { port: PORT };
    let sockets = rig.cobble.asked(async |api| api.listen_on(listen).await).expect("its addresses");
    assert_eq!(sockets.iter().map(SocketAddr::ip).collect::<Vec<_>>(), cobble.addresses);
    assert_eq!(sockets.len(), 2, "an address of each family: {sockets:?}");
    for address in sockets {
        let receiver = rig.cobble.bind(address).expect("it can be listened on here");
        rig.null.bind(address).expect_err("it is an address of the other host");
        let from = rig.null.reaches(like(&null, address.ip()), &receiver);
        let peer = rig.cobble.whois(from).expect("it came over the tailnet");
        assert_eq!((&peer.stable_id, peer.host()), (&null.stable_id, "null"));
        assert_eq!(vouches(&cobblestone(), &null.stable_id, &peer), Ok(()));
        vouches(&cobblestone(), &cobble.stable_id, &peer).expect_err("it is another node");
    }

    // The same two hosts, past the tailnet.
    let receiver = rig.cobble.bind(SocketAddr::new(rig.cobble.outside.into(), PORT)).expect("its address");
    let from = rig.null.reaches(rig.null.outside.into(), &receiver);
    let error = rig.cobble.whois(from).expect_err("it did not come over the tailnet");
    assert!(matches!(error, TailnetError::NotANode { .. }), "{error}");
}

#[test]
#[ignore = "run by cargo xtask test tailnet"]
fn a_node_that_is_not_connected_says_why_and_vouches_for_nobody() {
    let mut rig = Rig::start();
    wait_for("the state of a new node", || match rig.null.status() {
        Err(TailnetError::NotRunning(BackendState::NeedsLogin)) => Ok(()),
        Err(error) => Err(error.to_string()),
        Ok(own) => panic!("it is connected without a login: {own:?}"),
    });
    let (null, cobble) = (rig.null.log_in(&rig.headscale), rig.cobble.log_in(&rig.headscale));
    met(&rig.null, &cobble);
    let from = SocketAddr::new(cobble.addresses[0], PORT);

    rig.null.tailscale(&["down"]).expect("it stops");
    for error in [rig.null.status().expect_err("stopped"), rig.null.whois(from).expect_err("stopped")] {
        assert!(matches!(error, TailnetError::NotRunning(BackendState::Stopped)), "{error}");
    }
    // This is why its state is asked as well. Where this fails, one question may be enough.
    let remembered =
        rig.null.tailscale(&["whois", &from.to_string()]).expect("tailscaled itself still vouches");
    assert!(remembered.contains(&cobble.name), "{remembered}");

    assert_eq!(rig.null.go_on(), null, "stopping changes nothing");

    rig.null.tailscale(&["logout"]).expect("it logs out");
    for error in [rig.null.status().expect_err("logged out"), rig.null.whois(from).expect_err("logged out")] {
        assert!(matches!(error, TailnetError::NotRunning(BackendState::NeedsLogin)), "{error}");
    }

    rig.null.end();
    let error = rig.null.status().expect_err("it has ended");
    assert!(matches!(error, TailnetError::Absent { .. }), "{error}");
}

#[test]
#[ignore = "run by cargo xtask test tailnet"]
fn a_node_that_was_registered_anew_is_not_the_one_that_was_bound() {
    let rig = Rig::start();
    let (null, cobble) = (rig.null.log_in(&rig.headscale), rig.cobble.log_in(&rig.headscale));
    met(&rig.cobble, &null);
    rig.null.tailscale(&["logout"]).expect("it logs out");
    rig.headscale.forget(null.stable_id.as_str());

    let anew = rig.null.log_in(&rig.headscale);
    assert_ne!(anew.stable_id, null.stable_id);
    met(&rig.cobble, &anew);
    let address = like(&cobble, anew.addresses[0]);
    let receiver = rig.cobble.bind(SocketAddr::new(address, PORT)).expect("its own address");
    let from = rig.null.reaches(anew.addresses[0], &receiver);
    let peer = rig.cobble.whois(from).expect("it came over the tailnet");
    let stranger = vouches(&cobblestone(), &null.stable_id, &peer).expect_err("another identifier");
    assert_eq!((stranger.bound, stranger.found), (null.stable_id, anew.stable_id.clone()));
    assert_eq!(vouches(&cobblestone(), &anew.stable_id, &peer), Ok(()));
}
