//! Limits of levels: from what is written to what calls take of, with the state that outlives the snapshot.

use super::build::Build;
use super::file::{CallLimit, CallLimits, LimitBy, LimitOf, LimitPer, ShortLimits};
use super::problem::Route;
use super::value::{self, Amount};
use crate::policy::limit::{By, Elastic, Limit, Of, Per, States};
use crate::policy::price::cost_decimal;

/// Most limits of one level: each costs every call of the level some time.
const MOST: usize = 16;
/// The largest amount: sums of it are far from overflow.
const LARGEST: u64 = 1_000_000_000_000_000;
const BILLION: u128 = 1_000_000_000;

/// The limits of a level. What cannot be is left out; [`Build::call_limits`] has told of it.
pub(super) fn limits(written: &CallLimits, level: &str, states: &States) -> Box<[Limit]> {
    let all = match written {
        CallLimits::Short(short) => in_full(short),
        CallLimits::List(list) => list.iter().filter_map(|one| rules(one).ok()).collect(),
    };
    let made = all.into_iter().take(MOST).map(|Rules { of, most, per, by, elastic }| {
        let state = states.state(level, of, per, &by);
        Limit { of, most, per, by, elastic, state }
    });
    made.collect()
}

/// One limit without its state.
struct Rules {
    of: Of,
    most: u64,
    per: Per,
    by: By,
    elastic: Option<Elastic>,
}

/// The most that a limit lets through of one thing at once or in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ceiling {
    of: Of,
    per: Per,
    most: u64,
}

/// Those of a level, whatever they count by.
pub(super) fn ceilings(written: &CallLimits) -> Vec<Ceiling> {
    let all = match written {
        CallLimits::Short(short) => in_full(short),
        CallLimits::List(list) => list.iter().filter_map(|one| rules(one).ok()).collect(),
    };
    let ceiling = |Rules { of, most, per, by, elastic }| {
        let saved = if let By::TokenBucket { burst } = by { burst } else { most };
        let idle = elastic.map_or(most, |elastic: Elastic| elastic.most);
        Ceiling { of, per, most: most.max(saved).max(idle) }
    };
    all.into_iter().take(MOST).map(ceiling).collect()
}

impl Ceiling {
    /// Whether it is more of the same thing in no longer a time.
    pub fn exceeds(&self, above: &Ceiling) -> bool {
        self.of == above.of && self.per <= above.per && self.most > above.most
    }
}

impl std::fmt::Display for Ceiling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = self.of.name().replace('_', " ");
        match self.of {
            Of::Concurrency => write!(f, "{} calls at once", self.most),
            Of::Spend => write!(f, "{} US dollars a {}", cost_decimal(self.most), self.per.name()),
            _ => write!(f, "{} {of} a {}", self.most, self.per.name()),
        }
    }
}

fn in_full(short: &ShortLimits) -> Vec<Rules> {
    let ShortLimits { rps, rpm, rph, rpd, tpm, tph, tpd, itpm, otpm, concurrency } = *short;
    let windows = [
        (Of::Requests, Per::Second, rps),
        (Of::Requests, Per::Minute, rpm),
        (Of::Requests, Per::Hour, rph),
        (Of::Requests, Per::Day, rpd),
        (Of::Tokens, Per::Minute, tpm),
        (Of::Tokens, Per::Hour, tph),
        (Of::Tokens, Per::Day, tpd),
        (Of::InputTokens, Per::Minute, itpm),
        (Of::OutputTokens, Per::Minute, otpm),
    ];
    let rules = |of, per, by, most: Option<u64>| Some(Rules { of, most: most?.max(1), per, by, elastic: None });
    let windows = windows.into_iter().filter_map(|(of, per, most)| rules(of, per, By::SlidingWindow, most));
    windows.chain(rules(Of::Concurrency, Per::Second, By::AtOnce, concurrency)).collect()
}

