//! Questions to the ledger: what they can be about, and the connection that they are asked through.

use std::borrow::Cow;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::tz::TimeZone;
use rusqlite::{Connection, OpenFlags, Row};

use crate::exchange::record::{Charged, Id, Intent, Settlement};
use crate::ir::Usage;
use crate::store::books::{self, Error};
use crate::store::fold::{self, Report};

/// Most rows of one answer: the dearest groups, the newest attempts.
pub const MOST_ROWS: usize = 10_000;
/// Most groupings of one question.
pub const MOST_GROUPS: usize = 8;
const BUSY: Duration = Duration::from_secs(2);
/// Through the view all rows would have to be sorted.
const RECENT: &str = "
    SELECT * FROM attempts WHERE id IN (SELECT id FROM entries ORDER BY id DESC LIMIT ?1) ORDER BY id DESC";

/// What to ask of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Only attempts that have these values; of several values for one thing any will do.
    pub only: Vec<(GroupBy, String)>,
    /// Of the dispatch, in Unix milliseconds; the first included, the last not.
    pub from: Option<u64>,
    pub to: Option<u64>,
    /// No more than eight are used.
    pub group_by: Vec<GroupBy>,
    /// Whose hours, days, weeks and months they are.
    pub zone: TimeZone,
    /// How many groups, and how many to leave out before them.
    pub limit: usize,
    pub skip: usize,
}

impl Default for Query {
    fn default() -> Self {
        Query {
            only: Vec::new(),
            from: None,
            to: None,
            group_by: Vec::new(),
            zone: TimeZone::UTC,
            limit: MOST_ROWS,
            skip: 0,
        }
    }
}

impl Query {
    /// Asks for this one's alone, whatever else is asked for: a caller's own key, a team of an administrator's.
    #[must_use]
    pub fn within(mut self, what: GroupBy, id: &str) -> Query {
        self.only.retain(|(other, _)| *other != what);
        self.only.push((what, id.to_owned()));
        self
    }
}

/// What attempts can be told apart by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    Key,
    User,
    Project,
    Team,
    Organisation,
    /// The model that was asked for.
    Asked,
    /// The model that was tried.
    Model,
    Provider,
    Target,
    Region,
    /// The caller's.
    Dialect,
    /// Why the target was chosen.
    Route,
    PriceVersion,
    Outcome,
    /// The arm of a split: the tag `arm`.
    Arm,
    /// A tag of the calls.
    Tag(String),
    Time(Unit),
}

/// Parts of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Hour,
    Day,
    /// They begin on Mondays.
    Week,
    Month,
}

impl GroupBy {
    /// Those that have a name of one word, for messages.
    pub const NAMES: &str = "key, user, project, team, organisation, asked, model, provider, target, region, dialect, route, \
                             price_version, outcome, arm, tag.NAME, hour, day, week or month";

    pub fn name(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            GroupBy::Key => "key",
            GroupBy::User => "user",
            GroupBy::Project => "project",
            GroupBy::Team => "team",
            GroupBy::Organisation => "organisation",
            GroupBy::Asked => "asked",
            GroupBy::Model => "model",
            GroupBy::Provider => "provider",
            GroupBy::Target => "target",
            GroupBy::Region => "region",
            GroupBy::Dialect => "dialect",
            GroupBy::Route => "route",
            GroupBy::PriceVersion => "price_version",
            GroupBy::Outcome => "outcome",
            GroupBy::Arm => "arm",
            GroupBy::Time(Unit::Hour) => "hour",
            GroupBy::Time(Unit::Day) => "day",
            GroupBy::Time(Unit::Week) => "week",
            GroupBy::Time(Unit::Month) => "month",
            GroupBy::Tag(name) => return Cow::Owned(format!("tag.{name}")),
        })
    }

    /// Reads a grouping by its name.
    pub fn parse(name: &str) -> Option<GroupBy> {
        Some(match name {
            "key" => GroupBy::Key,
            "user" => GroupBy::User,
            "project" => GroupBy::Project,
            "team" => GroupBy::Team,
            "organisation" => GroupBy::Organisation,
            "asked" => GroupBy::Asked,
            "model" => GroupBy::Model,
            "provider" => GroupBy::Provider,
            "target" => GroupBy::Target,
            "region" => GroupBy::Region,
            "dialect" => GroupBy::Dialect,
            "route" => GroupBy::Route,
            "price_version" => GroupBy::PriceVersion,
            "outcome" => GroupBy::Outcome,
            "arm" => GroupBy::Arm,
            "hour" => GroupBy::Time(Unit::Hour),
            "day" => GroupBy::Time(Unit::Day),
            "week" => GroupBy::Time(Unit::Week),
            "month" => GroupBy::Time(Unit::Month),
            _ => GroupBy::Tag(name.strip_prefix("tag.").filter(|name| !name.is_empty())?.to_owned()),
        })
    }

    /// The column of `accounts`, where it is one.
    pub(super) fn column(&self) -> Option<&'static str> {
        Some(match self {
            GroupBy::Key => "key",
            GroupBy::User => "user",
            GroupBy::Project => "project",
            GroupBy::Team => "team",
            GroupBy::Organisation => "organisation",
            GroupBy::Asked => "asked",
            GroupBy::Model => "model",
            GroupBy::Provider => "provider",
            GroupBy::Target => "target",
            GroupBy::Region => "region",
            GroupBy::Dialect => "dialect",
            GroupBy::Route => "route",
            GroupBy::PriceVersion => "price_version",
            GroupBy::Outcome | GroupBy::Arm | GroupBy::Tag(_) | GroupBy::Time(_) => return None,
        })
    }
}

