//! What happens, as structs: emitting one writes its metric and its line in the log. No secret is ever a field.

use std::time::Duration;

use super::{Metrics, Series};
use crate::exchange::record::Settlement;
use crate::ir::FaultKind;
use crate::policy::budget::Short;
use crate::policy::price::cost_decimal;

/// An attempt is over and settled.
pub struct AttemptFinished<'e> {
    pub request: &'e str,
    pub number: u32,
    pub series: &'e Series,
    pub settlement: &'e Settlement<'e>,
    /// The provider's own sentence, where it failed.
    pub message: Option<&'e str>,
}

impl AttemptFinished<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        let Self { series, settlement, .. } = self;
        series.attempt(settlement, metrics);
        let (request, attempt, target) = (self.request, self.number, series.target.as_str());
        let latency_ms = settlement.latency_us / 1_000;
        match &*settlement.outcome {
            "ok" => {}
            // Nothing is wrong with it: another one was quicker, or nobody wanted to know any more.
            outcome @ ("outpaced" | "cancelled") => {
                tracing::debug!(request, attempt, target, outcome, latency_ms, "an attempt was left");
            }
            outcome => tracing::warn!(
                request,
                attempt,
                target,
                outcome,
                status = settlement.status,
                latency_ms,
                message = self.message.map(clean),
                "an attempt failed"
            ),
        }
    }
}

/// No connection to a provider could be made: why, for the operator (callers are told less).
pub struct ConnectFailed<'e> {
    pub request: &'e str,
    pub target: &'e str,
    pub cause: &'e str,
}

impl ConnectFailed<'_> {
    pub fn emit(&self) {
        tracing::warn!(request = self.request, target = self.target, cause = %clean(self.cause), "no connection to a provider");
    }
}

/// A further attempt goes to another target, or to the same once more.
pub struct FellBack<'e> {
    pub request: &'e str,
    pub model: &'e str,
    pub to: &'e str,
}

impl FellBack<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.fallbacks.with_label_values(&[self.model, self.to]).inc();
        tracing::info!(request = self.request, model = self.model, to = self.to, "another attempt is made");
    }
}

/// The class of task of a call was decided.
pub struct ClassJudged<'e> {
    /// `None`: like no class enough.
    pub class: Option<&'e str>,
    pub shadow: bool,
}

impl ClassJudged<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        let mode = if self.shadow { "shadow" } else { "live" };
        metrics.classes.with_label_values(&[self.class.unwrap_or_default(), mode]).inc();
    }
}

/// A call met a rule.
pub struct RuleMet<'e> {
    pub rule: &'e str,
}

impl RuleMet<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.rules.with_label_values(&[self.rule, "met"]).inc();
    }
}

/// A rule could not be judged for a call, and counted as not met.
pub struct RuleFailed<'e> {
    pub request: &'e str,
    pub rule: &'e str,
    pub failure: &'static str,
}

impl RuleFailed<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.rules.with_label_values(&[self.rule, self.failure]).inc();
        let Self { request, rule, failure } = self;
        tracing::debug!(request, rule, failure, "a rule could not be judged");
    }
}

/// A further attempt was not made: there were too many of late.
pub struct RetryBudgetSpent<'e> {
    pub request: &'e str,
    pub model: &'e str,
}

impl RetryBudgetSpent<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.retries_withheld.with_label_values(&[self.model]).inc();
        tracing::warn!(request = self.request, model = self.model, "no further attempt: the retry budget is spent");
    }
}

/// A token of a caller's was looked at.
pub struct BearerSeen<'e> {
    /// Empty: of nobody who is trusted.
    pub issuer: &'e str,
    pub result: &'static str,
}

impl BearerSeen<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.bearers.with_label_values(&[self.issuer, self.result]).inc();
        tracing::debug!(issuer = self.issuer, result = self.result, "a token of a caller's");
    }
}

/// The public keys of an issuer were fetched, or could not be.
pub struct IssuerKeys<'e> {
    pub issuer: &'e str,
    pub failed: Option<&'e str>,
}

impl IssuerKeys<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        let Self { issuer, failed } = self;
        let result = if failed.is_some() { "keys_failed" } else { "keys" };
        metrics.issuer_requests.with_label_values(&[issuer, result]).inc();
        match failed {
            None => tracing::debug!(issuer, "the keys of an issuer of tokens"),
            Some(cause) => {
                tracing::warn!(issuer, cause = %clean(cause), "no keys of an issuer of tokens: those from before count")
            }
        }
    }
}

/// An issuer does not say whether a token is good.
pub struct IssuerSilent<'e> {
    pub issuer: &'e str,
    pub cause: &'e str,
}

