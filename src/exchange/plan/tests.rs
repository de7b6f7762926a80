//! Whole ways of calls through their targets, in virtual time.

use proptest::prelude::*;

use super::*;
use crate::config;
use crate::dialect::openai_chat;
use crate::exchange::Said;
use crate::ir::FaultKind;

const SECOND: u64 = 1_000_000;

/// A configuration of providers `a` to `d` (of two keys each for `d`), and these models.
fn snapshot(models: &str) -> Snapshot {
    let row = |name: &str, more: &str| {
        format!("  {name}: {{ dialect: openai_chat, base_url: \"http://{name}/v1\", region: {name}r{more} }}\n")
    };
    let text = format!(
        "providers:\n{}{}{}{}models:\n{models}retry: {{ tries: 1, failures: 1, cooldown: 10s }}\nkeys: [{{ id: k, secret_sha256: \"{}\" }}]\n",
        row("a", ", api_key: k"),
        row("b", ", api_key: k"),
        row("c", ", api_key: k"),
        row("d", ", api_keys: [k1, k2]"),
        "0".repeat(64)
    );
    match config::from_text(&text, &|_| None) {
        Ok(snapshot) => snapshot,
        Err(problems) => panic!("{problems:?}"),
    }
}

fn call(snapshot: &Snapshot, more: &str) -> Arc<Call> {
    let reads = openai_chat::DIALECT.inbound.unwrap().reads();
    let said = Said { reads, model: "", stream: false, array: false, count: false };
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}]{more}}}"#);
    Arc::new(Call::read(body.into(), &said, &snapshot.limits, &|_| None).unwrap())
}

fn at(micros: u64) -> Moment {
    Moment { mono: micros, unix_ms: micros / 1_000 }
}

fn plan(snapshot: &Snapshot, more: &str, now: u64) -> Plan {
    let key = snapshot.keys.values().next().unwrap();
    Plan::make(snapshot, key, &call(snapshot, more), Decision::default(), at(now), &mut || 7).unwrap()
}

fn next(plan: &mut Plan, now: u64) -> Result<(String, Held), Step> {
    match plan.next(at(now), &mut || 7) {
        Step::Try { candidate, held, .. } => Ok((candidate.target.target.id.clone(), held)),
        other => Err(other),
    }
}

fn fail(plan: &mut Plan, mut held: Held, kind: FaultKind, after: Option<u64>, now: u64) -> bool {
    let mut fault = Fault::new(kind, "scripted");
    fault.retry_after = after.map(Duration::from_secs);
    attribute(&mut held, &fault, at(now), plan);
    drop(held);
    plan.failed(fault, at(now), 7)
}

/// The targets that a call goes to while each fails.
fn way(plan: &mut Plan, now: u64, kind: FaultKind) -> Vec<String> {
    let mut way = Vec::new();
    while let Ok((id, held)) = next(plan, now) {
        way.push(id);
        if !fail(plan, held, kind, None, now) {
            break;
        }
    }
    way
}

#[test]
fn the_well_come_first_then_those_that_rest_then_those_that_lack_something() {
    let models = "  m: { targets: [{ provider: a }, { provider: b, abilities: { tools: false } }, { provider: c }], strategy: priority, fallback: [n] }\n  n: { targets: [{ provider: d }] }\n";
    let snapshot = snapshot(models);
    let tools = r#","tools":[{"type":"function","function":{"name":"f"}}]"#;
    // `a` rests.
    let (_, held) = next(&mut plan(&snapshot, "", SECOND), SECOND).unwrap();
    fail(&mut plan(&snapshot, "", SECOND), held, FaultKind::Server, None, SECOND);
    let mut plan = plan(&snapshot, tools, 2 * SECOND);
    assert_eq!(way(&mut plan, 2 * SECOND, FaultKind::Conflict), ["c/m", "d/n", "a/m", "b/m"]);
}

#[test]
fn a_sole_target_is_tried_whatever_it_did_but_for_its_own_wish() {
    let snapshot = snapshot("  m: { targets: [{ provider: a }] }\n");
    for _ in 0..5 {
        assert_eq!(way(&mut plan(&snapshot, "", SECOND), SECOND, FaultKind::Server), ["a/m"]);
    }
    let mut first = plan(&snapshot, "", SECOND);
    let (_, held) = next(&mut first, SECOND).unwrap();
    assert!(!fail(&mut first, held, FaultKind::Overloaded, Some(60), SECOND));
    let mut second = plan(&snapshot, "", 2 * SECOND);
    let Err(Step::Over(refusal)) = next(&mut second, 2 * SECOND) else { panic!("it asked to be left alone") };
    assert_eq!(refusal, Refusal::Resting { retry_after: Duration::from_secs(59), limited: false });
    // Shortly before its time the call waits for it.
    let mut third = plan(&snapshot, "", 58 * SECOND);
    assert!(matches!(next(&mut third, 58 * SECOND), Err(Step::Wait { until }) if until == 61 * SECOND));
    assert!(next(&mut third, 61 * SECOND).is_ok());
}

