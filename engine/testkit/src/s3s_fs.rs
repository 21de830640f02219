//! An s3s-fs of a test: an S3-compatible service by other people than Garage, which keeps objects as files of a folder, with its own
//! data and keys on a port of this host.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::bucket::{AccessKey, BucketAccess, hex, program};
use crate::ports::free_ports;
use crate::process::{Running, wait_for, word};
use crate::random::Random;

/// Names the program; `cargo xtask test s3` sets it.
const PROGRAM_VARIABLE: &str = "BACKSTAY_S3S_FS";

/// It answers to any.
const REGION: &str = "us-east-1";

/// A service that runs until it is dropped.
#[derive(Debug)]
pub struct S3sFs {
    access: BucketAccess,
    _running: Running,
}

impl S3sFs {
    /// Starts one with its data in this folder, and a bucket with a key that may do everything there.
    ///
    /// # Panics
    /// When it does not start, and where there is none: `cargo xtask test s3` builds it.
    pub fn start(folder: &Path) -> Self {
        let [port] = free_ports();
        let mut random = Random::new(u64::from(port));
        let key = AccessKey { id: hex(&mut random, 10), secret: hex(&mut random, 32) };
        let (data, bucket) = (folder.join("data"), "backups".to_owned());
        // Folders are its buckets.
        fs::create_dir_all(data.join(&bucket)).expect("a folder");
        let mut command = Command::new(program(PROGRAM_VARIABLE));
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        command.args(["--access-key", &key.id, "--secret-key", &key.secret, word(&data)]);
        let running = Running::start_here(&mut command, folder.join("s3s-fs.log"));
        let address = (Ipv4Addr::LOCALHOST, port).into();
        wait_for("s3s-fs", || TcpStream::connect(address));
        Self { access: BucketAccess { address, region: REGION, bucket, key }, _running: running }
    }

    /// Its bucket.
    pub fn access(&self) -> &BucketAccess {
        &self.access
    }
}
