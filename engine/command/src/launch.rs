//! The launcher: a process between the daemon and a program, which takes the rights of another user and then becomes the
//! program. Owns the order of these steps and the form in which it is told what to do.
//!
//! It is the daemon's own executable, started with one argument. Three things ask for it, all without `unsafe`
//! (docs/adr/0016-programs-are-started-by-a-launcher.md):
//! - a user has groups beside the first one. The standard library takes them all away when it changes the user, and has
//!   no stable call that sets them;
//! - no process of the daemon's own user may see the environment that a configuration has chosen: `LD_PRELOAD` in it would
//!   run as root in any tool such as `setpriv` that changed the user. Here the environment comes through a pipe, and is
//!   set with the last call only, when the rights are those of the user;
//! - a program shall not outlive the daemon, also when that is killed, and the kernel's way to say so is forgotten when the user changes.
//!
//! Files of secrets are read here as well, with the rights of the user: whoever writes fleet.toml could else have any
//! file of root handed to a program.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};

use minicbor::{Decode, Encode};
use rustix::process::{Gid, Pid, Signal, Uid};
use zeroize::Zeroizing;

/// The argument by which the executable knows that it is to launch a program.
pub const LAUNCH_WORD: &str = "launch-program-of-a-source";

/// Where programs are looked for. Not what the daemon was started with: a capture is the same from a shell.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What begins a message of the launcher, by which it is told from one of the program.
pub(crate) const NOT_STARTED: &str = "backstay could not start it: ";

/// Its exit code then, as shells have it.
pub(crate) const NOT_STARTED_CODE: u8 = 127;

/// Most bytes of what is to be launched; the kernel takes no more for a program's arguments and environment.
pub(crate) const LAUNCH_BYTES_MAX: usize = 4 << 20;

/// Most bytes of a secret: no variable can be longer.
pub(crate) const SECRET_BYTES_MAX: usize = 128 << 10;

/// What is to be launched.
#[derive(Debug, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Launch {
    /// The process that is its parent. When it is another, that has died.
    #[n(0)]
    pub(crate) parent: i32,
    /// Program and arguments.
    #[n(1)]
    pub(crate) argv: Vec<String>,
    /// The whole environment.
    #[n(2)]
    pub(crate) variables: Vec<Variable>,
    /// Whose rights it takes first.
    #[n(3)]
    pub(crate) becomes: Option<Becomes>,
}

/// A user by numbers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Becomes {
    #[n(0)]
    pub(crate) uid: u32,
    #[n(1)]
    pub(crate) gid: u32,
    /// All groups.
    #[n(2)]
    pub(crate) groups: Vec<u32>,
}

/// A variable of the environment.
#[derive(Debug, Clone, Encode, Decode)]
#[cbor(map)]
pub(crate) struct Variable {
    #[n(0)]
    pub(crate) name: String,
    #[n(1)]
    pub(crate) value: Value,
}

/// Where the value of a variable comes from.
#[derive(Clone, Encode, Decode)]
pub(crate) enum Value {
    /// This is it.
    #[n(0)]
    Bytes(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    /// It is in the file of this path, but for one end of line.
    #[n(1)]
    File(#[n(0)] String),
}

/// Never shows a value: it may be a secret.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(_) => f.write_str("Bytes(…)"),
            Self::File(path) => write!(f, "File({path:?})"),
        }
    }
}

/// Does what a launcher has to when this process is one; `None` when it is not. To be called before anything else: the
/// rights that are given up are those of the one thread that there is.
pub fn launched() -> Option<ExitCode> {
    if std::env::args_os().nth(1).is_none_or(|word| word != LAUNCH_WORD) {
        return None;
    }
    let why = become_program();
    let _ = writeln!(std::io::stderr(), "{NOT_STARTED}{why}");
    Some(ExitCode::from(NOT_STARTED_CODE))
}

/// Returns only when that fails, with the reason.
fn become_program() -> String {
    match prepare() {
        Ok(mut command) => {
            let error = command.exec();
            format!("{}: {error}", command.get_program().display())
        }
        Err(why) => why,
    }
}

