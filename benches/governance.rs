//! What one call pays for being governed, among 10, 1,000 and 1,000,000 keys: its key found by the secret and held to four
//! levels, ten limits taken and put right (`limits`); and its two records appended to the journal (`journal`).
//!
//! Ten of the keys call, wherever among the others they are. `scattered`: ten thousand of a million call by turns, so that
//! what each has taken is in memory, and in no processor's cache.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench may panic, and tells what it measured")]

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portolan::config::directory::Directory;
use portolan::config::file::{CallLimits, Key, ShortLimits};
use portolan::config::{self, Snapshot};
use portolan::exchange::record::{Id, Intent, Settlement};
use portolan::exchange::{Allotment, admit, permit};
use portolan::ir::Usage;
use portolan::policy::limit::{Ask, At};
use portolan::policy::{Moment, auth};
use portolan::store::journal::Journal;

// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TREE: &str = "
providers: { p: { preset: ollama } }
organisations: { acme: { limits: [{ of: spend, most: 1000000, per: day, by: fixed_window }, { of: concurrency, most: 1000000 }] } }
teams: { search: { organisation: acme, limits: { rpm: 1000000000, tpm: 1000000000000 } } }
projects: { web: { team: search, limits: [{ of: requests, most: 1000000000, per: second, by: token_bucket }, { of: tokens, most: 1000000000, per: second, by: token_bucket }] } }
";
/// Keys that call, whatever their number.
const CALLERS: usize = 10;
const SCATTERED: usize = 10_000;

fn secret(n: usize) -> String {
    format!("pk-bench-{n:032}")
}

fn snapshot(keys: usize) -> Snapshot {
    let mut snapshot = config::from_text(TREE, &|_| None).unwrap();
    for n in 0..keys {
        let limits = ShortLimits {
            rpm: Some(1_000_000_000),
            tpm: Some(1_000_000_000_000),
            concurrency: Some(64),
            ..ShortLimits::default()
        };
        let written = Key {
            id: format!("key-{n}"),
            project: Some("web".to_owned()),
            limits: CallLimits::Short(ShortLimits { rpd: Some(1_000_000_000_000), ..limits }),
            ..Key::default()
        };
        let digest = auth::digest(&secret(n)).unwrap();
        let key = Arc::new(snapshot.tenants.key(&written));
        snapshot.keys.insert(digest, key);
    }
    snapshot
}

fn govern(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let usage = Usage { input: 812, output: 344, ..Usage::default() };
    // None is stored: all are the file's (`benches/directory.rs` has the others).
    let directory = Directory::new(Arc::new(config::from_text(TREE, &|_| None).unwrap()));
    let mut group = criterion.benchmark_group("governance");
    for count in [10, 1_000, 1_000_000] {
        let before = resident();
        let snapshot = snapshot(count);
        println!("{count} keys: {} bytes of memory each", resident().saturating_sub(before) / count as u64);
        let secrets: Vec<String> = (0..SCATTERED).map(|n| secret(n * 7_919 % count)).collect();
        let callers = Cell::new(CALLERS);
        let mut dice = fastrand::Rng::with_seed(1);
        let mut clock = 1_000_000;
        let mut call = |journal: Option<&Journal>| {
            clock += 5;
            let now = Moment { mono: clock, unix_ms: 1_795_219_200_000 + clock / 1_000 };
            let secret = secrets.get(dice.usize(..callers.get())).map(String::as_str);
            let key = admit(&snapshot, &directory, secret, now.unix_ms / 1_000).unwrap();
            permit(&key, None, None).unwrap();
            let ask = Ask {
                requests: 1,
                input_tokens: 800,
                output_tokens: 1_024,
                spend: 5_000,
                concurrency: 1,
                ..Ask::default()
            };
            let allotment = Allotment::take(&key, ask, At { now, load: 10 }).unwrap().unwrap();
            if let Some(journal) = journal {
                let id = Id(u128::from(clock));
                let intent = Intent {
                    attempt: id,
                    request: id,
                    at: now.unix_ms,
                    key: key.id.as_str().into(),
                    ..Intent::default()
                };
                journal.append_intent(&intent).unwrap();
                let settlement = Settlement {
                    attempt: id,
                    begun: now.unix_ms,
                    at: now.unix_ms,
                    usage: Some(usage),
                    ..Settlement::default()
                };
                journal.append_settlement(&settlement).unwrap();
            }
            allotment.used(Some(&usage), 4_000, false, now);
            allotment.over(now);
            black_box(allotment);
        };
        group.bench_function(BenchmarkId::new("limits", count), |bencher| bencher.iter(|| call(None)));
        group.bench_function(BenchmarkId::new("journal", count), |bencher| bencher.iter(|| call(Some(&journal))));
        if count > SCATTERED {
            callers.set(SCATTERED);
            let before = resident();
            group.bench_function(BenchmarkId::new("limits scattered", count), |bencher| bencher.iter(|| call(None)));
            let used = resident().saturating_sub(before) / SCATTERED as u64;
            println!("{used} bytes more for a key whose limits are in use");
            let id = BenchmarkId::new("journal scattered", count);
            group.bench_function(id, |bencher| bencher.iter(|| call(Some(&journal))));
        }
    }
    group.finish();
}

/// Bytes of memory that this process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1_024
}

criterion_group!(benches, govern);
criterion_main!(benches);
