//! streams that break, stall, drip, or are no streams.

use std::time::Duration;

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
