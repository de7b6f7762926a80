//! The whole of why a call went where it went: rules, looks at targets, attempts, and what each cost by which price.
//!
//! Kept only where an operator asks for it; what a caller reads in `x-portolan-route` is a line of the same values
//! ([`super::Why`]). Names, numbers and paths, never what was said: a provider's own sentence may repeat a prompt, so a
//! fault is told by its kind alone.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::decide::{Decision, Verdict};
use super::held::Ready;
use super::plan::{Look, Standing};
use super::record::Settlement;
use super::{Aside, Attempt, Call, Held};
use crate::config::snapshot::PricedTarget;
use crate::ir::{FaultKind, Usage};
use crate::policy::Moment;
use crate::policy::classes::Judged;
use crate::policy::price::{Line, Nano, cost_decimal};
use crate::policy::rules::Rule;
use crate::wire::writer::{self, Object};

/// Most attempts that are told of one call.
const MOST_ATTEMPTS: usize = 64;

/// What is gathered while a call lives. Shared by all who make attempts for it.
#[derive(Debug)]
pub struct Explanation {
    call: Arc<Call>,
    /// Every rule that was looked at.
    rules: Vec<(Arc<Rule>, Verdict)>,
    attempts: Mutex<Vec<Tried>>,
}

/// An attempt that is over.
#[derive(Debug)]
struct Tried {
    /// `call`, or why it was made beside the call's own.
    role: &'static str,
    number: u32,
    model: String,
    target: Arc<PricedTarget>,
    credential: Option<usize>,
    began: Moment,
    outcome: String,
    status: u16,
    fault: Option<(FaultKind, Option<Duration>)>,
    first_us: u64,
    total_us: u64,
    usage: Option<Usage>,
    estimated: bool,
    cost: Nano,
    losses: String,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended<'e> {
    pub id: &'e str,
    pub started: Moment,
    pub config_version: &'e str,
    pub key: Option<&'e str>,
    pub dialect: &'static str,
    /// `ok`, or the name of what went wrong.
    pub outcome: &'e str,
    /// 0: nothing was answered.
    pub status: u16,
    pub cost: Nano,
    pub unpriced: bool,
    pub first_us: u64,
    pub total_us: u64,
}

impl Explanation {
    /// Begins with the rules that were looked at.
    pub fn new(call: Arc<Call>, rules: Vec<(Arc<Rule>, Verdict)>) -> Explanation {
        Explanation { call, rules, attempts: Mutex::default() }
    }

    /// Notes an attempt of the call's own or beside it, once it is settled and while it holds its claim.
    pub fn tried(&self, attempt: &Attempt, settlement: &Settlement<'_>) {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        if attempts.len() >= MOST_ATTEMPTS {
            return;
        }
        attempts.push(Tried {
            role: attempt.aside.map_or("call", Aside::name),
            number: attempt.number,
            model: attempt.candidate.model.name.clone(),
            target: attempt.candidate.target.clone(),
            credential: attempt.held.as_ref().map(Held::credential),
            began: attempt.started,
            outcome: settlement.outcome.to_string(),
            status: settlement.status,
            fault: attempt.fault.as_ref().map(|fault| (fault.kind, fault.retry_after)),
            first_us: settlement.ttft_us,
            total_us: settlement.latency_us,
            usage: settlement.usage,
            estimated: settlement.estimated,
            cost: settlement.cost,
            losses: settlement.losses.to_string(),
        });
    }

    /// Everything as JSON. `decision` and `looks` are the plan's; empty where none was made.
    pub fn write(&self, ended: &Ended<'_>, decision: Option<&Decision>, looks: &[Look], out: &mut Vec<u8>) {
        writer::object(out, |o| {
            o.string("id", ended.id);
            o.number("at_ms", ended.started.unix_ms);
            o.string("config_version", ended.config_version);
            if let Some(key) = ended.key {
                o.string("key", key);
            }
            o.string("dialect", ended.dialect);
            request(&self.call, o);
            o.string("outcome", ended.outcome);
            o.number("status", u64::from(ended.status));
            told(&self.rules, decision, looks, ended.started.mono, o);
            o.array("attempts", |a| {
                for tried in self.attempts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                    a.object(|o| tried.write(ended.started, o));
                }
            });
            o.number("first_token_us", ended.first_us);
            o.number("total_us", ended.total_us);
            o.number("cost_nano_usd", ended.cost);
            o.string("cost_usd", &cost_decimal(ended.cost));
            o.bool("unpriced", ended.unpriced);
        });
    }
}

/// What is known of the request without reading what it says.
pub fn request(call: &Call, o: &mut Object<'_>) {
    o.object("request", |o| {
        o.string("model", &call.model);
        o.bool("stream", call.stream);
        o.string("operation", if call.count { "count" } else { "generate" });
        o.number("input_tokens_estimate", call.input_estimate);
        if let Some(most) = call.max_output {
            o.number("max_tokens", most);
        }
        o.number("body_bytes", call.body.len() as u64);
    });
}

