//! Copying of points into another vault of the domain.

mod beside;
mod copies;
mod crashes;
mod scene;
