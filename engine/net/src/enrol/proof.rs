//! That a node has the invitation: a keyed hash over what it shows and over the connection that it shows it on, so that it is of
//! use on no other one.

use backstay_wire::peer::JoinRequest;
use quinn::Connection;

/// What the connection is bound by (RFC 9266 has the like for TLS).
const EXPORTER: &[u8] = b"EXPORTER-backstay-join";

/// What the keyed hash is for.
const CONTEXT: &[u8] = b"backstay join 0\0";

/// What both sides know of a connection and nobody else does.
pub(super) fn binding(connection: &Connection) -> Result<[u8; 32], String> {
    let mut binding = [0; 32];
    match connection.export_keying_material(&mut binding, EXPORTER, b"") {
        Ok(()) => Ok(binding),
        Err(_) => Err("TLS gives no keying material".to_owned()),
    }
}

/// The proof for a request, whose own field for it is left out. Fields are framed by their lengths.
pub(super) fn proof(
    secret: &[u8; 16],
    binding: &[u8; 32],
    authority: &[u8; 32],
    request: &JoinRequest,
) -> [u8; 32] {
    let key = blake3::derive_key("backstay 2026-11-30 invitation", secret);
    let mut hasher = blake3::Hasher::new_keyed(&key);
    hasher.update(CONTEXT);
    let fields: [&[u8]; 7] = [
        binding,
        authority,
        request.node.as_bytes(),
        &request.tls_key,
        &request.signing_key,
        request.recipient.as_bytes(),
        &request.authority,
    ];
    for field in fields {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    *hasher.finalize().as_bytes()
}
