//! The node's identity and the keys of its domain: files under `state/identity`, readable by root alone.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use backstay_vault::keys::{AgeIdentity, Bundle, Secret, Signer};

use crate::failure::Failure;

const SIGNING_KEY: &str = "signing.key";
const AGE_IDENTITY: &str = "age.key";
const BUNDLE: &str = "domain.json";

/// Who this node is.
#[derive(Debug)]
pub struct Identity {
    folder: PathBuf,
    signing_seed: Secret,
    /// Opens what is wrapped to this node.
    pub age: AgeIdentity,
    /// The keys of the domain; none before the first vault.
    pub bundle: Option<Bundle>,
}

impl Identity {
    /// Reads the identity under `state`; a node that has none yet gets one.
    pub fn load_or_make(state: &Path) -> Result<Self, Failure> {
        super::make_state_folder(state)?;
        match Self::load(state)? {
            Some(identity) => {
                super::private::close(&identity.folder)?;
                for file in [SIGNING_KEY, AGE_IDENTITY, BUNDLE].map(|file| identity.folder.join(file)) {
                    if file.exists() {
                        super::private::close(&file)?;
                    }
                }
                Ok(identity)
            }
            None => Self::make(state),
        }
    }

    /// Reads the identity under `state`; where there is none, one that opens nothing and is not kept.
    pub fn load_or_borrow(state: &Path) -> Result<Self, Failure> {
        let unknown = || Self {
            folder: state.join("identity"),
            signing_seed: Secret::random(),
            age: AgeIdentity::generate(),
            bundle: None,
        };
        Ok(Self::load(state)?.unwrap_or_else(unknown))
    }

    /// Reads the identity under `state`, if there is one.
    pub fn load(state: &Path) -> Result<Option<Self>, Failure> {
        let folder = state.join("identity");
        let Some(seed) = read(&folder.join(SIGNING_KEY))? else { return Ok(None) };
        let damaged = |file: &str, why: &dyn std::fmt::Display| {
            Failure::failed(format!(
                "{} is damaged: {why}; bring it back from a copy of node.state, or remove {} to give the node a new identity",
                folder.join(file).display(),
                folder.display()
            ))
        };
        let id: backstay_core::id::ChunkId = seed.trim().parse().map_err(|e| damaged(SIGNING_KEY, &e))?;
        let age = read(&folder.join(AGE_IDENTITY))?.ok_or_else(|| damaged(AGE_IDENTITY, &"it is missing"))?;
        let age = AgeIdentity::from_file(&age).map_err(|e| damaged(AGE_IDENTITY, &e))?;
        let bundle = read(&folder.join(BUNDLE))?
            .map(|json| Bundle::from_json(json.as_bytes()).map_err(|e| damaged(BUNDLE, &e)))
            .transpose()?;
        Ok(Some(Self { signing_seed: Secret::new(*id.as_bytes()), age, bundle, folder }))
    }

    /// The node's signing key.
    pub fn signer(&self) -> Signer {
        Signer::from_seed(&self.signing_seed)
    }

    /// Keeps the keys of the domain.
    pub fn keep_bundle(&mut self, bundle: Bundle) -> Result<(), Failure> {
        super::write_durably(&self.folder.join(BUNDLE), &bundle.to_json())?;
        self.bundle = Some(bundle);
        Ok(())
    }

    fn make(state: &Path) -> Result<Self, Failure> {
        let folder = state.join("identity");
        super::make_state_folder(&folder)?;
        let signing_seed = Secret::random();
        let path = folder.join(AGE_IDENTITY);
        // One that is there already may be all that opens a vault: it is taken up and never written over.
        let age = match read(&path)? {
            Some(text) => AgeIdentity::from_file(&text).map_err(|error| {
                Failure::failed(format!(
                    "{} is damaged: {error}; move it away to get a new identity",
                    path.display()
                ))
            })?,
            None => {
                let age = AgeIdentity::generate();
                super::write_durably(&path, age.to_file().as_bytes())?;
                age
            }
        };
        // Last, because its presence says that the identity is whole.
        let seed = backstay_core::id::ChunkId::new(*signing_seed.as_bytes());
        super::write_durably(&folder.join(SIGNING_KEY), format!("{seed}\n").as_bytes())?;
        Ok(Self { folder, signing_seed, age, bundle: None })
    }
}

fn read(path: &Path) -> Result<Option<String>, Failure> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::failed(format!(
            "cannot read {}: {error}; {}",
            path.display(),
            super::advice(path, &error)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once_and_read_from_then_on() {
        let state = tempfile::tempdir().expect("a folder");
        let mut made = Identity::load_or_make(state.path()).expect("makes");
        let bundle = Bundle::generate();
        made.keep_bundle(bundle.clone()).expect("keeps");
        let read = Identity::load_or_make(state.path()).expect("reads");
        assert_eq!(read.signer().public(), made.signer().public());
        assert_eq!(read.bundle, Some(bundle));
    }

    #[test]
    fn a_key_that_opens_vaults_is_never_written_over() {
        let state = tempfile::tempdir().expect("a folder");
        let made = Identity::load_or_make(state.path()).expect("makes");
        fs::remove_file(state.path().join("identity").join(SIGNING_KEY)).expect("removes");
        let again = Identity::load_or_make(state.path()).expect("makes the rest");
        assert_eq!(again.age.recipient(), made.age.recipient());
        assert_ne!(again.signer().public(), made.signer().public());
    }
}
