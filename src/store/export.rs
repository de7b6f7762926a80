//! The ledger's rows for other programs: CSV (RFC 4180) or JSON Lines, row by row, beside whoever writes.
//!
//! One read transaction sees one moment of the ledger, and one row is in memory at a time. [`COLUMNS`] is the contract:
//! names, order and types stay, new columns come at the end. The types are those of Arrow and Parquet, so a file can be loaded
//! by its documented schema: `int64`, `bool`, `utf8`, and `timestamp[ms, UTC]` as whole numbers. What is not known is empty in
//! CSV and `null` in JSON.

use std::io::{self, Write};
use std::path::Path;

use rusqlite::Row;
use rusqlite::types::ValueRef;

use crate::exchange::record::Id;
use crate::store::books::{self, Error};
use crate::store::query;
use crate::store::schema::first_id;
use crate::wire::writer;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Csv,
    /// One JSON object a line.
    Jsonl,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `utf8`: the text form of a UUID.
    Id,
    Utf8,
    Int64,
    Bool,
    /// `timestamp[ms, UTC]`.
    Time,
}

/// Names and types, in their order. Costs and charges are nano-dollars, and a charge that is not there is the cost; `tags`, `rates` and `other_usage` are JSON as text.
pub const COLUMNS: [(&str, Type); 48] = [
    ("attempt", Type::Id),
    ("request", Type::Id),
    ("number", Type::Int64),
    ("state", Type::Utf8),
    ("at", Type::Time),
    ("settled_at", Type::Time),
    ("key", Type::Utf8),
    ("user", Type::Utf8),
    ("project", Type::Utf8),
    ("team", Type::Utf8),
    ("organisation", Type::Utf8),
    ("dialect", Type::Utf8),
    ("asked", Type::Utf8),
    ("model", Type::Utf8),
    ("provider", Type::Utf8),
    ("target", Type::Utf8),
    ("region", Type::Utf8),
    ("route", Type::Utf8),
    ("stream", Type::Bool),
    ("served", Type::Bool),
    ("outcome", Type::Utf8),
    ("status", Type::Int64),
    ("input", Type::Int64),
    ("output", Type::Int64),
    ("cached", Type::Int64),
    ("cache_write", Type::Int64),
    ("cache_write_1h", Type::Int64),
    ("reasoning", Type::Int64),
    ("other_usage", Type::Utf8),
    ("stated_total", Type::Int64),
    ("estimated", Type::Bool),
    ("cost", Type::Int64),
    ("share", Type::Utf8),
    ("unpriced", Type::Bool),
    ("reserve", Type::Int64),
    ("input_estimate", Type::Int64),
    ("price_version", Type::Utf8),
    ("rates", Type::Utf8),
    ("config_version", Type::Utf8),
    ("tags", Type::Utf8),
    ("latency_us", Type::Int64),
    ("ttft_us", Type::Int64),
    ("losses", Type::Utf8),
    ("owner", Type::Utf8),
    ("charge", Type::Int64),
    ("charge_reserve", Type::Int64),
    ("charge_version", Type::Utf8),
    ("charge_rates", Type::Utf8),
];

/// Writes the attempts that were dispatched from one moment on and before another (Unix milliseconds); how many those were.
///
/// # Errors
/// The ledger cannot be read, or `out` not be written ([`Error::Io`]).
pub fn export(
    state_dir: &Path,
    from: Option<u64>,
    to: Option<u64>,
    format: Format,
    out: &mut dyn Write,
) -> Result<u64, Error> {
    let conn = query::opened(&books::path(state_dir))?;
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let select = format!("SELECT {} FROM attempts WHERE id >= ?1 AND id < ?2 ORDER BY id", names.join(", "));
    let mut select = conn.prepare(&select)?;
    let mut found = select.query([from.map_or(i64::MIN, first_id), to.map_or(i64::MAX, first_id)])?;
    if format == Format::Csv {
        writeln!(out, "{}\r", names.join(","))?;
    }
    let (mut line, mut rows) = (Vec::with_capacity(1_024), 0);
    while let Some(row) = found.next()? {
        line.clear();
        match format {
            Format::Csv => csv(row, &mut line)?,
            Format::Jsonl => jsonl(row, &mut line)?,
        }
        line.push(b'\n');
        out.write_all(&line)?;
        rows += 1;
    }
    out.flush()?;
    Ok(rows)
}

/// A value of a row.
enum Cell<'r> {
    None,
    Number(i64),
    Bool(bool),
    Text(&'r str),
    Id(Id),
}

