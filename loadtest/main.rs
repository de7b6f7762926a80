//! What a call costs: the release binary against its own mock upstream, beside a bare Pingora proxy, in one run.
//!
//! `loadtest --portolan BIN --bare BIN [--part cost|paced|memory] [--seconds S] [--rounds R] [--only TEXT]`
//!
//! Each proxy has one worker thread, pinned to the first core; mock and load are on the others. Cost is the processor
//! time of the whole proxy process (user and system, from `/proc/PID/stat`) over the requests it served ([`cost`]); then
//! what a reader of streams feels ([`paced`]), and memory ([`memory`]). Loopback only, bounded in time and count.
//!
//! While a round of cost runs, the thread of mock and load never sleeps: to wake a sleeping peer on the same machine is
//! charged to the sender (an interrupt to another core, dear in a virtual machine), and how often that happens depends on
//! how busy the load's core is, so the faster proxy would be favoured for its speed alone.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool that speaks to people and may fail loudly"
)]

mod client;
mod cost;
mod memory;
mod mock;
mod paced;
mod proxy;

use std::net::Ipv4Addr;
use std::time::Duration;

use cost::Proxies;
use proxy::Proxy;

type Error = Box<dyn std::error::Error>;

struct Options {
    portolan: String,
    bare: String,
    time: Duration,
    rounds: usize,
    /// Only scenarios whose name has this in it.
    only: String,
    /// Only this part of what is measured; all where it is empty.
    part: String,
}

fn main() -> Result<(), Error> {
    let options = options()?;
    let wanted = |part: &str| options.part.is_empty() || options.part == part;
    let cores = std::thread::available_parallelism()?.get();
    if cores > 1 {
        proxy::pin(std::process::id(), "1");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mock = runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        tokio::spawn(mock::serve(listener));
        Ok::<_, std::io::Error>(address)
    })?;

    let scratch = std::env::temp_dir().join(format!("portolan-loadtest-{}", std::process::id()));
    std::fs::create_dir_all(scratch.join("burst"))?;
    let mut told = String::new();
    let (mut count, mut misses, mut resident) = (0, 0, 0);
    if wanted("cost") || wanted("paced") {
        let proxies = Proxies {
            plain: Proxy::portolan(&options.portolan, &scratch, mock, false)?,
            governed: Proxy::portolan(&options.portolan, &scratch, mock, true)?,
            bare: Proxy::bare(&options.bare, mock)?,
        };
        if wanted("cost") {
            let table;
            (table, count, misses) = cost::table(&runtime, &proxies, &options)?;
            told += &table;
        }
        if wanted("paced") {
            told += &paced::lines(&runtime, &proxies)?;
        }
        resident = proxies.governed.resident_kib();
    }
    if wanted("memory") {
        told += &memory::lines(&runtime, &options.portolan, &scratch, mock)?;
    }
    std::fs::remove_dir_all(&scratch)?;
    println!("{told}");
    println!("loadtest: {count} scenarios, {misses} above target, {resident} KiB resident");
    Ok(())
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        portolan: String::new(),
        bare: String::new(),
        time: Duration::from_secs(1),
        rounds: 12,
        only: String::new(),
        part: String::new(),
    };
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next().ok_or(format!("{name} wants a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{name} wants a number"));
        match name.as_str() {
            "--portolan" => options.portolan = value,
            "--bare" => options.bare = value,
            "--only" => options.only = value,
            "--part" => options.part = value,
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
