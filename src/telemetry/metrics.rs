//! Prometheus metrics, named by its conventions ("Metric and label naming", seen 2026-11-21): base units, `_total` for
//! counters.
//!
//! Label values come from the configuration and from lists of ours, so the number of series is bounded by what the operator
//! wrote; names of lost fields, which callers may make up, are bounded by number.

use std::sync::Arc;

use prometheus::{
    CounterVec, Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

use super::budgets::BudgetGauges;
use super::losses::LossCounters;
use super::series::{AllSeries, Series};
use crate::policy::budget::Spending;

/// Upper bounds of the time histograms, in seconds: from a local model's first token to a long answer's end.
const SECONDS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];

/// All metrics of this process.
pub struct Metrics {
    registry: Registry,
    pub requests: IntCounterVec,
    pub errors: IntCounterVec,
    pub duration: HistogramVec,
    pub first_token: HistogramVec,
    pub attempts: IntCounterVec,
    pub arm_attempts: IntCounterVec,
    pub attempt_duration: HistogramVec,
    pub fallbacks: IntCounterVec,
    pub rules: IntCounterVec,
    pub classes: IntCounterVec,
    pub retries_withheld: IntCounterVec,
    pub limit_refusals: IntCounterVec,
    pub over_budget: IntCounterVec,
    pub budget_drift: IntCounter,
    pub budget_alerts: IntCounterVec,
    pub bearers: IntCounterVec,
    pub issuer_requests: IntCounterVec,
    pub continuations: IntCounterVec,
    pub tokens: IntCounterVec,
    pub cost: CounterVec,
    pub unpriced: IntCounterVec,
    pub losses: IntCounterVec,
    pub losses_by_field: LossCounters,
    pub reloads: IntCounterVec,
    pub upgrades: IntCounterVec,
    pub reload_time: Gauge,
    pub config_info: GaugeVec,
    pub journal_errors: IntCounterVec,
    pub hedges: IntCounterVec,
    pub dedup: IntCounterVec,
    pub shadows: IntCounterVec,
    pub shadow_outcomes: IntCounterVec,
    pub shadow_answers: IntCounterVec,
    pub shadow_finishes: IntCounterVec,
    pub shadow_tokens: IntCounterVec,
    pub shadow_cost: CounterVec,
    pub shadow_time: HistogramVec,
    pub probes: IntCounterVec,
    pub probe_ok: GaugeVec,
    pub token_refreshes: IntCounterVec,
    pub token_expiry: GaugeVec,
    pub streams_cut: IntCounter,
    pub log_dropped: IntCounter,
    pub panics: IntCounter,
    store: StoreMetrics,
    in_flight: IntGauge,
    waiting: IntGauge,
    buffered: IntGauge,
    ledger_lag: IntGauge,
    target_cooling: GaugeVec,
    series: AllSeries,
    budgets: BudgetGauges,
}

struct StoreMetrics {
    appended: IntCounter,
    failed: IntCounter,
    lost: IntCounter,
    kept: IntGauge,
    healthy: IntGauge,
    busy: IntCounter,
    orphaned: IntCounter,
    damaged: IntCounter,
    rebuilt: IntCounter,
}

/// Figures of journal and ledger since the start, as they stand when metrics are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoreSeen {
    pub appended: u64,
    pub failed: u64,
    pub lost: u64,
    pub kept: u64,
    pub healthy: bool,
    pub ledger_failures: u64,
    pub orphaned: u64,
    pub damaged: u64,
    pub rebuilt: u64,
}

