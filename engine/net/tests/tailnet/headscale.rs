//! The control server of a rig. Owns its configuration and what is asked of it by its own command line.

use std::path::{Path, PathBuf};
use std::process::Command;

use backstay_testkit::network::Network;
use backstay_testkit::process::{Running, run, wait_for, word};
use serde_json::Value;

const PORT: u16 = 8080;

/// headscale, with a relay (DERP) of its own: nothing is asked of the Internet.
pub(crate) struct Headscale {
    program: PathBuf,
    configuration: PathBuf,
    _running: Running,
}

impl Headscale {
    /// Starts it in the hub of the network, and makes the user that all nodes belong to.
    pub(crate) fn start(programs: &Path, folder: &Path, network: &Network) -> Self {
        let folder = folder.join("headscale");
        std::fs::create_dir(&folder).expect("a folder");
        let configuration = folder.join("config.yaml");
        std::fs::write(&configuration, configured(&folder)).expect("a configuration");
        let program = programs.join("headscale");
        let mut command = Command::new(&program);
        command.arg("--config").arg(&configuration).arg("serve");
        let running = Running::start(network.hub(), &mut command, folder.join("log"));
        let headscale = Self { program, configuration, _running: running };
        wait_for("headscale", || headscale.ask(&["users", "create", "fleet"]));
        headscale
    }

    /// Where nodes log in.
    pub(crate) fn url() -> String {
        format!("http://{}:{PORT}", Network::hub_address())
    }

    /// A key with which one node can log in.
    pub(crate) fn new_key(&self) -> String {
        let key = self.ask(&["preauthkeys", "create", "--user", "1"]).expect("a key");
        key["key"].as_str().expect("a text").to_owned()
    }

    /// The identifiers of the nodes of this name.
    pub(crate) fn nodes_named(&self, name: &str) -> Vec<String> {
        let nodes = self.ask(&["nodes", "list"]).expect("the nodes");
        let named = nodes.as_array().into_iter().flatten().filter(|node| node["given_name"] == name);
        named.map(|node| node["id"].to_string()).collect()
    }

    /// Removes a node, as an administrator who cleans up would.
    pub(crate) fn forget(&self, id: &str) {
        self.ask(&["nodes", "delete", "--force", "--identifier", id]).expect("it is removed");
    }

    fn ask(&self, arguments: &[&str]) -> Result<Value, String> {
        let fixed = [word(&self.program), "--config", word(&self.configuration), "--output", "json"];
        let printed = run(&[&fixed, arguments].concat())?;
        serde_json::from_str(&printed).map_err(|error| format!("{error}: {printed}"))
    }
}

fn configured(folder: &Path) -> String {
    let (folder, url, address) = (word(folder), Headscale::url(), Network::hub_address());
    format!(
        r#"
server_url: {url}
listen_addr: {address}:{PORT}
metrics_listen_addr: 127.0.0.1:9090
grpc_listen_addr: 127.0.0.1:50443
noise: {{ private_key_path: {folder}/noise.key }}
prefixes: {{ v4: 100.64.0.0/10, v6: "fd7a:115c:a1e0::/48", allocation: sequential }}
derp:
  server:
    enabled: true
    region_id: 999
    region_code: test
    region_name: Test
    stun_listen_addr: "{address}:3478"
    private_key_path: {folder}/derp.key
    automatically_add_embedded_derp_region: true
    ipv4: {address}
  urls: []
  paths: []
  auto_update_enabled: false
disable_check_updates: true
database: {{ type: sqlite, sqlite: {{ path: {folder}/db.sqlite }} }}
policy: {{ mode: file, path: "" }}
dns: {{ magic_dns: true, base_domain: tailnet.test, override_local_dns: false, nameservers: {{ global: [] }} }}
unix_socket: {folder}/headscale.sock
unix_socket_permission: "0700"
logtail: {{ enabled: false }}
"#
    )
}
