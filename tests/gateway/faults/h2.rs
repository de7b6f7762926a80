//! providers that speak HTTP/2, and end streams or connections, or hold back what a request needs.

use std::thread;
use std::time::Duration;

use super::case::{ANSWER, Case, Outcome, Setting, Told, figure, good, judge};
use crate::callers::Caller;
use crate::client::Connection;
use crate::h2::{
    self, Event, INITIAL_WINDOW_SIZE, INTERNAL_ERROR, MAX_CONCURRENT_STREAMS, NO_ERROR, REFUSED_STREAM, Talk,
};
use crate::tls::{Authority, Door};
use crate::upstream::Upstream;
use crate::voices::Voice;

/// Events of a stream that come before a script is asked again.
const BEGUN: usize = 4;

fn spoken<'u>(setting: Setting<'u>, name: &'static str, upstream: &'u Upstream) -> Setting<'u> {
    setting.up(name, Voice::Chat, upstream).replacing("dialect:", "http: http2, dialect:")
}

/// Answers all of it.
fn answer(talk: &mut Talk, stream: u32, body: Vec<u8>) {
    let attempt = talk.take(body);
    talk.answer(stream, &attempt, &Voice::Chat.good(&attempt, ANSWER));
}

/// Begins an answer, and keeps the rest of it for later.
fn begin(talk: &mut Talk, stream: u32, body: Vec<u8>) {
    let attempt = talk.take(body);
    let reply = Voice::Chat.good(&attempt, ANSWER);
    talk.head(stream, &reply);
    talk.data(stream, &attempt, &reply.steps[..BEGUN]);
    talk.held.push((stream, attempt));
}

/// Ends all that were begun.
fn finish(talk: &mut Talk) {
    for (stream, attempt) in std::mem::take(&mut talk.held) {
        let reply = Voice::Chat.good(&attempt, ANSWER);
        talk.data(stream, &attempt, &reply.steps[BEGUN..]);
        talk.end(stream);
    }
}

/// A stream that the provider has begun.
fn begun(case: &Case, upstream: &Upstream) -> (usize, Connection) {
    let seen = upstream.count();
    let open = case.open("alias");
    upstream.wait("the stream", Duration::from_secs(5), |journal| journal.len() == seen + 1);
    open
}

#[track_caller]
fn ends_well(case: &Case, (number, mut connection): (usize, Connection)) {
    let got = connection.response().unwrap();
    let outcome = judge(Caller::Chat, &got, true);
    assert_eq!(outcome, Outcome::Whole, "{got}");
    case.keep(Told { number, got, outcome, took: Duration::ZERO });
}

fn streams(body: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(body).unwrap()["stream"] == true
}

#[test]
fn a_22_a_provider_that_goes_away_ends_what_it_took_on_and_the_rest_is_sent_again() {
    // On each connection: a stream is begun; the next request is not looked at, and the stream ends after that.
    let upstream = h2::upstream(&[], |talk, event| {
        let Event::Asked(stream, body) = event else { return };
        match talk.held.first() {
            None if streams(&body) => begin(talk, stream, body),
            None => answer(talk, stream, body),
            Some((last, _)) => {
                let last = *last;
                talk.go_away(last, NO_ERROR);
                finish(talk);
            }
        }
    });
    let other = good(Voice::Chat);
    let case = spoken(Setting::new(), "alias", &upstream).up("backup", Voice::Chat, &other).chain().start();
    let rounds = 5;
    for _ in 0..rounds {
        let open = begun(&case, &upstream);
        let told = case.chat("alias");
        told.whole_from("alias", 1);
        case.keep(told);
        ends_well(&case, open);
    }
    assert_eq!((upstream.count(), other.count()), (rounds * 2, 0), "each call was taken on once");
    figure(
        "A-22",
        &format!("GOAWAY {rounds} times: 0 of {rounds} streams lost, {rounds} of {rounds} others sent again"),
    );
    case.close();
}

