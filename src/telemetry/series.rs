//! The series of one target under one model, resolved once.
//!
//! A call counts in some ten series. To find each by its labels takes longer than to count in it, so what a target has
//! counted in before is kept here. A series is made when something is first counted in it, as by its labels.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use dashmap::DashMap;
use prometheus::{Counter, Histogram, IntCounter};

use super::Metrics;
use crate::exchange::record::Settlement;
use crate::ir::Usage;

/// All series that there are, by target.
#[derive(Default)]
pub(super) struct AllSeries(DashMap<String, Vec<Arc<Series>>>);

/// What is counted of one target under one model. All names are empty for calls that no target was tried for.
#[derive(Default)]
pub struct Series {
    pub provider: String,
    /// The model that was tried.
    pub model: String,
    pub target: String,
    attempts: ByName<IntCounter>,
    attempt_duration: OnceLock<Histogram>,
    /// In the order of [`Usage::parts`].
    tokens: [OnceLock<IntCounter>; 12],
    cost: OnceLock<Counter>,
    unpriced: OnceLock<IntCounter>,
    losses: OnceLock<IntCounter>,
    requests: ByAnswer,
    /// Of whole answers, and of streams.
    duration: [OnceLock<Histogram>; 2],
    first_token: [OnceLock<Histogram>; 2],
}

/// By outcome.
type ByName<T> = RwLock<Vec<(String, T)>>;
/// By dialect, status and outcome.
type ByAnswer = RwLock<Vec<((&'static str, u16, &'static str), IntCounter)>>;

/// What became of a call.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    pub dialect: &'static str,
    pub stream: bool,
    /// 0: nothing was answered.
    pub status: u16,
    pub outcome: &'static str,
    pub total_us: u64,
    /// 0: there was no content.
    pub ttft_us: u64,
}

impl AllSeries {
    pub fn of(&self, provider: &str, model: &str, target: &str) -> Arc<Series> {
        let find = |all: &Vec<Arc<Series>>| {
            all.iter().find(|series| series.model == model && series.provider == provider).cloned()
        };
        if let Some(found) = self.0.get(target).and_then(|all| find(&all)) {
            return found;
        }
        let mut all = self.0.entry(target.to_owned()).or_default();
        find(&all).unwrap_or_else(|| {
            let names = Series {
                provider: provider.to_owned(),
                model: model.to_owned(),
                target: target.to_owned(),
                ..Series::default()
            };
            let made = Arc::new(names);
            all.push(Arc::clone(&made));
            made
        })
    }
}

impl Series {
    /// Counts an attempt that is over.
    pub fn attempt(&self, settlement: &Settlement<'_>, metrics: &Metrics) {
        let Series { provider, model, target, .. } = self;
        let names = [provider.as_str(), model.as_str(), target.as_str()];
        let outcome: &str = &settlement.outcome;
        within(
            &self.attempts,
            |known| known == outcome,
            || outcome.to_owned(),
            || metrics.attempts.with_label_values(&[provider, model, target, outcome]),
        )
        .inc();
        self.attempt_duration
            .get_or_init(|| metrics.attempt_duration.with_label_values(&names))
            .observe(seconds(settlement.latency_us));
        for ((kind, count), tokens) in settlement.usage.as_ref().map(Usage::parts).iter().flatten().zip(&self.tokens) {
            if *count != 0 {
                tokens
                    .get_or_init(|| metrics.tokens.with_label_values(&[provider.as_str(), model.as_str(), kind]))
                    .inc_by(*count);
            }
        }
        self.cost
            .get_or_init(|| metrics.cost.with_label_values(&[provider, model]))
            .inc_by(settlement.cost as f64 / 1e9);
        if settlement.unpriced {
            self.unpriced.get_or_init(|| metrics.unpriced.with_label_values(&names)).inc();
        }
        if !settlement.losses.is_empty() {
            self.losses.get_or_init(|| metrics.losses.with_label_values(&names)).inc();
        }
    }

    /// Counts a call that is over.
    pub fn call(&self, answered: &Answered, metrics: &Metrics) {
        let Series { provider, model, .. } = self;
        let Answered { dialect, stream, status, outcome, total_us, ttft_us } = *answered;
        let answer = (dialect, status, outcome);
        within(
            &self.requests,
            |known| *known == answer,
            || answer,
            || metrics.requests.with_label_values(&[model, provider, dialect, &status.to_string(), outcome]),
        )
        .inc();
        let names = [model.as_str(), provider, if stream { "true" } else { "false" }];
        let ([whole_duration, duration], [whole_first, first]) = (&self.duration, &self.first_token);
        let (duration, first) = if stream { (duration, first) } else { (whole_duration, whole_first) };
        duration.get_or_init(|| metrics.duration.with_label_values(&names)).observe(seconds(total_us));
        if ttft_us != 0 {
            first.get_or_init(|| metrics.first_token.with_label_values(&names)).observe(seconds(ttft_us));
        }
    }
}

