//! `portolan usage`: sums over the ledger's rows, beside a process that may be serving.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;

use super::load;
use crate::policy::price;
use crate::store::ledger::{GroupBy, Ledger, Query, UsageRow};
use crate::store::usage::{self, Eyes, Mistake, Parameters};

/// What was asked for on the command line.
#[derive(Debug, Default, Args)]
pub struct Asked {
    /// Only this key's.
    #[arg(long)]
    pub key: Option<String>,
    /// Only attempts with this value, such as team=search; several times for several.
    #[arg(long, value_name = "NAME=VALUE")]
    pub only: Vec<String>,
    /// What to group by, several with commas: key, user, project, team, organisation, model, provider, target, region,
    /// outcome, arm, tag.NAME, hour, day, week, month and more.
    #[arg(long, default_value = "key,model")]
    pub by: String,
    /// From this moment on: RFC 3339, a date, or Unix milliseconds.
    #[arg(long)]
    pub from: Option<String>,
    /// Up to this moment.
    #[arg(long)]
    pub to: Option<String>,
    /// Of dates, hours, days, weeks and months. Default: UTC.
    #[arg(long)]
    pub time_zone: Option<String>,
    /// Most groups.
    #[arg(long)]
    pub limit: Option<String>,
}

impl Asked {
    /// # Errors
    /// Something cannot be read.
    pub fn query(&self) -> Result<Query, Mistake> {
        let mut parameters = Parameters::default();
        let named = [
            ("group_by", Some(&self.by)),
            ("key", self.key.as_ref()),
            ("time_zone", self.time_zone.as_ref()),
            ("from", self.from.as_ref()),
            ("to", self.to.as_ref()),
            ("limit", self.limit.as_ref()),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                parameters.set(name, value)?;
            }
        }
        for only in &self.only {
            let pair = only.split_once('=').filter(|(name, _)| GroupBy::parse(name).is_some());
            let (name, value) = pair.ok_or_else(|| Mistake {
                parameter: "only".into(),
                message: format!("`{only}` is not NAME=VALUE, with a NAME of these: {}", GroupBy::NAMES),
            })?;
            parameters.set(name, value)?;
        }
        parameters.query()
    }
}

/// Prints the sums.
///
/// # Errors
/// The output cannot be written.
pub fn run(
    file: &Path,
    asked: &Asked,
    as_json: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<ExitCode> {
    let Some(snapshot) = load::or_tell(file, err)? else { return Ok(ExitCode::FAILURE) };
    let query = match asked.query() {
        Ok(query) => query,
        Err(mistake) => {
            writeln!(err, "portolan: {mistake}")?;
            return Ok(ExitCode::from(2));
        }
    };
    let report = match Ledger::read_only(&snapshot.state_dir).and_then(|ledger| ledger.report(&query)) {
        Ok(report) => report,
        Err(error) => {
            writeln!(err, "portolan: the ledger in {} cannot be read: {error}", snapshot.state_dir.display())?;
            return Ok(ExitCode::FAILURE);
        }
    };
    if as_json {
        let now = super::now();
        out.write_all(&usage::json(&report, &query, &snapshot.currencies, Eyes::Operator, now))?;
        writeln!(out)?;
    } else {
        table(&report.rows, &query, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[UsageRow], query: &Query, out: &mut dyn Write) -> io::Result<()> {
    let names: Vec<_> = query.group_by.iter().map(GroupBy::name).collect();
    for name in &names {
        write!(out, "{name:<24}")?;
    }
    writeln!(
        out,
        "{:>10}{:>10}{:>8}{:>12}{:>12}{:>12}{:>16}{:>16}",
        "requests", "attempts", "errors", "input", "output", "cached", "cost_usd", "charge_usd"
    )?;
    for row in rows {
        for (_, value) in &row.group {
            write!(out, "{value:<24}")?;
        }
        writeln!(
            out,
            "{:>10}{:>10}{:>8}{:>12}{:>12}{:>12}{:>16}{:>16}",
            row.requests,
            row.attempts,
            row.errors,
            row.input,
            row.output,
            row.cached,
            price::cost_decimal(row.cost),
            price::cost_decimal(row.charge)
        )?;
    }
    Ok(())
}
