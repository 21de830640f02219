//! The tools that are measured, driven as their users drive them.
//!
//! Owns their command lines and configuration. Both keep their defaults: compression, caches (in a folder of
//! the round) and parallelism are what a user gets. Refuses to help either with options that the other lacks.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use backstay_testkit::bucket::BucketAccess;
use clap::ValueEnum;

/// The name of the source in Backstay's configuration, and that of the vault.
const SERVICE: &str = "data";
const VAULT: &str = "backups";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Tool {
    Backstay,
    Restic,
}

/// The programs to measure.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Programs {
    /// The program to measure.
    #[arg(long, default_value = "backstay")]
    backstay: PathBuf,
    /// The one beside it.
    #[arg(long, default_value = "restic")]
    restic: PathBuf,
}

impl Programs {
    /// Both, with their programs.
    pub(crate) fn both(&self) -> [(Tool, PathBuf); 2] {
        [(Tool::Backstay, self.backstay.clone()), (Tool::Restic, self.restic.clone())]
    }
}

/// A tool with a fresh, empty repository for one round.
pub(crate) struct Setup {
    tool: Tool,
    program: PathBuf,
    home: PathBuf,
    tree: PathBuf,
    /// The bucket where the repository is, below the name of `home`; a folder in `home` otherwise.
    bucket: Option<BucketAccess>,
}

