//! What is sent that is not quite HTTP, or not quite JSON: one reading of it, or none. Never two requests where others would
//! read one, never a way to the operator's port, never bytes past a gateway that did not ask for them.

use std::time::Duration;

use serde_json::{Value, json};

use super::case::{Case, Setting, figure, good};
use crate::answers;
use crate::callers::Caller;
use crate::client::{self, Connection, Response};
use crate::gateway::SECRET;
use crate::upstream::Upstream;
use crate::voices::Voice;

fn case(upstream: &Upstream) -> Case<'_> {
    Setting::new().up("alias", Voice::Chat, upstream).start()
}

/// It is still there, has not panicked, and serves: what was sent has no number by which it could be held against the ledger.
#[track_caller]
fn over(mut case: Case<'_>) {
    assert!(case.gateway.is_running(), "O5: it died");
    assert_eq!(case.gateway.metric("portolan_panics_total", &[]), 0.0, "O5");
    let well = case.chat("well");
    well.whole_from("well", 1);
}

/// A good body.
fn body() -> Vec<u8> {
    br#"{"model":"alias","messages":[{"role":"user","content":"x"}]}"#.to_vec()
}

fn head(line: &str, more: &str) -> String {
    format!("{line}\r\nhost: x\r\nauthorization: Bearer {SECRET}\r\ncontent-type: application/json\r\n{more}")
}

fn post(more: &str) -> Vec<u8> {
    head("POST /v1/chat/completions HTTP/1.1", more).into_bytes()
}

/// A request that is whole, to be found behind another one.
fn second() -> Vec<u8> {
    [post(&format!("content-length: {}\r\n\r\n", body().len())), body()].concat()
}

/// What came of these bytes: the first answer, how many there were, and whether the connection was closed then.
fn sent(case: &Case<'_>, bytes: &[u8]) -> (Option<Response>, usize, bool) {
    let mut connection = Connection::open(case.gateway.data);
    // Who refuses early closes while we write.
    let _ = connection.send(bytes);
    let first = connection.response().ok();
    let mut count = usize::from(first.is_some());
    if first.is_some() {
        connection.socket().set_read_timeout(Some(Duration::from_millis(400))).unwrap();
        while connection.response().is_ok() {
            count += 1;
        }
    }
    let closed = connection.closed_within(Duration::from_secs(2));
    (first, count, closed)
}

#[track_caller]
fn refused(case: &Case<'_>, upstream: &Upstream, what: &str, bytes: &[u8]) {
    let before = upstream.count();
    let (first, answers, closed) = sent(case, bytes);
    let status = first.as_ref().map_or(0, |got| got.status);
    assert!((400..500).contains(&status), "{what}: {first:?}");
    assert_eq!((answers, closed, upstream.count() - before), (1, true, 0), "{what}: answers, closed, attempts");
}

/// What is read as one request, by itself or by a close behind it.
#[track_caller]
fn alone(case: &Case<'_>, upstream: &Upstream, what: &str, bytes: &[u8], attempts: usize) -> Response {
    let before = upstream.count();
    let (first, answers, _) = sent(case, bytes);
    assert_eq!((answers, upstream.count() - before), (1, attempts), "{what}: answers, attempts: {first:?}");
    first.unwrap()
}

