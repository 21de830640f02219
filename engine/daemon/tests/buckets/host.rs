//! A host whose only vault is in a bucket.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use backstay_testkit::garage::{Garage, REGION};
use serde_json::Value;

use crate::daemon::Daemon;

pub(crate) struct Host {
    pub(crate) garage: Garage,
    folder: tempfile::TempDir,
    pub(crate) bucket: String,
    pub(crate) region: String,
    /// Where the service is reached.
    pub(crate) endpoint: String,
    pub(crate) prefix: String,
    /// Variables of the environment.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Whether node.toml says by which key the bucket is used.
    pub(crate) has_secret: bool,
    /// Name of the folder of the node's state.
    pub(crate) state: String,
    /// Further lines of the vault.
    pub(crate) more: String,
    /// Further lines of the policy.
    pub(crate) policy: String,
    /// Further lines of the node.
    pub(crate) node: String,
}

/// What a command has printed.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) errors: String,
}

impl Said {
    pub(crate) fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.errors);
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

impl Host {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("backstay-bucket-").tempdir().unwrap();
        let garage = folder.path().join("garage");
        fs::create_dir(&garage).unwrap();
        let garage = Garage::start(&garage);
        let (bucket, region) = (garage.bucket().to_owned(), REGION.to_owned());
        let (endpoint, prefix, state) = (garage.endpoint(), "home/".to_owned(), "state".to_owned());
        let [more, policy, node] = Default::default();
        let (environment, has_secret) = (Vec::new(), true);
        let host = Self {
            garage,
            folder,
            bucket,
            region,
            endpoint,
            prefix,
            environment,
            has_secret,
            state,
            more,
            policy,
            node,
        };
        let key = host.garage.key().clone();
        for (file, text) in [("s3-id", key.id), ("s3-key", key.secret)] {
            fs::write(host.path(file), text + "\n").unwrap();
        }
        fs::create_dir(host.source()).unwrap();
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.path("source")
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.source().join(name), content).unwrap();
    }

    /// How many objects are in the bucket.
    pub(crate) fn objects(&self) -> u64 {
        let info = self.garage.run(&["bucket", "info", &self.bucket]).unwrap();
        let line = info.lines().find(|line| line.trim_start().starts_with("Objects:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Said {
        said(self.command(arguments))
    }

    /// The same with a clock that is so far off.
    pub(crate) fn run_at(&self, offset: &str, arguments: &[&str]) -> Said {
        let command = self.command(arguments);
        let mut elsewhen = Command::new("faketime");
        elsewhen.args(["-f", offset]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => elsewhen.env(name, value),
                None => elsewhen.env_remove(name),
            };
        }
        said(elsewhen)
    }

    /// Starts the daemon, and waits until it answers.
    pub(crate) fn daemon(&self) -> Daemon {
        Daemon::start(self.command(&["run"]), &self.path(&self.state))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let folder = self.folder.path().display();
        let secret = match self.has_secret {
            true => format!(
                "[secret]\noffsite = {{ access = \"file:{folder}/s3-id\", secret = \"file:{folder}/s3-key\" }}\n"
            ),
            false => String::new(),
        };
        let config = format!(
            "[fleet]\nname = \"home\"\n[node]\nname = \"box\"\nstate = \"{0}/{7}\"\n{6}\n\
             [vault.offsite]\nkind = \"s3\"\nbucket = \"{1}\"\nendpoint = \"{2}\"\nregion = \"{5}\"\nprefix = \"{8}\"\n{3}\n\
             {9}\
             [policy.default]\n{4}\n[service.data]\nfiles = {{ path = \"{0}/source\", watch = false }}\n",
            folder,
            self.bucket,
            self.endpoint,
            self.more,
            self.policy,
            self.region,
            self.node,
            self.state,
            self.prefix,
            secret,
        );
        let file = self.path("backstay.toml");
        fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_backstay"));
        command.arg("--config").arg(file).args(arguments);
        // Nothing of the machine on which this runs.
        for name in ["AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// Runs a command to its end.
pub(crate) fn said(mut command: Command) -> Said {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Said { code: status.code(), out: text(stdout), errors: text(stderr) }
}
