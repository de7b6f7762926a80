//! No allocation per relayed chunk in passthrough, and none for a choice among targets: a counting allocator around
//! `Relay::chunk` and `Plan::next`.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use portolan::config;
use portolan::dialect::openai_chat;
use portolan::exchange::{Call, Decision, Plan, Relay, Said, Sent, Step, Terms};
use portolan::ir::Origin;
use portolan::policy::Moment;
use portolan::policy::route::Strategy;
use portolan::wire::frames::Framing;

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: hands everything on to the system's allocator, and counts in a thread-local cell that does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CONFIG: &str = r#"
providers: { p: { dialect: openai_chat, base_url: "http://127.0.0.1:9/v1", api_key: x } }
models: { m: { targets: [{ provider: p, model: m, price: { input: 1, output: 2 } }] } }
keys: [{ id: k, secret_sha256: "24a5e1f2f82f05d00e3c26817e91ca39011a7a6fa20d069ea67254388e300aad" }]
"#;

fn terms(include_usage: bool) -> Terms {
    let snapshot = Arc::new(config::from_text(CONFIG, &|_| None).expect("the configuration is good"));
    let target = snapshot.model("m").unwrap().targets[0].clone();
    let reads = openai_chat::DIALECT.inbound.unwrap().reads();
    let said = Said { reads, model: "", stream: false, array: false, count: false };
    let body =
        format!(r#"{{"model":"m","stream":true,"stream_options":{{"include_usage":{include_usage}}},"messages":[]}}"#);
    let call = Call::read(body.into(), &said, &snapshot.limits, &|_| None).expect("a good request");
    Terms {
        snapshot,
        target,
        charge: None,
        inbound: openai_chat::DIALECT.inbound.unwrap(),
        outbound: openai_chat::DIALECT.outbound.unwrap(),
        origin: Origin(openai_chat::DIALECT.name),
        same_dialect: true,
        rewritten: false,
        continues: false,
        request_id: "r".into(),
        answer_id: std::sync::OnceLock::new(),
        call: Arc::new(call),
        now: 0,
    }
}

fn delta(content: &str) -> Bytes {
    Bytes::from(format!(
        "data: {{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":{content}}},\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null}}\n\n"
    ))
}

#[test]
fn a_content_chunk_passes_without_an_allocation() {
    for include_usage in [true, false] {
        let terms = terms(include_usage);
        let mut relay = Relay::new(&terms, Sent::Stream(Framing::Sse));
        // The first content ends the holding; what it needs is made then.
        for n in 0..3 {
            relay.chunk(Some(delta(&format!("\"warm {n}\""))), false, &terms).expect("good");
        }
        let chunks: Vec<Bytes> = (0..1_000)
            .map(|n| match n % 3 {
                0 => delta("\" word\""),
                1 => delta("\"\\\"usage\\\": {\\\"error\\\"} \u{1F600}\""),
                // Two events in one chunk.
                _ => Bytes::from([delta("\"a\""), delta("\"b\"")].concat()),
            })
            .collect();
        let sizes: Vec<usize> = chunks.iter().map(Bytes::len).collect();
        let before = COUNT.with(Cell::get);
        let mut passed = 0;
        for chunk in chunks {
            let out = relay.chunk(Some(chunk), false, &terms).expect("good");
            passed += out.bytes.map_or(0, |bytes| bytes.len());
        }
        let allocations = COUNT.with(Cell::get) - before;
        assert_eq!(passed, sizes.iter().sum::<usize>(), "every byte passes");
        assert_eq!(allocations, 0, "over 1,000 chunks, usage asked for: {include_usage}");
    }
}

#[test]
fn a_choice_among_a_thousand_allocates_no_more_than_one_among_two() {
    let count = |targets: usize, strategy: Strategy| {
        let mut text = String::from("providers:\n");
        for n in 0..targets {
            text.push_str(&format!("  p{n}: {{ dialect: openai_chat, base_url: \"http://p{n}/v1\", auth: none }}\n"));
        }
        let rows: Vec<_> = (0..targets).map(|n| format!("{{ provider: p{n} }}")).collect();
        text.push_str(&format!(
            "models: {{ m: {{ targets: [{}] }} }}\nkeys: [{{ id: k, secret_sha256: \"{}\" }}]\n",
            rows.join(", "),
            "0".repeat(64)
        ));
        let snapshot = config::from_text(&text, &|_| None).expect("the configuration is good");
        let key = snapshot.keys.values().next().unwrap().clone();
        let reads = openai_chat::DIALECT.inbound.unwrap().reads();
        let said = Said { reads, model: "", stream: false, array: false, count: false };
        let body = format!(r#"{{"model":"m","routing":"{}","user":"u","messages":[]}}"#, strategy.name());
        let call = Arc::new(Call::read(body.into(), &said, &snapshot.limits, &|_| None).expect("a good request"));
        let now = Moment { mono: 1, unix_ms: 1 };
        let mut random = 7u64;
        let mut dice = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            random
        };
        let before = COUNT.with(Cell::get);
        let mut plan =
            Plan::make(&snapshot, &key, &call, Decision::default(), now, &mut dice).expect("the model is there");
        let step = plan.next(now, &mut dice);
        let after = COUNT.with(Cell::get);
        assert!(matches!(step, Step::Try { .. }));
        after - before
    };
    for strategy in Strategy::ALL {
        let (few, many) = (count(2, strategy), count(1_000, strategy));
        assert_eq!(few, many, "{strategy:?}");
        assert_eq!(few, 0, "{strategy:?}: the first choice needs no list at all");
    }
}
