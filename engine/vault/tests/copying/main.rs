//! Copying of points into another vault of the domain.

mod compromised;
mod copies;
mod crashes;
mod scene;
