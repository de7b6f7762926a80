//! Billing customers of one's own: mark-ups, balances that are paid in, statements.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answers;
use super::client;
use super::gateway::{Gateway, SECRET, ask, config};
use super::upstream::{Reply, Upstream};

/// A cent a call.
const CENT: &str = "price: { input: 0, output: 0, request: 0.01 }";
/// The customer pays a quarter more.
const GROUPS: &str = "price_groups: { retail: { factor: 1.25 } }\n";
const CUSTOMER: &str = "metadata: { bill_to: \"Shop <b>& Co; London\" }";

/// The key `main` belongs to the project `shop`, which has these fields.
fn fixture(upstream: &Upstream, project: &str, more: &str) -> String {
    let text = config(&[("alias", &upstream.v1())], more);
    let text = text.replacen("model: alias-real", &format!("model: alias-real, {CENT}"), 1);
    let text = text.replacen("models: [\"*\"] }", "models: [\"*\"], project: shop }", 1);
    format!("{text}projects: {{ shop: {{ {project} }} }}\n")
}

fn pay(gateway: &Gateway, token: &str, id: &str, amount: &str) -> client::Response {
    gateway.admin(token, "POST", "projects/shop/balance", &json!({"id": id, "amount": amount}))
}

fn balance(gateway: &Gateway, token: &str) -> Value {
    gateway.admin(token, "GET", "projects/shop/balance", &Value::Null).json()
}

#[test]
fn a_customer_is_charged_and_told_the_charge_and_the_operator_both() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&fixture(&upstream, "price_group: retail", GROUPS));
    let got = gateway.chat(&ask("alias", "x"));
    assert_eq!(got.header("x-portolan-cost-usd"), Some("0.0125"), "{got}");
    let total = gateway.settled(1);
    assert_eq!((&total["cost_usd"], &total["charge_usd"]), (&json!(0.0125), &Value::Null), "{total}");
    let bearer = format!("Bearer {SECRET}");
    let models = client::get(gateway.data, "/v1/models", &[("authorization", &bearer)]);
    assert!(models.text().contains("\"each_call\":\"0.0125\"") || models.text().contains("0.0125"), "{models}");
    let token = gateway.token();
    let usage = gateway.admin(&token, "GET", "usage?project=shop", &Value::Null).json();
    assert_eq!((&usage["total"]["cost_usd"], &usage["total"]["charge_usd"]), (&json!(0.01), &json!(0.0125)), "{usage}");
    let rows = gateway.command(&["ledger", "export", "--format", "jsonl"]);
    let row: Value = serde_json::from_str(&rows).unwrap();
    assert_eq!((&row["cost"], &row["charge"]), (&json!(10_000_000), &json!(12_500_000)), "{row}");
    assert_eq!(row["charge_version"], "retail: config x 1.25", "{row}");
    let verdict = gateway.command(&["ledger", "verify"]);
    assert!(verdict.contains("1 costs recomputed, 1 charges") && verdict.contains(" 0 nano off, 0 wrong"), "{verdict}");
}

