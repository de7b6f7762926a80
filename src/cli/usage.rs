//! `portolan usage`: sums over the ledger's rows, beside a process that may be serving.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::load;
use crate::policy::price;
use crate::store::ledger::{GroupBy, Ledger, Query, UsageRow};
use crate::store::usage;

/// What was asked for on the command line.
pub struct Asked {
    pub key: Option<String>,
    pub by: Vec<String>,
    pub from: Option<u64>,
    pub to: Option<u64>,
    pub json: bool,
}

/// Prints the sums.
///
/// # Errors
/// The output cannot be written.
pub fn run(file: &Path, asked: &Asked, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    let Some(snapshot) = load::or_tell(file, err)? else { return Ok(ExitCode::FAILURE) };
    let mut query = Query { key: asked.key.clone(), from: asked.from, to: asked.to, group_by: Vec::new() };
    for name in &asked.by {
        match GroupBy::parse(name) {
            Some(group) => query.group_by.push(group),
            None => {
                writeln!(
                    err,
                    "portolan: `{name}` is no grouping: key, project, model, provider, target, outcome, day or tag.NAME"
                )?;
                return Ok(ExitCode::from(2));
            }
        }
    }
    let read =
        Ledger::read_only(&snapshot.state_dir).and_then(|ledger| Ok((ledger.usage(&query)?, ledger.total(&query)?)));
    let (rows, total) = match read {
        Ok(read) => read,
        Err(error) => {
            writeln!(err, "portolan: the ledger in {} cannot be read: {error}", snapshot.state_dir.display())?;
            return Ok(ExitCode::FAILURE);
        }
    };
    if asked.json {
        out.write_all(&usage::json(&rows, &total, &snapshot.currencies))?;
        writeln!(out)?;
    } else {
        table(&rows, &query, out)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[UsageRow], query: &Query, out: &mut dyn Write) -> io::Result<()> {
    let names: Vec<String> = query.group_by.iter().map(GroupBy::name).collect();
    for name in &names {
        write!(out, "{name:<24}")?;
    }
    writeln!(
        out,
        "{:>10}{:>10}{:>8}{:>12}{:>12}{:>12}{:>16}",
        "requests", "attempts", "errors", "input", "output", "cached", "cost_usd"
    )?;
    for row in rows {
        for (_, value) in &row.group {
            write!(out, "{value:<24}")?;
        }
        writeln!(
            out,
            "{:>10}{:>10}{:>8}{:>12}{:>12}{:>12}{:>16}",
            row.requests,
            row.attempts,
            row.errors,
            row.input,
            row.output,
            row.cached,
            price::cost_decimal(row.cost)
        )?;
    }
    Ok(())
}
