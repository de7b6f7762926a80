//! What a stored key costs: time to let a call in, from 10 to 1,000,000 keys, and memory for each of them.

#![expect(clippy::print_stdout, reason = "a bench tells what it measured")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use portolan::config::directory::Directory;
use portolan::config::{Snapshot, from_text};
use portolan::exchange;
use portolan::policy::auth;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const FILE: &str = "teams: { search: { models: [\"gpt-*\"] } }\nprojects: { web: { team: search } }\n";

/// Bytes of memory that the process holds.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

fn secret(number: usize) -> String {
    format!("pk-{number:043}")
}

fn filled(snapshot: &Arc<Snapshot>, count: usize) -> Directory {
    let directory = Directory::new(snapshot.clone());
    let mut edit = directory.edit(false);
    for number in 0..count {
        let document = format!(r#"{{"id":"key-{number:08}","project":"web"}}"#);
        edit.secret(auth::digest(&secret(number)).unwrap_or_default(), None, Some(&document));
    }
    edit.finish();
    directory
}

fn admission(c: &mut Criterion) {
    let Ok(snapshot) = from_text(FILE, &|_| None) else { return };
    let snapshot = Arc::new(snapshot);
    let mut group = c.benchmark_group("admit");
    for count in [10, 1_000, 100_000, 1_000_000] {
        let before = resident();
        let directory = filled(&snapshot, count);
        let idle = resident().saturating_sub(before);
        // A thousand keys are in use.
        let used: Vec<String> = (0..count).step_by((count / 1_000).max(1)).map(secret).collect();
        let mut next = 0;
        group.bench_function(format!("{count} keys"), |b| {
            b.iter(|| {
                next = (next + 1) % used.len();
                let secret = used.get(next).map(String::as_str);
                black_box(exchange::admit(&snapshot, &directory, secret, 1_800_000_000).is_ok())
            });
        });
        if count == 1_000_000 {
            println!("memory: {} bytes a stored key ({count} keys)", idle / count);
            let before = resident();
            for number in 0..100_000 {
                black_box(directory.key(&auth::digest(&secret(number)).unwrap_or_default()));
            }
            println!("memory: {} bytes more for one that was used", resident().saturating_sub(before) / 100_000);
        }
    }
    group.finish();
}

criterion_group!(benches, admission);
criterion_main!(benches);
