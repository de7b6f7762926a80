//! The configuration of a world, and the calls of a day, as the real code reads them.

use std::fmt::Write as _;
use std::sync::Arc;

use portolan::config::{self, Snapshot};
use portolan::dialect::openai_chat;
use portolan::exchange::{Call, Said};

use super::world::World;

/// The configuration of a world; `places`: calls at once at each provider, 0 for any number.
pub fn snapshot(world: &World, places: u32, keys: &[&str]) -> Arc<Snapshot> {
    let mut text = String::from("providers:\n");
    for real in &world.real {
        let name = real.name;
        let _ = writeln!(
            text,
            "  {name}: {{ dialect: openai_chat, base_url: \"http://{name}/v1\", auth: none, region: {} }}",
            real.region
        );
    }
    text.push_str("models:\n  m:\n    targets:\n");
    for (place, real) in world.real.iter().enumerate() {
        let rpm = real.rpm.filter(|(_, known)| *known).map(|(rpm, _)| format!("rpm: {rpm:.0}"));
        let places = (places > 0).then(|| format!("concurrency: {places}"));
        let limits: Vec<_> = rpm.into_iter().chain(places).collect();
        let _ = writeln!(
            text,
            "      - {{ provider: {}, tier: {}, limits: {{ {} }}, price: {{ input: {:.2}, output: {:.2} }} }}",
            real.name,
            place / 3 + 1,
            limits.join(", "),
            real.input,
            real.output
        );
    }
    text.push_str("routing: { home: eu, distances: { eu: { eu: 0, us: 90 } } }\nkeys:\n");
    for (number, key) in keys.iter().enumerate() {
        let _ = writeln!(text, "  - {{ id: {key}, secret_sha256: \"{number:064x}\" }}");
    }
    match config::from_text(&text, &|_| None) {
        Ok(snapshot) => Arc::new(snapshot),
        Err(problems) => {
            panic!("{text}\n{}", problems.iter().map(|problem| format!("{problem}\n")).collect::<String>())
        }
    }
}

/// A call of that number: prompts of some hundred to some thousand tokens, of sixteen users.
pub fn call(snapshot: &Snapshot, routing: &str, number: usize) -> Arc<Call> {
    let prompt = "x".repeat(600 + number % 16 * 1_200);
    let body = format!(
        r#"{{"model":"m","stream":true,"routing":"{routing}","user":"user {number}","messages":[{{"role":"user","content":"{prompt}"}}]}}"#
    );
    let reads = openai_chat::DIALECT.inbound.expect("callers speak it").reads();
    let said = Said { reads, model: "", stream: false, array: false, count: false };
    Arc::new(Call::read(body.into(), &said, &snapshot.limits, &|_| None).expect("a good call"))
}
