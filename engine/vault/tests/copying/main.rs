//! Copying of points into another vault of the domain.

mod beside;
mod compromised;
mod copies;
mod crashes;
mod parts;
mod scene;
