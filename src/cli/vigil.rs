//! The watch over the data path: when it serves, whoever waits for that is told; and the service manager has a sign of life
//! as long as it does.
//!
//! A sign of life of its own accord would say no more than that a timer runs. So a call is made, by the way that callers take:
//! a connection to the data port, and an answer to it. Beside a predecessor, which has the same listeners, either may answer:
//! then only an answer of this process counts, which is known by a number that it alone knows.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, sleep, timeout};

use super::succession::Predecessor;
use crate::proxy::Shared;
use crate::telemetry::Supervisor;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries of a process that does not serve yet.
const AGAIN: Duration = Duration::from_millis(20);
/// So many signs in the time in which one is expected: two may be lost.
const SIGNS: u32 = 3;

pub struct Vigil {
    pub shared: Arc<Shared>,
    pub supervisor: Arc<Supervisor>,
    /// A data port of this process.
    pub address: SocketAddr,
    pub predecessor: std::sync::Mutex<Option<Predecessor>>,
}

#[async_trait]
impl BackgroundService for Vigil {
    async fn start(&self, shutdown: ShutdownWatch) {
        while !self.answers().await.unwrap_or(false) {
            sleep(AGAIN).await;
        }
        let predecessor = self.predecessor.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(predecessor) = predecessor
            && let Err(error) = predecessor.relieve().await
        {
            tracing::warn!(%error, "the process before this one cannot be told that this one serves");
        }
        self.supervisor.ready("serving");
        let Some(patience) = self.supervisor.watchdog() else { return };
        let mut ticks = interval(patience / SIGNS);
        loop {
            ticks.tick().await;
            // Nobody is answered any more by who leaves; how long that takes has a bound of its own.
            let well = *shutdown.borrow() || self.answers().await.is_ok();
            if *self.shared.succeeded.borrow() {
                return;
            }
            if well {
                self.supervisor.alive();
            } else {
                tracing::error!("the data port does not answer: the service manager is told of no sign of life");
            }
        }
    }
}

impl Vigil {
    /// Whether the data port answers, and this process.
    async fn answers(&self) -> io::Result<bool> {
        let number = fastrand::u64(1..);
        let asked = async {
            let mut stream = TcpStream::connect(reachable(self.address)).await?;
            let head =
                format!("GET /health/live?probe={number} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            let mut start = [0; 12];
            stream.read_exact(&mut start).await?;
            Ok::<_, io::Error>(start)
        };
        let start = timeout(PATIENCE, asked).await.map_err(|_| io::ErrorKind::TimedOut)??;
        if !start.starts_with(b"HTTP/1.") {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(self.shared.probed.load(Relaxed) == number)
    }
}

/// Who listens everywhere is asked here.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
