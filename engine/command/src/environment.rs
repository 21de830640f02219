//! The environment of a program: a few variables that every program gets, those of the configuration, and secrets. Owns
//! what is in it; nothing of the daemon's own environment is, but what a reference names.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use backstay_core::config::{SecretRef, VariableName};
use zeroize::Zeroizing;

use crate::launch::{SEARCH_PATH, Value, Variable, read_secret};
use crate::user::User;

/// Messages of programs should not depend on the host's language, and their output may be UTF-8.
const LANG: &str = "C.UTF-8";

/// Shorter secrets are not looked for in what a program says: they would be found everywhere.
const HIDDEN_BYTES_LEAST: usize = 4;

/// A secret that cannot be had. Does not repeat it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable that it is in is not set.
    #[error(
        "the secret {name} is not there: {reference} is not set for the daemon; set it, or correct the reference"
    )]
    NotSet {
        /// The variable that should get it.
        name: String,
        /// Where it should be.
        reference: String,
    },
    /// The credential cannot be read.
    #[error(
        "the secret {name} cannot be read from {reference}: {cause}; see LoadCredential= of the daemon's unit"
    )]
    Credential {
        /// The variable that should get it.
        name: String,
        /// Where it should be.
        reference: String,
        /// Why not.
        cause: std::io::Error,
    },
}

/// The environment of a program.
#[derive(Clone)]
pub struct Environment {
    variables: BTreeMap<String, Value>,
    /// Those of them that are secret.
    secrets: Vec<String>,
}

/// Names only.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.variables.keys()).finish()
    }
}

impl Environment {
    /// What every program of this user gets.
    pub fn of(user: &User) -> Self {
        let given =
            [("HOME", user.home.as_str()), ("LANG", LANG), ("PATH", SEARCH_PATH), ("USER", &user.name)];
        let variables = given.map(|(name, value)| (name.to_owned(), Value::Bytes(value.into())));
        Self { variables: variables.into(), secrets: Vec::new() }
    }

    /// With these as well; they take the place of those of the same name.
    #[must_use]
    pub fn with(mut self, env: &BTreeMap<VariableName, String>) -> Self {
        let more =
            env.iter().map(|(name, value)| (name.to_string(), Value::Bytes(value.as_bytes().to_vec())));
        self.variables.extend(more);
        self
    }

    /// With these secrets. A file is read later, by the user that the program runs as.
    pub fn with_secrets(mut self, secrets: &BTreeMap<VariableName, SecretRef>) -> Result<Self, SecretError> {
        for (name, reference) in secrets {
            self.variables.insert(name.to_string(), value_of(name, reference)?);
            self.secrets.push(name.to_string());
        }
        Ok(self)
    }

    pub(crate) fn variables(&self) -> Vec<Variable> {
        let variables = self.variables.iter();
        variables.map(|(name, value)| Variable { name: name.clone(), value: value.clone() }).collect()
    }

    /// What must not be shown of what a program says. A file that cannot be read any more hides nothing.
    pub(crate) fn hidden(&self) -> Vec<Zeroizing<Vec<u8>>> {
        let values = self.secrets.iter().filter_map(|name| match self.variables.get(name)? {
            Value::Bytes(bytes) => Some(Zeroizing::new(bytes.clone())),
            Value::File(path) => read_secret(path).ok(),
        });
        values.filter(|value| value.len() >= HIDDEN_BYTES_LEAST).collect()
    }
}

fn value_of(name: &VariableName, reference: &SecretRef) -> Result<Value, SecretError> {
    let not_set = || SecretError::NotSet { name: name.to_string(), reference: reference.to_string() };
    match reference {
        SecretRef::Env(variable) => {
            let value = std::env::var_os(variable).ok_or_else(not_set)?;
            Ok(Value::Bytes(value.into_vec()))
        }
        SecretRef::File(path) => Ok(Value::File(path.to_string_lossy().into_owned())),
        SecretRef::Credential(credential) => {
            let folder = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(not_set)?;
            let path = Path::new(&folder).join(credential);
            let value = read_secret(&path.to_string_lossy()).map_err(|cause| SecretError::Credential {
                name: name.to_string(),
                reference: reference.to_string(),
                cause,
            })?;
            Ok(Value::Bytes(value.to_vec()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> User {
        User { name: "postgres".into(), home: "/var/lib/postgresql".into(), becomes: None }
    }

    fn text(variables: &[Variable]) -> Vec<String> {
        let shown = variables.iter().map(|Variable { name, value }| match value {
            Value::Bytes(bytes) => format!("{name}={}", String::from_utf8_lossy(bytes)),
            Value::File(path) => format!("{name}<{path}"),
        });
        shown.collect()
    }

    fn environment(secrets: &[(&str, &str)]) -> Result<Environment, SecretError> {
        let config = format!(
            "[fleet]\nname = \"f\"\n[node]\nname = \"n\"\n[vault.v]\nkind = \"dir\"\npath = \"/v\"\n\
             [service.s]\ncommand.dump = {{ run = [\"x\"], env = {{ PGHOST = \"/run\", LANG = \"de\" }}, secrets = {{ {} }} }}\n",
            secrets
                .iter()
                .map(|(name, reference)| format!("{name} = \"{reference}\""))
                .collect::<Vec<_>>()
                .join(", ")
        );
        use backstay_core::config::{Config, ConfigTexts, SourceKind, SourceText};
        let config = Config::parse(ConfigTexts::Single(SourceText { name: "test", text: &config }));
        let config = config.unwrap_or_else(|errors| panic!("{errors}"));
        let SourceKind::Command(command) = &config.sources[0].kind else { panic!("{config:?}") };
        Environment::of(&user()).with(&command.env).with_secrets(&command.secrets)
    }

    #[test]
    fn there_is_nothing_in_it_but_what_is_said() {
        let environment = environment(&[("PW", "file:/etc/pw")]).expect("an environment");
        assert_eq!(
            text(&environment.variables()),
            [
                "HOME=/var/lib/postgresql",
                "LANG=de",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "PGHOST=/run",
                "PW</etc/pw",
                "USER=postgres"
            ]
        );
        assert_eq!(format!("{environment:?}"), r#"["HOME", "LANG", "PATH", "PGHOST", "PW", "USER"]"#);
    }

    #[test]
    fn a_secret_that_is_not_there_is_named_by_its_reference() {
        let error = environment(&[("PW", "env:BACKSTAY_NOT_SET_ANYWHERE")]).expect_err("not set").to_string();
        assert!(error.contains("PW") && error.contains("env:BACKSTAY_NOT_SET_ANYWHERE"), "{error}");
        let error = environment(&[("PW", "credential:pg")]).expect_err("not set").to_string();
        assert!(error.contains("credential:pg"), "{error}");
    }

    #[test]
    fn values_of_secrets_are_hidden_and_those_of_others_are_not() {
        // Of this process's environment it is known that it has a path.
        let path = std::env::var("PATH").expect("a path");
        let environment = environment(&[("PW", "env:PATH")]).expect("an environment");
        let hidden = environment.hidden();
        assert_eq!(hidden.len(), 1);
        assert_eq!(hidden[0].as_slice(), path.as_bytes());
    }
}
