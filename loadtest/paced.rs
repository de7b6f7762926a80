//! What a proxy adds to a stream as a reader feels it: the first event and each one after it, from an upstream that sends
//! 64 of them 20 ms apart, each with the moment at which it was sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::Error;
use crate::cost::{Proxies, request};
use crate::mock::{self, PACED, STAMP, find};
use crate::proxy::Proxy;

/// Streams at once, and one after another.
const STREAMS: usize = 16;
const ROUNDS: usize = 4;

/// Microseconds, ascending.
#[derive(Default)]
struct Felt {
    /// From the request to the first event, less what the upstream waited.
    first: Vec<u64>,
    /// From an event's being sent to its being read.
    each: Vec<u64>,
}

/// Two lines: what the governed gateway adds over the bare proxy.
pub fn lines(runtime: &Runtime, proxies: &Proxies) -> Result<String, Error> {
    let (mut ours, mut theirs) = (Felt::default(), Felt::default());
    for _ in 0..ROUNDS {
        run(runtime, &proxies.governed, "pass", &mut ours)?;
        run(runtime, &proxies.bare, "mock", &mut theirs)?;
    }
    let added = |ours: &mut Vec<u64>, theirs: &mut Vec<u64>, p: f64| {
        let (ours, theirs) = (percentile(ours, p), percentile(theirs, p));
        (ours, theirs, ours as i64 - theirs as i64)
    };
    let first = added(&mut ours.first, &mut theirs.first, 0.5);
    let each = added(&mut ours.each, &mut theirs.each, 0.99);
    Ok(format!(
        "first event, p50 of {}: {} us, bare {} us, added {} us (target 130)\n\
         each event, p99 of {}: {} us, bare {} us, added {} us (target 50)\n",
        ours.first.len(),
        first.0,
        first.1,
        first.2,
        ours.each.len(),
        each.0,
        each.1,
        each.2
    ))
}

fn run(runtime: &Runtime, proxy: &Proxy, model: &str, felt: &mut Felt) -> Result<(), Error> {
    let more = format!(r#","stream":true,"user":"{PACED}""#);
    let request = Arc::new(request(proxy.address, "/v1/chat/completions", model, &more, "Hello"));
    let address = proxy.address;
    runtime.block_on(async {
        let mut streams = Vec::new();
        for n in 0..STREAMS {
            let request = request.clone();
            streams.push(tokio::spawn(async move {
                // Not all in the same moment: each is to be felt by itself.
                tokio::time::sleep(Duration::from_micros(n as u64 * 20_000 / STREAMS as u64)).await;
                stream(address, &request).await
            }));
        }
        for stream in streams {
            let (first, each) = stream.await??;
            felt.first.push(first);
            felt.each.extend(each);
        }
        Ok(())
    })
}

/// One stream on a connection that was used before.
async fn stream(address: SocketAddr, request: &[u8]) -> std::io::Result<(u64, Vec<u64>)> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(64 << 10);
    let asked = mock::micros();
    socket.write_all(request).await?;
    let (mut first, mut each, mut read) = (None, Vec::with_capacity(64), 0);
    while !buffer.ends_with(b"\r\n0\r\n\r\n") {
        if socket.read_buf(&mut buffer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let now = mock::micros();
        while let Some(at) = find(&buffer[read..], STAMP) {
            let from = read + at + STAMP.len();
            let Some(sent) = buffer.get(from..from + 16).and_then(|digits| std::str::from_utf8(digits).ok()) else {
                break;
            };
            read = from + 16;
            let sent: u64 = sent.parse().map_err(|_| std::io::ErrorKind::InvalidData)?;
            first.get_or_insert(now - asked);
            each.push(now.saturating_sub(sent));
        }
    }
    Ok((first.unwrap_or_default(), each))
}

fn percentile(all: &mut [u64], p: f64) -> u64 {
    all.sort_unstable();
    let at = ((all.len() as f64 * p) as usize).min(all.len().saturating_sub(1));
    all.get(at).copied().unwrap_or(0)
}
