//! Translating: every caller's dialect in front of every provider's, processor time a request and a streamed chunk.
//! At the end a table sets each pair beside Chat to Messages.
//!
//! One pair is near or over twice that: a chunk from Gemini to a caller of Gemini. Each of its events is a whole response
//! with the candidate around the piece and all counts of tokens, read and written anew each time; and such calls are
//! passed through, unless the operator has something added to their bodies.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may fail loudly, and prints its table")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, criterion_group, measurement::WallTime};
use portolan::dialect::{Abilities, Asked, DIALECTS, Dialect, Quirks, Shown, To};
use portolan::ir::Losses;
use portolan::wire::eventstream;
use portolan::wire::frames::Decoder;

const SCHEMA: &str = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;

/// Nanoseconds, by what was measured, caller and provider: the best sample, which other work on the machine spoils least.
static BEST: Mutex<BTreeMap<(&str, &str, &str), f64>> = Mutex::new(BTreeMap::new());

/// One conversation in a caller's words: a question, two calls of a tool, and their results. Completions knows prompts
/// only.
fn request(dialect: &str) -> String {
    let about = "The weather of a city.";
    match dialect {
        "anthropic" => format!(
            r#"{{"model":"m","max_tokens":200,"temperature":0.7,"stream":true,"system":"You are terse.","messages":[{{"role":"user","content":"What is the weather in Paris and in Oslo?"}},
{{"role":"assistant","content":[{{"type":"tool_use","id":"call_1","name":"weather","input":{{"city":"Paris"}}}},{{"type":"tool_use","id":"call_2","name":"weather","input":{{"city":"Oslo"}}}}]}},
{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"call_1","content":"21 degrees"}},{{"type":"tool_result","tool_use_id":"call_2","content":"4 degrees"}}]}}],
"tools":[{{"name":"weather","description":"{about}","input_schema":{SCHEMA}}}]}}"#
        ),
        "gemini" => format!(
            r#"{{"generationConfig":{{"temperature":0.7,"maxOutputTokens":200}},"systemInstruction":{{"parts":[{{"text":"You are terse."}}]}},"contents":[{{"role":"user","parts":[{{"text":"What is the weather in Paris and in Oslo?"}}]}},
{{"role":"model","parts":[{{"functionCall":{{"name":"weather","args":{{"city":"Paris"}}}}}},{{"functionCall":{{"name":"weather","args":{{"city":"Oslo"}}}}}}]}},
{{"role":"user","parts":[{{"functionResponse":{{"name":"weather","response":{{"result":"21 degrees"}}}}}},{{"functionResponse":{{"name":"weather","response":{{"result":"4 degrees"}}}}}}]}}],
"tools":[{{"functionDeclarations":[{{"name":"weather","description":"{about}","parametersJsonSchema":{SCHEMA}}}]}}]}}"#
        ),
        "openai_responses" => format!(
            r#"{{"model":"m","max_output_tokens":200,"temperature":0.7,"stream":true,"instructions":"You are terse.","input":[{{"role":"user","content":"What is the weather in Paris and in Oslo?"}},
{{"type":"function_call","call_id":"call_1","name":"weather","arguments":"{{\"city\":\"Paris\"}}"}},{{"type":"function_call","call_id":"call_2","name":"weather","arguments":"{{\"city\":\"Oslo\"}}"}},
{{"type":"function_call_output","call_id":"call_1","output":"21 degrees"}},{{"type":"function_call_output","call_id":"call_2","output":"4 degrees"}}],
"tools":[{{"type":"function","name":"weather","description":"{about}","strict":false,"parameters":{SCHEMA}}}]}}"#
        ),
        "openai_completions" => {
            format!(
                r#"{{"model":"m","max_tokens":200,"temperature":0.7,"stream":true,"prompt":"{}"}}"#,
                "What is the weather? ".repeat(40)
            )
        }
        _ => format!(
            r#"{{"model":"m","max_tokens":200,"temperature":0.7,"stream":true,"messages":[{{"role":"system","content":"You are terse."}},{{"role":"user","content":"What is the weather in Paris and in Oslo?"}},
{{"role":"assistant","content":null,"tool_calls":[{{"id":"call_1","type":"function","function":{{"name":"weather","arguments":"{{\"city\":\"Paris\"}}"}}}},{{"id":"call_2","type":"function","function":{{"name":"weather","arguments":"{{\"city\":\"Oslo\"}}"}}}}]}},
{{"role":"tool","tool_call_id":"call_1","content":"21 degrees"}},{{"role":"tool","tool_call_id":"call_2","content":"4 degrees"}}],
"tools":[{{"type":"function","function":{{"name":"weather","description":"{about}","parameters":{SCHEMA}}}}}]}}"#
        ),
    }
}