#[test]
fn a_22_a_stream_that_is_reset_is_sent_again_only_if_it_was_refused() {
    let upstream = h2::upstream(&[], |talk, event| {
        let Event::Asked(stream, body) = event else { return };
        let said = String::from_utf8(body.clone()).unwrap();
        match said {
            _ if said.contains("\"refused\"") && talk.number() == 0 => talk.reset(stream, REFUSED_STREAM),
            _ if said.contains("\"failed\"") => {
                talk.take(body);
                talk.reset(stream, INTERNAL_ERROR);
            }
            _ if said.contains("\"cut\"") => {
                begin(talk, stream, body);
                talk.held.pop();
                talk.reset(stream, INTERNAL_ERROR);
            }
            _ if said.contains("\"last\"") => {
                answer(talk, stream, body);
                finish(talk);
            }
            _ if streams(&body) => begin(talk, stream, body),
            _ => answer(talk, stream, body),
        }
    });
    let other = good(Voice::Chat);
    let case = spoken(Setting::new(), "alias", &upstream).up("backup", Voice::Chat, &other).chain().start();
    let ask = |user: &str, stream| case.ask_with(Caller::Chat, "alias", stream, |body| body["user"] = user.into());
    let open = begun(&case, &upstream);

    // Not looked at: the same attempt once more.
    let told = ask("refused", false);
    told.whole_from("alias", 1);
    case.keep(told);
    assert_eq!((upstream.count(), other.count()), (2, 0));

    // Taken on, and failed: an attempt that may have cost money, and another one elsewhere.
    for stream in [false, true] {
        let told = ask("failed", stream);
        told.whole_from("backup", 2);
        case.keep(told);
    }
    assert_eq!((upstream.count(), other.count()), (4, 2), "what was taken on was not sent to it again");

    // In the middle of what was passed on.
    let told = ask("cut", true);
    assert!(!told.broken().is_empty());
    let cut = told.number;
    case.keep(told);

    // The first stream had no part in all this.
    let told = ask("last", false);
    told.whole_from("alias", 1);
    case.keep(told);
    ends_well(&case, open);
    let books = case.close();
    let rows = books.call(cut);
    assert!(rows.len() == 1 && rows[0].served && rows[0].estimated, "{rows:?}");
    figure(
        "A-22",
        "RST_STREAM: refused 1, sent again 1; failed 2, gone around 2, sent again 0; cut 1, told; others lost 0",
    );
}

#[test]
fn a_22_one_stream_at_a_time_costs_no_call() {
    let upstream = h2::upstream(&[(MAX_CONCURRENT_STREAMS, 1)], |talk, event| {
        let Event::Asked(stream, body) = event else { return };
        if streams(&body) {
            begin(talk, stream, body);
            thread::sleep(Duration::from_millis(500));
            finish(talk);
        } else {
            answer(talk, stream, body);
        }
    });
    let case = spoken(Setting::new(), "alias", &upstream).start();
    let first = case.chat("alias");
    first.whole_from("alias", 1);
    case.keep(first);
    let open = begun(&case, &upstream);
    for _ in 0..3 {
        let told = case.chat("alias");
        told.whole_from("alias", 1);
        assert!(told.took < Duration::from_secs(1), "{:?}", told.took);
        case.keep(told);
    }
    ends_well(&case, open);
    assert_eq!(upstream.count(), 5);
    // Pingora may offer a connection that is full: then the call waits for the stream before it.
    let connections = upstream.connections();
    figure("A-22", &format!("one stream for each connection: 5 of 5 calls answered over {connections} connections"));
    case.close();
}

#[test]
fn a_22_a_request_that_is_given_no_room_is_gone_around() {
    let shut = h2::upstream(&[(INITIAL_WINDOW_SIZE, 0)], |_, _| {});
    let late = h2::upstream(&[(INITIAL_WINDOW_SIZE, 0)], |talk, event| match event {
        Event::Head(stream) => {
            thread::sleep(Duration::from_millis(200));
            talk.open_window(stream, 65_535);
        }
        Event::Asked(stream, body) => answer(talk, stream, body),
    });
    let other = good(Voice::Chat);
    let setting = Setting::new()
        .nowhere("alias", Voice::Chat, &shut.addr.to_string())
        .replacing("dialect:", "http: http2, dialect:")
        .up("backup", Voice::Chat, &other)
        .chain();
    let case = spoken(setting, "late", &late).start();
    for stream in [false, true] {
        let told = case.ask(Caller::Chat, "alias", stream);
        told.whole_from("backup", 2);
        let took = told.took;
        assert!((Duration::from_millis(900)..Duration::from_secs(3)).contains(&took), "{took:?}");
        case.keep(told);
        // Room that comes late is room.
        let told = case.ask(Caller::Chat, "late", stream);
        told.whole_from("late", 1);
        case.keep(told);
    }
    figure("A-22", "window 0: 2 of 2 rescued after the limit of 1 s; opened late: 2 of 2 answered");
    case.close();
}

#[test]
fn a_22_a_provider_that_offers_http_2_is_spoken_to_in_it() {
    let ours = Authority::new("ours");
    let upstream = h2::upstream(&[], |talk, event| {
        if let Event::Asked(stream, body) = event {
            answer(talk, stream, body);
        }
    });
    let door = Door::speaking(&ours.good(), &upstream, &["h2", "http/1.1"]);
    let case = Setting::new().secured("alias", Voice::Chat, &door.addr.to_string(), &ours.trusted(), &upstream).start();
    for stream in [false, true] {
        let told = case.ask(Caller::Chat, "alias", stream);
        told.whole_from("alias", 1);
        case.keep(told);
    }
    assert_eq!((upstream.count(), door.taken()), (2, 1));
    case.close();
}
