//! Keys of rows: paths and groups of hard links as order-preserving bytes (docs/format.md, section 11).
//! Owns what a valid path is. Refuses everything by which a restore could leave its destination: empty, `.`
//! and `..` components, slashes, NUL, over-long names.

use std::fmt;

use backstay_core::id::LinkId;

/// Greatest length of a path, bytes, separators included.
pub const PATH_BYTES_MAX: usize = 4096;

/// Greatest length of one component of a path, bytes.
pub const COMPONENT_BYTES_MAX: usize = 255;

const LINK_PREFIX: u8 = 0;
const PATH_PREFIX: u8 = 1;
const SEPARATOR: u8 = 0;
/// Comes before the offset in the key of a further row. No path has it: no component is empty.
const FURTHER_MARK: [u8; 2] = [0, 0];
const FURTHER_BYTES: usize = FURTHER_MARK.len() + 8;
const LINK_KEY_BYTES: usize = 1 + LinkId::LENGTH;

/// Bytes that are no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Neither a path nor a group of links, or of a wrong length.
    #[error("the key of a row has none of the known forms: the run is damaged or from a newer version")]
    Form,
    /// A component that is empty, `.`, `..`, longer than 255 bytes, or contains a slash or NUL.
    #[error("a component of a path is empty, \".\", \"..\", too long, or contains a slash or a zero byte")]
    Component,
    /// A path above [`PATH_BYTES_MAX`].
    #[error("a path is longer than {PATH_BYTES_MAX} bytes")]
    PathTooLong,
}

/// The key of a path: `01`, then the components with `00` between them. The root is the empty path. The
/// order of keys is depth first, siblings by their bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathKey(Box<[u8]>);

impl PathKey {
    /// The root of the source.
    pub fn root() -> Self {
        Self(Box::new([PATH_PREFIX]))
    }

    /// The path of `name` in the directory that this key names.
    pub fn child(&self, name: &[u8]) -> Result<Self, KeyError> {
        check_component(name)?;
        let separator = usize::from(!self.is_root());
        let length = self.0.len() + separator + name.len();
        if length - 1 > PATH_BYTES_MAX {
            return Err(KeyError::PathTooLong);
        }
        let mut key = Vec::with_capacity(length);
        key.extend_from_slice(&self.0);
        if separator == 1 {
            key.push(SEPARATOR);
        }
        key.extend_from_slice(name);
        Ok(Self(key.into_boxed_slice()))
    }

    /// The path with these components; the root if there are none.
    pub fn from_components<'a>(components: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, KeyError> {
        components.into_iter().try_fold(Self::root(), |key, name| key.child(name))
    }

    /// From the byte form, checked.
    pub fn parse(key: &[u8]) -> Result<Self, KeyError> {
        let Some((&PATH_PREFIX, path)) = key.split_first() else { return Err(KeyError::Form) };
        if path.len() > PATH_BYTES_MAX {
            return Err(KeyError::PathTooLong);
        }
        if !path.is_empty() {
            path.split(|byte| *byte == SEPARATOR).try_for_each(check_component)?;
        }
        Ok(Self(key.into()))
    }

    /// The byte form.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The components from the root downwards.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0[1..].split(|byte| *byte == SEPARATOR).filter(|name| !name.is_empty())
    }

    /// The directory that holds this; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let (at, _) = self.split_name()?;
        Some(Self(self.0[..at].into()))
    }

    /// The last component; `None` for the root.
    pub fn file_name(&self) -> Option<&[u8]> {
        self.split_name().map(|(_, name)| name)
    }

    /// Whether this is `directory` or somewhere below it.
    pub fn is_within(&self, directory: &PathKey) -> bool {
        directory.has_within(&self.0)
    }

    /// Whether a key is that of this path or of one below it.
    pub(crate) fn has_within(&self, key: &[u8]) -> bool {
        match key.strip_prefix(self.as_bytes()) {
            None => false,
            Some(rest) => self.is_root() || rest.is_empty() || rest[0] == SEPARATOR,
        }
    }

    /// The first key behind all that is within this path. No row need have it.
    pub(crate) fn end(&self) -> Vec<u8> {
        let (mut key, behind) = (self.0.to_vec(), SEPARATOR + 1);
        match self.is_root() {
            true => key[0] = PATH_PREFIX + 1,
            false => key.push(behind),
        }
        key
    }

    /// Number of components.
    pub fn depth(&self) -> usize {
        if self.is_root() { 0 } else { 1 + self.0[1..].iter().filter(|b| **b == SEPARATOR).count() }
    }

    /// The path relative to the root with `/` between components, for system calls; empty for the root.
    pub fn relative_path(&self) -> Vec<u8> {
        self.0[1..].iter().map(|&byte| if byte == SEPARATOR { b'/' } else { byte }).collect()
    }

    /// Where the parent's key ends, and the last component.
    fn split_name(&self) -> Option<(usize, &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == SEPARATOR) {
            Some(separator) => (separator, &self.0[separator + 1..]),
            None => (1, &self.0[1..]),
        })
    }
}

