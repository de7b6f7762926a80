//! What a call pays for its metering: one append of an intent, one of a settlement.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

use criterion::{Criterion, criterion_group, criterion_main};
use portolan::exchange::record::{Id, Intent, Settlement};
use portolan::ir::Usage;
use portolan::store::journal::Journal;

fn append(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(dir.path()).expect("a journal");
    let intent = Intent {
        attempt: Id(0x0193_5b1e_7c4a_7def_8123_4567_89ab_cdef),
        request: Id(0x0193_5b1e_7c4a_7aaa_8123_4567_89ab_cdef),
        at: 1_795_000_000_000,
        number: 1,
        key: "production-backend".into(),
        project: Some("search".into()),
        asked: "gpt-5".into(),
        model: "gpt-5".into(),
        provider: "openai".into(),
        target: "openai/gpt-5".into(),
        stream: true,
        price_version: "2026-11-01".into(),
        reserve: 12_345_678,
        input_estimate: 812,
        config_version: "0123456789ab".into(),
        tags: vec![("team".into(), "finance".into()), ("feature".into(), "summary".into())],
    };
    let usage = Usage { input: 812, output: 344, cached: 512, reasoning: 128, ..Usage::default() };
    let settlement = Settlement {
        attempt: intent.attempt,
        at: intent.at + 900,
        outcome: "ok".into(),
        status: 200,
        usage: Some(usage),
        cost: 4_567_890,
        latency_us: 900_000,
        ttft_us: 210_000,
        served: true,
        ..Settlement::default()
    };
    // What the system call costs alone, to read the others by.
    let mut file = std::fs::File::create(dir.path().join("plain")).expect("a file");
    let bytes = [b'x'; 480];
    c.bench_function("write(2) of as many bytes", |b| b.iter(|| std::io::Write::write(&mut file, &bytes)));
    let mut out = Vec::new();
    c.bench_function("encode intent", |b| {
        b.iter(|| {
            out.clear();
            intent.write(&mut out);
        });
    });
    c.bench_function("append intent", |b| b.iter(|| journal.append_intent(&intent)));
    c.bench_function("append settlement", |b| b.iter(|| journal.append_settlement(&settlement)));
    c.bench_function("append intent, second thread appending", |b| {
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let _ = journal.append_settlement(&settlement);
                }
            });
            b.iter(|| journal.append_intent(&intent));
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    });
}

criterion_group!(benches, append);
criterion_main!(benches);
