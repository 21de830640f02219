//! The client of tailscaled on a tailnet of real parts: headscale and two nodes with tailscaled, each in a network namespace of
//! its own. `cargo xtask test tailnet` builds the parts and runs this; a plain `cargo test` leaves it out.

mod headscale;
mod node;
mod on_a_real_tailnet;
mod rig;
