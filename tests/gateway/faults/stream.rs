//! A-8 to A-13: streams that break, stall, drip, or are no streams.

use std::time::Duration;

use super::books::rss;
use super::case::{Outcome, QUICK, Setting, figure, good, words};
use crate::callers::Caller;
use crate::upstream::{Framing, Reply, Step, Upstream};
use crate::voices::{VOICES, Voice};

/// Long enough that what was sent before has been handed on.
const APART: Step = Step::Sleep(60);

/// The callers that a provider's stream is judged by: of its own dialect, and of another.
fn callers(voice: Voice) -> [Caller; 2] {
    match voice {
        Voice::Chat => [Caller::Chat, Caller::Messages],
        Voice::Responses => [Caller::Responses, Caller::Chat],
        Voice::Messages => [Caller::Messages, Caller::Responses],
        Voice::Gemini => [Caller::Gemini, Caller::Array],
        Voice::Bedrock | Voice::Cohere | Voice::Ollama => [Caller::Chat, Caller::Gemini],
    }
}

/// A stream that ends so after that many words; without any words, before anything that could be called content.
fn cut(voice: Voice, after: usize, end: &[Step]) -> Reply {
    let (before, spoken, _) = voice.frames(&words());
    let mut steps: Vec<_> = before.into_iter().chain(spoken.into_iter().take(after)).map(Step::Bytes).collect();
    steps.push(APART);
    steps.extend(end.iter().cloned());
    voice.steps(steps)
}

/// Ways in which a connection is lost.
fn cuts() -> Vec<(&'static str, Framing, Vec<Step>)> {
    vec![
        ("closed", Framing::Chunked, vec![Step::Close]),
        ("reset", Framing::Chunked, vec![Step::Reset]),
        ("a chunk not ended", Framing::Chunked, vec![Step::Raw(b"40\r\ndata: {".to_vec()), Step::Close]),
        ("ended in order", Framing::Chunked, vec![]),
        ("ended by close", Framing::Close, vec![]),
        ("short of its length", Framing::Length(Some(1_000_000)), vec![Step::Close]),
    ]
}

#[test]
fn a_08_a_stream_cut_short_is_never_given_as_whole() {
    let (mut cut_streams, mut rescued, mut told_broken) = (0, 0, 0);
    for voice in VOICES {
        let (one, two) = (Upstream::always(Reply::json(500, "{}")), good(voice));
        let case = Setting::new().up("alias", voice, &one).up("backup", voice, &two).chain().start();
        let whole = words().len();
        for after in [0, 1, whole - 1, whole] {
            for (what, framing, end) in cuts() {
                one.set_reply(cut(voice, after, &end).framing(framing));
                for caller in callers(voice) {
                    let what = format!("{caller:?} to {voice:?}, {what} after {after} of {whole} words");
                    let asked = two.count();
                    let told = case.ask(caller, "alias", true);
                    cut_streams += 1;
                    match &told.outcome {
                        Outcome::Whole => {
                            told.whole_from("backup", 2);
                            rescued += 1;
                        }
                        Outcome::Broken(said) => {
                            assert!(after > 0, "{what}: nothing was said yet: {}", told.got);
                            assert_eq!(*said, words()[..after].concat(), "{what}");
                            assert_eq!(two.count(), asked, "{what}: two answers were mixed");
                            told_broken += 1;
                        }
                        Outcome::Refused(..) => panic!("{what}: {}", told.got),
                    }
                    case.keep(told);
                }
            }
        }
        case.close();
    }
    figure(
        "A-8",
        &format!(
            "{cut_streams} cut streams: 0 truncated answers given as whole (<= {:.1} % at 95 %), {rescued} rescued, \
             {told_broken} ended in an error event",
            300.0 / f64::from(cut_streams)
        ),
    );
}

