//! Records on their way into the ledger: one transaction, one row for each attempt.

use std::collections::HashMap;

use rusqlite::{CachedStatement, Connection, OptionalExtension, ToSql, Transaction, TransactionBehavior, params};

use crate::exchange::record::{Id, Intent, Record, Settlement};
use crate::ir::Usage;
use crate::store::books::{Error, whole};
use crate::store::failpoint;
use crate::store::schema::{CHARGES, OPEN, SETTLED, TIME_SHIFT, first_id, last_id};
use crate::wire::writer;

/// Accounts whose ids are kept in memory.
const MOST_ACCOUNTS: usize = 10_000;

const INSERT: &str = "
    INSERT INTO entries (id, attempt, request, process, account, number, reserve, input_estimate, tags, state,
        settled_at, outcome, status, input, output, cached, cache_write, cache_write_1h, reasoning, other_usage,
        stated_total, estimated, cost, unpriced, latency_us, ttft_us, served, losses, share, charge, charge_reserve)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23,
        ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31)
    ON CONFLICT DO NOTHING";

/// The last settlement counts, but one that only says that the answer is still being drained never undoes a final one.
const SETTLE: &str = "
    UPDATE entries SET state = ?4, settled_at = ?5, outcome = ?6, status = ?7, input = ?8, output = ?9, cached = ?10,
        cache_write = ?11, cache_write_1h = ?12, reasoning = ?13, other_usage = ?14, stated_total = ?15,
        estimated = ?16, cost = ?17, unpriced = ?18, latency_us = ?19, ttft_us = ?20, served = ?21, losses = ?22,
        share = ?23, charge = ?24
    WHERE id >= ?1 AND id <= ?2 AND attempt = ?3 AND (state <> ?4 OR outcome = 'draining' OR ?6 <> 'draining')";

/// An intent that comes once more, or after the settlement of its attempt: what is known of that stays.
const RESTATE: &str = "
    UPDATE entries SET request = ?4, account = ?5, number = ?6, reserve = ?7, input_estimate = ?8, tags = ?9, charge_reserve = ?10
    WHERE id >= ?1 AND id <= ?2 AND attempt = ?3";

const KNOWN: &str = "SELECT 1 FROM entries WHERE id >= ?1 AND id <= ?2 AND attempt = ?3";

/// Where a settlement does not say when its attempt was begun: first among the open ones, which are few.
const FIND: &str = "
    SELECT id FROM entries WHERE state = 0 AND process = ?1 AND attempt = ?2
    UNION ALL SELECT id FROM entries WHERE attempt = ?2 LIMIT 1";

/// Ids of accounts, by what makes them.
pub type Accounts = HashMap<Box<[u8]>, i64>;

/// What is not committed has not happened.
pub struct Batch<'b, 'r> {
    insert: CachedStatement<'b>,
    settle: CachedStatement<'b>,
    tx: Transaction<'b>,
    /// Whose records they are.
    process: i64,
    accounts: &'b mut Accounts,
    /// Accounts that are in the database only when the transaction is.
    opened: Accounts,
    /// What makes the account that is being looked for.
    wanted: Vec<u8>,
    /// Intents that no settlement has followed so far: most attempts begin and end between two drains, and their rows
    /// are written once, not opened and then settled.
    begun: HashMap<Id, Intent<'r>>,
}

impl<'b, 'r> Batch<'b, 'r> {
    /// Begins to write records of a process.
    pub fn begin(conn: &'b Connection, accounts: &'b mut Accounts, owner: &str) -> Result<Batch<'b, 'r>, Error> {
        let tx = Transaction::new_unchecked(conn, TransactionBehavior::Immediate)?;
        failpoint::reach("drain.begin");
        let mut process = conn.prepare_cached("SELECT id FROM processes WHERE name = ?1")?;
        let process = match process.query_row([owner], |row| row.get(0)).optional()? {
            Some(process) => process,
            None => {
                conn.prepare_cached("INSERT INTO processes (name) VALUES (?1)")?.execute([owner])?;
                conn.last_insert_rowid()
            }
        };
        Ok(Batch {
            insert: conn.prepare_cached(INSERT)?,
            settle: conn.prepare_cached(SETTLE)?,
            tx,
            process,
            accounts,
            opened: HashMap::new(),
            wanted: Vec::new(),
            begun: HashMap::new(),
        })
    }

    /// Writes a record, or keeps it in mind until [`Batch::commit`].
    pub fn post(&mut self, record: Record<'r>) -> Result<(), Error> {
        match record {
            Record::Intent(intent) => {
                self.begun.insert(intent.attempt, intent);
            }
            Record::Settlement(end) => match self.begun.remove(&end.attempt) {
                Some(intent) if self.insert(&intent, Some(&end))? => {}
                Some(intent) => {
                    self.open(&intent)?;
                    self.settle(&end)?;
                }
                None => self.settle(&end)?,
            },
            Record::Note => {}
        }
        Ok(())
    }

