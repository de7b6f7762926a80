//! Usage asked for and told: the parameters of a question, whoever asks it and wherever, and the JSON of its answer.
//!
//! The caller's endpoint, the administrator's and the command line read the same parameters and differ only in whose usage
//! may be seen ([`Query::within`]). An answer is folds over ledger rows, nothing else, and amounts have all their digits.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::config::snapshot::Currency;
use crate::exchange::paths;
use crate::policy::price;
use crate::store::ledger::{GroupBy, MOST_ROWS, Query, Report, UsageRow};
use crate::store::sketch::Sketch;
use crate::wire::json::Number;
use crate::wire::veil;
use crate::wire::writer::{self, Object};

/// Groups of one page, where nothing else is asked for.
const PAGE: usize = 1_000;
/// Most values that one question may ask for.
const MOST_VALUES: usize = 100;

/// A parameter that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub parameter: String,
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.parameter, self.message)
    }
}

/// The parameters of a question, as they come.
///
/// | parameter | meaning |
/// |---|---|
/// | `from`, `to` | of the attempts' dispatch: RFC 3339, a date, or Unix milliseconds; the first included, the last not |
/// | `time_zone` | of dates and of hours, days, weeks and months: `Europe/Berlin`; UTC unless said |
/// | `bucket` | `hour`, `day`, `week` or `month`: the first of the groupings |
/// | `group_by` | names with commas ([`GroupBy::NAMES`]) |
/// | a name of a grouping | only attempts with this value; several times: with any of these |
/// | `limit` | groups of one answer, up to 10,000 |
/// | `page` | the `next` of the answer before |
#[derive(Debug, Default)]
pub struct Parameters {
    from: Option<String>,
    to: Option<String>,
    zone: Option<TimeZone>,
    bucket: Option<GroupBy>,
    group_by: Vec<GroupBy>,
    only: Vec<(GroupBy, String)>,
    limit: Option<usize>,
    page: Option<(usize, u64)>,
}

/// Reads the query of a URL, without those parameters that mean something else where it is read.
///
/// # Errors
/// The first parameter that cannot be read.
pub fn read(query: &str, others: &[&str]) -> Result<Query, Mistake> {
    let mut parameters = Parameters::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = name.replace('+', " ");
        let (name, raw) = (paths::decoded(&name), paths::decoded(value));
        if others.contains(&&*name) {
            continue;
        }
        // A moment has a plus sign of its own, which many forget to encode.
        let spaced = value.replace('+', " ");
        let value = if matches!(&*name, "from" | "to") { raw } else { paths::decoded(&spaced) };
        parameters.set(&name, &value)?;
    }
    parameters.query()
}

impl Parameters {
    /// Takes one parameter.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), Mistake> {
        let wrong = |message: String| Err(Mistake { parameter: name.to_owned(), message });
        match name {
            "from" => self.from = Some(value.to_owned()),
            "to" => self.to = Some(value.to_owned()),
            "time_zone" => match TimeZone::get(value) {
                Ok(zone) => self.zone = Some(zone),
                Err(_) => return wrong("expected the name of a time zone, such as Europe/Berlin".into()),
            },
            "bucket" => match GroupBy::parse(value) {
                Some(unit @ GroupBy::Time(_)) => self.bucket = Some(unit),
                _ => return wrong("expected hour, day, week or month".into()),
            },
            "group_by" => {
                for name in value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                    match GroupBy::parse(name) {
                        Some(group) if self.group_by.contains(&group) => {}
                        Some(group) if self.group_by.len() < super::query::MOST_GROUPS => self.group_by.push(group),
                        Some(_) => return wrong(format!("no more than {} groupings", super::query::MOST_GROUPS)),
                        None => return wrong(format!("`{}` is no grouping: {}", veil::name(name), GroupBy::NAMES)),
                    }
                }
            }
            "limit" => match value.parse() {
                Ok(limit) if (1..=MOST_ROWS).contains(&limit) => self.limit = Some(limit),
                _ => return wrong(format!("expected a number from 1 to {MOST_ROWS}")),
            },
            "page" => match value.split_once('-').and_then(|(skip, to)| Some((skip.parse().ok()?, to.parse().ok()?))) {
                Some(page) => self.page = Some(page),
                None => return wrong("expected the `next` of the answer before".into()),
            },
            _ => match GroupBy::parse(name) {
                Some(GroupBy::Time(_)) | None => {
                    let known = "from, to, time_zone, bucket, group_by, limit, page";
                    return wrong(format!(
                        "there is no such parameter: {known}, or what to see alone: {}",
                        GroupBy::NAMES
                    ));
                }
                Some(_) if self.only.len() >= MOST_VALUES => {
                    return wrong(format!("no more than {MOST_VALUES} values"));
                }
                Some(what) => self.only.push((what, value.to_owned())),
            },
        }
        Ok(())
    }

    /// The question.
    ///
    /// # Errors
    /// A moment cannot be read, or the time ends before it begins.
    pub fn query(self) -> Result<Query, Mistake> {
        let zone = self.zone.unwrap_or(TimeZone::UTC);
        let read = |name: &str, text: Option<String>| match text {
            None => Ok(None),
            Some(text) => moment(&text, &zone).map(Some).ok_or_else(|| Mistake {
                parameter: name.to_owned(),
                message: "expected a moment such as 2026-11-21T00:00:00Z, a date, or Unix milliseconds".into(),
            }),
        };
        let from = read("from", self.from)?;
        let mut to = read("to", self.to)?;
        let mut skip = 0;
        if let Some((place, until)) = self.page {
            // What came in since the first page would move the others.
            to = Some(to.map_or(until, |to| to.min(until)));
            skip = place;
        }
        if from.zip(to).is_some_and(|(from, to)| from > to) {
            return Err(Mistake { parameter: "to".into(), message: "this is before `from`".into() });
        }
        let mut group_by: Vec<GroupBy> = self.bucket.into_iter().collect();
        for group in self.group_by {
            if !group_by.contains(&group) {
                group_by.push(group);
            }
        }
        Ok(Query { only: self.only, from, to, group_by, zone, limit: self.limit.unwrap_or(PAGE), skip })
    }
}

