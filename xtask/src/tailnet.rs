//! The real parts of the group `tailnet`: headscale, and tailscaled with its command line.
//!
//! Owns their versions, `~/.cache/backstay/tailnet`, and the question whether this machine can run them. Refuses to make a
//! failure of what the machine cannot do: that is told, and the group is skipped.

use std::fs::{self, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::go::{self, Built, GoVersion, Module};
use crate::namespaces;
use crate::provision::{self, Program};
use crate::tool::cache_folder;

/// Where the tests look for the programs.
pub(crate) const PROGRAMS_VARIABLE: &str = "BACKSTAY_TAILNET_PROGRAMS";

/// What `go.mod` of tailscale.com wants, and Debian 13 has. Newer versions of it want a newer Go than Debian's.
const OLDEST_GO: GoVersion = (1, 24, 4);

const HEADSCALE: Module = Module {
    path: "github.com/juanfont/headscale",
    version: "v0.26.1",
    sum: "h1:WTvvxKtN94jut3Rk8hJPwjK2MdzcFPtrcrMHqlUJGa4=",
    commands: &["./cmd/headscale"],
    tags: "",
};

/// One program is both: it is the command line where it is called `tailscale`.
const TAILSCALE: Module = Module {
    path: "tailscale.com",
    version: "v1.86.2",
    sum: "h1:rZyR7vBqpFfQcei+vf69uaJXlJtcLGIub5Sftjs5Tbc=",
    commands: &["./cmd/tailscaled"],
    tags: "ts_include_cli,ts_omit_aws,ts_omit_bird,ts_omit_kube,ts_omit_ssh,ts_omit_tap",
};

const PROGRAMS: &[Program] = &[Program { name: "mknod", package: "coreutils" }];

/// Where a TUN device is made, and its numbers (Linux, `Documentation/networking/tuntap.rst`).
const TUN: &str = "/dev/net/tun";
const TUN_NUMBERS: [&str; 2] = ["10", "200"];

/// The real parts, or why this machine has none.
pub(crate) enum Parts {
    /// The folder with `headscale`, `tailscaled` and `tailscale`.
    Built(PathBuf),
    Impossible(String),
}

/// Looks whether this machine can run them, and builds them if it has not yet (4 minutes on two cores).
pub(crate) fn parts() -> Result<Parts> {
    if let Err(obstacle) = can_run() {
        return Ok(Parts::Impossible(format!("{obstacle:#}")));
    }
    let home = cache_folder()?.join("tailnet").join(key([HEADSCALE, TAILSCALE]));
    if home.is_dir() {
        return Ok(Parts::Built(home));
    }
    if let Err(obstacle) = go::ensure(OLDEST_GO) {
        return Ok(Parts::Impossible(format!("{obstacle:#}")));
    }
    build(home)
}

/// Changes with everything that changes the programs. A hash that another Rust computes in another way costs a build.
fn key(modules: [Module; 2]) -> String {
    let mut hasher = DefaultHasher::new();
    modules.hash(&mut hasher);
    let [headscale, tailscale] = modules.map(|module| module.version);
    format!("headscale-{headscale}-tailscale-{tailscale}-{:016x}", hasher.finish())
}

/// Builds into a neighbouring folder and renames it, so that an interrupted build is never taken for the programs.
fn build(home: PathBuf) -> Result<Parts> {
    let mut partial = home.clone().into_os_string();
    partial.push(format!(".partial-{}", std::process::id()));
    let partial = PathBuf::from(partial);
    fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    for module in [HEADSCALE, TAILSCALE] {
        let built = module.build(&partial);
        if !matches!(built, Ok(Built::Done)) {
            fs::remove_dir_all(&partial).with_context(|| format!("cannot remove {}", partial.display()))?;
        }
        if let Built::Not(why) = built? {
            return Ok(Parts::Impossible(why));
        }
    }
    std::os::unix::fs::symlink("tailscaled", partial.join("tailscale")).context("cannot name tailscale")?;
    match fs::rename(&partial, &home) {
        // Another run was faster; what it has built is the same.
        Err(_) if home.is_dir() => {
            fs::remove_dir_all(&partial).context("cannot remove what was built twice")?
        }
        moved => moved.with_context(|| format!("cannot move the programs to {}", home.display()))?,
    }
    Ok(Parts::Built(home))
}

/// Namespaces and devices as the tests use them. The error says what is missing.
fn can_run() -> Result<()> {
    namespaces::can_be_made()?;
    provision::ensure(PROGRAMS)?;
    open_tun().with_context(|| format!("there is no TUN device: {TUN} cannot be opened"))
}

/// Containers often have the kernel's support, but no file for it.
fn open_tun() -> Result<()> {
    let open = || OpenOptions::new().read(true).write(true).open(TUN);
    match open() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(Path::new(TUN).parent().unwrap_or(Path::new("/")))?;
            namespaces::run(Command::new("mknod").args(["-m", "0600", TUN, "c"]).args(TUN_NUMBERS))?;
            open()?;
        }
        opened => drop(opened?),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_named_by_all_that_makes_the_programs() {
        let plain = key([HEADSCALE, TAILSCALE]);
        assert!(plain.contains(HEADSCALE.version) && plain.contains(TAILSCALE.version), "{plain}");
        assert_ne!(plain, key([HEADSCALE, Module { tags: "", ..TAILSCALE }]));
    }
}
