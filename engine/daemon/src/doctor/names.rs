//! Names for services and sources that are proposed. All lines that are printed may be pasted together, so what was proposed
//! once is not proposed again; and a table that is there already would make the file one that cannot be read.

use std::collections::BTreeSet;

/// A name is no longer, before it is told from others by a number.
const LENGTH_MAX: usize = 50;

/// Names that are taken: of services, and `SERVICE.SOURCE`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    services: BTreeSet<String>,
    sources: BTreeSet<String>,
}

impl Names {
    /// The names of these sources and of their services.
    pub fn of<'n>(sources: impl IntoIterator<Item = (&'n str, &'n str)>) -> Self {
        let mut names = Self::default();
        for (service, source) in sources {
            names.services.insert(service.to_owned());
            names.sources.insert(source.to_owned());
        }
        names
    }

    /// Takes a free name for a service, like this one.
    pub fn service(&mut self, wish: &str) -> String {
        let base = valid(wish).unwrap_or_else(|| "more".to_owned());
        let name = first_free(&base, |name| !self.services.contains(name));
        self.services.insert(name.clone());
        name
    }

    /// Takes a free name for a `command` source of a service, like this one.
    pub fn source(&mut self, service: &str, wish: &str) -> String {
        // Keys of a service that are no names of sources.
        let is_name = |name: &String| !["files", "zfs", "postgres"].contains(&name.as_str());
        let base = valid(wish).filter(is_name).unwrap_or_else(|| "dump".to_owned());
        let full = |name: &str| format!("{service}.{name}");
        let name = first_free(&base, |name| !self.sources.contains(&full(name)));
        self.sources.insert(full(&name));
        name
    }
}

fn first_free(base: &str, is_free: impl Fn(&str) -> bool) -> String {
    let numbered = (2..).map(|n: u64| format!("{base}-{n}"));
    std::iter::once(base.to_owned()).chain(numbered).find(|name| is_free(name)).unwrap_or_default()
}

/// What of a name the configuration takes; `None` where nothing is left.
fn valid(wish: &str) -> Option<String> {
    let kept = wish.to_ascii_lowercase().replace(|c: char| !(c.is_ascii_alphanumeric() || c == '_'), "-");
    let kept: String = kept.trim_start_matches(['-', '_']).chars().take(LENGTH_MAX).collect();
    let kept = kept.trim_end_matches(['-', '_']);
    (!kept.is_empty()).then(|| kept.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_whatever_files_are_called() {
        for (wish, name) in
            [("My Data.v2", "my-data-v2"), ("files", "dump"), ("", "dump"), ("日本", "dump"), ("_x", "x")]
        {
            assert_eq!(Names::default().source("a", wish), name);
        }
        assert_eq!(Names::default().service("日本"), "more");
        assert_eq!(Names::default().service("My Disk"), "my-disk");
    }

    #[test]
    fn what_is_taken_or_was_proposed_is_not_proposed_again() {
        let mut names = Names::of([("mail", "mail.files"), ("mail", "mail.data")]);
        assert_eq!(names.source("mail", "data"), "data-2");
        assert_eq!(names.source("mail", "data"), "data-3");
        assert_eq!(names.source("web", "data"), "data");
        assert_eq!([names.service("mail"), names.service("mail")], ["mail-2", "mail-3"]);
    }
}
