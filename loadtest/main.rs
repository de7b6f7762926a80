//! What a call costs: the release binary against its own mock upstream, beside a bare Pingora proxy, in one run.
//!
//! `loadtest --portolan BIN --bare BIN [--seconds S] [--rounds R] [--only TEXT]`
//!
//! Each proxy has one worker thread, pinned to the first core; mock and load are on the others. Cost is the processor
//! time of the whole proxy process (user and system, from `/proc/PID/stat`) over the requests it served; the rounds of
//! the two proxies alternate, and the lower quartile counts: what else a machine does only ever adds to a round, so the
//! median of a shared one tells more of its neighbours. Loopback only, bounded in time and count.
//!
//! While a round runs, the thread of mock and load never sleeps: to wake a sleeping peer on the same machine is charged
//! to the sender (an interrupt to another core, dear in a virtual machine), and how often that happens depends on how
//! busy the load's core is, so the faster proxy would be favoured for its speed alone.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool that speaks to people and may fail loudly"
)]

mod client;
mod mock;

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::Run;

/// No run makes more requests than this.
const MOST_REQUESTS: u64 = 2_000_000;

struct Scenario {
    name: &'static str,
    /// The model asked of Portolan: which dialect is behind it.
    model: &'static str,
    /// The path the bare proxy is asked for, so that the mock answers what the gateway's provider would.
    bare_path: &'static str,
    stream: bool,
    prompt_bytes: usize,
    connections: usize,
    /// The first target: most times the bare proxy's cost.
    target: f64,
}

const fn scenario(
    name: &'static str,
    model: &'static str,
    stream: bool,
    prompt_bytes: usize,
    connections: usize,
    target: f64,
) -> Scenario {
    let bare_path = if matches!(model.as_bytes(), b"pass") { "/v1/chat/completions" } else { "/v1/messages" };
    Scenario { name, model, bare_path, stream, prompt_bytes, connections, target }
}

const SCENARIOS: [Scenario; 6] = [
    scenario("passthrough, 300 B prompt", "pass", false, 300, 64, 1.5),
    scenario("passthrough, 100 KB prompt", "pass", false, 100_000, 16, 1.5),
    scenario("passthrough, stream of 100", "pass", true, 300, 16, 1.5),
    scenario("chat to messages, 300 B", "trans", false, 300, 64, 2.0),
    scenario("chat to messages, 100 KB", "trans", false, 100_000, 16, 2.0),
    scenario("chat to messages, stream of 100", "trans", true, 300, 16, 2.0),
];

struct Options {
    portolan: String,
    bare: String,
    time: Duration,
    rounds: usize,
    /// Only scenarios whose name has this in it.
    only: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = options()?;
    let cores = std::thread::available_parallelism()?.get();
    if cores > 1 {
        pin(std::process::id(), "1");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mock = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(mock::serve(listener));
        Ok::<_, std::io::Error>(address)
    })?;

    let scratch = std::env::temp_dir().join(format!("portolan-loadtest-{}", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    let gateway = Proxy::portolan(&options.portolan, &scratch, mock)?;
    let bare = Proxy::bare(&options.bare, mock)?;

    let mut table = String::new();
    let mut misses = 0;
    writeln!(
        table,
        "{:<34}{:>12}{:>12}{:>8}{:>8}{:>12}{:>12}{:>10}{:>10}",
        "scenario", "portolan us", "bare us", "ratio", "target", "req/s", "bare req/s", "p50 us", "p99 us"
    )?;
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.name.contains(&options.only)) {
        let request = |proxy: &Proxy, path: &str, model: &str| Arc::new(request(proxy.address, path, model, scenario));
        let ours = request(&gateway, "/v1/chat/completions", scenario.model);
        let theirs = request(&bare, scenario.bare_path, "mock");
        let (mut our_rounds, mut their_rounds) = (vec![], vec![]);
        for round in 0..=options.rounds {
            let ours = measure(&runtime, &gateway, &ours, scenario.connections, options.time)?;
            let theirs = measure(&runtime, &bare, &theirs, scenario.connections, options.time)?;
            // The first round warms up and does not count.
            if round > 0 {
                our_rounds.push(ours);
                their_rounds.push(theirs);
            }
        }
        let ((our, our_run), (their, their_run)) = (quartile(our_rounds), quartile(their_rounds));
        let ratio = our / their;
        misses += u32::from(ratio > scenario.target);
        writeln!(
            table,
            "{:<34}{our:>12.1}{their:>12.1}{ratio:>8.2}{:>8.2}{:>12.0}{:>12.0}{:>10}{:>10}",
            scenario.name,
            scenario.target,
            our_run.requests as f64 / our_run.seconds,
            their_run.requests as f64 / their_run.seconds,
            our_run.percentile(0.5),
            our_run.percentile(0.99),
        )?;
        eprintln!("{} done", scenario.name);
    }
    let resident = gateway.resident_kib();
    drop((gateway, bare));
    std::fs::remove_dir_all(&scratch)?;
    println!("{table}");
    println!("loadtest: {} scenarios, {misses} above target, {resident} KiB resident", SCENARIOS.len());
    Ok(())
}

