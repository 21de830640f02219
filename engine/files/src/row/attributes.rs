//! Extended attributes in a row, and the bounds that make a row fit into an entry of a run.

use backstay_core::id::ContentId;

use super::{RowError, RowFault};

/// Greatest number of attributes of one object.
pub const ATTRIBUTES_MAX: usize = 256;

/// Greatest sum of [`Attribute::weight`] of one object, bytes. With everything else a row has, this stays
/// below [`backstay_core::run::VALUE_BYTES_MAX`].
pub const ATTRIBUTES_BYTES_MAX: usize = 64 * 1024;

/// Greatest length of a value that is in the row itself, bytes; larger ones are data.
pub const INLINE_VALUE_BYTES_MAX: usize = 4096;

/// Greatest length of any value, bytes: what Linux allows.
pub const ATTRIBUTE_VALUE_BYTES_MAX: usize = 64 * 1024;

/// Greatest number of references to large values.
pub const ATTRIBUTE_REFERENCES_MAX: usize = 256;

const NAME_BYTES_MAX: usize = 255;
/// Array, lengths, content id: what an attribute weighs beside its name and inline value, at most.
const FRAME_BYTES: usize = 48;

/// The name of an attribute with its name space, such as `user.comment`: 1 to 255 bytes without NUL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttributeName(Box<[u8]>);

impl AttributeName {
    /// `None` if no attribute can have this name.
    pub fn new(name: &[u8]) -> Option<Self> {
        let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(&0);
        fits.then(|| Self(name.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeValue {
    /// At most [`INLINE_VALUE_BYTES_MAX`], here.
    Inline(Box<[u8]>),
    /// Longer: elsewhere. The references are among the facts of the row.
    Large {
        /// Length, above [`INLINE_VALUE_BYTES_MAX`] and at most [`ATTRIBUTE_VALUE_BYTES_MAX`].
        length_bytes: u32,
        /// What it is.
        id: ContentId,
    },
}

/// One extended attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Its name.
    pub name: AttributeName,
    /// Its value.
    pub value: AttributeValue,
}

impl Attribute {
    /// What an attribute with this name and a value of this length counts towards [`ATTRIBUTES_BYTES_MAX`].
    pub fn weight(name: &AttributeName, value_length: usize) -> usize {
        let inline = if value_length <= INLINE_VALUE_BYTES_MAX { value_length } else { 0 };
        FRAME_BYTES + name.as_bytes().len() + inline
    }

    fn value_length(&self) -> usize {
        match &self.value {
            AttributeValue::Inline(value) => value.len(),
            AttributeValue::Large { length_bytes, .. } => *length_bytes as usize,
        }
    }

    fn is_sound(&self) -> bool {
        let length = self.value_length();
        match self.value {
            AttributeValue::Inline(_) => length <= INLINE_VALUE_BYTES_MAX,
            AttributeValue::Large { .. } => {
                (INLINE_VALUE_BYTES_MAX + 1..=ATTRIBUTE_VALUE_BYTES_MAX).contains(&length)
            }
        }
    }
}

/// The attributes of one object, by name, each name once, within the bounds above.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes(Vec<Attribute>);

impl Attributes {
    /// Sorts and checks them.
    pub fn new(mut attributes: Vec<Attribute>) -> Result<Self, RowError> {
        attributes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Self::from_sorted(attributes)
    }

    /// Checks them, their order too.
    pub(super) fn from_sorted(attributes: Vec<Attribute>) -> Result<Self, RowError> {
        let error = |fault| Err(RowError { field: "extended attributes", fault });
        if attributes.windows(2).any(|pair| pair[0].name >= pair[1].name) {
            return error(RowFault::Order);
        }
        let weight: usize = attributes.iter().map(|a| Attribute::weight(&a.name, a.value_length())).sum();
        let sound = attributes.iter().all(Attribute::is_sound);
        if !sound || attributes.len() > ATTRIBUTES_MAX || weight > ATTRIBUTES_BYTES_MAX {
            return error(RowFault::Bounds);
        }
        Ok(Self(attributes))
    }

    /// By rising name.
    pub fn iter(&self) -> impl Iterator<Item = &Attribute> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where each large value begins when they are put one behind the other, and its length, in bytes.
    pub fn large_spans(&self) -> impl Iterator<Item = (u64, u32)> {
        let large = |attribute: &Attribute| match attribute.value {
            AttributeValue::Large { length_bytes, .. } => Some(length_bytes),
            AttributeValue::Inline(_) => None,
        };
        self.0.iter().filter_map(large).scan(0, |offset_bytes, length_bytes| {
            let begins = *offset_bytes;
            *offset_bytes += u64::from(length_bytes);
            Some((begins, length_bytes))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inline(name: &str, length: usize) -> Attribute {
        let name = AttributeName::new(name.as_bytes()).unwrap();
        Attribute { name, value: AttributeValue::Inline(vec![7; length].into()) }
    }

    #[test]
    fn attributes_are_sorted_and_a_name_stands_once() {
        let sorted = Attributes::new(vec![inline("user.b", 1), inline("user.a", 2)]).unwrap();
        assert_eq!(sorted.iter().map(|a| a.name.as_bytes()).collect::<Vec<_>>(), [b"user.a", b"user.b"]);
        let twice = Attributes::new(vec![inline("user.a", 1), inline("user.a", 2)]);
        assert_eq!(twice.unwrap_err().fault, RowFault::Order);
    }

    #[test]
    fn what_would_not_fit_into_an_entry_is_refused() {
        let names: Vec<String> = (0..20).map(|n| format!("user.{n}")).collect();
        let large = names.iter().map(|name| inline(name, INLINE_VALUE_BYTES_MAX)).collect();
        assert_eq!(Attributes::new(large).unwrap_err().fault, RowFault::Bounds);
        let above = vec![inline("user.a", INLINE_VALUE_BYTES_MAX + 1)];
        assert_eq!(Attributes::new(above).unwrap_err().fault, RowFault::Bounds);
        let many = (0..=ATTRIBUTES_MAX).map(|n| inline(&format!("user.{n}"), 0)).collect();
        assert_eq!(Attributes::new(many).unwrap_err().fault, RowFault::Bounds);
    }
}
