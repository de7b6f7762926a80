//! Strategies, arms, distances, limits: what is written, and what is wrong.

use super::super::*;
use super::{problems, with};
use crate::policy::quota::Limits;
use crate::policy::route::Strategy;
use crate::policy::route::affinity::By;

const PROVIDERS: &str = "providers:\n  p: { dialect: openai_chat, base_url: \"http://a/v1\", api_keys: [k1, k2], region: eu, attributes: [zdr], limits: { rpm: 60 } }\n  q: { dialect: openai_chat, base_url: \"http://b/v1\", auth: none }\n";

#[test]
fn what_is_written_of_routing_is_in_the_snapshot() {
    let text = format!(
        "{PROVIDERS}routing: {{ strategy: least_busy, balanced: {{ latency: 0.5 }}, home: eu, distances: {{ ap: {{ eu: 7 }}, eu: {{ eu: 0 }} }} }}\n\
         models:\n  m:\n    targets: [{{ provider: p, arm: a, attributes: [x] }}, {{ provider: q, arm: b, region: us, limits: {{ concurrency: 3 }} }}]\n    \
         strategy: sticky\n    sticky: [user]\n    split: {{ arms: {{ a: 9, b: 1 }}, by: [key] }}\n  n: {{ targets: [{{ provider: q, tier: 5 }}] }}\n\
         keys: [{{ id: k, secret_sha256: \"{}\", strategy: balanced, regions: [eu], attributes: [zdr], home: ap }}]\n",
        "0".repeat(64)
    );
    let snapshot = with(&[("f", &text)], &[]).unwrap();
    let (m, n) = (&snapshot.models["m"], &snapshot.models["n"]);
    assert_eq!((m.rules.strategy, n.rules.strategy), (Strategy::Sticky, Strategy::LeastBusy));
    assert_eq!((m.rules.weights.cost, m.rules.weights.latency), (1.0, 0.5));
    assert_eq!((&*m.sticky, &*n.sticky), (&[By::User][..], &[By::Session, By::User, By::Prefix][..]));
    let split = m.split.as_ref().unwrap();
    assert_eq!((split.arm(8), split.arm(9), split.sum), (0, 1, 10));
    let [p, q] = [&m.targets[0], &m.targets[1]];
    assert_eq!((p.region.as_deref(), q.region.as_deref()), (Some("eu"), Some("us")));
    assert_eq!((&*p.attributes, q.attributes.len()), (&["zdr".to_owned(), "x".to_owned()][..], 0));
    assert_eq!((p.arm, q.arm, p.tier, q.tier, n.targets[0].tier), (Some(0), Some(1), 1, 2, 5));
    assert_eq!((&*p.distances, &*q.distances), (&[7, 0][..], &[u32::MAX, u32::MAX][..]));
    assert_eq!((p.seats.len(), q.seats.len()), (2, 1));
    assert_eq!(p.account_limits, Limits { requests: Some(60), ..Limits::default() });
    assert_eq!(q.limits, Limits { concurrency: Some(3), ..Limits::default() });
    assert!(p.learns && q.learns && !n.targets[0].learns);
    let key = snapshot.keys.values().next().unwrap();
    assert_eq!((key.strategy, key.home, snapshot.home), (Some(Strategy::Balanced), Some(0), Some(1)));
    assert_eq!((&*key.levels[0].regions, &*key.attributes), (&["eu".to_owned()][..], &["zdr".to_owned()][..]));
}