impl Tool {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tool::Backstay => "backstay",
            Tool::Restic => "restic",
        }
    }

    /// The first line of what the program says of its version.
    pub(crate) fn version(self, program: &Path) -> Result<String> {
        let argument = match self {
            Tool::Backstay => "--version",
            Tool::Restic => "version",
        };
        let output = Command::new(program).arg(argument).output().with_context(|| missing(self, program))?;
        if !output.status.success() {
            bail!("{} {argument} failed: {}", program.display(), output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
    }
}

fn missing(tool: Tool, program: &Path) -> String {
    let advice = match tool {
        Tool::Backstay => "build it (`cargo xtask bench ingest` does) or name it with --backstay",
        Tool::Restic => "install the package restic, or leave it out with --tool backstay",
    };
    format!("cannot start {}: {advice}", program.display())
}

impl Setup {
    /// One whose repository is there.
    pub(crate) fn made(tool: Tool, program: &Path, home: &Path, tree: &Path) -> Setup {
        Setup { tool, program: program.into(), home: home.into(), tree: tree.into(), bucket: None }
    }

    /// Makes what must exist before the first backup, in the empty folder `home`. Not timed: for restic this
    /// includes `init`, whereas Backstay makes its vault within the first backup.
    pub(crate) fn new(tool: Tool, program: &Path, home: &Path, tree: &Path) -> Result<Setup> {
        let setup = Setup::made(tool, program, home, tree);
        match tool {
            Tool::Backstay => {
                fs::create_dir(home.join("state"))?;
                fs::write(setup.config(), setup.configuration()?)?;
            }
            Tool::Restic => {
                fs::write(setup.password(), "bench\n")?;
                let output = setup.restic(&["init"]).output().with_context(|| missing(tool, program))?;
                if !output.status.success() {
                    bail!("restic init failed: {}", String::from_utf8_lossy(&output.stderr).trim());
                }
            }
        }
        Ok(setup)
    }

    /// The same with its repository in a bucket. Neither tool's `init` is timed.
    pub(crate) fn in_bucket(
        tool: Tool,
        program: &Path,
        home: &Path,
        tree: &Path,
        bucket: &BucketAccess,
    ) -> Result<Setup> {
        let setup = Setup { bucket: Some(bucket.clone()), ..Setup::made(tool, program, home, tree) };
        let mut init = match tool {
            Tool::Backstay => {
                fs::create_dir(home.join("state"))?;
                fs::write(home.join("access"), &bucket.key.id)?;
                fs::write(home.join("secret"), &bucket.key.secret)?;
                fs::write(setup.config(), setup.configuration()?)?;
                setup.backstay(&["vault", "init", VAULT, "--no-recovery"])
            }
            Tool::Restic => {
                fs::write(setup.password(), "bench\n")?;
                setup.restic(&["init"])
            }
        };
        let output = init.output().with_context(|| missing(tool, program))?;
        if !output.status.success() {
            bail!("{init:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(setup)
    }

    /// One backup of the tree.
    pub(crate) fn backup(&self) -> Command {
        match self.tool {
            Tool::Backstay => self.backstay(&["now", SERVICE]),
            Tool::Restic => self.restic(&["backup", "."]),
        }
    }

    /// A restore of the newest backup to `destination`, which does not exist yet.
    pub(crate) fn restore(&self, destination: &Path) -> Command {
        let mut command = match self.tool {
            Tool::Backstay => self.backstay(&["restore", SERVICE, "--to"]),
            Tool::Restic => self.restic(&["restore", "latest", "--target"]),
        };
        command.arg(destination);
        command
    }

    /// Where everything of it is, but for the tree.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Which it is.
    pub(crate) fn tool(&self) -> Tool {
        self.tool
    }

    /// From now on only so many newest points are wanted: Backstay reads that from its configuration.
    pub(crate) fn keep_last(&self, count: u64) -> Result<()> {
        if self.tool == Tool::Backstay {
            let text = fs::read_to_string(self.config())?;
            let policy = format!("rpo = \"15m\"\nkeep = {{ last = {count} }}\n");
            fs::write(self.config(), text.replace("rpo = \"15m\"\n", &policy))?;
        }
        Ok(())
    }

    /// Drops all but so many newest points, and deletes what nothing needs any more.
    pub(crate) fn prune(&self, count: u64) -> Command {
        match self.tool {
            Tool::Backstay => self.backstay(&["vault", "prune", VAULT]),
            Tool::Restic => self.restic(&["forget", "--keep-last", &count.to_string(), "--prune"]),
        }
    }

    /// Whether the repository is whole.
    pub(crate) fn check(&self) -> Command {
        match self.tool {
            Tool::Backstay => self.backstay(&["vault", "check", VAULT]),
            Tool::Restic => self.restic(&["check"]),
        }
    }

    /// Backstay's daemon.
    pub(crate) fn daemon(&self) -> Command {
        self.backstay(&["run"])
    }

    /// Where the daemon listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.home.join("state/control.sock")
    }

    /// Where the backups are, for their size.
    pub(crate) fn repository(&self) -> PathBuf {
        self.home.join("repository")
    }

    fn backstay(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--config").arg(self.config()).args(arguments);
        command
    }

    fn restic(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.tree)
            .arg("--repo")
            .arg(self.restic_repository())
            .arg("--password-file")
            .arg(self.password())
            .arg("--cache-dir")
            .arg(self.home.join("cache"))
            .args(arguments);
        if let Some(bucket) = &self.bucket {
            command
                .env("AWS_ACCESS_KEY_ID", &bucket.key.id)
                .env("AWS_SECRET_ACCESS_KEY", &bucket.key.secret)
                .env("AWS_DEFAULT_REGION", bucket.region);
        }
        command
    }

    fn restic_repository(&self) -> OsString {
        match &self.bucket {
            Some(bucket) => {
                format!("s3:http://{}/{}/{}", bucket.address, bucket.bucket, self.prefix()).into()
            }
            None => self.repository().into(),
        }
    }

    /// What is before the keys of all objects in the bucket.
    fn prefix(&self) -> String {
        self.home.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn config(&self) -> PathBuf {
        self.home.join("backstay.toml")
    }

    fn password(&self) -> PathBuf {
        self.home.join("password")
    }

    fn configuration(&self) -> Result<String> {
        Ok(format!(
            "[fleet]\nname = \"bench\"\n\
             [node]\nname = \"bench\"\nstate = {}\n\
             {}\
             [policy.default]\nto = [\"{VAULT}\"]\nrpo = \"15m\"\n\
             [service.{SERVICE}]\nfiles = {{ path = {} }}\n",
            toml_string(&self.home.join("state"))?,
            self.vault()?,
            toml_string(&self.tree)?,
        ))
    }

    fn vault(&self) -> Result<String> {
        Ok(match &self.bucket {
            None => {
                format!("[vault.{VAULT}]\nkind = \"dir\"\npath = {}\n", toml_string(&self.repository())?)
            }
            Some(bucket) => format!(
                "[vault.{VAULT}]\nkind = \"s3\"\nbucket = \"{}\"\nendpoint = \"http://{}\"\nregion = \"{}\"\n\
                 prefix = \"{prefix}/\"\n\
                 [secret]\n{VAULT} = {{ access = \"file:{home}/access\", secret = \"file:{home}/secret\" }}\n",
                bucket.bucket,
                bucket.address,
                bucket.region,
                prefix = self.prefix(),
                home = self.home.display(),
            ),
        })
    }
}

/// JSON strings are TOML strings.
fn toml_string(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(serde_json::to_string(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_the_three_folders_of_the_round() {
        let home = tempfile::tempdir().expect("a temporary folder");
        Setup::new(Tool::Backstay, Path::new("backstay"), home.path(), Path::new("/a \"tree\""))
            .expect("set up");
        let text = fs::read_to_string(home.path().join("backstay.toml")).expect("written");
        assert!(text.contains(r#"files = { path = "/a \"tree\"" }"#), "{text}");
        assert!(text.contains(&format!("path = \"{}/repository\"", home.path().display())), "{text}");
        assert!(text.contains(&format!("state = \"{}/state\"", home.path().display())), "{text}");
    }

    #[test]
    fn a_missing_program_is_named_with_advice() {
        let error = Tool::Restic.version(Path::new("/nonexistent/restic")).expect_err("not there");
        assert!(format!("{error:#}").contains("--tool backstay"), "{error:#}");
    }
}