fn prepare() -> Result<Command, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let stdin = std::io::stdin().lock().take(LAUNCH_BYTES_MAX as u64 + 1).read_to_end(&mut bytes);
    stdin.map_err(|error| format!("what is to be launched cannot be read: {error}"))?;
    let launch: Launch = minicbor::decode(&bytes).map_err(|_| "it was not told what to launch".to_owned())?;
    if let Some(becomes) = &launch.becomes {
        take_rights(becomes).map_err(|error| {
            let uid = becomes.uid;
            format!(
                "cannot become the user with number {uid}: {error}; run the daemon as root (under systemd, with the drop-in commands.conf of its unit), or remove command_user from node.toml"
            )
        })?;
    }
    die_with(launch.parent)?;
    let [program, arguments @ ..] = launch.argv.as_slice() else {
        return Err("no program is named".to_owned());
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().current_dir("/").stdin(Stdio::null());
    for variable in launch.variables {
        use std::os::unix::ffi::OsStrExt;
        let value = value_of(&variable)?;
        command.env(&variable.name, std::ffi::OsStr::from_bytes(&value));
    }
    Ok(command)
}

/// The process has one thread: what holds for it holds for the process.
fn take_rights(becomes: &Becomes) -> std::io::Result<()> {
    let groups: Vec<Gid> = becomes.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    rustix::thread::set_thread_groups(&groups)?;
    let gid = Gid::from_raw(becomes.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(becomes.uid);
    // Last: nobody but root can do the others.
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// The kernel kills the program when its parent dies, whatever that dies of. What has died before that was asked for is
/// noticed by there being another parent.
fn die_with(parent: i32) -> Result<(), String> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|error| format!("cannot be made to end with the daemon: {error}"))?;
    match rustix::process::getppid() == Pid::from_raw(parent) {
        true => Ok(()),
        false => Err("the daemon has ended".to_owned()),
    }
}

fn value_of(variable: &Variable) -> Result<Zeroizing<Vec<u8>>, String> {
    let name = &variable.name;
    let value = match &variable.value {
        Value::Bytes(bytes) => Zeroizing::new(bytes.clone()),
        Value::File(path) => read_secret(path).map_err(|error| {
            format!("the secret {name} cannot be read from {path}: {error}; it is read by the user that the program runs as, who must be able to")
        })?,
    };
    match value.contains(&0) {
        true => Err(format!("the secret {name} has a NUL character, which no variable can hold")),
        false => Ok(value),
    }
}

/// The content of a file but for one end of line, which editors put there.
pub fn read_secret(path: &str) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let mut value = Zeroizing::new(Vec::new());
    // A pipe that has taken the place of the file keeps nobody waiting, and a device is not touched.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = File::options().read(true).custom_flags(flags.bits() as i32).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    file.take(SECRET_BYTES_MAX as u64 + 1).read_to_end(&mut value)?;
    if value.len() > SECRET_BYTES_MAX {
        return Err(std::io::Error::other(format!("it has more than {SECRET_BYTES_MAX} bytes")));
    }
    if let Some(line) = value.strip_suffix(b"\n") {
        let length = line.strip_suffix(b"\r").unwrap_or(line).len();
        value.truncate(length);
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_in_the_place_of_a_secret_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .expect("makes a pipe");
        let error = read_secret(path.to_str().expect("text")).expect_err("refused");
        assert_eq!(error.to_string(), "it is not a file");
    }

    #[test]
    fn a_secret_is_the_file_without_the_end_of_its_line() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_str().expect("text");
        for (content, secret) in [("abc\n", "abc"), ("abc\r\n", "abc"), ("abc\n\n", "abc\n"), ("", "")] {
            std::fs::write(path, content).expect("written");
            assert_eq!(read_secret(path).expect("read").as_slice(), secret.as_bytes());
        }
        std::fs::write(path, vec![b'x'; SECRET_BYTES_MAX + 1]).expect("written");
        assert!(read_secret(path).is_err());
    }

    #[test]
    fn what_is_launched_is_told_as_it_is_and_shows_no_value() {
        let variable = Variable { name: "A".into(), value: Value::Bytes(b"hunter2".to_vec()) };
        let file = Variable { name: "B".into(), value: Value::File("/etc/x".into()) };
        let launch =
            Launch { parent: 7, argv: vec!["true".into()], variables: vec![variable, file], becomes: None };
        let shown = format!("{launch:?}");
        assert!(shown.contains("/etc/x") && !shown.contains("hunter2"), "{shown}");
        let bytes = minicbor::to_vec(&launch).expect("encodes");
        let back: Launch = minicbor::decode(&bytes).expect("decodes");
        assert!(matches!(&back.variables[0].value, Value::Bytes(value) if value == b"hunter2"));
        assert_eq!(format!("{back:?}"), shown);
    }
}
