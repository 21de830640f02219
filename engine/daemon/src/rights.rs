//! What this process may not do although it is root: under systemd, the unit takes away what it does not need. Says what is
//! missing in silence otherwise; what fails says so by itself.

use rustix::thread::{CapabilitySet, capabilities};

/// Said when the daemon begins.
const NO_TRUSTED_ATTRIBUTES: &str = "note: attributes trusted.* (of overlayfs, GlusterFS and the like) are not captured: the kernel hides them from processes without CAP_SYS_ADMIN. Trees that have such attributes take the drop-in trusted-attributes.conf of the unit";

/// A line for what a capture lacks in silence, if anything. A user who is not root has never seen these attributes.
pub fn silent_lack() -> Option<&'static str> {
    let is_root = rustix::process::geteuid().is_root();
    let effective = capabilities(None).ok()?.effective;
    (is_root && !effective.contains(CapabilitySet::SYS_ADMIN)).then_some(NO_TRUSTED_ATTRIBUTES)
}
