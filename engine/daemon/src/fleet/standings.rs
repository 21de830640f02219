//! How far this node, as a hub, has copied on what others have captured to it: what it tells them when they ask.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use backstay_core::config::{NodeName, Relay, SourceName};
use backstay_core::id::{PointId, SourceId};
use backstay_core::units::Timestamp;
use backstay_wire::peer::Standing;

/// Whose source, and in which vault.
type Place = (NodeName, String, SourceId);

/// What is known of all that this node copies on, with the names of sources.
#[derive(Debug, Default)]
pub struct Standings(Mutex<HashMap<Place, (SourceName, Standing)>>);

impl Standings {
    /// What is known of a source; nothing before it was looked at.
    pub fn of(&self, writer: &NodeName, vault: &str, source: SourceId) -> Option<Standing> {
        self.all().get(&(writer.clone(), vault.to_owned(), source)).map(|(_, standing)| standing.clone())
    }

    /// The newest point of a source that is known to be in the vault.
    pub fn newest(&self, relay: &Relay, source: SourceId) -> Option<PointId> {
        let standing = self.of(&relay.writer, relay.to.as_str(), source)?;
        standing.newest.map(|newest| PointId::new(*newest.id))
    }

    /// Notes how a source stands.
    pub fn set(&self, relay: &Relay, source: (SourceId, &SourceName), standing: Standing) {
        let (id, name) = source;
        self.all().insert(place(relay, id), (name.clone(), standing));
    }

    /// Notes what keeps all sources of a relay from going on; what is there stays there.
    pub fn fail(&self, relay: &Relay, sources: &HashMap<SourceId, SourceName>, problem: &str) {
        let mut all = self.all();
        for (id, name) in sources {
            let known = all.entry(place(relay, *id)).or_insert_with(|| (name.clone(), Standing::default()));
            known.1.problem = Some(problem.to_owned());
        }
    }

    /// Up to when a source is complete in the vault, as far as is known.
    pub fn until(&self, relay: &Relay, name: &SourceName) -> Option<Timestamp> {
        let all = self.all();
        let is_it = |place: &Place| place.0 == relay.writer && place.1 == relay.to.as_str();
        let mut found = all.iter().filter(|(place, (source, _))| is_it(place) && source == name);
        found.find_map(|(_, (_, standing))| standing.until_nanos).map(Timestamp::from_nanos)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Place, (SourceName, Standing)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(relay: &Relay, source: SourceId) -> Place {
    (relay.writer.clone(), relay.to.to_string(), source)
}