#[test]
fn l_03_no_request_is_smuggled_in_another() {
    let upstream = good(Voice::Chat);
    let case = case(&upstream);
    let (good, chunked) = (body(), client::chunked(&body(), 1_000));
    let length = good.len();
    let mut count = 0;
    let mut try_one = |what: &str, more: &str, rest: &[&[u8]]| {
        count += 1;
        refused(&case, &upstream, what, &[post(&format!("{more}\r\n")), rest.concat()].concat());
    };
    let behind = second();
    let both = [chunked.as_slice(), &behind];
    try_one(
        "CL.TE",
        &format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", chunked.len() + behind.len()),
        &both,
    );
    try_one("TE.CL", "transfer-encoding: chunked\r\ncontent-length: 4\r\n", &both);
    for coding in [
        "chunked, identity",
        "identity, chunked",
        "xchunked",
        "chunked, chunked",
        "\"chunked\"",
        "gzip, chunked",
        "identity",
        "chunked;q=1",
        "chunked\u{b}",
        "",
    ] {
        try_one(&format!("TE.TE {coding:?}"), &format!("transfer-encoding: {coding}\r\n"), &both);
    }
    try_one("TE.TE twice", "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", &both);
    try_one("a space before the colon", "transfer-encoding : chunked\r\n", &both);
    try_one("a folded line", "x-a: b\r\n transfer-encoding: chunked\r\n", &both);
    for written in ["+60", "-60", "0x3c", "60;", "6e1", "", "60, 60", "18446744073709551676"] {
        let more = format!("content-length: {}\r\n", written.replace("60", &length.to_string()));
        try_one(&format!("CL {written:?}"), &more, &[&good, &behind]);
    }
    let twice = |other: usize| format!("content-length: {length}\r\ncontent-length: {other}\r\n");
    try_one("CL.CL", &twice(length + 5), &[&good, &behind]);
    try_one("the same length twice", &twice(length), &[&good, &behind]);
    try_one("a bare LF behind a header", &format!("x-a: b\ncontent-length: {length}\r\n"), &[&good]);
    try_one("a bare CR in a header", &format!("x-a: b\rx-b: c\r\ncontent-length: {length}\r\n"), &[&good]);
    for size in [
        format!(" {length:x}"),
        format!("0x{length:x}"),
        format!("-{length:x}"),
        "f".repeat(17),
        format!("{length:x}\n"),
    ] {
        let body = [format!("{size}\r\n").as_bytes(), good.as_slice(), b"\r\n0\r\n\r\n", behind.as_slice()].concat();
        let more = [post("transfer-encoding: chunked\r\n\r\n"), body].concat();
        count += 1;
        refused(&case, &upstream, &format!("a chunk of {size:?}"), &more);
    }
    let wrong_end = [format!("{length:x}\r\n").as_bytes(), good.as_slice(), b"XX0\r\n\r\n", behind.as_slice()].concat();
    refused(
        &case,
        &upstream,
        "a chunk that is too long",
        &[post("transfer-encoding: chunked\r\n\r\n"), wrong_end].concat(),
    );
    // CL.0 and 0.CL: a body where none is expected, and none where one is.
    refused(&case, &upstream, "CL.0", &[post("\r\n"), good.clone(), behind.clone()].concat());
    for framing in
        [format!("content-length: {}\r\n\r\n", behind.len()), "transfer-encoding: chunked\r\n\r\n".to_owned()]
    {
        let chunked = framing.starts_with('t');
        let hidden = if chunked { client::chunked(&behind, 4_000) } else { behind.clone() };
        let got = alone(
            &case,
            &upstream,
            "0.CL",
            &[head("GET /v1/models HTTP/1.1", &framing).into_bytes(), hidden].concat(),
            0,
        );
        assert_eq!(got.status, 200, "{got}");
    }
    // An extension and a trailer are read, and go no further.
    let odd = [
        format!("{length:x};a=b\r\n").as_bytes(),
        good.as_slice(),
        b"\r\n0\r\nauthorization: Bearer other\r\nx-trailer: 1\r\n\r\n",
    ]
    .concat();
    let got = alone(&case, &upstream, "trailers", &[post("transfer-encoding: chunked\r\n\r\n"), odd].concat(), 1);
    assert_eq!(got.status, 200, "{got}");
    let seen = upstream.attempts().pop().unwrap();
    assert!(seen.header("x-trailer").is_none() && seen.header("transfer-encoding").is_none(), "{seen:?}");
    figure(
        "L-3",
        &format!(
            "{} requests of two readings: 0 answered, 0 second requests seen, 0 connections used again",
            count + 2
        ),
    );
    over(case);
}

