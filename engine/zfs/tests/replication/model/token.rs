//! Resume tokens as OpenZFS writes them (`module/zfs/dsl_dataset.c`, `get_receive_resume_token_impl`).

use backstay_zfs::zfs::Form;

use super::host::Partial;

const TYPE_FLAG: u32 = 1;
const TYPE_U64: u32 = 8;

pub(crate) fn text(partial: &Partial) -> String {
    let mut packed = vec![0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    let mut pair = |name: &str, value: Option<u64>| {
        let begins = (16 + name.len() + 1).next_multiple_of(8);
        let size = begins + if value.is_some() { 8 } else { 0 };
        let kind = if value.is_some() { TYPE_U64 } else { TYPE_FLAG };
        let head = [
            (size as u32).to_le_bytes(),
            (name.len() as u32 + 1).to_le_bytes(),
            1_u32.to_le_bytes(),
            kind.to_le_bytes(),
        ];
        let start = packed.len();
        packed.extend(head.concat());
        packed.extend(name.as_bytes());
        packed.resize(start + begins, 0);
        packed.extend(value.into_iter().flat_map(u64::to_le_bytes));
    };
    if let Some(from) = partial.from {
        pair("fromguid", Some(from.0));
    }
    pair("object", Some(partial.resume.object));
    pair("offset", Some(partial.resume.offset_bytes));
    pair("toguid", Some(partial.to.0));
    match partial.form {
        Form::Raw => pair("rawok", None),
        Form::Plain => pair("compressok", None),
    }
    packed.extend([0; 4]);
    let compressed = miniz_oxide::deflate::compress_to_vec_zlib(&packed, 6);
    let words =
        compressed.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    let sum = words.fold(0_u64, |sum, word| sum.wrapping_add(u64::from(word)));
    let hex: String = compressed.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("1-{sum:x}-{:x}-{hex}", packed.len())
}
