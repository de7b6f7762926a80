//! A target's state: as `/admin/targets` shows it, and `portolan targets`, which asks a running gateway for it.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use super::api::Api;
use super::load;
use crate::config::snapshot::{Beat, PricedTarget};
use crate::policy::Moment;
use crate::policy::price::cost_decimal;
use crate::policy::route::Gate;
use crate::wire::writer::Object;

/// Prints the state of a running gateway's targets.
///
/// # Errors
/// The output cannot be written.
pub fn run(file: &Path, json: bool, token: String, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<ExitCode> {
    let Some(snapshot) = load::or_tell(file, err)? else { return Ok(ExitCode::FAILURE) };
    let api = Api { address: snapshot.admin, token };
    let state = match api.ask("GET", "/admin/targets", None) {
        Ok(state) => state,
        Err(failure) => {
            writeln!(err, "portolan: {failure}")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    if json {
        writeln!(out, "{state}")?
    } else {
        table(&state, out)?
    }
    Ok(ExitCode::SUCCESS)
}

fn table(state: &Value, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{:<24}{:<36}{:<12}{:>10}{:>9}{:>10}{:>10}  heartbeat",
        "model", "target", "state", "in_flight", "success", "first_ms", "p95_ms"
    )?;
    for target in state.get("targets").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| target.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| target.get(name).and_then(Value::as_u64);
        let shown = |name: &str| number(name).map_or_else(|| "-".to_owned(), |number| number.to_string());
        let state = match number("cooling_ms") {
            Some(ms) => format!("{} {}s", text("state"), ms.div_ceil(1_000)),
            None => text("state").to_owned(),
        };
        let heartbeat = target.get("heartbeat").map_or_else(|| "-".to_owned(), beat);
        writeln!(
            out,
            "{:<24}{:<36}{:<12}{:>10}{:>8}%{:>10}{:>10}  {}",
            text("model"),
            text("target"),
            state,
            shown("in_flight"),
            shown("success_percent"),
            shown("first_token_ms"),
            shown("first_token_p95_ms"),
            heartbeat
        )?;
    }
    Ok(())
}

fn beat(heartbeat: &Value) -> String {
    let text = |name: &str| heartbeat.get(name).and_then(Value::as_str).unwrap_or_default();
    match heartbeat.get("ago_ms").and_then(Value::as_u64) {
        Some(ago) => format!("{} {} {}s ago", text("ask"), text("last"), ago / 1_000),
        None => format!("{} not yet", text("ask")),
    }
}

/// Writes the members that tell of a target.
pub fn write(target: &PricedTarget, at: Moment, o: &mut Object<'_>) {
    let now = at.mono;
    let vitals = &target.vitals;
    o.string("target", &target.target.id);
    o.number("weight", u64::from(target.target.weight));
    if let Some(region) = &target.region {
        o.string("region", region);
    }
    gate(vitals.breaker.gate(now), now, o);
    o.number("in_flight", u64::from(vitals.in_flight()));
    o.number("success_percent", (vitals.success(now) * 100.0).round() as u64);
    let (first, total) = vitals.times();
    let times = [("first_token_ms", first), ("total_ms", total)];
    for (name, seconds) in times {
        if let Some(seconds) = seconds {
            o.number(name, (seconds * 1e3).round() as u64);
        }
    }
    if let Some(micros) = vitals.first_p95() {
        o.number("first_token_p95_ms", micros / 1_000);
    }
    o.bool("priced", target.price.is_some());
    if let Some(beat) = &target.heartbeat {
        o.object("heartbeat", |o| heartbeat(beat, at, o));
    }
    if target.target.provider.credentials.len() > 1 {
        o.array("credentials", |a| {
            for (credential, seat) in target.target.provider.credentials.iter().zip(&target.seats) {
                a.object(|o| {
                    o.string("name", &credential.name);
                    let whole = seat.account.bench.gate(now);
                    gate(if whole == Gate::Closed { seat.here.bench.gate(now) } else { whole }, now, o);
                });
            }
        });
    }
}

fn heartbeat(beat: &Beat, now: Moment, o: &mut Object<'_>) {
    let (beats, today) = (beat.pulse.beats(), beat.pulse.today(&beat.rules, now));
    o.string("ask", beat.rules.ask.name());
    o.string("of", if beat.shared { "provider" } else { "target" });
    o.string("last", if beats.at == 0 { "none" } else { beats.wrong.unwrap_or("ok") });
    if beats.at != 0 {
        o.number("ago_ms", now.mono.saturating_sub(beats.at) / 1_000);
        o.number("took_ms", beats.took_us / 1_000);
    }
    o.number("good", beats.good);
    o.number("bad", beats.bad);
    o.number("today", today.calls);
    // As text: a program that reads a number may make a float of it, and so would ours that shows it.
    o.string("today_usd", &cost_decimal(today.nano));
}

fn gate(gate: Gate, now: u64, o: &mut Object<'_>) {
    match gate {
        Gate::Closed => o.string("state", "ok"),
        Gate::HalfOpen => o.string("state", "half_open"),
        Gate::Open { until, stated } => {
            o.string("state", "cooling");
            o.number("cooling_ms", until.saturating_sub(now) / 1_000);
            o.bool("stated", stated);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_reads_as_a_table() {
        let state = serde_json::json!({"targets": [
            {"model": "m", "target": "p/x", "state": "cooling", "cooling_ms": 1_200, "in_flight": 0, "success_percent": 12,
             "heartbeat": {"ask": "models", "last": "timeout", "ago_ms": 2_500}},
            {"model": "m", "target": "q/x", "state": "ok", "in_flight": 3, "success_percent": 100, "first_token_ms": 210},
        ]});
        let mut out = Vec::new();
        table(&state, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["m", "p/x", "cooling", "2s", "0", "12%", "-", "-", "models", "timeout", "2s", "ago"]);
        assert_eq!(lines[2], ["m", "q/x", "ok", "3", "100%", "210", "-", "-"]);
    }
}
