//! providers that cannot be reached, or that keep silent.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use super::case::{Outcome, QUICK, Setting, figure, good, silent, words};
use crate::callers::Caller;
use crate::gateway::free_port;
use crate::upstream::{Framing, Reply, Step, Upstream};
use crate::voices::Voice;

#[test]
fn a_05_no_connection_is_gone_around_at_once_or_when_its_time_is_over() {
    let reset = Upstream::always(Reply::instead(Step::Reset));
    let two = good(Voice::Chat);
    let (_listener, deaf) = silent();
    let case = Setting::new()
        .nowhere("refused", Voice::Chat, &format!("127.0.0.1:{}", free_port()))
        .model(", fallback: [backup]")
        .up("reset", Voice::Chat, &reset)
        .model(", fallback: [backup]")
        .nowhere("deaf", Voice::Messages, &deaf.to_string())
        .model(", fallback: [backup]")
        .up("backup", Voice::Chat, &two)
        .start();
    for (model, longest) in [("refused", 500), ("reset", 500), ("deaf", 2_000)] {
        let mut took = Vec::new();
        for caller in [Caller::Chat, Caller::Messages, Caller::Gemini, Caller::Responses] {
            for stream in [false, true] {
                let told = case.ask(caller, model, stream);
                told.whole_from("backup", 2);
                assert!(told.took < Duration::from_millis(longest), "{model}: {:?}", told.took);
                took.push(told.took);
                case.keep(told);
            }
        }
        took.sort();
        figure("A-5", &format!("{model}: rescued 8 of 8, median {:?}, longest {:?}", took[4], took[7]));
    }
    assert_eq!(reset.count(), 8);
    case.close();
}

#[test]
fn a_06_a_provider_that_accepts_and_never_answers_is_given_one_attempt() {
    for reply in [Reply::instead(Step::Hang), Voice::Chat.steps(vec![Step::Hang])] {
        let (one, two) = (Upstream::always(reply), good(Voice::Chat));
        let case = Setting::new().up("alias", Voice::Chat, &one).up("backup", Voice::Chat, &two).chain().start();
        for stream in [false, true] {
            let told = case.ask(Caller::Chat, "alias", stream);
            told.whole_from("backup", 2);
            let took = told.took;
            assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&took), "{took:?}");
            figure("A-6", &format!("silent, stream: {stream}: limit 1 s, answered by the fallback after {took:?}"));
            case.keep(told);
        }
        assert_eq!((one.count(), two.count()), (2, 2));
        // The connections of those that were given up are closed.
        one.wait("its peer leaving", Duration::from_secs(3), |seen| seen.iter().all(|attempt| attempt.gone.is_some()));
        case.close();
    }
}

#[test]
fn a_06_a_provider_that_takes_no_body_is_given_up_as_one_that_does_not_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    crate::wire::narrow(&listener, 4096);
    let addr = listener.local_addr().unwrap();
    // Accepts, and reads nothing.
    thread::spawn(move || {
        listener.incoming().flatten().take(2).collect::<Vec<_>>().iter().for_each(|_| thread::park())
    });
    let two = good(Voice::Chat);
    let case =
        Setting::new().nowhere("alias", Voice::Chat, &addr.to_string()).up("backup", Voice::Chat, &two).chain().start();
    let big = "x".repeat(16 << 20);
    for stream in [false, true] {
        let told = case.ask_with(Caller::Chat, "alias", stream, |body| body["user"] = big.as_str().into());
        told.whole_from("backup", 2);
        assert!(told.took < Duration::from_secs(6), "{:?}", told.took);
        figure(
            "A-6",
            &format!("takes no body, stream: {stream}: limit 1 s, answered by the fallback after {:?}", told.took),
        );
        case.keep(told);
    }
    case.close();
}

#[test]
fn a_07_a_late_first_token_goes_to_the_fallback_and_is_metered_once() {
    for voice in [Voice::Chat, Voice::Messages, Voice::Gemini, Voice::Responses, Voice::Bedrock] {
        // A head, and what comes before the words, at once; the first word long after the limit.
        let (before, spoken, after) = voice.frames(&words());
        let late = [Step::Sleep(4_000)].into_iter().chain([spoken, after].concat().into_iter().map(Step::Bytes));
        let one = Upstream::always(voice.steps(before.into_iter().map(Step::Bytes).chain(late).collect()));
        let two = good(voice);
        let case = Setting::new().up("alias", voice, &one).up("backup", voice, &two).chain().start();
        let asked = Instant::now();
        let told = case.stream("alias");
        told.whole_from("backup", 2);
        assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
        figure("A-7", &format!("{voice:?}: first token after 4 s, limit 1 s: answered after {:?}", told.took));
        let number = told.number;
        case.keep(told);
        one.wait_gone(Duration::from_secs(3));
        let books = case.close();
        let rows = books.call(number);
        assert_eq!((rows[0].outcome.as_str(), rows[1].outcome.as_str()), ("timeout", "ok"), "{rows:?}");
        assert!(!rows[0].served && rows[1].served, "{rows:?}");
    }
}

#[test]
fn a_21_a_pooled_connection_that_is_closed_as_it_is_used_costs_no_call() {
    let calls = super::scaled(2_000);
    // Each connection takes one to three calls; then it is closed, at once or while the next call may be on its way.
    let upstream = Upstream::start(|attempt| {
        let mut reply = Voice::Chat.good(attempt, super::case::ANSWER);
        if reply.framing == Framing::Chunked {
            reply = reply.then(Step::Raw(b"0\r\n\r\n".to_vec()));
        }
        match attempt.number % 4 {
            0 => reply.then(Step::Close),
            1 => reply.then(Step::Sleep(1)).then(Step::Close),
            2 => reply.then(Step::Sleep(3)).then(Step::Reset),
            _ => Voice::Chat.good(attempt, super::case::ANSWER),
        }
    });
    let case = Setting::new().up("alias", Voice::Chat, &upstream).more(&QUICK.replace("tries: 1", "tries: 2")).start();
    let big = "x".repeat(1 << 20);
    let mut bad = 0;
    for number in 0..calls {
        let told = case.ask_with(Caller::Chat, "alias", number % 2 == 0, |body| {
            if number % 50 == 0 {
                body["user"] = big.as_str().into();
            }
        });
        bad += usize::from(told.outcome != Outcome::Whole);
        case.keep(told);
    }
    let (seen, connections) = (upstream.count(), upstream.connections());
    assert_eq!(bad, 0, "{bad} of {calls} calls failed for a stale connection");
    assert_eq!(seen, calls, "the provider saw each call once");
    figure(
        "A-21",
        &format!(
            "{calls} calls over {connections} connections that the provider closed: 0 failed, {seen} attempts seen"
        ),
    );
    case.close();
}
