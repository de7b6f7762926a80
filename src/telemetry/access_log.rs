//! One line for each call, when it is over: facts and names, never bodies or secrets.

use super::Metrics;
use super::events::clean;
use crate::ir::Usage;

/// A call that is over.
pub struct Finished<'e> {
    pub request: &'e str,
    pub method: &'e str,
    pub path: &'e str,
    /// It asked for an answer of a model (and was read far enough to know so).
    pub metered: bool,
    pub key: Option<&'e str>,
    /// The model as the caller named it.
    pub asked: Option<&'e str>,
    pub model: &'e str,
    pub provider: &'e str,
    pub target: &'e str,
    pub dialect: &'static str,
    pub stream: bool,
    pub attempts: u32,
    /// 0: nothing was answered.
    pub status: u16,
    pub outcome: &'static str,
    pub usage: Option<Usage>,
    pub cost: u64,
    pub unpriced: bool,
    pub ttft_us: u64,
    pub total_us: u64,
    pub bytes: usize,
}

/// Counts and logs a call.
pub fn write(call: &Finished<'_>, metrics: &Metrics) {
    if call.outcome != "ok" {
        metrics.errors.with_label_values(&[call.outcome]).inc();
    }
    if call.metered {
        let mut status = itoa::Buffer::new();
        let labels = [call.model, call.provider, call.dialect, status.format(call.status), call.outcome];
        metrics.requests.with_label_values(&labels).inc();
        let stream = if call.stream { "true" } else { "false" };
        let labels = [call.model, call.provider, stream];
        metrics.duration.with_label_values(&labels).observe(call.total_us as f64 / 1e6);
        if call.ttft_us != 0 {
            metrics.first_token.with_label_values(&labels).observe(call.ttft_us as f64 / 1e6);
        }
    }
    if !tracing::enabled!(target: "access", tracing::Level::INFO) {
        return;
    }
    let usage = call.usage.unwrap_or_default();
    tracing::info!(
        target: "access",
        request = call.request,
        method = call.method,
        path = %clean(call.path),
        key = call.key,
        asked = call.asked.map(clean),
        model = call.model,
        target_id = call.target,
        stream = call.stream,
        attempts = call.attempts,
        status = call.status,
        outcome = call.outcome,
        input = usage.input,
        output = usage.output,
        cached = usage.cached,
        cost_nano_usd = call.cost,
        unpriced = call.unpriced,
        ttft_ms = call.ttft_us / 1_000,
        total_ms = call.total_us / 1_000,
        bytes = call.bytes,
        "call"
    );
}
