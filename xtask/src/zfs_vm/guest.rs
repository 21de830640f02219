//! One guest: a QEMU process, from its command line to its end.
//!
//! Owns the shape of the virtual machine, and the names of its ports. A guest lives no longer than we do: the kernel kills it when
//! the thread that started it ends, so that must be the main one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread;

use anyhow::{Context, Result};

use super::exchange;
use super::folder::Folder;
use super::image::Image;
use super::monitor::{Link, Monitor};

/// One processor: with two, the emulation now and then runs a kernel instruction that another one has just replaced, which is an oops
/// (`int3` at a static key, one boot of about twenty).
const PROCESSORS: &str = "1";
/// Memory is taken from the host as the guest touches it.
const MEMORY_MIB: &str = "2048";

/// What the emulation is bad at is left out: with the 16-byte exchange the kernel panics now and then, and vector instructions make
/// the ciphers several times slower.
const PROCESSOR: &str = "max,-cx16,-avx,-avx2";

/// The root disk is NVMe, and its file system ext4: the kernel of Debian has both built in, so that there is no initrd to unpack.
/// What shields guests from each other is of no use here; an oops must end the guest, or a test would hang.
const KERNEL: &str = "root=/dev/nvme0n1 rootfstype=ext4 rw init=/usr/sbin/backstay-init console=ttyS0 \
                      loglevel=5 panic=-1 oops=panic mitigations=off nokaslr no_timer_check nowatchdog \
                      net.ifnames=0 rcupdate.rcu_expedited=1 audit=0 apparmor=0";

/// The network between two guests, as the monitor calls it.
const NETWORK: &str = "network";

/// How much of a console is shown when a guest died.
const SHOWN_LINES: usize = 80;

/// Which of the guests, called as its host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    One,
    Two,
}

/// Whether there is a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Company {
    Alone,
    WithAnother,
}

/// What a guest tells.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) role: Role,
    /// Which start of that guest, counted from 0.
    pub(super) start: u32,
    pub(super) what: News,
}

#[derive(Debug)]
pub(super) enum News {
    /// A line of its init script.
    Status(String),
    /// A line of the program, which wants something of the host.
    Order(String),
    /// It has no power any more.
    Gone,
}

/// A guest from its first start, which can be killed and started again.
pub(super) struct Guest<'run> {
    role: Role,
    company: Company,
    image: &'run Image,
    folder: &'run Folder,
    tell: Sender<Told>,
    status: UnixListener,
    starts: u32,
    running: Option<Running>,
}

struct Running {
    process: Child,
    monitor: Monitor<ChildStdout, ChildStdin>,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::One => "one",
            Role::Two => "two",
        }
    }
}

impl<'run> Guest<'run> {
    /// A guest with an empty scratch disk, not started.
    pub(super) fn new(
        role: Role,
        company: Company,
        image: &'run Image,
        folder: &'run Folder,
        tell: Sender<Told>,
    ) -> Result<Self> {
        exchange::make_scratch(folder.path(), &format!("scratch-{}", role.name()))?;
        let status = folder.listen(&format!("status-{}", role.name()))?;
        Ok(Guest { role, company, image, folder, tell, status, starts: 0, running: None })
    }

    /// Gives it power, and returns when all of its devices are there; the kernel has hardly begun by then.
    pub(super) fn start(&mut self) -> Result<()> {
        let log = File::create(self.folder.path().join(self.log())).context("cannot make a log")?;
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(arguments(self.role, self.company, self.image))
            .current_dir(self.folder.path())
            // Where it keeps what guests write to the root disk, in files without a name.
            .env("TMPDIR", self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("cannot start setpriv")?;
        let said = process.stdout.take().context("standard output was not piped")?;
        let commands = process.stdin.take().context("standard input was not piped")?;
        let monitor = match Monitor::greet(said, commands) {
            Ok(monitor) => monitor,
            Err(error) => {
                end(&mut process);
                return Err(error.context(format!(
                    "guest {} does not start\n{}",
                    self.role.name(),
                    self.last_words()
                )));
            }
        };
        self.running = Some(Running { process, monitor });
        let (status, _) = self.status.accept().context("QEMU has no port for the status")?;
        let (role, start) = (self.role, self.starts);
        self.starts += 1;
        tell_lines(status, self.tell.clone(), move |line| {
            let what = line.map_or(News::Gone, News::Status);
            Some(Told { role, start, what })
        });
        Ok(())
    }

    /// Whether what was told is of the present start, not of one that was killed since.
    pub(super) fn is_present(&self, told: &Told) -> bool {
        self.running.is_some() && told.start + 1 == self.starts
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Takes the power away. Everything that it had sent to the host's sockets arrives nevertheless.
    pub(super) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            end(&mut running.process);
        }
    }

    pub(super) fn set_link(&mut self, link: Link) -> Result<()> {
        match &mut self.running {
            Some(running) => running.monitor.set_link(NETWORK, link),
            None => Ok(()),
        }
    }

    /// The last lines that QEMU and the guest's kernel have said, for a reader who wants to know why it died.
    pub(super) fn last_words(&self) -> String {
        let mut words = String::new();
        for file in [self.log(), format!("console-{}", self.role.name())] {
            let said = fs::read(self.folder.path().join(file)).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            let lines: Vec<_> = said.lines().collect();
            for line in &lines[lines.len().saturating_sub(SHOWN_LINES)..] {
                words.push_str(&format!("{}: {}\n", self.role.name(), line.trim_end()));
            }
        }
        words
    }

