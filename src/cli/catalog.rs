//! `portolan catalog`: what models cost and can do, by the built-in catalogue and by a file of the operator's.
//!
//! A file has the form that `list` prints, so that one begins with what is there, changes what differs, and sees by
//! `diff` what that would mean before `update` puts it into its place. A running gateway takes it up like any other change
//! of its configuration.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::load;
use crate::config::Outside;
use crate::policy::auth::fits;
use crate::policy::price::cost_decimal;
use crate::provider::catalog::{self, Catalog, HEADER, Row};
use crate::wire::writer;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print rows, in the form of a file of one's own.
    List {
        /// Of this preset only.
        #[arg(long)]
        preset: Option<String>,
        /// Models with such names, with * for any text.
        #[arg(long, default_value = "*")]
        model: String,
        /// Of this file, instead of the built-in ones.
        #[arg(long)]
        file: Option<PathBuf>,
        /// As JSON, as of today.
        #[arg(long)]
        json: bool,
    },
    /// Show what a file says otherwise than the built-in catalogue.
    Diff { file: PathBuf },
    /// Check a file and put it where the configuration's `catalog` says, whole or not at all.
    Update {
        file: PathBuf,
        /// The configuration.
        #[arg(long, short, default_value = super::CONFIG)]
        config: PathBuf,
    },
}

