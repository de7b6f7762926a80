//! A day of calls over ten providers, in virtual time: what each strategy pays, how long callers wait, what fails.
//!
//! The providers are made up: prices, times, limits, outages, slow hours. What chooses, fails over, cools, queues and
//! learns is the real code: `Plan`, `Held`, `Queue` and all below them, given a clock and dice of its own. Beside the
//! strategies run a blind choice, which knows nothing and learns nothing, and an oracle, which knows at each moment who
//! is well and has room, and takes the cheapest. Then one tenant floods a narrow provider, and the others are to get their
//! parts all the same. And for an hour nothing works, in which calls must not multiply. The last line says whether it is all as promised; so does the exit code.

#![expect(
    clippy::print_stdout,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a tool of the developer, which may stop with a message"
)]

mod engine;
mod setup;
mod world;

use std::process::ExitCode;

use engine::{Outcome, Way};
use portolan::policy::route::Strategy;
use world::World;

/// More than this above the oracle's cost is too much, in percent.
const COST: f64 = 10.0;
/// Less than this part of the calls answered is not the oracle's success, in percent.
const SUCCESS: f64 = 99.9;
/// Most attempts a call while nothing works, from the second minute on.
const ATTEMPTS: f64 = 1.1005;
/// Least index of fairness (Jain, Chiu and Hawe, 1984).
const FAIR: f64 = 0.95;

fn main() -> ExitCode {
    let seed = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2026);
    let world = World::day();
    let run = |way| engine::day(&world, way, seed);
    let oracle = run(Way::Oracle);
    let blind = run(Way::Blind);
    println!("{:<16} {:>9} {:>9} {:>8} {:>8} {:>9} {:>9}", "", "usd", "oracle", "p50 s", "p99 s", "success", "tries");
    show("oracle", &oracle, &oracle);
    show("random", &blind, &oracle);
    let mut balanced = None;
    for strategy in Strategy::ALL {
        let outcome = run(Way::Plan(strategy));
        show(strategy.name(), &outcome, &oracle);
        if strategy == Strategy::Balanced {
            balanced = Some(outcome);
        }
    }
    let balanced = balanced.expect("it is one of them");
    let flood = engine::flood(seed);
    println!("\n{:<16} {:>9} {:>9} {:>9}", "tenant", "asked", "served", "of share");
    for tenant in &flood {
        println!("{:<16} {:>9} {:>9} {:>9.3}", tenant.name, tenant.asked, tenant.served, tenant.of_share());
    }
    let dark = engine::outage(seed);
    let attempts = dark.tries as f64 / dark.calls as f64;
    println!("\n{:<16} {:>9} {:>9} {:>9}", "outage", "calls", "tries", "a call");
    println!("{:<16} {:>9} {:>9} {:>9.3}", "all of them", dark.calls, dark.tries, attempts);
    let jain = fairness(flood.iter().map(engine::Tenant::of_share));
    let above = balanced.above(&oracle);
    let good = above <= COST && balanced.success() >= SUCCESS && oracle.success() >= SUCCESS && jain >= FAIR;
    let good = good && attempts <= ATTEMPTS;
    println!(
        "\nsimulate: {} calls a strategy, balanced costs {above:+.1} % of the oracle and answers {:.2} % ({:.2} %; random {:+.1} %, {:.2} %), fairness {jain:.3}, {attempts:.3} attempts a call in an outage: {}",
        oracle.calls,
        balanced.success(),
        oracle.success(),
        blind.above(&oracle),
        blind.success(),
        if good { "passed" } else { "FAILED" }
    );
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(name: &str, outcome: &Outcome, oracle: &Outcome) {
    println!(
        "{name:<16} {:>9.2} {:>+8.1}% {:>8.2} {:>8.2} {:>8.3}% {:>9.3}",
        outcome.usd(),
        outcome.above(oracle),
        outcome.first(0.5),
        outcome.first(0.99),
        outcome.success(),
        outcome.tries as f64 / outcome.calls as f64
    );
}

/// 1 where all are equal, 1/n where one has all.
fn fairness(parts: impl Iterator<Item = f64>) -> f64 {
    let (n, sum, squares) = parts.fold((0.0, 0.0, 0.0), |(n, sum, squares), x| (n + 1.0, sum + x, squares + x * x));
    sum * sum / (n * squares)
}