impl Metrics {
    pub fn new() -> Arc<Metrics> {
        let registry = Registry::new();
        let target = ["provider", "model", "target"];
        let metrics = Metrics {
            requests: counters(
                &registry,
                "requests_total",
                "Calls that were answered, by status and outcome.",
                &["model", "provider", "dialect", "status", "outcome"],
            ),
            errors: counters(&registry, "errors_total", "Calls that failed or were refused, by kind.", &["kind"]),
            duration: histogram(
                &registry,
                "request_duration_seconds",
                "From a call's head to the last byte of its answer.",
                &["model", "provider", "stream"],
            ),
            first_token: histogram(
                &registry,
                "time_to_first_token_seconds",
                "From a call's head to the first content of its answer.",
                &["model", "provider", "stream"],
            ),
            attempts: counters(
                &registry,
                "attempts_total",
                "Attempts at targets, by outcome.",
                &["provider", "model", "target", "outcome"],
            ),
            arm_attempts: counters(
                &registry,
                "arm_attempts_total",
                "Attempts at targets of a model's arms, by outcome.",
                &["model", "arm", "outcome"],
            ),
            attempt_duration: histogram(
                &registry,
                "attempt_duration_seconds",
                "From dispatch to the end of an attempt.",
                &target,
            ),
            fallbacks: counters(
                &registry,
                "fallbacks_total",
                "Further attempts after a failed one, by where they went.",
                &["model", "target"],
            ),
            classes: counters(
                &registry,
                "classes_total",
                "Calls by the class of task that they were taken for (empty: none), and whether rules saw it.",
                &["class", "mode"],
            ),
            rules: counters(
                &registry,
                "rules_total",
                "Calls that met a rule, or that it could not be judged for (absent, overflow, divided_by_zero).",
                &["rule", "outcome"],
            ),
            retries_withheld: counters(
                &registry,
                "retries_withheld_total",
                "Further attempts that were not made because the retry budget is spent.",
                &["model"],
            ),
            bearers: counters(
                &registry,
                "bearer_tokens_total",
                "Tokens of callers that were looked at, and not known from before, by issuer (empty: none that is trusted) and result.",
                &["issuer", "result"],
            ),
            issuer_requests: counters(
                &registry,
                "issuer_requests_total",
                "Requests to issuers of callers' tokens for their keys, and questions that they did not answer, by result.",
                &["issuer", "result"],
            ),
            limit_refusals: counters(
                &registry,
                "limit_refusals_total",
                "Calls refused by a limit, by the kind of level that has it (key, user, project, team, organisation) and what it bounds.",
                &["level", "limit"],
            ),
            over_budget: counters(
                &registry,
                "over_budget_total",
                "Attempts that were not made because a budget had no room, by the level whose it is.",
                &["level"],
            ),
            budget_drift: count(
                &registry,
                "budget_corrections_total",
                "Budgets that were not what the rows of the ledger say, and were put right.",
            ),
            budget_alerts: counters(
                &registry,
                "budget_alerts_total",
                "Parts of budgets that came to be spent, by what became of telling it: sent, failed, untold.",
                &["result"],
            ),
            budgets: BudgetGauges::new(&registry),
            continuations: counters(
                &registry,
                "continuations_total",
                "Streams that broke and were to be gone on with: ok, failed, impossible.",
                &["model", "result"],
            ),
            tokens: counters(
                &registry,
                "tokens_total",
                "Tokens used, by kind; cached and reasoning tokens are parts of input and output.",
                &["provider", "model", "kind"],
            ),
            cost: registered(
                &registry,
                CounterVec::new(
                    opts("cost_usd_total", "Cost in US dollars. The ledger has the exact sums."),
                    &["provider", "model"],
                ),
            ),
            unpriced: counters(&registry, "unpriced_attempts_total", "Attempts whose target has no price.", &target),
            losses: counters(
                &registry,
                "lossy_attempts_total",
                "Attempts that lost part of their request or answer on the way.",
                &target,
            ),
            losses_by_field: LossCounters::new(counters(
                &registry,
                "losses_total",
                "Parts of requests and answers that were dropped, altered or emulated, by path without indices.",
                &["client", "provider_dialect", "field", "kind"],
            )),
            reloads: counters(&registry, "config_reloads_total", "Reloads of the configuration.", &["result"]),
            upgrades: counters(&registry, "upgrades_total", "Tries to hand over to another process.", &["result"]),
            reload_time: registered(
                &registry,
                Gauge::with_opts(opts(
                    "config_last_reload_success_timestamp_seconds",
                    "When the configuration in force was loaded.",
                )),
            ),
            config_info: registered(
                &registry,
                GaugeVec::new(opts("config_info", "The configuration in force."), &["version"]),
            ),
            journal_errors: counters(
                &registry,
                "journal_errors_total",
                "Records that could not be appended to the journal.",
                &["record"],
            ),
            token_refreshes: counters(
                &registry,
                "token_refreshes_total",
                "Tokens fetched for providers, by result.",
                &["provider", "result"],
            ),
            hedges: counters(
                &registry,
                "hedges_total",
                "Late calls that another target was to be asked for too: won, lost, failed, capped, nowhere (no target was ready).",
                &["model", "result"],
            ),
            dedup: counters(
                &registry,
                "dedup_total",
                "Calls that identical ones may join (leader), that joined one (follower; broken: its answer broke), that tried again after \
                 it had failed (retried), or came too late for it (alone).",
                &["model", "role"],
            ),
            shadows: counters(
                &registry,
                "shadows_total",
                "Calls that were to be copied to another model, by what became of the copy: ok, failed, dropped (too many), nowhere (no target was ready).",
                &["model", "to", "result"],
            ),
            shadow_outcomes: counters(
                &registry,
                "shadow_outcomes_total",
                "Calls and their copies, by the outcomes of both.",
                &["model", "to", "main", "shadow"],
            ),
            shadow_answers: counters(
                &registry,
                "shadow_answers_total",
                "Calls and their copies that both worked, by the likeness of the answers: same, alike (but for case, spaces, \
                 punctuation), arguments (same tools, other arguments), calls (other tools, or none), different, unread.",
                &["model", "to", "likeness"],
            ),
            shadow_finishes: counters(
                &registry,
                "shadow_finishes_total",
                "Calls and their copies that both worked, by the reasons why their answers ended.",
                &["model", "to", "main", "shadow"],
            ),
            shadow_tokens: counters(
                &registry,
                "shadow_tokens_total",
                "Tokens of calls (side main) and of their copies (side shadow), where both worked.",
                &["model", "to", "side", "kind"],
            ),
            shadow_cost: registered(
                &registry,
                CounterVec::new(
                    opts("shadow_cost_usd_total", "What copies cost, part of cost_usd_total too."),
                    &["model", "to"],
                ),
            ),
            shadow_time: histogram(
                &registry,
                "shadow_seconds",
                "Time of calls (side main) and of their copies (side shadow), to the first content and to the end, where both worked.",
                &["model", "to", "side", "until"],
            ),
            probes: counters(
                &registry,
                "probes_total",
                "Questions whether a target (or a provider, for all its targets) is well, by result: ok, failed, unspent, full.",
                &["target", "ask", "result"],
            ),
            probe_ok: registered(
                &registry,
                GaugeVec::new(
                    opts("probe_ok", "1 while the last question whether a target is well was answered well."),
                    &["target"],
                ),
            ),
            token_expiry: registered(
                &registry,
                GaugeVec::new(
                    opts("token_expiry_timestamp_seconds", "When a provider's token ends; it is renewed before."),
                    &["provider"],
                ),
            ),
            streams_cut: registered(
                &registry,
                IntCounter::with_opts(opts("streams_cut_total", "Streams ended by a stop of this process.")),
            ),
            log_dropped: registered(
                &registry,
                IntCounter::with_opts(opts(
                    "log_lines_dropped_total",
                    "Log lines dropped because their reader was too slow.",
                )),
            ),
            panics: count(&registry, "panics_total", "Panics: each one is a bug."),
            store: StoreMetrics {
                appended: count(&registry, "journal_appends_total", "Records that the journal has taken."),
                failed: count(&registry, "journal_failures_total", "Writes and syncs of the journal that failed."),
                lost: count(&registry, "journal_lost_total", "Settlements that were neither written nor kept."),
                kept: registered(
                    &registry,
                    IntGauge::with_opts(opts(
                        "journal_kept_records",
                        "Settlements that wait in memory for the journal's disk.",
                    )),
                ),
                healthy: registered(
                    &registry,
                    IntGauge::with_opts(opts("journal_healthy", "0 while the journal's disk fails.")),
                ),
                busy: count(&registry, "ledger_failures_total", "Times the ledger could not be written."),
                orphaned: count(
                    &registry,
                    "ledger_orphaned_total",
                    "Attempts of dead processes that were counted at their reserve.",
                ),
                damaged: count(&registry, "journal_damaged_total", "Damaged places found in the journal."),
                rebuilt: count(&registry, "ledger_rebuilt_total", "Corrupt ledgers that were begun anew."),
            },
            in_flight: registered(&registry, IntGauge::with_opts(opts("requests_in_flight", "Calls being worked on."))),
            waiting: registered(
                &registry,
                IntGauge::with_opts(opts("requests_waiting", "Calls that wait for room at a provider.")),
            ),
            buffered: registered(
                &registry,
                IntGauge::with_opts(opts("buffered_bytes", "Bytes of request bodies held in memory.")),
            ),
            ledger_lag: registered(
                &registry,
                IntGauge::with_opts(opts(
                    "ledger_lag_records",
                    "Records in the journal that are not in the ledger yet.",
                )),
            ),
            target_cooling: registered(
                &registry,
                GaugeVec::new(opts("target_cooling", "1 while a target is left alone after failures."), &["target"]),
            ),
            series: AllSeries::default(),
            registry,
        };
        let info: GaugeVec =
            registered(&metrics.registry, GaugeVec::new(opts("build_info", "This program."), &["version"]));
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        Arc::new(metrics)
    }

