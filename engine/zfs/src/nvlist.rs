//! Packed name-value lists of OpenZFS, read: in the native encoding, of either byte order (`module/nvpair/nvpair.c`,
//! `nvs_native_*`). Of values it knows numbers, texts and marks without a value; others are told as such. Bounded by what is
//! there: nothing is allocated on the word of a length.

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Flag,
    Number(u64),
    Text(String),
    /// Of another type, by its number.
    Other(u32),
}

/// A list that is not packed as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Before the list: encoding, byte order, two that mean nothing.
const PREFIX: usize = 4;
const ENCODING_NATIVE: u8 = 0;
const LITTLE: u8 = 1;
/// Version and flags of the list.
const LIST: usize = 8;
/// Size, length of the name, one that means nothing, count of elements, type.
const PAIR: usize = 16;
/// To which names are filled up.
const ALIGNED: usize = 8;

/// `data_type_t` of `include/sys/nvpair.h`.
const TYPE_FLAG: u32 = 1;
const TYPE_U64: u32 = 8;
const TYPE_TEXT: u32 = 9;

/// Reads the pairs of a list.
pub(crate) fn read(packed: &[u8]) -> Result<Vec<(String, Item)>, Malformed> {
    let (prefix, body) = packed.split_at_checked(PREFIX).ok_or(Malformed)?;
    if prefix[0] != ENCODING_NATIVE {
        return Err(Malformed);
    }
    let order = Order { is_little: prefix[1] == LITTLE };
    let mut rest = body.get(LIST..).ok_or(Malformed)?;
    let mut pairs = Vec::new();
    loop {
        let size = order.u32(rest, 0)? as usize;
        if size == 0 {
            return Ok(pairs);
        }
        let (pair, after) = rest.split_at_checked(size).ok_or(Malformed)?;
        pairs.push(read_pair(pair, order)?);
        rest = after;
    }
}

fn read_pair(pair: &[u8], order: Order) -> Result<(String, Item), Malformed> {
    let name_bytes = usize::from(order.u16(pair, 4)?);
    let name = pair.get(PAIR..PAIR + name_bytes).ok_or(Malformed)?;
    let value = pair.get((PAIR + name_bytes).next_multiple_of(ALIGNED)..).unwrap_or_default();
    let item = match order.u32(pair, 12)? {
        TYPE_FLAG => Item::Flag,
        TYPE_U64 => Item::Number(order.u64(value, 0)?),
        TYPE_TEXT => Item::Text(text(value)?),
        other => Item::Other(other),
    };
    Ok((text(name)?, item))
}

/// Up to the first NUL, which has to be there.
fn text(bytes: &[u8]) -> Result<String, Malformed> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(Malformed)?;
    String::from_utf8(bytes[..end].to_vec()).map_err(|_| Malformed)
}

/// The byte order of whoever has packed it.
#[derive(Debug, Clone, Copy)]
struct Order {
    is_little: bool,
}

impl Order {
    fn u16(self, bytes: &[u8], at: usize) -> Result<u16, Malformed> {
        let bytes = array(bytes, at)?;
        Ok(if self.is_little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    }

    fn u32(self, bytes: &[u8], at: usize) -> Result<u32, Malformed> {
        let bytes = array(bytes, at)?;
        Ok(if self.is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    }

    fn u64(self, bytes: &[u8], at: usize) -> Result<u64, Malformed> {
        let bytes = array(bytes, at)?;
        Ok(if self.is_little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).copied().ok_or(Malformed)
}

#[cfg(test)]
pub(crate) mod packing {
    use super::*;

    /// Packs pairs as OpenZFS does on a machine of this byte order.
    pub(crate) fn pack(pairs: &[(&str, Item)], is_little: bool) -> Vec<u8> {
        let four = |number: u32| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
        let two = |number: u16| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
        let mut packed = vec![ENCODING_NATIVE, u8::from(is_little), 0, 0];
        packed.extend([four(0), four(1)].concat());
        for (name, item) in pairs {
            let (number, value) = match item {
                Item::Flag => (TYPE_FLAG, Vec::new()),
                Item::Number(n) if is_little => (TYPE_U64, n.to_le_bytes().to_vec()),
                Item::Number(n) => (TYPE_U64, n.to_be_bytes().to_vec()),
                Item::Text(text) => (TYPE_TEXT, [text.as_bytes(), &[0]].concat()),
                Item::Other(number) => (*number, Vec::new()),
            };
            let name_bytes = name.len() + 1;
            let begins = (PAIR + name_bytes).next_multiple_of(ALIGNED);
            let size = (begins + value.len()).next_multiple_of(ALIGNED);
            let mut pair =
                [four(size as u32).as_slice(), &two(name_bytes as u16), &two(0), &four(1), &four(number)]
                    .concat();
            pair.extend(name.as_bytes());
            pair.resize(begins, 0);
            pair.extend(value);
            pair.resize(size, 0);
            packed.extend(pair);
        }
        packed.extend(four(0));
        packed
    }
}

#[cfg(test)]
mod tests {
    use super::packing::pack;
    use super::*;

    #[test]
    fn lists_of_either_byte_order_are_read() {
        let pairs = [
            ("toguid", Item::Number(u64::MAX - 1)),
            ("toname", Item::Text("tank/a@b".to_owned())),
            ("compressok", Item::Flag),
            ("later", Item::Other(19)),
        ];
        for is_little in [true, false] {
            let read = read(&pack(&pairs, is_little)).expect("it is whole");
            let expected: Vec<_> =
                pairs.iter().map(|(name, item)| ((*name).to_owned(), item.clone())).collect();
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn a_list_cut_off_anywhere_is_refused() {
        let packed = pack(&[("toguid", Item::Number(1)), ("toname", Item::Text("x".to_owned()))], true);
        for length in 0..packed.len() {
            assert_eq!(read(&packed[..length]), Err(Malformed), "{length} bytes were accepted");
        }
    }
}
