//! The hash of what is put, which the signature of a request covers. The SDK makes it on a thread of the runtime, on which everything
//! else waits meanwhile: some 30 ms for a pack where the processor has instructions for SHA-256, some 100 where it has not (as `openssl
//! speed sha256` has it).

use aws_lc_rs::digest::{SHA256, digest};
use aws_runtime::auth::PayloadSigningOverride;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::Intercept;
use aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;
use bytes::Bytes;
use tokio::task::spawn_blocking;

use crate::error::Fault;

/// What is shorter, bytes, is hashed where it is: it takes less than to hand it on and back.
const APART_FROM: usize = 64 << 10;

/// A request with this is signed with a hash of its contents that was made before.
#[derive(Debug, Clone)]
pub(crate) struct Hashed([u8; 32]);

/// Hashes what is to be put.
pub(crate) async fn hash(content: &Bytes) -> Result<Hashed, Fault> {
    if content.len() < APART_FROM {
        return Ok(hash_here(content));
    }
    let content = content.clone();
    let hashed = spawn_blocking(move || hash_here(&content)).await;
    hashed.map_err(|error| Fault::passing(error.to_string()))
}

fn hash_here(content: &[u8]) -> Hashed {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, content).as_ref());
    Hashed(hash)
}

impl Hashed {
    /// As the header of a checksum has it.
    pub(crate) fn in_base64(&self) -> String {
        aws_smithy_types::base64::encode(self.0)
    }

    /// As a signature has it.
    fn in_hexadecimal(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Intercept for Hashed {
    fn name(&self) -> &'static str {
        "hashed before"
    }

    fn modify_before_signing(
        &self,
        _: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(PayloadSigningOverride::Precomputed(self.in_hexadecimal()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn what_is_long_is_hashed_elsewhere_than_on_the_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build();
        let runtime = runtime.expect("a runtime");
        let _within = runtime.enter();
        // The only thread for that has something else to do.
        let (release, held) = mpsc::channel::<()>();
        let busy = spawn_blocking(move || held.recv());
        let content = Bytes::from(vec![0; APART_FROM]);
        let mut hashed = pin!(hash(&content));
        let mut context = Context::from_waker(Waker::noop());
        assert!(hashed.as_mut().poll(&mut context).is_pending(), "it was hashed here");
        release.send(()).expect("it waits");
        let hashed = runtime.block_on(hashed).expect("is hashed");
        // `head -c 65536 /dev/zero | sha256sum`.
        let expected = "de2f256064a0af797747c2b97505dc0b9f3df0de4f489eac731c23ae9ca9cc31";
        assert_eq!(hashed.in_hexadecimal(), expected);
        runtime.block_on(busy).expect("has ended").expect("was told");
    }
}
