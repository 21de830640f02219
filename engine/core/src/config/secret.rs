//! References to secrets. Owns their three forms; refuses secrets themselves, and never repeats what was
//! written in place of a reference, since it may be one.

use std::fmt;
use std::path::PathBuf;

use super::problem::{FromText, ProblemKind, Refusal};
use super::table::Table;
use super::value::Value;
use super::variable::is_variable;

/// Where a secret is to be read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// `env:NAME`: an environment variable.
    Env(String),
    /// `file:PATH`: a file, read again on SIGHUP.
    File(PathBuf),
    /// `credential:NAME`: a systemd credential, fixed while the service runs.
    Credential(String),
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Credential(name) => write!(f, "credential:{name}"),
        }
    }
}

impl FromText for SecretRef {
    fn from_text(text: &str) -> Result<Self, Refusal> {
        let refusal = |what: &str| {
            Refusal::new(
                what,
                "write env:NAME, file:/ABSOLUTE/PATH or credential:NAME, and put the secret there",
            )
        };
        match text.split_once(':') {
            Some(("env", name)) if is_variable(name) => Ok(Self::Env(name.to_owned())),
            Some(("env", _)) => Err(refusal("after env: stands no name of an environment variable")),
            Some(("file", path)) => PathBuf::from_text(path)
                .map(Self::File)
                .map_err(|_| refusal("after file: stands no absolute path")),
            Some(("credential", name)) if is_credential(name) => Ok(Self::Credential(name.to_owned())),
            Some(("credential", _)) => {
                Err(refusal("after credential: stands no name of a systemd credential"))
            }
            _ => Err(refusal("a secret must not stand in the configuration, only a reference to it")),
        }
    }
}

/// The access keys of one S3 vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSecret {
    /// By which is read and written, and deleted where there is no other.
    pub writer: AccessKey,
    /// By which is deleted.
    pub custodian: Option<AccessKey>,
}

/// One access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its identifier.
    pub access: SecretRef,
    /// The secret that belongs to it.
    pub secret: SecretRef,
}

impl VaultSecret {
    /// All references, each with the name of its key in the table.
    pub fn references(&self) -> impl Iterator<Item = (&'static str, &SecretRef)> {
        let of_writer = [("access", &self.writer.access), ("secret", &self.writer.secret)];
        let custodian = self.custodian.iter();
        let of_custodian =
            custodian.flat_map(|key| [("custodian.access", &key.access), ("custodian.secret", &key.secret)]);
        of_writer.into_iter().chain(of_custodian)
    }
}

pub(super) fn read_vault_secret(value: &Value<'_>) -> Option<VaultSecret> {
    Table::read(value, |table| {
        let writer = read_key(table);
        let custodian = table.get("custodian");
        let has_custodian = custodian.is_some();
        let custodian = custodian.and_then(|value| Table::read(&value, read_key)?);
        let custodian_is_good = custodian.is_some() || !has_custodian;
        if let (Some(custodian), Some(writer)) = (&custodian, &writer)
            && custodian == writer
        {
            table.problem(ProblemKind::Conflict, || {
                Refusal::new(
                    "the custodian's key is the one by which is written",
                    "remove \"custodian\", or refer to a key of its own there",
                )
            });
        }
        custodian_is_good.then_some(VaultSecret { writer: writer?, custodian })
    })?
}

fn read_key(table: &mut Table<'_>) -> Option<AccessKey> {
    let access = table.require("access", "access = \"file:/etc/backstay/s3-id\"").and_then(|v| v.parse());
    let secret = table.require("secret", "secret = \"file:/etc/backstay/s3-key\"").and_then(|v| v.parse());
    Some(AccessKey { access: access?, secret: secret? })
}

fn is_credential(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    !name.is_empty() && name.len() <= 255 && name != "." && name != ".." && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_referred_to_in_three_ways() {
        for text in ["env:S3_KEY", "file:/etc/backstay/s3-key", "credential:s3-key"] {
            assert_eq!(SecretRef::from_text(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_literal_secret_is_refused_and_not_repeated() {
        for text in ["hunter2", "env:hunter 2", "file:hunter2", "credential:../hunter2", ""] {
            let refusal = SecretRef::from_text(text).expect_err(text);
            assert!(!format!("{} {}", refusal.what, refusal.fix).contains("hunter"), "{refusal:?}");
        }
    }
}
