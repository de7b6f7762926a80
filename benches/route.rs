//! What a decision costs: the first target of a call among 1, 10, 100 and 1,000, by each strategy, as the data plane makes
//! it (plan, look at every target's state, claim, give back); and what rules and classes cost before that.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portolan::config::{self, Snapshot};
use portolan::dialect::openai_chat;
use portolan::exchange::{Call, Circumstances, Decision, Plan, Said, Step, decide as decide_by_rules};
use portolan::policy::Moment;
use portolan::policy::route::{Answered, Strategy};

fn snapshot(targets: usize) -> Snapshot {
    let mut text = String::from("providers:\n");
    for n in 0..targets {
        let _ =
            writeln!(text, "  p{n}: {{ dialect: openai_chat, base_url: \"http://p{n}/v1\", api_key: k, region: eu }}");
    }
    text.push_str("models:\n  m:\n    targets:\n");
    for n in 0..targets {
        let _ = writeln!(
            text,
            "      - {{ provider: p{n}, weight: {}, tier: {}, price: {{ input: {}.5, output: 4 }} }}",
            n % 7 + 1,
            n % 3,
            n % 11 + 1
        );
    }
    text.push_str("routing: { home: eu, distances: { eu: { eu: 0 } } }\nkeys: [{ id: k, secret_sha256: \"");
    text.push_str(&"0".repeat(64));
    text.push_str("\" }]\n");
    config::from_text(&text, &|_| None).unwrap()
}

fn call(snapshot: &Snapshot, routing: &str) -> Arc<Call> {
    let body = format!(
        r#"{{"model":"m","stream":true,"routing":"{routing}","user":"u","messages":[{{"role":"system","content":"{}"}},{{"role":"user","content":"Hello"}}]}}"#,
        "You are helpful. ".repeat(20)
    );
    let reads = openai_chat::DIALECT.inbound.unwrap().reads();
    let said = Said { reads, model: "", stream: false, array: false, count: false };
    Arc::new(Call::read(body.into(), &said, &snapshot.limits, &|_| None).unwrap())
}

fn decide(criterion: &mut Criterion) {
    for strategy in Strategy::ALL {
        let mut group = criterion.benchmark_group(format!("route/{}", strategy.name()));
        for targets in [1, 10, 100, 1_000] {
            let snapshot = snapshot(targets);
            let key = snapshot.keys.values().next().unwrap().clone();
            let call = call(&snapshot, strategy.name());
            let now = Moment { mono: 5_000_000, unix_ms: 0 };
            for (n, target) in snapshot.models.get("m").unwrap().targets.iter().enumerate() {
                let first_us = 300_000 + n as u64 * 37 % 500_000;
                let answered = Answered { first_us, total_us: 4 * first_us, input: 900, output: 200, cached: 0 };
                target.vitals.succeeded(now.mono, &answered);
            }
            let mut dice = fastrand::Rng::with_seed(1);
            group.bench_function(BenchmarkId::from_parameter(targets), |bencher| {
                bencher.iter(|| {
                    let mut plan =
                        Plan::make(&snapshot, &key, &call, Decision::default(), now, &mut || dice.u64(..)).unwrap();
                    let step = plan.next(now, &mut || dice.u64(..));
                    assert!(matches!(step, Step::Try { .. }));
                    black_box((plan, step))
                });
            });
        }
        group.finish();
    }
}

/// What ten rules cost, each looked at and none met, and what their absence does.
fn rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rules");
    let ten = [
        "request.input_tokens > 100000 && !request.has_tools",
        "key.tier == 'free' || project == 'sandbox'",
        "tags.team == 'search'",
        "headers['x-application'].startsWith('batch-')",
        "request.model in ['a', 'b', 'c'] && request.stream",
        "time.hour >= 22 || time.hour < 6 && time.weekday > 5",
        "request.wants_json && request.wants_thinking",
        "has(request.max_tokens) && request.max_tokens < 100",
        "client_region == 'us' && request.dialect == 'anthropic'",
        "request.model.contains('mini') && size(request.session) > 0",
    ];
    for count in [0, 1, 10] {
        let mut text = String::from(
            "providers: { p: { dialect: openai_chat, base_url: \"http://p/v1\", api_key: k } }\nmodels: { m: { targets: [{ provider: p }] } }\nrules:\n",
        );
        for when in ten.iter().take(count) {
            let _ = writeln!(text, "  - {{ when: \"{when}\", strategy: balanced }}");
        }
        let _ = writeln!(text, "keys: [{{ id: k, secret_sha256: \"{}\" }}]", "0".repeat(64));
        let snapshot = config::from_text(&text, &|_| None).unwrap();
        let key = snapshot.keys.values().next().unwrap().clone();
        let call = call(&snapshot, "weighted");
        // Noon.
        let now = Moment { mono: 5_000_000, unix_ms: 1_795_262_400_000 };
        let header = |name: &str| (name == "x-application").then_some("shop");
        let circumstances = Circumstances { dialect: "openai_chat", header: &header };
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                let decision = decide_by_rules(&snapshot, &key, &call, &circumstances, false, now).unwrap();
                assert!(decision.rules.is_empty());
                black_box(decision)
            });
        });
    }
    group.finish();
}

/// What the class of a prompt costs: ten classes of four examples, and a prompt that fills the head.
fn classes(criterion: &mut Criterion) {
    let words =
        ["alpha", "beta", "gamma", "delta", "omega", "sigma", "prove", "write", "translate", "explain", "fix", "plan"];
    let text = |seed: usize, count: usize| {
        words.iter().cycle().skip(seed * 7).step_by(seed + 3).take(count).copied().collect::<Vec<_>>().join(" ")
    };
    let mut config = String::from(
        "providers: { p: { dialect: openai_chat, base_url: \"http://p/v1\", api_key: k } }\nmodels: { m: { targets: [{ provider: p }] } }\n\
         rules: [{ when: request.class == \"c1\", strategy: balanced }]\nclasses:\n  named:\n",
    );
    for class in 0..10 {
        let examples: Vec<_> = (0..4).map(|n| format!("\"{}\"", text(class * 4 + n, 12))).collect();
        let _ = writeln!(config, "    c{class}: {{ examples: [{}], keywords: [zeta{class}] }}", examples.join(", "));
    }
    let _ = writeln!(config, "keys: [{{ id: k, secret_sha256: \"{}\" }}]", "0".repeat(64));
    let snapshot = config::from_text(&config, &|_| None).unwrap();
    let key = snapshot.keys.values().next().unwrap().clone();
    let reads = openai_chat::DIALECT.inbound.unwrap().reads();
    let said = Said { reads, model: "", stream: false, array: false, count: false };
    let mut group = criterion.benchmark_group("classes");
    for bytes in [100, 1_000, 4_096] {
        let prompt = text(5, bytes / 6);
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{prompt}"}}]}}"#);
        let call = Call::read(body.into(), &said, &snapshot.limits, &|_| None).unwrap();
        let header = |name: &str| (name == "x-application").then_some("shop");
        let circumstances = Circumstances { dialect: "openai_chat", header: &header };
        group.bench_function(BenchmarkId::from_parameter(bytes), |bencher| {
            bencher.iter(|| {
                let now = Moment { mono: 1, unix_ms: 0 };
                black_box(decide_by_rules(&snapshot, &key, &call, &circumstances, false, now).unwrap())
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(std::time::Duration::from_millis(300)).measurement_time(std::time::Duration::from_secs(1)).sample_size(20);
    targets = decide, rules, classes
}
criterion_main!(benches);