/// What was decided, and each look at the targets. `start` is the call's, in monotonic microseconds.
pub fn told(
    rules: &[(Arc<Rule>, Verdict)],
    decision: Option<&Decision>,
    looks: &[Look],
    start: u64,
    o: &mut Object<'_>,
) {
    o.array("rules", |a| {
        for (rule, verdict) in rules {
            a.object(|o| {
                o.string("rule", &rule.name);
                o.string("outcome", verdict.name());
            });
        }
    });
    if let Some(judged) = decision.and_then(|decision| decision.class.as_ref()) {
        o.object("class", |o| class(judged, o));
    }
    if let Some(model) = decision.and_then(|decision| decision.model.as_ref()) {
        o.string("led_to", &model.name);
    }
    o.array("choices", |a| {
        for (number, look) in looks.iter().enumerate() {
            let again = (number > 0).then_some("fallback");
            a.object(|o| choice(look, decision, again, start, o));
        }
    });
}

fn class(judged: &Judged, o: &mut Object<'_>) {
    match &judged.class {
        Some(name) => o.string("name", name),
        None => o.null("name"),
    }
    decimal("score", Some(judged.score), o);
    if let Some((name, score)) = &judged.runner_up {
        o.object("runner_up", |o| {
            o.string("name", name);
            decimal("score", Some(*score), o);
        });
    }
    o.string("mode", if judged.shadow { "shadow" } else { "live" });
}

fn choice(look: &Look, decision: Option<&Decision>, again: Option<&str>, start: u64, o: &mut Object<'_>) {
    o.number("at_us", look.at.saturating_sub(start));
    o.string("strategy", look.strategy.name());
    o.string("strategy_from", look.strategy_from);
    match look.candidates.iter().find_map(|one| one.chosen.map(|why| (one, why))) {
        Some((one, why)) => {
            o.string("chosen", &one.target.target.id);
            if let Some(decision) = decision {
                o.string("route", &why.line(&one.model, decision, again));
            }
        }
        None => o.null("chosen"),
    }
    o.array("candidates", |a| {
        for one in &look.candidates {
            a.object(|o| {
                o.string("model", &one.model.name);
                o.string("target", &one.target.target.id);
                o.string("standing", one.standing.name());
                match &one.standing {
                    Standing::Barred { rule } => o.string("rule", rule),
                    Standing::Is(Ready::Full { until }) if *until != u64::MAX => {
                        o.number("until_us", until.saturating_sub(start));
                    }
                    Standing::Is(Ready::Resting { until, stated, limited }) => {
                        o.number("until_us", until.saturating_sub(start));
                        o.bool("stated", *stated);
                        o.bool("limited", *limited);
                    }
                    _ => {}
                }
                if let Some(region) = &one.target.region {
                    o.string("region", region);
                }
                o.number("weight", u64::from(one.target.target.weight));
                decimal("score", one.score, o);
                decimal("expected_usd", one.expected_usd, o);
                decimal("latency_seconds", Some(one.latency), o);
                decimal("success", Some(one.success), o);
                o.number("in_flight", u64::from(one.in_flight));
            });
        }
    });
    if look.more != 0 {
        o.number("more_candidates", look.more as u64);
    }
}

impl Tried {
    fn write(&self, start: Moment, o: &mut Object<'_>) {
        o.number("number", u64::from(self.number));
        o.string("role", self.role);
        o.string("model", &self.model);
        o.string("target", &self.target.target.id);
        let credentials = &self.target.target.provider.credentials;
        if let Some(credential) = self.credential.and_then(|place| credentials.get(place)) {
            o.string("credential", &credential.name);
        }
        o.number("began_us", self.began.since(start));
        o.string("outcome", &self.outcome);
        o.number("status", u64::from(self.status));
        if let Some((kind, retry_after)) = self.fault {
            o.string("fault", kind.name());
            if let Some(wait) = retry_after {
                o.number("retry_after_ms", u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            }
        }
        o.number("first_token_us", self.first_us);
        o.number("total_us", self.total_us);
        if !self.losses.is_empty() {
            o.string("losses", &self.losses);
        }
        if let Some(usage) = &self.usage {
            o.object("cost", |o| self.arithmetic(usage, o));
        }
    }

    /// Which row of prices, and each part of the usage at its rate.
    fn arithmetic(&self, usage: &Usage, o: &mut Object<'_>) {
        o.bool("estimated", self.estimated);
        let Some(price) = &self.target.price else {
            o.null("price");
            return;
        };
        o.string("price", &price.version);
        if let Some(above) = price.tier(usage.input) {
            o.number("tier_above", above);
        }
        o.array("lines", |a| {
            price.lines(usage, &mut |line: Line| {
                if line.count == 0 {
                    return;
                }
                a.object(|o| {
                    o.string("part", line.part);
                    o.number("count", line.count);
                    o.number(if line.each { "nano_usd_each" } else { "nano_usd_per_million" }, line.rate);
                });
            });
        });
        o.number("nano_usd", self.cost);
        o.string("usd", &cost_decimal(self.cost));
    }
}

/// A figure that is near enough, or nothing where there is none.
fn decimal(name: &str, figure: Option<f32>, o: &mut Object<'_>) {
    if let Some(figure) = figure.filter(|figure| figure.is_finite()) {
        let mut text = String::with_capacity(16);
        let _ = write!(text, "{figure:.6}");
        o.value(name).extend_from_slice(text.as_bytes());
    }
}
