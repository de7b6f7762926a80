//! The operator's own catalogue: what it says is what calls cost, callers are told, and an update counts from then on.

use std::fs;
use std::time::{Duration, Instant};

use super::answers::{self, COMPLETION_TOKENS, PROMPT_TOKENS};
use super::client;
use super::gateway::{Gateway, SECRET, ask, config};
use super::upstream::Upstream;

/// A row of the only model, at so many nano-dollars for a million tokens.
fn row(input: u64, output: u64) -> String {
    format!(
        "alias-provider,alias-real,,,,8_192,1_024,t,{input},{output},,,,,,,,,,,,https://example.com/prices,2026-11-21\n"
    )
}

/// As `x-portolan-cost-usd` has it, of one call at these rates and this factor in hundredths.
fn cost(input: u64, output: u64, percent: u64) -> f64 {
    let nano = (PROMPT_TOKENS * (input * percent / 100) + COMPLETION_TOKENS * (output * percent / 100)) as f64 / 1e6;
    (nano + 0.5).floor() / 1e9
}

#[test]
fn an_own_catalogue_prices_calls_and_is_updated_while_they_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (place, next) = (dir.path().join("own.csv"), dir.path().join("next.csv"));
    fs::write(&place, row(2_000_000_000, 8_000_000_000)).unwrap();
    let upstream = Upstream::always(answers::whole("fine"));
    let text = config(&[("alias", &upstream.v1())], &format!("catalog: {}\n", place.display()));
    let text = text.replace("api_key: ", "price_factor: 0.75, api_key: ");
    let gateway = Gateway::start(&text);
    let paid = || -> f64 {
        let answer = gateway.chat(&ask("alias", "x"));
        assert_eq!(answer.status, 200);
        answer.header("x-portolan-cost-usd").unwrap().parse().unwrap()
    };
    assert_eq!(paid(), cost(2_000_000_000, 8_000_000_000, 75));

    let bearer = format!("Bearer {SECRET}");
    let told = client::get(gateway.data, "/v1/models/alias", &[("authorization", &bearer)]).json();
    let dollars = &told["usd_per_million_tokens"];
    assert_eq!((dollars["input"].as_f64(), dollars["output"].as_f64()), (Some(1.5), Some(6.0)), "{told}");
    assert_eq!((told["context_window"].as_u64(), told["abilities"][0].as_str()), (Some(8_192), Some("tools")));

    fs::write(&next, row(4_000_000_000, 8_000_000_000)).unwrap();
    let said = gateway.command(&["catalog", "update", next.to_str().unwrap()]);
    assert!(said.contains("~ alias-provider/alias-real: ") && said.contains("input 2 -> 4"), "{said}");
    let deadline = Instant::now() + Duration::from_secs(10);
    while paid() != cost(4_000_000_000, 8_000_000_000, 75) {
        assert!(Instant::now() < deadline, "the update is not taken up:\n{}", gateway.logs());
        std::thread::sleep(Duration::from_millis(100));
    }
    let versions = gateway.ledger("outcome");
    assert!(versions[0].starts_with("ok "), "{versions:?}");
}
