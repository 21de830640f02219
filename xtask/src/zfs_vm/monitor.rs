//! The monitor of a guest: JSON, a message on each line, over the standard streams of QEMU (QEMU Machine Protocol).
//!
//! Owns the dialogue. Refuses commands that no recipe needs.

use std::io::{BufRead, BufReader, Read, Write};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// Whether the guest's network carries anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Joined,
    Parted,
}

pub(super) struct Monitor<R, W> {
    answers: BufReader<R>,
    commands: W,
}

impl<R: Read, W: Write> Monitor<R, W> {
    /// Waits for the greeting, by which all devices are there, and leaves the mode in which nothing but capabilities is discussed.
    pub(super) fn greet(answers: R, commands: W) -> Result<Self> {
        let mut monitor = Monitor { answers: BufReader::new(answers), commands };
        let greeting = monitor.message()?;
        ensure!(greeting.get("QMP").is_some(), "QEMU does not greet, but says {greeting}");
        monitor.execute(&json!({ "execute": "qmp_capabilities" }))?;
        Ok(monitor)
    }

    /// Parts the network of that name from its guest, who sees it as a cable that was drawn, or joins them again.
    pub(super) fn set_link(&mut self, name: &str, link: Link) -> Result<()> {
        let up = link == Link::Joined;
        self.execute(&json!({ "execute": "set_link", "arguments": { "name": name, "up": up } }))
    }

    fn execute(&mut self, command: &Value) -> Result<()> {
        // In one piece: QEMU reads as it comes, and begins before the end.
        self.commands.write_all(format!("{command}\n").as_bytes()).context("QEMU takes no commands")?;
        self.commands.flush().context("QEMU takes no commands")?;
        loop {
            let message = self.message()?;
            if message.get("return").is_some() {
                return Ok(());
            }
            if let Some(error) = message.get("error") {
                bail!("QEMU refuses {command}: {error}");
            }
            // An event, which may come at any time.
        }
    }

    fn message(&mut self) -> Result<Value> {
        let mut line = String::new();
        let count = self.answers.read_line(&mut line).context("cannot read what QEMU says")?;
        ensure!(count > 0, "QEMU has ended");
        serde_json::from_str(&line).with_context(|| format!("QEMU says {line:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: &str = "{\"QMP\": {}}\n{\"return\": {}}\n";

    #[test]
    fn events_between_a_command_and_its_answer_are_passed_over() {
        let said = format!("{GREETING}{{\"event\": \"RESUME\"}}\n{{\"return\": {{}}}}\n");
        let mut commands = Vec::new();
        let mut monitor = Monitor::greet(said.as_bytes(), &mut commands).unwrap();
        monitor.set_link("net", Link::Parted).unwrap();
        let commands = String::from_utf8(commands).unwrap();
        let last: Value = serde_json::from_str(commands.lines().last().unwrap()).unwrap();
        assert_eq!(last, json!({ "execute": "set_link", "arguments": { "name": "net", "up": false } }));
    }

    #[test]
    fn a_refusal_and_an_end_are_errors() {
        let said = format!("{GREETING}{{\"error\": {{\"desc\": \"no such device\"}}}}\n");
        let mut monitor = Monitor::greet(said.as_bytes(), Vec::new()).unwrap();
        let refused = monitor.set_link("net", Link::Joined).expect_err("it was refused");
        assert!(refused.to_string().contains("no such device"), "{refused}");
        let ended = monitor.set_link("net", Link::Joined).expect_err("nothing more is said");
        assert!(ended.to_string().contains("ended"), "{ended}");
        assert!(Monitor::greet(b"".as_slice(), Vec::new()).is_err());
    }
}
