//! `portolan ledger`: whether it is right, and its rows for other programs.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::load;
use crate::policy::price;
use crate::store::export::{self, Format};
use crate::store::ledger;
use crate::store::reconcile;
use crate::store::usage::Parameters;
use crate::store::verify;

/// Which ledger.
#[derive(Debug, Args)]
pub struct Place {
    /// The configuration, for the state directory.
    #[arg(long, short, default_value = super::CONFIG)]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum Ledger {
    /// Work out every cost once more from its usage and rates, and check what must hold between rows.
    Verify {
        #[command(flatten)]
        place: Place,
    },
    /// Write the rows of attempts, oldest first; beside a process that may be serving.
    Export {
        #[command(flatten)]
        place: Place,
        /// From this moment on: RFC 3339, a date, or Unix milliseconds.
        #[arg(long)]
        from: Option<String>,
        /// Up to this moment.
        #[arg(long)]
        to: Option<String>,
        /// Of dates. Default: UTC.
        #[arg(long)]
        time_zone: Option<String>,
        /// How they are written.
        #[arg(long, value_enum, default_value = "csv")]
        format: Written,
    },
    /// Hold a provider's own usage or cost export against the ledger, by model and day (UTC).
    Reconcile {
        /// JSON of OpenAI's or Anthropic's usage or cost endpoint, or CSV of their consoles.
        file: PathBuf,
        /// Whose it is: a name under `providers`.
        #[arg(long)]
        provider: String,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Written {
    /// RFC 4180, with names in the first line.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

/// Does it.
///
/// # Errors
/// The output cannot be written.
pub fn run(what: &Ledger, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    match what {
        Ledger::Verify { place } => verify(&place.config, out, err),
        Ledger::Reconcile { file, provider, place } => differences(file, provider, &place.config, out, err),
        Ledger::Export { place, from, to, time_zone, format } => {
            let mut parameters = Parameters::default();
            let named = [("time_zone", time_zone), ("from", from), ("to", to)];
            let set = named.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
            let asked =
                { set }.try_for_each(|(name, value)| parameters.set(name, value)).and_then(|()| parameters.query());
            let asked = match asked {
                Ok(asked) => asked,
                Err(mistake) => {
                    writeln!(err, "portolan: {mistake}")?;
                    return Ok(ExitCode::from(2));
                }
            };
            let Some(snapshot) = load::or_tell(&place.config, err)? else { return Ok(ExitCode::FAILURE) };
            let format = match format {
                Written::Csv => Format::Csv,
                Written::Jsonl => Format::Jsonl,
            };
            let mut out = BufWriter::with_capacity(1 << 16, out);
            match export::export(&snapshot.state_dir, asked.from, asked.to, format, &mut out) {
                Ok(_) => Ok(ExitCode::SUCCESS),
                Err(ledger::Error::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Err(error),
                Err(error) => unreadable(&snapshot.state_dir, &error, err),
            }
        }
    }
}

fn verify(file: &Path, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    let Some(snapshot) = load::or_tell(file, err)? else { return Ok(ExitCode::FAILURE) };
    match verify::verify(&snapshot.state_dir) {
        Ok(verdict) => {
            for told in &verdict.told {
                writeln!(err, "portolan: {told}")?;
            }
            writeln!(out, "{verdict}")?;
            Ok(if verdict.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => unreadable(&snapshot.state_dir, &error, err),
    }
}

/// Prints each day and model of which the two say different things; fails where there is one.
fn differences(
    file: &Path,
    provider: &str,
    config: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<ExitCode> {
    let Some(snapshot) = load::or_tell(config, err)? else { return Ok(ExitCode::FAILURE) };
    let size = std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    let days = match std::fs::read_to_string(file) {
        Err(error) => Err(error.to_string()),
        Ok(_) if size > super::MOST_GIVEN => Err("it is larger than 64 MiB".to_owned()),
        Ok(text) => reconcile::read(&text),
    };
    let days = match days {
        Ok(days) => days,
        Err(what) => {
            writeln!(err, "portolan: {}: {what}", file.display())?;
            return Ok(ExitCode::from(2));
        }
    };
    let query = reconcile::question(provider, &days);
    let report = match ledger::Ledger::read_only(&snapshot.state_dir).and_then(|ledger| ledger.report(&query)) {
        Ok(report) => report,
        Err(error) => return unreadable(&snapshot.state_dir, &error, err),
    };
    let lines = reconcile::compare(&days, &report);
    let mut differ = 0;
    for line in lines.iter().filter(|line| !line.agrees()) {
        differ += 1;
        for (name, theirs, ours) in line.parts() {
            let (Some(theirs), ours) = (theirs, ours.unwrap_or(0)) else { continue };
            if theirs == ours {
                continue;
            }
            let (sign, by) = if ours < theirs { ('-', theirs - ours) } else { ('+', ours - theirs) };
            let told = |n| if name == "cost" { price::cost_decimal(n) } else { n.to_string() };
            writeln!(
                out,
                "{}  {:<32}{name:<12}provider {:>16}  ledger {:>16}  {sign}{}",
                line.day,
                line.model,
                told(theirs),
                told(ours),
                told(by)
            )?;
        }
    }
    writeln!(out, "reconcile: {} days and models, {differ} differ", lines.len())?;
    Ok(if differ == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn unreadable(state_dir: &Path, error: &ledger::Error, err: &mut dyn Write) -> io::Result<ExitCode> {
    writeln!(err, "portolan: the ledger in {} cannot be read: {error}", state_dir.display())?;
    Ok(ExitCode::FAILURE)
}
