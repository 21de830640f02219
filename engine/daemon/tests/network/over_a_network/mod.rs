//! What must be so over a network that is no good. All of it needs what `cargo xtask test network` looks for.

mod partition;
mod weather;

use backstay_testkit::random;

/// A number from which all follows that goes by chance in the test; it is printed.
fn seed() -> u64 {
    let seed = random::seed();
    println!("seed: BACKSTAY_TEST_SEED={seed}");
    seed
}
