//! Names of users of the system. Owns what such a name may look like; whether there is such a user is for the daemon
//! to find out.

use std::fmt;
use std::str::FromStr;

use super::problem::{FromText, Refusal, excerpt};

/// The longest name of a user, bytes: what `useradd` takes.
const USER_BYTES_MAX: usize = 32;

/// The name of a user of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserName(String);

impl UserName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A text that cannot be the name of a user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} cannot be the name of a user; write the name of a user of this machine, as in /etc/passwd")]
pub struct UserNameError {
    /// The text, cut for display.
    pub text: String,
}

/// A number is no name: it would be taken for one by some programs, and for an id by others.
impl FromStr for UserName {
    type Err = UserNameError;

    fn from_str(text: &str) -> Result<Self, UserNameError> {
        let initial = |b: u8| b.is_ascii_alphabetic() || b == b'_';
        let good = (1..=USER_BYTES_MAX).contains(&text.len())
            && text.bytes().next().is_some_and(initial)
            && text.bytes().all(|b| initial(b) || b.is_ascii_digit() || b"-.".contains(&b));
        if good { Ok(Self(text.to_owned())) } else { Err(UserNameError { text: excerpt(text) }) }
    }
}

impl FromText for UserName {
    fn from_text(text: &str) -> Result<Self, Refusal> {
        text.parse().map_err(|UserNameError { text }| {
            let what = format!("{text:?} cannot be the name of a user");
            Refusal::new(what, "write the name of a user of this machine, as in /etc/passwd")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names_and_no_numbers() {
        for text in ["postgres", "www-data", "_apt", "a.b", &"x".repeat(32)] {
            assert_eq!(UserName::from_text(text).unwrap().as_str(), text);
        }
        for text in ["", "0", "-u", "a b", "a:b", "a/b", "é", &"x".repeat(33)] {
            assert!(UserName::from_text(text).is_err(), "{text:?} was accepted");
        }
    }
}
