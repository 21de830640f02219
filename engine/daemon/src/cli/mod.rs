//! The commands: their arguments, and what each prints.

mod capture;
mod cat;
mod check;
mod check_config;
mod choose;
mod copy;
mod custodian;
mod daemon;
mod demo;
mod diff;
mod doctor;
mod export;
mod find;
mod fleet;
mod keys;
mod kit;
mod looking;
mod ls;
mod manual;
mod node;
mod onward;
mod points;
mod prune;
mod repair;
mod restore;
mod restore_all;
mod restore_stream;
mod status;
mod undelete;
mod upkeep;
mod vault;
mod vault_cost;
mod verify;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use backstay_core::config::Config;
use backstay_wire::secret::SecretText;
use clap::{Args, Parser, Subcommand};
use tokio::runtime::Handle;

use crate::clock::SystemClock;
use crate::failure::{Exit, Failure};
use crate::metrics::{MeteredVaults, Metrics};
use crate::node::Access;
use crate::vaults::{Absent, Vaults, read_key_file};

/// Where the configuration is, where nothing else is said.
const CONFIG_DEFAULT: &str = "/etc/backstay";

/// Keeps the data of a host restorable elsewhere, within a recovery point objective that it enforces and measures.
#[derive(Debug, Parser)]
#[command(
    name = "backstay",
    version,
    max_term_width = 100,
    after_help = "Example: backstay demo   # the main job on data of its own; `backstay COMMAND --help` explains a command"
)]
pub struct Arguments {
    /// Directory with fleet.toml and node.toml, or one file with all tables; /etc/backstay where it is not given.
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,
    /// Print results as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Tell what is going on as well.
    #[arg(short, long, global = true)]
    pub verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the main job on data of its own: protect, lose, restore, compare.
    #[command(after_help = "Example: backstay demo /usr/share/doc")]
    Demo(demo::DemoArgs),
    /// Begin a fleet of several nodes, with this one as the first.
    #[command(after_help = "Example: sudo backstay init nullstone --recovery /root/backstay-recovery.key")]
    Init(fleet::InitArgs),
    /// Invite a node to the fleet; waits until it has joined.
    #[command(
        after_help = "Example: sudo backstay invite cobblestone --recovery /root/backstay-recovery.key"
    )]
    Invite(fleet::InviteArgs),
    /// Take up an invitation on the node that was invited.
    #[command(after_help = "Example: sudo backstay join backstay-invitation-…")]
    Join(fleet::JoinArgs),
    /// The nodes of the fleet.
    #[command(subcommand, after_help = "Example: sudo backstay node list")]
    Node(node::NodeCommand),
    /// This node's certificate.
    #[command(
        subcommand,
        after_help = "Example: sudo backstay identity import node.crt node.key --ca root_ca.crt"
    )]
    Identity(node::IdentityCommand),
    /// Parse the configuration and explain it.
    #[command(after_help = "Example: backstay --config ./backstay.toml check-config")]
    CheckConfig,
    /// Test all that the protection of this host hangs on, and say how to mend what is wrong.
    #[command(
        after_help = "Examples: sudo backstay doctor\n          backstay doctor --quiet || notify-operator"
    )]
    Doctor(doctor::DoctorArgs),
    /// Run the daemon; with --once, do what is due and end.
    #[command(after_help = "Example: backstay run --once static.files")]
    Run(daemon::RunArgs),
    /// How every flow is: exposure against objective, last point, what is wrong.
    #[command(
        after_help = "Examples: backstay status --check || notify-operator\n          backstay status --watch"
    )]
    Status(status::StatusArgs),
    /// Capture now; ends well only when the capture is durable on every target.
    #[command(after_help = "Example: backstay now static")]
    Now(capture::NowArgs),
    /// List the points from which a source can be restored.
    #[command(after_help = "Example: backstay points static")]
    Points(points::PointsArgs),
    /// List what is in a point.
    #[command(after_help = "Example: backstay ls static --at 'yesterday 18:00' www/img")]
    Ls(ls::LsArgs),
    /// Look for paths in a point: a name anywhere, or a pattern of a path from the root.
    #[command(
        after_help = "Example: backstay find static '*.jpg'\n         backstay find static 'www/**/index.html' --at 2026-11-01T12:00:00Z"
    )]
    Find(find::FindArgs),
    /// Write the contents of files of a point to standard output.
    #[command(after_help = "Example: backstay cat static --at '2h ago' www/index.html | less")]
    Cat(cat::CatArgs),
    /// What differs between a point and the tree on disk, or between two points.
    #[command(
        after_help = "Example: backstay diff static                              # since the newest point\n         backstay diff static 2026-11-01T12:00:00Z newest  # between two points"
    )]
    Diff(diff::DiffArgs),
    /// Write a point, or paths of it, as a tar archive.
    #[command(after_help = "Example: backstay export static www | ssh other-host tar -xpf - -C /srv")]
    Export(export::ExportArgs),
    /// Restore a source, or paths of it; or, on a bare machine, everything.
    #[command(
        after_help = "Examples: backstay restore static --at 2026-11-01T12:00:00Z --to /srv/static.restored www/img\n          backstay restore matrix.dump --to-program pg_restore -d synapse\n          backstay restore --all --from s3://backups/home/ --endpoint https://s3.example --key-file kit.txt"
    )]
    Restore(restore::RestoreArgs),
    /// Print one page to keep on paper, from which a bare machine comes back.
    #[command(
        after_help = "Examples: sudo backstay kit --key-file /root/backstay-recovery.key > kit.txt\n          backstay kit --open kit.txt --to recovery.key"
    )]
    Kit(kit::KitArgs),
    /// Show now that points can be had back.
    #[command(
        after_help = "Example: backstay verify static --level restore\n         backstay verify --level data --budget 20GiB"
    )]
    Verify(verify::VerifyArgs),
    /// What was shown of points before.
    #[command(after_help = "Example: backstay proofs static")]
    Proofs(verify::ProofsArgs),
    /// Care of vaults.
    #[command(
        subcommand,
        after_help = "Example: backstay vault init local --recovery /root/backstay-recovery.key"
    )]
    Vault(vault::VaultCommand),
    /// Write a script to standard output by which a shell completes commands and options.
    #[command(
        after_help = "Examples: backstay completions bash > /usr/local/share/bash-completion/completions/backstay\n          backstay completions zsh > /usr/local/share/zsh/site-functions/_backstay\n          backstay completions fish > /etc/fish/completions/backstay.fish"
    )]
    Completions(manual::CompletionsArgs),
    /// Write man pages of all commands.
    #[command(after_help = "Example: backstay man --to /usr/local/share/man/man1")]
    Man(manual::ManArgs),
}

