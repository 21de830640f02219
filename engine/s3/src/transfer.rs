//! Bodies of answers, read to their end or given up when nothing comes any more.

use std::time::Duration;

use aws_smithy_types::byte_stream::ByteStream;
use backstay_vault::store::{Pace, StoreErrorKind, Way};
use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use crate::error::Fault;

/// Reads all of it, which must be so many bytes.
pub(crate) async fn read(
    mut body: ByteStream,
    length: u64,
    pace: &Pace,
    stall: Duration,
) -> Result<Bytes, Fault> {
    let too_large = |_| Fault::of(StoreErrorKind::TooLarge, format!("{length} bytes"));
    let mut content = BytesMut::with_capacity(usize::try_from(length).map_err(too_large)?);
    loop {
        let piece = timeout(stall, body.next()).await;
        match piece {
            Ok(Some(Ok(piece))) => {
                if content.len() as u64 + piece.len() as u64 > length {
                    return Err(Fault::passing(format!("more than the {length} bytes that were announced")));
                }
                content.extend_from_slice(&piece);
                pace.wait(Way::Down, piece.len()).await;
            }
            Ok(Some(Err(error))) => return Err(Fault::passing(format!("the answer broke off: {error}"))),
            Ok(None) if content.len() as u64 == length => return Ok(content.freeze()),
            Ok(None) => {
                return Err(Fault::passing(format!(
                    "the answer ended after {} of {length} bytes",
                    content.len()
                )));
            }
            Err(_) => return Err(Fault::passing(format!("nothing has come for {} s", stall.as_secs()))),
        }
    }
}
