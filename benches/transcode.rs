//! Translating: a Chat Completions caller in front of each other dialect, and the order of a model's targets.

#![expect(clippy::unwrap_used, reason = "a bench may fail loudly")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use portolan::dialect::{Abilities, Asked, DIALECTS, Dialect, Inbound, Quirks, Shown, To, openai_chat};
use portolan::ir::Losses;
use portolan::policy::route::{Choice, Health, weighted_order};
use portolan::wire::sse::Decoder;

const TOOLS: &str = r#"{"model":"m","messages":[{"role":"system","content":"You are terse."},{"role":"user","content":"What is the weather in Paris and in Oslo?"},
{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Paris\"}"}},{"id":"call_2","type":"function","function":{"name":"weather","arguments":"{\"city\":\"Oslo\"}"}}]},
{"role":"tool","tool_call_id":"call_1","content":"21 degrees"},{"role":"tool","tool_call_id":"call_2","content":"4 degrees"}],
"tools":[{"type":"function","function":{"name":"weather","description":"The weather of a city.","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}}],
"temperature":0.7,"max_tokens":200,"stream":true}"#;

fn plain(prompt_bytes: usize) -> String {
    let prompt = "lorem ipsum dolor sit amet ".repeat(prompt_bytes / 27 + 1);
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{prompt}"}}],"max_tokens":100}}"#)
}

fn caller() -> Option<&'static dyn Inbound> {
    openai_chat::DIALECT.inbound
}

fn others() -> impl Iterator<Item = Dialect> {
    DIALECTS.into_iter().filter(|dialect| *dialect != openai_chat::DIALECT)
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request");
    let (quirks, abilities) = (Quirks::default(), Abilities::default());
    let Some(chat) = caller() else { return };
    for (size, body) in [("300 B", plain(200)), ("tools", TOOLS.to_owned()), ("100 KB", plain(100_000))] {
        for dialect in others() {
            group.bench_function(format!("chat to {}, {size}", dialect.name), |b| {
                b.iter(|| {
                    let to = To { model: "m", stream: true, quirks: &quirks, abilities: &abilities };
                    let mut out = Vec::with_capacity(body.len() + 512);
                    let request = chat.decode(black_box(body.as_bytes()));
                    request.map(|request| {
                        dialect.outbound.unwrap().encode(&request, &to, &mut out, &mut Losses::default()).is_ok()
                    })
                });
            });
        }
    }
}

/// A content chunk of each dialect's stream.
fn chunk(dialect: Dialect) -> (&'static str, &'static str) {
    match dialect.name {
        "anthropic" => (
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" word\"}}\n\n",
        ),
        "gemini" => (
            "",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\" word\"}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":2,\"totalTokenCount\":11},\"modelVersion\":\"m\"}\n\n",
        ),
        _ => (
            "",
            "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"finish_reason\":null}]}\n\n",
        ),
    }
}

fn streams(c: &mut Criterion) {
    let mut group = c.benchmark_group("stream chunk");
    let Some(chat) = caller() else { return };
    for dialect in DIALECTS {
        let (before, delta) = chunk(dialect);
        group.bench_function(format!("{} to chat", dialect.name), |b| {
            let mut frames = Decoder::new(1 << 20);
            let (mut decoder, mut encoder) = (dialect.outbound.unwrap().stream(), chat.stream(&Asked::default()));
            let mut out = Vec::new();
            let mut push = |chunk: &str| {
                out.clear();
                let _ = frames.push(chunk.as_bytes(), &mut |frame| {
                    let mut losses = Losses::default();
                    let _ = decoder
                        .frame(&frame, &mut |event| encoder.event(&event, &Shown::default(), &mut out, &mut losses));
                });
                out.len()
            };
            push(before);
            b.iter(|| push(black_box(delta)));
        });
    }
}

fn routes(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    for targets in [1, 10, 100, 1_000] {
        let health: Vec<Health> = (0..targets).map(|_| Health::default()).collect();
        let choices: Vec<Choice<'_>> = health.iter().map(|health| Choice { weight: 1, health }).collect();
        let mut rng = fastrand::Rng::with_seed(1);
        group.bench_function(format!("{targets} targets"), |b| {
            b.iter(|| weighted_order(black_box(&choices), 1, &mut || rng.u64(..)).len());
        });
    }
}

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
}

criterion_group! { name = benches; config = short(); targets = requests, streams, routes }
criterion_main!(benches);
