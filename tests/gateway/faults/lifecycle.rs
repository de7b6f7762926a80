//! Group D: stops, upgrades and what goes wrong with them. (Kills are `kill9`.)

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::case::{Outcome, QUICK, Setting, judge, words};
use super::scaled;
use crate::answers;
use crate::callers::{CALLERS, Caller};
use crate::client::Connection;
use crate::gateway::{Gateway, SECRET, ask, ask_stream, config, free_port};
use crate::lineage::Lineage;
use crate::upstream::{Reply, Step, Upstream};
use crate::voices::Voice;

/// A provider whose streams take that many steps of fifty milliseconds, each its own, as the call says.
fn streams() -> Upstream {
    Upstream::start(|attempt| {
        let body = attempt.json();
        let text = body["messages"][0]["content"].as_str().unwrap().to_owned();
        let steps: usize = text.parse().unwrap_or(1);
        match body["stream"].as_bool() {
            Some(true) => answers::stream(&answers::stream_frames(&vec!["word "; steps], true), 50),
            _ => answers::whole("fine"),
        }
    })
}

fn start(upstream: &Upstream, more: &str) -> Gateway {
    Gateway::start(&config(&[("alias", &upstream.v1())], more))
}

#[test]
fn d_03_a_stop_leaves_every_stream_whole_and_takes_no_new_calls() {
    let upstream = streams();
    let mut gateway = start(&upstream, "shutdown: { drain: 30s }\n");
    let count = scaled(40);
    let (open, begun) = (AtomicUsize::new(0), Instant::now());
    let (data, refused) = (gateway.data, AtomicBool::new(false));
    thread::scope(|scope| {
        let readers: Vec<_> = (0..count)
            .map(|number| {
                let request = gateway.chat_request(&ask_stream("alias", &(5 + number % 40).to_string()));
                let open = &open;
                scope.spawn(move || {
                    let mut connection = Connection::open(data);
                    connection.send(&request).unwrap();
                    let mut reading = connection.head().unwrap();
                    reading.until_frames(1).unwrap();
                    open.fetch_add(1, Ordering::SeqCst);
                    while reading.piece().unwrap() {}
                    assert!(reading.response.whole && reading.response.text().contains("[DONE]"));
                    assert_eq!(reading.response.said(), "word ".repeat(5 + number % 40));
                })
            })
            .collect();
        while open.load(Ordering::SeqCst) < count {
            assert!(begun.elapsed() < Duration::from_secs(20));
            thread::sleep(Duration::from_millis(5));
        }
        gateway.signal(libc::SIGTERM);
        thread::sleep(Duration::from_millis(300));
        refused.store(TcpStream::connect(data).is_err(), Ordering::SeqCst);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert!(refused.into_inner(), "it still takes connections");
    assert!(gateway.wait_end(Duration::from_secs(5)).success());
    gateway.start_again();
    let total = gateway.settled(count as u64);
    assert_eq!((&total["attempts"], &total["errors"]), (&count.into(), &0.into()), "{total}");
    println!("D-3: {count} streams over a stop, 0 cut, 0 rows lost");
}

#[test]
fn d_03b_a_stop_ends_with_the_last_call_and_not_with_the_patience() {
    let upstream = streams();
    let mut longest = Duration::ZERO;
    for (steps, signal) in [(0, libc::SIGTERM), (20, libc::SIGTERM), (0, libc::SIGINT)] {
        let mut gateway = start(&upstream, "shutdown: { drain: 60s }\n");
        let mut connection = Connection::open(gateway.data);
        if steps > 0 {
            connection.send(&gateway.chat_request(&ask_stream("alias", &steps.to_string()))).unwrap();
            let mut reading = connection.head().unwrap();
            reading.until_frames(1).unwrap();
            gateway.signal(signal);
            while reading.piece().unwrap() {}
            assert!(reading.response.text().contains("[DONE]"));
        } else {
            gateway.signal(signal);
        }
        let ended = Instant::now();
        gateway.wait_end(Duration::from_secs(10));
        longest = longest.max(ended.elapsed());
    }
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    println!("D-3b: 3 stops, gone {:.2} s after the last stream at most", longest.as_secs_f64());
}

#[test]
fn d_03c_the_patience_of_the_unit_is_longer_than_ours() {
    let unit = include_str!("../../../systemd/portolan.service");
    let seconds: u64 = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.parse().ok()).unwrap();
    // What is waited for by default, the goodbyes, the flush of the ledger, and as much again as those two.
    assert!(seconds >= 60 + 2 * (2 + 5), "TimeoutStopSec={seconds}");
    assert!(unit.contains("\nKillSignal=SIGTERM\n") && unit.contains("\nKillMode=control-group\n"), "{unit}");
}

/// A stream that never ends by itself, of which something was read.
fn endless(lineage: &Lineage) -> Connection {
    let mut connection = Connection::open(lineage.gateway.data);
    connection.send(&lineage.gateway.chat_request(&ask_stream("alias", "100000"))).unwrap();
    connection
}

#[test]
fn d_03d_streams_without_an_end_keep_no_process_for_ever() {
    let upstream = streams();
    let text = config(&[("alias", &upstream.v1())], "shutdown: { drain: 2s }\n");
    let mut lineage = Lineage::start(&text);
    let upgrades = scaled(3);
    let mut all = Vec::new();
    for _ in 0..upgrades {
        let mut connection = endless(&lineage);
        connection.head().unwrap().until_frames(2).unwrap();
        all.push((connection, lineage.pid()));
        lineage.upgrade();
    }
    let last = lineage.pid();
    let mut most = lineage.processes().len();
    for (mut connection, pid) in all {
        let rest = read_out(&mut connection);
        assert!(
            rest.contains("\"error\"") && !rest.contains("[DONE]"),
            "no error at its end: {}",
            &rest[rest.len().saturating_sub(300)..]
        );
        lineage.wait_gone(pid, Duration::from_secs(10));
        most = most.max(lineage.processes().len());
    }
    assert_eq!(lineage.processes(), [last]);
    assert_eq!(lineage.gateway.status_of(SECRET, "alias"), 200);
    println!(
        "D-3d: {upgrades} upgrades under endless streams, each told of its end, {most} processes at most, 1 at the end"
    );
}

/// What is left of an answer, with its framing.
fn read_out(connection: &mut Connection) -> String {
    use std::io::Read;
    let mut rest = Vec::new();
    let mut socket = connection.socket();
    let _ = socket.read_to_end(&mut rest);
    String::from_utf8_lossy(&rest).into_owned()
}

#[test]
fn d_04_streams_that_outlast_the_patience_end_in_the_callers_own_error() {
    let frames = answers::stream_frames(&words()[..2], false);
    let upstream = Upstream::start(move |_| {
        let mut steps: Vec<Step> = frames[..3].iter().map(|frame| Step::Bytes(frame.clone().into_bytes())).collect();
        steps.push(Step::Hang);
        Reply::stream(steps)
    });
    let more = format!(
        "{}shutdown: {{ drain: 500ms }}\n",
        QUICK.replace("idle: 600ms", "idle: 20s").replace("total: 8s", "total: 30s")
    );
    let case = Setting::new().up("slow", Voice::Chat, &upstream).more(&more).start();
    let mut all: Vec<(Caller, Connection)> = CALLERS
        .into_iter()
        .map(|caller| {
            let mut connection = Connection::open(case.gateway.data);
            connection.send(&case.request(case.number(), caller, "slow", true)).unwrap();
            (caller, connection)
        })
        .collect();
    upstream.wait("all calls", Duration::from_secs(10), |journal| journal.len() == CALLERS.len());
    thread::sleep(Duration::from_millis(200));
    let mut gateway = case.into_gateway();
    gateway.signal(libc::SIGTERM);
    let mut said = 0;
    for (caller, connection) in &mut all {
        let got = connection.response().unwrap();
        let outcome = judge(*caller, &got, true);
        assert!(matches!(&outcome, Outcome::Broken(text) if !text.is_empty()), "{caller:?} {outcome:?} {got}");
        said += 1;
    }
    assert!(gateway.wait_end(Duration::from_secs(10)).success());
    gateway.start_again();
    let rows = super::books::settled(&gateway);
    let cut: Vec<_> = rows.iter().filter(|row| row.outcome == "draining").collect();
    assert_eq!(cut.len(), CALLERS.len(), "{rows:#?}");
    assert!(cut.iter().all(|row| row.state == "settled" && row.estimated && row.cost > 0), "{cut:#?}");
    println!("D-4: {said} dialects told of the end in their own words, {} rows settled at what was said", cut.len());
}

/// Callers that go on while something is done, and how many of their calls failed.
fn under_calls(lineage: &Lineage, then: impl FnOnce()) -> (usize, usize) {
    let (stop, calls, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let ok = std::panic::catch_unwind(|| lineage.gateway.status_of(SECRET, "alias"))
                        .is_ok_and(|status| status == 200);
                    calls.fetch_add(1, Ordering::Relaxed);
                    failed.fetch_add(usize::from(!ok), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
        then();
        stop.store(true, Ordering::Relaxed);
    });
    (calls.into_inner(), failed.into_inner())
}

/// Tries to hand over, and holds the one in charge to go on as if nothing had been.
#[track_caller]
fn refused(lineage: &Lineage, told: &str) -> usize {
    let pid = lineage.pid();
    let before = lineage.told().iter().filter(|told| told.contains("could not take over")).count();
    let (calls, failed) = under_calls(lineage, || {
        lineage.signal(libc::SIGUSR2);
        let begun = Instant::now();
        while lineage.told().iter().filter(|told| told.contains("could not take over")).count() == before {
            assert!(begun.elapsed() < Duration::from_secs(60), "{:?}\n{}", lineage.told(), lineage.gateway.logs());
            thread::sleep(Duration::from_millis(20));
        }
        thread::sleep(Duration::from_millis(100));
    });
    assert_eq!(failed, 0, "of {calls}\n{}", lineage.gateway.logs());
    assert_eq!((lineage.pid(), lineage.processes()), (pid, vec![pid]), "{}", lineage.gateway.logs());
    assert!(lineage.gateway.logs().contains(told), "{}", lineage.gateway.logs());
    calls
}

#[test]
fn d_08_a_successor_that_crashes_or_cannot_read_its_configuration_changes_nothing() {
    let upstream = Upstream::always(answers::whole("fine"));
    let text = config(&[("alias", &upstream.v1())], "");
    let lineage = Lineage::start(&text);
    lineage.plant("echo broken >&2; exit 3");
    let mut calls = refused(&lineage, "it ended at its start");
    lineage.plant("kill -SEGV $$");
    calls += refused(&lineage, "it ended at its start");
    fs::remove_file(&lineage.program).unwrap();
    calls += refused(&lineage, "cannot be started");
    // A good one with a bad configuration.
    lineage.plant_binary();
    lineage.gateway.rewrite(&text.replace("models:\n", "modles:\n"));
    calls += refused(&lineage, "it ended at its start");
    lineage.gateway.rewrite(&text);
    lineage.upgrade();
    assert_eq!(lineage.gateway.status_of(SECRET, "alias"), 200);
    println!("D-8: 4 bad successors under {calls} calls, 0 failed, then a good one");
}

#[test]
fn d_08_a_successor_that_hangs_is_ended() {
    let upstream = Upstream::always(answers::whole("fine"));
    let lineage = Lineage::start(&config(&[("alias", &upstream.v1())], ""));
    lineage.plant("exec sleep 100");
    let calls = refused(&lineage, "not ready to take over");
    assert!(lineage.gateway.metric("portolan_upgrades_total", &["result=\"failed\""]) == 1.0);
    println!("D-8: a successor that hangs under {calls} calls, 0 failed");
}

#[test]
fn d_09_whatever_lies_where_the_socket_is_to_be_and_orders_that_come_in_heaps() {
    let upstream = Upstream::always(answers::whole("fine"));
    let mut lineage = Lineage::start(&config(&[("alias", &upstream.v1())], "shutdown: { drain: 5s }\n"));
    let socket = |pid: u32| format!("upgrade-{pid}.sock");
    // In its way: something that cannot be removed like a socket.
    let first = lineage.pid();
    let stale = lineage.gateway.state().join(socket(first));
    fs::create_dir(&stale).unwrap();
    fs::write(stale.join("x"), "").unwrap();
    let mut calls = refused(&lineage, "no other process has taken over");
    fs::remove_dir_all(&stale).unwrap();
    // A file that was left there is no reason.
    fs::write(&stale, "left").unwrap();
    let (more, failed) = under_calls(&lineage, || {
        for _ in 0..5 {
            lineage.signal(libc::SIGUSR2);
            thread::sleep(Duration::from_millis(30));
        }
        lineage.upgrade();
    });
    calls += more;
    assert_eq!(failed, 0);
    lineage.wait_gone(first, Duration::from_secs(10));
    thread::sleep(Duration::from_millis(500));
    assert_eq!(lineage.processes(), [lineage.pid()], "one order, one successor: {}", lineage.gateway.logs());
    assert!(!stale.exists());
    println!("D-9: a socket in the way, a stale one, six orders at once under {calls} calls, 0 failed, 1 process");
}

#[test]
fn d_05_the_service_manager_is_told_of_every_step() {
    let upstream = Upstream::always(answers::whole("fine"));
    let sandbox = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let more = format!("sandbox: {{ listen: \"{sandbox}\" }}\nshutdown: {{ drain: 5s }}\n");
    let text = config(&[("alias", &upstream.v1())], &more);
    let mut lineage = Lineage::start(&text);
    lineage.wait_told("READY=1\nSTATUS=serving", 1);
    lineage.gateway.rewrite(&format!("{text}log: {{ level: debug }}\n"));
    lineage.signal(libc::SIGHUP);
    lineage.wait_told("RELOADING=1", 1);
    lineage.wait_told("READY=1", 2);
    let first = lineage.pid();
    // A program that is another one than runs is handed over to by the same signal.
    lineage.plant_binary();
    lineage.signal(libc::SIGHUP);
    let begun = Instant::now();
    while lineage.pid() == first {
        assert!(begun.elapsed() < Duration::from_secs(40), "{:?}\n{}", lineage.told(), lineage.gateway.logs());
        thread::sleep(Duration::from_millis(10));
    }
    lineage.wait_told(&format!("MAINPID={}\nREADY=1", lineage.pid()), 1);
    lineage.wait_gone(first, Duration::from_secs(10));
    assert_eq!(lineage.gateway.status_of(SECRET, "alias"), 200);
    assert!(
        !lineage.told().iter().any(|told| told.starts_with("STOPPING")),
        "who was followed is not the service: {:?}",
        lineage.told()
    );
    let last = lineage.pid();
    lineage.signal(libc::SIGTERM);
    lineage.wait_told("STOPPING=1", 1);
    lineage.wait_gone(last, Duration::from_secs(10));
    println!("D-5: told of start, reload, hand-over and stop");
}

#[test]
fn d_05_a_manager_that_is_not_there_is_no_reason_not_to_serve() {
    let upstream = Upstream::always(answers::whole("fine"));
    let text = config(&[("alias", &upstream.v1())], "");
    let gateway = Gateway::start_in(&text, &[("NOTIFY_SOCKET", "/nowhere/at/all")]);
    assert_eq!(gateway.status_of(SECRET, "alias"), 200);
    assert!(gateway.logs().contains("NOTIFY_SOCKET leads to nobody"), "{}", gateway.logs());
}

#[test]
fn d_07_who_keeps_a_connection_idle_loses_no_request() {
    let upstream = Upstream::always(answers::whole("fine"));
    let lineage = Lineage::start(&config(&[("alias", &upstream.v1())], "shutdown: { drain: 10s }\n"));
    let idle = scaled(8);
    let request = lineage.gateway.chat_request(&ask("alias", "x"));
    let mut all: Vec<Connection> = (0..idle)
        .map(|_| {
            let mut connection = Connection::open(lineage.gateway.data);
            assert_eq!(connection.exchange(&request).status, 200);
            connection
        })
        .collect();
    // One of them in each ten milliseconds around the hand-over: what was sent is answered.
    let (done, lost, closed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let (all, request, done, lost, closed) = (&mut all, &request, &done, &lost, &closed);
        scope.spawn(move || {
            let mut round = 0;
            while !done.load(Ordering::Relaxed) {
                for connection in all.iter_mut() {
                    round += 1;
                    if connection.closed_within(Duration::from_millis(1)) {
                        closed.fetch_add(1, Ordering::Relaxed);
                        *connection = Connection::open(lineage.gateway.data);
                    }
                    let answered =
                        connection.send(request).is_ok() && connection.response().is_ok_and(|got| got.status == 200);
                    lost.fetch_add(usize::from(!answered), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(10));
                }
            }
            assert!(round > 0);
        });
        lineage.upgrade();
        thread::sleep(Duration::from_secs(4));
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(lost.into_inner(), 0);
    assert!(closed.into_inner() > 0, "they moved to the new process");
    println!("D-7: {idle} kept connections over a hand-over, 0 requests lost");
}

#[test]
fn d_12_a_data_path_that_does_not_answer_gives_no_sign_of_life() {
    let upstream = Upstream::always(answers::whole("fine"));
    let lineage = Lineage::start_watched(&config(&[("alias", &upstream.v1())], ""), Some(Duration::from_millis(1_500)));
    lineage.wait_told("WATCHDOG=1", 3);
    // It can open nothing any more: no connection is taken.
    let pid = libc::pid_t::try_from(lineage.pid()).unwrap();
    let limit = |most: u64| {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: 1_024 };
        // SAFETY: the limit lives as long as the call, and nothing is written.
        assert_eq!(unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) }, 0);
    };
    limit(3);
    thread::sleep(Duration::from_millis(600));
    let from = Instant::now();
    thread::sleep(Duration::from_secs(3));
    let last = lineage.last("WATCHDOG=1").unwrap();
    assert!(last < from, "a sign of life {:?} after its end", last - from);
    limit(1_024);
    let told = lineage.told().len();
    let begun = Instant::now();
    while !lineage.told().iter().skip(told).any(|told| told == "WATCHDOG=1") {
        assert!(begun.elapsed() < Duration::from_secs(20), "{}", lineage.gateway.logs());
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(lineage.gateway.status_of(SECRET, "alias"), 200);
    println!("D-12: signs of life while the data path answers, none in 3 s while it does not");
}

