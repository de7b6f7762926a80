//! What the ledger says of each attempt, what its provider would bill for it, and what a process holds open.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::case::words;
use crate::gateway::{Gateway, SECRET};
use crate::voices::Voice;

/// An attempt as the ledger has it.
#[derive(Clone, Debug)]
pub struct Row {
    /// The number of the call, by its tag.
    pub call: Option<usize>,
    /// Counts from 1 within the call.
    pub number: u32,
    pub provider: String,
    pub state: String,
    pub outcome: String,
    /// Input and output.
    pub tokens: Option<(u64, u64)>,
    pub estimated: bool,
    /// Nano-dollars.
    pub cost: u64,
    pub served: bool,
}

/// All rows, once no call is under way and none of them is open.
#[track_caller]
pub fn settled(gateway: &Gateway) -> Vec<Row> {
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        let quiet = gateway.metric("portolan_requests_in_flight", &[]) == 0.0;
        // The question brings what the journal has into the ledger.
        gateway.usage(SECRET);
        let rows = rows(gateway);
        if quiet && rows.iter().all(|row| row.state != "open") {
            return rows;
        }
        assert!(Instant::now() < deadline, "calls are not over, or not settled: {rows:#?}\n{}", gateway.logs());
        thread::sleep(Duration::from_millis(50));
    }
}

fn rows(gateway: &Gateway) -> Vec<Row> {
    let path = gateway.state().join("ledger.sqlite");
    let ledger = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    ledger.busy_timeout(Duration::from_secs(5)).unwrap();
    let mut all = ledger
        .prepare(
            "SELECT tags, number, provider, state, outcome, input, output, estimated, cost, served FROM attempts ORDER BY id",
        )
        .unwrap();
    let rows = all.query_map([], |row| {
        let tags: Option<String> = row.get(0)?;
        let tags: Value = tags.map(|tags| serde_json::from_str(&tags).unwrap()).unwrap_or_default();
        let tokens = |at| row.get::<_, Option<i64>>(at).map(|tokens| tokens.map(|tokens| tokens as u64));
        Ok(Row {
            call: tags["call"].as_str().and_then(|call| call.parse().ok()),
            number: row.get(1)?,
            provider: row.get(2)?,
            state: row.get(3)?,
            outcome: row.get::<_, Option<String>>(4)?.unwrap_or_default(),
            tokens: tokens(5)?.zip(tokens(6)?),
            estimated: row.get(7)?,
            cost: row.get::<_, i64>(8)? as u64,
            served: row.get(9)?,
        })
    });
    rows.unwrap().map(Result::unwrap).collect()
}

/// What a provider would bill for an attempt, by the bytes that it sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Bill {
    /// As it reported last.
    pub input: Option<u64>,
    pub output: Option<u64>,
    /// Words of its answer that it said.
    pub words: u64,
}

impl Bill {
    pub fn of(voice: Voice, sent: &[u8]) -> Bill {
        let (input, output) = match voice {
            Voice::Chat => ("prompt_tokens", "completion_tokens"),
            Voice::Responses | Voice::Messages | Voice::Cohere => ("input_tokens", "output_tokens"),
            Voice::Gemini => ("promptTokenCount", "candidatesTokenCount"),
            Voice::Bedrock => ("inputTokens", "outputTokens"),
            Voice::Ollama => ("prompt_eval_count", "eval_count"),
        };
        let sent = String::from_utf8_lossy(sent);
        // Gemini tells what has come so far with each piece: nothing, at first.
        let output = last(&sent, output).or((voice == Voice::Gemini).then_some(0));
        let said = words().iter().map(|word| sent.matches(&Value::from(*word).to_string()).count() as u64).sum();
        Bill { input: last(&sent, input), output, words: said }
    }
}

/// The last number that goes by that name.
fn last(text: &str, name: &str) -> Option<u64> {
    let at = text.rfind(&format!("\"{name}\":"))?;
    let rest = text.get(at + name.len() + 3..)?.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

/// Files that a process has open.
pub fn fds(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Processor time that a process has used so far.
pub fn cpu(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name of the program may hold anything; what follows its parenthesis is numbers.
    let rest = stat.rsplit(") ").next().unwrap();
    let ticks: u64 = rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    // SAFETY: no memory is involved.
    let a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Duration::from_secs_f64(ticks as f64 / a_second as f64)
}

/// Resident memory of a process, in KiB.
pub fn rss(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}
