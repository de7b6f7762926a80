//! Providers of several nodes: shares by weight, and nodes that fail their checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::answers;
use super::gateway::{Gateway, ask, keys};
use super::upstream::{Attempt, Reply, Upstream};

fn pool(nodes: &[(&Upstream, u32)], more: &str) -> String {
    let nodes: Vec<String> =
        nodes.iter().map(|(node, weight)| format!("{{ url: \"{}\", weight: {weight} }}", node.v1())).collect();
    format!(
        "providers:\n  pool: {{ dialect: openai_chat, nodes: [{}]{more} }}\n\
         models:\n  alias: {{ targets: [{{ provider: pool, model: real }}] }}\nretry: {{ tries: 2, pause: 10ms }}\n{}",
        nodes.join(", "),
        keys()
    )
}

fn calls(upstream: &Upstream) -> usize {
    upstream.attempts().iter().filter(|attempt| attempt.method == "POST").count()
}

#[test]
fn nodes_share_calls_by_weight() {
    let (one, two) = (Upstream::always(answers::whole("one")), Upstream::always(answers::whole("two")));
    let gateway = Gateway::start(&pool(&[(&one, 3), (&two, 1)], ""));
    for _ in 0..40 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    let (one, two) = (calls(&one), calls(&two));
    assert_eq!(one + two, 40);
    assert!((28..=32).contains(&one), "weights 3 to 1 gave {one} to {two}");
}

#[test]
fn a_dead_node_costs_no_call() {
    let (one, two) = (Upstream::always(answers::whole("one")), Upstream::always(answers::whole("two")));
    let config = pool(&[(&one, 1), (&two, 1)], "").replace(&two.v1(), "http://127.0.0.1:9/v1");
    let gateway = Gateway::start(&config);
    for _ in 0..10 {
        let got = gateway.chat(&ask("alias", "x"));
        assert_eq!(got.status, 200, "the next try goes to another node: {got}");
    }
}

#[test]
fn a_node_that_fails_its_checks_gets_no_calls_until_it_is_well() {
    let ill = Arc::new(AtomicBool::new(true));
    let node = |name: &'static str, ill: Option<Arc<AtomicBool>>| {
        Upstream::start(move |attempt: &Attempt| match (attempt.path.as_str(), &ill) {
            ("/health", Some(ill)) if ill.load(Ordering::SeqCst) => Reply::json(503, "{}"),
            ("/health", _) => Reply::json(200, "{}"),
            _ => answers::whole(name),
        })
    };
    let (one, two) = (node("one", None), node("two", Some(ill.clone())));
    let check = ", health_check: { path: /health, interval: 200ms, timeout: 1s, unhealthy_after: 1, healthy_after: 1 }";
    let gateway = Gateway::start(&pool(&[(&one, 1), (&two, 1)], check));
    two.wait("checks", Duration::from_secs(10), |seen| {
        seen.iter().filter(|attempt| attempt.path == "/health").count() >= 2
    });
    thread::sleep(Duration::from_millis(300));
    let before = calls(&two);
    for _ in 0..10 {
        assert_eq!(gateway.chat(&ask("alias", "x")).status, 200);
    }
    assert_eq!(calls(&two), before, "the ill node was called");

    ill.store(false, Ordering::SeqCst);
    let begun = Instant::now();
    while calls(&two) == before {
        assert!(begun.elapsed() < Duration::from_secs(10), "the node is well and gets no calls");
        gateway.chat(&ask("alias", "x"));
        thread::sleep(Duration::from_millis(50));
    }
}
