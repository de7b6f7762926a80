//! What a budget reserves for a call, held against what the recorded providers then counted: never less, and how far above.

use std::collections::BTreeMap;

use bytes::Bytes;
use portolan::config::snapshot::Limits;
use portolan::dialect::Abilities;
use portolan::exchange::{Call, Said, worst};
use portolan::ir::Usage;
use portolan::policy::price::{Extent, Price};
use portolan::provider::catalog;

use super::recordings::{Exchange, Speech};
use super::through::Way;

/// The day whose prices count: 2026-11-21.
const SEEN: u64 = 1_795_219_200;

/// Exchanges that say nothing of reserves, by the beginning of their ids, and why.
const KNOWN: [(&str, &str); 1] =
    [("4a8f5f542a64a7c181e1", "the provider gave four times the tokens that it was allowed")];

/// What one provider's recordings came to.
#[derive(Default)]
struct Sum {
    calls: u64,
    under: Vec<String>,
    /// Nano-dollars, of calls with a price.
    reserved: u128,
    cost: u128,
    ratios: Vec<f64>,
}

/// Checks each recorded exchange with a request that a caller of ours can send and a usage; prints how far the reserves
/// are above the truth.
pub fn replay(recordings: &[Exchange]) -> Vec<String> {
    let mut sums: BTreeMap<&str, Sum> = BTreeMap::new();
    for exchange in recordings.iter().filter(|exchange| Speech::CALLERS.contains(&exchange.speech())) {
        // Whoever is asked for completions is asked in another dialect by us.
        if exchange.aside().is_some() || !exchange.is_good() || exchange.speech() == Speech::Completions {
            continue;
        }
        if KNOWN.iter().any(|(id, _)| exchange.id.starts_with(id)) {
            continue;
        }
        let (Some(body), Some(usage)) = (exchange.asked_of_us(), usage(exchange)) else { continue };
        // What was read stands in the request no more.
        if body.contains("encrypted_content_REDACTED") {
            continue;
        }
        let Some((most, price)) = reserve(exchange, &body) else { continue };
        let sum = sums.entry(&exchange.provider).or_default();
        sum.calls += 1;
        let fits = usage.input <= most.input && usage.output <= most.output && usage.searches <= most.searches;
        let (cost, reserved) = price.as_ref().map_or((0, 0), |price| (price.cost(&usage), price.worst_case(&most)));
        if !fits || cost > reserved {
            sum.under.push(format!(
                "{} {} {}: {} of {} in, {} of {} out, {} of {} searches, {cost} of {reserved} nano",
                exchange.provider,
                exchange.model.as_deref().unwrap_or_default(),
                exchange.id,
                usage.input,
                most.input,
                usage.output,
                most.output,
                usage.searches,
                most.searches,
            ));
        }
        if cost > 0 {
            (sum.reserved, sum.cost) = (sum.reserved + u128::from(reserved), sum.cost + u128::from(cost));
            sum.ratios.push(reserved as f64 / cost as f64);
        }
    }
    let mut all = Sum::default();
    for (provider, sum) in sums {
        sum.tell(provider);
        all.calls += sum.calls;
        all.under.extend(sum.under);
        (all.reserved, all.cost) = (all.reserved + sum.reserved, all.cost + sum.cost);
        all.ratios.extend(sum.ratios);
    }
    all.tell("all");
    assert!(all.calls > 1_000, "only {} exchanges have a request and a usage", all.calls);
    all.under
}

impl Sum {
    fn tell(&self, name: &str) {
        let mut ratios = self.ratios.clone();
        ratios.sort_by(f64::total_cmp);
        let at = |part: usize| ratios.get(ratios.len() * part / 100).copied().unwrap_or_default();
        let sums = if self.cost == 0 { 0.0 } else { self.reserved as f64 / self.cost as f64 };
        println!(
            "reserves: {name}: {} calls, {} below the truth; above it {sums:.0} times in sum, p10 {:.0}, median {:.0}, p90 {:.0}",
            self.calls,
            self.under.len(),
            at(10),
            at(50),
            at(90),
        );
    }
}

fn reserve(exchange: &Exchange, body: &str) -> Option<(Extent, Option<Price>)> {
    let inbound = exchange.speech().dialect().inbound?;
    let name = exchange.model.as_deref().unwrap_or("m");
    let stream = exchange.api.starts_with("stream");
    let said = Said { reads: inbound.reads(), model: name, stream, array: false, count: false };
    let call = Call::read(Bytes::copy_from_slice(body.as_bytes()), &said, &limits(), &|_| None).ok()?;
    let preset = match exchange.provider.as_str() {
        "vertexai" => "vertex",
        provider => provider,
    };
    let row = catalog::builtin().lookup(preset, name, SEEN);
    let (abilities, price) = row.map_or((Abilities::default(), None), |row| (row.abilities, Some(row.price)));
    let dialect = exchange.speech().name();
    let to = worst::To {
        dialect,
        model: name,
        abilities: &abilities,
        body: &Bytes::copy_from_slice(body.as_bytes()).into(),
    };
    Some((worst::extent(&call, inbound, &to), price))
}

fn usage(exchange: &Exchange) -> Option<Usage> {
    let way = Way::to_chat(exchange.speech().dialect());
    let passed = match exchange.whole() {
        Some(whole) => way.whole(whole).ok()?.usage,
        None => way.stream(&exchange.byte_streams().first()?.1, &[]).usage,
    };
    passed.filter(Usage::is_plausible)
}

fn limits() -> Limits {
    Limits {
        body_bytes: 1 << 30,
        answer_bytes: 1 << 30,
        event_bytes: 1 << 30,
        continuation_bytes: 1 << 20,
        depth: 128,
        body_time: std::time::Duration::from_secs(1),
        header_bytes: 1 << 16,
        headers: 128,
        buffered_bytes: 1 << 30,
    }
}