    /// The series of a target under a model.
    pub fn series(&self, provider: &str, model: &str, target: &str) -> Arc<Series> {
        self.series.of(provider, model, target)
    }

    pub fn set_in_flight(&self, calls: usize) {
        self.in_flight.set(i64::try_from(calls).unwrap_or(i64::MAX));
    }

    pub fn set_waiting(&self, calls: usize) {
        self.waiting.set(i64::try_from(calls).unwrap_or(i64::MAX));
    }

    pub fn set_buffered(&self, bytes: usize) {
        self.buffered.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub fn set_ledger_lag(&self, records: u64) {
        self.ledger_lag.set(i64::try_from(records).unwrap_or(i64::MAX));
    }

    /// Takes over what journal and ledger have counted since the start.
    pub fn set_store(&self, seen: &StoreSeen) {
        let store = &self.store;
        for (counter, total) in [
            (&store.appended, seen.appended),
            (&store.failed, seen.failed),
            (&store.lost, seen.lost),
            (&store.busy, seen.ledger_failures),
            (&store.orphaned, seen.orphaned),
            (&store.damaged, seen.damaged),
            (&store.rebuilt, seen.rebuilt),
        ] {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
        store.kept.set(i64::try_from(seen.kept).unwrap_or(i64::MAX));
        store.healthy.set(i64::from(seen.healthy));
    }

    /// What is spent of budgets at an instant.
    pub fn set_budgets<'s>(&self, spendings: impl Iterator<Item = &'s Spending>, unix_ms: u64) {
        self.budgets.set(spendings, unix_ms);
    }

    pub fn set_target_state(&self, target: &str, cooling: bool) {
        self.target_cooling.with_label_values(&[target]).set(f64::from(u8::from(cooling)));
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        let mut out = Vec::new();
        // Fails only where the writer does, and a vector does not.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}

pub(super) fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("portolan_{name}"), help)
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(registry, IntCounterVec::new(opts(name, help), labels))
}

fn count(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::with_opts(opts(name, help)))
}