/// What comes before the first word of a provider's stream, and one word.
fn chunk(dialect: &str) -> (Vec<u8>, Vec<u8>) {
    let named = |event: &str, data: &str| format!("event: {event}\ndata: {data}\n\n").into_bytes();
    let data = |data: &str| format!("data: {data}\n\n").into_bytes();
    let binary = |event: &str, data: &str| {
        let mut out = Vec::new();
        eventstream::write_event(&mut out, event, data.as_bytes());
        out
    };
    match dialect {
        "anthropic" => (
            [
                named("message_start", r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":9,"output_tokens":1}}}"#),
                named("content_block_start", r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#),
            ]
            .concat(),
            named("content_block_delta", r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" word"}}"#),
        ),
        "bedrock" => (
            binary("messageStart", r#"{"p":"abcd","role":"assistant"}"#),
            binary("contentBlockDelta", r#"{"contentBlockIndex":0,"delta":{"text":" word"},"p":"abcdefgh"}"#),
        ),
        "cohere" => (
            [
                named("message-start", r#"{"id":"t","type":"message-start","delta":{"message":{"role":"assistant","content":[],"tool_plan":"","tool_calls":[],"citations":[]}}}"#),
                named("content-start", r#"{"type":"content-start","index":0,"delta":{"message":{"content":{"type":"text","text":""}}}}"#),
            ]
            .concat(),
            named("content-delta", r#"{"type":"content-delta","index":0,"delta":{"message":{"content":{"text":" word"}}}}"#),
        ),
        "gemini" => (
            Vec::new(),
            data(r#"{"candidates":[{"content":{"parts":[{"text":" word"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2,"totalTokenCount":11},"modelVersion":"m"}"#),
        ),
        "ollama" => (
            Vec::new(),
            b"{\"model\":\"m\",\"created_at\":\"2026-08-05T08:11:02.806664Z\",\"message\":{\"role\":\"assistant\",\"content\":\" word\"},\"done\":false}\n".to_vec(),
        ),
        "openai_responses" => (
            [
                named("response.created", r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":1,"status":"in_progress","model":"m","output":[]}}"#),
                named("response.output_item.added", r#"{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}}"#),
                named("response.content_part.added", r#"{"type":"response.content_part.added","sequence_number":2,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","annotations":[],"text":""}}"#),
            ]
            .concat(),
            named("response.output_text.delta", r#"{"type":"response.output_text.delta","sequence_number":3,"item_id":"msg_1","output_index":0,"content_index":0,"delta":" word","logprobs":[]}"#),
        ),
        "openai_completions" => (Vec::new(), data(r#"{"id":"c","object":"text_completion","created":1,"model":"m","choices":[{"index":0,"text":" word","logprobs":null,"finish_reason":null}]}"#)),
        _ => (
            Vec::new(),
            data(r#"{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}"#),
        ),
    }
}

fn pairs() -> impl Iterator<Item = (Dialect, Dialect)> {
    let callers = DIALECTS.into_iter().filter(|dialect| dialect.inbound.is_some());
    callers.flat_map(|caller| {
        DIALECTS.into_iter().filter(|d| d.outbound.is_some()).map(move |provider| (caller, provider))
    })
}

/// Measures with Criterion, and keeps the best sample for the table.
fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    what: &'static str,
    (caller, provider): (Dialect, Dialect),
    mut work: impl FnMut(),
) {
    group.bench_function(format!("{} to {}", caller.name, provider.name), |b| {
        b.iter_custom(|times| {
            let start = Instant::now();
            for _ in 0..times {
                work();
            }
            let took = start.elapsed();
            let each = took.as_nanos() as f64 / times as f64;
            let mut best = BEST.lock().unwrap();
            let known = best.entry((what, caller.name, provider.name)).or_insert(f64::INFINITY);
            *known = known.min(each);
            took
        });
    });
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request");
    let (quirks, abilities) = (Quirks::default(), Abilities::default());
    for (caller, provider) in pairs() {
        let body = request(caller.name);
        let (inbound, outbound) = (caller.inbound.unwrap(), provider.outbound.unwrap());
        let to = To { model: "m", stream: true, quirks: &quirks, abilities: &abilities };
        let told = |body: &[u8]| {
            let mut out = Vec::with_capacity(body.len() + 512);
            let request = inbound.decode(body).unwrap();
            outbound.encode(&request, &to, &mut out, &mut Losses::default()).is_ok()
        };
        // A provider that can be told nothing of it has no time to show.
        if told(body.as_bytes()) {
            measure(&mut group, "request", (caller, provider), || _ = black_box(told(black_box(body.as_bytes()))));
        }
    }
}

fn streams(c: &mut Criterion) {
    let mut group = c.benchmark_group("stream chunk");
    for (caller, provider) in pairs() {
        let (before, delta) = chunk(provider.name);
        let outbound = provider.outbound.unwrap();
        let mut frames = Decoder::new(outbound.framing(), 1 << 20);
        let asked = Asked { model: "m", id: "1", ..Asked::default() };
        let (mut decoder, mut encoder) = (outbound.stream(), caller.inbound.unwrap().stream(&asked));
        let mut out = Vec::new();
        let mut push = |chunk: &[u8]| {
            out.clear();
            let mut losses = Losses::default();
            let read = frames.push(chunk, &mut |frame| {
                let mut emit =
                    |event: portolan::ir::Event<'_>| encoder.event(&event, &Shown::default(), &mut out, &mut losses);
                decoder.frame(&frame, &mut emit).unwrap();
            });
            read.unwrap();
            out.len()
        };
        push(&before);
        assert!(push(&delta) > 0, "{} to {}", caller.name, provider.name);
        measure(&mut group, "chunk", (caller, provider), || _ = black_box(push(black_box(&delta))));
    }
}

/// Every pair, in nanoseconds, and how many times Chat to Messages it takes.
fn table() {
    let best = BEST.lock().unwrap();
    for what in ["request", "chunk"] {
        let Some(unit) = best.get(&(what, "openai_chat", "anthropic")) else { continue };
        println!("\n| {what}: caller | provider | ns | of chat to anthropic |\n|---|---|---:|---:|");
        for ((_, caller, provider), ns) in best.iter().filter(|((name, ..), _)| *name == what) {
            let mark = if *ns > 2.0 * unit { " **over twice**" } else { "" };
            println!("| {caller} | {provider} | {ns:.0} | {:.2}{mark} |", ns / unit);
        }
    }
}

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .sample_size(10)
}

criterion_group! { name = benches; config = short(); targets = requests, streams }

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    table();
}
