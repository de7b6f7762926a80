//! What a gateway holds: idle, for each connection that waits and each stream that drips, and after large bodies have gone
//! through.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::cost::request;
use crate::mock::SLOW;
use crate::proxy::Proxy;
use crate::{Error, client};

/// Connections and streams at once.
const MANY: usize = 1_000;

/// A line for each of what is held, of a gateway of its own.
pub fn lines(runtime: &Runtime, binary: &str, scratch: &Path, mock: SocketAddr) -> Result<String, Error> {
    let gateway = Proxy::portolan(binary, scratch, mock, true)?;
    std::thread::sleep(Duration::from_secs(1));
    let idle = gateway.resident_kib();
    let mut lines = format!(
        "ready after {} ms (target 150); idle: {:.1} MiB (target 20)\n",
        gateway.started.as_millis(),
        idle as f64 / 1024.0
    );
    let short = Arc::new(request(gateway.address, "/v1/chat/completions", "pass", "", "Hello"));
    let slow = request(
        gateway.address,
        "/v1/chat/completions",
        "pass",
        &format!(r#","stream":true,"user":"{SLOW}""#),
        "Hello",
    );
    // What a first call and its connections cost once and for all is no part of what each holds.
    runtime.block_on(client::run(gateway.address, short.clone(), 16, Duration::from_millis(500), 1_000));
    std::thread::sleep(Duration::from_secs(1));
    let warm = gateway.resident_kib();

    let (idles, streams) = runtime.block_on(async {
        let held = held(gateway.address, &short, false).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let idles = gateway.resident_kib();
        drop(held);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let _held = self::held(gateway.address, &slow, true).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, Error>((idles, gateway.resident_kib()))
    })?;
    let each = |with: u64| with.saturating_sub(warm) as f64 / MANY as f64;
    lines += &format!("{MANY} idle connections: {:.1} KiB each (target 16)\n", each(idles));
    lines += &format!("{MANY} slow streams: {:.1} KiB each (target 32)\n", each(streams));

    let gateway = Proxy::portolan(binary, &scratch.join("burst"), mock, true)?;
    let large = Arc::new(request(gateway.address, "/v1/chat/completions", "pass", "", &"x".repeat(1_000_000)));
    runtime.block_on(client::run(gateway.address, short, 16, Duration::from_millis(500), 1_000));
    std::thread::sleep(Duration::from_secs(3));
    let before = gateway.resident_kib();
    runtime.block_on(client::run(gateway.address, large, 64, Duration::from_secs(3), 2_000));
    let peak = gateway.resident_kib();
    std::thread::sleep(Duration::from_secs(15));
    let after = gateway.resident_kib();
    lines += &format!(
        "bodies of 1 MB on 64 connections: {:.1} MiB before, {:.1} while, {:.1} 15 s after: {:+.0} % (target 20)\n",
        before as f64 / 1024.0,
        peak as f64 / 1024.0,
        after as f64 / 1024.0,
        (after as f64 / before as f64 - 1.0) * 100.0
    );
    Ok(lines)
}

/// Connections that have had their answer and wait, or that are in the middle of one.
async fn held(address: SocketAddr, request: &[u8], stream: bool) -> Result<Vec<TcpStream>, Error> {
    let mut held = Vec::with_capacity(MANY);
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..MANY {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(request).await?;
        if !stream {
            // The mock's answers are short: one read.
            let _ = socket.read(&mut buffer).await?;
        }
        held.push(socket);
    }
    if stream {
        for socket in &mut held {
            let _ = socket.read(&mut buffer).await?;
        }
    }
    Ok(held)
}