fn histogram(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    let opts = HistogramOpts::from(opts(name, help)).buckets(SECONDS.to_vec());
    registered(registry, HistogramVec::new(opts, labels))
}

#[expect(clippy::expect_used, reason = "runs once at start, on names fixed above; a test makes them all")]
pub(super) fn registered<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<C>,
) -> C {
    let collector = made.expect("a metric's name and labels are valid");
    registry.register(Box::new(collector.clone())).expect("a metric is registered once");
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_of_the_store_are_taken_over_once() {
        let metrics = Metrics::new();
        for appended in [3, 3, 8] {
            metrics.set_store(&StoreSeen { appended, healthy: true, ..StoreSeen::default() });
        }
        let text = metrics.render();
        assert!(text.contains("portolan_journal_appends_total 8\n"), "{text}");
        assert!(text.contains("portolan_journal_healthy 1\n"), "{text}");
    }

    #[test]
    fn names_follow_the_conventions() {
        let metrics = Metrics::new();
        metrics.requests.with_label_values(&["m", "p", "openai_chat", "200", "ok"]).inc();
        metrics.set_target_state("p/m", true);
        let text = metrics.render();
        assert!(text.contains("portolan_requests_total{dialect=\"openai_chat\",model=\"m\",outcome=\"ok\",provider=\"p\",status=\"200\"} 1"), "{text}");
        assert!(text.contains("portolan_target_cooling{target=\"p/m\"} 1"));
        for line in text.lines().filter(|line| line.starts_with("# TYPE")) {
            let mut words = line.split(' ').skip(2);
            let (name, kind) = (words.next().unwrap(), words.next().unwrap());
            assert!(name.starts_with("portolan_"), "{name}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        }
    }
}