/// Runs one of them; `now` is Unix seconds.
///
/// # Errors
/// The output, or the file to update, cannot be written.
pub fn run(
    command: &Command,
    outside: &Outside<'_>,
    now: u64,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<ExitCode> {
    match command {
        Command::List { preset, model, file, json } => {
            let text = match file {
                Some(file) => match read(file, outside, err)? {
                    Some(text) => text,
                    None => return Ok(ExitCode::FAILURE),
                },
                None => String::new(),
            };
            let own = Catalog::read(&text).unwrap_or_default();
            let rows = if file.is_some() { &own } else { catalog::builtin() };
            let wanted = |row: &Row<'_>| preset.as_ref().is_none_or(|own| own == row.preset) && fits(model, row.model);
            if *json {
                return list_json(rows, &wanted, now, out).map(|()| ExitCode::SUCCESS);
            }
            writeln!(out, "{HEADER}")?;
            for row in rows.all(now).filter(|row| wanted(row)) {
                rows.lines(row.preset, row.model).try_for_each(|line| writeln!(out, "{line}"))?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Diff { file } => {
            let Some(text) = read(file, outside, err)? else { return Ok(ExitCode::FAILURE) };
            let own = Catalog::read(&text).unwrap_or_default();
            diff(catalog::builtin(), &own, now, out).map(|()| ExitCode::SUCCESS)
        }
        Command::Update { file, config } => {
            let Some(text) = read(file, outside, err)? else { return Ok(ExitCode::FAILURE) };
            let Some(snapshot) = load::or_tell(config, err)? else { return Ok(ExitCode::FAILURE) };
            let Some(place) = &snapshot.index.catalog else {
                writeln!(err, "portolan: {} has no `catalog`: write where the file is to be", config.display())?;
                return Ok(ExitCode::FAILURE);
            };
            let before = fs::read_to_string(place).unwrap_or_default();
            let (before, own) = (Catalog::read(&before).unwrap_or_default(), Catalog::read(&text).unwrap_or_default());
            diff(&before, &own, now, out)?;
            put(place, text.as_bytes())?;
            writeln!(out, "{}: in place", place.display())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A file that is a catalogue; what is wrong with it has been told.
fn read(file: &Path, outside: &Outside<'_>, err: &mut dyn Write) -> io::Result<Option<String>> {
    let shown = file.display();
    let text = match (outside.read)(file).map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => {
            writeln!(err, "{shown}: not UTF-8")?;
            return Ok(None);
        }
        Err(error) => {
            writeln!(err, "{shown}: cannot be read: {error}")?;
            return Ok(None);
        }
    };
    if let Err(flaws) = Catalog::read(&text) {
        flaws.iter().try_for_each(|flaw| writeln!(err, "{shown}:{}: {}", flaw.line, flaw.message))?;
        return Ok(None);
    }
    Ok(Some(text))
}

/// What the second catalogue says otherwise than the first.
fn diff(before: &Catalog<'_>, after: &Catalog<'_>, now: u64, out: &mut dyn Write) -> io::Result<()> {
    let (mut new, mut changed, mut same) = (0u64, 0u64, 0u64);
    for row in after.all(now) {
        let name = format!("{}/{}", row.preset, row.model);
        let old = before.lookup(row.preset, row.model, now).filter(|old| old.model == row.model);
        let (old, now) = (old.as_ref().map(parts).unwrap_or_default(), parts(&row));
        if old.is_empty() {
            new += 1;
            let all = now.iter().map(|(part, value)| format!("{part} {value}")).collect::<Vec<_>>().join(", ");
            writeln!(out, "+ {name}: {all}")?;
            continue;
        }
        let names: std::collections::BTreeSet<_> = old.keys().chain(now.keys()).collect();
        let none = "-".to_owned();
        let differ = names.into_iter().filter_map(|part| {
            let (one, other) = (old.get(part).unwrap_or(&none), now.get(part).unwrap_or(&none));
            (one != other).then(|| format!("{part} {one} -> {other}"))
        });
        let differ: Vec<_> = differ.collect();
        if differ.is_empty() {
            same += 1;
        } else {
            changed += 1;
            writeln!(out, "~ {name}: {}", differ.join(", "))?;
        }
    }
    writeln!(out, "{new} new, {changed} changed, {same} the same")
}

/// What a row says, by name, in dollars and tokens.
fn parts(row: &Row<'_>) -> BTreeMap<String, String> {
    let mut parts = BTreeMap::new();
    let mut put = |name: String, value: Option<String>| {
        if let Some(value) = value {
            parts.insert(name, value);
        }
    };
    put("kind".to_owned(), Some(row.kind.name().to_owned()));
    put("context".to_owned(), row.abilities.context.map(|n| n.to_string()));
    put("max_output".to_owned(), row.abilities.max_output.map(|n| n.to_string()));
    let can =
        |name: &str, has: Option<bool>| (name.to_owned(), has.map(|has| if has { "yes" } else { "no" }.to_owned()));
    for (name, has) in [
        can("tools", row.abilities.tools),
        can("vision", row.abilities.vision),
        can("reasons", row.abilities.reasoning),
        can("structured_output", row.abilities.structured_output),
        can("adaptive_thinking", row.abilities.adaptive_thinking),
    ] {
        put(name, has);
    }
    let all = std::iter::once((0, row.price.rates)).chain(row.price.tiers.iter().copied());
    for (above, rates) in all {
        // Each with what it is where it is not published apart.
        let rates = [
            ("input", rates.input, 0),
            ("output", rates.output, 0),
            ("cached", rates.cached, rates.input),
            ("cache_write", rates.cache_write, rates.input),
            ("cache_write_1h", rates.cache_write_1h, rates.cache_write),
            ("audio_input", rates.audio_input, rates.input),
            ("audio_output", rates.audio_output, rates.output),
            ("reasoning", rates.reasoning, rates.output),
            ("request", rates.request, 0),
            ("search", rates.search, 0),
        ];
        for (name, rate, _) in rates.into_iter().filter(|(_, rate, otherwise)| rate != otherwise) {
            let name = if above == 0 { name.to_owned() } else { format!("{name} above {above}") };
            put(name, Some(cost_decimal(rate)));
        }
    }
    for (name, price) in [("image", row.units.image), ("second", row.units.second), ("character", row.units.character)]
    {
        put(name.to_owned(), price.map(cost_decimal));
    }
    parts
}

fn list_json(rows: &Catalog<'_>, wanted: &dyn Fn(&Row<'_>) -> bool, now: u64, out: &mut dyn Write) -> io::Result<()> {
    let mut json = Vec::new();
    writer::object(&mut json, |o| {
        o.string("object", "list");
        o.array("data", |a| {
            for row in rows.all(now).filter(|row| wanted(row)) {
                a.object(|o| {
                    o.string("preset", row.preset);
                    o.string("model", row.model);
                    for (name, value) in parts(&row) {
                        o.string(&name, &value);
                    }
                    o.string("price_version", &row.price.version);
                    o.string("source", row.source);
                    o.string("seen", row.seen);
                });
            }
        });
    });
    out.write_all(&json)?;
    writeln!(out)
}

/// Writes a file whole or not at all, also if the power fails.
fn put(place: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = place.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = place.with_file_name(name);
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&beside, place)?;
    let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "openai,gpt-5,,,,400_000,128_000,tvrs,1_000_000_000,10_000_000_000,125_000_000,,,,,,,,,,10_000_000,contract,2026-11-21\nours,new,,,,,,,1_000_000_000,2_000_000_000,,,,,,,,,,,,contract,2026-11-21\n";

    fn ran(command: &Command, text: &str) -> (String, String, bool) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let read = |_: &Path| Ok(text.as_bytes().to_vec());
        let outside = Outside { env: &|_| None, read: &read };
        let code = run(command, &outside, 1_795_219_200, &mut out, &mut err).unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap(), code == ExitCode::SUCCESS)
    }

    #[test]
    fn a_file_differs_where_it_says_otherwise() {
        let (out, _, _) = ran(&Command::Diff { file: "f".into() }, OWN);
        assert!(out.contains("~ openai/gpt-5: input 1.25 -> 1\n"), "{out}");
        assert!(out.contains("+ ours/new: "), "{out}");
        assert!(out.ends_with("1 new, 1 changed, 0 the same\n"), "{out}");
        let (_, err, good) = ran(&Command::Diff { file: "f".into() }, "openai,x\n");
        assert!(!good && err.starts_with("f:1: "), "{err}");
    }

    #[test]
    fn what_is_listed_is_a_file_that_says_the_same() {
        let list = |preset: Option<&str>, json| Command::List {
            preset: preset.map(str::to_owned),
            model: "*".to_owned(),
            file: None,
            json,
        };
        let (listed, _, _) = ran(&list(None, false), "");
        let (out, err, good) = ran(&Command::Diff { file: "f".into() }, &listed);
        assert!(good && out.starts_with("0 new, 0 changed, "), "{out}{err}");
        let (json, _, _) = ran(&list(Some("anthropic"), true), "");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let row = json["data"].as_array().unwrap().iter().find(|row| row["model"] == "claude-haiku-4-5").unwrap();
        assert_eq!((row["input"].as_str(), row["cache_write_1h"].as_str()), (Some("1"), Some("2")));
    }
}
