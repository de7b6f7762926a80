//! Many calls through one process: what it holds in memory does not grow with them.
//!
//! `make soak` runs a million against the release binary (`SOAK_REQUESTS` for another number); the suite runs some thousands,
//! which show whether a call leaves something behind at all.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::answers;
use super::gateway::{Gateway, SECRET, ask, ask_stream, config};

/// Callers at once.
const CALLERS: usize = 16;
const WORDS: [&str; 8] = ["a ", "stream ", "of ", "eight ", "words ", "in ", "some ", "pieces"];
/// How many mebibytes a process may grow when it is warm.
const MOST: f64 = 5.0;

/// So many calls fill what is bounded: pools, the pages that SQLite keeps, the ring of what was told.
fn warm(wanted: usize) -> usize {
    (wanted / 10).max(100_000.min(wanted / 2))
}

/// A provider that remembers nothing.
struct Provider {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Provider {
    fn start() -> Provider {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let over = stop.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                thread::spawn(move || drop(serve(stream)));
            }
        });
        Provider { addr, stop }
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
    }
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let text = answers::whole_text("fine");
    let whole =
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
    let frames = answers::stream_frames(&WORDS, true);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    // In three pieces, as they may come.
    let (first, rest) = frames.split_at(3);
    let pieces = [head + &chunk(&first.concat()), chunk(&rest.concat()), "0\r\n\r\n".to_owned()];
    let mut got = Vec::new();
    loop {
        let Some(body) = message(&mut stream, &mut got)? else { return Ok(()) };
        if memchr::memmem::find(&body, b"\"stream\":true").is_some() {
            pieces.iter().try_for_each(|piece| stream.write_all(piece.as_bytes()))?;
        } else {
            stream.write_all(whole.as_bytes())?;
        }
    }
}

/// The next message's head and body; nothing at the end of the connection.
fn message(stream: &mut TcpStream, got: &mut Vec<u8>) -> std::io::Result<Option<Vec<u8>>> {
    let mut piece = [0; 16_384];
    loop {
        if let Some(head) = memchr::memmem::find(got, b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&got[..head]).to_ascii_lowercase();
            let length =
                text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
            let end = match length {
                Some(length) => (got.len() >= head + 4 + length).then_some(head + 4 + length),
                None => memchr::memmem::find(&got[head..], b"0\r\n\r\n").map(|at| head + at + 5),
            };
            if let Some(end) = end {
                return Ok(Some(got.drain(..end).collect()));
            }
        }
        match stream.read(&mut piece) {
            Ok(0) => return Ok(None),
            Ok(n) => got.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Mebibytes.
fn rss(pid: u32) -> f64 {
    let told = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages: f64 = told.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096.0 / f64::from(1 << 20)
}

/// KiB for each 100,000 calls: the line that fits the samples best.
fn slope(samples: &[(usize, f64)]) -> f64 {
    let n = samples.len() as f64;
    let (x, y) = (samples.iter().map(|s| s.0 as f64).sum::<f64>() / n, samples.iter().map(|s| s.1).sum::<f64>() / n);
    let (mut up, mut across) = (0.0, 0.0);
    for (calls, held) in samples {
        up += (*calls as f64 - x) * (held - y);
        across += (*calls as f64 - x).powi(2);
    }
    up / across * 1_024.0 * 100_000.0
}

#[test]
fn memory_does_not_grow_with_the_calls() {
    let wanted: usize = std::env::var("SOAK_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(4_000);
    let provider = Provider::start();
    // With everything on: limits, a budget, prices, tags.
    let more = "teams: { all: { limits: { rps: 1000000, tpm: 1000000000000 } } }\nprojects: { soak: { team: all } }\nlog: { level: warn }\n";
    let text = config(&[("alias", &format!("http://{}/v1", provider.addr))], more)
        .replacen("model: alias-real", "model: alias-real, price: { input: 10, output: 100, cached: 1 }", 1)
        .replacen(
            "models: [\"*\"] }",
            "models: [\"*\"], project: soak, budget: { usd: 100000000 }, tags: { a: b } }",
            1,
        );
    let binary = std::env::var("SOAK_BINARY").map_or_else(|_| super::gateway::BINARY.into(), std::path::PathBuf::from);
    let gateway = Gateway::start_program(|_| binary, &text, |_| Vec::new());
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let requests = [gateway.chat_request(&ask("alias", "x")), gateway.chat_request(&ask_stream("alias", "x"))];
    let mut samples = Vec::new();
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            let (next, failed, requests, at) = (&next, &failed, &requests, gateway.data);
            scope.spawn(move || {
                let mut stream: Option<TcpStream> = None;
                let mut got = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= wanted {
                        return;
                    }
                    let mut line = stream.take().unwrap_or_else(|| {
                        got.clear();
                        let line = TcpStream::connect(at).unwrap();
                        line.set_nodelay(true).unwrap();
                        line.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                        line
                    });
                    let answer = line.write_all(&requests[number % 2]).and_then(|()| message(&mut line, &mut got));
                    match answer {
                        Ok(Some(answer)) if answer.starts_with(b"HTTP/1.1 200") => {
                            // A connection now and then is a new one.
                            stream = (!number.is_multiple_of(97)).then_some(line);
                        }
                        _ => drop(failed.fetch_add(1, Ordering::Relaxed)),
                    }
                }
            });
        }
        let warm = warm(wanted);
        while next.load(Ordering::Relaxed) < wanted {
            let done = next.load(Ordering::Relaxed);
            if done >= warm {
                samples.push((done, rss(gateway.pid())));
            }
            thread::sleep(Duration::from_millis(if wanted > 50_000 { 500 } else { 20 }));
        }
    });
    let took = begun.elapsed().as_secs_f64();
    // Before the ledger is asked about all of them, which takes memory of its own for a while.
    samples.push((wanted, rss(gateway.pid())));
    gateway.settled(wanted as u64);
    let (first, last) = (samples[0].1, samples[samples.len() - 1].1);
    let failed = failed.into_inner();
    println!(
        "soak: {wanted} requests, half streamed, {:.0} a second, {failed} failed; RSS {first:.1} MiB after the first {}, {last:.1} MiB at \
         the end: {:+.1} MiB, slope {:+.0} KiB per 100,000",
        wanted as f64 / took,
        warm(wanted),
        last - first,
        slope(&samples)
    );
    assert_eq!(failed, 0);
    assert_eq!(gateway.usage(SECRET)["total"]["attempts"], wanted);
    // A short run is hardly warm after its first half.
    let most = if wanted < 200_000 { 3.0 * MOST } else { MOST };
    assert!(last - first < most, "{samples:?}");
}
