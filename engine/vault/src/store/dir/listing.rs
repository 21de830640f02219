//! What is in the folders of a directory: all of it, or a page of it in order of name.

use std::collections::BinaryHeap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::DirStore;
use crate::name::ObjectName;
use crate::store::{Folder, LISTING_MAX, Listed, Operation, StoreError};

/// How deep folders are: `packs/ab/…`, `points/…/…`.
pub(super) const FOLDER_DEPTH_MAX: usize = 3;

/// How often a page is made anew of which everything was deleted meanwhile.
const TRIES_MAX: usize = 3;

/// A part of what is below a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// In order of name.
    pub entries: Vec<Listed>,
    /// Whether there are names behind the last one.
    pub has_more: bool,
}

impl DirStore {
    /// The first so many objects below a folder whose names come after this one; all that are shown are durable. Nothing is
    /// kept between two pages: folders are read again, and those of which all names come before are passed over.
    pub async fn page(
        &self,
        folder: &Folder,
        after: Option<&ObjectName>,
        entries_max: usize,
    ) -> Result<Page, StoreError> {
        let path = folder.as_str().trim_end_matches('/').to_owned();
        let after = after.map(|after| after.as_str().to_owned()).unwrap_or_default();
        self.run(Operation::List, folder.as_str().to_owned(), move |inner, root| {
            let mut draft = Draft { entries: Vec::new(), entries_max, has_more: false };
            for _ in 0..TRIES_MAX {
                draft = Draft { entries: Vec::new(), entries_max, has_more: false };
                page_below(root, &path, FOLDER_DEPTH_MAX, &after, &mut draft)?;
                // All that it would have had were deleted while it was made.
                if !(draft.entries.is_empty() && draft.has_more) {
                    break;
                }
            }
            inner.make_durable(root, &path, &draft.entries)?;
            Ok(Page { entries: draft.entries, has_more: draft.has_more })
        })
        .await
    }
}

/// What is below a folder, in no order.
pub(super) fn list(root: &Path, folder: &str) -> io::Result<Vec<Listed>> {
    let mut listed = Vec::new();
    list_below(root, folder, FOLDER_DEPTH_MAX, &mut listed)?;
    Ok(listed)
}

pub(super) fn list_below(
    root: &Path,
    folder: &str,
    depth: usize,
    listed: &mut Vec<Listed>,
) -> io::Result<()> {
    let entries = match fs::read_dir(root.join(folder)) {
        // A folder that nobody has written to yet is empty; a root that is gone is not.
        Err(error) if error.kind() == ErrorKind::NotFound && root.is_dir() => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let name = format!("{folder}/{name}");
        if entry.file_type()?.is_dir() {
            if depth > 1 {
                list_below(root, &name, depth - 1, listed)?;
            }
        } else if let Some((name, named)) = ObjectName::parse(&name) {
            let bytes = match entry.metadata() {
                // Deleted between the two calls.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                metadata => metadata?.len(),
            };
            if listed.len() == LISTING_MAX {
                return Err(ErrorKind::FileTooLarge.into());
            }
            listed.push(Listed { name, named, bytes });
        }
    }
    Ok(())
}

/// A page that is being made.
struct Draft {
    entries: Vec<Listed>,
    entries_max: usize,
    has_more: bool,
}

/// What is below a folder after a name, in order, until the page is full. Keeps no more names than fit into it, however many there
/// are.
fn page_below(root: &Path, folder: &str, depth: usize, after: &str, page: &mut Draft) -> io::Result<()> {
    let entries = match fs::read_dir(root.join(folder)) {
        Err(error) if error.kind() == ErrorKind::NotFound && root.is_dir() => return Ok(()),
        entries => entries?,
    };
    let room = page.entries_max - page.entries.len();
    // The first of them, the last on top; one more than there is room for tells whether there are more.
    let mut names = BinaryHeap::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // A folder stands in the order where the names below it do, which have a slash there.
        let is_folder = entry.file_type()?.is_dir();
        let name = format!("{folder}/{name}{}", if is_folder { "/" } else { "" });
        let is_after = name.as_str() > after || (is_folder && after.starts_with(&name));
        if !is_after || !(is_folder || ObjectName::parse(&name).is_some()) {
            continue;
        }
        names.push(name);
        if names.len() > room + 1 {
            names.pop();
        }
    }
    let is_cut = names.len() > room;
    for name in names.into_sorted_vec() {
        if page.entries.len() >= page.entries_max {
            page.has_more = true;
            return Ok(());
        }
        match name.strip_suffix('/') {
            Some(folder) if depth > 1 => {
                page_below(root, folder, depth - 1, after, page)?;
                if page.has_more {
                    return Ok(());
                }
            }
            Some(_) => {}
            None => {
                let Some((name, named)) = ObjectName::parse(&name) else { continue };
                match fs::metadata(root.join(name.as_str())) {
                    // Deleted since the folder was read.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    found => page.entries.push(Listed { name, named, bytes: found?.len() }),
                }
            }
        }
    }
    // Names that were not kept come after these.
    page.has_more = is_cut;
    Ok(())
}

#[cfg(test)]
mod tests {
    use backstay_core::id::{ObjectHash, PackId, SessionId};
    use bytes::Bytes;

    use super::*;
    use crate::name::Named;
    use crate::store::Store;

    #[tokio::test]
    async fn pages_of_any_size_make_up_what_a_listing_has() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = DirStore::new(folder.path().join("vault"));
        for n in 0..40u8 {
            let pack = Named::Pack(PackId::new([n.wrapping_mul(37); 32])).to_name();
            let index = Named::Index(SessionId::new([n; 16]), ObjectHash::new([n; 32])).to_name();
            for name in [pack, index] {
                store.put(&name, Bytes::from(vec![n; usize::from(n)])).await.expect("put");
            }
        }
        for top in ["packs", "index", "ledger"] {
            let top = Folder::new(&[&top]);
            let whole = store.list(&top).await.expect("lists");
            for size in [1, 3, 39, 40, 100] {
                let (mut all, mut after) = (Vec::new(), None);
                loop {
                    let page = store.page(&top, after.as_ref(), size).await.expect("a page");
                    assert!(page.entries.len() <= size);
                    all.extend(page.entries);
                    after = all.last().map(|listed: &Listed| listed.name.clone());
                    if !page.has_more {
                        break;
                    }
                }
                assert_eq!(all, whole, "{} in pages of {size}", top.as_str());
            }
        }
    }
}