fn cell<'r>(row: &'r Row<'_>, place: usize, kind: Type) -> Result<Cell<'r>, Error> {
    Ok(match row.get_ref(place)? {
        ValueRef::Integer(n) if kind == Type::Bool => Cell::Bool(n != 0),
        ValueRef::Integer(n) => Cell::Number(n),
        ValueRef::Text(text) => Cell::Text(std::str::from_utf8(text).unwrap_or_default()),
        ValueRef::Blob(bytes) => Cell::Id(Id(u128::from_be_bytes(
            bytes.try_into().map_err(|_| io::Error::other("an id of another length"))?,
        ))),
        ValueRef::Null | ValueRef::Real(_) => Cell::None,
    })
}

fn csv(row: &Row<'_>, line: &mut Vec<u8>) -> Result<(), Error> {
    for (place, (_, kind)) in COLUMNS.into_iter().enumerate() {
        if place > 0 {
            line.push(b',');
        }
        match cell(row, place, kind)? {
            Cell::None => {}
            Cell::Number(n) => write!(line, "{n}")?,
            Cell::Bool(yes) => write!(line, "{yes}")?,
            Cell::Id(id) => write!(line, "{id}")?,
            Cell::Text(text) if text.contains([',', '"', '\r', '\n']) => {
                line.push(b'"');
                line.extend_from_slice(text.replace('"', "\"\"").as_bytes());
                line.push(b'"');
            }
            Cell::Text(text) => line.extend_from_slice(text.as_bytes()),
        }
    }
    line.push(b'\r');
    Ok(())
}

fn jsonl(row: &Row<'_>, line: &mut Vec<u8>) -> Result<(), Error> {
    let mut broken = None;
    writer::object(line, |o| {
        for (place, (name, kind)) in COLUMNS.into_iter().enumerate() {
            match cell(row, place, kind) {
                Ok(Cell::None) => o.null(name),
                Ok(Cell::Number(n)) => {
                    let _ = write!(o.value(name), "{n}");
                }
                Ok(Cell::Bool(yes)) => o.bool(name, yes),
                Ok(Cell::Id(id)) => o.string(name, &id.to_string()),
                Ok(Cell::Text(text)) => o.string(name, text),
                Err(error) => broken = Some(error),
            }
        }
    });
    broken.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::exchange::record::{Intent, Settlement};
    use crate::store::drain::Shared;
    use crate::store::journal::Journal;
    use crate::store::worker::Worker;

    #[test]
    fn rows_are_written_as_the_columns_say() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Arc::new(Journal::open(dir.path()).unwrap());
        for n in 1..=2 {
            let tags = r#"{"a":"say \"x\", y"}"#;
            let intent = Intent {
                attempt: Id(n),
                at: 1_000 * n as u64,
                key: "k,1".into(),
                tags: tags.into(),
                ..Intent::default()
            };
            journal.append_intent(&intent).unwrap();
        }
        let end =
            Settlement { attempt: Id(1), begun: 1_000, at: 1_005, cost: 7, served: true, ..Settlement::default() };
        journal.append_settlement(&end).unwrap();
        Worker::new(journal, dir.path(), Arc::new(Shared::default())).pass().unwrap();
        let written = |from, to, format| {
            let mut out = Vec::new();
            let rows = export(dir.path(), from, to, format, &mut out).unwrap();
            (rows, String::from_utf8(out).unwrap())
        };
        let (rows, text) = written(None, None, Format::Csv);
        let lines: Vec<_> = text.split_terminator("\r\n").collect();
        assert_eq!((rows, lines.len()), (2, 3));
        assert!(lines[0].starts_with("attempt,request,number,state,at,"));
        let first = "00000000-0000-0000-0000-000000000001,00000000-0000-0000-0000-000000000000,0,settled,1000,1005,\"k,1\",,,,,";
        assert!(lines[1].starts_with(first), "{}", lines[1]);
        assert!(lines[1].contains(r#","{""a"":""say \""x\"", y""}","#), "{}", lines[1]);
        let (rows, text) = written(Some(2_000), Some(3_000), Format::Jsonl);
        let row: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (rows, &row["state"], &row["cost"], &row["outcome"]),
            (1, &"open".into(), &0.into(), &serde_json::Value::Null)
        );
        assert_eq!(row.as_object().unwrap().len(), COLUMNS.len());
        assert_eq!(written(Some(3_000), None, Format::Jsonl).0, 0);
    }
}
