//! A-14, A-17 to A-19, A-27: answers that are none, packed, huge, or whose heads are odd.

use std::io::Write as _;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::books::rss;
use super::case::{ANSWER, Outcome, QUICK, Setting, figure, good, words};
use crate::callers::Caller;
use crate::upstream::{Framing, Reply, Step, Upstream};
use crate::voices::{VOICES, Voice};

const CALLERS: [Caller; 4] = [Caller::Chat, Caller::Responses, Caller::Messages, Caller::Gemini];

#[test]
fn a_14_a_200_that_is_no_answer_is_gone_around() {
    let (mut all, mut rescued) = (0, 0);
    for voice in VOICES {
        let (one, two) = (Upstream::always(Reply::json(500, "{}")), good(voice));
        let case = Setting::new().up("alias", voice, &one).up("backup", voice, &two).chain().start();
        let page = "<!doctype html><p>Log in first";
        for (stream, reply) in [
            (false, Reply::json(200, r#"{"error":{"message":"no","type":"server_error","code":null}}"#)),
            (false, Reply::new(200, "text/html", page)),
            (false, Reply::json(200, page)),
            (false, Reply::json(200, "")),
            (false, Reply::json(200, "null")),
            (false, Reply::json(200, "{}")),
            (false, Reply::json(200, "[1,2,3]")),
            (true, Reply::json(200, r#"{"error":{"message":"no","type":"server_error","code":null}}"#)),
            (true, Reply::new(200, "text/html", page)),
            (true, voice.stream([])),
            (true, voice.stream([voice.failure()])),
            (true, voice.stream(voice.frames(&[]).0.into_iter().chain([voice.failure()]))),
        ] {
            one.set_reply(reply);
            for caller in CALLERS {
                let told = case.ask(caller, "alias", stream);
                all += 1;
                told.whole_from("backup", 2);
                rescued += 1;
                case.keep(told);
            }
        }
        case.close();
    }
    figure("A-14", &format!("{rescued} of {all} answers of 200 that were none: rescued"));
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The gateway asks for no encoding. What is packed all the same is no answer: it is gone around, and a caller is never
/// given bytes that nobody has read.
#[test]
fn a_17_answers_packed_unasked_are_gone_around() {
    let mut calls = 0;
    for voice in [Voice::Chat, Voice::Messages, Voice::Gemini] {
        let (one, two) = (Upstream::always(Reply::json(500, "{}")), good(voice));
        let case = Setting::new().up("alias", voice, &one).up("backup", voice, &two).chain().start();
        let whole = packed(voice.answer(ANSWER).to_string().as_bytes());
        let streamed = packed(&voice.streamed(&words()).concat());
        for coding in ["gzip", "br", "zstd"] {
            for (stream, kind, bytes) in [(false, "application/json", &whole), (true, voice.stream_type(), &streamed)] {
                // In pieces that end within the packed blocks.
                for size in [7, bytes.len()] {
                    let steps = bytes.chunks(size).map(|piece| Step::Bytes(piece.to_vec())).collect();
                    let reply = Reply { steps, framing: Framing::Chunked, ..Reply::new(200, kind, "") };
                    one.set_reply(reply.header("content-encoding", coding));
                    let told = case.ask(Caller::Chat, "alias", stream);
                    told.whole_from("backup", 2);
                    calls += 1;
                    case.keep(told);
                }
            }
        }
        let asked = |name| {
            one.attempts().iter().filter_map(|attempt| attempt.header(name).map(str::to_owned)).collect::<Vec<_>>()
        };
        assert!(asked("accept-encoding").iter().all(|coding| coding == "identity"), "{:?}", asked("accept-encoding"));
        case.close();
    }
    figure("A-17", &format!("{calls} answers packed unasked (gzip, br, zstd): all rescued, 0 passed on unread"));
}

#[test]
fn a_18_a_large_answer_is_metered_by_the_usage_at_its_end() {
    for (voice, caller) in
        [(Voice::Chat, Caller::Chat), (Voice::Messages, Caller::Chat), (Voice::Gemini, Caller::Messages)]
    {
        let one = Upstream::always(Reply::json(500, "{}"));
        let case = Setting::new().up("alias", voice, &one).more(&QUICK.replace("answer: 1s", "answer: 8s")).start();
        for kib in [512, 1_024, 8_192] {
            let mut body = voice.answer(ANSWER);
            // Members come in the order of their names: this one before the usage.
            body["padding"] = "x".repeat(kib * 1_024).into();
            let text = body.to_string();
            assert!(text.find("padding") < text.rfind("sage"), "usage is last");
            let pieces = text.as_bytes().chunks(64 * 1_024).map(|piece| Step::Bytes(piece.to_vec()));
            one.set_reply(Reply { steps: pieces.collect(), framing: Framing::Chunked, ..Reply::json(200, "") });
            let before = rss(case.gateway.pid());
            let told = case.ask(caller, "alias", false);
            told.whole_from("alias", 1);
            let grown = rss(case.gateway.pid()).saturating_sub(before);
            figure(
                "A-18",
                &format!("{caller:?} to {voice:?}: {kib} KiB, usage last: right; memory grew by {grown} KiB"),
            );
            assert!(grown < 16 * kib as u64 + 65_536, "{grown} KiB for an answer of {kib} KiB");
            case.keep(told);
        }
        let books = case.close();
        assert!(books.rows.iter().all(|row| row.tokens.is_some() && !row.estimated), "{:?}", books.rows);
    }
    // Larger than the operator allows: told, and not held in memory.
    let one = Upstream::start(|_| {
        let piece = Step::Bytes(vec![b' '; 1 << 20]);
        Reply { steps: vec![piece; 64], framing: Framing::Chunked, ..Reply::json(200, "") }
    });
    let more = format!("{}limits: {{ answer_bytes: 4MiB }}\n", QUICK.replace("answer: 1s", "answer: 8s"));
    let case = Setting::new().up("alias", Voice::Chat, &one).more(&more).start();
    let before = rss(case.gateway.pid());
    for caller in CALLERS {
        let told = case.ask(caller, "alias", false);
        assert!(told.refused(502).contains("larger"), "{}", told.got);
        case.keep(told);
    }
    let grown = rss(case.gateway.pid()).saturating_sub(before);
    assert!(grown < 65_536, "{grown} KiB");
    figure("A-18", &format!("64 MiB where 4 MiB are allowed: 4 of 4 refused, memory grew by {grown} KiB"));
    case.close();
}

#[test]
fn a_19_only_headers_that_are_listed_reach_the_caller() {
    let one = Upstream::start(|attempt| {
        Voice::Chat
            .good(attempt, ANSWER)
            .header("set-cookie", "session=stolen")
            .header("x-api-key", attempt.header("authorization").unwrap_or_default())
            .header("authorization", attempt.header("authorization").unwrap_or_default())
            .header("server", "vendor/1.2")
            .header("proxy-authenticate", "Basic")
            .header("keep-alive", "timeout=5")
            .header("connection", "x-secret")
            .header("x-secret", "1")
            .header("x-internal-host", "10.1.2.3")
            .header("x-request-id", "req_1")
            .header("x-ratelimit-remaining-requests", "59")
    });
    let case = Setting::new().up("alias", Voice::Chat, &one).start();
    for caller in CALLERS {
        for stream in [false, true] {
            let told = case.ask(caller, "alias", stream);
            told.whole_from("alias", 1);
            for name in [
                "set-cookie",
                "x-api-key",
                "authorization",
                "server",
                "proxy-authenticate",
                "keep-alive",
                "x-secret",
                "x-internal-host",
            ] {
                assert_eq!(told.got.header(name), None, "{}", told.got);
            }
            case.keep(told);
        }
    }
    case.close();

    // Heads that are no heads, or are too large: the fallback answers.
    let head = |more: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{more}content-length: 2\r\n\r\n{{}}")
    };
    let many: String = (0..300).map(|n| format!("x-{n}: 1\r\n")).collect();
    let heads = [
        ("300 headers", head(&many)),
        ("1 MiB", head(&format!("x-large: {}\r\n", "x".repeat(1 << 20)))),
        ("a control character", head("x-bad: a\u{1}b\r\n")),
        ("no colon", head("x-bad\r\n")),
        ("a space in a name", head("x bad: 1\r\n")),
        ("two lengths", head("content-length: 5\r\n")),
        ("no status", "HTTP/1.1\r\n\r\n".to_owned()),
        ("another protocol", "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned()),
        ("nothing of HTTP", "\u{0}\u{1}\u{2}\r\n\r\n".to_owned()),
    ];
    let (one, two) = (Upstream::always(Reply::json(500, "{}")), good(Voice::Messages));
    let case = Setting::new().up("alias", Voice::Chat, &one).up("backup", Voice::Messages, &two).chain().start();
    for (what, head) in &heads {
        one.set_reply(Reply {
            before_head: vec![Step::Bytes(head.clone().into_bytes()), Step::Close],
            ..Reply::json(200, "")
        });
        for stream in [false, true] {
            let told = case.ask(Caller::Chat, "alias", stream);
            assert_eq!(told.got.header("x-portolan-model"), Some("backup"), "{what}: {}", told.got);
            assert_eq!(told.outcome, Outcome::Whole, "{what}");
            case.keep(told);
        }
    }
    figure(
        "A-19",
        &format!(
            "8 headers of 8 withheld; {} odd heads: {} of {} rescued",
            heads.len(),
            2 * heads.len(),
            2 * heads.len()
        ),
    );
    case.close_but(|_| true);
}

#[test]
fn a_27_informational_answers_are_bounded_and_not_passed_on() {
    let early = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".to_vec();
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
    let many = [go_on, early.clone()].concat().repeat(20);
    let one = Upstream::start(move |attempt| {
        let mut reply = Voice::Chat.good(attempt, ANSWER);
        reply.before_head.push(Step::Bytes(many.clone()));
        reply
    });
    let two = good(Voice::Chat);
    let case = Setting::new().up("alias", Voice::Chat, &one).up("backup", Voice::Chat, &two).chain().start();
    for caller in CALLERS {
        for stream in [false, true] {
            let told = case.ask(caller, "alias", stream);
            told.whole_from("alias", 1);
            case.keep(told);
        }
    }
    // Without an end: given up like any other silence.
    let flood = many_steps(&early);
    one.set(move |_| Reply { before_head: flood.clone(), ..Reply::json(200, "") });
    for stream in [false, true] {
        let told = case.ask(Caller::Chat, "alias", stream);
        told.whole_from("backup", 2);
        assert!(told.took < Duration::from_secs(4), "{:?}", told.took);
        figure("A-27", &format!("1xx without end, stream: {stream}: rescued after {:?}", told.took));
        case.keep(told);
    }
    // A request never waits for a provider's 100-continue: it does not ask for one.
    assert!(one.attempts().iter().all(|attempt| attempt.header("expect").is_none()));
    case.close();
}

/// Some thousand interim heads, one each millisecond.
fn many_steps(head: &[u8]) -> Vec<Step> {
    (0..6_000).flat_map(|_| [Step::Bytes(head.to_vec()), Step::Sleep(1)]).collect()
}
