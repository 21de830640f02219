//! Bodies of answers, read to their end.

use aws_smithy_types::byte_stream::ByteStream;
use backstay_vault::store::StoreErrorKind;
use bytes::{Bytes, BytesMut};

use crate::error::Fault;

/// Reads all of it, which must be so many bytes.
pub(crate) async fn read(mut body: ByteStream, length: u64) -> Result<Bytes, Fault> {
    let too_large = |_| Fault::of(StoreErrorKind::TooLarge, format!("{length} bytes"));
    let mut content = BytesMut::with_capacity(usize::try_from(length).map_err(too_large)?);
    loop {
        match body.next().await {
            Some(Ok(piece)) => {
                if content.len() as u64 + piece.len() as u64 > length {
                    return Err(Fault::passing(format!("more than the {length} bytes that were announced")));
                }
                content.extend_from_slice(&piece);
            }
            Some(Err(error)) => return Err(Fault::moving(format!("the answer broke off: {error}"))),
            None if content.len() as u64 == length => return Ok(content.freeze()),
            None => {
                return Err(Fault::passing(format!(
                    "the answer ended after {} of {length} bytes",
                    content.len()
                )));
            }
        }
    }
}
