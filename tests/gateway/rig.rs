//! The rig itself: a test that trusts a broken rig proves nothing.

use std::time::{Duration, Instant};

use super::answers;
use super::client::{self, Connection};
use super::upstream::{Framing, Reply, Step, Upstream};

#[test]
fn an_upstream_answers_and_keeps_what_it_saw() {
    let upstream = Upstream::each(vec![answers::whole("one"), answers::error(500, "two")]);
    let mut connection = Connection::open(upstream.addr);
    let got = connection.exchange(&client::request("POST", "/v1/x?y=z", &[("X-Test", "a")], b"{\"b\":1}"));
    assert_eq!((got.status, got.text(), got.whole), (200, answers::whole_text("one").as_str(), true));
    let chunked = client::request("POST", "/", &[("transfer-encoding", "chunked")], &client::chunked(b"hello", 2));
    assert_eq!(connection.exchange(&chunked).status, 500);
    let attempts = upstream.attempts();
    assert_eq!((attempts[0].path.as_str(), attempts[0].text()), ("/v1/x?y=z", "{\"b\":1}"));
    assert_eq!(attempts[0].header("x-test"), Some("a"));
    assert_eq!(attempts[1].text(), "hello");
    assert_eq!(attempts[0].connection, attempts[1].connection);
}

#[test]
fn steps_come_one_after_the_other() {
    let frames = answers::stream_frames(&["a ", "b"], true);
    let upstream = Upstream::always(answers::stream(&frames, 50));
    let got = client::post(upstream.addr, "/", &[], "");
    assert_eq!(got.text(), frames.concat());
    assert_eq!(got.said(), "a b");
    assert!(got.whole);
    let times: Vec<_> = got.arrivals.iter().map(|(at, _)| *at).collect();
    assert_eq!(times.len(), frames.len());
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_millis(30)), "{times:?}");
}

#[test]
fn cuts_show() {
    let cut = |framing, step| {
        let steps = vec![Step::Bytes(b"half".to_vec()), step];
        Reply { steps, framing, ..Reply::json(200, "") }
    };
    for reply in [
        cut(Framing::Chunked, Step::Close),
        cut(Framing::Chunked, Step::Reset),
        cut(Framing::Length(Some(8)), Step::Close),
    ] {
        let upstream = Upstream::always(reply.clone());
        let got = client::post(upstream.addr, "/", &[], "");
        assert!(!got.whole, "{reply:?}");
    }
    let upstream = Upstream::always(cut(Framing::Close, Step::Sleep(1)));
    let got = client::post(upstream.addr, "/", &[], "");
    assert_eq!((got.text(), got.whole), ("half", true));
    for step in [Step::Reset, Step::Close] {
        let upstream = Upstream::always(Reply::instead(step));
        let mut connection = Connection::open(upstream.addr);
        connection.send(&client::request("GET", "/", &[], b"")).unwrap();
        assert!(connection.response().is_err());
    }
}

#[test]
fn an_upstream_sees_its_peer_leave() {
    let upstream = Upstream::always(answers::stream(&answers::stream_frames(&["a"; 500], false), 20));
    let mut connection = Connection::open(upstream.addr);
    connection.send(&client::request("POST", "/", &[], b"{}")).unwrap();
    let mut reading = connection.head().unwrap();
    reading.until_frames(2).unwrap();
    assert!(upstream.only().gone.is_none());
    let left = Instant::now();
    drop(connection);
    let gone = upstream.wait_gone(Duration::from_secs(5)).gone.unwrap();
    assert!(gone >= left);

    let upstream = Upstream::always(Reply::instead(Step::Hang));
    let mut connection = Connection::open(upstream.addr);
    connection.send(&client::request("POST", "/", &[], b"{}")).unwrap();
    upstream.wait("a request", Duration::from_secs(5), |journal| journal.len() == 1);
    assert!(!connection.closed_within(Duration::from_millis(50)));
    drop(connection);
    upstream.wait_gone(Duration::from_secs(5));
}
