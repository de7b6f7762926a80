//! Processor time a request: the rounds of the proxies alternate, and the ratio is the median of those of neighbouring
//! rounds, since a shared machine is quicker at one time than at another, but seldom between two seconds that follow one
//! another. The microseconds shown are lower quartiles: what else a machine does only ever adds to a round.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use crate::client::{self, Run};
use crate::proxy::{Proxy, SECRET};
use crate::{Error, Options};

/// No run makes more requests than this.
const MOST_REQUESTS: u64 = 2_000_000;

pub struct Scenario {
    pub name: &'static str,
    /// The model asked of Portolan: which dialect is behind it.
    model: &'static str,
    /// The path the bare proxy is asked for, so that the mock answers what the gateway's provider would.
    bare_path: &'static str,
    stream: bool,
    prompt_bytes: usize,
    connections: usize,
    /// At a key with limits and budgets on four levels.
    governed: bool,
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
    Scenario { name, model, bare_path, stream, prompt_bytes, connections, governed: false, target }
}

const fn governed(scenario: Scenario) -> Scenario {
    Scenario { governed: true, ..scenario }
}

pub const SCENARIOS: [Scenario; 16] = [
    scenario("passthrough, 300 B prompt", "pass", false, 300, 64, 1.5),
    scenario("passthrough, 100 KB prompt", "pass", false, 100_000, 16, 1.5),
    scenario("passthrough, stream of 100", "pass", true, 300, 16, 1.5),
    scenario("chat to messages, 300 B", "trans", false, 300, 64, 2.0),
    scenario("chat to messages, 100 KB", "trans", false, 100_000, 16, 2.0),
    scenario("chat to messages, stream of 100", "trans", true, 300, 16, 2.0),
    scenario("passthrough, 1 MB prompt", "pass", false, 1_000_000, 4, 1.5),
    scenario("chat to messages, 1 MB prompt", "trans", false, 1_000_000, 4, 2.0),
    governed(scenario("governed: passthrough, 300 B", "pass", false, 300, 64, 1.25)),
    governed(scenario("governed: passthrough, 100 KB", "pass", false, 100_000, 16, 1.25)),
    governed(scenario("governed: to messages, 300 B", "trans", false, 300, 64, 1.5)),
    governed(scenario("governed: to messages, 100 KB", "trans", false, 100_000, 16, 1.5)),
    governed(scenario("sweep: 1 connection", "pass", false, 300, 1, 1.25)),
    governed(scenario("sweep: 16 connections", "pass", false, 300, 16, 1.25)),
    governed(scenario("sweep: 256 connections", "pass", false, 300, 256, 1.25)),
    governed(scenario("sweep: 1,024 connections", "pass", false, 300, 1_024, 1.25)),
];

/// The proxies that a scenario is run against.
pub struct Proxies {
    pub plain: Proxy,
    pub governed: Proxy,
    pub bare: Proxy,
}

/// Runs the scenarios; gives the table, and how many were run and missed their targets.
pub fn table(runtime: &Runtime, proxies: &Proxies, options: &Options) -> Result<(String, usize, usize), Error> {
    let mut table = String::new();
    let (mut count, mut misses) = (0, 0);
    writeln!(
        table,
        "{:<34}{:>12}{:>12}{:>8}{:>8}{:>12}{:>12}{:>10}{:>10}{:>10}",
        "scenario", "portolan us", "bare us", "ratio", "target", "req/s", "bare req/s", "p50 us", "p99 us", "bare p99"
    )?;
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.name.contains(&options.only)) {
        let gateway = if scenario.governed { &proxies.governed } else { &proxies.plain };
        let ours = scenario.request(gateway.address, "/v1/chat/completions", scenario.model);
        let theirs = scenario.request(proxies.bare.address, scenario.bare_path, "mock");
        let (mut our_rounds, mut their_rounds) = (vec![], vec![]);
        for round in 0..=options.rounds {
            let ours = measure(runtime, gateway, &ours, scenario.connections, options.time)?;
            let theirs = measure(runtime, &proxies.bare, &theirs, scenario.connections, options.time)?;
            // The first round warms up and does not count.
            if round > 0 {
                our_rounds.push(ours);
                their_rounds.push(theirs);
            }
        }
        let pairs = our_rounds.iter().zip(&their_rounds);
        let ratio = median(pairs.map(|((ours, _), (theirs, _))| ours / theirs).collect());
        let ((our, our_run), (their, their_run)) = (quartile(our_rounds), quartile(their_rounds));
        count += 1;
        misses += usize::from(ratio > scenario.target);
        writeln!(
            table,
            "{:<34}{our:>12.1}{their:>12.1}{ratio:>8.2}{:>8.2}{:>12.0}{:>12.0}{:>10}{:>10}{:>10}",
            scenario.name,
            scenario.target,
            our_run.requests as f64 / our_run.seconds,
            their_run.requests as f64 / their_run.seconds,
            our_run.percentile(0.5),
            our_run.percentile(0.99),
            their_run.percentile(0.99),
        )?;
        eprintln!("{} done", scenario.name);
    }
    Ok((table, count, misses))
}

impl Scenario {
    fn request(&self, address: SocketAddr, path: &str, model: &str) -> Arc<Vec<u8>> {
        let prompt = "lorem ipsum dolor sit amet ".repeat(self.prompt_bytes / 27 + 1);
        let more = if self.stream { r#","stream":true"# } else { "" };
        Arc::new(request(address, path, model, more, &prompt[..self.prompt_bytes]))
    }
}

/// A request of the Chat dialect; `more`: further members, each with a comma before it.
pub fn request(address: SocketAddr, path: &str, model: &str, more: &str, prompt: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"{model}"{more},"messages":[{{"role":"system","content":"You are terse."}},{{"role":"user","content":"{prompt}"}}],"max_tokens":100,"temperature":0.7}}"#
    );
    format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {SECRET}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// Microseconds of processor time a request.
fn measure(
    runtime: &Runtime,
    proxy: &Proxy,
    request: &Arc<Vec<u8>>,
    connections: usize,
    time: Duration,
) -> Result<(f64, Run), Error> {
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

/// The round at the lower quartile of cost.
fn quartile(mut rounds: Vec<(f64, Run)>) -> (f64, Run) {
    rounds.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let at = rounds.len() / 4;
    rounds.swap_remove(at)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_unstable_by(f64::total_cmp);
    all[all.len() / 2]
}
