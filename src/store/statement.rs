//! A statement: what the calls of a level were charged in a part of the calendar, by day and model, with what was paid in
//! and what is left.
//!
//! All of it is folds: charges over the ledger's rows, payments over the register's. The balance at the end is worked out
//! twice, from the one at the beginning and from all there is, and a statement whose two balances differ is none.

use std::io::{self, Write};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::policy::price::{Nano, cost_decimal};
use crate::policy::tenancy::Kind;
use crate::store::directory::{Cause, Payment};
use crate::store::fold::{Report, UsageRow};
use crate::store::ledger::{Error, GroupBy, Ledger, MOST_ROWS, Query, Unit};
use crate::store::usage;
use crate::wire::writer::{self, Object};

mod page;

/// Whose statement of when.
#[derive(Clone, Debug)]
pub struct Asked {
    pub kind: Kind,
    pub id: String,
    /// Unix milliseconds; the first included, the last not.
    pub from: u64,
    pub to: u64,
    /// Whose days they are.
    pub zone: TimeZone,
    pub zone_name: String,
}

/// A part of the calendar that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake(pub String);

impl Asked {
    /// Reads a month (`2026-11`), or moments as [`usage`] has them; the month of `now` where nothing is said.
    ///
    /// # Errors
    /// Something cannot be read, or the time ends before it begins.
    pub fn read(
        (kind, id): (Kind, &str),
        month: Option<&str>,
        (from, to): (Option<&str>, Option<&str>),
        zone: Option<&str>,
        now: u64,
    ) -> Result<Asked, Mistake> {
        let mistake = |what: &str| Mistake(what.to_owned());
        let zone_name = zone.unwrap_or("UTC").to_owned();
        let zone = TimeZone::get(&zone_name)
            .map_err(|_| mistake("time_zone: write the name of one, such as Europe/Berlin"))?;
        let midnight = |date: Date| -> Option<u64> {
            let at = date.to_zoned(zone.clone()).ok()?.timestamp().as_millisecond();
            u64::try_from(at).ok()
        };
        let of_month = |first: Date| -> Option<(u64, u64)> {
            let next = first.checked_add(jiff::Span::new().months(1)).ok()?;
            Some((midnight(first)?, midnight(next)?))
        };
        let (from, to) = match (month, from, to) {
            (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
                return Err(mistake("month: write either a month, or `from` and `to`"));
            }
            (Some(month), None, None) => {
                let first = Some(month).filter(|month| month.len() == 7);
                let first = first.and_then(|month| format!("{month}-01").parse::<Date>().ok());
                first.and_then(of_month).ok_or_else(|| mistake("month: write one such as 2026-11"))?
            }
            (None, None, None) => {
                let now = i64::try_from(now).ok().and_then(|now| Timestamp::from_millisecond(now).ok());
                let today = now.map(|now| now.to_zoned(zone.clone()).date().first_of_month());
                today.and_then(of_month).ok_or_else(|| mistake("month: write one such as 2026-11"))?
            }
            (None, from, to) => {
                let moment = |name: &str, text: Option<&str>| {
                    let moment = text.and_then(|text| usage::moment(text, &zone));
                    moment.ok_or_else(|| {
                        Mistake(format!("{name}: write a date, or a moment such as 2026-11-21T00:00:00Z"))
                    })
                };
                (moment("from", from)?, moment("to", to)?)
            }
        };
        if from > to {
            return Err(mistake("to: this is before `from`"));
        }
        Ok(Asked { kind, id: id.to_owned(), from, to, zone, zone_name })
    }

    /// An instant as its date, where it is the first of one, or else with its time; the last one counts as before.
    fn told(&self, at: u64) -> String {
        let instant = i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
        let Some(instant) = instant else { return String::new() };
        let zoned = instant.to_zoned(self.zone.clone());
        let midnight = zoned.start_of_day().is_ok_and(|first| first == zoned);
        if midnight { zoned.date().to_string() } else { zoned.strftime("%Y-%m-%d %H:%M:%S").to_string() }
    }
}

