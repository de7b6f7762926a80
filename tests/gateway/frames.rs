//! What providers send that is no answer, for each framing: never success, and told as what it is.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use portolan::wire::eventstream;
use serde_json::json;

use super::callers::Caller;
use super::gateway::Gateway;
use super::upstream::{Framing, Reply, Step, Upstream};
use super::voices::{self, VOICES, Voice};

const ASKING: [Caller; 4] = [Caller::Chat, Caller::Responses, Caller::Messages, Caller::Array];

/// A bad answer, and the callers' call, for failing over and for failing.
#[track_caller]
fn refused(what: &str, voice: Voice, stream: bool, reply: &Reply) {
    let one = Upstream::always(reply.clone());
    let two = voices::upstream(voice, "rescue");
    let rows = [("alias", voice, &one, ""), ("backup", voice, &two, "")];
    let gateway = Gateway::start(&voices::config(&rows, "retry: { tries: 1, failures: 1000 }\n"));
    for caller in ASKING {
        let what = format!("{what}: {caller:?} to {voice:?}, stream: {stream}");
        let got = caller.ask(&gateway, "alias", "x", stream);
        assert!(matches!(got.status, 500..=504), "{what}: {got}");
        caller.refusal(&got, got.status);
        let mut body = caller.body("alias", "x", stream);
        body["fallback"] = json!(["backup"]);
        let got = caller.send(&gateway, &caller.path("alias", stream), body.to_string());
        assert_eq!(caller.said(&got, stream), "rescue", "{what}: {got}");
        assert_eq!(got.header("x-portolan-attempts"), Some("2"), "{what}: {got}");
    }
    // Anthropic reports a token before its first word: each of the eight that broke may have that one.
    let output = gateway.settled(12)["output_tokens"].as_u64().unwrap();
    let least = 4 * voices::OUTPUT_TOKENS;
    assert!((least..=least + 8).contains(&output), "{what}: {output}");
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn flipped(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 1;
    bytes
}

#[test]
fn whole_answers_that_are_none() {
    for voice in VOICES {
        let good = voice.answer("fine").to_string();
        let half = &good[..good.len() / 2];
        for (what, reply) in [
            ("half", Reply::json(200, half)),
            ("a page", Reply::new(200, "text/html", "<html><body>Bad gateway</body></html>")),
            ("a page that claims to be JSON", Reply::json(200, "<html>")),
            ("nothing", Reply::json(200, "")),
            ("an array", Reply::json(200, "[]")),
            ("an empty object", Reply::json(200, "{}")),
            ("another thing", Reply::json(200, "{\"status\":\"ok\"}")),
            ("packed", Reply::json(200, packed(good.as_bytes())).header("content-encoding", "gzip")),
            ("packed in silence", Reply::json(200, packed(good.as_bytes()))),
            ("cut", Reply::json(200, good.as_str()).framing(Framing::Length(Some(good.len() + 5))).then(Step::Close)),
            ("no UTF-8", Reply::json(200, [good.replace("fine", "\u{1}").as_bytes(), b"\xff"].concat())),
        ] {
            refused(what, voice, false, &reply);
        }
    }
}

#[test]
fn streams_that_are_none() {
    for voice in VOICES {
        let frames = voice.streamed(&["fine"]);
        let (before, ..) = voice.frames(&[]);
        let all = frames.concat();
        let mut cases = vec![
            ("a page", Reply::new(200, "text/html", "<html><body>Bad gateway</body></html>")),
            ("nothing", voice.stream([])),
            ("packed", voice.stream([packed(&all)]).header("content-encoding", "gzip")),
            ("packed in silence", voice.stream([packed(&all)])),
            ("what comes before the words, alone", voice.stream(before.clone())),
            ("a failure at once", voice.stream([voice.failure()])),
            ("a failure before the words", voice.stream(before.into_iter().chain([voice.failure()]))),
        ];
        match voice {
            Voice::Bedrock => cases.extend([
                ("lengths with a bad checksum", voice.stream([flipped(all.clone(), 9)])),
                ("a message with a bad checksum", voice.stream([flipped(all.clone(), 40)])),
                ("half a message", voice.stream([all[..30].to_vec()])),
                ("text", voice.stream([b"data: {}\n\n".to_vec()])),
                ("a giant", voice.stream([giant()])),
            ]),
            Voice::Ollama => cases.extend([
                ("no JSON", voice.stream([b"<html>\n".to_vec()])),
                ("half a line", voice.stream([b"{\"model\":\"real\",\"mess".to_vec()])),
                ("no UTF-8", voice.stream([b"{\"model\":\"\xff\"}\n".to_vec()])),
            ]),
            _ => cases.extend([
                ("no JSON", voice.stream([b"data: <html>\n\n".to_vec()])),
                ("half an event", voice.stream([b"data: {\"choices\":[{\"ind".to_vec()])),
                ("no UTF-8", voice.stream([b"data: {\"x\":\"\xff\"}\n\n".to_vec()])),
            ]),
        }
        for (what, reply) in cases {
            refused(what, voice, true, &reply);
        }
    }
}

/// A message that says it is 2 GB long, with a checksum that says so too.
fn giant() -> Vec<u8> {
    let mut message = Vec::new();
    eventstream::write_event(&mut message, "messageStart", b"{}");
    message[..4].copy_from_slice(&0x8000_0000_u32.to_be_bytes());
    let sum = crc32fast::hash(&message[..8]);
    message[8..12].copy_from_slice(&sum.to_be_bytes());
    message
}

#[test]
fn streams_that_break_after_a_word() {
    for voice in VOICES {
        let (before, words, after) = voice.frames(&["one ", "two "]);
        let begun: Vec<u8> = before.into_iter().chain(words).flatten().collect();
        let all = voice.streamed(&["one ", "two ", "three "]).concat();
        let bad = match voice {
            Voice::Bedrock => flipped(all[begun.len()..].to_vec(), 40),
            Voice::Ollama => b"<html>\n".to_vec(),
            _ => b"data: <html>\n\n".to_vec(),
        };
        for (what, end) in [
            ("no end", vec![]),
            ("closed", vec![Step::Close]),
            ("reset", vec![Step::Reset]),
            ("half a frame", vec![Step::Bytes(after[0][..after[0].len() / 2].to_vec())]),
            ("a bad frame", vec![Step::Bytes(bad)]),
            ("packed", vec![Step::Bytes(packed(&after.concat()))]),
            ("a failure", vec![Step::Bytes(voice.failure())]),
        ] {
            let steps = [Step::Bytes(begun.clone()), Step::Sleep(60)];
            let one = Upstream::always(voice.steps(steps.into_iter().chain(end).collect()));
            let two = voices::upstream(voice, "rescue");
            let rows = [("alias", voice, &one, ""), ("backup", voice, &two, "")];
            let gateway = Gateway::start(&voices::config(&rows, "retry: { tries: 1, failures: 1000 }\n"));
            for caller in ASKING {
                let what = format!("{what}: {caller:?} to {voice:?}");
                let mut body = caller.body("alias", "x", true);
                body["fallback"] = json!(["backup"]);
                let got = caller.send(&gateway, &caller.path("alias", true), body.to_string());
                assert!(got.text().contains("one ") && !got.text().contains("rescue"), "{what}: {got}");
                caller.last_error(&got);
            }
            assert_eq!((one.count(), two.count()), (4, 0), "{what}");
            let total = gateway.settled(4);
            assert_eq!(total["errors"], 4, "{what} from {voice:?}: {total}");
            assert!(total["output_tokens"].as_u64().unwrap() > 0, "{what} from {voice:?}: {total}");
        }
    }
}
