//! One line for each call, when it is over: facts and names, never bodies or secrets.

use super::events::clean;
use super::series::Answered;
use super::{Metrics, Series};
use crate::ir::Usage;
use crate::wire::veil;

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
    /// Of the target tried last; `None` where none was.
    pub series: Option<&'e Series>,
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
        let answered = Answered {
            dialect: call.dialect,
            stream: call.stream,
            status: call.status,
            outcome: call.outcome,
            total_us: call.total_us,
            ttft_us: call.ttft_us,
        };
        match call.series {
            Some(series) => series.call(&answered, metrics),
            None => metrics.series("", "", "").call(&answered, metrics),
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
        path = %clean(&veil::path(call.path)),
        key = call.key,
        asked = call.asked.map(clean),
        model = call.series.map_or("", |series| series.model.as_str()),
        target_id = call.series.map_or("", |series| series.target.as_str()),
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