/// Unix milliseconds of a moment, of the first one of a date in a time zone, or as they are written.
pub(super) fn moment(text: &str, zone: &TimeZone) -> Option<u64> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let stamp = match text.parse::<Date>() {
        Ok(date) if text.len() == 10 => date.to_zoned(zone.clone()).ok()?.timestamp(),
        _ => text.parse::<Timestamp>().ok()?,
    };
    u64::try_from(stamp.as_millisecond()).ok()
}

/// Who reads an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eyes {
    /// Whoever pays the providers: costs, and what was charged.
    Operator,
    /// Who is charged: what it costs them. What it costs the operator is none of their affair.
    Customer,
}

/// An answer as JSON; `now` is when it was asked for, in Unix milliseconds.
pub fn json(report: &Report, query: &Query, currencies: &[Currency], eyes: Eyes, now: u64) -> Vec<u8> {
    let Report { rows, total, groups, rolled_up } = report;
    let mut out = Vec::with_capacity(512 + rows.len() * 512);
    writer::object(&mut out, |o| {
        o.string("object", "usage");
        for (name, at) in [("from", query.from), ("to", query.to), ("rolled_up_until", *rolled_up)] {
            if let Some(at) = at {
                o.string(name, &told(at));
            }
        }
        o.string("time_zone", query.zone.iana_name().unwrap_or("UTC"));
        o.object("total", |o| figures(total, currencies, eyes, o));
        o.array("data", |a| {
            for row in rows {
                a.object(|o| {
                    for (name, value) in &row.group {
                        o.string(name, value);
                    }
                    figures(row, currencies, eyes, o);
                });
            }
        });
        let shown = query.skip.saturating_add(rows.len());
        if shown < *groups {
            o.string("next", &format!("{shown}-{}", query.to.unwrap_or(now)));
        }
    });
    out
}

fn figures(row: &UsageRow, currencies: &[Currency], eyes: Eyes, o: &mut Object<'_>) {
    o.number("requests", row.requests);
    o.number("attempts", row.attempts);
    o.number("served", row.served);
    o.number("errors", row.errors);
    decimal(o, "error_rate", &ratio(row.errors, row.attempts));
    o.number("open", row.open);
    o.number("orphaned", row.orphaned);
    o.number("estimated", row.estimated);
    o.number("unpriced", row.unpriced);
    o.number("input_tokens", row.input);
    o.number("output_tokens", row.output);
    o.number("cached_tokens", row.cached);
    o.number("cache_write_tokens", row.cache_write);
    o.number("reasoning_tokens", row.reasoning);
    o.number("audio_input_tokens", row.audio_input);
    o.number("audio_output_tokens", row.audio_output);
    o.number("searches", row.searches);
    let told = if eyes == Eyes::Operator { row.cost } else { row.charge };
    decimal(o, "cost_usd", &price::cost_decimal(told));
    if eyes == Eyes::Operator {
        decimal(o, "charge_usd", &price::cost_decimal(row.charge));
    }
    // What caches save is worked out from costs.
    if eyes == Eyes::Operator || row.charge == row.cost {
        decimal(o, "cache_savings_usd", &price::cost_decimal(row.saved));
    }
    for currency in currencies {
        let cost = price::convert(told, currency.per_usd_micro);
        decimal(o, &format!("cost_{}", currency.code), &price::cost_decimal(cost));
    }
    times(o, "latency_ms", row.latency().as_micros(), &row.latencies);
    times(o, "ttft_ms", row.first_token().as_micros(), &row.ttfts);
}

