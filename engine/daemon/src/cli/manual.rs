//! `completions` and `man`: what a shell and a reader of manuals know of the commands. Both are made from the definition of
//! the command line, so that they say what the program does. They need no configuration, and look at none.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory, ValueEnum};
use clap_complete::aot::{Shell, generate};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::Arguments;
use crate::failure::Failure;
use crate::terminal::{print, stream};

/// The section of the manual: commands of users.
const SECTION: &str = "1";

#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell that is to complete.
    #[arg(value_enum)]
    shell: KnownShell,
}

#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The directory for the pages, such as /usr/local/share/man/man1; it is made, and pages of an earlier version are
    /// replaced.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// Those whose scripts have been tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

impl From<KnownShell> for Shell {
    fn from(shell: KnownShell) -> Self {
        match shell {
            KnownShell::Bash => Self::Bash,
            KnownShell::Zsh => Self::Zsh,
            KnownShell::Fish => Self::Fish,
        }
    }
}

pub(super) fn completions(arguments: &CompletionsArgs) -> Result<u8, Failure> {
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    generate(Shell::from(arguments.shell), &mut command, name, &mut script);
    stream(|mut out| Ok(out.write_all(&script)?))?;
    Ok(0)
}

pub(super) fn man(arguments: &ManArgs) -> Result<u8, Failure> {
    let folder = &arguments.to;
    let refuse = |path: &Path, error: std::io::Error| {
        Failure::failed(format!(
            "cannot write {}: {error}; give a directory that you can write to, or run as root",
            path.display()
        ))
    };
    fs::create_dir_all(folder).map_err(|error| refuse(folder, error))?;
    let pages = pages();
    for (name, page) in &pages {
        let path = folder.join(name);
        fs::write(&path, page).map_err(|error| refuse(&path, error))?;
    }
    print(&format!("{} man pages written to {}", pages.len(), folder.display()));
    Ok(0)
}

/// The pages of the command and of all its subcommands, by the names of their files.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut root = Arguments::command().disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    add_pages(&root, &mut pages);
    pages
}

fn add_pages(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) {
    let source = format!("backstay {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).section(SECTION).source(source).manual("Backstay");
    pages.push((man.get_filename(), page(command, &man)));
    command.get_subcommands().for_each(|below| add_pages(below, pages));
}

/// As `Man::render`, but with examples as they stand in the help, and not as a paragraph of running text.
fn page(command: &Command, man: &Man) -> Vec<u8> {
    let mut page = Vec::new();
    render(command, man, &mut page).expect("there is always room in memory, or the process has ended");
    page
}

fn render(command: &Command, man: &Man, page: &mut Vec<u8>) -> std::io::Result<()> {
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(page)?;
    }
    own_sections(command).to_writer(page)
}

/// Examples, exit codes, and what else there is to read.
fn own_sections(command: &Command) -> Roff {
    let mut roff = Roff::new();
    if let Some(help) = command.get_after_help() {
        let examples = help.to_string();
        let examples = examples.trim_start_matches("Examples: ").trim_start_matches("Example: ");
        roff.control("SH", ["EXAMPLES"]).control("nf", []);
        examples.lines().for_each(|line| {
            roff.text([roman(line.trim_start())]);
        });
        roff.control("fi", []);
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in EXIT_CODES {
        roff.control("TP", []).text([bold(*code)]).text([roman(*meaning)]);
    }
    if command.get_display_name().is_some_and(|name| name.contains('-')) {
        roff.control("SH", ["SEE ALSO"]).text([bold("backstay"), roman("(1)")]);
    } else {
        roff.control("SH", ["FILES"]);
        for (file, what) in FILES {
            roff.control("TP", []).text([bold(*file)]).text([roman(*what)]);
        }
        roff.control("SH", ["ENVIRONMENT"]);
        roff.control("TP", []).text([bold("BACKSTAY_LOG")]);
        roff.text([roman("What is in the log on standard error: error, warn, info or debug.")]);
    }
    roff
}

/// Exit codes and what they mean.
const EXIT_CODES: &[(&str, &str)] = &[
    ("0", "Done."),
    ("1", "Failed. Of `status --check`: a warning. Of `doctor`: problems were found."),
    ("2", "Wrong usage or configuration. Of `status --check`: critical."),
    (
        "3",
        "Partly done; the message says which part is not. Of `status --check`: unknown. Of `doctor`: warnings alone.",
    ),
];

/// Files that the program reads and writes.
const FILES: &[(&str, &str)] = &[
    ("/etc/backstay/fleet.toml", "What is protected, and where; the same on all nodes."),
    ("/etc/backstay/node.toml", "Who this node is, what it accepts and runs, and its secrets."),
    (
        "/var/lib/backstay",
        "Identity, keys and caches of the node. Without a recovery key, the identity/ in it alone opens the vaults.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// All commands with their full names, but for `help`.
    fn commands() -> Vec<Command> {
        fn add(command: &Command, all: &mut Vec<Command>) {
            all.push(command.clone());
            command.get_subcommands().for_each(|below| add(below, all));
        }
        let mut root = Arguments::command().disable_help_subcommand(true);
        root.build();
        let mut all = Vec::new();
        add(&root, &mut all);
        all
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_page_and_an_example() {
        let pages: Vec<String> = pages().into_iter().map(|(name, _)| name).collect();
        for command in commands() {
            let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
            assert!(pages.contains(&format!("{name}.1")), "{name} has no page: {pages:?}");
            let help = command.clone().render_long_help().to_string();
            assert!(help.contains("Example: ") || help.contains("Examples: "), "{name}: {help}");
        }
        assert!(pages.contains(&"backstay-vault-prune.1".to_owned()), "{pages:?}");
    }
}
