//! Sizes as people write them: `4GiB`, `64MiB`, `1000000`.
//!
//! Owns the parsing of `--size` and its bounds.

/// A smaller data set has no room for one file of each kind.
const LEAST_BYTES: u64 = 1 << 20;
/// A larger one has a plan that does not fit in memory comfortably.
const MOST_BYTES: u64 = 1 << 40;

/// Bytes; a number without a unit is bytes.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        other => return Err(format!("unknown unit `{other}`: use KiB, MiB, GiB or TiB")),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{text}` does not begin with a number"))?;
    match number.checked_mul(1 << shift) {
        Some(bytes) if (LEAST_BYTES..=MOST_BYTES).contains(&bytes) => Ok(bytes),
        _ => Err(format!("`{text}` is not between 1MiB and 1TiB")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_binary() {
        assert_eq!(parse_size("4GiB"), Ok(4 << 30));
        assert_eq!(parse_size("2000000"), Ok(2_000_000));
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for text in ["", "GiB", "4GB", "1KiB", "2TiB", "99999999999999999999", "17179869184TiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
