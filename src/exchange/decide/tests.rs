//! Rules over whole calls.

use super::*;
use crate::config;
use crate::dialect::openai_chat;
use crate::exchange::{Plan, Said, Step};

fn snapshot(rules: &str, key: &str) -> Snapshot {
    let provider = |name: &str| {
        format!("  {name}: {{ dialect: openai_chat, base_url: \"http://{name}/v1\", api_key: k, region: {name} }}\n")
    };
    let text = format!(
        "providers:\n{}{}{rules}keys: [{{ id: k, secret_sha256: \"{}\"{key} }}]\n",
        provider("eu"),
        provider("us"),
        "0".repeat(64)
    );
    config::from_text(&text, &|_| None).unwrap_or_else(|problems| panic!("{problems:?}"))
}

const MODELS: &str =
    "models:\n  m: { targets: [{ provider: eu }, { provider: us }] }\n  n: { targets: [{ provider: us }] }\n";

fn call(snapshot: &Snapshot, more: &str) -> Arc<Call> {
    let reads = openai_chat::DIALECT.inbound.unwrap().reads();
    let said = Said { reads, model: "", stream: false, array: false, count: false };
    let body = format!(r#"{{"messages":[{{"role":"user","content":"x"}}]{more}}}"#);
    Arc::new(Call::read(body.into(), &said, &snapshot.limits, &|_| None).unwrap())
}

/// Saturday, 21 November 2026, 22:30 UTC.
const NOW: Moment = Moment { mono: 1, unix_ms: 1_795_300_200_000 };

fn decided(snapshot: &Snapshot, more: &str) -> Result<Decision, Refusal> {
    let header = |name: &str| (name == "x-app").then_some("shop");
    let circumstances = Circumstances { dialect: "openai_chat", header: &header };
    let key = snapshot.keys.values().next().unwrap();
    decide(snapshot, key, &call(snapshot, more), &circumstances, true, NOW)
}

/// The names of the rules that are met, and the target that the call goes to first.
fn way(snapshot: &Snapshot, more: &str) -> Result<(String, String), Refusal> {
    let decision = decided(snapshot, more)?;
    let met: Vec<_> = decision.rules.iter().map(|rule| rule.name.clone()).collect();
    let key = snapshot.keys.values().next().unwrap();
    let mut plan = Plan::make(snapshot, key, &call(snapshot, more), decision, NOW, &mut || 0)?;
    match plan.next(NOW, &mut || 0) {
        Step::Try { candidate, .. } => Ok((met.join(" "), candidate.target.target.id.clone())),
        other => panic!("{other:?}"),
    }
}

const M: &str = r#","model":"m""#;

#[test]
fn the_first_rule_that_is_met_counts_unless_it_goes_on() {
    let rules = "rules:\n  - { name: one, when: \"headers['x-app'] == 'shop'\", targets: { regions: [us] }, continue: true }\n  \
                 - { name: two, when: request.stream, model: n }\n  - { name: three, when: time.weekday == 6 && time.minute_of_day == 1350, strategy: least_busy }\n  \
                 - { name: four, model: n }\n";
    let snapshot = snapshot(&format!("{MODELS}{rules}"), "");
    assert_eq!(way(&snapshot, M), Ok(("one three".into(), "us/m".into())));
    assert_eq!(way(&snapshot, &format!("{M},\"stream\":true")), Ok(("one two".into(), "us/n".into())));
    let decision = decided(&snapshot, M).unwrap();
    assert_eq!(decision.strategy(), Some(Strategy::LeastBusy));
    let looked: Vec<_> = decision.looked.iter().map(|(rule, verdict)| (rule.name.as_str(), *verdict)).collect();
    assert_eq!(looked, [("one", Verdict::Met), ("two", Verdict::NotMet), ("three", Verdict::Met)]);
}

#[test]
fn a_rule_that_fails_is_not_met_and_is_remembered() {
    let rules = "rules: [{ name: tagged, when: tags.x == \"y\", model: n }, { name: bound, when: request.max_tokens > 1, model: n }]\n";
    let snapshot = snapshot(&format!("{MODELS}{rules}"), "");
    let decision = decided(&snapshot, M).unwrap();
    assert!(decision.model.is_none() && decision.rules.is_empty());
    let failed: Vec<_> = decision.failed.iter().map(|(rule, failure)| (rule.name.as_str(), *failure)).collect();
    assert_eq!(failed, [("tagged", Failure::Absent), ("bound", Failure::Absent)]);
    assert_eq!(way(&snapshot, &format!("{M},\"tags\":{{\"x\":\"y\"}}")).unwrap().1, "us/n");
}

#[test]
fn models_have_rules_of_their_own_and_lead_on() {
    let rules = "models:\n  m: { targets: [{ provider: eu }], rules: [{ name: long, when: request.input_tokens > 5, model: n }, { strategy: balanced }] }\n  \
                 n: { targets: [{ provider: us }], rules: [{ when: request.model == \"n\", priority: low }] }\n  \
                 auto: { rules: [{ when: request.has_tools, model: n }, { model: m }] }\n";
    let snapshot = snapshot(rules, "");
    let auto = r#","model":"auto""#;
    let tools = r#","tools":[{"type":"function","function":{"name":"f"}}]"#;
    assert_eq!(way(&snapshot, &format!("{auto}{tools}")), Ok(("auto/#1 n/#1".into(), "us/n".into())));
    let long =
        format!("{auto},\"messages\":[\"{}\"]", "x".repeat(100)).replace(",\"messages\"", ",\"user\":\"u\",\"x\"");
    assert_eq!(way(&snapshot, &long), Ok(("auto/#2 m/long n/#1".into(), "us/n".into())));
    assert_eq!(decided(&snapshot, &format!("{auto}{tools}")).unwrap().urgency(), Some(Urgency::Low));
}

#[test]
fn no_rule_gives_a_key_what_it_may_not_have() {
    let rules = "rules: [{ name: widen, model: n, continue: true }, { name: there, when: request.stream, targets: { regions: [us] } }]\n";
    let snapshot = snapshot(&format!("{MODELS}{rules}"), ", models: [m], regions: [eu]");
    assert_eq!(way(&snapshot, M), Ok((String::new(), "eu/m".into())));
    assert_eq!(decided(&snapshot, M).unwrap().looked[0].1, Verdict::Barred);
    let refused = way(&snapshot, &format!("{M},\"stream\":true"));
    assert_eq!(refused, Err(Refusal::RuledOut { rule: "there".into() }));
    assert_eq!(decided(&snapshot, r#","model":"n""#).unwrap_err(), Refusal::ModelForbidden { model: "n".into() });
}

#[test]
fn the_set_of_a_rule_holds_though_it_leads_to_a_model_that_is_barred() {
    let rules = "rules: [{ name: home, model: n, targets: { regions: [us] } }]\n";
    let snapshot = snapshot(&format!("{MODELS}{rules}"), ", models: [m]");
    for _ in 0..8 {
        assert_eq!(way(&snapshot, M), Ok((String::new(), "us/m".into())));
    }
}

#[test]
fn where_no_rule_can_lead_on_the_call_is_refused() {
    let rules = "models:\n  n: { targets: [{ provider: us }] }\n  auto: { rules: [{ model: n }] }\n";
    let snapshot = snapshot(rules, ", models: [auto]");
    assert_eq!(way(&snapshot, r#","model":"auto""#), Err(Refusal::ModelForbidden { model: "auto".into() }));
}

#[test]
fn where_rules_lead_to_a_sleeper_the_operator_reads_what_would_wake_it() {
    let text = format!(
        "providers: {{ p: {{ dialect: openai_chat, base_url: \"http://p/v1\", api_key: \"${{P_KEY}}\" }} }}\n\
         models: {{ n: {{ targets: [{{ provider: p }}] }}, auto: {{ rules: [{{ model: n }}] }} }}\nkeys: [{{ id: k, secret_sha256: \"{}\" }}]\n",
        "0".repeat(64)
    );
    let snapshot = config::from_text(&text, &|_| None).unwrap();
    let refused = decided(&snapshot, r#","model":"auto""#).unwrap_err();
    assert_eq!(refused, Refusal::UnknownModel { model: "auto".into(), asleep: Some("P_KEY".into()) });
}

#[test]
fn circles_of_rules_end() {
    let rules = "models:\n  m: { targets: [{ provider: eu }], rules: [{ model: n }] }\n  n: { targets: [{ provider: us }], rules: [{ model: m }] }\n";
    assert_eq!(way(&snapshot(rules, ""), M), Ok(("m/#1 n/#1".into(), "eu/m".into())));
}

#[test]
fn fallbacks_come_from_rule_request_key_and_model_in_this_order() {
    let models = "models:\n  m: { targets: [{ provider: eu }], fallback: [a] }\n  a: { targets: [{ provider: us }] }\n  \
                  b: { targets: [{ provider: us }] }\n  c: { targets: [{ provider: us }] }\n  d: { targets: [{ provider: us }] }\n";
    let rules = "rules: [{ when: request.stream, fallback: [d] }]\ntiers: { t: { fallback: [m, b] } }\n";
    let second = |snapshot: &Snapshot, more: &str| {
        let key = snapshot.keys.values().next().unwrap();
        let decision = decided(snapshot, more).unwrap();
        let mut plan = Plan::make(snapshot, key, &call(snapshot, more), decision, NOW, &mut || 0).unwrap();
        drop(plan.next(NOW, &mut || 0));
        plan.unfit();
        match plan.next(NOW, &mut || 0) {
            Step::Try { candidate, .. } => candidate.model.name.clone(),
            other => panic!("{other:?}"),
        }
    };
    let (plain, tiered) =
        (snapshot(&format!("{models}{rules}"), ""), snapshot(&format!("{models}{rules}"), ", tier: t"));
    let asked = format!("{M},\"fallback\":[\"c\"]");
    assert_eq!((second(&plain, M), second(&tiered, M)), ("a".into(), "b".into()));
    assert_eq!(second(&tiered, &asked), "c");
    assert_eq!(second(&tiered, &format!("{asked},\"stream\":true")), "d");
}