#[test]
fn a_08_a_stream_that_is_lost_behind_its_end_is_whole() {
    let mut streams = 0;
    for voice in VOICES {
        let one = Upstream::always(Reply::json(500, "{}"));
        let case = Setting::new().up("alias", voice, &one).start();
        let pieces: Vec<_> = voice.streamed(&words()).into_iter().map(Step::Bytes).collect();
        for apart in [0, 60] {
            for end in [Step::Close, Step::Reset, Step::Raw(b"zz\r\n".to_vec()), Step::Hang] {
                let mut reply = voice.steps(pieces.clone());
                reply.steps.extend([Step::Sleep(apart), end.clone(), Step::Close]);
                one.set_reply(reply);
                for caller in callers(voice) {
                    let told = case.ask(caller, "alias", true);
                    let resets = matches!(end, Step::Reset) && apart == 0;
                    // Gemini has no event that says that nothing follows, other than the end itself.
                    let unsure = voice == Voice::Gemini && caller != Caller::Gemini;
                    // A reset may overtake what was sent before it.
                    if !(resets || unsure) || told.outcome == Outcome::Whole {
                        assert_eq!(told.outcome, Outcome::Whole, "{caller:?} to {voice:?}, {end:?}: {}", told.got);
                        streams += 1;
                    }
                    case.keep(told);
                }
            }
        }
        case.close();
    }
    figure(
        "A-8",
        &format!("{streams} streams lost between their last event and the end of their body: all given as whole"),
    );
}

#[test]
fn a_08_a_whole_answer_cut_short_goes_to_the_fallback() {
    let mut cut_answers = 0;
    for voice in VOICES {
        let body = voice.answer(super::case::ANSWER).to_string().into_bytes();
        let (one, two) = (Upstream::always(Reply::json(500, "{}")), good(voice));
        let case = Setting::new().up("alias", voice, &one).up("backup", voice, &two).chain().start();
        for at in [1, body.len() / 2, body.len() - 1] {
            for (_, framing, end) in cuts() {
                let mut reply = Reply::json(200, &body[..at]).framing(framing);
                reply.steps.extend(end);
                one.set_reply(reply);
                let told = case.ask(callers(voice)[0], "alias", false);
                told.whole_from("backup", 2);
                case.keep(told);
                cut_answers += 1;
            }
        }
        case.close();
    }
    figure("A-8", &format!("{cut_answers} whole answers cut short: all rescued"));
}

#[test]
fn a_09_a_stream_that_stands_still_is_given_up_when_its_time_is_over() {
    for voice in [Voice::Chat, Voice::Messages, Voice::Gemini, Voice::Bedrock] {
        let (one, two) = (Upstream::always(cut(voice, 2, &[Step::Hang])), good(voice));
        let case = Setting::new().up("alias", voice, &one).up("backup", voice, &two).chain().start();
        for caller in callers(voice) {
            let before = super::books::cpu(case.gateway.pid());
            let told = case.ask(caller, "alias", true);
            let busy = super::books::cpu(case.gateway.pid()) - before;
            assert_eq!(told.broken(), "one two ");
            assert!((Duration::from_millis(500)..Duration::from_secs(3)).contains(&told.took), "{:?}", told.took);
            figure(
                "A-9",
                &format!(
                    "{caller:?} to {voice:?}: idle limit 600 ms, told after {:?}, {busy:?} of processor time",
                    told.took
                ),
            );
            case.keep(told);
        }
        assert_eq!(two.count(), 0);
        one.wait("its peer leaving", Duration::from_secs(3), |seen| seen.iter().all(|attempt| attempt.gone.is_some()));
        case.close();
    }
}

#[test]
fn a_10_a_drip_below_the_idle_limit_ends_with_the_calls_deadline() {
    for voice in [Voice::Chat, Voice::Messages, Voice::Gemini] {
        let (before, spoken, _) = voice.frames(&["on "]);
        let drip = (0..200).flat_map(|_| [Step::Sleep(300), Step::Bytes(spoken[0].clone())]);
        let one = Upstream::always(voice.steps(before.into_iter().map(Step::Bytes).chain(drip).collect()));
        let case = Setting::new().up("alias", voice, &one).more(&QUICK.replace("total: 8s", "total: 2s")).start();
        let told = case.ask(callers(voice)[0], "alias", true);
        assert!(told.broken().starts_with("on on "), "{}", told.got);
        assert!((Duration::from_millis(1_900)..Duration::from_secs(4)).contains(&told.took), "{:?}", told.took);
        figure(
            "A-10",
            &format!("{voice:?}: a word each 300 ms, idle limit 600 ms, deadline 2 s: ended after {:?}", told.took),
        );
        case.keep(told);
        one.wait_gone(Duration::from_secs(3));
        case.close_but(|_| true);
    }
}

