//! A glance at a store: what one request shows of its names. Where requests cost, it takes the place of a listing of each folder:
//! of all of them in a small vault, and in a large one of those whose names come before those of the packs.

use super::{Folder, Listed};

/// Objects that are shown at most: what services list in one answer.
pub const GLANCE_MAX: usize = 1000;

/// What was seen. Of each folder it tells once: whoever asks again wants to know what is there by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    listed: Vec<Listed>,
    /// The last name that was shown, where there are more.
    last: Option<String>,
    /// Beginnings of names of which it has told.
    told: Vec<String>,
}

impl Glance {
    /// These objects, whose names come first in the store; up to the one with the name `last`, where there are others behind it.
    pub fn new(listed: Vec<Listed>, last: Option<String>) -> Self {
        Self { listed, last, told: Vec::new() }
    }

    /// What was shown, but for the folders of which it has told.
    pub fn shown(&self) -> &[Listed] {
        &self.listed
    }

    /// The objects below a folder, in order of name; `None` where not all of them were shown, and where it has told of them.
    pub fn take(&mut self, folder: &Folder) -> Option<Vec<Listed>> {
        let prefix = folder.as_str();
        let goes_beyond = |last: &String| last.as_str() > prefix && !last.starts_with(prefix);
        let is_told = |told: &String| told.starts_with(prefix) || prefix.starts_with(told.as_str());
        if !self.last.as_ref().is_none_or(goes_beyond) || self.told.iter().any(is_told) {
            return None;
        }
        self.told.push(prefix.to_owned());
        let is_below = |listed: &Listed| listed.name.as_str().starts_with(prefix);
        let (mut below, rest): (Vec<Listed>, Vec<Listed>) =
            std::mem::take(&mut self.listed).into_iter().partition(is_below);
        self.listed = rest;
        below.sort_by(|a, b| a.name.cmp(&b.name));
        Some(below)
    }
}

#[cfg(test)]
mod tests {
    use backstay_core::id::{ObjectHash, SourceId};

    use super::*;
    use crate::name::Named;

    fn listed(named: Named) -> Listed {
        Listed { name: named.to_name(), named, bytes: 1 }
    }

    fn head(source: u8, sequence: u64) -> Listed {
        listed(Named::Head(SourceId::new([source; 16]), sequence, ObjectHash::new([1; 32])))
    }

    #[test]
    fn it_tells_once_of_what_it_has_shown_whole() {
        let (first, second) = (head(1, 1), head(2, 1));
        let all = vec![second.clone(), listed(Named::Format(1)), first.clone()];
        let mut glance = Glance::new(all, None);
        let of = |source| Folder::new(&[&"heads", &SourceId::new([source; 16])]);
        assert_eq!(glance.take(&of(2)), Some(vec![second]));
        assert_eq!(glance.take(&of(2)), None, "it has told");
        assert_eq!(glance.take(&Folder::new(&[&"heads"])), None, "of a part it has told");
        assert_eq!(glance.take(&of(1)), Some(vec![first]));
        assert_eq!(glance.take(&Folder::new(&[&"trust"])), Some(vec![]), "there is nothing");
        assert_eq!(glance.take(&Folder::new(&[&"format"])).map(|listed| listed.len()), Some(1));
    }

    #[test]
    fn of_a_folder_that_may_go_on_behind_the_last_name_it_says_nothing() {
        let heads = Folder::new(&[&"heads"]);
        for (last, tells) in [
            ("heads/01", false),
            ("heads/", false),
            ("format/0000000000000001", false),
            ("index/01", true),
            ("heads0", true),
        ] {
            let mut glance = Glance::new(vec![head(1, 1)], Some(last.to_owned()));
            assert_eq!(glance.take(&heads).is_some(), tells, "{last}");
        }
    }
}
