//! Reading what is held and comparing it with its names. Nobody needs a key for that: the name of a pack is the hash of what is in
//! it, and the names of most other objects end with one.

use std::time::Duration;

use backstay_core::clock::SteadyTime;
use backstay_core::rate::TokenBucket;
use backstay_core::units::ByteRate;
use backstay_vault::name::{Named, ObjectName};
use backstay_vault::store::{Folder, Listed, Store, StoreError, StoreErrorKind, Stretch};
use tokio::time::{Instant, sleep};

use super::changes::hash_in;
use super::objects::PIECE_BYTES;
use super::space::Space;

/// A scrub has so many parts: packs by the first byte of their ids, and with the first part everything else.
pub const SCRUB_PARTS: u16 = 256;

/// Folders of objects whose names end with a hash, but for packs.
const HASHED: [&str; 7] = ["index", "points", "layout", "heads", "ledger/gc", "bad", "proofs"];

/// An object that does not fit its name is read once more after this: it may have been replaced meanwhile.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What was read, and what of it is damaged.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Scrubbed {
    /// Objects that were read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that are not what their names say, or cannot be read.
    pub damaged: Vec<ObjectName>,
}

/// Why something was not read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotScrubbed {
    /// There is no vault: its node has not captured to this one yet, or the disk is not mounted.
    #[error("there is no vault")]
    NoVault,
    /// This process may not, or cannot now.
    #[error("{0}")]
    Failed(StoreError),
}

impl From<StoreError> for NotScrubbed {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl Space {
    /// Reads a part of what is held, no faster than this.
    pub async fn scrub(&self, part: u8, rate: ByteRate) -> Result<Scrubbed, NotScrubbed> {
        let mut folders = vec![Folder::new(&[&"packs", &format!("{part:02x}")])];
        if part == 0 {
            folders.extend(HASHED.iter().map(|folder| Folder::new(&[folder])));
        }
        self.refuse_no_vault().await?;
        let mut listed = Vec::new();
        for folder in &folders {
            listed.extend(self.store.list(folder).await?);
        }
        self.compare(&listed, rate).await
    }

    /// Reads these objects once more, those of them that are there still.
    pub async fn scrub_again(&self, names: &[ObjectName], rate: ByteRate) -> Result<Scrubbed, NotScrubbed> {
        self.refuse_no_vault().await?;
        let mut listed = Vec::new();
        for name in names {
            let Some((name, named)) = ObjectName::parse(name.as_str()) else { continue };
            match self.store.length(&name).await {
                Err(error) if error.is_not_found() => {}
                found => listed.push(Listed { name, named, bytes: found.unwrap_or(0) }),
            }
        }
        self.compare(&listed, rate).await
    }

    async fn compare(&self, listed: &[Listed], rate: ByteRate) -> Result<Scrubbed, NotScrubbed> {
        let (mut scrubbed, mut bucket, began) = (Scrubbed::default(), TokenBucket::default(), Instant::now());
        for Listed { name, named, bytes } in listed {
            let Some(hash) = hash_in(named) else { continue };
            let mut is_good = self.has_hash(name, hash).await?;
            if is_good == Some(false) {
                sleep(AGAIN_AFTER).await;
                is_good = self.has_hash(name, hash).await?;
            }
            match is_good {
                Some(false) => scrubbed.damaged.push(name.clone()),
                Some(true) => {}
                // Deleted meanwhile.
                None => continue,
            }
            scrubbed.objects += 1;
            scrubbed.bytes += bytes;
            let now = SteadyTime::since_start(began.elapsed());
            sleep(bucket.take(*bytes, rate, now)).await;
        }
        Ok(scrubbed)
    }

