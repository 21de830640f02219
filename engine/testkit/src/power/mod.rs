//! A disk that loses power. [`LossyDisk`] is below a store of a directory: it does what it is told, without syncing, and
//! writes down every call. [`Model`] replays them up to any of them and says what POSIX lets a loss of power leave there:
//! a file that was not synced may be empty, torn, full of zeros or whole; each name in a folder that was not synced may
//! have been made, changed or removed, or not, without regard to any other.

mod disk;
mod image;
mod model;

pub use disk::{Death, Forgets, LossyDisk, Record, Step};
pub use image::{Image, NoSync};
pub use model::Model;
