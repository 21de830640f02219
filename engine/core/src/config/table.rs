//! Reading tables key by key. Owns the messages for missing, misplaced and unknown keys; refuses to know any
//! key by itself: a key is known when a reader has asked for it, so the two cannot drift apart.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use toml::de::DeTable;

use super::name::Name;
use super::nearest::nearest;
use super::problem::{ProblemKind, Refusal};
use super::value::{ENTRIES_MAX, Value, one_of};

/// A table that is being read.
pub(super) struct Table<'t> {
    place: Value<'t>,
    entries: &'t DeTable<'t>,
    asked: Vec<&'static str>,
    misplaced: Vec<&'static str>,
    ignores_unknown: bool,
}

/// Reads a value as a table whose keys are names of the operator's choosing. Bad names are reported and left
/// out.
pub(super) fn read_named<'t, N: Name>(value: &Value<'t>) -> BTreeMap<N, Value<'t>> {
    let mut named = BTreeMap::new();
    let Some(entries) = value.entries() else { return named };
    value.check_count(entries.len());
    for (key, raw) in entries.iter().take(ENTRIES_MAX) {
        let entry = value.child(key.get_ref(), key.span().start, raw.get_ref());
        match N::from_text(key.get_ref()) {
            Ok(name) => _ = named.insert(name, entry),
            Err(refusal) => entry.problem(ProblemKind::BadValue, || refusal),
        }
    }
    named
}

/// The same for keys that must be names of something declared.
pub(super) fn read_named_of<'t, N: Name>(value: &Value<'t>, known: &BTreeSet<N>) -> BTreeMap<N, Value<'t>> {
    let mut named = read_named::<N>(value);
    named.retain(|name, entry| {
        let is_known = known.contains::<N>(name);
        if !is_known {
            entry.unknown_name(N::WHAT, name.borrow(), known.iter().map(Borrow::borrow));
        }
        is_known
    });
    named
}

impl<'t> Table<'t> {
    /// Reads a value as a table; afterwards every key that `read` has not asked for is reported.
    pub(super) fn read<T>(value: &Value<'t>, read: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let entries = value.entries()?;
        let place = value.clone();
        let mut table =
            Self { place, entries, asked: Vec::new(), misplaced: Vec::new(), ignores_unknown: false };
        let result = read(&mut table);
        table.report_unknown();
        Some(result)
    }

    /// The value of a key, when it is there.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'t>> {
        self.asked.push(key);
        self.value_of(key)
    }

    /// The value of a key; reported when it is missing. `example` completes "add …".
    pub(super) fn require(&mut self, key: &'static str, example: &str) -> Option<Value<'t>> {
        let value = self.get(key);
        if value.is_none() {
            self.place.problem(ProblemKind::MissingKey, || {
                Refusal::new(format!("the key {key:?} is missing"), format!("add {example}"))
            });
        }
        value
    }

    /// Whether a key is there, well-formed or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Reports a problem with the table as a whole.
    pub(super) fn problem(&self, kind: ProblemKind, message: impl FnOnce() -> Refusal) {
        self.place.problem(kind, message);
    }

    /// Accepts whatever else stands in it: where its kind is not known, its keys cannot be judged.
    pub(super) fn ignore_unknown(&mut self) {
        self.ignores_unknown = true;
    }

    /// Reports those of `keys` that stand here as belonging elsewhere.
    pub(super) fn misplaced(&mut self, keys: &[&'static str], message: impl Fn(&str) -> Refusal) {
        for (key, value) in keys.iter().filter_map(|key| Some((*key, self.value_of(key)?))) {
            value.problem(ProblemKind::WrongFile, || message(key));
        }
        self.misplaced.extend_from_slice(keys);
    }

    fn value_of(&self, key: &str) -> Option<Value<'t>> {
        let (written, value) = self.entries.get_key_value(key)?;
        Some(self.place.child(key, written.span().start, value.get_ref()))
    }

    fn report_unknown(&self) {
        if self.ignores_unknown {
            return;
        }
        for (key, value) in self.entries {
            let is_it = |known: &&str| *known == key.get_ref();
            if self.asked.iter().any(is_it) || self.misplaced.iter().any(is_it) {
                continue;
            }
            let place = self.place.child(key.get_ref(), key.span().start, value.get_ref());
            place.problem(ProblemKind::UnknownKey, || {
                let fix = match nearest(key.get_ref(), self.asked.iter().copied()) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => one_of(&self.asked),
                };
                Refusal::new("there is no such key", fix)
            });
        }
    }
}
