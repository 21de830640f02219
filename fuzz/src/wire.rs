//! Messages on the control socket.

use backstay_wire::control::{Reply, Request};
use backstay_wire::frame::{MESSAGE_BYTES_MAX, body_length, decode, encode};

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