    fn log(&self) -> String {
        format!("qemu-{}", self.role.name())
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

fn end(process: &mut Child) {
    // Both fail only where it has ended by itself.
    let _ = process.kill();
    let _ = process.wait();
}

/// Tells each line as it comes, and the end, from a thread of its own.
pub(super) fn tell_lines(
    lines: UnixStream,
    tell: Sender<Told>,
    told: impl Fn(Option<String>) -> Option<Told> + Send + 'static,
) {
    thread::spawn(move || {
        let lines = BufReader::new(lines).lines().map_while(Result::ok);
        for news in lines.map(Some).chain([None]).filter_map(told) {
            // Where nobody listens any more, the run has ended.
            if tell.send(news).is_err() {
                return;
            }
        }
    });
}

/// The arguments of QEMU, which runs in the private folder.
fn arguments(role: Role, company: Company, image: &Image) -> Vec<OsString> {
    let name = role.name();
    let mut words: Vec<OsString> = [
        "-nodefaults -no-user-config -no-reboot -display none",
        "-machine q35 -accel tcg,thread=multi",
        &format!("-cpu {PROCESSOR} -smp {PROCESSORS} -m {MEMORY_MIB}"),
        &format!("-serial file:console-{name}"),
        "-chardev stdio,id=monitor,signal=off -mon chardev=monitor,mode=control",
        "-device virtio-rng-pci -device nvme,drive=root,serial=root",
        "-drive id=exchange,if=none,file=exchange,format=raw,readonly=on",
        "-device virtio-blk-pci,drive=exchange",
        // The host does not lose its power together with the guest, so there is nothing to wait for.
        &format!("-drive id=scratch,if=none,file=scratch-{name},format=raw,cache=unsafe,discard=unmap"),
        "-device virtio-blk-pci,drive=scratch",
        "-device virtio-serial-pci",
    ]
    .iter()
    .flat_map(|words| words.split(' '))
    .map(OsString::from)
    .collect();
    let ports: &[&str] = if role == Role::One { &["status", "output", "host"] } else { &["status"] };
    for port in ports {
        words.extend(["-chardev".into(), format!("socket,id={port},path={port}-{name}").into()]);
        words
            .extend(["-device".into(), format!("virtserialport,chardev={port},name=backstay.{port}").into()]);
    }
    if company == Company::WithAnother {
        words.extend(["-netdev".into(), network(role).into(), "-device".into(), card(role).into()]);
    }
    let mut root = OsString::from("id=root,if=none,format=raw,snapshot=on,cache=unsafe,file=");
    root.push(without_commas(&image.root_disk()));
    words.extend(["-drive".into(), root]);
    words.extend(["-kernel".into(), image.kernel().into_os_string()]);
    words.extend(["-append".into(), format!("{KERNEL} backstay_guest={name}").into()]);
    words
}

/// Frames are datagrams between two sockets: one of the guests may come and go.
fn network(role: Role) -> String {
    let [own, other] = match role {
        Role::One => ["one", "two"],
        Role::Two => ["two", "one"],
    };
    format!(
        "dgram,id={NETWORK},local.type=unix,local.path=network-{own},remote.type=unix,remote.path=network-{other}"
    )
}

fn card(role: Role) -> String {
    let last = match role {
        Role::One => 1,
        Role::Two => 2,
    };
    format!("virtio-net-pci,netdev={NETWORK},mac=52:54:00:0a:63:0{last},romfile=")
}

/// QEMU separates options by commas, and takes a double one for one that is meant.
fn without_commas(path: &Path) -> OsString {
    let bytes = path.as_os_str().as_bytes().iter();
    let doubled =
        bytes.flat_map(|byte| if *byte == b',' { b",,".as_slice() } else { std::slice::from_ref(byte) });
    OsString::from_vec(doubled.copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(role: Role, company: Company) -> String {
        let words = arguments(role, company, &Image::at("/a,b/image"));
        words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn no_guest_writes_to_the_image() {
        for role in [Role::One, Role::Two] {
            let line = shown(role, Company::Alone);
            assert!(line.contains("snapshot=on,cache=unsafe,file=/a,,b/image/root.ext4 "), "{line}");
            assert!(line.contains("file=exchange,format=raw,readonly=on"), "{line}");
        }
    }

    #[test]
    fn two_guests_share_nothing_that_they_write() {
        let [one, two] = [Role::One, Role::Two].map(|role| shown(role, Company::WithAnother));
        for (own, other) in [(&one, "-two"), (&two, "-one")] {
            assert_eq!(own.matches(other).count(), 1, "only the socket of the other: {own}");
        }
        assert!(one.contains("remote.path=network-two") && two.contains("remote.path=network-one"));
        assert!(one.contains("backstay_guest=one") && two.contains("backstay_guest=two"));
    }

    #[test]
    fn a_guest_alone_has_no_network_and_only_the_first_has_a_program() {
        assert!(!shown(Role::One, Company::Alone).contains("-netdev"));
        assert!(shown(Role::One, Company::WithAnother).contains("name=backstay.output"));
        assert!(!shown(Role::Two, Company::WithAnother).contains("name=backstay.output"));
    }
}
