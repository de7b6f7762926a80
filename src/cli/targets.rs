//! A target's state, as `/admin/targets` shows it.

use crate::config::snapshot::PricedTarget;
use crate::policy::route::Gate;
use crate::wire::writer::Object;

/// Writes the members that tell of a target. `now` is in monotonic microseconds.
pub fn write(target: &PricedTarget, now: u64, o: &mut Object<'_>) {
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
