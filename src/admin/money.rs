//! What was paid in for organisations, teams, projects, users and keys, and their statements.
//!
//! A payment is named by whoever makes it. One that is asked for again, after a lost answer or a crash, is told of and not
//! made again; what was made is never altered, and a mistake is put right by a correction.

use std::io;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Refused};
use super::desk::{Asked, Desk};
use super::entities::{self, stamp};
use crate::config::is_id;
use crate::policy::price::{cost_decimal, parse_per_million};
use crate::policy::tenancy::Kind;
use crate::store::directory::{self, Change, Paying};
use crate::store::ledger::{Error, GroupBy, Query};
use crate::store::statement::{self, Heading, signed};

/// How long is waited for what was metered a moment ago.
const FRESH: std::time::Duration = std::time::Duration::from_secs(1);
/// Most of one payment: ten million dollars, in nano-dollars.
const MOST: u64 = 10_000_000_000_000_000;
/// Longest note, in bytes.
const LONGEST: usize = 256;

/// What is to be paid in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct New {
    /// Names the payment among those of the same balance: sent again, nothing more is paid in. An invoice's number will do.
    #[schemars(regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"))]
    pub id: String,
    /// Default: top_up.
    #[serde(default)]
    pub cause: Cause,
    /// A decimal with up to nine digits after the point: "50", "12.50"; of a correction also less than nothing: "-3".
    #[schemars(length(max = 32))]
    pub amount: String,
    /// usd, or a code of `currencies`, by whose rate it becomes dollars now. Default: usd.
    #[schemars(length(max = 16))]
    pub currency: Option<String>,
    /// For people: it stands on statements.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub note: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    #[default]
    TopUp,
    Correction,
}

/// A balance: what was paid in, less what was charged.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Balance {
    /// organisation, team, project, user or key.
    pub kind: String,
    pub id: String,
    /// Calls are refused where it is not enough.
    pub prepaid: bool,
    /// US dollars, with all their digits.
    pub paid_in_usd: String,
    /// What calls that are over were charged, of all time.
    pub charged_usd: String,
    pub balance_usd: String,
    /// The last payments, newest first.
    pub payments: Vec<Payment>,
    /// Write it as `below` for those before these; `null`: there are none.
    pub next: Option<u64>,
}

/// Something that was paid in, or that puts such a thing right.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Payment {
    pub id: String,
    /// Of the change, as the log of changes has it.
    pub number: u64,
    pub cause: Cause,
    pub amount_usd: String,
    /// As it was written.
    pub written: String,
    pub note: String,
    pub at: String,
    /// Id of the token of who made it.
    pub actor: String,
}

impl From<&directory::Payment> for Payment {
    fn from(payment: &directory::Payment) -> Payment {
        Payment {
            id: payment.id.clone(),
            number: payment.number,
            cause: match payment.cause {
                directory::Cause::TopUp => Cause::TopUp,
                directory::Cause::Correction => Cause::Correction,
            },
            amount_usd: signed(i128::from(payment.amount)),
            written: payment.written.clone(),
            note: payment.note.clone(),
            at: stamp(payment.at),
            actor: payment.actor.clone(),
        }
    }
}

pub fn show(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    let (kind, id) = (entities::kind(asked)?, asked.id()?);
    let below = asked.number("below", 1, i64::MAX as u64)?.unwrap_or(u64::MAX);
    let limit = asked.limit()?;
    let found = entities::find(desk, kind, id, &asked.caller.rights)?;
    let all = desk.register().payments(kind, id)?;
    let paid: i128 = all.iter().map(|payment| i128::from(payment.amount)).sum();
    let charged = charged(desk, kind, id)?;
    let earlier = all.iter().rev().filter(|payment| payment.number < below);
    let payments: Vec<Payment> = earlier.take(limit).map(Payment::from).collect();
    let last = payments.last().map(|last| last.number);
    let next = last.filter(|last| all.first().is_some_and(|first| first.number < *last));
    let balance = Balance {
        kind: kind.name().to_owned(),
        id: id.to_owned(),
        prepaid: found.document.rules().prepaid.is_some(),
        paid_in_usd: signed(paid),
        charged_usd: cost_decimal(charged),
        balance_usd: signed(paid - i128::from(charged)),
        payments,
        next,
    };
    Answer::json(200, &balance)
}

pub fn pay(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    let (kind, id) = (entities::kind(asked)?, asked.id()?);
    let new: New = asked.json()?;
    let found = entities::find(desk, kind, id, &asked.caller.rights)?;
    if found.stored.as_ref().is_some_and(|stored| stored.gone) {
        return Err(Refused::not_found(kind.name()));
    }
    if !is_id(&new.id) {
        return Err(Refused::invalid("id: 1 to 64 letters, digits, dots, hyphens and underscores"));
    }
    if new.note.len() > LONGEST || new.note.contains(char::is_control) {
        return Err(Refused::invalid(format!("note: a line of {LONGEST} bytes at most")));
    }
    let (amount, written) = worth(desk, &new)?;
    let cause = match new.cause {
        Cause::TopUp => directory::Cause::TopUp,
        Cause::Correction => directory::Cause::Correction,
    };
    let paying = Paying { id: &new.id, cause, amount, written: &written, note: &new.note };
    let done = desk.write(&Change::Pay { kind, level: id, payment: paying }, asked);
    let all = desk.register().payments(kind, id)?;
    let made = all.iter().find(|payment| payment.id == new.id);
    match (done, made) {
        (Ok(_), Some(made)) => Answer::json(201, &Payment::from(made)),
        // Asked for again: by another rate it would be worth something else today, and is what it was.
        (Err(_), Some(made)) if (made.cause, &*made.written, &*made.note) == (cause, &*written, &*new.note) => {
            Answer::json(200, &Payment::from(made))
        }
        (Err(refused), _) => Err(refused),
        (Ok(_), None) => Err(Refused::bug("a payment that is not there")),
    }
}

