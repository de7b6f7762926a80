//! Scanning, splicing and framing: what every passed-through call pays.

#![expect(clippy::unwrap_used, reason = "a bench may fail loudly")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use portolan::dialect::{Abilities, Quirks, To, openai_chat};
use portolan::wire::patch::Patch;
use portolan::wire::scan::scan;
use portolan::wire::sse::Decoder;

fn body(prompt_bytes: usize) -> Vec<u8> {
    let prompt = "Lorem ipsum dolor sit amet, \\\"consetetur\\\" sadipscing elitr.\\n".repeat(prompt_bytes / 62 + 1);
    format!(
        r#"{{"model":"alias","stream":true,"messages":[{{"role":"system","content":"You are terse."}},{{"role":"user","content":"{prompt}"}}],"temperature":0.7,"max_tokens":100}}"#
    )
    .into_bytes()
}

fn scanning(c: &mut Criterion) {
    let mut group = c.benchmark_group("scan");
    for (name, size) in [("300 B", 100), ("100 KB", 100_000), ("1 MB", 1_000_000)] {
        let body = body(size);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| b.iter(|| scan(black_box(&body), 64).map(|members| members.len())));
    }
}

fn splicing(c: &mut Criterion) {
    let mut group = c.benchmark_group("splice");
    let (quirks, abilities) = (Quirks::default(), Abilities::default());
    let to = To { model: "gpt-5.6", stream: true, quirks: &quirks, abilities: &abilities };
    for (name, size) in [("300 B", 100), ("100 KB", 100_000)] {
        let body = body(size);
        let members = scan(&body, 64).unwrap_or_default();
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut patch = Patch::default();
                openai_chat::DIALECT.outbound.unwrap().splice(black_box(&body), &members, &to, &mut patch);
                patch.apply(&body)
            });
        });
    }
}

fn framing(c: &mut Criterion) {
    let mut group = c.benchmark_group("sse");
    let event = |n: usize| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word{n}\"}},\"finish_reason\":null}}]}}\n\n"
        )
    };
    let chunks: Vec<String> = (0..100).map(event).collect();
    let whole = chunks.concat();
    let count = |decoder: &mut Decoder, chunk: &[u8]| {
        let mut bytes = 0;
        let read = decoder.push(chunk, &mut |frame| bytes += frame.data.len());
        read.map(|()| bytes)
    };
    group.throughput(Throughput::Elements(100));
    group.bench_function("100 chunks of one event", |b| {
        b.iter(|| {
            let mut decoder = Decoder::new(1 << 20);
            chunks.iter().filter_map(|chunk| count(&mut decoder, black_box(chunk.as_bytes())).ok()).sum::<usize>()
        });
    });
    group.bench_function("100 events in one chunk", |b| {
        b.iter(|| count(&mut Decoder::new(1 << 20), black_box(whole.as_bytes())));
    });
    group.bench_function("sniff 100 chunks of one event", |b| {
        b.iter(|| {
            let mut decoder = Decoder::new(1 << 20);
            let mut sniffer = openai_chat::DIALECT.outbound.unwrap().sniffer();
            let mut content = 0;
            for chunk in &chunks {
                let _ = decoder.push(black_box(chunk.as_bytes()), &mut |frame| {
                    content += usize::from(sniffer.frame(&frame).content);
                });
            }
            content
        });
    });
}

fn short() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
}

criterion_group! { name = benches; config = short(); targets = scanning, splicing, framing }
criterion_main!(benches);
