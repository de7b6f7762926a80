//! Budgets: what is made of them, and every mistake in its place.

use super::*;
use crate::policy::budget::Period;

fn load(fields: &str) -> Result<crate::config::Snapshot, Vec<String>> {
    let secret = super::super::hex(&crate::policy::auth::digest("pk-x").unwrap());
    let text = format!(
        "providers: {{ p: {{ preset: ollama }} }}\nmodels: {{ m: {{ targets: [{{ provider: p }}] }} }}\ncurrencies: {{ eur: 0.9 }}\n\
         teams: {{ t: {{ budget: {{ usd: 5, per: total }} }} }}\nprojects: {{ w: {{ team: t }} }}\n\
         keys:\n  - {{ id: k, secret_sha256: \"{secret}\", project: w, {fields} }}\n"
    );
    with(&[("f", &text)], &[]).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[test]
fn budgets_are_dollars_and_windows() {
    let snapshot =
        load("budgets: [{ amount: 9, currency: eur, per: day, alerts: [90, 10] }, { usd: 0.5, hard: false }]").unwrap();
    let key = snapshot.key("pk-x").unwrap();
    let made: Vec<_> = key
        .budgets()
        .map(|budget| (budget.limit, budget.written.as_str(), budget.spending.window().period, budget.hard))
        .collect();
    let whole = [
        (10_000_000_000, "9 EUR", Period::Day, true),
        (500_000_000, "0.5 USD", Period::Month, false),
        (5_000_000_000, "5 USD", Period::Total, true),
    ];
    assert_eq!(made, whole, "the key's own first, and those of a level by their names");
    assert_eq!(*key.budgets().next().unwrap().alerts, [10, 90]);
    assert!(key.budgeted);
}

#[test]
fn each_mistake_is_told_in_its_place() {
    for (fields, told) in [
        ("budget: {}", "keys[0].budget: write how much"),
        ("budget: { usd: 1, amount: 2 }", "keys[0].budget: write how much"),
        ("budget: { usd: 1, currency: eur }", "keys[0].budget: write how much"),
        ("budget: { amount: 2, currency: cny }", "keys[0].budget.currency: there is no rate for `cny`"),
        ("budget: { usd: 1, time_zone: Mars/Base }", "keys[0].budget.time_zone: this system knows no zone"),
        ("budget: { usd: 1, degrade: { above: 80, to: {} } }", "keys[0].budget.degrade.to: write which"),
        (
            "budget: { usd: 1, degrade: { above: 80, to: { x: nn } } }",
            "keys[0].budget.degrade.to.x: there is no model `nn`",
        ),
        ("budget: { usd: 1 }, budgets: [{ usd: 2, per: day }]", "keys[0].budget: there are `budgets` too"),
        ("budgets: [{ usd: 1 }, { usd: 2 }]", "keys[0].budgets[1]: another budget here has the same period and zone"),
        ("budget: { usd: 1, per: year }", "keys[0].budget.per"),
        ("budget: { usd: -1 }", "keys[0].budget.usd"),
    ] {
        let problems = load(fields).expect_err(fields);
        assert!(problems.iter().any(|problem| problem.contains(told)), "{fields}: {problems:?}");
    }
}