/// Which point of a source.
#[derive(Debug, Args)]
pub struct PointArgs {
    /// The newest point at or before this time: 2026-11-01T12:00:00Z, the same with an offset (+01:00), or in UTC
    /// "2026-11-01 12:00", 12:00 (of today), "yesterday 12:00", "2h ago".
    #[arg(long, value_name = "TIME", conflicts_with = "point")]
    at: Option<String>,
    /// The point with this id, or whose id begins so.
    #[arg(long, value_name = "ID")]
    point: Option<String>,
    /// The vault to read from; where none is given, the one with the newest point.
    #[arg(long, value_name = "VAULT")]
    from: Option<String>,
    /// Read with this recovery key instead of the node's own identity: for a new machine on the worst day.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// What commands share.
#[derive(Clone)]
pub struct Context {
    config: Arc<Config>,
    io: Handle,
    json: bool,
}

/// Runs the command; the exit code when nothing failed.
pub fn run(arguments: &Arguments, io: &Handle) -> Result<u8, Failure> {
    match (run_command(arguments, io), &arguments.command) {
        // A monitor must not take "nobody can tell" for a warning.
        (Err(failure), Command::Status(status)) if status.is_check() => {
            Err(Failure { exit: Exit::Partly, ..failure })
        }
        (outcome, _) => outcome,
    }
}

fn run_command(arguments: &Arguments, io: &Handle) -> Result<u8, Failure> {
    if arguments.json {
        crate::terminal::print_results_alone();
    }
    let path = arguments.config.as_deref().unwrap_or(Path::new(CONFIG_DEFAULT));
    // These look at no configuration.
    match &arguments.command {
        Command::Demo(demo) => return demo::run(demo, io),
        Command::Completions(completions) => return manual::completions(completions),
        Command::Man(man) => return manual::man(man),
        // These may write it.
        Command::Init(init) => return fleet::init(init, path, io),
        Command::Join(join) => return fleet::join(join, path, io),
        Command::Kit(kit) if kit::is_opening(kit) => return kit::open(kit, arguments.json),
        Command::Restore(restore) if restore.all => {
            let config = restore_all::AskedConfig(arguments.config.as_deref());
            return restore_all::run(restore, config, arguments.json, io);
        }
        _ => {}
    }
    let config = Arc::new(crate::load::load(path)?);
    let context = Context { config, io: io.clone(), json: arguments.json };
    match &arguments.command {
        Command::Demo(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Init(_)
        | Command::Join(_) => Ok(0),
        Command::Node(node) => node::run(&context, node),
        Command::Identity(identity) => node::identity(&context, identity),
        Command::Invite(invite) => fleet::invite(&context, invite, path),
        Command::CheckConfig => check_config::run(&context),
        Command::Doctor(doctor) => doctor::run(&context, path, doctor),
        Command::Run(run) => daemon::run(&context, run),
        Command::Status(status) => status::run(&context, status),
        Command::Now(now) => capture::now(&context, now),
        Command::Points(points) => points::run(&context, points),
        Command::Ls(ls) => ls::run(&context, ls),
        Command::Find(find) => find::run(&context, find),
        Command::Cat(cat) => cat::run(&context, cat),
        Command::Diff(diff) => diff::run(&context, diff),
        Command::Export(export) => export::run(&context, export),
        Command::Restore(restore) => restore::run(&context, restore),
        Command::Kit(kit) => kit::run(&context, kit),
        Command::Verify(verify) => verify::verify(&context, verify),
        Command::Proofs(proofs) => verify::proofs(&context, proofs),
        Command::Vault(vault) => vault::run(&context, vault),
    }
}

impl Context {
    /// A context without a command line, as the demo needs it.
    fn of(config: Config, io: &Handle) -> Self {
        Self { config: Arc::new(config), io: io.clone(), json: false }
    }

    /// The vaults, to be read with a recovery key where one is given.
    fn vaults_to_read(&self, key_file: Option<&Path>) -> Result<Vaults, Failure> {
        let observer = Arc::new(MeteredVaults(Arc::new(Metrics::new()?)));
        let config = Arc::clone(&self.config);
        let vaults = Vaults::new(config, self.io.clone(), Arc::new(SystemClock), observer, Access::ReadOnly)?;
        match key_file {
            Some(file) => vaults.with_key_file(file),
            None => Ok(vaults),
        }
    }

    /// Fails for a vault that is not in the configuration, and names those that are.
    fn refuse_unknown(&self, vault: &str) -> Result<(), Failure> {
        match self.config.vaults.keys().any(|known| known.as_str() == vault) {
            true => Ok(()),
            false => self.vaults_to_read(None)?.open(vault, Absent::Refuse).map(drop),
        }
    }

    /// The full name of a source, as it was typed where it is not configured (any more).
    fn full_name(&self, typed: &str) -> String {
        self.config.find_source(typed).map_or_else(|_| typed.to_owned(), |source| source.name.to_string())
    }

    /// The vaults, for a process that holds the state lock, with metrics of their requests.
    fn vaults(&self) -> Result<(Arc<Vaults>, Arc<Metrics>), Failure> {
        let (vaults, metrics) = self.vaults_to_keep()?;
        Ok((Arc::new(vaults), metrics))
    }

    /// The same for who says more of them.
    fn vaults_to_keep(&self) -> Result<(Vaults, Arc<Metrics>), Failure> {
        let metrics = Arc::new(Metrics::new()?);
        let observer = Arc::new(MeteredVaults(Arc::clone(&metrics)));
        let config = Arc::clone(&self.config);
        let vaults = Vaults::new(config, self.io.clone(), Arc::new(SystemClock), observer, Access::Keep)?;
        Ok((vaults, metrics))
    }
}

/// The recovery key in a file, which only this process may be able to read. The key alone: a text with ends of lines would be
/// copied where it is read from a message.
fn secret_key(file: &Path) -> Result<SecretText, Failure> {
    Ok(SecretText::new(read_key_file(file)?.secret().to_string()))
}

/// Prints a value as JSON.
fn print_json<T: serde::Serialize>(value: &T) -> Result<(), Failure> {
    crate::terminal::print(&serde_json::to_string_pretty(value)?);
    Ok(())
}