/// The mean and percentiles of times, in milliseconds; nothing where there are none.
fn times(o: &mut Object<'_>, name: &str, mean: u128, sketch: &Sketch) {
    let Some(median) = sketch.quantile(500) else { return o.null(name) };
    let ms = |us: u64| price::cost_decimal(us.saturating_mul(1_000_000));
    o.object(name, |o| {
        decimal(o, "mean", &ms(u64::try_from(mean).unwrap_or(u64::MAX)));
        decimal(o, "p50", &ms(median));
        for (name, per_mille) in [("p90", 900), ("p99", 990)] {
            decimal(o, name, &ms(sketch.quantile(per_mille).unwrap_or(0)));
        }
    });
}

/// A part of a whole, to a millionth.
fn ratio(part: u64, whole: u64) -> String {
    let millionths = (u128::from(part) * 1_000_000).checked_div(u128::from(whole)).unwrap_or(0);
    price::cost_decimal(u64::try_from(millionths).unwrap_or(0).saturating_mul(1_000))
}

/// A moment, in RFC 3339.
pub(super) fn told(at: u64) -> String {
    let at = i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    at.unwrap_or(Timestamp::MAX).to_string()
}

/// A number with all its digits.
fn decimal(o: &mut Object<'_>, name: &str, text: &str) {
    if let Ok(number) = serde_json::from_str::<Number<'_>>(text) {
        o.digits(name, &number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::query::Unit;

    const NOW: u64 = 1_795_000_000_000;

    #[test]
    fn parameters_are_read() {
        let asked = read(
            "from=2026-11-01&to=2026-11-02T00:00:00+01:00&time_zone=UTC&bucket=day&group_by=model,tag.a%20b,model\
             &team=x&team=y&tag.a+b=c+d&limit=5&key=secret",
            &["key"],
        )
        .unwrap();
        assert_eq!((asked.from, asked.to), (Some(1_793_491_200_000), Some(1_793_574_000_000)));
        assert_eq!(moment("2026-11-01", &TimeZone::fixed(jiff::tz::offset(1))), Some(1_793_487_600_000));
        let tag = || GroupBy::Tag("a b".into());
        assert_eq!(asked.group_by, [GroupBy::Time(Unit::Day), GroupBy::Model, tag()]);
        let only = [(GroupBy::Team, "x".into()), (GroupBy::Team, "y".into()), (tag(), "c d".into())];
        assert_eq!(asked.only, only);
        assert_eq!(asked.limit, 5);
        let asked = asked.within(GroupBy::Team, "own");
        assert_eq!(asked.only, [(tag(), "c d".into()), (GroupBy::Team, "own".into())], "nobody leaves his own");
        assert_eq!(read("from=5&to=7", &[]).map(|asked| (asked.from, asked.to)), Ok((Some(5), Some(7))));
        assert_eq!(read("", &[]), Ok(Query { limit: PAGE, ..Query::default() }));
        assert_eq!(read("page=20-99", &[]).map(|asked| (asked.skip, asked.to)), Ok((20, Some(99))));
    }

    #[test]
    fn mistakes_are_named() {
        for (query, parameter) in [
            ("from=soon", "from"),
            ("from=7&to=5", "to"),
            ("to=2026-13-01", "to"),
            ("time_zone=Mars/Base", "time_zone"),
            ("bucket=model", "bucket"),
            ("group_by=model,colour", "group_by"),
            ("limit=0", "limit"),
            ("limit=10001", "limit"),
            ("page=x", "page"),
            ("colour=red", "colour"),
            ("day=1", "day"),
        ] {
            assert_eq!(read(query, &[]).unwrap_err().parameter, parameter, "{query}");
        }
    }

    #[test]
    fn answers_have_all_digits_and_a_next_page() {
        let mut total = UsageRow {
            attempts: 3,
            errors: 1,
            cost: 1_234_567_890_123_456_789,
            saved: 5,
            charge: 7_000_000_000,
            settled: 2,
            latency_us: 3_000,
            ..UsageRow::default()
        };
        total.latencies.add(1_000);
        total.latencies.add(2_000);
        let report = Report { rows: vec![total.clone()], total, groups: 2, rolled_up: Some(0) };
        let currencies = [Currency { code: "cny".into(), per_usd_micro: 7_200_000 }];
        let text = String::from_utf8(json(&report, &Query::default(), &currencies, Eyes::Operator, NOW)).unwrap();
        for part in [
            r#""cost_usd":1234567890.123456789,"charge_usd":7,"cache_savings_usd":0.000000005,"cost_cny":8888888808.888888881"#,
            r#""error_rate":0.333333"#,
            r#""latency_ms":{"mean":1.5,"p50":"#,
            r#""ttft_ms":null"#,
            r#""rolled_up_until":"1970-01-01T00:00:00Z""#,
            r#""next":"1-1795000000000""#,
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let text = String::from_utf8(json(&report, &Query::default(), &currencies, Eyes::Customer, NOW)).unwrap();
        assert!(text.contains(r#""cost_usd":7,"cost_cny":50.4"#), "{text}");
        assert!(!text.contains("1234567890") && !text.contains("charge_usd"), "{text}");
    }
}
