//! Names of environment variables. Owns what such a name may look like; what a variable is for is said where it stands.

use std::borrow::Borrow;
use std::fmt;

use super::name::Name;
use super::problem::{FromText, Refusal, excerpt};

/// The longest name of a variable, bytes.
pub const VARIABLE_BYTES_MAX: usize = 255;

/// The name of an environment variable: letters, digits and `_`, not beginning with a digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VariableName(String);

impl VariableName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VariableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Borrow<str> for VariableName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromText for VariableName {
    fn from_text(text: &str) -> Result<Self, Refusal> {
        if is_variable(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(Refusal::new(
            format!("{:?} cannot be the name of an environment variable", excerpt(text)),
            "use letters, digits and _, not a digit first",
        ))
    }
}

impl Name for VariableName {
    const WHAT: &'static str = "environment variable";
}

/// Whether a text is such a name.
pub(super) fn is_variable(name: &str) -> bool {
    let initial = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    name.len() <= VARIABLE_BYTES_MAX
        && name.bytes().next().is_some_and(initial)
        && name.bytes().all(|b| initial(b) || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_could_not_assign_is_no_variable() {
        for text in ["PGPASSWORD", "_", "a1", &"x".repeat(255)] {
            assert_eq!(VariableName::from_text(text).unwrap().as_str(), text);
        }
        for text in ["", "1a", "A=B", "A B", "Ä", "A\0", &"x".repeat(256)] {
            assert!(VariableName::from_text(text).is_err(), "{text:?} was accepted");
        }
    }
}