impl IssuerSilent<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.issuer_requests.with_label_values(&[self.issuer, "question_failed"]).inc();
        tracing::warn!(issuer = self.issuer, cause = %clean(self.cause), "an issuer does not say whether a token is good");
    }
}

/// A limit of a caller's let a call not through.
pub struct LimitRefused<'e> {
    pub request: &'e str,
    pub key: &'e str,
    /// Whose limit it is: kind and id.
    pub level: &'e str,
    pub id: &'e str,
    pub limit: &'e str,
}

impl LimitRefused<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        let Self { request, key, level, id, limit } = self;
        metrics.limit_refusals.with_label_values(&[level, limit]).inc();
        tracing::debug!(request, key, level, id, limit, "a limit refuses a call");
    }
}

/// What came of a stream that broke and was to be gone on with.
pub struct Continued<'e> {
    pub request: &'e str,
    pub model: &'e str,
    /// `ok`, `failed`, or `impossible`: it cannot be gone on with from where it broke.
    pub result: &'e str,
}

impl Continued<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.continuations.with_label_values(&[self.model, self.result]).inc();
        tracing::info!(request = self.request, model = self.model, result = self.result, "a stream that broke");
    }
}

/// A target is left alone for a while.
pub struct TargetCooled<'e> {
    pub target: &'e str,
    /// Only this one of the provider's credentials.
    pub credential: Option<&'e str>,
    pub kind: FaultKind,
    pub pause: Duration,
}

impl TargetCooled<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        let (target, kind, seconds) = (self.target, self.kind.name(), self.pause.as_secs_f64());
        match self.credential {
            Some(credential) => tracing::warn!(target, credential, kind, seconds, "a credential is left alone"),
            None => {
                metrics.set_target_state(target, true);
                tracing::warn!(target, kind, seconds, "a target is left alone");
            }
        }
    }
}

/// A target works again.
pub struct TargetRecovered<'e> {
    pub target: &'e str,
}

impl TargetRecovered<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.set_target_state(self.target, false);
        tracing::info!(target = self.target, "a target works again");
    }
}

/// A target, or a provider for all its targets, was asked whether it is well.
pub struct Probed<'e> {
    pub target: &'e str,
    pub ask: &'static str,
    /// Name of what was wrong.
    pub wrong: Option<&'static str>,
    /// The provider's own sentence, where it failed.
    pub message: Option<&'e str>,
    /// The last time it was otherwise.
    pub changed: bool,
}

impl Probed<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        let Self { target, ask, wrong, message, changed } = *self;
        let result = if wrong.is_none() { "ok" } else { "failed" };
        metrics.probes.with_label_values(&[target, ask, result]).inc();
        metrics.probe_ok.with_label_values(&[target]).set(f64::from(u8::from(wrong.is_none())));
        match wrong {
            Some(kind) if changed => {
                tracing::warn!(target, ask, kind, message = message.map(clean), "a target does not answer a probe");
            }
            None if changed => tracing::info!(target, ask, "a target answers probes again"),
            _ => tracing::debug!(target, ask, kind = wrong, "a target was probed"),
        }
    }
}

/// The configuration was read again, well.
pub struct Reloaded<'e> {
    pub version: &'e str,
    pub changed: bool,
}

impl Reloaded<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.reloads.with_label_values(&["ok"]).inc();
        in_force(metrics, self.version);
        tracing::info!(version = self.version, changed = self.changed, "the configuration was reloaded");
    }
}

/// Names the configuration in force.
pub fn in_force(metrics: &Metrics, version: &str) {
    metrics.config_info.reset();
    metrics.config_info.with_label_values(&[version]).set(1.0);
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    metrics.reload_time.set(now);
}

/// The configuration was read again, and is bad: the one in force stays.
pub struct ReloadFailed<'e> {
    pub problems: &'e [String],
}

impl ReloadFailed<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.reloads.with_label_values(&["failed"]).inc();
        for problem in self.problems {
            tracing::error!(problem = %clean(problem), "the new configuration is bad; the one in force stays");
        }
    }
}

/// A provider's token was fetched.
pub struct TokenRenewed<'e> {
    pub provider: &'e str,
    /// When it ends, in Unix milliseconds.
    pub expires: u64,
}

impl TokenRenewed<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.token_refreshes.with_label_values(&[self.provider, "ok"]).inc();
        metrics.token_expiry.with_label_values(&[self.provider]).set(self.expires as f64 / 1e3);
        tracing::debug!(provider = self.provider, expires_ms = self.expires, "a provider's token was renewed");
    }
}

/// A provider's token could not be fetched.
pub struct TokenFailed<'e> {
    pub provider: &'e str,
    pub cause: &'e str,
    /// Until the next try.
    pub pause: Duration,
    /// The one before is still good.
    pub good: bool,
}