/// What else stands on a statement.
#[derive(Clone, Debug, Default)]
pub struct Heading {
    /// Who writes it, in lines.
    pub issuer: Vec<String>,
    /// Whom it is for, in lines.
    pub customer: Vec<String>,
    /// Below everything.
    pub note: Vec<String>,
}

impl Heading {
    /// By the configuration, for a customer.
    pub fn new(written: &crate::config::file::Statements, customer: Vec<String>) -> Heading {
        let lines = |text: &str| -> Vec<String> {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
        };
        Heading { issuer: lines(&written.issuer), customer, note: lines(&written.note) }
    }
}

/// Lines of whom a statement is for: as `bill_to` has them in metadata, with semicolons between.
pub fn customer(bill_to: Option<&String>) -> Vec<String> {
    let lines = bill_to.map(String::as_str).unwrap_or_default().split(';').map(str::trim);
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// A statement.
#[derive(Clone, Debug)]
pub struct Statement {
    pub asked: Asked,
    pub heading: Heading,
    /// Unix milliseconds.
    pub drawn: u64,
    /// Before and after, where anything was ever paid in; nano-dollars.
    pub balance: Option<(i128, i128)>,
    /// Within its time.
    pub payments: Vec<Payment>,
    /// By day and model.
    pub lines: Vec<Line>,
    /// Of all lines.
    pub total: UsageRow,
    /// Until when days count at their beginning (Unix milliseconds): their rows were rolled up.
    pub rolled_up: Option<u64>,
}

/// What the calls of a day to a model were charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub day: String,
    pub model: String,
    pub sums: UsageRow,
}

/// Draws a statement from the ledger and all payments of the level. Blocks.
///
/// # Errors
/// The ledger cannot be read, or there is more in it than a statement can hold.
pub fn draw(
    ledger: &Ledger,
    payments: Vec<Payment>,
    asked: Asked,
    heading: Heading,
    drawn: u64,
) -> Result<Statement, Error> {
    let level = GroupBy::parse(asked.kind.name()).ok_or(Error::Miscounted)?;
    let whole = Query { zone: asked.zone.clone(), ..Query::default() }.within(level, &asked.id);
    let before = Query { to: Some(asked.from), ..whole.clone() };
    let within = Query {
        from: Some(asked.from),
        to: Some(asked.to),
        group_by: vec![GroupBy::Time(Unit::Day), GroupBy::Model],
        limit: MOST_ROWS,
        ..whole.clone()
    };
    let until = Query { to: Some(asked.to), ..whole };
    // One moment of the ledger for all three.
    let [before, within, until] = ledger.reports([&before, &within, &until])?;
    let Report { rows, total, groups, rolled_up } = within;
    if groups > rows.len() {
        return Err(Error::TooWide);
    }
    let paid =
        |to: u64| payments.iter().filter(|payment| payment.at < to).map(|payment| i128::from(payment.amount)).sum();
    let (paid_before, paid_until): (i128, i128) = (paid(asked.from), paid(asked.to));
    let opening = paid_before - i128::from(before.total.charge);
    let closing = opening + (paid_until - paid_before) - i128::from(total.charge);
    let lines: Vec<Line> = rows.into_iter().map(Line::of).collect();
    let sum: u128 = lines.iter().map(|line| u128::from(line.sums.charge)).sum();
    if closing != paid_until - i128::from(until.total.charge) || sum != u128::from(total.charge) {
        return Err(Error::Miscounted);
    }
    let balance = (!payments.is_empty()).then_some((opening, closing));
    let payments = payments.into_iter().filter(|payment| (asked.from..asked.to).contains(&payment.at)).collect();
    let mut statement = Statement { asked, heading, drawn, balance, payments, lines, total, rolled_up };
    statement.lines.sort_by(|one, other| (&one.day, &one.model).cmp(&(&other.day, &other.model)));
    Ok(statement)
}

