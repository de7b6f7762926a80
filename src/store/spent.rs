//! What levels have spent, folded from the rows of the ledger: for budgets, which are restored from it and kept true by it.

use std::collections::HashMap;

use rusqlite::params;

use crate::policy::budget::Span;
use crate::store::books::{Error, whole};
use crate::store::query::Reader;
use crate::store::schema::first_id;

/// What the attempts of one level cost, those that are open or orphaned at their reserve. Nano-dollars.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Of all rows.
    pub all: u128,
    /// Of those that other processes wrote, or this one before a moment.
    pub others: u128,
}

/// What tells whether other processes have written since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    drained: i64,
    segments: i64,
    open: i64,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// `key`, `team`, ...
    pub kind: &'static str,
    /// What was charged, and not what it cost.
    pub charges: bool,
    pub span: Span,
    /// What this process dispatched from then on (Unix milliseconds) is not others', nor are rolled-up days that began from
    /// `born` on, in which nobody can tell who wrote what: they may be our own.
    pub since: u64,
    pub born: u64,
}

/// Of an open row, of one that is over, of a rollup; what has no charge of its own is charged what it costs.
const COSTS: [&str; 3] = ["e.reserve", "e.cost", "r.cost"];
const CHARGES: [&str; 3] =
    ["coalesce(e.charge_reserve, e.reserve)", "coalesce(e.charge, e.cost)", "coalesce(r.charge, r.cost)"];

/// Sums in two parts: one of whole numbers could pass 2^63.
const FOLD: &str = "
    WITH rows AS (
        SELECT a.LEVEL AS level, CASE e.state WHEN 0 THEN OPEN ELSE OVER END AS spent,
            e.process IS NOT (SELECT id FROM processes WHERE name = ?1) OR e.id < ?2 AS other
        FROM entries e JOIN accounts a ON a.id = e.account WHERE e.id >= ?3 AND e.id < ?4 AND a.LEVEL <> ''
        UNION ALL
        SELECT a.LEVEL, ROLLED, r.at < ?5
        FROM rollups r JOIN accounts a ON a.id = r.account WHERE r.at >= ?6 AND r.at < ?7 AND a.LEVEL <> ''
    )
    SELECT level, sum(spent >> 32), sum(spent & 4294967295), sum(other * (spent >> 32)),
        sum(other * (spent & 4294967295))
    FROM rows GROUP BY level";

const FOREIGN: &str = "
    SELECT coalesce(sum(offset), 0), count(*),
        (SELECT count(*) FROM entries WHERE state = 0 AND process IS NOT (SELECT id FROM processes WHERE name = ?1))
    FROM segments WHERE substr(name, 1, length(?1)) <> ?1";

/// Each level of a kind that has rows in a window, by its id; `own` is this process.
pub(super) fn spent(reader: &Reader, own: &str, asked: &Asked) -> Result<HashMap<String, Spent>, Error> {
    let Asked { kind, charges, span, since, born } = *asked;
    let Some(column) = ["key", "user", "project", "team", "organisation"].into_iter().find(|column| *column == kind)
    else {
        return Ok(HashMap::new());
    };
    let to = if span.to == u64::MAX { i64::MAX } else { first_id(span.to) };
    reader.with(|conn| {
        let [open, over, rolled] = if charges { CHARGES } else { COSTS };
        let fold = FOLD.replace("LEVEL", column).replace("OPEN", open).replace("OVER", over).replace("ROLLED", rolled);
        let mut select = conn.prepare_cached(&fold)?;
        let (first, since) = (first_id(span.from), first_id(since));
        let mut rows = select.query(params![own, since, first, to, whole(born), whole(span.from), whole(span.to)])?;
        let mut found = HashMap::new();
        while let Some(row) = rows.next()? {
            let part = |place| row.get::<_, i64>(place).map(|part| u128::try_from(part).unwrap_or(0));
            let all = (part(1)? << 32) + part(2)?;
            let others = (part(3)? << 32) + part(4)?;
            found.insert(row.get(0)?, Spent { all, others });
        }
        Ok(found)
    })
}

/// Changes with whatever processes other than `own` write.
pub(super) fn foreign(reader: &Reader, own: &str) -> Result<Foreign, Error> {
    reader.with(|conn| {
        let mut select = conn.prepare_cached(FOREIGN)?;
        let read =
            |row: &rusqlite::Row<'_>| Ok(Foreign { drained: row.get(0)?, segments: row.get(1)?, open: row.get(2)? });
        Ok(select.query_row([own], read)?)
    })
}
