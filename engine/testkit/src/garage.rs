//! A Garage of a test: one node with its own data and keys, on ports of this host.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bucket::{AccessKey, BucketAccess, hex, program};
use crate::ports::free_ports;
use crate::process::{PATIENCE, Running, run, wait_for, word};
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
    /// Where it is asked about itself.
    admin: SocketAddr,
    _running: Running,
}

impl Garage {
    /// Starts one with its data in this folder, and a bucket with a key that may do everything there.
    ///
    /// # Panics
    /// When it does not start, and where there is none: `cargo xtask test s3` builds it.
    pub fn start(folder: &Path) -> Self {
        let program = program(PROGRAM_VARIABLE);
        let [api, rpc, admin] = free_ports();
        let mut random = Random::new(u64::from(api));
        let key = AccessKey { id: format!("GK{}", hex(&mut random, 12)), secret: hex(&mut random, 32) };
        let (config, bucket) = (folder.join("garage.toml"), "backups".to_owned());
        let text = format!(
            "metadata_dir = \"{0}/meta\"\ndata_dir = \"{0}/data\"\ndb_engine = \"lmdb\"\nreplication_factor = 1\n\
             compression_level = \"none\"\nrpc_bind_addr = \"127.0.0.1:{rpc}\"\nrpc_public_addr = \"127.0.0.1:{rpc}\"\n\
             rpc_secret = \"{1}\"\n[s3_api]\ns3_region = \"{REGION}\"\napi_bind_addr = \"127.0.0.1:{api}\"\n\
             [admin]\napi_bind_addr = \"127.0.0.1:{admin}\"\n",
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
        let admin = (Ipv4Addr::LOCALHOST, admin).into();
        let garage = Self { program, config, access, admin, _running: running };
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

    /// How many requests it has answered since it began, by what they ask for: `PutObject`, `ListObjectsV2`, …
    ///
    /// # Panics
    /// When it does not say.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        let metrics = metrics_of(self.admin).expect("Garage tells its metrics");
        metrics.lines().filter_map(counted).collect()
    }

    /// Runs a command of its own.
    pub fn run(&self, arguments: &[&str]) -> Result<String, String> {
        run(&[&[word(&self.program), "-c", word(&self.config)], arguments].concat())
    }
}

/// What it counts, in the text format of Prometheus.
fn metrics_of(admin: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {admin}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// `api_s3_request_counter{api_endpoint="GetObject"} 7`, with other labels beside and a suffix in some versions.
fn counted(line: &str) -> Option<(String, u64)> {
    let (name, rest) = line.split_once('{')?;
    let (labels, count) = rest.split_once("} ")?;
    let endpoint = labels.split_once("api_endpoint=\"")?.1.split_once('"')?.0;
    let is_it = name.starts_with("api_s3_request_counter");
    is_it.then_some((endpoint.to_owned(), count.trim().parse::<f64>().ok()? as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_what_they_ask_for() {
        let told = |line| counted(line).map(|(endpoint, count)| format!("{endpoint} {count}"));
        let line = r#"api_s3_request_counter{api_endpoint="GetObject"} 7"#;
        assert_eq!(told(line).as_deref(), Some("GetObject 7"));
        let line =
            r#"api_s3_request_counter_total{api_endpoint="PutObject",otel_scope_name="garage/api"} 12"#;
        assert_eq!(told(line).as_deref(), Some("PutObject 12"));
        for line in [
            r#"api_s3_error_counter{api_endpoint="GetObject",status_code="404"} 1"#,
            r#"api_admin_request_counter{api_endpoint="Metrics"} 1"#,
            "# TYPE api_s3_request_counter counter",
        ] {
            assert_eq!(told(line), None, "{line}");
        }
    }
}
