//! The names of configured things, one type each. Owns what a name may look like; refuses to know which
//! names are in use.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use super::problem::{FromText, Refusal, excerpt};

/// The longest name, in bytes: names become labels, file names and parts of unit names.
pub const NAME_BYTES_MAX: usize = 63;

/// A text that cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} cannot be the name of a {what}; use 1 to 63 of a-z, 0-9, - and _, starting with a letter or digit"
)]
pub struct NameError {
    /// What was to be named.
    pub what: &'static str,
    /// The text, cut for display.
    pub text: String,
}

impl From<NameError> for Refusal {
    fn from(error: NameError) -> Self {
        let NameError { what, text } = error;
        Self::new(
            format!("{text:?} cannot be the name of a {what}"),
            "use 1 to 63 of a-z, 0-9, - and _, starting with a letter or digit",
        )
    }
}

/// A name of one kind of thing: `[a-z0-9][a-z0-9_-]{0,62}`.
pub(super) trait Name: FromText + Ord + Clone + fmt::Display + Borrow<str> {
    /// What it names, for messages.
    const WHAT: &'static str;
}

macro_rules! name {
    ($(#[$meta:meta])* $type:ident, $what:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(String);

        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                checked($what, text).map(Self)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl FromText for $type {
            fn from_text(text: &str) -> Result<Self, Refusal> {
                Ok(text.parse::<Self>()?)
            }
        }

        impl Name for $type {
            const WHAT: &'static str = $what;
        }
    };
}

name!(
    /// The name of a fleet.
    FleetName, "fleet"
);
name!(
    /// The name of a node.
    NodeName, "node"
);
name!(
    /// The name of a vault.
    VaultName, "vault"
);
impl VaultName {
    /// A vault that goes by a node as well. With a point, which no name has that is written.
    pub(super) fn prefixed(what: &str, node: &NodeName) -> Self {
        Self(format!("{what}.{node}"))
    }
}

name!(
    /// The name of a policy.
    PolicyName, "policy"
);
name!(
    /// The name of a service.
    ServiceName, "service"
);
impl ServiceName {
    /// The service of the fleet's own sources. No name that is written begins so.
    pub(super) fn fleet() -> Self {
        Self(SourceName::FLEET.to_owned())
    }
}

name!(
    /// The name of a `command` source within its service.
    CommandName, "command"
);

/// The name of a source: `SERVICE.KIND` (for a command `SERVICE.NAME`), or `_fleet.NODE`, the source under which
/// a node keeps its part of the fleet's own configuration in every vault.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(String);

impl SourceName {
    /// What the names of the fleet's own sources begin with, as if it were a service. None can have this name.
    pub const FLEET: &'static str = "_fleet";

    /// The source under which a node keeps its part of the fleet's configuration.
    pub fn fleet_of(node: &NodeName) -> Self {
        Self(format!("{}.{node}", Self::FLEET))
    }

    /// The node whose part of the fleet's configuration this is, if it is that of any.
    pub fn as_fleet_of(&self) -> Option<&str> {
        self.0.split_once('.').filter(|(service, _)| *service == Self::FLEET).map(|(_, node)| node)
    }

    /// The name of a service's source; `part` is `files`, `zfs`, `postgres` or a command's name.
    pub(super) fn new(service: &ServiceName, part: &str) -> Self {
        Self(format!("{service}.{part}"))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads the full form only. To resolve what a user typed, use
/// [`Config::find_source`](super::Config::find_source).
impl FromStr for SourceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (service, part) =
            text.split_once('.').ok_or_else(|| NameError { what: "source", text: excerpt(text) })?;
        if service == Self::FLEET {
            return Ok(Self::fleet_of(&part.parse()?));
        }
        Ok(Self::new(&service.parse()?, &checked("source", part)?))
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

fn checked(what: &'static str, text: &str) -> Result<String, NameError> {
    let initial = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let fits = (1..=NAME_BYTES_MAX).contains(&bytes.len())
        && initial(bytes[0])
        && bytes.iter().all(|&b| initial(b) || b == b'-' || b == b'_');
    if fits { Ok(text.to_owned()) } else { Err(NameError { what, text: excerpt(text) }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_lower_case_labels() {
        for text in ["a", "0", "matrix", "pg-main_2", &"x".repeat(63)] {
            assert_eq!(text.parse::<ServiceName>().unwrap().as_str(), text);
        }
        for text in ["", "-a", "_fleet", "Matrix", "a.b", "a b", "ä", &"x".repeat(64)] {
            assert!(text.parse::<ServiceName>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_source_is_named_by_its_service_and_kind() {
        let name: SourceName = "matrix.dump".parse().unwrap();
        assert_eq!(name.as_str(), "matrix.dump");
        assert_eq!(name.as_fleet_of(), None);
        let fleet: SourceName = "_fleet.box".parse().unwrap();
        assert_eq!((fleet.as_str(), fleet.as_fleet_of()), ("_fleet.box", Some("box")));
        for text in ["matrix", "matrix.", ".dump", "a.b.c", "_other", "_other.box", "_fleet", "_fleet."] {
            assert!(text.parse::<SourceName>().is_err(), "{text:?} was accepted");
        }
    }
}