#[test]
fn state_is_shared_by_models_and_outlives_a_reload() {
    let live = Live::default();
    let text = format!(
        "{PROVIDERS}models:\n  m: {{ targets: [{{ provider: p, model: x }}] }}\n  n: {{ targets: [{{ provider: p, model: x }}, {{ provider: p }}] }}\n"
    );
    let read = |_: &Path| Ok(text.as_bytes().to_vec());
    let outside = Outside { env: &|_| None, read: &read };
    let load = || load(Path::new("f"), &outside, &Catalogue::EMPTY, &live).unwrap();
    let (first, second) = (load(), load());
    let target = |snapshot: &Snapshot, model: &str, place: usize| snapshot.models[model].targets[place].clone();
    let (m, n, other) = (target(&first, "m", 0), target(&second, "n", 0), target(&second, "n", 1));
    let same = std::sync::Arc::<crate::policy::Account>::ptr_eq;
    assert!(std::sync::Arc::ptr_eq(&m.vitals, &n.vitals) && !std::sync::Arc::ptr_eq(&m.vitals, &other.vitals));
    assert!(same(&m.seats[1].account, &other.seats[1].account) && same(&m.seats[1].here, &n.seats[1].here));
    assert!(!same(&m.seats[0].account, &m.seats[1].account) && !same(&m.seats[1].here, &other.seats[1].here));
    m.vitals.begin();
    drop((m, n, other, first, second));
    live.forget(crate::policy::Moment::default());
    assert_eq!(target(&load(), "m", 0).vitals.in_flight(), 0, "what no snapshot has is forgotten");
}

#[test]
fn every_mistake_of_routing_has_its_place() {
    let text = format!(
        "{PROVIDERS}routing: {{ strategy: nearest, home: eu, sticky: [] }}\nmodels:\n  \
         a: {{ targets: [{{ provider: p, arm: x }}] }}\n  \
         b: {{ targets: [{{ provider: p, arm: y }}, {{ provider: q }}], split: {{ arms: {{ x: 0 }} }} }}\n  \
         c: {{ targets: [{{ provider: q, attributes: [\"a b\"] }}], sticky: [user, user] }}\n"
    );
    let found = problems(&text).join("\n");
    for part in [
        "routing.home: no distances from `eu` are known",
        "routing.strategy: nearest goes by distances",
        "routing.sticky: write what calls have in common",
        "models.a.targets[0].arm: the model has no arms",
        "models.b.split.arms: write at least one arm with a part above 0",
        "models.b.split.arms.x: no target is in this arm",
        "models.b.targets[0].arm: the model's `split` has no arm `y`",
        "models.b.targets[1]: the model is split into arms",
        "models.c.targets[0].attributes[0]: an attribute is",
        "models.c.sticky[1]: this is already in the list",
    ] {
        assert!(found.contains(part), "{part}\n{found}");
    }
    assert_eq!(found.lines().count(), 10, "{found}");
}

#[test]
fn heartbeats_are_what_is_written_at_the_target_or_else_at_its_provider() {
    use crate::policy::route::heartbeat::{Question, When};
    let text = "providers:\n  p: { preset: ollama, heartbeat: { ask: completion, tokens: 5, interval: 2m, usd_per_day: 0.5 } }\n  q: { preset: ollama, heartbeat: { ask: models } }\n\
        models:\n  m: { targets: [{ provider: p }, { provider: q }, { provider: q, model: x, heartbeat: { ask: path, path: /up, when: resting } }, { provider: p, model: y, heartbeat: { ask: none } }] }\n";
    let snapshot = with(&[("f", text)], &[]).unwrap();
    let beats: Vec<_> = snapshot.models["m"].targets.iter().map(|target| target.heartbeat.clone()).collect();
    let [Some(p), Some(q), Some(x), None] = &*beats else { panic!("{beats:?}") };
    assert_eq!((&p.rules.ask, p.shared, p.rules.when), (&Question::Completion { tokens: 5 }, false, When::Idle));
    assert_eq!((p.rules.bounds.calls, p.rules.bounds.nano), (Some(2_880), Some(500_000_000)));
    assert_eq!((&q.rules.ask, q.shared, q.rules.bounds.calls), (&Question::Models, true, None));
    assert_eq!((&x.rules.ask, x.shared, x.rules.when), (&Question::Path("/up".to_owned()), false, When::Resting));

    let text = "providers:\n  p: { preset: ollama, heartbeat: { ask: path } }\n  q: { preset: ollama, health_check: { path: / }, heartbeat: { ask: models, usd_per_day: 1 } }\n  r: { preset: cohere, api_key: k, heartbeat: { ask: models } }\n\
        models:\n  m: { targets: [{ provider: r, heartbeat: { ask: completion, interval: 0s } }, { provider: r, model: x }] }\n";
    let found: Vec<_> = with(&[("f", text)], &[])
        .unwrap_err()
        .iter()
        .map(|problem| format!("{}: {}", problem.path, problem.message))
        .collect();
    assert_eq!(
        found,
        [
            "providers.p.heartbeat: `path` goes with `ask: path`: write both, or neither",
            "providers.q.heartbeat: `health_check` asks the nodes already: ask for a completion, or take one of the two out",
            "providers.q.heartbeat: `tokens` and `usd_per_day` go with `ask: completion`: the others cost nothing",
            "providers.r.heartbeat.ask: this API has no list of models: ask for a path or a completion",
            "models.m.targets[0].heartbeat.interval: nothing can happen in no time: write more than 0",
        ]
    );
}