#[test]
fn what_is_paid_in_can_be_spent_at_once_and_no_more() {
    let upstream = Upstream::always(answers::whole("fine"));
    let prepaid = "price_group: retail, prepaid: { top_up: \"https://example.com/pay\" }";
    let mut gateway = Gateway::start(&fixture(&upstream, prepaid, GROUPS));
    let token = gateway.token();
    let error = gateway.chat(&ask("alias", "x")).refusal(402);
    assert_eq!(error["code"], "insufficient_balance", "{error}");
    let told = "The balance of the project `shop` is spent. More can be paid in here: https://example.com/pay";
    assert_eq!(error["message"], told);
    // Every dialect says it in its own form.
    let bearer = format!("Bearer {SECRET}");
    let message = json!({"model": "alias", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]});
    let got = client::post(gateway.data, "/v1/messages", &[("authorization", &bearer)], message.to_string());
    assert_eq!((got.status, got.json()["error"]["type"].as_str()), (402, Some("billing_error")), "{got}");
    assert_eq!(upstream.count(), 0);

    let made = pay(&gateway, &token, "inv-1", "0.05");
    assert_eq!((made.status, &made.json()["amount_usd"]), (201, &json!("0.05")), "{made}");
    // Forty at once, and each costs a quarter of it.
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| match gateway.chat(&ask("alias", "x")).status {
                200 => drop(served.fetch_add(1, Ordering::SeqCst)),
                402 | 429 => {}
                other => panic!("{other}"),
            });
        }
    });
    // Calls that found all of it reserved may come again.
    while gateway.chat(&ask("alias", "x")).status == 200 {
        served.fetch_add(1, Ordering::SeqCst);
    }
    assert_eq!(served.into_inner(), 4, "0.05 dollars are four calls");
    gateway.settled(4);
    let shown = balance(&gateway, &token);
    assert_eq!((&shown["charged_usd"], &shown["balance_usd"]), (&json!("0.05"), &json!("0")), "{shown}");
    // The same payment again pays nothing, another one of its name is refused, and a restart forgets nothing.
    assert_eq!(pay(&gateway, &token, "inv-1", "0.05").status, 200);
    assert_eq!(pay(&gateway, &token, "inv-1", "0.06").status, 409);
    gateway.chat(&ask("alias", "x")).refusal(402);
    gateway.kill9();
    gateway.start_again();
    gateway.chat(&ask("alias", "x")).refusal(402);
    let command = ["balance", "top-up", "0.02", "--project", "shop", "--id", "inv-2", "--note", "by wire", "--json"];
    let made = gateway.command_as(&token, &command);
    assert!(made.contains("\"amount_usd\":\"0.02\""), "{made}");
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200, "at once");
    let error = gateway.chat(&ask("alias", "x")).refusal(402);
    let told = error["message"].as_str().unwrap();
    assert!(told.contains("has 0.0075 USD left, and this call may cost up to 0.0125 USD"), "{told}");
    gateway.command_as(&token, &["balance", "correct", "-0.0075", "--project", "shop", "--id", "fix-1"]);
    assert_eq!(balance(&gateway, &token)["balance_usd"], "0");
    let audit = gateway.admin(&token, "GET", "audit?limit=3", &Value::Null).json();
    let entry = &audit["data"][0];
    assert_eq!(
        (&entry["action"], &entry["kind"], &entry["id"]),
        (&json!("correction"), &json!("balance"), &json!("project:shop"))
    );
    assert_eq!(
        (&entry["before"]["paid_in_nano_usd"], &entry["after"]["paid_in_nano_usd"]),
        (&json!(70_000_000), &json!(62_500_000))
    );
    let verdict = gateway.admin(&token, "GET", "audit/verify", &Value::Null).json();
    assert_eq!(verdict["flaws"], json!([]), "{verdict}");
}

#[test]
fn a_low_balance_is_told_once_for_each_payment() {
    let upstream = Upstream::always(answers::whole("fine"));
    let hook = Upstream::always(Reply::json(200, "{}"));
    let more = format!("{GROUPS}alerts: {{ webhooks: [{{ url: \"{}\" }}] }}\n", hook.v1());
    let gateway = Gateway::start(&fixture(&upstream, "prepaid: { low: [0.02] }", &more));
    let token = gateway.token();
    pay(&gateway, &token, "a", "0.04");
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(hook.count(), 0, "three cents are left");
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    let told = hook.wait("the alert", Duration::from_secs(15), |journal| journal.len() == 1);
    let body = told[0].json();
    assert_eq!(
        (&body["event"], &body["left_usd"], &body["below_usd"]),
        (&json!("balance.low"), &json!("0.02"), &json!("0.02"))
    );
    assert_eq!(body["text"], "The balance of the project shop is low: 0.02 USD are left of 0.04 paid in.");
    thread::sleep(Duration::from_millis(1_500));
    assert_eq!(hook.count(), 1, "once");
    pay(&gateway, &token, "b", "0.01");
    assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    hook.wait("it is low again", Duration::from_secs(15), |journal| journal.len() == 2);
}

