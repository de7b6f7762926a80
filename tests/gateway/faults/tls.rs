//! providers whose TLS is not to be trusted, that close it without a word, and that change their certificate.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use super::case::{ANSWER, Case, Outcome, Setting, Told, figure, good, judge, words};
use crate::callers::Caller;
use crate::client::Connection;
use crate::tls::{Authority, Door, FUTURE, Identity, NAME, NOW, PAST};
use crate::upstream::{Attempt, Framing, Reply, Step, Upstream};
use crate::voices::Voice;

#[test]
fn a_20_a_certificate_that_is_not_to_be_trusted_is_refused_before_anything_is_said() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let bad = [
        ("expired", ours.vouches(NAME, PAST), "certificate expired"),
        ("early", ours.vouches(NAME, FUTURE), "certificate not valid yet"),
        ("misnamed", ours.vouches("other.test", NOW), "certificate not valid for name"),
        ("own", Identity::self_signed(), "UnknownIssuer"),
        ("unknown", others.good(), "UnknownIssuer"),
    ];
    let (backing, never) = (good(Voice::Chat), good(Voice::Chat));
    let behind: Vec<_> = bad.iter().map(|_| good(Voice::Chat)).collect();
    let doors: Vec<_> = bad.iter().zip(&behind).map(|((_, shown, _), up)| Door::open(shown, up)).collect();
    let back = Door::open(&ours.good(), &backing);
    let mut setting = Setting::new().secured("backup", Voice::Chat, &back.addr.to_string(), &ours.trusted(), &backing);
    for (((name, ..), door), upstream) in bad.iter().zip(&doors).zip(&behind) {
        let at = door.addr.to_string();
        setting = setting.secured(name, Voice::Chat, &at, &ours.trusted(), upstream).model(", fallback: [backup]");
    }
    // An authority of one's own is trusted only where the row says so, and a failure without a fallback is told.
    let system = format!(", tls: {{ server_name: {NAME} }}");
    let case = setting.secured("alone", Voice::Chat, &back.addr.to_string(), &system, &never).start();

    let callers = [Caller::Chat, Caller::Messages, Caller::Gemini, Caller::Responses];
    let each = callers.len() * 2;
    for (((name, _, cause), door), upstream) in bad.iter().zip(&doors).zip(&behind) {
        let mut longest = Duration::ZERO;
        for caller in callers {
            for stream in [false, true] {
                let told = case.ask(caller, name, stream);
                told.whole_from("backup", 2);
                longest = longest.max(told.took);
                case.keep(told);
            }
        }
        assert!(longest < Duration::from_secs(1), "{name}: {longest:?}");
        assert_eq!((door.taken(), upstream.connections()), (0, 0), "{name}: a bad certificate was taken");
        assert_eq!(door.refused(), each, "{name}: each call asked once");
        refusal_is_told(&case, name, cause, each);
        figure("A-20", &format!("{name}: {each} of {each} refused and rescued, longest {longest:?}; taken: 0"));
    }
    let told = case.chat("alone");
    assert!(told.refused(502).contains("No TLS connection"), "{}", told.got);
    refusal_is_told(&case, "alone", "UnknownIssuer", 1);
    case.keep(told);

    // The same providers with the right certificate.
    for ((name, ..), door) in bad.iter().zip(&doors) {
        door.show(&ours.good());
        let told = case.chat(name);
        told.whole_from(name, 1);
        case.keep(told);
        assert_eq!(door.taken(), 1);
    }
    case.close();
}

