//! The file with the recovery key: an age identity, which the operator keeps elsewhere. Never written over. Where it is read, the
//! page of a kit does as well, with its passphrase.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use backstay_vault::keys::{AgeIdentity, KeyFile, WrapError};
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::kit::{Sealed, WRONG_PASSPHRASE};
use crate::node::advice;
use crate::passphrase;
use crate::terminal::remark;

/// Longest key file that is read, bytes: more than any page takes.
const KEY_FILE_BYTES_MAX: u64 = 256 << 10;

/// How often a passphrase is asked for that is typed.
const TYPED_TRIES: usize = 3;

/// The identity in this file; a new one, written there, where there is none.
pub(super) fn read_or_make(file: &Path) -> Result<AgeIdentity, Failure> {
    if let Some(identity) = read(file)? {
        return Ok(identity);
    }
    let identity = AgeIdentity::generate();
    let write = || {
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
        out.write_all(identity.to_file().as_bytes())?;
        out.sync_all()?;
        // Its name as well: the admin's private key leaves the node next.
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(|error: std::io::Error| {
        Failure::failed(format!("cannot write the recovery key to {}: {error}", file.display()))
    })?;
    Ok(identity)
}

/// The identity in this file, which has to be there.
pub fn read_key_file(file: &Path) -> Result<AgeIdentity, Failure> {
    Ok(open_key_file(file, None)?.identity)
}

/// What is in this file, which has to be there: an identity file, or the page of a kit, which is opened with the passphrase in
/// `passphrase`; where there is no such file, the terminal is asked.
pub fn open_key_file(file: &Path, passphrase: Option<&Path>) -> Result<KeyFile, Failure> {
    let text = read_text(file)?.ok_or_else(|| {
        Failure::usage(format!(
            "there is no key file {}; it is the one that `backstay vault init VAULT --recovery FILE` has written, or the page of `backstay kit`, typed or scanned",
            file.display()
        ))
    })?;
    let shown = file.display().to_string();
    if let Some(sealed) = Sealed::find(&text, &shown)? {
        let tries = if passphrase.is_some() { 1 } else { TYPED_TRIES };
        let opened = opened(&sealed, &shown, tries, || passphrase::known(passphrase, &shown))?;
        return KeyFile::from_text(&opened).map_err(|error| no_key(file, &error));
    }
    let key = KeyFile::from_text(&text).map_err(|error| no_key(file, &error))?;
    warn_if_open(file);
    Ok(key)
}

/// What is sealed on a page; who types a passphrase is asked for it again where it does not open that.
fn opened(
    sealed: &Sealed,
    shown: &str,
    tries: usize,
    mut ask: impl FnMut() -> Result<Zeroizing<String>, Failure>,
) -> Result<Zeroizing<String>, Failure> {
    for _ in 1..tries {
        match sealed.open(&ask()?, shown) {
            Err(failure) if failure.class == WRONG_PASSPHRASE => remark(&failure.message),
            opened => return opened,
        }
    }
    sealed.open(&ask()?, shown)
}

/// Whether this file is the page of a kit, from which commands that write take no key.
pub fn is_page(file: &Path) -> bool {
    let text = read_text(file).ok().flatten();
    text.is_some_and(|text| matches!(Sealed::find(&text, &file.display().to_string()), Ok(Some(_))))
}

/// The identity in this file, if there is one.
pub(super) fn read(file: &Path) -> Result<Option<AgeIdentity>, Failure> {
    let Some(text) = read_text(file)? else { return Ok(None) };
    let shown = file.display().to_string();
    match Sealed::find(&text, &shown)? {
        None => AgeIdentity::from_file(&text).map(Some).map_err(|error| no_key(file, &error)),
        Some(_) => Err(Failure::usage(format!(
            "{shown} is the page of a kit: `backstay kit --open {shown} --to FILE` writes the recovery key that is sealed in it"
        ))),
    }
}

fn no_key(file: &Path, error: &WrapError) -> Failure {
    Failure::failed(format!(
        "{} is there and not a recovery key: {error}; give the file that `backstay vault init VAULT --recovery FILE` has written, or the page of `backstay kit`",
        file.display()
    ))
}

fn read_text(file: &Path) -> Result<Option<Zeroizing<String>>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read =
        fs::File::open(file).and_then(|file| file.take(KEY_FILE_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes as u64 > KEY_FILE_BYTES_MAX => Err(Failure::usage(format!(
            "{} has more than {KEY_FILE_BYTES_MAX} bytes, and is no key file",
            file.display()
        ))),
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::failed(format!(
            "cannot read the key file {}: {error}; {}",
            file.display(),
            advice(file, &error)
        ))),
    }
}

/// Whoever can read it can read all vaults. It may lie on a disk that knows no permissions, and it may be the worst day: it is
/// said, and no more.
fn warn_if_open(file: &Path) {
    let mode = fs::metadata(file).map_or(0, |found| found.mode());
    if mode & 0o077 != 0 {
        remark(&format!(
            "warning: {} can be read by other users, and with it all vaults: `chmod 600 {}`",
            file.display(),
            file.display()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passphrase_that_was_typed_wrong_is_asked_for_again_and_not_for_ever() {
        let sealed = Sealed::seal("what is sealed", "correct").expect("seals");
        let opened = |tries: usize, typed: &[&str]| {
            let mut left = typed.iter();
            let ask =
                || left.next().map(|typed| Zeroizing::new((*typed).to_owned())).ok_or_else(asked_too_often);
            opened(&sealed, "kit.txt", tries, ask)
                .map(|text| text.to_string())
                .map_err(|failure| failure.message)
        };
        assert_eq!(opened(3, &["wrong", "correct"]).as_deref(), Ok("what is sealed"));
        let wrong = opened(2, &["wrong", "wrong", "correct"]).expect_err("two tries");
        assert!(wrong.contains("the passphrase does not open the key"), "{wrong}");
        assert!(opened(1, &["wrong", "correct"]).is_err(), "one in a file is the same again");
    }

    fn asked_too_often() -> Failure {
        Failure::failed("asked too often")
    }
}
