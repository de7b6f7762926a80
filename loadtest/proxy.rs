//! The proxies under test, each a process of its own.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Error;

/// The secret of the one key.
pub const SECRET: &str = "pk-loadtest";

/// Limits and budgets that are met on every call, and never reached.
const LEVELS: &str = "organisations:
  acme: { limits: { rpm: 1000000000, tpm: 1000000000000 }, budget: { usd: 1000000, per: month } }
teams:
  search: { organisation: acme, limits: { rpm: 1000000000, concurrency: 100000 }, budget: { usd: 1000000, per: month } }
projects:
  web: { team: search, limits: { rpm: 1000000000, tpm: 1000000000000 }, budget: { usd: 1000000, per: day } }
";
const GOVERNED: &str = ", project: web, limits: { rpm: 1000000000, tpm: 1000000000000, concurrency: 100000 }, \
     budget: { usd: 1000000, per: day }, tags: { unit: retail }";

/// A proxy under test; ended when dropped.
pub struct Proxy {
    pub name: &'static str,
    child: Child,
    pub address: SocketAddr,
    /// From its start until it took a connection.
    pub started: Duration,
}

impl Proxy {
    /// Portolan with one key; `governed`: a key that has a project, a team and an organisation, each with limits and a
    /// budget.
    pub fn portolan(binary: &str, scratch: &Path, mock: SocketAddr, governed: bool) -> Result<Proxy, Error> {
        let name = if governed { "governed" } else { "portolan" };
        let address = free_address()?;
        let admin = free_address()?;
        let key = if governed { GOVERNED } else { "" };
        let levels = if governed { LEVELS } else { "" };
        let config = format!(
            r#"listen: {address}
admin: {{ listen: {admin} }}
state_dir: {state}
threads: 1
log: {{ level: warn }}
providers:
  chat: {{ dialect: openai_chat, base_url: "http://{mock}/v1", api_key: x }}
  claude: {{ dialect: anthropic, base_url: "http://{mock}/v1", api_key: x }}
models:
  pass: {{ targets: [{{ provider: chat, model: mock, price: {{ input: 1, output: 2 }} }}] }}
  trans: {{ targets: [{{ provider: claude, model: mock, price: {{ input: 1, output: 2 }} }}] }}
{levels}keys:
  - {{ id: load, secret_sha256: "{secret}", models: ["*"]{key} }}
"#,
            state = scratch.join(name).display(),
            secret = sha256_hex(SECRET),
        );
        let file = scratch.join(format!("{name}.yaml"));
        std::fs::write(&file, config)?;
        let child = Command::new(binary).args(["run", "--config"]).arg(&file).stdout(Stdio::null()).spawn()?;
        Proxy { name, child, address, started: Duration::ZERO }.ready()
    }

    pub fn bare(binary: &str, mock: SocketAddr) -> Result<Proxy, Error> {
        let address = free_address()?;
        let child =
            Command::new(binary).args([&address.to_string(), &mock.to_string(), "1"]).stdout(Stdio::null()).spawn()?;
        Proxy { name: "bare", child, address, started: Duration::ZERO }.ready()
    }

    fn ready(mut self) -> Result<Proxy, Error> {
        let begun = Instant::now();
        while std::net::TcpStream::connect(self.address).is_err() {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(format!("{} did not begin to listen", self.name).into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.started = begun.elapsed();
        pin(self.child.id(), "0");
        Ok(self)
    }

    /// User and system time of the process so far.
    pub fn processor_time(&self) -> Result<Duration, Error> {
        // proc(5): fields 14 and 15, in clock ticks of 10 ms; after the command's name, which may hold spaces.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after = stat.rsplit_once(") ").ok_or("no stat")?.1;
        let fields: Vec<&str> = after.split(' ').collect();
        let ticks: u64 =
            fields.get(11).ok_or("no utime")?.parse::<u64>()? + fields.get(12).ok_or("no stime")?.parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Memory that it holds now, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Binds all threads of a process to some cores, where `taskset` exists.
pub fn pin(pid: u32, cores: &str) {
    let _ = Command::new("taskset")
        .args(["-a", "-p", "-c", cores, &pid.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn sha256_hex(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