#[test]
fn a_20_tls_1_0_is_refused() {
    // The first answer of a server that speaks nothing newer: a ServerHello of version 3.1, with the cipher suite that
    // each of them had (RFC 2246, section 7.4.1.3).
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (said, heard) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut hello = [0; 4096];
            let n = stream.read(&mut hello).unwrap_or(0);
            let mut answer = vec![0x16, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
            answer.extend([7; 32]);
            answer.extend([0, 0x00, 0x2f, 0]);
            stream.write_all(&answer).unwrap();
            // An alert, and nothing else.
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            if n == 0 || said.send(rest).is_err() {
                return;
            }
        }
    });
    let (never, backup) = (good(Voice::Chat), good(Voice::Chat));
    let ours = Authority::new("ours");
    let case = Setting::new()
        .secured("old", Voice::Chat, &addr.to_string(), &ours.trusted(), &never)
        .up("backup", Voice::Chat, &backup)
        .chain()
        .start();
    for stream in [false, true] {
        let told = case.ask(Caller::Chat, "old", stream);
        told.whole_from("backup", 2);
        assert!(told.took < Duration::from_secs(1), "{:?}", told.took);
        case.keep(told);
        let rest = heard.recv_timeout(Duration::from_secs(5)).unwrap();
        assert!(rest.len() <= 7 && rest.first().is_none_or(|kind| *kind == 0x15), "more than an alert: {rest:?}");
    }
    refusal_is_told(&case, "old", "peer is incompatible", 2);
    figure("A-20", "TLS 1.0: 2 of 2 refused and rescued");
    case.close();
}

#[test]
fn a_20_a_close_without_notice_is_judged_by_what_was_said() {
    let ours = Authority::new("ours");
    let (one, two) = (good(Voice::Chat), good(Voice::Chat));
    let door = Door::open(&ours.good(), &one);
    door.closes_silently();
    let at = door.addr.to_string();
    let case = Setting::new()
        .secured("alias", Voice::Chat, &at, &ours.trusted(), &one)
        .up("backup", Voice::Chat, &two)
        .chain()
        .start();
    let (before, spoken, after) = Voice::Chat.frames(&words());
    let frames = |parts: &[Vec<u8>]| parts.iter().cloned().map(Step::Bytes).collect::<Vec<_>>();
    let cut = |steps: Vec<Step>| Voice::Chat.steps(steps).then(Step::Close);

    // At the end: all was said, by its length, by its last chunk.
    for stream in [false, true] {
        one.set(|attempt| {
            let reply = Voice::Chat.good(attempt, ANSWER);
            let last = if reply.framing == Framing::Chunked { b"0\r\n\r\n".to_vec() } else { Vec::new() };
            reply.then(Step::Raw(last)).then(Step::Close)
        });
        for _ in 0..5 {
            let told = case.ask(Caller::Chat, "alias", stream);
            told.whole_from("alias", 1);
            case.keep(told);
        }
    }
    assert_eq!((one.count(), door.taken(), two.count()), (10, 10, 0));

    // In the middle of a whole answer, and of a stream that has said nothing yet: another answers.
    let whole = Voice::Chat.whole(ANSWER);
    let half = match whole.steps.first() {
        Some(Step::Bytes(bytes)) => bytes[..bytes.len() / 2].to_vec(),
        other => panic!("{other:?}"),
    };
    let length = half.len() * 2;
    let halves = [Framing::Length(Some(length)), Framing::Chunked, Framing::Close]
        .map(|framing| Reply { steps: vec![Step::Bytes(half.clone())], framing, ..whole.clone() }.then(Step::Close));
    let halves = halves.into_iter().map(|reply| (reply, false)).chain([(cut(frames(&before)), true)]);
    for (reply, stream) in halves {
        let shown = format!("{reply:?}");
        one.set_reply(reply);
        let told = case.ask(Caller::Chat, "alias", stream);
        assert_eq!(told.outcome, Outcome::Whole, "{shown}: {}", told.got);
        told.whole_from("backup", 2);
        case.keep(told);
    }

    // In the middle of what was passed on already, and not in one packet with it: the caller is told.
    one.set_reply(cut([frames(&before), frames(&spoken[..3]), vec![Step::Sleep(300)]].concat()));
    let told = case.stream("alias");
    assert_eq!(told.broken(), "one two three ");
    let broken = told.number;
    case.keep(told);

    // The end was told in the stream's own words; what its framing lacks changes nothing.
    one.set_reply(cut([frames(&before), frames(&spoken), frames(&after), vec![done()]].concat()));
    let told = case.stream("alias");
    told.whole_from("alias", 1);
    case.keep(told);

    let refused = door.refused();
    let books = case.close();
    let outcomes: Vec<_> = books.call(broken).iter().map(|row| row.outcome.clone()).collect();
    assert_eq!((outcomes.as_slice(), refused), (["truncated".to_owned()].as_slice(), 0));
    figure("A-20", "closed without notice: 11 at the end, all whole; 4 in the middle rescued, 1 told as broken");
}

