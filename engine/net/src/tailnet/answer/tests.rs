//! Answers as tailscaled 1.98.10 has given them, and what may become of them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const STATUS: &[u8] = include_bytes!("status.json");
const WHOIS: &[u8] = include_bytes!("whois.json");

fn own(body: &[u8]) -> Result<OwnNode, TailnetError> {
    own_node("`status`", StatusAnswer::read("`status`", body)?)
}

fn owner(address: &str, body: &[u8]) -> Result<Peer, TailnetError> {
    peer("`whois`", SocketAddr::new(address.parse().unwrap(), 7420), body)
}

/// The real answer after `change`.
fn changed(answer: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value = serde_json::from_slice(answer).unwrap();
    change(&mut value);
    serde_json::to_vec(&value).unwrap()
}

fn why(result: Result<OwnNode, TailnetError>) -> String {
    match result.expect_err("it was accepted") {
        TailnetError::Malformed { why, .. } => why,
        other => panic!("another error: {other}"),
    }
}

#[test]
fn a_real_status_says_who_this_node_is() {
    let node = own(STATUS).unwrap();
    assert_eq!((node.stable_id.as_str(), node.name.as_str()), ("2", "node-a.tailnet.test"));
    let addresses: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["100.64.0.2", "fd7a:115c:a1e0::2"]);
    assert_eq!(node.interface, Interface::Tun);
}

#[test]
fn a_real_whois_says_who_is_behind_each_of_its_addresses() {
    for address in ["100.64.0.1", "fd7a:115c:a1e0::1"] {
        let peer = owner(address, WHOIS).unwrap();
        assert_eq!((peer.stable_id.as_str(), peer.host()), ("1", "node-b"));
    }
}

#[test]
fn a_node_that_tailscaled_only_forwards_for_is_none() {
    for address in ["127.0.0.1", "100.64.0.2"] {
        assert!(matches!(owner(address, WHOIS), Err(TailnetError::NotANode { .. })), "{address}");
    }
    let subnet = changed(WHOIS, |value| value["Node"]["Addresses"] = json!(["192.168.0.0/24"]));
    assert!(matches!(owner("192.168.0.0", &subnet), Err(TailnetError::NotANode { .. })));
}

#[test]
fn every_state_but_running_is_an_error_that_says_what_to_do() {
    for (state, part) in [
        ("Stopped", "run `tailscale up`"),
        ("NeedsLogin", "run `tailscale up`"),
        ("NeedsMachineAuth", "approve"),
        ("Starting", "still connecting"),
        ("NoState", "just begun"),
        ("InUseOtherUser", "another user"),
        ("Sleeping\u{1b}[2J", "Sleeping [2J"),
    ] {
        let body = changed(STATUS, |value| value["BackendState"] = json!(state));
        let error = own(&body).expect_err(state);
        assert!(matches!(error, TailnetError::NotRunning(_)), "{error}");
        assert!(error.to_string().contains(part), "{state}: {error}");
        assert_eq!(error.is_transient(), ["Starting", "NoState"].contains(&state), "{state}");
    }
}

#[test]
fn a_state_is_told_where_nothing_else_is_known() {
    let error = own(br#"{"BackendState":"NeedsLogin","TailscaleIPs":null,"Self":null}"#).expect_err("state");
    assert!(matches!(error, TailnetError::NotRunning(BackendState::NeedsLogin)), "{error}");
}

#[test]
fn addresses_that_stand_for_more_than_the_tailnet_are_refused() {
    for address in
        ["0.0.0.0", "::", "127.0.0.1", "::1", "224.0.0.1", "255.255.255.255", "fe80::1", "::ffff:0.0.0.0"]
    {
        let body = changed(STATUS, |value| value["TailscaleIPs"] = json!(["100.64.0.2", address]));
        assert!(why(own(&body)).contains("cannot be the address of a node"), "{address}");
    }
    let none = changed(STATUS, |value| value["TailscaleIPs"] = json!([]));
    assert!(why(own(&none)).contains("empty"));
    let many: Vec<_> = (0..17).map(|last| format!("100.64.0.{last}")).collect();
    let many = changed(STATUS, |value| value["TailscaleIPs"] = json!(many));
    assert!(why(own(&many)).contains("more than 16"));
}

#[test]
fn a_node_without_an_identifier_is_refused() {
    for id in [json!(""), json!(null), json!("a b")] {
        let body = changed(STATUS, |value| value["Self"]["ID"] = id.clone());
        assert!(why(own(&body)).contains("Self.ID"), "{id}");
        let body = changed(WHOIS, |value| value["Node"]["StableID"] = id.clone());
        assert!(matches!(owner("100.64.0.1", &body), Err(TailnetError::Malformed { .. })), "{id}");
    }
}

#[test]
fn what_is_not_understood_is_told_in_few_words() {
    let long = changed(STATUS, |value| value["TUN"] = json!("x\n".repeat(10_000)));
    let why = why(own(&long));
    assert!(why.len() < 500 && !why.contains('\n'), "{why}");
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(at in 0..STATUS.len(), cut in 0..WHOIS.len(), byte: u8) {
        let mut damaged = STATUS.to_vec();
        damaged[at] = byte;
        let _ = own(&damaged);
        let _ = owner("100.64.0.1", &WHOIS[..cut]);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = own(&bytes);
        let _ = owner("100.64.0.1", &bytes);
    }
}
