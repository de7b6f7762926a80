//! A closed loop of keep-alive connections: each sends its next request when the last answer is whole.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::mock::find;

/// What a run of one scenario showed.
#[derive(Clone, Debug, Default)]
pub struct Run {
    pub requests: u64,
    pub failed: u64,
    pub seconds: f64,
    /// Microseconds, ascending.
    pub latencies: Vec<u32>,
}

impl Run {
    pub fn percentile(&self, p: f64) -> u32 {
        let at = ((self.latencies.len() as f64 * p) as usize).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).copied().unwrap_or(0)
    }
}

/// Runs a scenario for a time, and never for more than `most` requests.
pub async fn run(address: SocketAddr, request: Arc<Vec<u8>>, connections: usize, time: Duration, most: u64) -> Run {
    let stop = Arc::new(AtomicBool::new(false));
    let left = Arc::new(AtomicU64::new(most));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(connection(address, request.clone(), stop.clone(), left.clone())))
        .collect();
    tokio::time::sleep(time).await;
    stop.store(true, Relaxed);
    let mut run = Run::default();
    for task in tasks {
        let (failed, latencies) = task.await.unwrap_or_default();
        run.failed += failed;
        run.requests += latencies.len() as u64;
        run.latencies.extend(latencies);
    }
    run.seconds = begun.elapsed().as_secs_f64();
    run.latencies.sort_unstable();
    run
}

async fn connection(
    address: SocketAddr,
    request: Arc<Vec<u8>>,
    stop: Arc<AtomicBool>,
    left: Arc<AtomicU64>,
) -> (u64, Vec<u32>) {
    let mut failed = 0;
    let mut latencies = Vec::new();
    let mut buffer = Vec::with_capacity(64 * 1024);
    let mut socket = None;
    while !stop.load(Relaxed) && left.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok() {
        let begun = Instant::now();
        match exchange(address, &mut socket, &request, &mut buffer).await {
            Ok(true) => latencies.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX)),
            _ => {
                failed += 1;
                socket = None;
            }
        }
    }
    (failed, latencies)
}

/// One request and its whole answer; whether it was a good one.
async fn exchange(
    address: SocketAddr,
    socket: &mut Option<TcpStream>,
    request: &[u8],
    buffer: &mut Vec<u8>,
) -> std::io::Result<bool> {
    let socket = match socket {
        Some(socket) => socket,
        None => {
            let new = TcpStream::connect(address).await?;
            new.set_nodelay(true)?;
            socket.insert(new)
        }
    };
    buffer.clear();
    socket.write_all(request).await?;
    let head_end = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(buffer).await? == 0 {
            return Ok(false);
        }
    };
    let head = String::from_utf8_lossy(&buffer[..head_end]).to_ascii_lowercase();
    let good = head.starts_with("http/1.1 200");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    match length {
        Some(length) => {
            while buffer.len() < head_end + length {
                if socket.read_buf(buffer).await? == 0 {
                    return Ok(false);
                }
            }
            Ok(good)
        }
        None => {
            // Chunked: over when the terminating chunk is the end of what was read.
            while !buffer.ends_with(b"\r\n0\r\n\r\n") {
                if socket.read_buf(buffer).await? == 0 {
                    return Ok(false);
                }
            }
            Ok(good)
        }
    }
}