    /// Makes all of it last, and notes that the segment is drained up to there: all or nothing.
    pub fn commit(mut self, segment: &str, drained: u64) -> Result<(), Error> {
        for (_, intent) in std::mem::take(&mut self.begun) {
            self.open(&intent)?;
        }
        failpoint::reach("rows.written");
        self.tx
            .prepare_cached("INSERT OR REPLACE INTO segments (name, offset) VALUES (?1, ?2)")?
            .execute(params![segment, whole(drained)])?;
        failpoint::reach("offset.written");
        self.tx.commit()?;
        failpoint::reach("commit.after");
        if self.accounts.len() + self.opened.len() > MOST_ACCOUNTS {
            self.accounts.clear();
        }
        self.accounts.extend(self.opened);
        Ok(())
    }

    fn open(&mut self, intent: &Intent<'_>) -> Result<(), Error> {
        if self.insert(intent, None)? {
            return Ok(());
        }
        let account = self.account(intent)?;
        self.tx.prepare_cached(RESTATE)?.execute(params![
            first_id(intent.at),
            last_id(intent.at),
            bytes(intent.attempt),
            bytes(intent.request),
            account,
            intent.number,
            whole(intent.reserve),
            whole(intent.input_estimate),
            some(&intent.tags),
            intent.charge.as_ref().map(|charge| whole(charge.reserve)),
        ])?;
        Ok(())
    }

    fn settle(&mut self, end: &Settlement<'_>) -> Result<(), Error> {
        let mut at = end.begun;
        if at == 0 {
            let mut find = self.tx.prepare_cached(FIND)?;
            let found = find.query_row(params![self.process, bytes(end.attempt)], |row| row.get::<_, i64>(0));
            at = found.optional()?.map_or(end.at, |id| u64::try_from(id >> TIME_SHIFT).unwrap_or(0));
        }
        let mut values = Values { statement: &mut self.settle, bound: 0 };
        values.next(first_id(at))?;
        values.next(last_id(at))?;
        values.next(bytes(end.attempt))?;
        values.end(end)?;
        if self.settle.raw_execute()? == 0 {
            // Either it is settled for good, or its intent was lost to damage: what was spent is never dropped.
            let blank = Intent { attempt: end.attempt, request: end.attempt, at, ..Intent::default() };
            self.insert(&blank, Some(end))?;
        }
        Ok(())
    }

    /// Writes a new row. `false`: there is one of this attempt already.
    fn insert(&mut self, intent: &Intent<'_>, end: Option<&Settlement<'_>>) -> Result<bool, Error> {
        let account = self.account(intent)?;
        let (first, last) = (first_id(intent.at), last_id(intent.at));
        let own = i64::try_from(intent.attempt.0 & ((1 << TIME_SHIFT) - 1)).unwrap_or(0);
        if self.insert_as(first | own, account, intent, end)? {
            return Ok(true);
        }
        let mut known = self.tx.prepare_cached(KNOWN)?;
        if known.exists(params![first, last, bytes(intent.attempt)])? {
            return Ok(false);
        }
        drop(known);
        // Another attempt of the same millisecond has the same last bits.
        for other in 1..=1 << TIME_SHIFT {
            if self.insert_as(first | ((own + other) & (last - first)), account, intent, end)? {
                break;
            }
        }
        Ok(true)
    }

    /// `false`: another row has this id.
    fn insert_as(
        &mut self,
        id: i64,
        account: i64,
        intent: &Intent<'_>,
        end: Option<&Settlement<'_>>,
    ) -> Result<bool, Error> {
        let mut values = Values { statement: &mut self.insert, bound: 0 };
        values.next(id)?;
        values.next(bytes(intent.attempt))?;
        values.next(bytes(intent.request))?;
        values.next(self.process)?;
        values.next(account)?;
        values.next(intent.number)?;
        values.next(whole(intent.reserve))?;
        values.next(whole(intent.input_estimate))?;
        values.next(some(&intent.tags))?;
        match end {
            Some(end) => values.end(end)?,
            None => values.no_end()?,
        }
        values.next(intent.charge.as_ref().map(|charge| whole(charge.reserve)))?;
        Ok(self.insert.raw_execute()? == 1)
    }