#[test]
fn one_call_probes_what_comes_back() {
    let snapshot = snapshot("  m: { targets: [{ provider: a }, { provider: b }], strategy: priority }\n");
    assert_eq!(way(&mut plan(&snapshot, "", SECOND), SECOND, FaultKind::Conflict), ["a/m", "b/m"]);
    let now = 20 * SECOND;
    let (mut one, mut two, mut three) = (plan(&snapshot, "", now), plan(&snapshot, "", now), plan(&snapshot, "", now));
    let (probe, other) = (next(&mut one, now).unwrap(), next(&mut two, now).unwrap());
    assert_eq!((&*probe.0, &*other.0), ("a/m", "b/m"), "each is probed once");
    // A probe that ends without a word lets the next one through.
    drop(probe);
    assert_eq!(next(&mut three, now).unwrap().0, "a/m");
}

#[test]
fn a_pool_goes_on_with_its_other_credential() {
    let snapshot = snapshot("  m: { targets: [{ provider: d }] }\n  n: { targets: [{ provider: d }] }\n");
    for (kind, shared) in [(FaultKind::Authentication, true), (FaultKind::Permission, false)] {
        let mut first = plan(&snapshot, "", SECOND);
        let (_, held) = next(&mut first, SECOND).unwrap();
        let bad = held.credential();
        assert!(fail(&mut first, held, kind, None, SECOND), "{kind:?}: the other one may do");
        let (_, held) = next(&mut first, SECOND).unwrap();
        assert_ne!(held.credential(), bad);
        let target = &snapshot.models["n"].targets[0];
        let held = Held::take(target, SECOND, 1, &mut || bad as u64).unwrap();
        assert_eq!(held.credential() != bad, shared, "{kind:?} with another model");
        for seat in &snapshot.models["m"].targets[0].seats {
            seat.account.bench.succeeded(SECOND);
            seat.here.bench.succeeded(SECOND);
        }
    }
}

#[test]
fn what_is_full_is_waited_for() {
    let snapshot = snapshot("  m: { targets: [{ provider: a, limits: { concurrency: 1 } }] }\n");
    let (mut one, mut two) = (plan(&snapshot, "", SECOND), plan(&snapshot, "", SECOND));
    let (_, held) = next(&mut one, SECOND).unwrap();
    assert!(matches!(next(&mut two, SECOND), Err(Step::Wait { until: u64::MAX })));
    drop(held);
    assert!(next(&mut two, SECOND).is_ok());
}

#[test]
fn the_last_resort_comes_before_those_that_rest_and_beyond_the_tries_of_a_call() {
    let models = "  m: { targets: [{ provider: a }, { provider: b }], strategy: priority, last_resort: n, retry: { total_tries: 1 } }\n  n: { targets: [{ provider: c }] }\n";
    let snapshot = snapshot(models);
    assert_eq!(way(&mut plan(&snapshot, "", SECOND), SECOND, FaultKind::Conflict), ["a/m", "c/n"]);
    // Both others rest, or are tried: it comes first.
    let mut second = plan(&snapshot, "", SECOND);
    assert_eq!(next(&mut second, SECOND).unwrap().0, "b/m");
    for target in &snapshot.models["m"].targets {
        target.vitals.breaker.failed(SECOND, Cooling { failures: 1, pause: Duration::from_secs(60) }, None);
    }
    snapshot.models["n"].targets[0].vitals.breaker.succeeded(SECOND);
    assert_eq!(next(&mut plan(&snapshot, "", SECOND), SECOND).unwrap().0, "c/n");
}

#[test]
fn a_spent_budget_leaves_only_what_is_well() {
    let models = "  m: { targets: [{ provider: a }, { provider: b }], strategy: priority, retry: { budget: { ratio: 0, per_minute: 0, burst: 1 } } }\n";
    let snapshot = snapshot(models);
    assert_eq!(way(&mut plan(&snapshot, "", SECOND), SECOND, FaultKind::Server), ["a/m", "b/m"], "b is well");
    let mut second = plan(&snapshot, "", 2 * SECOND);
    assert_eq!(way(&mut second, 2 * SECOND, FaultKind::Server).len(), 1, "both rest");
    assert!(second.budget_spent() && second.story().unwrap().ends_with("retry_budget=spent"));
    for target in &snapshot.models["m"].targets {
        target.vitals.breaker.succeeded(2 * SECOND);
    }
    for _ in 0..50 {
        target_worked(&snapshot, 2 * SECOND);
    }
    assert_eq!(way(&mut plan(&snapshot, "", 3 * SECOND), 3 * SECOND, FaultKind::Server).len(), 2);
}

