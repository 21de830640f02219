//! A text that only its reader sees: it travels over the control socket, is never printed, and is wiped when dropped.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A secret text.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The secret that is this text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text. Not for messages and logs.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Ask, Request, VERSION};
    use crate::upkeep::Upkeep;

    #[test]
    fn a_secret_travels_and_is_not_shown() {
        let recovery = Some(SecretText::new("AGE-SECRET-KEY-1X".into()));
        let ask = Ask::Upkeep(Upkeep::TakeCustody { vault: "local".into(), recovery });
        let request = Request { version: VERSION, ask };
        let shown = format!("{request:?}");
        assert!(shown.contains("local") && !shown.contains("AGE-SECRET"), "{shown}");
        let json = serde_json::to_string(&request).expect("encodes");
        let wanted = concat!(
            r#"{"version":3,"ask":{"upkeep":{"take_custody":{"#,
            r#""vault":"local","recovery":"AGE-SECRET-KEY-1X"}}}}"#
        );
        assert_eq!(json, wanted);
        assert_eq!(serde_json::from_str::<Request>(&json).expect("decodes"), request);
    }
}
