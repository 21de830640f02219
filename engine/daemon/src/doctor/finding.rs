//! What an examination finds: a subject, what was looked at, how bad it is, why, and what mends it. Owns the levels and their
//! words; judges nothing.

use serde::Serialize;

/// How bad a finding is; the worst decides how the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// True and worth knowing; nothing has to be done.
    Note,
    /// Works today, and will hurt on a bad day; or could not be looked at.
    Warning,
    /// Something is not protected, or will not be.
    Problem,
}

impl Level {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// What to do about a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fix {
    /// A command line for a shell, as it is.
    Command(String),
    /// Lines for a file of the configuration.
    Setting {
        /// Which file, and where in it.
        place: String,
        /// The lines.
        lines: String,
    },
    /// What nobody can write as a line.
    Advice(String),
}

impl Fix {
    /// What kind of fix it is, for JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Command(_) => "command",
            Self::Setting { .. } => "setting",
            Self::Advice(_) => "advice",
        }
    }

    /// What is to be pasted, or done.
    pub fn text(&self) -> &str {
        match self {
            Self::Command(text) | Self::Setting { lines: text, .. } | Self::Advice(text) => text,
        }
    }

    /// Where it is to be pasted.
    pub fn place(&self) -> Option<&str> {
        match self {
            Self::Setting { place, .. } => Some(place),
            _ => None,
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it belongs to: `daemon`, `vault local`, `source mail.files`.
    pub subject: String,
    /// A word for what was looked at, which stays the same from version to version.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// Why that matters.
    pub why: Option<String>,
    /// What mends it.
    pub fix: Option<Fix>,
}

impl Finding {
    fn new(level: Level, subject: &str, check: &'static str, what: impl Into<String>) -> Self {
        Self { subject: subject.to_owned(), check, level, what: what.into(), why: None, fix: None }
    }

    /// It is as it should be.
    pub fn ok(subject: &str, check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Level::Ok, subject, check, what)
    }

    /// Worth knowing.
    pub fn note(subject: &str, check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Level::Note, subject, check, what)
    }

    /// It will hurt.
    pub fn warning(subject: &str, check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Level::Warning, subject, check, what)
    }

    /// It hurts.
    pub fn problem(subject: &str, check: &'static str, what: impl Into<String>) -> Self {
        Self::new(Level::Problem, subject, check, what)
    }

    /// With the reason.
    #[must_use]
    pub fn because(self, why: impl Into<String>) -> Self {
        Self { why: Some(why.into()), ..self }
    }

    /// Mended by a command line.
    #[must_use]
    pub fn run(self, line: impl Into<String>) -> Self {
        Self { fix: Some(Fix::Command(line.into())), ..self }
    }

    /// Mended by lines of a file.
    #[must_use]
    pub fn set(self, place: impl Into<String>, lines: impl Into<String>) -> Self {
        Self { fix: Some(Fix::Setting { place: place.into(), lines: lines.into() }), ..self }
    }

    /// Mended by something that is no line.
    #[must_use]
    pub fn advise(self, advice: impl Into<String>) -> Self {
        Self { fix: Some(Fix::Advice(advice.into())), ..self }
    }

    /// From a message of Backstay: what, and after a semicolon what to do.
    pub fn told(level: Level, subject: &str, check: &'static str, message: &str) -> Self {
        match message.split_once("; ") {
            Some((what, advice)) => Self::new(level, subject, check, what).advise(advice),
            None => Self::new(level, subject, check, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_three_parts_becomes_a_finding_with_advice() {
        let told =
            Finding::told(Level::Problem, "vault x", "opens", "no vault there: gone; mount it; or not");
        assert_eq!(told.what, "no vault there: gone");
        assert_eq!(told.fix, Some(Fix::Advice("mount it; or not".to_owned())));
        assert_eq!(Finding::told(Level::Note, "x", "y", "short").fix, None);
    }

    #[test]
    fn the_worst_level_is_the_greatest() {
        assert!(Level::Problem > Level::Warning && Level::Warning > Level::Note && Level::Note > Level::Ok);
    }
}
