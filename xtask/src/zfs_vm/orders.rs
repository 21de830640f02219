//! What the program in the first guest can order of its host, on the port `backstay.host`: a line each, and a line in answer.
//!
//! Owns the words. Refuses what it does not know by an answer that says so, never by silence.

/// An order that concerns the second guest or the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// No frame passes between the two until they are joined.
    Part,
    Join,
    /// The second guest loses its power.
    KillTwo,
    /// The second guest gets it back, with its scratch disk as it was. Answered when it serves SSH, at once if it does.
    StartTwo,
}

pub(super) const DONE: &str = "done\n";

/// The order, or what to answer.
pub(super) fn read(line: &str) -> Result<Order, String> {
    match line.trim() {
        "part" => Ok(Order::Part),
        "join" => Ok(Order::Join),
        "kill-two" => Ok(Order::KillTwo),
        "start-two" => Ok(Order::StartTwo),
        other => Err(refused(&format!("'{other}' is none of part, join, kill-two, start-two"))),
    }
}

/// The answer to an order that cannot be followed.
pub(super) fn refused(why: &str) -> String {
    format!("refused: {why}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_an_order_or_an_answer() {
        assert_eq!(read("part\r\n"), Ok(Order::Part));
        assert_eq!(read("start-two"), Ok(Order::StartTwo));
        let answer = read("explode").expect_err("it is no order");
        assert!(answer.starts_with("refused: 'explode'") && answer.ends_with('\n'), "{answer}");
    }
}