/// One attempt as the ledger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub intent: Intent<'static>,
    pub state: State,
    /// Of an orphan: what it counts for.
    pub settlement: Option<Settlement<'static>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Open,
    Settled,
    Orphaned,
}

/// The database, opened to read. Its calls block: not for the data path.
pub(super) struct Reader {
    path: PathBuf,
    conn: Mutex<Option<(u64, Connection)>>,
}

impl Reader {
    /// The file is opened at the first question.
    pub fn new(state_dir: &Path) -> Reader {
        Reader { path: books::path(state_dir), conn: Mutex::new(None) }
    }

    pub fn report(&self, query: &Query) -> Result<Report, Error> {
        self.with(|conn| fold::report(conn, query))
    }

    pub fn reports<const N: usize>(&self, queries: [&Query; N]) -> Result<[Report; N], Error> {
        self.with(|conn| {
            let tx = conn.unchecked_transaction()?;
            let mut all = std::array::from_fn(|_| Report::default());
            for (report, query) in all.iter_mut().zip(queries) {
                *report = fold::within(&tx, query)?;
            }
            Ok(all)
        })
    }

    pub fn recent(&self, limit: usize) -> Result<Vec<Attempt>, Error> {
        let limit = i64::try_from(limit.min(MOST_ROWS)).unwrap_or(i64::MAX);
        self.with(|conn| {
            let mut select = conn.prepare_cached(RECENT)?;
            let mut rows = Vec::new();
            let mut found = select.query([limit])?;
            while let Some(row) = found.next()? {
                rows.push(attempt(row)?);
            }
            Ok(rows)
        })
    }

    /// Asks the file that is at the path now: a corrupt ledger may have been moved aside since the last question.
    pub fn with<T>(&self, ask: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let mut slot = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        let inode = fs::metadata(&self.path)?.ino();
        let conn = match slot.take() {
            Some((opened, conn)) if opened == inode => conn,
            _ => opened(&self.path)?,
        };
        let answer = ask(&conn)?;
        *slot = Some((inode, conn));
        Ok(answer)
    }
}

/// A ledger opened to be read.
pub(super) fn opened(path: &Path) -> Result<Connection, Error> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    conn.busy_timeout(BUSY)?;
    Ok(conn)
}

/// A row of the view `attempts`.
pub(super) fn attempt(row: &Row<'_>) -> Result<Attempt, Error> {
    let id = |name: &str| row.get::<_, [u8; 16]>(name).map(|bytes| Id(u128::from_be_bytes(bytes)));
    let text = |name: &str| row.get::<_, String>(name);
    let number = |name: &str| row.get::<_, i64>(name).map(|n| u64::try_from(n).unwrap_or(0));
    let optional = |name: &str| row.get::<_, Option<i64>>(name).map(|n| n.map(|n| u64::try_from(n).unwrap_or(0)));
    let attempt = id("attempt")?;
    let state = match text("state")?.as_str() {
        "open" => State::Open,
        "orphaned" => State::Orphaned,
        _ => State::Settled,
    };
    let intent = Intent {
        attempt,
        request: id("request")?,
        at: number("at")?,
        number: row.get("number")?,
        key: text("key")?.into(),
        project: row.get::<_, Option<String>>("project")?.map(Cow::Owned),
        asked: text("asked")?.into(),
        model: text("model")?.into(),
        provider: text("provider")?.into(),
        target: text("target")?.into(),
        stream: row.get("stream")?,
        price_version: text("price_version")?.into(),
        reserve: number("reserve")?,
        input_estimate: number("input_estimate")?,
        config_version: text("config_version")?.into(),
        tags: row.get::<_, Option<String>>("tags")?.unwrap_or_default().into(),
        team: text("team")?.into(),
        organisation: text("organisation")?.into(),
        user: text("user")?.into(),
        region: text("region")?.into(),
        dialect: text("dialect")?.into(),
        route: text("route")?.into(),
        rates: text("rates")?.into(),
        charge: match optional("charge_reserve")? {
            None => None,
            Some(reserve) => {
                let (version, rates) = (text("charge_version")?.into(), text("charge_rates")?.into());
                Some(Box::new(Charged { reserve, version, rates }))
            }
        },
    };
    let other = row.get::<_, Option<String>>("other_usage")?;
    let mut usage = None;
    if let Some(input) = optional("input")? {
        usage = Some(Usage {
            input,
            output: optional("output")?.unwrap_or_default(),
            cached: optional("cached")?.unwrap_or_default(),
            cache_write: optional("cache_write")?.unwrap_or_default(),
            cache_write_1h: optional("cache_write_1h")?.unwrap_or_default(),
            reasoning: optional("reasoning")?.unwrap_or_default(),
            stated_total: optional("stated_total")?,
            ..other.and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default()
        });
    }
    let mut settlement = None;
    if let Some(at) = optional("settled_at")? {
        settlement = Some(Settlement {
            attempt,
            begun: intent.at,
            at,
            outcome: row.get::<_, Option<String>>("outcome")?.unwrap_or_default().into(),
            status: row.get::<_, Option<u16>>("status")?.unwrap_or_default(),
            usage,
            estimated: row.get("estimated")?,
            cost: number("cost")?,
            charge: optional("charge")?,
            unpriced: row.get("unpriced")?,
            latency_us: optional("latency_us")?.unwrap_or_default(),
            ttft_us: optional("ttft_us")?.unwrap_or_default(),
            served: row.get("served")?,
            losses: row.get::<_, Option<String>>("losses")?.unwrap_or_default().into(),
            share: row.get::<_, Option<String>>("share")?.unwrap_or_default().into(),
        });
    }
    Ok(Attempt { intent, state, settlement })
}