/// For people: `.` for the root, otherwise the relative path; what is not printable as `\xNN`.
impl fmt::Display for PathKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for chunk in self.relative_path().utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for PathKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PathKey({self})")
    }
}

/// The key of a head row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HeadKey {
    /// A file that has several names.
    Link(LinkId),
    /// Anything else, by its path.
    Path(PathKey),
}

impl HeadKey {
    /// From the byte form, checked.
    pub fn parse(key: &[u8]) -> Result<Self, KeyError> {
        match key.split_first() {
            Some((&LINK_PREFIX, id)) => LinkId::from_slice(id).map(Self::Link).ok_or(KeyError::Form),
            _ => PathKey::parse(key).map(Self::Path),
        }
    }

    /// The byte form.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Link(id) => link_key(id),
            Self::Path(path) => path.as_bytes().to_vec(),
        }
    }
}

impl fmt::Display for HeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(id) => write!(f, "the file with several names {id}"),
            Self::Path(path) => path.fmt(f),
        }
    }
}

/// The key of any row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowKey {
    /// A head row.
    Head(HeadKey),
    /// More references of a head row.
    Further {
        /// Whose references they are.
        head: HeadKey,
        /// Where in the file the first of them begins.
        first_offset_bytes: u64,
    },
}

impl RowKey {
    /// From the byte form, checked.
    pub fn parse(key: &[u8]) -> Result<Self, KeyError> {
        Ok(match split_further(key) {
            (head, None) => Self::Head(HeadKey::parse(head)?),
            (head, Some(first_offset_bytes)) => {
                Self::Further { head: HeadKey::parse(head)?, first_offset_bytes }
            }
        })
    }
}

/// The key of the head row of a group of links.
pub fn link_key(id: &LinkId) -> Vec<u8> {
    let mut key = Vec::with_capacity(LINK_KEY_BYTES);
    key.push(LINK_PREFIX);
    key.extend_from_slice(id.as_bytes());
    key
}

/// The key of the further row of `head` whose first reference begins at `first_offset_bytes`.
pub fn further_key(head: &[u8], first_offset_bytes: u64) -> Vec<u8> {
    let mut key = Vec::with_capacity(head.len() + FURTHER_BYTES);
    key.extend_from_slice(head);
    key.extend_from_slice(&FURTHER_MARK);
    key.extend_from_slice(&first_offset_bytes.to_be_bytes());
    key
}

/// The key of the head row to which `key` belongs, and the offset if `key` is that of a further row. Does
/// not check the head's key.
pub fn split_further(key: &[u8]) -> (&[u8], Option<u64>) {
    let mark = match key.first() {
        // A link id may hold any bytes: only its length tells.
        Some(&LINK_PREFIX) => LINK_KEY_BYTES,
        _ => key.windows(FURTHER_MARK.len()).position(|pair| pair == FURTHER_MARK).unwrap_or(key.len()),
    };
    let further = key.get(mark..).and_then(|rest| rest.strip_prefix(&FURTHER_MARK));
    match further.and_then(|rest| <[u8; 8]>::try_from(rest).ok()) {
        Some(offset) => (&key[..mark], Some(u64::from_be_bytes(offset))),
        None => (key, None),
    }
}

/// Whether `key` is that of a further row.
pub fn is_further(key: &[u8]) -> bool {
    split_further(key).1.is_some()
}