#[test]
fn what_has_no_price_is_not_sold() {
    let upstream = Upstream::always(answers::whole("fine"));
    let text = fixture(&upstream, "price_group: retail, prepaid: {}", &format!("{GROUPS}unpriced: warn\n"));
    let text = text.replacen(CENT, "weight: 1", 1);
    let gateway = Gateway::start(&text);
    let token = gateway.token();
    pay(&gateway, &token, "a", "5");
    assert_eq!(gateway.chat(&ask("alias", "x")).refusal(403)["code"], "model_not_priced");
    // A price of the group's own is one.
    let fixed = "price_groups: { retail: { models: { alias: { price: { input: 0, output: 0, request: 0.5 } } } } }\n";
    gateway.reload(&text.replacen(GROUPS, fixed, 1));
    let deadline = Instant::now() + Duration::from_secs(10);
    let got = loop {
        let got = gateway.chat(&ask("alias", "x"));
        if got.status == 200 || Instant::now() > deadline {
            break got;
        }
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!((got.status, got.header("x-portolan-cost-usd")), (200, Some("0.5")), "{got}");
}

#[test]
fn statements_are_the_ledgers_sums_in_every_form() {
    let upstream = Upstream::always(answers::whole("fine"));
    let project = format!("price_group: retail, prepaid: {{}}, {CUSTOMER}");
    let more = format!("{GROUPS}statements: {{ issuer: \"Seller & Sons\", note: \"Thank you\" }}\n");
    let gateway = Gateway::start(&fixture(&upstream, &project, &more));
    let token = gateway.token();
    pay(&gateway, &token, "inv-1", "1");
    for _ in 0..3 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    gateway.settled(3);
    let told = gateway.admin(&token, "GET", "projects/shop/statement?time_zone=Europe/Berlin", &Value::Null).json();
    assert_eq!((&told["opening_balance"], &told["closing_balance"]), (&json!("0"), &json!("0.9625")), "{told}");
    assert_eq!((&told["charged"]["charge"], &told["charged"]["requests"]), (&json!("0.0375"), &json!(3)));
    let csv = gateway.admin(&token, "GET", "projects/shop/statement?format=csv", &Value::Null);
    assert_eq!(csv.header("content-type"), Some("text/csv; charset=utf-8"));
    let amounts: f64 = csv.text().lines().filter_map(|line| line.split(',').nth(9)?.parse::<f64>().ok()).sum();
    assert!((amounts - 0.9625).abs() < 1e-12, "{csv}");
    let offline = gateway.command(&["statement", "--project", "shop"]);
    assert_eq!(offline, csv.text(), "the command line draws the same");
    let page = gateway.admin(&token, "GET", "projects/shop/statement?format=html", &Value::Null);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; frame-ancestors 'none'; style-src 'sha256-"), "{policy}");
    for told in ["Seller &amp; Sons", "Shop &lt;b&gt;&amp; Co<br>London", "0.9625", "-0.0375", "Thank you"] {
        assert!(page.text().contains(told), "{told}: {page}");
    }
    assert!(!page.text().contains("0.03\"") && !page.text().contains("<script"), "nothing of what it cost");
    let bad = gateway.admin(&token, "GET", "projects/shop/statement?month=soon", &Value::Null);
    assert_eq!(bad.status, 400);
    let verdict = gateway.command(&["ledger", "verify"]);
    assert!(verdict.contains(" 3 charges") && verdict.contains(" 0 nano off, 0 wrong"), "{verdict}");
}

#[test]
fn who_may_pay_in_is_who_has_to_do_with_money() {
    let upstream = Upstream::always(answers::whole("fine"));
    let gateway = Gateway::start(&fixture(&upstream, "prepaid: {}", GROUPS));
    let owner = gateway.token();
    gateway.admin(&owner, "PUT", "teams/red", &json!({}));
    gateway.admin(&owner, "PUT", "projects/theirs", &json!({"team": "red", "prepaid": {}, "price_group": "retail"}));
    let mut tokens = BTreeMap::new();
    for (id, role, team) in [("b", "billing", None), ("v", "viewer", None), ("t", "admin", Some("red"))] {
        let made = gateway.admin(&owner, "POST", "tokens", &json!({"id": id, "role": role, "team": team})).json();
        tokens.insert(id, made["token"].as_str().unwrap().to_owned());
    }
    let body = json!({"id": "x", "amount": "1"});
    for (id, status) in [("v", 403), ("t", 403), ("b", 201)] {
        let got = gateway.admin(&tokens[id], "POST", "projects/theirs/balance", &body);
        assert_eq!(got.status, status, "{id}: {got}");
    }
    // A team's administrator makes nobody's calls cheaper, or free of being paid for.
    for body in [json!({"price_group": null}), json!({"prepaid": null})] {
        assert_eq!(gateway.admin(&tokens["t"], "PATCH", "projects/theirs", &body).status, 403, "{body}");
    }
    assert_eq!(gateway.admin(&tokens["t"], "DELETE", "projects/theirs", &Value::Null).status, 403);
    for (body, status) in [
        (json!({"id": "y", "amount": "-1"}), 422),
        (json!({"id": "y", "amount": "0"}), 422),
        (json!({"id": "y", "amount": "1e3"}), 422),
        (json!({"id": "y", "amount": "99999999999"}), 422),
        (json!({"id": "y", "amount": 1.5}), 422),
        (json!({"id": "y", "amount": "1", "currency": "eur"}), 422),
        (json!({"id": "y y", "amount": "1"}), 422),
        (json!({"id": "y", "amount": "-1", "cause": "correction"}), 201),
    ] {
        let got = gateway.admin(&owner, "POST", "projects/theirs/balance", &body);
        assert_eq!(got.status, status, "{body}: {got}");
    }
    assert_eq!(gateway.admin(&owner, "POST", "projects/nobody/balance", &body).status, 404);
}

/// What was acknowledged is there, and what was sent again is there once, whenever the process dies.
#[test]
fn d_1_payments_survive_kills_and_are_never_made_twice() {
    let kills: usize = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(5);
    let upstream = Upstream::always(answers::whole("fine"));
    let mut gateway = Gateway::start(&fixture(&upstream, "prepaid: {}", GROUPS));
    let token = gateway.token();
    let mut sent = 0usize;
    for kill in 0..kills {
        let acknowledged = AtomicUsize::new(sent);
        thread::scope(|scope| {
            let (running, token, acknowledged) = (&gateway, &token, &acknowledged);
            scope.spawn(move || {
                for number in sent.. {
                    let body = json!({"id": format!("p-{number}"), "amount": "0.01"}).to_string();
                    let bearer = format!("Bearer {token}");
                    let headers = [
                        ("authorization", bearer.as_str()),
                        ("content-type", "application/json"),
                        ("connection", "close"),
                    ];
                    let request = client::request("POST", "/admin/v1/projects/shop/balance", &headers, body.as_bytes());
                    let Ok(mut connection) = client::Connection::try_open(running.admin) else { return };
                    if connection.send(&request).is_err() || !connection.response().is_ok_and(|got| got.status == 201) {
                        return;
                    }
                    acknowledged.store(number + 1, Ordering::SeqCst);
                }
            });
            thread::sleep(Duration::from_millis(150 + 37 * kill as u64));
            running.signal(libc::SIGKILL);
        });
        gateway.kill9();
        gateway.start_again();
        let known = acknowledged.into_inner();
        // The one that was under way may have been made: all of them are sent again.
        for number in known.saturating_sub(3)..known + 1 {
            let again = pay(&gateway, &token, &format!("p-{number}"), "0.01").status;
            assert!(again == 200 || (again == 201 && number == known), "{number} of {known}: {again}");
        }
        sent = known + 1;
        let shown = balance(&gateway, &token);
        let paid: f64 = shown["paid_in_usd"].as_str().unwrap().parse().unwrap();
        assert!((paid - 0.01 * sent as f64).abs() < 1e-9, "{sent} payments: {shown}");
    }
    let verdict = gateway.admin(&token, "GET", "audit/verify", &Value::Null).json();
    assert_eq!(verdict["flaws"], json!([]), "{verdict}");
    println!("payments: {kills} kills, {sent} payments, 0 missing, 0 twice");
}