impl TokenFailed<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.token_refreshes.with_label_values(&[self.provider, "failed"]).inc();
        let seconds = self.pause.as_secs_f64();
        let (provider, cause) = (self.provider, clean(self.cause));
        if self.good {
            tracing::warn!(provider, %cause, seconds, "a provider's token was not renewed; the old one still serves");
        } else {
            tracing::error!(provider, %cause, seconds, "there is no token for a provider: its calls fail");
        }
    }
}

/// A record could not be appended to the journal.
pub struct JournalFailed<'e> {
    pub what: &'static str,
    pub error: &'e std::io::Error,
}

impl JournalFailed<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.journal_errors.with_label_values(&[self.what]).inc();
        tracing::error!(record = self.what, error = %self.error, "the journal cannot be written");
    }
}

/// A budget had no room for an attempt.
pub struct OverBudget<'e> {
    pub request: &'e str,
    pub key: &'e str,
    pub short: &'e Short,
}

impl OverBudget<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        let level = &self.short.level;
        metrics.over_budget.with_label_values(&[level.kind]).inc();
        tracing::info!(
            request_id = self.request,
            key = self.key,
            level = level.kind,
            id = level.id,
            why = %self.short,
            "a budget has no room"
        );
    }
}

/// A part of a budget is spent.
pub struct BudgetAlert<'e> {
    pub level: &'static str,
    pub id: &'e str,
    pub budget: &'e str,
    pub percent: u32,
    /// Nano-dollars.
    pub spent: u64,
    pub limit: u64,
    /// `sent`, or `untold` where nobody is to be told.
    pub result: &'static str,
}

impl BudgetAlert<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.budget_alerts.with_label_values(&[self.result]).inc();
        let (spent, limit) = (cost_decimal(self.spent), cost_decimal(self.limit));
        let Self { level, id, budget, percent, .. } = self;
        tracing::warn!(level, id, budget, percent, spent, limit, "a part of a budget is spent");
    }
}

/// What was spent of budgets cannot be read from the ledger.
pub struct BudgetsUnknown<'e> {
    pub error: &'e dyn std::fmt::Display,
}

impl BudgetsUnknown<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.errors.with_label_values(&["budgets_unknown"]).inc();
        tracing::error!(error = %self.error, "what was spent of budgets cannot be read: hard ones refuse until it can");
    }
}

/// A budget was not what the rows of the ledger say, and is now.
pub struct BudgetDrifted<'e> {
    pub budget: &'e str,
    /// By so many nano-dollars above them.
    pub nano: i128,
}

impl BudgetDrifted<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.budget_drift.inc();
        tracing::warn!(budget = self.budget, nano = %self.nano, "a budget is put right from the ledger");
    }
}

/// The process was told to stop.
pub struct Draining {
    pub in_flight: usize,
    pub patience: Duration,
}

impl Draining {
    pub fn emit(&self) {
        tracing::info!(
            in_flight = self.in_flight,
            seconds = self.patience.as_secs_f64(),
            "stopping: no new calls, those in flight are waited for"
        );
    }
}

/// Another process is started, to take over.
pub struct HandingOver<'e> {
    pub program: &'e std::path::Path,
}

impl HandingOver<'_> {
    pub fn emit(&self) {
        tracing::info!(program = %self.program.display(), "another process is started, to take over");
    }
}

/// Another process has taken over, or could not.
pub struct HandedOver<'e> {
    pub pid: u32,
    pub failed: Option<&'e str>,
}

impl HandedOver<'_> {
    pub fn emit(&self, metrics: &Metrics) {
        let result = if self.failed.is_some() { "failed" } else { "ok" };
        metrics.upgrades.with_label_values(&[result]).inc();
        match self.failed {
            None => tracing::info!(pid = self.pid, "another process has taken over"),
            Some(cause) => tracing::error!(cause = %clean(cause), "no other process has taken over: this one goes on"),
        }
    }
}

/// The process ends.
pub struct Stopped {
    pub cut: usize,
}

impl Stopped {
    pub fn emit(&self, metrics: &Metrics) {
        metrics.streams_cut.inc_by(self.cut as u64);
        tracing::info!(cut = self.cut, "stopped");
    }
}

/// Foreign text on its way into the log: one line, no control characters, not endless.
pub fn clean(text: &str) -> String {
    text.chars()
        .take(500)
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn foreign_text_forges_no_lines() {
        assert_eq!(clean("a\nb\u{1b}[31m\"é"), "a\\nb\\u{1b}[31m\"é");
        assert_eq!(clean(&"x".repeat(1_000)).len(), 500);
    }
}
