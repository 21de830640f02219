//! Copying of points into another vault of the domain.

mod copies;
mod crashes;
mod scene;
