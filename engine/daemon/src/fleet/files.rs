//! What a node of a fleet keeps under its state: its key and certificate for TLS, its authority if it issues any, and the newest
//! roster.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use backstay_core::config::FleetName;
use backstay_core::id::{ChunkId, SignerKey};
use backstay_core::units::Timestamp;
use backstay_net::identity::{Authority, Certificate, NodeKey, SignedRoster};
use backstay_vault::keys::Secret;
use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::pem;
use crate::failure::Failure;
use crate::node::{advice, make_state_folder, write_durably};

const TLS_KEY: &str = "tls.key";
const CERTIFICATE: &str = "tls.crt";
const ISSUER_KEY: &str = "issuer.key";
const ISSUER: &str = "issuer.crt";
const IMPORTED_KEY: &str = "imported.key";
const IMPORTED: &str = "imported.crt";
const ROSTER: &str = "roster";

/// The files, below `node.state`.
#[derive(Debug, Clone)]
pub struct Files {
    identity: PathBuf,
    fleet: PathBuf,
}

/// Held while the roster is changed: `invite` and the daemon may both do so.
#[derive(Debug)]
pub struct RosterTurn {
    _lock: File,
}

impl Files {
    /// Those of the node with this state.
    pub fn below(state: &Path) -> Self {
        Self { identity: state.join("identity"), fleet: state.join("fleet") }
    }

    /// The seed of this node's key for TLS; a new one where there is none.
    pub fn tls_seed_or_make(&self) -> Result<Secret, Failure> {
        self.seed_or_make(TLS_KEY)
    }