/// Microseconds of processor time a request.
fn measure(
    runtime: &tokio::runtime::Runtime,
    proxy: &Proxy,
    request: &Arc<Vec<u8>>,
    connections: usize,
    time: Duration,
) -> Result<(f64, Run), Box<dyn std::error::Error>> {
    let before = proxy.processor_time()?;
    let run = runtime.block_on(async {
        let awake = tokio::spawn(async {
            loop {
                tokio::task::yield_now().await;
            }
        });
        let run = client::run(proxy.address, request.clone(), connections, time, MOST_REQUESTS).await;
        awake.abort();
        run
    });
    let spent = proxy.processor_time()? - before;
    if run.failed > 0 || run.requests == 0 {
        return Err(format!("{}: {} of {} requests failed", proxy.name, run.failed, run.requests + run.failed).into());
    }
    Ok((spent.as_secs_f64() * 1e6 / run.requests as f64, run))
}

fn request(address: SocketAddr, path: &str, model: &str, scenario: &Scenario) -> Vec<u8> {
    let prompt = "lorem ipsum dolor sit amet ".repeat(scenario.prompt_bytes / 27 + 1);
    let prompt = &prompt[..scenario.prompt_bytes];
    let stream = if scenario.stream { r#","stream":true"# } else { "" };
    let body = format!(
        r#"{{"model":"{model}"{stream},"messages":[{{"role":"system","content":"You are terse."}},{{"role":"user","content":"{prompt}"}}],"max_tokens":100,"temperature":0.7}}"#
    );
    format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer pk-loadtest\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A proxy under test; ended when dropped.
struct Proxy {
    name: &'static str,
    child: Child,
    address: SocketAddr,
}

impl Proxy {
    fn portolan(
        binary: &str,
        scratch: &std::path::Path,
        mock: SocketAddr,
    ) -> Result<Proxy, Box<dyn std::error::Error>> {
        let address = free_address()?;
        let admin = free_address()?;
        let config = format!(
            "listen: {address}\nadmin: {{ listen: {admin} }}\nstate_dir: {}\nthreads: 1\nlog: {{ level: warn }}\nproviders:\n  chat: {{ dialect: openai_chat, base_url: \"http://{mock}/v1\", api_key: x }}\n  claude: {{ dialect: anthropic, base_url: \"http://{mock}/v1\", api_key: x }}\nmodels:\n  pass: {{ targets: [{{ provider: chat, model: mock, price: {{ input: 1, output: 2 }} }}] }}\n  trans: {{ targets: [{{ provider: claude, model: mock, price: {{ input: 1, output: 2 }} }}] }}\nkeys:\n  - {{ id: load, secret_sha256: \"{}\", models: [\"*\"] }}\n",
            scratch.join("state").display(),
            sha256_hex("pk-loadtest"),
        );
        let file = scratch.join("portolan.yaml");
        std::fs::write(&file, config)?;
        let child = Command::new(binary).args(["run", "--config"]).arg(&file).stdout(Stdio::null()).spawn()?;
        Proxy { name: "portolan", child, address }.ready()
    }

    fn bare(binary: &str, mock: SocketAddr) -> Result<Proxy, Box<dyn std::error::Error>> {
        let address = free_address()?;
        let child =
            Command::new(binary).args([&address.to_string(), &mock.to_string(), "1"]).stdout(Stdio::null()).spawn()?;
        Proxy { name: "bare", child, address }.ready()
    }

    fn ready(self) -> Result<Proxy, Box<dyn std::error::Error>> {
        let begun = Instant::now();
        while std::net::TcpStream::connect(self.address).is_err() {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(format!("{} did not begin to listen", self.name).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        pin(self.child.id(), "0");
        Ok(self)
    }

    /// User and system time of the process so far.
    fn processor_time(&self) -> Result<Duration, Box<dyn std::error::Error>> {
        // proc(5): fields 14 and 15, in clock ticks of 10 ms; after the command's name, which may hold spaces.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let after = stat.rsplit_once(") ").ok_or("no stat")?.1;
        let fields: Vec<&str> = after.split(' ').collect();
        let ticks: u64 =
            fields.get(11).ok_or("no utime")?.parse::<u64>()? + fields.get(12).ok_or("no stime")?.parse::<u64>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    fn resident_kib(&self) -> u64 {
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
fn pin(pid: u32, cores: &str) {
    let _ = Command::new("taskset")
        .args(["-a", "-p", "-c", cores, &pid.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// The round at the lower quartile of cost.
fn quartile(mut rounds: Vec<(f64, Run)>) -> (f64, Run) {
    rounds.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let at = rounds.len() / 4;
    rounds.swap_remove(at)
}

fn sha256_hex(text: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(text.as_bytes()).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        portolan: String::new(),
        bare: String::new(),
        time: Duration::from_secs(1),
        rounds: 12,
        only: String::new(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or(format!("{name} wants a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name} wants a number"));
        match name.as_str() {
            "--portolan" => options.portolan = value,
            "--bare" => options.bare = value,
            "--only" => options.only = value,
            "--seconds" => options.time = Duration::from_secs(number()?.clamp(1, 60)),
            "--rounds" => options.rounds = number()?.clamp(1, 60) as usize,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    if options.portolan.is_empty() || options.bare.is_empty() {
        return Err("--portolan BIN and --bare BIN say what to measure".into());
    }
    Ok(options)
}