impl Line {
    fn of(mut sums: UsageRow) -> Line {
        let mut group = std::mem::take(&mut sums.group).into_iter().map(|(_, value)| value);
        let (day, model) = (group.next().unwrap_or_default(), group.next().unwrap_or_default());
        Line { day, model, sums }
    }
}

/// A day and its place among lines and payments: what is paid in comes before what is charged.
enum Entry<'s> {
    Paid(&'s Payment),
    Charged(&'s Line),
}

impl Statement {
    /// Sums by model, in the order of their names.
    fn models(&self) -> Vec<Line> {
        let mut all: Vec<Line> = Vec::new();
        for line in &self.lines {
            match all.iter_mut().find(|sum| sum.model == line.model) {
                Some(sum) => sum.sums.add(line.sums.clone()),
                None => all.push(Line { day: String::new(), ..line.clone() }),
            }
        }
        all.sort_by(|one, other| one.model.cmp(&other.model));
        all
    }

    /// In the order of days.
    fn entries(&self) -> Vec<(String, Entry<'_>)> {
        let paid = self.payments.iter().map(|payment| (self.day(payment.at), Entry::Paid(payment)));
        let charged = self.lines.iter().map(|line| (line.day.clone(), Entry::Charged(line)));
        let mut all: Vec<_> = paid.chain(charged).collect();
        // It is stable: what came first in a day stays first.
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    fn day(&self, at: u64) -> String {
        let at = i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
        at.map(|at| at.to_zoned(self.asked.zone.clone()).date().to_string()).unwrap_or_default()
    }

    /// As CSV (RFC 4180): a row for each payment and each day and model, between the balances. Amounts are US dollars with all
    /// their digits, charges less than nothing: they add up from the first balance to the last.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn csv(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(
            out,
            "entry,date,{},model,requests,input_tokens,output_tokens,cached_tokens,reasoning_tokens,amount_usd,balance_usd,reference,note\r\n",
            self.asked.kind.name()
        )?;
        let id = cell(&self.asked.id);
        let bare = |entry: &str, at: &str, amount: &str, balance: &str| {
            format!("{entry},{at},{id},,,,,,,{amount},{balance},,\r\n")
        };
        let (from, to) = (self.asked.told(self.asked.from), self.asked.told(self.asked.to));
        if let Some((opening, _)) = self.balance {
            out.write_all(bare("opening_balance", &from, "", &signed(opening)).as_bytes())?;
        }
        for (day, entry) in self.entries() {
            match entry {
                Entry::Paid(Payment { cause, amount, id: reference, note, written, .. }) => {
                    let note = if note.is_empty() { written.clone() } else { format!("{written}: {note}") };
                    let (amount, reference, note) = (signed(i128::from(*amount)), cell(reference), cell(&note));
                    write!(out, "{},{day},{id},,,,,,,{amount},,{reference},{note}\r\n", cause.name())?;
                }
                Entry::Charged(Line { model, sums, .. }) => {
                    let UsageRow { requests, input, output, cached, reasoning, charge, .. } = sums;
                    let (model, amount) = (cell(model), signed(-i128::from(*charge)));
                    let tokens = format!("{requests},{input},{output},{cached},{reasoning}");
                    write!(out, "charge,{day},{id},{model},{tokens},{amount},,,\r\n")?;
                }
            }
        }
        let total = signed(-i128::from(self.total.charge));
        match self.balance {
            Some((_, closing)) => out.write_all(bare("closing_balance", &to, "", &signed(closing)).as_bytes()),
            None => out.write_all(bare("total", &to, &total, "").as_bytes()),
        }
    }

    /// As JSON, amounts as text with all their digits.
    pub fn json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(1_024 + self.lines.len() * 256);
        writer::object(&mut out, |o| {
            o.string("object", "statement");
            o.string(self.asked.kind.name(), &self.asked.id);
            for (name, at) in
                [("from", Some(self.asked.from)), ("to", Some(self.asked.to)), ("rolled_up_until", self.rolled_up)]
            {
                if let Some(at) = at {
                    o.string(name, &usage::told(at));
                }
            }
            o.string("time_zone", &self.asked.zone_name);
            o.string("currency", "USD");
            if let Some((opening, closing)) = self.balance {
                o.string("opening_balance", &signed(opening));
                o.string("closing_balance", &signed(closing));
            }
            o.array("payments", |a| {
                for payment in &self.payments {
                    a.object(|o| {
                        o.string("date", &self.day(payment.at));
                        o.string("cause", payment.cause.name());
                        o.string("amount", &signed(i128::from(payment.amount)));
                        o.string("written", &payment.written);
                        o.string("reference", &payment.id);
                        o.string("note", &payment.note);
                    });
                }
            });
            o.object("charged", |o| sums(&self.total, o));
            for (name, lines) in [("models", &self.models()), ("days", &self.lines)] {
                o.array(name, |a| {
                    for line in lines {
                        a.object(|o| {
                            if !line.day.is_empty() {
                                o.string("date", &line.day);
                            }
                            o.string("model", &line.model);
                            sums(&line.sums, o);
                        });
                    }
                });
            }
        });
        out
    }

    /// As a page to be printed: nothing but itself is needed to show it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn html(&self, out: &mut dyn Write) -> io::Result<()> {
        page::write(self, out)
    }

    /// What is not final yet, or not known, in sentences.
    fn remarks(&self) -> Vec<String> {
        let UsageRow { open, unpriced, estimated, orphaned, .. } = self.total;
        let mut all = Vec::new();
        let mut say = |count: u64, one: &str, several: &str| {
            if count > 0 {
                all.push(format!("{count} {}", if count == 1 { one } else { several }));
            }
        };
        say(open, "call is not over yet, and not charged here.", "calls are not over yet, and not charged here.");
        say(unpriced, "call had no price, and is not charged.", "calls had no price, and are not charged.");
        say(
            estimated.saturating_sub(orphaned),
            "call is charged by an estimate of its usage.",
            "calls are charged by an estimate of their usage.",
        );
        say(
            orphaned,
            "call was cut off by an end of the gateway, and is charged at the most that it can have come to.",
            "calls were cut off by an end of the gateway, and are charged at the most that they can have come to.",
        );
        if let Some(until) = self.rolled_up {
            all.push(format!("Charges before {} are kept by day.", self.day(until)));
        }
        all
    }
}