#[test]
fn a_20_a_changed_certificate_is_judged_by_new_connections_only() {
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let (one, two) = (good(Voice::Chat), good(Voice::Chat));
    let door = Door::open(&ours.good(), &one);
    let at = door.addr.to_string();
    let case = Setting::new()
        .secured("alias", Voice::Chat, &at, &ours.trusted(), &one)
        .up("backup", Voice::Chat, &two)
        .chain()
        .start();
    let pooled = |case: &Case, connections| {
        for _ in 0..5 {
            // A connection is back in the pool a moment after its answer.
            std::thread::sleep(std::time::Duration::from_millis(50));
            let told = case.chat("alias");
            told.whole_from("alias", 1);
            case.keep(told);
        }
        assert_eq!(door.taken(), connections, "calls went over kept connections");
    };
    pooled(&case, 1);

    // Another good one: what is connected stays, what is new is shown it.
    door.show(&ours.good());
    pooled(&case, 1);
    let told = beside(&case, &one, 1);
    told.whole_from("alias", 1);
    case.keep(told);
    pooled(&case, 2);

    // A bad one: both connections go on, busy and idle; a third is not made.
    door.show(&others.good());
    pooled(&case, 2);
    let told = beside(&case, &one, 2);
    told.whole_from("backup", 2);
    case.keep(told);
    pooled(&case, 2);
    refusal_is_told(&case, "alias", "UnknownIssuer", 1);
    assert_eq!((door.refused(), two.count()), (1, 1));

    // And a good one again.
    door.show(&ours.good());
    let told = beside(&case, &one, 2);
    told.whole_from("alias", 1);
    case.keep(told);
    pooled(&case, 3);
    figure("A-20", "changed 3 times under calls: kept connections lost 0 of 30 calls and 0 of 5 streams; bad taken: 0");
    case.close();
}

fn done() -> Step {
    Step::Bytes(b"data: [DONE]\n\n".to_vec())
}

/// A call beside so many streams, each of which keeps a connection busy; the streams end well.
fn beside(case: &Case, upstream: &Upstream, streams: usize) -> Told {
    let slow = |attempt: &Attempt| {
        let mut reply = Voice::Chat.good(attempt, ANSWER);
        let paused = reply.steps.into_iter().flat_map(|step| [step, Step::Sleep(150)]);
        reply.steps = paused.collect();
        reply
    };
    let asked = upstream.count();
    upstream.set(slow);
    let open: Vec<(usize, Connection)> = (0..streams).map(|_| case.open("alias")).collect();
    upstream.wait("the streams", Duration::from_secs(5), |seen| seen.len() == asked + streams);
    upstream.set(|attempt| Voice::Chat.good(attempt, ANSWER));
    let told = case.chat("alias");
    for (number, mut connection) in open {
        let got = connection.response().unwrap();
        let outcome = judge(Caller::Chat, &got, true);
        assert_eq!(outcome, Outcome::Whole, "{got}");
        case.keep(Told { number, got, outcome, took: Duration::ZERO });
    }
    told
}

/// The log says why there was no connection, and the metrics count so many attempts that came to nothing for TLS.
#[track_caller]
fn refusal_is_told(case: &Case, provider: &str, cause: &str, times: usize) {
    let (target, what) = (format!("{provider}/"), "no connection to a provider");
    let deadline = Instant::now() + Duration::from_secs(5);
    // The log is written behind the calls.
    loop {
        let logs = case.gateway.logs();
        let told = logs.lines().filter(|line| [what, &target, cause].iter().all(|part| line.contains(part))).count();
        if told == times {
            break;
        }
        assert!(told < times && Instant::now() < deadline, "{provider}: {cause}: {told} of {times}:\n{logs}");
        thread::sleep(Duration::from_millis(20));
    }
    let labels = [format!("provider=\"{provider}\""), "outcome=\"tls\"".to_owned()];
    let counted = case.gateway.metric("portolan_attempts_total", &[labels[0].as_str(), labels[1].as_str()]);
    assert_eq!(counted, times as f64, "{provider}");
}
