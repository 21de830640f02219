//! `cargo xtask zfs-vm run`: boots the guests, runs the program in the first one, and ends with its code.
//!
//! Owns the course of a run and its limit of time. Whatever ends a run, its guests and its folder end with it.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::parent_id;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use super::RunOptions;
use super::exchange::{self, path_in_guest};
use super::folder::Folder;
use super::guest::{Company, Guest, News, Role, Told, tell_lines};
use super::image::Image;
use super::monitor::Link;
use super::orders::{self, DONE, Order};

/// How often we look whether we are still wanted.
const LOOK: Duration = Duration::from_secs(1);

/// What a port is read by.
const CHUNK_BYTES: usize = 64 << 10;

/// Runs the program in a guest. The code is its own; 128 and the number of a signal that ended it.
pub(super) fn run(image: &Image, options: &RunOptions) -> Result<u8> {
    let limit = Limit { minutes: options.minutes, since: Instant::now(), parent: parent_id() };
    let folder = Folder::make()?;
    make_exchange(&folder, options)?;
    let company = if options.second_guest { Company::WithAnother } else { Company::Alone };
    let (tell, told) = mpsc::channel();
    let mut run = Run::start(image, &folder, company, tell)?;
    let outcome = run.follow(&told, &limit);
    // Its end of the output goes with it: what has come so far is shown, also where the run has failed.
    run.one.kill();
    let shown = run.output.join().map_err(|_| anyhow!("the thread that shows the output panicked"));
    if outcome.is_err() {
        let guests = [Some(&run.one), run.two.as_ref().map(|two| &two.guest)];
        guests.into_iter().flatten().for_each(|guest| eprint!("{}", guest.last_words()));
    }
    let code = outcome?;
    shown??;
    Ok(code)
}

/// Programs of the guest's own are called by their names alone; all others come from the host.
fn make_exchange(folder: &Folder, options: &RunOptions) -> Result<()> {
    let (program, arguments) = options.command.split_first().context("no program was named")?;
    let mut files = options.with.iter().map(|file| path_in_guest(file)).collect::<Result<Vec<_>>>()?;
    let mut program = Path::new(program).to_path_buf();
    if program.components().count() > 1 {
        program = path_in_guest(&program)?;
        files.push(program.clone());
    }
    files.sort();
    files.dedup();
    let command: Vec<&OsStr> =
        [program.as_os_str()].into_iter().chain(arguments.iter().map(AsRef::as_ref)).collect();
    exchange::make(folder.path(), &command, &files)
}

/// How long a run may take, and for whom.
struct Limit {
    minutes: u32,
    since: Instant,
    parent: u32,
}

impl Limit {
    fn left(&self) -> Duration {
        Duration::from_secs(60 * u64::from(self.minutes)).saturating_sub(self.since.elapsed())
    }
}

struct Run<'run> {
    one: Guest<'run>,
    two: Option<Second<'run>>,
    /// Where orders are answered.
    host: UnixStream,
    output: JoinHandle<Result<()>>,
}

struct Second<'run> {
    guest: Guest<'run>,
    link: Link,
    is_ready: bool,
    /// Whether an order to start it waits for its answer.
    is_awaited: bool,
}