fn target_worked(snapshot: &Snapshot, now: u64) {
    for target in &snapshot.models["m"].targets {
        target.vitals.succeeded(now, &route::Answered::default());
    }
}

#[test]
fn an_overflow_goes_where_there_is_more_room() {
    let models = "  m: { targets: [{ provider: a, abilities: { context: 100 } }, { provider: b, abilities: { context: 100 } }, { provider: c, abilities: { context: 200 } }, { provider: d }], strategy: priority }\n";
    let snapshot = snapshot(models);
    // Of the same model at `d` nothing is known, and so nothing is hoped.
    assert_eq!(way(&mut plan(&snapshot, "", SECOND), SECOND, FaultKind::ContextLength), ["a/m", "c/m"]);
}

proptest! {
    /// Whatever fails and rests, a call never leaves its regions.
    #[test]
    fn regions_are_never_left(
        kinds in prop::collection::vec((0usize..6, prop::option::of(1u64..20)), 1..20),
        mask in 1usize..16,
    ) {
        let models = "  m: { targets: [{ provider: a }, { provider: b }], fallback: [n] }\n  n: { targets: [{ provider: c }, { provider: d }] }\n";
        let snapshot = snapshot(models);
        let regions: Vec<_> = ["a", "b", "c", "d"].into_iter().enumerate().filter(|(n, _)| mask & (1 << n) != 0).map(|(_, name)| name).collect();
        let list: Vec<_> = regions.iter().map(|name| format!("\"{name}r\"")).collect();
        let more = format!(r#","region":[{}]"#, list.join(","));
        let mut now = SECOND;
        let mut plan = plan(&snapshot, &more, now);
        for (kind, after) in kinds {
            let kind = [FaultKind::Server, FaultKind::RateLimited, FaultKind::Authentication, FaultKind::Connect, FaultKind::Timeout, FaultKind::NotFound][kind];
            match next(&mut plan, now) {
                Ok((id, held)) => {
                    prop_assert!(regions.contains(&&id[..1]), "{} outside of {:?}", id, regions);
                    if !fail(&mut plan, held, kind, after, now) {
                        plan = self::plan(&snapshot, &more, now);
                    }
                }
                Err(Step::Wait { until }) => now = until.min(now + 60 * SECOND),
                Err(_) => {
                    now += SECOND;
                    plan = self::plan(&snapshot, &more, now);
                }
            }
        }
        for target in snapshot.models.values().flat_map(|model| &model.targets) {
            prop_assert_eq!(target.vitals.in_flight(), 0, "what was claimed is given back");
        }
    }
}

#[test]
fn what_is_asked_beside_a_target_is_another_one_that_is_well() {
    let models = "  m: { targets: [{ provider: a }, { provider: b, region: x }, { provider: c }], strategy: priority, fallback: [n], hedge: { percent: 50 } }\n  n: { targets: [{ provider: d }] }\n";
    let snapshot = snapshot(models);
    let beside = |plan: &Plan, fallback| {
        let found = plan.beside(at(SECOND), fallback, &mut || 7);
        found.map(|(candidate, held, place)| (candidate.target.target.id.clone(), held, place))
    };
    let mut first = plan(&snapshot, "", SECOND);
    assert!(first.hedge().is_none(), "nothing is under way");
    let _held = next(&mut first, SECOND).unwrap();
    assert!(first.hedge().is_some());
    let (id, held, place) = beside(&first, false).unwrap();
    assert_eq!((id.as_str(), place), ("b/m", (0, 1)));
    first.passed(place);
    first.passed(place);
    assert_eq!((first.tried, first.done.len()), (2, 1));
    drop(held);
    assert_eq!(beside(&first, false).unwrap().0, "c/m", "and not the same again");
    // Where the call may not go, or what rests, is not asked.
    let mut bound = plan(&snapshot, r#","region":["ar","x"]"#, SECOND);
    let _held = next(&mut bound, SECOND).unwrap();
    assert_eq!(beside(&bound, false).unwrap().0, "b/m");
    let (id, mut other, _) = beside(&bound, false).unwrap();
    assert!(other.failed(&Fault::new(FaultKind::Server, "no"), SECOND, bound.cooling()).is_some(), "{id} rests");
    assert!(beside(&bound, true).is_none());
    // Fallbacks answer only where that is wanted.
    first.passed((0, 2));
    assert!(beside(&first, false).is_none());
    assert_eq!(beside(&first, true).unwrap().0, "d/n");
}
