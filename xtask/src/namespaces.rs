//! Whether this machine can have hosts in network namespaces, as the groups `tailnet` and `network` want them.
//!
//! Owns the trying, which leaves nothing behind. Refuses to make a failure of what the machine cannot do: the error is for
//! whoever skips a group to tell.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::provision::{self, Program};

const HOSTS: &[Program] =
    &[Program { name: "ip", package: "iproute2" }, Program { name: "setpriv", package: "util-linux" }];

/// What loses datagrams there, and what compares what has come through.
const NETWORK: &[Program] =
    &[Program { name: "nft", package: "nftables" }, Program { name: "rsync", package: "rsync" }];

/// What the kernel must lose a part of all datagrams by.
const LOSING: &str = "add table ip try; add chain ip try input { type filter hook input priority 0; }; \
                      add rule ip try input meta l4proto udp numgen random mod 10000 < 1 counter drop";

/// Hosts and a network between them. The error says what is missing.
pub(crate) fn can_be_made() -> Result<()> {
    try_in_one(|_| Ok(()))
}

/// Hosts, and a network between them that loses what it should. The error says what is missing.
pub(crate) fn can_lose() -> Result<()> {
    try_in_one(|namespace| {
        provision::ensure(NETWORK)?;
        ip(&["netns", "exec", namespace, "nft", LOSING]).context("nftables cannot lose datagrams by chance")
    })
}

/// Makes a namespace with all that networks are made of, and has something tried there.
fn try_in_one(attempt: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    if !provision::is_root()? {
        bail!("network namespaces are for root alone");
    }
    provision::ensure(HOSTS)?;
    let name = format!("bs-try-{}", std::process::id());
    ip(&["netns", "add", &name]).context("there are no network namespaces")?;
    let linked = ["veth", "bridge"]
        .iter()
        .try_for_each(|kind| ip(&["-n", &name, "link", "add", &format!("try-{kind}"), "type", kind]));
    let tried = linked.context("there are no virtual networks").and_then(|()| attempt(&name));
    ip(&["netns", "delete", &name])?;
    tried
}

fn ip(arguments: &[&str]) -> Result<()> {
    run(Command::new("ip").args(arguments))
}

/// Runs without showing anything; what it says is in the error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command.output().context("cannot start a program of the system")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}", said.trim());
    Ok(())
}
