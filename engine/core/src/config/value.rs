//! A TOML value that knows its place, and what it can be read as. Owns the messages for values of the wrong
//! type or form; refuses to know what any key means.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use crate::units::{ByteSize, Span};

use super::SourceText;
use super::name::Name;
use super::nearest::nearest;
use super::problem::{FromText, ProblemKind, Problems, Refusal, excerpt};

/// How many entries a table of names, or an array, may have.
pub(super) const ENTRIES_MAX: usize = 1000;

/// A value, the text it stands in, and the place there.
#[derive(Clone)]
pub(super) struct Value<'t> {
    source: SourceText<'t>,
    problems: &'t Problems,
    raw: &'t DeValue<'t>,
    offset: usize,
    key: String,
}

impl<'t> Value<'t> {
    /// The root of a document.
    pub(super) fn root(source: SourceText<'t>, problems: &'t Problems, raw: &'t DeValue<'t>) -> Self {
        Self { source, problems, raw, offset: 0, key: String::new() }
    }

    /// Reports a problem with this value.
    pub(super) fn problem(&self, kind: ProblemKind, message: impl FnOnce() -> Refusal) {
        self.problems.add(self.source, self.offset, &self.key, kind, message);
    }

    /// Reads it as a table.
    pub(super) fn entries(&self) -> Option<&'t DeTable<'t>> {
        match self.raw {
            DeValue::Table(entries) => Some(entries),
            _ => self.wrong_type("a table"),
        }
    }

    /// As it was written, for who knows of a type that others do not.
    pub(super) fn raw(&self) -> &'t DeValue<'t> {
        self.raw
    }

    /// Whether it is a table; to tell alternatives apart.
    pub(super) fn is_table(&self) -> bool {
        matches!(self.raw, DeValue::Table(_))
    }

