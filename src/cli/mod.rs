//! The command line: one file a command.
//!
//! Commands write to what they are given and return an exit code, so that tests run them without a process.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Outside;
use crate::policy::tenancy::Kind;

mod admin_token;
pub mod administer;
mod api;
mod balance;
pub mod catalog;
pub mod check;
mod greeting;
pub mod keys;
mod ledger;
mod load;
pub mod route;
mod run;
pub mod schema;
mod succession;
mod targets;
mod usage;
mod vigil;

/// Most bytes that are read from the standard input.
const MOST_GIVEN: u64 = 64 << 20;

/// Where the configuration is looked for when none is named.
pub const CONFIG: &str = "/etc/portolan/portolan.yaml";

#[derive(Debug, Parser)]
#[command(name = "portolan", version, about = "A gateway in front of every model provider.")]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve.
    Run {
        /// The configuration.
        #[arg(long, short, default_value = CONFIG)]
        config: PathBuf,
        /// Follows a process that runs: the socket at which it gives its listeners. It starts its successor so itself.
        #[arg(long, value_name = "SOCKET", hide = true)]
        successor: Option<PathBuf>,
    },
    /// Show usage and cost from the ledger.
    Usage {
        /// The configuration, for the state directory and the currencies.
        #[arg(long, short, default_value = CONFIG)]
        config: PathBuf,
        #[command(flatten)]
        asked: usage::Asked,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Check the ledger, or write its rows for other programs.
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// Show how the targets of a running gateway are.
    Targets {
        /// The configuration, for the address of its admin port.
        #[arg(long, short, default_value = CONFIG)]
        config: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Tell where a request would go, and why, by a configuration alone.
    Route {
        /// The configuration.
        #[arg(long, short, default_value = CONFIG)]
        config: PathBuf,
        #[command(flatten)]
        asked: route::Asked,
    },
    /// Check a configuration: print every problem, or what it would serve.
    Check {
        /// The file.
        #[arg(default_value = CONFIG)]
        file: PathBuf,
    },
    /// Print the JSON Schema of the configuration.
    Schema,
    /// Callers' keys.
    #[command(subcommand)]
    Keys(administer::Keys),
    /// What keys belong to.
    #[command(subcommand)]
    Projects(administer::Levels),
    /// What projects and users belong to.
    #[command(subcommand)]
    Teams(administer::Levels),
    /// Whom keys are for.
    #[command(subcommand)]
    Users(administer::Levels),
    /// What teams belong to.
    #[command(subcommand)]
    Organisations(administer::Levels),
    /// What customers paid in.
    #[command(subcommand)]
    Balance(balance::Balance),
    /// Draw what a customer was charged, by day and model.
    Statement(balance::Asked),
    /// Administrators' tokens.
    #[command(subcommand)]
    Tokens(administer::Tokens),
    /// The log of changes.
    #[command(subcommand)]
    Audit(administer::Audit),
    /// What models cost and can do.
    #[command(subcommand)]
    Catalog(catalog::Command),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let mut out = std::io::stdout().lock();
    let mut err = std::io::stderr().lock();
    let done = match arguments.command {
        Command::Check { file } => check::run(&file, &outside(), &load::catalogue(), &mut out, &mut err),
        Command::Run { config, successor } => {
            drop((out, err));
            return run::command(&config, successor.as_deref());
        }
        Command::Usage { config, asked, json } => usage::run(&config, &asked, json, &mut out, &mut err),
        Command::Ledger(what) => ledger::run(&what, &mut out, &mut err),
        Command::Targets { config, json } => targets::run(&config, json, token(), &mut out, &mut err),
        Command::Route { config, asked } => {
            let outside = Outside { read: &read_or_given, ..outside() };
            route::run(&config, &asked, (&outside, &load::catalogue(), now()), &mut out, &mut err)
        }
        Command::Schema => schema::run(&mut out),
        Command::Catalog(command) => catalog::run(&command, &outside(), load::now(), &mut out, &mut err),
        Command::Keys(command) => administer::keys(&command, &mut screen(&mut out, &mut err)),
        Command::Projects(command) => administer::levels(Kind::Project, &command, &mut screen(&mut out, &mut err)),
        Command::Teams(command) => administer::levels(Kind::Team, &command, &mut screen(&mut out, &mut err)),
        Command::Users(command) => administer::levels(Kind::User, &command, &mut screen(&mut out, &mut err)),
        Command::Organisations(command) => {
            administer::levels(Kind::Organisation, &command, &mut screen(&mut out, &mut err))
        }
        Command::Balance(command) => balance::balance(&command, &mut screen(&mut out, &mut err)),
        Command::Statement(asked) => balance::statement(&asked, &mut out, &mut err),
        Command::Tokens(command) => administer::tokens(&command, &mut screen(&mut out, &mut err)),
        Command::Audit(command) => administer::audit(&command, &mut screen(&mut out, &mut err)),
    };
    finish(done, &mut err)
}

/// Unix milliseconds.
fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Where the commands that ask a gateway write.
fn screen<'s>(out: &'s mut dyn Write, err: &'s mut dyn Write) -> administer::Screen<'s> {
    administer::Screen { out, err, token: token() }
}

/// The administrator's token that the command line shows.
fn token() -> String {
    std::env::var("PORTOLAN_ADMIN_TOKEN").unwrap_or_default()
}

/// The environment and the files of this process.
pub fn outside() -> Outside<'static> {
    Outside { env: &|name| std::env::var(name).ok(), read: &|path| std::fs::read(path) }
}

/// A file, or for `-` the standard input.
fn read_or_given(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    if path != std::path::Path::new("-") {
        return std::fs::read(path);
    }
    let mut given = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(std::io::stdin().lock(), MOST_GIVEN), &mut given)?;
    Ok(given)
}

/// A reader that has gone (`portolan schema | head`) is no failure.
fn finish(done: std::io::Result<ExitCode>, err: &mut dyn Write) -> ExitCode {
    match done {
        Ok(code) => code,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(err, "portolan: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let parsed =
            Arguments::try_parse_from(["portolan", "keys", "new", "--id", "ci", "--models", "gpt-*,claude-*"]).unwrap();
        let Command::Keys(administer::Keys::New { id, models }) = parsed.command else { panic!("keys new") };
        assert_eq!((id.as_str(), models.len()), ("ci", 2));
    }
}