#[test]
fn l_05_nothing_is_switched_to_and_nothing_tunnelled() {
    let upstream = good(Voice::Chat);
    let case = case(&upstream);
    let behind = second();
    for upgrade in [
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    ] {
        let request = [head("GET /v1/models HTTP/1.1", upgrade).into_bytes(), behind.clone()].concat();
        let got = alone(&case, &upstream, "upgrade", &request, 0);
        assert!(got.status != 101, "{got}");
    }
    let more = format!("connection: upgrade\r\nupgrade: x\r\ncontent-length: {}\r\n\r\n", body().len());
    let got = alone(&case, &upstream, "upgrade of a call", &[post(&more), body(), behind].concat(), 1);
    assert_eq!(got.status, 200, "it is a call like any other: {got}");
    let seen = upstream.attempts().pop().unwrap();
    assert!(seen.header("upgrade").is_none(), "{seen:?}");
    let admin = case.gateway.admin;
    refused(
        &case,
        &upstream,
        "CONNECT",
        format!("CONNECT {admin} HTTP/1.1\r\nhost: {admin}\r\n\r\nGET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes(),
    );
    refused(&case, &upstream, "the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    figure("L-5", "2 upgrades, CONNECT, h2 by prior knowledge: 0 bytes passed on, 0 switched");
    over(case);
}

#[test]
fn l_06_other_versions_and_methods_are_what_the_rfcs_say() {
    let upstream = good(Voice::Chat);
    let case = case(&upstream);
    let length = format!("content-length: {}\r\n\r\n", body().len());
    let line = "POST /v1/chat/completions HTTP/1.0";
    let (got, answers, closed) = sent(&case, &[head(line, &length).into_bytes(), body()].concat());
    assert_eq!(
        (got.map(|got| got.status), answers, closed),
        (Some(200), 1, true),
        "HTTP/1.0 has one request a connection"
    );
    let chunked =
        [head(line, "transfer-encoding: chunked\r\n\r\n").into_bytes(), client::chunked(&body(), 99)].concat();
    refused(&case, &upstream, "HTTP/1.0 knows no chunks", &chunked);
    for version in ["HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", ""] {
        let line = format!("GET /v1/models {version}");
        refused(&case, &upstream, version, head(&line, "\r\n").as_bytes());
    }
    let request = |line: &str| [head(line, "\r\n").into_bytes()].concat();
    for (line, status) in [
        ("OPTIONS * HTTP/1.1", 404),
        ("OPTIONS /v1/chat/completions HTTP/1.1", 405),
        ("TRACE /v1/models HTTP/1.1", 405),
        ("DELETE /v1/models HTTP/1.1", 405),
        ("BREW /v1/models HTTP/1.1", 405),
    ] {
        let got = alone(&case, &upstream, line, &request(line), 0);
        assert_eq!(got.status, status, "{line}: {got}");
        assert!(got.header("access-control-allow-origin").is_none(), "no page may read answers: {got}");
    }
    // A head alone: nothing follows it that the next request could be found in.
    let mut connection = Connection::open(case.gateway.data);
    connection.send(&request("HEAD /v1/models HTTP/1.1")).unwrap();
    let told = connection.interim().unwrap();
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    let got = connection.exchange(&request("GET /v1/models HTTP/1.1"));
    assert_eq!(got.status, 200, "{got}");
    // Who asks first is told to go on, and then answered.
    let mut connection = Connection::open(case.gateway.data);
    connection.send(&post(&format!("expect: 100-continue\r\n{length}"))).unwrap();
    let told = connection.interim().unwrap();
    assert!(told.starts_with("HTTP/1.1 100"), "{told}");
    assert_eq!(connection.exchange(&body()).status, 200);
    refused(
        &case,
        &upstream,
        "no Host",
        format!("GET /v1/models HTTP/1.1\r\nauthorization: Bearer {SECRET}\r\n\r\n").as_bytes(),
    );
    refused(&case, &upstream, "two Hosts", head("GET /v1/models HTTP/1.1", "host: y\r\n\r\n").as_bytes());
    figure("L-6", "HTTP/1.0, 5 other versions, HEAD, OPTIONS, TRACE, Expect, Host: as RFC 9110 and 9112 say");
    over(case);
}

#[test]
fn i_05_no_path_and_no_header_leads_to_the_operators_port() {
    let upstream = good(Voice::Chat);
    let case = case(&upstream);
    let port = case.gateway.admin.port();
    let bases = ["/admin/targets", "/admin/v1/self", "/metrics", "/admin/v1/keys", "/health/../metrics"];
    let forms: [fn(&str) -> String; 10] = [
        |path| path.to_owned(),
        |path| format!("/{path}"),
        |path| format!("/v1/..{path}"),
        |path| format!("/v1/%2e%2e{path}"),
        |path| format!("/v1/..;{path}"),
        |path| format!("/v1/..%2f{}", path.trim_start_matches('/')),
        |path| format!("/v1/models/../..{path}"),
        |path| path.replace('m', "%6d"),
        |path| path.replace('/', "\\"),
        |path| format!("{path}%00"),
    ];
    let headers = [
        "",
        "x-forwarded-for: 127.0.0.1\r\nx-real-ip: 127.0.0.1\r\nforwarded: for=127.0.0.1;host=localhost\r\n",
        "x-original-url: /metrics\r\nx-rewrite-url: /metrics\r\nx-forwarded-host: localhost\r\nx-forwarded-prefix: /admin\r\n",
    ];
    let mut count = 0;
    for (path, more) in bases
        .iter()
        .flat_map(|base| forms.iter().map(|form| form(base)))
        .flat_map(|path| headers.map(|more| (path.clone(), more)))
    {
        let request = head(&format!("GET {path} HTTP/1.1"), &format!("connection: close\r\n{more}\r\n"));
        let (got, ..) = sent(&case, request.as_bytes());
        let got = got.unwrap();
        assert!(matches!(got.status, 400 | 404 | 405), "{path} {more:?}: {got}");
        assert!(!got.text().contains("portolan_") && !got.text().contains("\"targets\""), "{path}: {got}");
        count += 1;
    }
    for line in [
        format!("GET http://127.0.0.1:{port}/metrics HTTP/1.1"),
        "GET http://evil.example/v1/models HTTP/1.1".to_owned(),
    ] {
        let (got, ..) = sent(&case, head(&line, "connection: close\r\n\r\n").as_bytes());
        assert!(got.is_some_and(|got| (400..500).contains(&got.status)), "{line}");
        count += 1;
    }
    figure("I-5", &format!("{count} paths and headers: 0 lead to the operator's port"));
    over(case);
}

#[test]
fn i_06_names_and_values_of_headers_are_strict_and_ours_are_no_callers() {
    let upstream = good(Voice::Chat);
    let case = case(&upstream);
    let length = format!("content-length: {}\r\n", body().len());
    for line in ["x a: b", "x-\u{e9}: b", ": b", "x-a", "x-a: b\0c", "x-a: b\r\n folded", "x(a): b", "x-a\t: b"] {
        refused(&case, &upstream, line, &[post(&format!("{line}\r\n{length}\r\n")), body()].concat());
    }
    // What only looks like a header of framing is a name like any other, and goes no further than this.
    let odd = "content_length: 5\r\ntransfer_encoding: chunked\r\nx-forwarded-for: 1.2.3.4\r\nx-portolan-request-id: forged\r\ncookie: a=b\r\nproxy-authorization: x\r\n";
    let got = alone(&case, &upstream, odd, &[post(&format!("{odd}{length}\r\n")), body()].concat(), 1);
    assert_eq!(got.status, 200, "{got}");
    assert_ne!(got.header("x-portolan-request-id"), Some("forged"));
    let seen = upstream.attempts().pop().unwrap();
    for name in ["content_length", "transfer_encoding", "cookie", "proxy-authorization", "x-portolan-request-id"] {
        assert_eq!(seen.header(name), None, "{name}: {seen:?}");
    }
    figure("I-6", "8 headers that are none: 0 taken; 5 of a caller's own: 0 passed on");
    over(case);
}

#[test]
fn i_20_heads_are_bounded_in_number_and_bytes() {
    let upstream = good(Voice::Chat);
    let case = case(&upstream);
    let length = format!("content-length: {}\r\n", body().len());
    // Four are there beside these; 128 and 64 KiB are what is taken.
    let many = |count: usize| (0..count).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    for (count, status) in
        [(100, 200), (124, 200), (125, 431), (200, 431), (255, 400), (256, 400), (257, 400), (1_000, 400)]
    {
        let (got, ..) =
            sent(&case, &[post(&format!("connection: close\r\n{}{length}\r\n", many(count))), body()].concat());
        let told = got.map(|got| got.status);
        // Beyond what is parsed at all nobody has read how many there are.
        assert!(told == Some(status) || (count >= 124 && matches!(told, Some(400 | 431))), "{count}: {told:?}");
    }
    for (kib, taken) in [(31, true), (33, true), (62, true), (65, false), (300, false), (1_024, false), (2_048, false)]
    {
        let more = format!("connection: close\r\nx-a: {}\r\n{length}\r\n", "y".repeat(kib << 10));
        let (got, ..) = sent(&case, &[post(&more), body()].concat());
        match got.map(|got| got.status) {
            Some(200) => assert!(taken, "{kib} KiB"),
            told => assert!(!taken && matches!(told, None | Some(400 | 431)), "{kib} KiB: {told:?}"),
        }
    }
    figure("I-20", "heads of 104 to 1,004 headers, 31 KiB to 2 MiB: taken up to 128 and 64 KiB, refused beyond");
    over(case);
}

/// Each is refused as what it is, or read in one way.
fn judged(case: &Case<'_>, upstream: &Upstream, what: &str, text: &[u8]) -> u16 {
    let bytes = [post(&format!("content-length: {}\r\n\r\n", text.len())), text.to_vec()].concat();
    let before = upstream.count();
    let mut connection = Connection::open(case.gateway.data);
    let _ = connection.send(&bytes);
    let got = connection.response().unwrap_or_else(|error| panic!("{what}: {error}"));
    let made = upstream.count() - before;
    assert!(got.status == 400 && made == 0 || got.status == 200 && made == 1, "{what}: {made} attempts, {got}");
    got.status
}

#[test]
fn i_01_json_is_as_deep_as_the_limit_and_no_deeper() {
    let upstream = good(Voice::Chat);
    let case = case(&upstream);
    let nested = |depth: usize, whole: bool| {
        let close = if whole { "]".repeat(depth) } else { String::new() };
        format!(r#"{{"model":"alias","messages":[{{"role":"user","content":"x"}}],"x":{}{close}}}"#, "[".repeat(depth))
    };
    for (depth, whole, status) in [
        (60, true, 200),
        (70, true, 400),
        (10_000, true, 400),
        (93_000, true, 400),
        (1_000_000, true, 400),
        (1_000_000, false, 400),
    ] {
        let told = judged(&case, &upstream, &format!("depth {depth}"), nested(depth, whole).as_bytes());
        assert_eq!(told, status, "depth {depth}");
    }
    let objects = format!(r#"{{"model":"alias","messages":{}1{}}}"#, r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    assert_eq!(judged(&case, &upstream, "objects", objects.as_bytes()), 400);
    figure("I-1", "depths from 60 to 1,000,000, closed and open: 64 and less are taken, 0 crashes");
    over(case);
}

#[test]
fn i_02_json_is_what_rfc_8259_says() {
    // It does not read what it is sent.
    let upstream = Upstream::always(answers::whole("fine"));
    let case = case(&upstream);
    let whole = String::from_utf8(body()).unwrap();
    let with = |more: &str| format!("{}{more}}}", whole.trim_end_matches('}')).into_bytes();
    let taken: [&str; 9] = [
        r#","x":1E400"#,
        r#","x":-0"#,
        r#","x":123123e100000"#,
        r#","x":"\u0000\u005C\/""#,
        r#","x":"\uD83D\uDE00""#,
        r#","x":[[],{},null,true]"#,
        r#","":0"#,
        r#","x":18446744073709551616"#,
        r#","x":"é€𝄞""#,
    ];
    let mut count = 0;
    for more in taken {
        assert_eq!(judged(&case, &upstream, more, &with(more)), 200, "{more}");
        count += 1;
    }
    let not: [&[u8]; 29] = [
        br#","x":01"#,
        br#","x":+1"#,
        br#","x":.5"#,
        br#","x":1."#,
        br#","x":1e"#,
        br#","x":0x1"#,
        br#","x":-"#,
        br#","x":NaN"#,
        br#","x":Infinity"#,
        br#","x":nul"#,
        br#","x":True"#,
        br#","x":'a'"#,
        br#","x":"\x""#,
        br#","x":"\u12""#,
        b",\"x\":\"a\nb\"",
        b",\"x\":\"a\0b\"",
        b",\"x\":\"\xff\"",
        b",\"x\":\"\xc0\xaf\"",
        b",\"x\":\"\xed\xa0\x80\"",
        br#","x":[1,]"#,
        br#","x":[,1]"#,
        br#","x":[1 2]"#,
        br#","x":{"a":1,}"#,
        br#","x":{a:1}"#,
        br#","x":{"a" 1}"#,
        br#","x":{"a"}"#,
        br#",/*c*/"x":1"#,
        br#","x":1#c"#,
        br#","x""#,
    ];
    for more in not {
        let text = [whole.trim_end_matches('}').as_bytes(), more, b"}"].concat();
        assert_eq!(
            judged(&case, &upstream, &String::from_utf8_lossy(more), &text),
            400,
            "{}",
            String::from_utf8_lossy(more)
        );
        count += 1;
    }
    let plain: [Vec<u8>; 10] = [
        Vec::new(),
        b"   ".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"x\"".to_vec(),
        b"1".to_vec(),
        [b"\xef\xbb\xbf".as_slice(), whole.as_bytes()].concat(),
        [whole.as_bytes(), b" x"].concat(),
        [whole.as_bytes(), whole.as_bytes()].concat(),
        whole.as_bytes().split_last().unwrap().1.to_vec(),
    ];
    for text in plain {
        assert_eq!(
            judged(&case, &upstream, &String::from_utf8_lossy(&text), &text),
            400,
            "{}",
            String::from_utf8_lossy(&text)
        );
        count += 1;
    }
    figure("I-2", &format!("{count} bodies after RFC 8259: 9 good ones taken, all others refused, 0 crashes"));
    over(case);
}

#[test]
fn i_03_a_member_that_stands_twice_has_no_reading() {
    let upstream = good(Voice::Chat);
    let case = case(&upstream);
    let rest = r#""messages":[{"role":"user","content":"x"}]"#;
    let all = [
        format!(r#"{{"model":"alias","model":"other",{rest}}}"#),
        format!(r#"{{"model":"alias","mod\u0065l":"other",{rest}}}"#),
        format!(r#"{{"\u006dodel":"other","model":"alias",{rest}}}"#),
        format!(r#"{{"model":"alias","stream":true,"stream":false,{rest}}}"#),
        format!(r#"{{"model":"alias","str\u0065am":true,"stream":false,{rest}}}"#),
        format!(r#"{{"model":"alias",{rest},{rest}}}"#),
        format!(r#"{{"model":"alias","max_tokens":1,"max_tokens":100000,{rest}}}"#),
        format!(r#"{{"model":"alias","tags":{{"a":"b"}},"tags":{{"a":"c"}},{rest}}}"#),
    ];
    for text in &all {
        assert_eq!(judged(&case, &upstream, text, text.as_bytes()), 400, "{text}");
    }
    // One name in other letters is that name: for the policy and for the provider.
    let text = format!(r#"{{"mod\u0065l":"alias",{rest}}}"#);
    if judged(&case, &upstream, &text, text.as_bytes()) == 200 {
        let seen: Value = upstream.attempts().pop().unwrap().json();
        assert_eq!(seen.as_object().unwrap().keys().filter(|name| *name == "model").count(), 1);
        assert_ne!(seen["model"], json!("alias"), "the provider is told its own name for it");
    }
    figure("I-3", &format!("{} bodies that say something twice: 0 taken", all.len()));
    over(case);
}

#[test]
fn i_04_numbers_and_text_at_their_edges_are_read_or_refused() {
    // It does not read what it is sent.
    let upstream = Upstream::always(answers::whole("fine"));
    let case = case(&upstream);
    let with = |name: &str, value: &str| {
        format!(r#"{{"model":"alias","messages":[{{"role":"user","content":"x"}}],"{name}":{value}}}"#)
    };
    let mut count = 0;
    for name in ["max_tokens", "max_completion_tokens", "n"] {
        for value in ["1e400", "-1e400", "18446744073709551616", "-9223372036854775809", "0.5", "\"5\"", "[]", "1e-5"] {
            let text = with(name, value);
            // A provider may know better; what matters is that nothing breaks, and nothing is read in two ways.
            judged(&case, &upstream, &text, text.as_bytes());
            count += 1;
        }
    }
    assert_eq!(judged(&case, &upstream, "1e400", with("max_tokens", "1e400").as_bytes()), 400);
    let said = |content: &str| format!(r#"{{"model":"alias","messages":[{{"role":"user","content":"{content}"}}]}}"#);
    for (content, status) in [("\\ud800", 400), ("\\udc00\\ud800", 400), ("\\u0000", 200), ("\\ud83d\\ude00", 200)] {
        assert_eq!(judged(&case, &upstream, content, said(content).as_bytes()), status, "{content}");
        count += 1;
    }
    let long = said(&"y".repeat(10 << 20));
    assert_eq!(judged(&case, &upstream, "10 MiB", long.as_bytes()), 200);
    figure("I-4", &format!("{} numbers and texts at their edges: 0 crashes, 0 of two readings", count + 2));
    over(case);
}

#[test]
fn i_14_no_address_that_a_caller_names_is_asked_by_us() {
    let canary = Upstream::always(crate::upstream::Reply::json(200, "{}"));
    let upstream = good(Voice::Chat);
    let message = good(Voice::Messages);
    let setting = Setting::new().up("alias", Voice::Chat, &upstream).up("other", Voice::Messages, &message);
    let case = setting.start();
    let port = canary.addr.port();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "0",
        "127.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "127.0.0.1.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "user@127.0.0.1",
        "127.0.0.1%23@example.com",
        "127。0。0。1",
    ];
    let mut count = 0;
    for host in hosts {
        let url = format!("http://{host}:{port}/canary");
        let parts = json!([
            {"type": "text", "text": url},
            {"type": "image_url", "image_url": {"url": url}},
        ]);
        for model in ["alias", "other"] {
            let asked = json!({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": parts}],
                "webhook": url, "callback_url": url, "api_base": url, "base_url": url, "metadata": {"url": url}});
            let bearer = format!("Bearer {SECRET}");
            let headers = [
                ("authorization", bearer.as_str()),
                ("x-api-base", &url),
                ("x-base-url", &url),
                ("connection", "close"),
            ];
            client::post(case.gateway.data, "/v1/chat/completions", &headers, asked.to_string());
            count += 1;
        }
        let message = json!({"model": "alias", "max_tokens": 9, "messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "url", "url": url}}, {"type": "document", "source": {"type": "url", "url": url}}]}]});
        let _ = case.gateway.chat_with(&[("x-upstream", &url)], message.to_string());
        let bearer = format!("Bearer {SECRET}");
        client::post(
            case.gateway.data,
            "/v1/messages",
            &[("authorization", &bearer), ("connection", "close")],
            message.to_string(),
        );
        count += 2;
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(canary.count(), 0, "somebody was asked");
    // Providers are given the address as it was written, and ask for themselves.
    let seen = upstream.attempts();
    assert!(seen.iter().all(|attempt| attempt.path == "/v1/chat/completions"), "no other path at the provider");
    figure("I-14", &format!("{count} calls that name {} forms of a local address: 0 asked by us", hosts.len()));
    over(case);
}

/// One caller of many dialects may not see another's reading of a body: the same for each.
#[test]
fn i_03_every_dialect_refuses_what_stands_twice() {
    let upstream = good(Voice::Chat);
    let case = case(&upstream);
    for (path, text) in [
        ("/v1/messages", r#"{"model":"alias","model":"b","max_tokens":5,"messages":[{"role":"user","content":"x"}]}"#),
        ("/v1/responses", r#"{"model":"alias","input":"x","model":"b"}"#),
        ("/v1/completions", r#"{"model":"alias","prompt":"x","prompt":"y"}"#),
        ("/v1beta/models/alias:generateContent", r#"{"contents":[{"parts":[{"text":"x"}]}],"contents":[]}"#),
    ] {
        let bearer = format!("Bearer {SECRET}");
        let got = client::post(case.gateway.data, path, &[("authorization", &bearer), ("connection", "close")], text);
        assert_eq!(got.status, 400, "{path}: {got}");
    }
    assert_eq!(upstream.count(), 0);
    // And the caller's own way of asking is judged like any other.
    assert!(case.ask(Caller::Chat, "alias", false).got.status == 200);
    over(case);
}