    /// What this node shows to others; none where it belongs to no fleet.
    pub fn certificate(&self) -> Result<Option<Certificate>, Failure> {
        if let Some(text) = read(&self.identity.join(IMPORTED))? {
            let key = read(&self.identity.join(IMPORTED_KEY))?.unwrap_or_default();
            let damaged = |why: &dyn std::fmt::Display| damaged(&self.identity.join(IMPORTED_KEY), why);
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| damaged(&error))?;
            let chain = pem::read_chain(&text).map_err(|why| damaged(&why))?;
            return Ok(Some(Certificate { chain, key }));
        }
        let path = self.identity.join(CERTIFICATE);
        let Some(text) = read(&path)? else { return Ok(None) };
        let chain = pem::read_chain(&text).map_err(|why| damaged(&path, &why))?;
        let seed =
            self.seed(TLS_KEY)?.ok_or_else(|| damaged(&self.identity.join(TLS_KEY), &"it is missing"))?;
        Ok(Some(Certificate::from_seed(chain, &seed)))
    }

    /// Whether the certificate is of another authority than this fleet's, by which it is renewed as well.
    pub fn is_imported(&self) -> bool {
        self.identity.join(IMPORTED).exists()
    }

    /// Keeps the certificate of a node that was just enrolled: one of another authority is of no use any more.
    pub fn keep_enrolled(&self, chain: &[CertificateDer<'_>]) -> Result<(), Failure> {
        self.keep_certificate(chain)?;
        for file in [IMPORTED, IMPORTED_KEY] {
            match fs::remove_file(self.identity.join(file)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
        Ok(())
    }

    /// Keeps this node's certificate.
    pub fn keep_certificate(&self, chain: &[CertificateDer<'_>]) -> Result<(), Failure> {
        write_durably(&self.identity.join(CERTIFICATE), pem::of_chain(chain).as_bytes())
    }

    /// Keeps a certificate and key of another authority. The key first: without it the certificate is of no use.
    pub fn keep_imported(&self, chain: &[u8], key: &[u8]) -> Result<(), Failure> {
        write_durably(&self.identity.join(IMPORTED_KEY), key)?;
        write_durably(&self.identity.join(IMPORTED), chain)
    }

    /// The authority by which this node issues certificates; a new one where there is none.
    pub fn issuer_or_make(&self, fleet: &FleetName, now: Timestamp) -> Result<Authority, Failure> {
        if let Some(issuer) = self.issuer(fleet)? {
            return Ok(issuer);
        }
        let seed = self.seed_or_make(ISSUER_KEY)?;
        let authority = Authority::generate(fleet, &seed, now)?;
        let certificate = pem::of_chain(std::slice::from_ref(authority.certificate()));
        write_durably(&self.identity.join(ISSUER), certificate.as_bytes())?;
        Ok(authority)
    }

    /// The authority by which this node issues certificates, if it has one.
    pub fn issuer(&self, fleet: &FleetName) -> Result<Option<Authority>, Failure> {
        let path = self.identity.join(ISSUER);
        let (Some(text), Some(seed)) = (read(&path)?, self.seed(ISSUER_KEY)?) else { return Ok(None) };
        let mut chain = pem::read_chain(&text).map_err(|why| damaged(&path, &why))?;
        Ok(Some(Authority::from_parts(fleet, chain.swap_remove(0), &seed)?))
    }

    /// The newest roster; none where this node belongs to no fleet.
    pub fn roster(&self, admin: Option<SignerKey>) -> Result<Option<SignedRoster>, Failure> {
        let path = self.fleet.join(ROSTER);
        let Some(bytes) = read(&path)? else { return Ok(None) };
        let roster = SignedRoster::read(Bytes::from(bytes), admin).map_err(|fault| damaged(&path, &fault))?;
        Ok(Some(roster))
    }

    /// Waits until nobody else changes the roster.
    pub fn roster_turn(&self) -> Result<RosterTurn, Failure> {
        make_state_folder(&self.fleet)?;
        let path = self.fleet.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path);
        let lock =
            lock.map_err(|error| Failure::failed(format!("cannot open {}: {error}", path.display())))?;
        flock(&lock, FlockOperation::LockExclusive)?;
        Ok(RosterTurn { _lock: lock })
    }

    /// Keeps a roster, unless a newer one is there.
    pub fn keep_roster(&self, roster: &SignedRoster, _: &RosterTurn) -> Result<(), Failure> {
        // What only the other end would find out: that it is too long, or breaks a rule.
        SignedRoster::read(roster.bytes().clone(), Some(roster.admin()))
            .map_err(|fault| Failure::failed(format!("the roster that was made cannot be used: {fault}")))?;
        // One that is damaged is no reason to stay without.
        let newest = self.roster(Some(roster.admin())).ok().flatten();
        match newest {
            Some(newest) if newest.number > roster.number => return Ok(()),
            Some(newest) if newest.number == roster.number && newest.bytes() != roster.bytes() => {
                return Err(Failure::failed(format!(
                    "there is another roster of number {}: it was changed on two nodes at the same time; do the change again",
                    roster.number
                )));
            }
            _ => {}
        }
        write_durably(&self.fleet.join(ROSTER), roster.bytes())
    }

    /// Where the newest roster lies, if there is one.
    pub fn roster_file(&self) -> PathBuf {
        self.fleet.join(ROSTER)
    }

    /// What a changed roster is known by, without being read.
    pub fn roster_mark(&self) -> Option<(std::time::SystemTime, u64)> {
        let found = fs::metadata(self.roster_file()).ok()?;
        Some((found.modified().ok()?, found.len()))
    }

    fn seed_or_make(&self, file: &str) -> Result<Secret, Failure> {
        if let Some(seed) = self.seed(file)? {
            return Ok(seed);
        }
        make_state_folder(&self.identity)?;
        let seed = Secret::random();
        // Any 32 byte identifier prints the hex form.
        write_durably(&self.identity.join(file), format!("{}\n", ChunkId::new(*seed.as_bytes())).as_bytes())?;
        Ok(seed)
    }

    fn seed(&self, file: &str) -> Result<Option<Secret>, Failure> {
        let path = self.identity.join(file);
        let Some(text) = read(&path)? else { return Ok(None) };
        let id: ChunkId =
            String::from_utf8_lossy(&text).trim().parse().map_err(|error| damaged(&path, &error))?;
        Ok(Some(Secret::new(*id.as_bytes())))
    }
}

/// The public half of a key for TLS.
pub fn public(seed: &Secret) -> NodeKey {
    NodeKey::of_seed(seed)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let what = format!("cannot read {}: {error}; {}", path.display(), advice(path, &error));
            Err(Failure::failed(what))
        }
    }
}

fn damaged(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::failed(format!(
        "{} is damaged: {why}; bring it back from a copy of node.state, or have the node enrolled again (`backstay invite`)",
        path.display()
    ))
}