    /// Reads it as a string.
    pub(super) fn text(&self) -> Option<&'t str> {
        match self.raw {
            DeValue::String(text) => Some(text.as_ref()),
            _ => self.wrong_type("a string in quotes"),
        }
    }

    /// Reads it as a string with a meaning.
    pub(super) fn parse<T: FromText>(&self) -> Option<T> {
        let text = self.text()?;
        T::from_text(text).map_err(|refusal| self.problem(ProblemKind::BadValue, || refusal)).ok()
    }

    /// Reads it as one of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?;
        let found = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            self.problem(ProblemKind::BadValue, || {
                let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
                Refusal::new(format!("{:?} is not possible here", excerpt(text)), one_of(&words))
            });
        }
        found
    }

    /// Reads it as a duration above 0.
    pub(super) fn positive_span(&self) -> Option<Span> {
        let span = self.parse::<Span>()?;
        if span.as_duration().is_zero() { self.not_zero() } else { Some(span) }
    }

    /// Reads it as a size above 0.
    pub(super) fn positive_size(&self) -> Option<ByteSize> {
        let size = self.parse::<ByteSize>()?;
        if size.as_u64() == 0 { self.not_zero() } else { Some(size) }
    }

    /// Reads it as a number above 0.
    pub(super) fn positive_number(&self) -> Option<u32> {
        let DeValue::Integer(integer) = self.raw else { return self.wrong_type("a whole number") };
        match u32::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(0) => self.not_zero(),
            Ok(number) => Some(number),
            Err(_) => {
                self.problem(ProblemKind::BadValue, || {
                    let range = format!("write a whole number from 1 to {}", u32::MAX);
                    Refusal::new(format!("{} is out of range", excerpt(integer.as_str())), range)
                });
                None
            }
        }
    }

    /// Reads it as `true` or `false`.
    pub(super) fn truth(&self) -> Option<bool> {
        match self.raw {
            DeValue::Boolean(truth) => Some(*truth),
            _ => self.wrong_type("true or false"),
        }
    }

    /// Reads it as an array; the elements have places of their own.
    pub(super) fn array(&self) -> Vec<Value<'t>> {
        let DeValue::Array(array) = self.raw else { return self.wrong_type("an array").unwrap_or_default() };
        self.check_count(array.len());
        let elements = array.iter().take(ENTRIES_MAX);
        elements.map(|e| Value { raw: e.get_ref(), offset: e.span().start, ..self.clone() }).collect()
    }

    /// Reads it as an array of strings with a meaning; elements that are refused are left out.
    pub(super) fn parse_array<T: FromText>(&self) -> Vec<T> {
        self.array().iter().filter_map(Value::parse).collect()
    }

    /// Reads it as an array of strings that are not empty.
    pub(super) fn texts(&self) -> Vec<String> {
        let texts = self.array().into_iter().filter_map(|element| {
            let text = element.text()?;
            if text.is_empty() {
                element.problem(ProblemKind::BadValue, || {
                    Refusal::new("it is empty", "write something, or leave it out")
                });
            }
            Some(text.to_owned())
        });
        texts.collect()
    }

    /// Reads it as the name of something that is declared in `known`.
    pub(super) fn reference<N: Name>(&self, known: &BTreeSet<N>) -> Option<N> {
        let text = self.text()?;
        let found = N::from_text(text).ok().filter(|name| known.contains::<N>(name));
        if found.is_none() {
            self.unknown_name(N::WHAT, text, known.iter().map(Borrow::borrow));
        }
        found
    }

    /// Reads it as an array of such names, none of them twice.
    pub(super) fn references<N: Name>(&self, known: &BTreeSet<N>) -> Vec<N> {
        let mut names = Vec::new();
        for element in self.array() {
            let Some(name) = element.reference(known) else { continue };
            if names.contains(&name) {
                element.problem(ProblemKind::Conflict, || {
                    Refusal::new(format!("{name} stands here twice"), "remove one")
                });
            } else {
                names.push(name);
            }
        }
        names
    }

    /// Reads it as a program with its arguments.
    pub(super) fn argv(&self) -> Option<Vec<String>> {
        let argv: Option<Vec<String>> =
            self.array().iter().map(|element| element.text().map(str::to_owned)).collect();
        let argv = argv?;
        let fix = "write the program and its arguments as [\"PROGRAM\", \"ARGUMENT\"]";
        if argv.first().is_none_or(String::is_empty) {
            self.problem(ProblemKind::BadValue, || Refusal::new("it names no program", fix));
            return None;
        }
        if argv.iter().any(|argument| argument.contains('\0')) {
            self.problem(ProblemKind::BadValue, || Refusal::new("it contains a NUL character", fix));
            return None;
        }
        Some(argv)
    }

    /// Reports that no `what` has this name.
    pub(super) fn unknown_name<'n>(&self, what: &str, text: &str, known: impl Iterator<Item = &'n str>) {
        self.problem(ProblemKind::UnknownName, || {
            let known: Vec<&str> = known.collect();
            let fix = match nearest(text, known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None if known.is_empty() => format!("no {what} is declared"),
                None => one_of(&known),
            };
            Refusal::new(format!("there is no {what} {:?}", excerpt(text)), fix)
        });
    }

    /// The value under a key of this table.
    pub(super) fn child(&self, key: &str, offset: usize, raw: &'t DeValue<'t>) -> Self {
        let key = match self.key.as_str() {
            "" => excerpt(key),
            parent => format!("{parent}.{}", excerpt(key)),
        };
        Self { source: self.source, problems: self.problems, raw, offset, key }
    }

    /// Reports more than [`ENTRIES_MAX`] entries; what is beyond is not read.
    pub(super) fn check_count(&self, count: usize) {
        if count > ENTRIES_MAX {
            self.problem(ProblemKind::BadValue, || {
                Refusal::new(format!("it has {count} entries"), format!("use at most {ENTRIES_MAX}"))
            });
        }
    }

    fn not_zero<T>(&self) -> Option<T> {
        self.problem(ProblemKind::BadValue, || {
            Refusal::new("it is 0", "write more than 0, or leave the key out")
        });
        None
    }

    fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        self.problem(ProblemKind::WrongType, || {
            Refusal::new(format!("it is {}", type_of(self.raw)), format!("write {expected}"))
        });
        None
    }
}

/// How many of many possibilities a message names.
const NAMED_MAX: usize = 20;

/// The end of a message that names what is possible.
pub(super) fn one_of(words: &[&str]) -> String {
    let ellipsis = if words.len() > NAMED_MAX { ", …" } else { "" };
    format!("use one of: {}{ellipsis}", words[..words.len().min(NAMED_MAX)].join(", "))
}

fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
