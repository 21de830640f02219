//! Messages on the control socket: their shapes, framing, limits and versions. Sans-I/O: no sockets, no
//! clock, no runtime. What the messages make the daemon do is the daemon's business.

pub mod control;
pub mod frame;
pub mod peer;
pub mod progress;
pub mod secret;
pub mod status;
pub mod upkeep;
