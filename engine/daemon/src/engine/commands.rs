//! Captures of what programs write: whether this node runs them, as whom, and with which secrets. How they are run and
//! what becomes of their output is the business of `backstay-command`.

use std::sync::Arc;

use backstay_command::capture::capture;
use backstay_command::environment::Environment;
use backstay_command::program::{Launcher, Program};
use backstay_command::user::User;
use backstay_core::config::{CommandSource, Config, Source};
use backstay_core::id::PointId;
use backstay_core::point::Facts;
use backstay_files::capture::Captured;
use backstay_vault::vault::Vault;

use super::{Asked, Engine, host};
use crate::failure::Failure;

/// What is said of a source whose program is not run here; nothing when it is.
pub fn refusal(config: &Config, source: &Source) -> Option<String> {
    (!config.allow.commands).then(|| {
        format!(
            "{} is what a program writes, and this node runs none that fleet.toml names. To allow it, add to node.toml: [allow] with commands = true, and command_user = \"NAME\" for the user that such programs run as (the daemon's own without it)",
            source.name
        )
    })
}

impl Engine {
    pub(super) fn capture_command(
        &self,
        asked: &Asked<'_>,
        command: &CommandSource,
        cursor: Option<PointId>,
        vaults: Vec<Arc<Vault>>,
    ) -> Result<Captured, Failure> {
        let program = self.program(asked.source, command)?;
        let facts = Facts { host: Some(host()), ..Facts::default() };
        let (targets, standing) = self.open_targets(asked, facts, cursor, vaults)?;
        Ok(capture(&program, &self.pool, targets, &standing, &*self.clock, asked.order.progress)?)
    }

    /// Looked up anew each time: users, groups and secrets may be others by now.
    fn program(&self, source: &Source, command: &CommandSource) -> Result<Program, Failure> {
        if let Some(refusal) = refusal(&self.config, source) {
            return Err(Failure::failed(refusal).of_class("not_allowed"));
        }
        let of_source = |error: &dyn std::error::Error| Failure::failed(error).of_class("source");
        let user = match &self.config.allow.command_user {
            Some(name) => User::named(name),
            None => User::own(),
        };
        let user = user.map_err(|error| of_source(&error))?;
        let environment = Environment::of(&user).with(&command.env).with_secrets(&command.secrets);
        let environment = environment.map_err(|error| of_source(&error))?;
        Ok(Program::new(command, environment, user, Launcher::own()))
    }
}