/// The style of the page alone, of which the server that shows it tells the digest.
pub fn style() -> &'static str {
    page::STYLE
}

fn sums(row: &UsageRow, o: &mut Object<'_>) {
    o.number("requests", row.requests);
    o.number("input_tokens", row.input);
    o.number("output_tokens", row.output);
    o.number("cached_tokens", row.cached);
    o.number("reasoning_tokens", row.reasoning);
    o.string("charge", &cost_decimal(row.charge));
}

/// An amount with all its digits: `-0.5`.
pub fn signed(nano: i128) -> String {
    let digits = cost_decimal(Nano::try_from(nano.unsigned_abs()).unwrap_or(Nano::MAX));
    if nano < 0 { format!("-{digits}") } else { digits }
}

/// Text in a cell of CSV: quoted where it must be, and never a formula of the program that opens it.
fn cell(text: &str) -> String {
    let guarded = match text.as_bytes().first() {
        Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r') => format!("'{text}"),
        _ => text.to_owned(),
    };
    if guarded.contains([',', '"', '\r', '\n']) { format!("\"{}\"", guarded.replace('"', "\"\"")) } else { guarded }
}

/// What a payment is called on paper.
fn named(cause: Cause) -> &'static str {
    match cause {
        Cause::TopUp => "Top-up",
        Cause::Correction => "Correction",
    }
}

#[cfg(test)]
mod tests;
