//! What is wrong with a configuration: each fault with its place and its remedy, all of them at once.
//! Owns the bounds on how much is reported; refuses to echo more than an excerpt of what was written.

use std::cell::{Cell, RefCell};
use std::fmt;

use crate::units::UnitError;

use super::SourceText;

/// How many problems are reported at most; the rest is counted.
pub const PROBLEMS_MAX: usize = 50;
/// How much of the operator's text a message repeats, in bytes.
const EXCERPT_BYTES_MAX: usize = 80;

/// The classes of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The text is no TOML, or longer than is read.
    Syntax,
    /// A key that does not exist here.
    UnknownKey,
    /// A table that belongs into the other file.
    WrongFile,
    /// A key that must be there.
    MissingKey,
    /// A value of another type than expected.
    WrongType,
    /// A value that is not acceptable by itself.
    BadValue,
    /// A reference to something that is not declared.
    UnknownName,
    /// Values that contradict each other.
    Conflict,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Its class.
    pub kind: ProblemKind,
    /// The display name of the text it is in.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The dotted path of the key; empty where there is none.
    pub key: String,
    /// What is wrong, and why.
    pub what: String,
    /// What to do.
    pub fix: String,
}

/// `fleet.toml:3:7: vault.local.path: what is wrong`, and what to do on a second line.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n    {}", self.what, self.fix)
    }
}

/// All that is wrong with a configuration, in the order of the files and their lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// At least one and at most [`PROBLEMS_MAX`] problems.
    pub problems: Vec<Problem>,
    /// How many more there are.
    pub omitted: usize,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        match self.omitted {
            0 => Ok(()),
            count => write!(f, "\n… and {count} more: correct these first"),
        }
    }
}

impl std::error::Error for ConfigErrors {}

/// A value that is not acceptable: what is wrong with it and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) what: String,
    pub(super) fix: String,
}

impl Refusal {
    pub(super) fn new(what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), fix: fix.into() }
    }
}

impl From<UnitError> for Refusal {
    fn from(error: UnitError) -> Self {
        let UnitError { quantity, text, fault } = error;
        Self::new(format!("{text:?} is not a {quantity}: {fault}"), quantity.accepted())
    }
}

/// A value that is written as a string.
pub(super) trait FromText: Sized {
    fn from_text(text: &str) -> Result<Self, Refusal>;
}

macro_rules! from_text_by_unit {
    ($($type:ty),*) => {$(
        impl FromText for $type {
            fn from_text(text: &str) -> Result<Self, Refusal> {
                Ok(text.parse::<Self>()?)
            }
        }
    )*};
}
from_text_by_unit!(crate::units::Span, crate::units::ByteSize, crate::units::ByteRate);

/// Collects problems while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: RefCell<Vec<(usize, Problem)>>,
    omitted: Cell<usize>,
}

impl Problems {
    /// Adds a problem at a byte offset of a text. The message is only made when it will be reported: near
    /// names are not searched for the ten thousandth mistake.
    pub(super) fn add(
        &self,
        source: SourceText<'_>,
        offset: usize,
        key: &str,
        kind: ProblemKind,
        message: impl FnOnce() -> Refusal,
    ) {
        let mut found = self.found.borrow_mut();
        if found.len() == PROBLEMS_MAX {
            self.omitted.set(self.omitted.get() + 1);
            return;
        }
        let (line, column) = line_and_column(source.text, offset);
        let Refusal { what, fix } = message();
        let (file, key) = (source.name.to_owned(), key.to_owned());
        found.push((offset, Problem { kind, file, line, column, key, what, fix }));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// The problems in the order of the texts in `sources` and of their lines.
    pub(super) fn into_errors(self, sources: &[SourceText<'_>]) -> ConfigErrors {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(offset, problem)| (sources.iter().position(|s| s.name == problem.file), *offset));
        let problems = found.into_iter().map(|(_, problem)| problem).collect();
        ConfigErrors { problems, omitted: self.omitted.get() }
    }
}

/// The start of a text that is too long to be repeated in a message.
pub(super) fn excerpt(text: &str) -> String {
    if text.len() <= EXCERPT_BYTES_MAX {
        return text.to_owned();
    }
    let mut end = EXCERPT_BYTES_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: SourceText<'static> = SourceText { name: "a.toml", text: "ä = 1\nb = 2\n" };

    fn refusal() -> Refusal {
        Refusal::new("wrong", "mend it")
    }

    #[test]
    fn a_problem_is_placed_by_line_and_character() {
        let problems = Problems::default();
        problems.add(TEXT, 11, "b", ProblemKind::BadValue, refusal);
        problems.add(TEXT, 3, "ä", ProblemKind::BadValue, refusal);
        problems.add(TEXT, 1000, "", ProblemKind::Syntax, refusal);
        let shown = problems.into_errors(&[TEXT]).to_string();
        assert_eq!(
            shown,
            "a.toml:1:3: ä: wrong\n    mend it\na.toml:2:5: b: wrong\n    mend it\na.toml:3:1: wrong\n    mend it"
        );
    }

    #[test]
    fn problems_beyond_the_bound_are_counted_and_not_worded() {
        let problems = Problems::default();
        for _ in 0..PROBLEMS_MAX {
            problems.add(TEXT, 0, "", ProblemKind::BadValue, refusal);
        }
        problems.add(TEXT, 0, "", ProblemKind::BadValue, || panic!("worded in vain"));
        let errors = problems.into_errors(&[TEXT]);
        assert_eq!((errors.problems.len(), errors.omitted), (PROBLEMS_MAX, 1));
    }
}
