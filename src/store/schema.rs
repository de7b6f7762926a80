//! The ledger's tables, and what leads from each form of theirs to the next.
//!
//! Every call is a row of `entries`, and to write that row is the larger part of what metering costs a busy machine. So
//! rows are small: what many attempts have in common (key, model, target and the like) is an account, written once. And
//! there is one index, on the account: a row's id begins with the time of its dispatch, so rows lie in the order of
//! time, and [`first_id`] with the attempt's own id finds a row again. The view `attempts` shows everything under its
//! name, for people and their tools.

use rusqlite::{Connection, TransactionBehavior};

use crate::store::books::Error;

/// What leads from each schema to the next; `user_version` counts them. Append only. An older binary reads and writes
/// a newer schema as long as the ledger's `writable_by` allows it, so additions come with defaults and nothing is
/// renamed, or `writable_by` says so.
pub const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE attempts (
        attempt BLOB PRIMARY KEY, request BLOB NOT NULL, owner TEXT NOT NULL, state TEXT NOT NULL,
        at INTEGER NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL, project TEXT, asked TEXT NOT NULL,
        model TEXT NOT NULL, provider TEXT NOT NULL, target TEXT NOT NULL, stream INTEGER NOT NULL,
        price_version TEXT NOT NULL, reserve INTEGER NOT NULL, input_estimate INTEGER NOT NULL,
        config_version TEXT NOT NULL, tags TEXT NOT NULL,
        settled_at INTEGER, outcome TEXT, status INTEGER, input INTEGER, output INTEGER, cached INTEGER,
        cache_write INTEGER, cache_write_1h INTEGER, reasoning INTEGER, usage TEXT,
        estimated INTEGER NOT NULL DEFAULT 0, cost INTEGER NOT NULL DEFAULT 0, unpriced INTEGER NOT NULL DEFAULT 0,
        latency_us INTEGER, ttft_us INTEGER, served INTEGER NOT NULL DEFAULT 0, losses TEXT
    ) WITHOUT ROWID;
    CREATE INDEX attempts_key_at ON attempts (key, at);
    CREATE INDEX attempts_at ON attempts (at);
    CREATE INDEX attempts_open ON attempts (owner) WHERE state = 'open';
    CREATE TABLE segments (name TEXT PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID;
",
    "
    CREATE TABLE meta (name TEXT PRIMARY KEY NOT NULL, value) WITHOUT ROWID;
    INSERT INTO meta (name, value) VALUES ('writable_by', 1);
",
    // Entries and accounts. A row that had no usage has NULL in `input`; parts of usage without a column are JSON.
    "
    CREATE TABLE accounts (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, project TEXT, asked TEXT NOT NULL, model TEXT NOT NULL,
        provider TEXT NOT NULL, target TEXT NOT NULL, stream INTEGER NOT NULL, price_version TEXT NOT NULL,
        config_version TEXT NOT NULL
    );
    CREATE INDEX accounts_key ON accounts (key, config_version, target);
    CREATE TABLE processes (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE entries (
        id INTEGER PRIMARY KEY, attempt BLOB NOT NULL, request BLOB NOT NULL, process INTEGER NOT NULL,
        state INTEGER NOT NULL, account INTEGER NOT NULL, number INTEGER NOT NULL, reserve INTEGER NOT NULL,
        input_estimate INTEGER NOT NULL, tags TEXT,
        settled_at INTEGER, outcome TEXT, status INTEGER, input INTEGER, output INTEGER, cached INTEGER,
        cache_write INTEGER, cache_write_1h INTEGER, reasoning INTEGER, other_usage TEXT, stated_total INTEGER,
        estimated INTEGER NOT NULL DEFAULT 0, cost INTEGER NOT NULL DEFAULT 0, unpriced INTEGER NOT NULL DEFAULT 0,
        latency_us INTEGER, ttft_us INTEGER, served INTEGER NOT NULL DEFAULT 0, losses TEXT
    );

    INSERT INTO processes (name) SELECT DISTINCT owner FROM attempts;
    INSERT INTO accounts (key, project, asked, model, provider, target, stream, price_version, config_version)
        SELECT DISTINCT key, project, asked, model, provider, target, stream, price_version, config_version
        FROM attempts;
    CREATE TEMP VIEW moving AS
        SELECT min(max(a.at, 0), 8796093022207) << 20 AS first,
            ((instr('0123456789ABCDEF', substr(hex(a.attempt), 28, 1)) - 1) << 16)
                | ((instr('0123456789ABCDEF', substr(hex(a.attempt), 29, 1)) - 1) << 12)
                | ((instr('0123456789ABCDEF', substr(hex(a.attempt), 30, 1)) - 1) << 8)
                | ((instr('0123456789ABCDEF', substr(hex(a.attempt), 31, 1)) - 1) << 4)
                | (instr('0123456789ABCDEF', substr(hex(a.attempt), 32, 1)) - 1) AS place,
            a.attempt, a.request, p.id AS process,
            CASE a.state WHEN 'open' THEN 0 WHEN 'settled' THEN 1 ELSE 2 END AS state,
            c.id AS account, a.number, a.reserve, a.input_estimate, nullif(a.tags, '{}') AS tags, a.settled_at,
            a.outcome, a.status, a.input, a.output, a.cached, a.cache_write, a.cache_write_1h, a.reasoning,
            nullif(json_remove(a.usage, '$.input', '$.output', '$.cached', '$.cache_write', '$.cache_write_1h',
                '$.reasoning', '$.stated_total'), '{}') AS other_usage,
            a.usage ->> '$.stated_total' AS stated_total,
            a.estimated, a.cost, a.unpriced, a.latency_us, a.ttft_us, a.served, nullif(a.losses, '') AS losses
        FROM main.attempts a JOIN main.processes p ON p.name = a.owner
            JOIN main.accounts c ON c.key = a.key AND c.config_version = a.config_version AND c.target = a.target
                AND c.project IS a.project AND c.asked = a.asked AND c.model = a.model AND c.provider = a.provider
                AND c.stream = a.stream AND c.price_version = a.price_version;
    INSERT OR IGNORE INTO entries
        SELECT first | place, attempt, request, process, state, account, number, reserve, input_estimate, tags,
            settled_at, outcome, status, input, output, cached, cache_write, cache_write_1h, reasoning, other_usage,
            stated_total, estimated, cost, unpriced, latency_us, ttft_us, served, losses
        FROM moving;
    -- Those whose place in their millisecond was taken go behind all others, or before them where there is more room.
    INSERT INTO entries
        SELECT (SELECT CASE WHEN max(id) + min(id) > 2 * first + 1048575 THEN min(id) - rank ELSE max(id) + rank END
                FROM entries WHERE id >= first AND id <= first | 1048575),
            attempt, request, process, state, account, number, reserve, input_estimate, tags,
            settled_at, outcome, status, input, output, cached, cache_write, cache_write_1h, reasoning, other_usage,
            stated_total, estimated, cost, unpriced, latency_us, ttft_us, served, losses
        FROM (
            SELECT *, row_number() OVER (PARTITION BY first ORDER BY attempt) AS rank FROM moving m
            WHERE NOT EXISTS (
                SELECT 1 FROM entries e WHERE e.id >= first AND e.id <= first | 1048575 AND e.attempt = m.attempt
            )
        );
    DROP VIEW moving;
    DROP TABLE attempts;

    CREATE INDEX entries_account ON entries (account);
    CREATE INDEX entries_open ON entries (process) WHERE state = 0;
    CREATE VIEW attempts AS
        SELECT e.id, e.attempt, e.request, p.name AS owner,
            CASE e.state WHEN 0 THEN 'open' WHEN 1 THEN 'settled' ELSE 'orphaned' END AS state,
            e.id >> 20 AS at, e.number, a.key, a.project, a.asked, a.model, a.provider, a.target, a.stream,
            a.price_version, e.reserve, e.input_estimate, a.config_version, e.tags, e.settled_at, e.outcome, e.status,
            e.input, e.output, e.cached, e.cache_write, e.cache_write_1h, e.reasoning, e.other_usage, e.stated_total,
            e.estimated, e.cost, e.unpriced, e.latency_us, e.ttft_us, e.served, e.losses
        FROM entries e JOIN accounts a ON a.id = e.account JOIN processes p ON p.id = e.process;
    UPDATE meta SET value = 3 WHERE name = 'writable_by';
",
    // Whom keys belong to, where and why calls went, and what recomputes a cost. A process of an earlier version may still
    // write: its rows have none of this, or that of an account that is otherwise the same.
    "
    ALTER TABLE accounts ADD COLUMN team TEXT NOT NULL DEFAULT '';
    ALTER TABLE accounts ADD COLUMN organisation TEXT NOT NULL DEFAULT '';
    ALTER TABLE accounts ADD COLUMN user TEXT NOT NULL DEFAULT '';
    ALTER TABLE accounts ADD COLUMN region TEXT NOT NULL DEFAULT '';
    ALTER TABLE accounts ADD COLUMN dialect TEXT NOT NULL DEFAULT '';
    ALTER TABLE accounts ADD COLUMN route TEXT NOT NULL DEFAULT '';
    ALTER TABLE accounts ADD COLUMN rates TEXT NOT NULL DEFAULT '';
    ALTER TABLE entries ADD COLUMN share TEXT;
    DROP VIEW attempts;
    CREATE VIEW attempts AS
        SELECT e.id, e.attempt, e.request, p.name AS owner,
            CASE e.state WHEN 0 THEN 'open' WHEN 1 THEN 'settled' ELSE 'orphaned' END AS state,
            e.id >> 20 AS at, e.number, a.key, a.user, a.project, a.team, a.organisation, a.dialect, a.asked, a.model,
            a.provider, a.target, a.region, a.route, a.stream, a.price_version, a.rates, e.reserve, e.input_estimate,
            a.config_version, e.tags, e.settled_at, e.outcome, e.status, e.input, e.output, e.cached, e.cache_write,
            e.cache_write_1h, e.reasoning, e.other_usage, e.stated_total, e.estimated, e.cost, e.share, e.unpriced,
            e.latency_us, e.ttft_us, e.served, e.losses
        FROM entries e JOIN accounts a ON a.id = e.account JOIN processes p ON p.id = e.process;
",
    // Days whose rows are gone: sums by account, end and tags, and the requests that may have rows elsewhere too, which are
    // not in the sum. Who rolls up for the first time says that earlier versions, which know nothing of this, must not write.
    "
    CREATE TABLE rollups (
        id INTEGER PRIMARY KEY, at INTEGER NOT NULL, until INTEGER NOT NULL, account INTEGER NOT NULL,
        outcome TEXT NOT NULL, tags TEXT NOT NULL, requests INTEGER NOT NULL, attempts INTEGER NOT NULL,
        errors INTEGER NOT NULL, open INTEGER NOT NULL, orphaned INTEGER NOT NULL, served INTEGER NOT NULL,
        input INTEGER NOT NULL, output INTEGER NOT NULL, cached INTEGER NOT NULL, cache_write INTEGER NOT NULL,
        cache_write_1h INTEGER NOT NULL, reasoning INTEGER NOT NULL, audio_input INTEGER NOT NULL,
        audio_output INTEGER NOT NULL, searches INTEGER NOT NULL, cost INTEGER NOT NULL, saved INTEGER NOT NULL,
        unpriced INTEGER NOT NULL, estimated INTEGER NOT NULL, settled INTEGER NOT NULL, latency_us INTEGER NOT NULL,
        answered INTEGER NOT NULL, ttft_us INTEGER NOT NULL, latencies BLOB NOT NULL, ttfts BLOB NOT NULL
    );
    CREATE UNIQUE INDEX rollups_cell ON rollups (at, account, outcome, tags);
    CREATE INDEX rollups_account ON rollups (account);
    CREATE TABLE rollup_requests (
        rollup INTEGER NOT NULL, request BLOB NOT NULL, PRIMARY KEY (rollup, request)
    ) WITHOUT ROWID;
",
    // What callers are charged, where that is other than what it costs; what has no charge is charged what it costs. Who
    // writes the first charge says that earlier versions, which would leave them out, must not write.
    "
    ALTER TABLE accounts ADD COLUMN charge_version TEXT NOT NULL DEFAULT '';
    ALTER TABLE accounts ADD COLUMN charge_rates TEXT NOT NULL DEFAULT '';
    ALTER TABLE entries ADD COLUMN charge_reserve INTEGER;
    ALTER TABLE entries ADD COLUMN charge INTEGER;
    ALTER TABLE rollups ADD COLUMN charge INTEGER;
    DROP VIEW attempts;
    CREATE VIEW attempts AS
        SELECT e.id, e.attempt, e.request, p.name AS owner,
            CASE e.state WHEN 0 THEN 'open' WHEN 1 THEN 'settled' ELSE 'orphaned' END AS state,
            e.id >> 20 AS at, e.number, a.key, a.user, a.project, a.team, a.organisation, a.dialect, a.asked, a.model,
            a.provider, a.target, a.region, a.route, a.stream, a.price_version, a.rates, e.reserve, e.input_estimate,
            a.config_version, e.tags, e.settled_at, e.outcome, e.status, e.input, e.output, e.cached, e.cache_write,
            e.cache_write_1h, e.reasoning, e.other_usage, e.stated_total, e.estimated, e.cost, e.share, e.unpriced,
            e.latency_us, e.ttft_us, e.served, e.losses, e.charge_reserve, e.charge, a.charge_version, a.charge_rates
        FROM entries e JOIN accounts a ON a.id = e.account JOIN processes p ON p.id = e.process;
",
];

/// The first schema that knows of rollups and charges.
pub const CHARGES: u32 = 6;

/// `state` of an entry.
pub const OPEN: u8 = 0;
pub const SETTLED: u8 = 1;

/// Bits of an entry's id below the time of its dispatch (Unix milliseconds). They are the last ones of the attempt's
/// own id, and some others where another attempt of that millisecond has these.
pub const TIME_SHIFT: u32 = 20;
/// Latest time that fits into an id: in the year 2248.
const LATEST: u64 = (1 << (63 - TIME_SHIFT)) - 1;

/// The lowest id of a millisecond.
pub fn first_id(at: u64) -> i64 {
    i64::try_from(at.min(LATEST)).unwrap_or(0) << TIME_SHIFT
}

/// The highest id of a millisecond.
pub fn last_id(at: u64) -> i64 {
    first_id(at) | ((1 << TIME_SHIFT) - 1)
}

/// Brings the schema to this version, or refuses a ledger that this version must not write to.
pub fn migrate(conn: &mut Connection) -> Result<(), Error> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let schema: u32 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let ours = u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX);
    if schema > ours {
        let oldest: u32 = tx.query_row("SELECT value FROM meta WHERE name = 'writable_by'", [], |row| row.get(0))?;
        return if oldest > ours { Err(Error::TooNew { schema }) } else { Ok(()) };
    }
    for (number, migration) in (1u32..).zip(MIGRATIONS) {
        if number > schema {
            tx.execute_batch(migration)?;
            tx.pragma_update(None, "user_version", number)?;
        }
    }
    tx.commit()?;
    Ok(())
}