#[test]
fn d_14_a_process_that_was_stopped_goes_on_where_it_was() {
    let upstream = streams();
    let gateway = start(&upstream, "");
    let mut connection = Connection::open(gateway.data);
    connection.send(&gateway.chat_request(&ask_stream("alias", "30"))).unwrap();
    let mut reading = connection.head().unwrap();
    reading.until_frames(2).unwrap();
    gateway.signal(libc::SIGSTOP);
    let data = gateway.data;
    let request = gateway.chat_request(&ask("alias", "x"));
    let waiting = thread::spawn(move || Connection::open(data).exchange(&request).status);
    thread::sleep(Duration::from_secs(3));
    gateway.signal(libc::SIGCONT);
    while reading.piece().unwrap() {}
    assert!(reading.response.text().contains("[DONE]"), "{}", reading.response);
    assert_eq!(waiting.join().unwrap(), 200);
    assert_eq!(gateway.settled(2)["errors"], 0);
    println!("D-14: 3 s asleep, a stream and a call go on, 0 lost");
}

#[test]
fn d_15_a_gateway_that_is_killed_at_each_start_starts() {
    let upstream = Upstream::always(answers::whole("fine"));
    let mut gateway = start(&upstream, "");
    let starts = scaled(10);
    let mut took = Vec::new();
    for _ in 0..starts {
        assert_eq!(gateway.status_of(SECRET, "alias"), 200);
        gateway.kill9();
        let begun = Instant::now();
        gateway.start_again();
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    assert_eq!(gateway.settled(starts as u64)["attempts"], starts);
    let ready = |at: usize| took[at].as_millis();
    println!(
        "D-15: {starts} starts after kills, ready in {} ms (median) and {} ms (longest)",
        ready(starts / 2),
        ready(starts - 1)
    );
}

#[test]
fn d_16_a_reload_splits_no_call() {
    let upstream = Upstream::start(|attempt| good_after(attempt.json()["stream"].as_bool() == Some(true)));
    let text = |cents: usize| {
        let price = format!("model: alias-real, price: {{ input: 0, output: 0, request: 0.0{cents} }}");
        config(&[("alias", &upstream.v1())], "").replacen("model: alias-real", &price, 1)
    };
    let gateway = Gateway::start(&text(1));
    let (reloads, calls, failed) = (scaled(20), AtomicUsize::new(0), AtomicUsize::new(0));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..6 {
            let (gateway, stop, calls, failed) = (&gateway, &stop, &calls, &failed);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let body = if worker % 2 == 0 { ask("alias", "x") } else { ask_stream("alias", "x") };
                    let got = gateway.chat(&body);
                    calls.fetch_add(1, Ordering::Relaxed);
                    failed.fetch_add(usize::from(got.status != 200 || !got.whole), Ordering::Relaxed);
                }
            });
        }
        for round in 0..reloads {
            gateway.reload(&text(1 + round % 9));
            thread::sleep(Duration::from_millis(60));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let (calls, failed) = (calls.into_inner(), failed.into_inner());
    // Each row costs what one version says, whole.
    let rows = super::books::settled(&gateway);
    let costs: BTreeSet<u64> = rows.iter().map(|row| row.cost).collect();
    let own = |cost: &u64| (1..=9).any(|cents| *cost == cents * 10_000_000);
    assert!(rows.len() == calls && costs.iter().all(own), "{calls} calls, {} rows, {costs:?}", rows.len());
    gateway.command(&["ledger", "verify"]);
    assert!(failed == 0 && costs.len() > 3, "{failed} failed, {costs:?}");
    println!("D-16: {reloads} reloads under {calls} calls, 0 failed, {} prices, each row by one of them", costs.len());
}

fn good_after(stream: bool) -> Reply {
    match stream {
        true => answers::stream(&answers::stream_frames(&["a ", "b "], true), 30),
        false => answers::whole("fine"),
    }
}