#[test]
fn a_11_malformed_and_giant_events_are_bounded() {
    for (voice, caller) in
        [(Voice::Chat, Caller::Chat), (Voice::Messages, Caller::Chat), (Voice::Gemini, Caller::Messages)]
    {
        let one = Upstream::always(Reply::json(500, "{}"));
        let more = format!("{}limits: {{ event_bytes: 2MiB }}\n", QUICK.replace("idle: 600ms", "idle: 5s"));
        let case = Setting::new().up("alias", voice, &one).more(&more).start();
        let (before, spoken, after) = voice.frames(&words());
        let begun = |more: Vec<Step>| {
            let steps = before.iter().chain(spoken.iter().take(2)).cloned().map(Step::Bytes);
            voice.steps(steps.chain([APART]).chain(more).collect())
        };
        // Not JSON, half an event and silence, an event that never ends: told, and nothing of it passed on.
        let piece = Step::Bytes(vec![b'x'; 1 << 20]);
        for (what, end) in [
            ("no JSON", vec![Step::Bytes(b"data: {\"a\":\n\n".to_vec()), APART]),
            ("half an event", vec![Step::Bytes(b"data: {\"choices\":[{\"ind".to_vec()), Step::Close]),
            ("64 MiB", [vec![Step::Bytes(b"data: {\"x\":\"".to_vec())], vec![piece; 64]].concat()),
        ] {
            one.set_reply(begun(end));
            let at_first = rss(case.gateway.pid());
            let told = case.ask(caller, "alias", true);
            assert_eq!(told.broken(), "one two ", "{what}");
            let grown = rss(case.gateway.pid()).saturating_sub(at_first);
            assert!(grown < 65_536, "{what}: {grown} KiB");
            figure("A-11", &format!("{caller:?} to {voice:?}, {what}: an error event, memory grew by {grown} KiB"));
            case.keep(told);
        }
        // A comment of a megabyte is no event too large, and the usage behind it is found.
        let comment = [b": ".to_vec(), vec![b'x'; 1 << 20], b"\n\n".to_vec()].concat();
        let all = [before, spoken, vec![comment], after].concat();
        one.set_reply(voice.stream(all));
        let told = case.ask(caller, "alias", true);
        told.whole_from("alias", 1);
        let number = told.number;
        case.keep(told);
        let books = case.close();
        assert!(!books.call(number)[0].estimated, "{:?}", books.call(number));
    }
}

#[test]
fn a_12_a_stream_is_the_same_wherever_it_is_split() {
    let every = if super::scaled(2) > 2 { 1 } else { 4 };
    for (voice, caller) in [
        (Voice::Chat, Caller::Chat),
        (Voice::Chat, Caller::Messages),
        (Voice::Messages, Caller::Messages),
        (Voice::Messages, Caller::Chat),
        (Voice::Gemini, Caller::Gemini),
        (Voice::Responses, Caller::Responses),
        (Voice::Bedrock, Caller::Chat),
    ] {
        let mut bytes = voice.streamed(&words()).concat();
        if voice != Voice::Bedrock {
            // Comments, both kinds of line ends, characters of several bytes, before the first event.
            bytes = [": grüß 世界 \u{1f30d}\n\n:\r\n\r\n".as_bytes(), &bytes].concat();
        }
        let one = Upstream::always(voice.stream([bytes.clone()]));
        let case = Setting::new().up("alias", voice, &one).start();
        // What is made anew for each call: our own id, and the time.
        let same = |told: &super::case::Told| {
            let id = told.got.header("x-portolan-request-id").unwrap_or("-").to_owned();
            let text = told.got.text().replace(&id, "ID").replace(&id.replace('-', ""), "ID");
            ["\"created_at\":", "\"created\":"].into_iter().fold(text, |text, name| {
                let parts: Vec<_> =
                    text.split(name).map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit())).collect();
                parts.join(name)
            })
        };
        let told = case.ask(caller, "alias", true);
        told.whole_from("alias", 1);
        let expected = same(&told);
        case.keep(told);
        let mut runs = 0;
        for at in (1..bytes.len()).step_by(every) {
            let (left, right) = bytes.split_at(at);
            one.set_reply(voice.steps(vec![Step::Bytes(left.to_vec()), Step::Sleep(1), Step::Bytes(right.to_vec())]));
            let told = case.ask(caller, "alias", true);
            assert_eq!(told.outcome, Outcome::Whole, "split at {at}");
            assert_eq!(same(&told), expected, "{caller:?} to {voice:?}, split at {at}");
            runs += 1;
            case.keep(told);
        }
        // And byte by byte.
        one.set_reply(voice.steps(bytes.iter().map(|byte| Step::Bytes(vec![*byte])).collect()));
        let told = case.ask(caller, "alias", true);
        assert_eq!(same(&told), expected, "{caller:?} to {voice:?}, byte by byte");
        case.keep(told);
        figure(
            "A-12",
            &format!("{caller:?} to {voice:?}: {runs} splits of {} bytes: 0 differ, usage right in all", bytes.len()),
        );
        case.close();
    }
}