/// Reads one of a list.
///
/// # Errors
/// The field that is wrong, and how to write it.
fn rules(written: &CallLimit) -> Result<Rules, (&'static str, String)> {
    let of = match written.of {
        LimitOf::Requests => Of::Requests,
        LimitOf::InputTokens => Of::InputTokens,
        LimitOf::OutputTokens => Of::OutputTokens,
        LimitOf::Tokens => Of::Tokens,
        LimitOf::Images => Of::Images,
        LimitOf::Characters => Of::Characters,
        LimitOf::Spend => Of::Spend,
        LimitOf::Concurrency => Of::Concurrency,
    };
    let most = amount(of, written.most).map_err(|message| ("most", message))?;
    let elastic = match written.elastic {
        None => None,
        Some(elastic) => {
            let more = amount(of, elastic.most).map_err(|message| ("elastic", message))?;
            if more <= most {
                return Err((
                    "elastic",
                    "`most` of `elastic` is what holds while the gateway is idle: write more than the limit's own"
                        .into(),
                ));
            }
            Some(Elastic { most: more, calls: elastic.calls.max(1) })
        }
    };
    let per = match (of, written.per) {
        (Of::Concurrency, None) => Per::Second,
        (Of::Concurrency, Some(_)) => return Err(("per", "calls at once are counted in no time: take it out".into())),
        (_, None) => return Err(("per", "write the time that it is for: second, minute, hour or day".into())),
        (_, Some(LimitPer::Second)) => Per::Second,
        (_, Some(LimitPer::Minute)) => Per::Minute,
        (_, Some(LimitPer::Hour)) => Per::Hour,
        (_, Some(LimitPer::Day)) => Per::Day,
    };
    let by = match (of, written.by) {
        (Of::Concurrency, None) => By::AtOnce,
        (Of::Concurrency, Some(_)) => {
            return Err(("by", "calls at once are counted as they come and go: take it out".into()));
        }
        (_, None | Some(LimitBy::SlidingWindow)) => By::SlidingWindow,
        (_, Some(LimitBy::TokenBucket)) => {
            let burst =
                written.burst.map_or(Ok(most), |burst| amount(of, burst)).map_err(|message| ("burst", message))?;
            By::TokenBucket { burst }
        }
        (_, Some(LimitBy::FixedWindow)) => {
            let zone = value::zone(written.time_zone.as_deref().unwrap_or("UTC"));
            By::FixedWindow { zone: zone.map_err(|message| ("time_zone", message))? }
        }
    };
    if written.burst.is_some() && !matches!(by, By::TokenBucket { .. }) {
        return Err(("burst", "only what flows in can be saved up: add `by: token_bucket`, or take it out".into()));
    }
    if written.time_zone.is_some() && !matches!(by, By::FixedWindow { .. }) {
        return Err((
            "time_zone",
            "only a window of the calendar has one: add `by: fixed_window`, or take it out".into(),
        ));
    }
    Ok(Rules { of, most, per, by, elastic })
}

/// An amount of such things, in the unit that is counted.
fn amount(of: Of, written: Amount) -> Result<u64, String> {
    let units = match of {
        Of::Spend => written.0,
        _ if !written.0.is_multiple_of(BILLION) => return Err("write a whole number".into()),
        _ => written.0 / BILLION,
    };
    match u64::try_from(units) {
        Ok(0) => Err("with nothing nothing may be done: write more than 0, or `disabled: true`".into()),
        Ok(units) if units <= LARGEST => Ok(units),
        _ => Err("write less".into()),
    }
}

impl Build<'_> {
    /// Notes what is wrong with the limits of a level.
    pub(super) fn call_limits(&mut self, written: &CallLimits, route: &Route) {
        let CallLimits::List(list) = written else { return };
        if list.len() > MOST {
            self.wrong(route, format!("{MOST} limits at most"));
        }
        let mut seen = Vec::new();
        for (number, one) in list.iter().enumerate() {
            let route = route.index(number);
            match rules(one) {
                Err((field, message)) => self.wrong(&route.key(field), message),
                Ok(rules) => {
                    let id = Limit::id(rules.of, rules.per, &rules.by);
                    if seen.contains(&id) {
                        self.wrong(&route, "another limit of this list bounds the same: leave the lower one");
                    }
                    seen.push(id);
                }
            }
        }
    }
}
