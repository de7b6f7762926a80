//! What a call pays for its metering: one append of an intent, one of a settlement; and what bringing both into the
//! ledger takes behind its back.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use portolan::exchange::record::{Id, Intent, Settlement};
use portolan::ir::Usage;
use portolan::store::journal::Journal;
use portolan::store::ledger::Ledger;

// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Attempts of one pass at ten thousand calls a second.
const PASS: u64 = 2_000;

/// The `n`th attempt of a process, with ids as they are made: milliseconds, then chance.
fn attempt(n: u64) -> (Intent<'static>, Settlement<'static>) {
    let at = 1_795_000_000_000 + n / 10;
    let random = u128::from(n).wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645);
    let id = |random: u128| Id((u128::from(at) << 80) | (7 << 76) | (random & ((1 << 76) - 1)));
    let intent = Intent {
        attempt: id(random),
        request: id(!random),
        at,
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
        tags: r#"{"team":"finance","feature":"summary"}"#.into(),
        team: "finance".into(),
        organisation: "example".into(),
        user: "".into(),
        region: "eu".into(),
        dialect: "openai_chat".into(),
        route: "weighted".into(),
        rates: r#"{"input":1250000000,"output":10000000000,"cached":125000000}"#.into(),
        charge: None,
    };
    let usage = Usage { input: 812, output: 344, cached: 512, reasoning: 128, ..Usage::default() };
    let settlement = Settlement {
        attempt: intent.attempt,
        begun: intent.at,
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
    (intent, settlement)
}

fn append(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(dir.path()).expect("a journal");
    let (intent, settlement) = attempt(0);
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

/// The time from the last append until all is in the ledger, over the attempts of that time.
fn drain(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = Arc::new(Journal::open(dir.path()).expect("a journal"));
    let ledger = Ledger::open(dir.path(), Arc::clone(&journal)).expect("a ledger");
    let mut count = 0;
    c.bench_function("drain an attempt", |b| {
        b.iter_custom(|wanted| {
            let (mut spent, end) = (Duration::ZERO, count + wanted);
            while count < end {
                let until = end.min(count + PASS);
                for n in count..until {
                    let (intent, settlement) = attempt(n);
                    journal.append_intent(&intent).expect("a disk that takes it");
                    journal.append_settlement(&settlement).expect("a disk that takes it");
                }
                count = until;
                let start = Instant::now();
                assert!(ledger.flush(Duration::from_secs(60)), "the ledger takes it");
                spent += start.elapsed();
            }
            spent
        });
    });
}

criterion_group!(benches, append, drain);
criterion_main!(benches);
