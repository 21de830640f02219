//! "Did you mean": the known name nearest to one that is not known. Refuses far guesses: none is better
//! than a misleading one.

/// Longer texts are not compared; the comparison costs the product of both lengths.
const COMPARED_BYTES_MAX: usize = 128;

/// The candidate that differs least from `typed`, when it differs in at most a third of its characters.
pub(super) fn nearest<'c>(typed: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if typed.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let distance_max = (typed.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= COMPARED_BYTES_MAX)
        .map(|candidate| (strsim::osa_distance(typed, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= distance_max && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_is_found_and_the_far_is_not() {
        let known = ["path", "prefix", "policy"];
        assert_eq!(nearest("pth", known), Some("path"));
        assert_eq!(nearest("apth", known), Some("path"));
        assert_eq!(nearest("polisy", known), Some("policy"));
        assert_eq!(nearest("bucket", known), None);
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest(&"p".repeat(1000), known), None);
    }
}
