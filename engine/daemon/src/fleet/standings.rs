//! How far this node, as a hub, has copied on what others have captured to it: what it tells them when they ask.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use backstay_core::config::{NodeName, Relay, SourceName};
use backstay_core::id::{PointId, SourceId};
use backstay_core::units::Timestamp;
use backstay_wire::peer::Standing;

/// From whom, and to which vault.
type Way = (NodeName, String);

/// What is known of all that this node copies on.
#[derive(Debug, Default)]
pub struct Standings(Mutex<HashMap<Way, Known>>);

/// What is known of one way.
#[derive(Debug, Default)]
struct Known {
    /// What keeps all of it from going on.
    obstacle: Option<String>,
    sources: HashMap<SourceId, KnownSource>,
}

#[derive(Debug)]
struct KnownSource {
    name: SourceName,
    /// As the vault has said; nothing before it was asked. That is not the same as that it has nothing.
    standing: Option<Standing>,
    /// What keeps this source from going on.
    problem: Option<String>,
}

/// What is said of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It is copied on, and this is how far it has come.
    Stands(Standing),
    /// The vault could not be asked yet; why not, where that is known.
    NotAsked(Option<String>),
    /// Nothing is known of such a source.
    Unknown,
}

impl Standings {
    /// These sources go that way; nothing is known of them yet.
    pub fn expect(&self, relay: &Relay, sources: &HashMap<SourceId, SourceName>) {
        let mut all = self.all();
        let known = all.entry(way(relay)).or_default();
        for (id, name) in sources {
            let new = || KnownSource { name: name.clone(), standing: None, problem: None };
            known.sources.entry(*id).or_insert_with(new);
        }
    }

    /// What is to be told of a source.
    pub fn of(&self, writer: &NodeName, vault: &str, source: SourceId) -> Told {
        let all = self.all();
        let Some(known) = all.get(&(writer.clone(), vault.to_owned())) else { return Told::Unknown };
        let Some(of_source) = known.sources.get(&source) else { return Told::Unknown };
        let problem = of_source.problem.clone().or_else(|| known.obstacle.clone());
        match &of_source.standing {
            Some(standing) => Told::Stands(Standing { problem, ..standing.clone() }),
            None => Told::NotAsked(problem),
        }
    }

    /// The newest point of a source that is known to be in the vault, where nothing is wrong with the source.
    pub fn newest(&self, relay: &Relay, source: SourceId) -> Option<PointId> {
        let all = self.all();
        let known = all.get(&way(relay))?.sources.get(&source)?;
        let newest = known.standing.as_ref().filter(|_| known.problem.is_none())?.newest;
        newest.map(|newest| PointId::new(*newest.id))
    }

    /// Whether something was wrong with a source when it was looked at last, or it never was.
    pub fn is_doubtful(&self, relay: &Relay, source: SourceId) -> bool {
        let all = self.all();
        let known = all.get(&way(relay)).and_then(|known| known.sources.get(&source));
        known.is_none_or(|known| known.problem.is_some() || known.standing.is_none())
    }

    /// Notes how a source stands, as its vault says, and what is wrong with it.
    pub fn set(&self, relay: &Relay, source: SourceId, standing: Standing, problem: Option<String>) {
        if let Some(known) = self.all().entry(way(relay)).or_default().sources.get_mut(&source) {
            // Of proofs the vault may have been able to say nothing.
            let former = known.standing.take().map(|former| former.proofs).unwrap_or_default();
            let proofs = if standing.proofs.is_empty() { former } else { standing.proofs.clone() };
            (known.standing, known.problem) = (Some(Standing { proofs, ..standing }), problem);
        }
    }

    /// Notes up to when a source is complete whose newest point is in the vault.
    pub fn moved(&self, relay: &Relay, source: SourceId, until: Option<Timestamp>) {
        let mut all = self.all();
        let known = all.entry(way(relay)).or_default().sources.get_mut(&source);
        if let Some(standing) = known.and_then(|known| known.standing.as_mut()) {
            standing.until_nanos = until.map(Timestamp::as_nanos);
        }
    }

    /// Notes what keeps a source from going on; what is there stays there.
    pub fn fail(&self, relay: &Relay, source: SourceId, problem: &str) {
        if let Some(known) = self.all().entry(way(relay)).or_default().sources.get_mut(&source) {
            known.problem = Some(problem.to_owned());
        }
    }

    /// Notes what keeps all of a way from going on, or that nothing does.
    pub fn obstruct(&self, relay: &Relay, obstacle: Option<String>) {
        self.all().entry(way(relay)).or_default().obstacle = obstacle;
    }

    /// Up to when a source is complete in the vault, as far as is known.
    pub fn until(&self, relay: &Relay, name: &SourceName) -> Option<Timestamp> {
        let all = self.all();
        let known = all.get(&way(relay))?.sources.values().find(|known| known.name == *name)?;
        known.standing.as_ref()?.until_nanos.map(Timestamp::from_nanos)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Way, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn way(relay: &Relay) -> Way {
    (relay.writer.clone(), relay.to.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay() -> Relay {
        let name = |text: &str| text.parse().expect("a name");
        Relay {
            writer: "alpha".parse().expect("a name"),
            from: name("held"),
            to: name("nas"),
            sources: Vec::new(),
        }
    }

    fn standings(relay: &Relay) -> (Standings, SourceId) {
        let (standings, source) = (Standings::default(), SourceId::new([1; 16]));
        let name = "data.files".parse().expect("a name");
        standings.expect(relay, &HashMap::from([(source, name)]));
        (standings, source)
    }

    #[test]
    fn what_was_not_asked_is_not_said_to_be_nothing() {
        let relay = relay();
        let (standings, source) = standings(&relay);
        let told = || standings.of(&relay.writer, "nas", source);
        assert_eq!(told(), Told::NotAsked(None));
        standings.fail(&relay, source, "it is not mounted");
        assert_eq!(told(), Told::NotAsked(Some("it is not mounted".to_owned())));
        standings.set(&relay, source, Standing::default(), None);
        assert_eq!(told(), Told::Stands(Standing::default()));
        assert_eq!(standings.of(&relay.writer, "nas", SourceId::new([2; 16])), Told::Unknown);
        assert_eq!(standings.of(&relay.writer, "tape", source), Told::Unknown);
    }

    #[test]
    fn what_is_there_stays_there_when_something_goes_wrong_and_is_looked_at_again() {
        let relay = relay();
        let (standings, source) = standings(&relay);
        let newest = backstay_wire::peer::NewestThere { id: [9; 16].into(), time_nanos: 5, number: 3 };
        let standing = Standing { until_nanos: Some(7), newest: Some(newest), ..Standing::default() };
        standings.set(&relay, source, standing.clone(), None);
        assert_eq!(standings.newest(&relay, source), Some(PointId::new([9; 16])));
        standings.fail(&relay, source, "it is full");
        assert_eq!(standings.newest(&relay, source), None, "no way past a look at it");
        assert!(standings.is_doubtful(&relay, source));
        let problem = Some("it is full".to_owned());
        let told = Told::Stands(Standing { problem, ..standing });
        assert_eq!(standings.of(&relay.writer, "nas", source), told);
    }
}
