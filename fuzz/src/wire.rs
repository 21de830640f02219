//! Messages on the control socket, and between nodes.

use std::fmt::Debug;

use backstay_wire::control::{Reply, Request};
use backstay_wire::frame::{MESSAGE_BYTES_MAX, body_length, decode, encode};
use backstay_wire::peer::{self, Answer, Greeting, ReplicaListing};

/// A frame: its prefix, and its body as request and as reply.
pub fn frame(data: &[u8]) {
    let Some((prefix, body)) = data.split_first_chunk() else { return };
    if let Ok(length) = body_length(*prefix) {
        assert!(length <= MESSAGE_BYTES_MAX);
    }
    if let Ok(request) = decode::<Request>(body) {
        let again = encode(&request).expect("what was short enough is");
        assert_eq!(decode::<Request>(&again[4..]).ok(), Some(request));
    }
    let _ = decode::<Reply>(body);
}

/// A frame between nodes: its prefix, and its body as each kind of message.
pub fn peer_message(data: &[u8]) {
    let Some((prefix, body)) = data.split_first_chunk() else { return };
    if let Ok(length) = peer::body_length(*prefix) {
        assert!((1..=peer::MESSAGE_BYTES_MAX).contains(&length));
    }
    said_again::<Greeting>(body);
    said_again::<peer::Request>(body);
    said_again::<Answer>(body);
    said_again::<peer::JoinRequest>(body);
    said_again::<peer::JoinAnswer>(body);
}

/// What stands of replicas, as a payload.
pub fn replica_listing(data: &[u8]) {
    if let Ok(listing) = ReplicaListing::of_payload(data) {
        let again = listing.to_payload().expect("what was short enough is");
        assert_eq!(ReplicaListing::of_payload(&again).as_ref(), Ok(&listing));
    }
}

/// What was understood is the same when it is sent on.
fn said_again<T>(body: &[u8])
where
    T: for<'b> minicbor::Decode<'b, ()> + minicbor::Encode<()> + PartialEq + Debug,
{
    if let Ok(message) = peer::decode::<T>(body) {
        // Not longer than it came: each key and number is in its shortest form.
        let again = peer::encode(&message).expect("what was short enough is");
        assert_eq!(peer::decode::<T>(&again[peer::PREFIX_BYTES..]).as_ref(), Ok(&message));
    }
}
