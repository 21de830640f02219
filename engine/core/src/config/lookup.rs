//! Finding a source by what the operator typed. Owns the short form: a service's name is enough where it has
//! one source.

use super::nearest::nearest;
use super::problem::excerpt;
use super::{Config, Source};

/// No single source is meant by what was typed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceLookupError {
    /// Nothing has this name.
    #[error("there is no source {typed:?}; {}", advice(nearest.as_deref()))]
    Unknown {
        /// What was typed, cut for display.
        typed: String,
        /// The nearest name, when one is near.
        nearest: Option<String>,
    },
    /// A service with several sources.
    #[error("service {service} has several sources; name one of: {}", sources.join(", "))]
    Ambiguous {
        /// The service.
        service: String,
        /// The names of its sources.
        sources: Vec<String>,
    },
}

impl Config {
    /// The source that `typed` means: `SERVICE.KIND`, or `SERVICE` when it has one source; `_fleet` is this node's part of the
    /// fleet's configuration.
    ///
    /// # Errors
    /// [`SourceLookupError`], with the nearest name or the service's sources.
    pub fn find_source(&self, typed: &str) -> Result<&Source, SourceLookupError> {
        if let Some(source) = self.all_sources().find(|source| source.name.as_str() == typed) {
            return Ok(source);
        }
        if let Some(own) = self.fleet_sources.get(&self.node.name).filter(|own| own.service.as_str() == typed)
        {
            return Ok(own);
        }
        let of_service: Vec<_> =
            self.sources.iter().filter(|source| source.service.as_str() == typed).collect();
        match of_service.as_slice() {
            [] => {
                let services = self.services.keys().map(|service| service.as_str());
                let known = self.sources.iter().map(|source| source.name.as_str()).chain(services);
                let nearest = nearest(typed, known).map(str::to_owned);
                Err(SourceLookupError::Unknown { typed: excerpt(typed), nearest })
            }
            [only] => Ok(only),
            several => Err(SourceLookupError::Ambiguous {
                service: typed.to_owned(),
                sources: several.iter().map(|source| source.name.to_string()).collect(),
            }),
        }
    }
}

fn advice(nearest: Option<&str>) -> String {
    match nearest {
        Some(near) => format!("did you mean {near:?}?"),
        None => "`backstay check-config` lists them".to_owned(),
    }
}