fn check_component(name: &[u8]) -> Result<(), KeyError> {
    let bad = name.is_empty()
        || name.len() > COMPONENT_BYTES_MAX
        || name == b"."
        || name == b".."
        || name.contains(&b'/')
        || name.contains(&SEPARATOR);
    if bad { Err(KeyError::Component) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(text: &str) -> PathKey {
        PathKey::from_components(text.split('/').filter(|c| !c.is_empty()).map(str::as_bytes)).unwrap()
    }

    #[test]
    fn paths_are_taken_apart_and_put_together() {
        let key = path("a/b/c");
        assert_eq!(key.as_bytes(), b"\x01a\0b\0c");
        assert_eq!(key.parent(), Some(path("a/b")));
        assert_eq!(key.file_name(), Some(&b"c"[..]));
        assert_eq!(key.relative_path(), b"a/b/c");
        assert_eq!((key.depth(), path("").depth()), (3, 0));
        assert_eq!(path("a").parent(), Some(PathKey::root()));
        assert_eq!((PathKey::root().parent(), PathKey::root().file_name()), (None, None));
        assert_eq!(PathKey::root().components().count(), 0);
    }

    #[test]
    fn a_neighbour_with_the_same_beginning_is_not_within() {
        assert!(path("a/b").is_within(&path("a")) && path("a").is_within(&path("a")));
        assert!(path("a").is_within(&PathKey::root()));
        assert!(!path("ab").is_within(&path("a")) && !path("a").is_within(&path("a/b")));
    }

    #[test]
    fn the_end_of_a_path_is_behind_all_that_is_within_it_and_before_the_next() {
        for within in ["a", "a/b", "a/\u{1}", "a/zz/y"] {
            assert!(path(within).as_bytes() < path("a").end().as_slice(), "{within}");
        }
        for behind in ["a\u{1}", "a!", "ab"] {
            assert!(path(behind).as_bytes() >= path("a").end().as_slice(), "{behind}");
        }
        assert!(PathKey::root().child(&[0xff; 9]).unwrap().as_bytes() < PathKey::root().end().as_slice());
    }

    #[test]
    fn what_is_below_a_directory_comes_before_its_next_neighbour() {
        let mut keys = [path("a!"), path("b"), path("a/z"), path("a"), path(""), path("a/b/c")];
        keys.sort();
        let order: Vec<String> = keys.iter().map(PathKey::to_string).collect();
        assert_eq!(order, [".", "a", "a/b/c", "a/z", "a!", "b"]);
    }

    #[test]
    fn components_that_could_escape_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"a\0b", &[b'x'; 256]] {
            assert_eq!(PathKey::root().child(name), Err(KeyError::Component), "{name:?}");
        }
        for key in [&b"\x01\0"[..], b"\x01a\0", b"\x01a\0\0b", b"\x01a\0..\0b", b"\x01/", b"\x01a\0."] {
            assert_eq!(PathKey::parse(key), Err(KeyError::Component), "{key:?}");
        }
        assert!(PathKey::root().child(b"...").is_ok() && PathKey::root().child(&[0xff; 255]).is_ok());
    }

    #[test]
    fn a_path_may_have_4096_bytes_and_not_one_more() {
        let name = [b'n'; 255];
        let deep = PathKey::from_components(std::iter::repeat_n(&name[..], 15)).unwrap();
        assert_eq!(deep.child(&name), PathKey::parse(deep.child(&name).unwrap().as_bytes()));
        let full = deep.child(&name).unwrap();
        assert_eq!(full.relative_path().len(), 4095);
        assert_eq!(full.child(b"x"), Err(KeyError::PathTooLong));
        let mut long = full.as_bytes().to_vec();
        long.extend_from_slice(b"\0x");
        assert_eq!(PathKey::parse(&long), Err(KeyError::PathTooLong));
    }

    #[test]
    fn names_are_shown_without_their_control_characters() {
        let key = PathKey::from_components([&b"line\nfeed"[..], b"\xff\xc3\xa9"]).unwrap();
        assert_eq!(key.to_string(), "line\\nfeed/\\xffé");
    }

    #[test]
    fn other_forms_are_refused() {
        for key in [&b""[..], b"\0short", b"\x02x", b"\0 seventeen bytes "] {
            assert_eq!(RowKey::parse(key), Err(KeyError::Form), "{key:?}");
        }
    }

    proptest! {
        #[test]
        fn the_key_of_a_further_row_gives_back_head_and_offset(
            id in any::<[u8; 16]>(),
            components in proptest::collection::vec("[^/\0.]{1,9}", 0..4),
            offset in any::<u64>(),
        ) {
            let path = PathKey::from_components(components.iter().map(String::as_bytes)).unwrap();
            for head in [HeadKey::Link(LinkId::new(id)), HeadKey::Path(path)] {
                let bytes = head.to_bytes();
                let further = further_key(&bytes, offset);
                prop_assert_eq!(RowKey::parse(&bytes), Ok(RowKey::Head(head.clone())));
                prop_assert_eq!(
                    RowKey::parse(&further),
                    Ok(RowKey::Further { head, first_offset_bytes: offset })
                );
                prop_assert!(is_further(&further) && !is_further(&bytes));
                prop_assert!(bytes < further);
            }
        }

        #[test]
        fn whatever_parses_as_a_path_is_made_of_valid_components(key in proptest::collection::vec(0u8..4, 0..12)) {
            if let Ok(path) = PathKey::parse(&key) {
                prop_assert_eq!(PathKey::from_components(path.components()), Ok(path.clone()));
                prop_assert_eq!(path.as_bytes(), &key[..]);
            }
        }
    }
}
