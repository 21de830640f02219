//! A Garage of a test: one node with its own data and keys, on ports of this host.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bucket::{AccessKey, BucketAccess, free_ports, hex, program};
use crate::process::{Running, run, wait_for, word};
use crate::random::Random;

/// Names the program; `cargo xtask test s3` sets it.
const PROGRAM_VARIABLE: &str = "BACKSTAY_GARAGE";

/// The region that it answers to.
pub const REGION: &str = "garage";

/// A service that runs until it is dropped.
#[derive(Debug)]
pub struct Garage {
    program: PathBuf,
    config: PathBuf,
    access: BucketAccess,
    _running: Running,
}

impl Garage {
    /// Starts one with its data in this folder, and a bucket with a key that may do everything there.
    ///
    /// # Panics
    /// When it does not start, and where there is none: `cargo xtask test s3` builds it.
    pub fn start(folder: &Path) -> Self {
        let program = program(PROGRAM_VARIABLE);
        let [api, rpc] = free_ports();
        let mut random = Random::new(u64::from(api));
        let key = AccessKey { id: format!("GK{}", hex(&mut random, 12)), secret: hex(&mut random, 32) };
        let (config, bucket) = (folder.join("garage.toml"), "backups".to_owned());
        let text = format!(
            "metadata_dir = \"{0}/meta\"\ndata_dir = \"{0}/data\"\ndb_engine = \"lmdb\"\nreplication_factor = 1\n\
             compression_level = \"none\"\nrpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\n\
             rpc_secret = \"{1}\"\n[s3_api]\ns3_region = \"{REGION}\"\napi_bind_addr = \"127.0.0.1:{api}\"\n",
            folder.display(),
            hex(&mut random, 32),
        );
        fs::write(&config, text).expect("a file");
        let mut command = Command::new(&program);
        command.args(["-c", word(&config), "server", "--single-node", "--default-bucket"]);
        command.env("GARAGE_DEFAULT_ACCESS_KEY", &key.id).env("GARAGE_DEFAULT_SECRET_KEY", &key.secret);
        command.env("GARAGE_DEFAULT_BUCKET", &bucket);
        let running = Running::start_here(&mut command, folder.join("garage.log"));
        let address = (Ipv4Addr::LOCALHOST, api).into();
        let access = BucketAccess { address, region: REGION, bucket, key };
        let garage = Self { program, config, access, _running: running };
        wait_for("Garage", || TcpStream::connect(address));
        // It answers before the bucket is there.
        wait_for("the bucket", || garage.run(&["bucket", "info", garage.bucket()]));
        garage
    }

    /// Its bucket and the way to it.
    pub fn access(&self) -> &BucketAccess {
        &self.access
    }

    /// Where it is reached.
    pub fn address(&self) -> SocketAddr {
        self.access.address
    }

    /// The same as a URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Its bucket.
    pub fn bucket(&self) -> &str {
        &self.access.bucket
    }

    /// A key that may do everything there.
    pub fn key(&self) -> &AccessKey {
        &self.access.key
    }

    /// Runs a command of its own.
    pub fn run(&self, arguments: &[&str]) -> Result<String, String> {
        run(&[&[word(&self.program), "-c", word(&self.config)], arguments].concat())
    }
}