#[test]
fn hedges_are_shares_and_have_somewhere_to_go() {
    let text = "providers: { p: { preset: ollama }, q: { preset: vllm } }\n\
        models:\n  m: { targets: [{ provider: p }, { provider: q }], hedge: { percent: 2.5, usd_per_hour: 3 } }\n  n: { targets: [{ provider: p }], fallback: [m], hedge: { delay: 50ms, fallback: true } }\n";
    let snapshot = with(&[("f", text)], &[]).unwrap();
    let of = |model: &str| snapshot.models[model].hedge.as_ref().unwrap().0.clone();
    assert_eq!((of("m").share, of("m").bounds.nano, of("m").delay), (25_000, Some(3_000_000_000), None));
    assert_eq!((of("m").floor.as_millis(), of("n").floor.as_millis(), of("n").share), (200, 0, 50_000));
    let text = "providers: { p: { preset: ollama } }\nmodels:\n  m: { targets: [{ provider: p }], hedge: { percent: 101, delay: 0s } }\n";
    let found = problems(text).join("\n");
    for part in ["no other target to ask", "at most 100 per cent", "nothing can happen in no time"] {
        assert!(found.contains(part), "{part}: {found}");
    }
}

#[test]
fn shadows_have_a_model_to_go_to() {
    let text = "providers: { p: { preset: ollama } }\n\
        models:\n  m: { targets: [{ provider: p }], shadow: { to: n, percent: 12.5, by: [user] } }\n  n: { targets: [{ provider: p }], shadow: { to: p/x, percent: 100, in_flight: 2 } }\n  o: { targets: [{ provider: p, model: x }] }\n";
    let snapshot = with(&[("f", text)], &[]).unwrap();
    let of = |model: &str| snapshot.models[model].shadow.clone().unwrap();
    assert_eq!((&*of("m").to, of("m").share, &*of("m").by, of("m").most), ("n", 125_000, &[By::User][..], 16));
    assert_eq!((&*of("n").to, of("n").share, of("n").most), ("p/x", 1_000_000, 2));
    let text = "providers: { p: { preset: ollama } }\n\
        models:\n  m: { targets: [{ provider: p }], shadow: { to: m, percent: 0 } }\n  n: { targets: [{ provider: p }], shadow: { to: mm, percent: 1 } }\n";
    let found = problems(text).join("\n");
    for part in ["no shadow of its own", "at most 100 per cent", "no model is called `mm`"] {
        assert!(found.contains(part), "{part}: {found}");
    }
}

#[test]
fn dedup_is_what_is_written() {
    use crate::policy::coalesce::{Coalesce, Cost};
    let text = "providers: { p: { preset: ollama } }\nmodels:\n  m: { targets: [{ provider: p }], dedup: {} }\n  n: { targets: [{ provider: p }], dedup: { any: true, window: 2s, buffer: 64KiB, cost: split } }\n";
    let snapshot = with(&[("f", text)], &[]).unwrap();
    let of = |model: &str| Coalesce::clone(snapshot.models[model].dedup.as_ref().unwrap());
    assert_eq!(of("m"), Coalesce { any: false, window: None, buffer: 1 << 20, cost: Cost::Leader });
    let window = Some(std::time::Duration::from_secs(2));
    assert_eq!(of("n"), Coalesce { any: true, window, buffer: 64 << 10, cost: Cost::Split });
    let found = problems(
        "providers: { p: { preset: ollama } }\nmodels:\n  m: { targets: [{ provider: p }], dedup: { window: 0s } }\n",
    );
    assert!(found.iter().any(|problem| problem.contains("nothing can happen in no time")), "{found:?}");
}
