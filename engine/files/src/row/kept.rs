//! Taking out of a head row that older further rows stay, as a merge of runs wants it.

use minicbor::Encoder;

use super::decode::split;
use super::strict::{Strict, Taken};
use super::{RowError, RowFault};

/// Key of the remark in the map of facts; it takes one byte.
const KEPT: u64 = 8;

/// The value of a head row, with the remark that older further rows stay taken out. Everything else is as it
/// stands, also what this version does not know.
pub fn without_kept(value: &[u8]) -> Result<Vec<u8>, RowError> {
    let (restored, facts) = split(value)?;
    let mut entries = 0;
    let mut remark = None;
    Strict::new(facts, "facts").map(|key, rest| {
        entries += 1;
        let begins = facts.len() - rest.rest().len() - 1;
        rest.skip()?;
        if key == KEPT {
            remark = Some(begins..facts.len() - rest.rest().len());
        }
        Ok(Taken::Yes)
    })?;
    let Some(remark) = remark else { return Ok(value.to_vec()) };
    let header = map_header(Vec::new(), entries)?;
    let mut out = map_header(restored.to_vec(), entries - 1)?;
    out.extend_from_slice(&facts[header.len()..remark.start]);
    out.extend_from_slice(&facts[remark.end..]);
    Ok(out)
}

fn map_header(out: Vec<u8>, entries: u64) -> Result<Vec<u8>, RowError> {
    let mut out = Encoder::new(out);
    out.map(entries).map_err(|_| RowError { field: "facts", fault: RowFault::Bounds })?;
    Ok(out.into_writer())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remark_goes_and_everything_else_stays_as_it_stands() {
        // The first map holds a remark of the same number, the second one unknown keys around it.
        let row = [0xa1, 8, 1, 0xa3, 0, 0x82, 8, 1, 8, 1, 0x18, 99, 0x61, b'x'];
        assert_eq!(without_kept(&row).unwrap(), [0xa1, 8, 1, 0xa2, 0, 0x82, 8, 1, 0x18, 99, 0x61, b'x']);
        let without = without_kept(&row).unwrap();
        assert_eq!(without_kept(&without).unwrap(), without, "once is enough");
    }

    #[test]
    fn a_map_whose_header_becomes_shorter_is_put_together_rightly() {
        let entries = |keys: &[u8]| keys.iter().flat_map(|key| [*key, 1]).collect::<Vec<u8>>();
        let keys: Vec<u8> = (0..23).collect();
        let facts = [&[0xb8, 24][..], &entries(&keys), &[0x18, 99, 1]].concat();
        let others: Vec<u8> = keys.iter().copied().filter(|key| *key != 8).collect();
        let expected = [&[0xa0, 0xb7][..], &entries(&others), &[0x18, 99, 1]].concat();
        assert_eq!(without_kept(&[&[0xa0][..], &facts].concat()).unwrap(), expected);
    }
}