    /// A disk that is not mounted is not one on which everything is good.
    async fn refuse_no_vault(&self) -> Result<(), NotScrubbed> {
        match self.store.length(&Named::Format(1).to_name()).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Err(NotScrubbed::NoVault),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether an object can be read and has this hash; none where it is not there.
    async fn has_hash(&self, name: &ObjectName, hash: [u8; 32]) -> Result<Option<bool>, NotScrubbed> {
        let read = async {
            let (mut next, length) = (0, self.store.length(name).await?);
            let mut hasher = blake3::Hasher::new();
            while next < length {
                let stretch = Stretch { offset: next, length: PIECE_BYTES.min(length - next) };
                hasher.update(&self.store.get_range(name, stretch).await?);
                next += stretch.length;
            }
            Ok::<_, StoreError>(hasher.finalize())
        };
        match read.await {
            Ok(found) => Ok(Some(*found.as_bytes() == hash)),
            Err(error) if error.is_not_found() => Ok(None),
            // Not of the object, but of this process or the machine.
            Err(error) if matches!(error.kind, StoreErrorKind::Denied | StoreErrorKind::Gone) => {
                Err(error.into())
            }
            Err(error) if error.is_transient() => Err(error.into()),
            Err(_) => Ok(Some(false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use backstay_core::id::{ObjectHash, PackId, PointId, SourceId};
    use backstay_vault::store::DirStore;
    use bytes::Bytes;

    use super::*;
    use crate::hold::{Disks, RoomLimits};

    const FAST: ByteRate = ByteRate(1 << 40);

    async fn put(store: &DirStore, content: &[u8], named: impl FnOnce([u8; 32]) -> Named) -> ObjectName {
        let name = named(*blake3::hash(content).as_bytes()).to_name();
        store.put(&name, Bytes::copy_from_slice(content)).await.expect("put");
        name
    }

    async fn all(space: &Space) -> Scrubbed {
        let mut all = Scrubbed::default();
        for part in 0..SCRUB_PARTS {
            let found = space.scrub(part as u8, FAST).await.expect("is read");
            all.objects += found.objects;
            all.bytes += found.bytes;
            all.damaged.extend(found.damaged);
        }
        all
    }

    #[tokio::test]
    async fn every_object_with_a_hash_is_read_and_each_that_does_not_fit_is_found() {
        let within = tempfile::tempdir().expect("a folder");
        let folder = within.path().join("held");
        let store = DirStore::new(&folder);
        let space = Space::new(store.clone(), RoomLimits::default(), Disks::default());
        assert!(matches!(space.scrub(0, FAST).await, Err(NotScrubbed::NoVault)), "nothing is there yet");
        store.put(&Named::Format(1).to_name(), Bytes::from_static(b"format")).await.expect("put");
        let mut names = Vec::new();
        for number in 0..40u8 {
            names.push(put(&store, &[number; 5000], |hash| Named::Pack(PackId::new(hash))).await);
        }
        let source = SourceId::new([1; 16]);
        let point = |hash| Named::Point(source, PointId::new([2; 16]), ObjectHash::new(hash));
        names.push(put(&store, b"a point", point).await);
        // It has no hash in its name, and is not read.
        store.put(&Named::Trust(1).to_name(), Bytes::from_static(b"trust")).await.expect("put");
        let good = all(&space).await;
        assert_eq!((good.objects, good.bytes, good.damaged), (41, 40 * 5000 + 7, Vec::new()));

        std::fs::write(folder.join(names[7].as_str()), vec![7; 4999]).expect("cuts");
        std::fs::write(folder.join(names[40].as_str()), b"another").expect("changes");
        let mut damaged = vec![names[7].clone(), names[40].clone()];
        damaged.sort();
        let mut found = all(&space).await.damaged;
        found.sort();
        assert_eq!(found, damaged);

        store.put(&names[7], Bytes::from(vec![7; 5000])).await.expect("put");
        store.delete(&names[40]).await.expect("is deleted");
        let again = space.scrub_again(&damaged, FAST).await.expect("is read");
        assert_eq!((again.objects, again.damaged), (1, Vec::new()));
        // Its disk is not mounted any more: nothing is said of what is not seen.
        std::fs::rename(&folder, within.path().join("elsewhere")).expect("is moved");
        let unseen = Space::new(DirStore::new(&folder), RoomLimits::default(), Disks::default());
        assert!(matches!(unseen.scrub_again(&damaged, FAST).await, Err(NotScrubbed::NoVault)));
    }
}