/// The usage frame of a chat completion's stream, with this in the place of its counts.
fn usage(counts: &str) -> Vec<u8> {
    format!("data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"real\",\"choices\":[],\"usage\":{counts}}}\n\n").into_bytes()
}

#[test]
fn a_13_odd_usage_is_settled_once_and_never_absurd() {
    let (before, spoken, after) = Voice::Chat.frames(&words());
    let (finish, done) = (after[0].clone(), after[2].clone());
    let content = [before, spoken, vec![finish]].concat();
    let good = r#"{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}"#;
    let early = r#"{"prompt_tokens":11,"completion_tokens":2,"total_tokens":13}"#;
    let one = Upstream::always(Reply::json(500, "{}"));
    let case = Setting::new().up("alias", Voice::Chat, &one).start();
    let said = words().len() as u64;
    // What follows the content, the tokens that are metered, whether that is an estimate.
    let reported = Some((11, 7, false));
    let rows = [
        ("as it should be", vec![usage(good), done.clone()], reported),
        ("twice", vec![usage(good), usage(good), done.clone()], reported),
        ("growing", vec![usage(early), usage(good), done.clone()], reported),
        ("missing", vec![done.clone()], None),
        ("null", vec![usage("null"), done.clone()], None),
        ("words behind the end", vec![usage(good), done.clone(), b"data: {\"choices\":[]}\n\n".to_vec()], reported),
        ("negative", vec![usage(r#"{"prompt_tokens":-11,"completion_tokens":-7}"#), done.clone()], None),
        (
            "2^63",
            vec![
                usage(r#"{"prompt_tokens":9223372036854775808,"completion_tokens":9223372036854775808}"#),
                done.clone(),
            ],
            None,
        ),
        ("1e300", vec![usage(r#"{"prompt_tokens":1e300,"completion_tokens":1e300}"#), done.clone()], None),
        ("text", vec![usage(r#"{"prompt_tokens":"many","completion_tokens":"more"}"#), done], None),
    ];
    let mut numbers = Vec::new();
    for (what, end, metered) in rows {
        one.set_reply(Voice::Chat.stream([content.clone(), end].concat()));
        let told = case.ask_with(Caller::Chat, "alias", true, |body| {
            // What of the usage frame a caller is shown is not what is looked at here.
            body.as_object_mut().unwrap().remove("stream_options");
        });
        assert_eq!(told.outcome, Outcome::Whole, "{what}: {}", told.got);
        numbers.push((what, told.number, metered));
        case.keep(told);
    }
    let books = case.close_but(|row| row.provider == "alias");
    for (what, number, metered) in numbers {
        let rows = books.call(number);
        assert_eq!(rows.len(), 1, "{what}: {rows:?}");
        let (input, output) = rows[0].tokens.unwrap_or_else(|| panic!("{what}: never zero, never no row: {rows:?}"));
        match metered {
            Some((right_input, right_output, estimated)) => {
                assert_eq!((input, output, rows[0].estimated), (right_input, right_output, estimated), "{what}")
            }
            None => {
                assert!(rows[0].estimated, "{what}: absurd or missing, and not marked as an estimate: {rows:?}");
                assert!(output.abs_diff(said) <= 2 && input < 1_000, "{what}: {rows:?}");
            }
        }
    }
    figure(
        "A-13",
        "10 kinds of usage (missing, twice, growing, negative, 2^63, text): 10 rows, each right or an estimate that says so",
    );
}