impl<'run> Run<'run> {
    fn start(
        image: &'run Image,
        folder: &'run Folder,
        company: Company,
        tell: Sender<Told>,
    ) -> Result<Run<'run>> {
        let new_guest = |role| Guest::new(role, company, image, folder, tell.clone());
        let output = folder.listen("output-one")?;
        let host = folder.listen("host-one")?;
        let mut one = new_guest(Role::One)?;
        one.start()?;
        let two = match company {
            Company::Alone => None,
            Company::WithAnother => {
                let mut guest = new_guest(Role::Two)?;
                guest.start()?;
                Some(Second { guest, link: Link::Joined, is_ready: false, is_awaited: false })
            }
        };
        let (output, _) = output.accept().context("QEMU has no port for the output")?;
        let (host, _) = host.accept().context("QEMU has no port for orders")?;
        let orders = host.try_clone().context("cannot read orders")?;
        tell_lines(orders, tell.clone(), |line| {
            Some(Told { role: Role::One, start: 0, what: News::Order(line?) })
        });
        Ok(Run { one, two, host, output: thread::spawn(move || show(output)) })
    }

    /// Until the program has ended, which gives its code.
    fn follow(&mut self, news: &Receiver<Told>, limit: &Limit) -> Result<u8> {
        loop {
            let told = match news.recv_timeout(limit.left().min(LOOK)) {
                Ok(told) => told,
                Err(RecvTimeoutError::Timeout) if parent_id() != limit.parent => {
                    bail!("the guest was ended: whoever started this run is gone")
                }
                Err(RecvTimeoutError::Timeout) if limit.left().is_zero() => {
                    bail!("the guest was ended: its program took longer than {} minutes", limit.minutes)
                }
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => bail!("all guests are gone"),
            };
            if !self.guest(told.role).is_some_and(|guest| guest.is_present(&told)) {
                continue;
            }
            match (told.role, told.what) {
                (role, News::Gone) => bail!("guest {} died: its last words are above", role.name()),
                (Role::One, News::Status(line)) => return exit_code(&line),
                (Role::Two, News::Status(_)) => self.second_is_ready()?,
                (_, News::Order(line)) => match orders::read(&line) {
                    Ok(order) => self.obey(order)?,
                    Err(answer) => self.answer(&answer)?,
                },
            }
        }
    }

    fn obey(&mut self, order: Order) -> Result<()> {
        let Some(two) = &mut self.two else {
            return self.answer(&orders::refused("there is no second guest: see --second-guest"));
        };
        match order {
            Order::Part => two.set_link(Link::Parted)?,
            Order::Join => two.set_link(Link::Joined)?,
            Order::KillTwo => {
                two.guest.kill();
                two.is_ready = false;
            }
            Order::StartTwo if two.is_ready => {}
            Order::StartTwo => {
                two.is_awaited = true;
                return two.start();
            }
        }
        self.answer(DONE)
    }

    fn second_is_ready(&mut self) -> Result<()> {
        let Some(two) = &mut self.two else { return Ok(()) };
        two.is_ready = true;
        if std::mem::take(&mut two.is_awaited) { self.answer(DONE) } else { Ok(()) }
    }

    fn answer(&mut self, answer: &str) -> Result<()> {
        self.host.write_all(answer.as_bytes()).context("cannot answer an order")
    }

    fn guest(&self, role: Role) -> Option<&Guest<'run>> {
        match role {
            Role::One => Some(&self.one),
            Role::Two => self.two.as_ref().map(|two| &two.guest),
        }
    }
}

impl Second<'_> {
    fn set_link(&mut self, link: Link) -> Result<()> {
        self.link = link;
        self.guest.set_link(link)
    }

    /// Nothing, where it has begun to start already.
    fn start(&mut self) -> Result<()> {
        if self.guest.is_running() {
            return Ok(());
        }
        self.guest.start()?;
        // A new card is joined, whatever the one before was.
        self.guest.set_link(self.link)
    }
}

/// Shows all that comes, as it comes.
fn show(mut output: UnixStream) -> Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = output.read(&mut chunk).context("cannot read the output of the program")?;
        if count == 0 {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&chunk[..count]).and_then(|()| stdout.flush()).context("cannot show the output")?;
    }
}

/// Of the line with which the first guest's init script ends.
fn exit_code(line: &str) -> Result<u8> {
    let code = line.strip_prefix("exit ").and_then(|code| code.parse().ok());
    code.with_context(|| format!("the guest says {line:?}, which is no end of a program"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_left_after_the_limit() {
        let since = Instant::now().checked_sub(Duration::from_secs(61)).unwrap();
        assert_eq!(Limit { minutes: 1, since, parent: 1 }.left(), Duration::ZERO);
        assert!(Limit { minutes: 2, since, parent: 1 }.left() > Duration::from_secs(30));
    }

    #[test]
    fn the_code_is_that_of_the_program() {
        assert_eq!(exit_code("exit 101").unwrap(), 101);
        assert!(exit_code("ready").is_err() && exit_code("exit 1000").is_err());
    }
}