    /// The id of the intent's account, which is opened where there is none.
    fn account(&mut self, intent: &Intent<'_>) -> Result<i64, Error> {
        // No text has such a byte.
        const END: u8 = 0xff;
        let (charge_version, charge_rates) =
            intent.charge.as_ref().map_or(("", ""), |charge| (&*charge.version, &*charge.rates));
        self.wanted.clear();
        self.wanted.push(u8::from(intent.stream));
        for text in [
            &intent.key,
            &intent.asked,
            &intent.model,
            &intent.provider,
            &intent.target,
            &intent.price_version,
            &intent.config_version,
            &intent.team,
            &intent.organisation,
            &intent.user,
            &intent.region,
            &intent.dialect,
            &intent.route,
            &intent.rates,
        ] {
            self.wanted.extend_from_slice(text.as_bytes());
            self.wanted.push(END);
        }
        for text in [charge_version, charge_rates] {
            self.wanted.extend_from_slice(text.as_bytes());
            self.wanted.push(END);
        }
        if let Some(project) = &intent.project {
            self.wanted.push(END);
            self.wanted.extend_from_slice(project.as_bytes());
        }
        if let Some(id) = self.accounts.get(&*self.wanted).or_else(|| self.opened.get(&*self.wanted)) {
            return Ok(*id);
        }
        let values = params![
            intent.key,
            intent.project,
            intent.asked,
            intent.model,
            intent.provider,
            intent.target,
            intent.stream,
            intent.price_version,
            intent.config_version,
            intent.team,
            intent.organisation,
            intent.user,
            intent.region,
            intent.dialect,
            intent.route,
            intent.rates,
            charge_version,
            charge_rates,
        ];
        let known = "
            SELECT id FROM accounts
            WHERE key = ?1 AND project IS ?2 AND asked = ?3 AND model = ?4 AND provider = ?5 AND target = ?6
                AND stream = ?7 AND price_version = ?8 AND config_version = ?9 AND team = ?10 AND organisation = ?11
                AND user = ?12 AND region = ?13 AND dialect = ?14 AND route = ?15 AND rates = ?16
                AND charge_version = ?17 AND charge_rates = ?18";
        let new = "
            INSERT INTO accounts (key, project, asked, model, provider, target, stream, price_version, config_version,
                team, organisation, user, region, dialect, route, rates, charge_version, charge_rates)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)";
        let id = match self.tx.prepare_cached(known)?.query_row(values, |row| row.get(0)).optional()? {
            Some(id) => id,
            None => {
                self.tx.prepare_cached(new)?.execute(values)?;
                let id = self.tx.last_insert_rowid();
                if intent.charge.is_some() {
                    let writable = "UPDATE meta SET value = max(value, ?1) WHERE name = 'writable_by'";
                    self.tx.prepare_cached(writable)?.execute([CHARGES])?;
                }
                id
            }
        };
        self.opened.insert(self.wanted.as_slice().into(), id);
        Ok(id)
    }
}

/// Values being bound to a statement, in their order.
struct Values<'v, 'b> {
    statement: &'v mut CachedStatement<'b>,
    bound: usize,
}

impl Values<'_, '_> {
    fn next(&mut self, value: impl ToSql) -> Result<(), Error> {
        self.bound += 1;
        Ok(self.statement.raw_bind_parameter(self.bound, value)?)
    }

    /// The columns from `state` to `charge`.
    fn end(&mut self, end: &Settlement<'_>) -> Result<(), Error> {
        self.next(SETTLED)?;
        self.next(whole(end.at))?;
        self.next(&*end.outcome)?;
        self.next(end.status)?;
        match &end.usage {
            Some(usage) => {
                self.next(whole(usage.input))?;
                self.next(whole(usage.output))?;
                self.next(whole(usage.cached))?;
                self.next(whole(usage.cache_write))?;
                self.next(whole(usage.cache_write_1h))?;
                self.next(whole(usage.reasoning))?;
                self.next(other(usage))?;
                self.next(usage.stated_total.map(whole))?;
            }
            None => self.nulls(8)?,
        }
        self.next(end.estimated)?;
        self.next(whole(end.cost))?;
        self.next(end.unpriced)?;
        self.next(whole(end.latency_us))?;
        self.next(whole(end.ttft_us))?;
        self.next(end.served)?;
        self.next(some(&end.losses))?;
        self.next(some(&end.share))?;
        self.next(end.charge.map(whole))
    }

    /// The same columns of an attempt that goes on.
    fn no_end(&mut self) -> Result<(), Error> {
        self.next(OPEN)?;
        self.nulls(11)?;
        self.next(false)?;
        self.next(0)?;
        self.next(false)?;
        self.nulls(2)?;
        self.next(false)?;
        self.nulls(3)
    }

    fn nulls(&mut self, count: usize) -> Result<(), Error> {
        (0..count).try_for_each(|_| self.next(None::<i64>))
    }
}

fn bytes(id: Id) -> [u8; 16] {
    id.0.to_be_bytes()
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Parts of usage that have no columns of their own.
fn other(usage: &Usage) -> Option<String> {
    let rare = Usage {
        input: 0,
        output: 0,
        cached: 0,
        cache_write: 0,
        cache_write_1h: 0,
        reasoning: 0,
        stated_total: None,
        ..*usage
    };
    if rare == Usage::default() {
        return None;
    }
    let mut out = Vec::new();
    writer::object(&mut out, |o| rare.write(o));
    String::from_utf8(out).ok()
}