/// Nano-dollars of what is to be paid in, and how that is written.
fn worth(desk: &Desk, new: &New) -> Result<(i64, String), Refused> {
    let digits = new.amount.strip_prefix('-');
    let taken = digits.is_some();
    let plain = digits.unwrap_or(&new.amount);
    let read = Some(plain).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
    let amount = read.and_then(parse_per_million).filter(|amount| (1..=MOST).contains(amount));
    let amount = amount.ok_or_else(|| {
        Refused::invalid("amount: a decimal above 0 and up to 10000000, with nine digits after the point at most")
    })?;
    if taken && new.cause == Cause::TopUp {
        return Err(Refused::invalid("amount: what takes away is a `correction`"));
    }
    let code = new.currency.as_deref().unwrap_or("usd").to_ascii_lowercase();
    let snapshot = desk.directory.snapshot();
    let dollars = snapshot.tenants.ground().dollars(amount, &code).filter(|dollars| (1..=MOST).contains(dollars));
    let dollars = dollars.ok_or_else(|| {
        Refused::invalid(format!("currency: there is no rate for `{code}` under `currencies`, or it is worth nothing"))
    })?;
    let dollars = i64::try_from(dollars).map_err(|_| Refused::bug("an amount that is too large"))?;
    let sign = if taken { "-" } else { "" };
    let written = format!("{sign}{} {}", cost_decimal(amount), code.to_uppercase());
    Ok((if taken { -dollars } else { dollars }, written))
}

/// What the calls of a level that are over were charged, of all time.
fn charged(desk: &Desk, kind: Kind, id: &str) -> Result<u64, Refused> {
    let level = GroupBy::parse(kind.name()).ok_or_else(|| Refused::bug("a level that nothing is grouped by"))?;
    desk.ledger.flush(FRESH);
    let total = desk.ledger.total(&Query::default().within(level, id)).map_err(|error| unreadable(&error))?;
    Ok(total.charge)
}

pub fn statement(desk: &Desk, asked: &Asked<'_>) -> Result<Answer, Refused> {
    let (kind, id) = (entities::kind(asked)?, asked.id()?);
    let snapshot = desk.directory.snapshot();
    let customer = match entities::find(desk, kind, id, &asked.caller.rights) {
        Ok(found) => statement::customer(found.document.rules().metadata.get("bill_to")),
        // Where no projects are written, those of keys are mere names.
        Err(_) if kind == Kind::Project && asked.caller.rights.team.is_none() && is_id(id) && !known(desk, id)? => {
            Vec::new()
        }
        Err(refused) => return Err(refused),
    };
    let [month, from, to, zone, format] =
        ["month", "from", "to", "time_zone", "format"].map(|name| asked.parameter(name));
    let (month, from, to, zone) = (month?, from?, to?, zone?);
    let wrong = |mistake: statement::Mistake| Refused::new(400, "bad_request", mistake.0);
    let of = statement::Asked::read(
        (kind, id),
        month.as_deref(),
        (from.as_deref(), to.as_deref()),
        zone.as_deref(),
        asked.now.unix_ms,
    )
    .map_err(wrong)?;
    let heading = Heading::new(&snapshot.statements, customer);
    desk.ledger.flush(FRESH);
    let payments = desk.register().payments(kind, id)?;
    let drawn = statement::draw(&desk.ledger, payments, of, heading, asked.now.unix_ms);
    let drawn = drawn.map_err(|error| match error {
        Error::TooWide => Refused::new(400, "bad_request", error.to_string()),
        other => unreadable(&other),
    })?;
    let written = |write: &dyn Fn(&mut Vec<u8>) -> io::Result<()>, content_type| {
        let mut body = Vec::new();
        write(&mut body).map_err(|_| Refused::bug("a statement that cannot be written"))?;
        Ok(Answer { content_type, ..Answer::raw(200, body) })
    };
    match format?.as_deref() {
        None | Some("json") => Ok(Answer::raw(200, drawn.json())),
        Some("csv") => written(&|body| drawn.csv(body), "text/csv; charset=utf-8"),
        Some("html") => written(&|body| drawn.html(body), super::answer::HTML),
        Some(_) => Err(Refused::new(400, "bad_request", "format: json, csv or html")),
    }
}

/// Whether there is a project of this name, whoever may see it.
fn known(desk: &Desk, id: &str) -> Result<bool, Refused> {
    Ok(desk.directory.in_file(Kind::Project, id) || desk.register().one(Kind::Project, id)?.is_some())
}

fn unreadable(error: &Error) -> Refused {
    tracing::error!(%error, "the ledger cannot be read");
    Refused { retry_after: Some(1), ..Refused::new(503, "unavailable", "the ledger cannot be read now") }
}
