//! Passphrases: from a file, or from the terminal without being shown. Nothing asks where there is no terminal.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::node::advice;

/// Longest passphrase, bytes.
const PASSPHRASE_BYTES_MAX: u64 = 1024;

/// The terminal of this process, wherever its standard input comes from.
const TERMINAL: &str = "/dev/tty";

/// That the group or others may read a file.
const OTHERS: u32 = 0o044;

// What the keys send that a terminal acts on otherwise.
const INTERRUPT: u8 = 3;
const END_OF_INPUT: u8 = 4;
const BACKSPACE: u8 = 8;
const ERASE_LINE: u8 = 21;
const SUSPEND: u8 = 26;
const QUIT: u8 = 28;
const DELETE: u8 = 127;

/// How often one is asked that is to be typed twice.
const TRIES: usize = 3;

/// The passphrase in a file: its first line.
pub fn from_file(file: &Path) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: &std::io::Error| {
        Failure::usage(format!(
            "cannot read the passphrase from {}: {error}; {}",
            file.display(),
            advice(file, error)
        ))
    };
    let mut text = Zeroizing::new(String::new());
    let opened = File::open(file).map_err(|error| failed(&error))?;
    let mode = opened.metadata().map_err(|error| failed(&error))?.mode();
    if mode & OTHERS != 0 {
        crate::terminal::remark(&format!(
            "warning: others can read the passphrase in {}: `chmod 600` it, and remove it when it is of no use any more",
            file.display()
        ));
    }
    opened.take(PASSPHRASE_BYTES_MAX + 2).read_to_string(&mut text).map_err(|error| failed(&error))?;
    let line = text.lines().next().unwrap_or_default();
    if line.len() as u64 > PASSPHRASE_BYTES_MAX {
        return Err(Failure::usage(format!(
            "the first line of {} has more than {PASSPHRASE_BYTES_MAX} bytes: no passphrase is so long",
            file.display()
        )));
    }
    match line.is_empty() {
        true => {
            Err(Failure::usage(format!("there is no passphrase in the first line of {}", file.display())))
        }
        false => Ok(Zeroizing::new(line.to_owned())),
    }
}

/// From the file that was given, or asked for.
pub fn known(file: Option<&Path>, what: &str) -> Result<Zeroizing<String>, Failure> {
    match file {
        Some(file) => from_file(file),
        None => asked(&format!("passphrase of {what}: ")),
    }
}

/// The same for a new one, which is asked for twice.
pub fn chosen(file: Option<&Path>, what: &str) -> Result<Zeroizing<String>, Failure> {
    if let Some(file) = file {
        return from_file(file);
    }
    for _ in 0..TRIES {
        let first = asked(&format!("a passphrase for {what}: "))?;
        if first == asked("the same again: ")? {
            return Ok(first);
        }
        crate::terminal::remark("these were two different ones");
    }
    Err(Failure::usage("the passphrase was not the same twice: give it with --passphrase-file FILE"))
}

/// Asks on the terminal.
fn asked(question: &str) -> Result<Zeroizing<String>, Failure> {
    let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL);
    let Ok(mut terminal) = terminal else {
        return Err(Failure::usage(
            "a passphrase is needed, and there is no terminal to ask for it: give it with --passphrase-file FILE",
        ));
    };
    terminal.write_all(question.as_bytes())?;
    let silent = Silent::begin(&terminal)?;
    let line = typed(&terminal);
    drop(silent);
    // What ended the line was not shown either.
    terminal.write_all(b"\n")?;
    let line = line?;
    match line.is_empty() {
        true => Err(Failure::usage("no passphrase was typed")),
        false => Ok(line),
    }
}

/// What is typed until the line ends, edited as a terminal would: it leaves that to this program while it is silent, or a key that
/// ends a program would leave it silent.
fn typed(mut terminal: impl Read) -> Result<Zeroizing<String>, Failure> {
    // It does not grow, so that nothing of it stays elsewhere.
    let mut line = Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX as usize));
    let mut byte = [0];
    loop {
        match terminal.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        }
        match byte[0] {
            b'\n' | b'\r' | END_OF_INPUT => break,
            INTERRUPT | QUIT => return Err(Failure::failed("interrupted; nothing was done")),
            SUSPEND => {}
            ERASE_LINE => line.clear(),
            BACKSPACE | DELETE => {
                // All bytes of the character.
                while line.pop().is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000) {}
            }
            _ if line.len() as u64 == PASSPHRASE_BYTES_MAX => {
                return Err(Failure::usage(format!("more than {PASSPHRASE_BYTES_MAX} bytes were typed")));
            }
            other => line.push(other),
        }
    }
    let text = String::from_utf8(std::mem::take(&mut *line));
    text.map(Zeroizing::new).map_err(|_| Failure::usage("what was typed is not UTF-8"))
}

/// A terminal that does not show what is typed, until this goes.
struct Silent<'t> {
    terminal: &'t File,
    before: Termios,
}

impl<'t> Silent<'t> {
    fn begin(terminal: &'t File) -> Result<Self, Failure> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent
            .local_modes
            .remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        silent.special_codes[SpecialCodeIndex::VMIN] = 1;
        silent.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silent<'_> {
    fn drop(&mut self) {
        if let Err(error) = tcsetattr(self.terminal, OptionalActions::Flush, &self.before) {
            tracing::warn!(%error, "the terminal does not show what is typed: `stty echo` has it do so");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_can_be_mended_and_given_up() {
        let line =
            |bytes: &[u8]| typed(bytes).map(|line| line.to_string()).map_err(|failure| failure.message);
        assert_eq!(line(b"correct horse\nmore").as_deref(), Ok("correct horse"));
        assert_eq!(line("wrong\u{15}corr\u{fc}\u{7f}ect\r".as_bytes()).as_deref(), Ok("correct"));
        assert_eq!(line(b"\x7f\x7fend\x04").as_deref(), Ok("end"));
        assert_eq!(line(b"not closed").as_deref(), Ok("not closed"));
        assert!(line(b"half\x03").expect_err("given up").contains("interrupted"));
        assert!(line(&[b'a'; 1025]).expect_err("long").contains("more than 1024"));
        assert!(line(b"\xff\n").expect_err("no text").contains("UTF-8"));
    }

    #[test]
    fn a_passphrase_is_the_first_line_of_its_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let read = |text: &str| {
            std::fs::write(file.path(), text).expect("writes");
            from_file(file.path()).map(|passphrase| passphrase.to_string()).map_err(|failure| failure.message)
        };
        assert_eq!(read("correct horse\nsecond\n").as_deref(), Ok("correct horse"));
        assert_eq!(read("correct horse").as_deref(), Ok("correct horse"));
        assert_eq!(read("correct horse\r\n").as_deref(), Ok("correct horse"));
        assert!(read("\nsecond\n").expect_err("empty").contains("there is no passphrase"));
        assert!(read(&"a".repeat(1025)).expect_err("long").contains("no passphrase is so long"));
        let missing = file.path().with_extension("missing");
        assert!(from_file(&missing).expect_err("missing").message.contains("cannot read the passphrase"));
    }
}