/// The series of a name, made where there is none. There are few: outcomes and statuses are lists of ours.
fn within<N, T: Clone>(
    all: &RwLock<Vec<(N, T)>>,
    is: impl Fn(&N) -> bool,
    name: impl FnOnce() -> N,
    make: impl FnOnce() -> T,
) -> T {
    let find = |all: &Vec<(N, T)>| all.iter().find(|(known, _)| is(known)).map(|(_, series)| series.clone());
    if let Some(found) = find(&all.read().unwrap_or_else(PoisonError::into_inner)) {
        return found;
    }
    let mut all = all.write().unwrap_or_else(PoisonError::into_inner);
    find(&all).unwrap_or_else(|| {
        let made = make();
        all.push((name(), made.clone()));
        made
    })
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown_and_nothing_else() {
        let metrics = Metrics::new();
        let usage = Usage { input: 3, output: 2, searches: 1, ..Usage::default() };
        let settlement = Settlement { outcome: "ok".into(), usage: Some(usage), cost: 5, ..Settlement::default() };
        for _ in 0..2 {
            metrics.series("p", "m", "p/m").attempt(&settlement, &metrics);
        }
        let failed = Settlement { outcome: "timeout".into(), unpriced: true, ..Settlement::default() };
        metrics.series("p", "other", "p/m").attempt(&failed, &metrics);
        let answered =
            Answered { dialect: "openai_chat", stream: true, status: 200, outcome: "ok", total_us: 7, ttft_us: 0 };
        metrics.series("p", "m", "p/m").call(&answered, &metrics);
        metrics.series("", "", "").call(&Answered { status: 400, outcome: "invalid", ..answered }, &metrics);
        metrics.series("", "", "").call(&Answered { status: 404, outcome: "invalid", ..answered }, &metrics);
        let text = metrics.render();
        let mut shown: Vec<_> =
            text.lines().filter(|line| line.contains("model=") && !line.contains("_bucket{")).collect();
        shown.sort_unstable();
        assert_eq!(
            shown,
            [
                r#"portolan_attempt_duration_seconds_count{model="m",provider="p",target="p/m"} 2"#,
                r#"portolan_attempt_duration_seconds_count{model="other",provider="p",target="p/m"} 1"#,
                r#"portolan_attempt_duration_seconds_sum{model="m",provider="p",target="p/m"} 0"#,
                r#"portolan_attempt_duration_seconds_sum{model="other",provider="p",target="p/m"} 0"#,
                r#"portolan_attempts_total{model="m",outcome="ok",provider="p",target="p/m"} 2"#,
                r#"portolan_attempts_total{model="other",outcome="timeout",provider="p",target="p/m"} 1"#,
                r#"portolan_cost_usd_total{model="m",provider="p"} 0.00000001"#,
                r#"portolan_cost_usd_total{model="other",provider="p"} 0"#,
                r#"portolan_request_duration_seconds_count{model="",provider="",stream="true"} 2"#,
                r#"portolan_request_duration_seconds_count{model="m",provider="p",stream="true"} 1"#,
                r#"portolan_request_duration_seconds_sum{model="",provider="",stream="true"} 0.000014"#,
                r#"portolan_request_duration_seconds_sum{model="m",provider="p",stream="true"} 0.000007"#,
                r#"portolan_requests_total{dialect="openai_chat",model="",outcome="invalid",provider="",status="400"} 1"#,
                r#"portolan_requests_total{dialect="openai_chat",model="",outcome="invalid",provider="",status="404"} 1"#,
                r#"portolan_requests_total{dialect="openai_chat",model="m",outcome="ok",provider="p",status="200"} 1"#,
                r#"portolan_tokens_total{kind="input",model="m",provider="p"} 6"#,
                r#"portolan_tokens_total{kind="output",model="m",provider="p"} 4"#,
                r#"portolan_tokens_total{kind="searches",model="m",provider="p"} 2"#,
                r#"portolan_unpriced_attempts_total{model="other",provider="p",target="p/m"} 1"#,
            ]
        );
    }
}
