//! The sixteen scenarios by which failover of gateways has been scored: a primary that fails in one way, a fallback
//! that is well. Passed is: the caller gets a whole answer, or, where no answer can be had or a stream has begun, a
//! truthful error in good time; never half an answer as a whole one.

use std::time::Duration;

use super::case::{ANSWER, Case, Outcome, QUICK, Setting, Told, failure, figure, good, words};
use crate::callers::Caller;
use crate::gateway::{PROVIDER_KEY, free_port};
use crate::upstream::{Reply, Step, Upstream};
use crate::voices::Voice;

const CALLERS: [Caller; 4] = [Caller::Chat, Caller::Responses, Caller::Messages, Caller::Gemini];

fn chained<'u>(one: &'u Upstream, two: &'u Upstream) -> Setting<'u> {
    Setting::new().up("alias", Voice::Chat, one).up("backup", Voice::Messages, two).chain()
}

/// Every caller, streaming and not, gets the whole answer of the fallback.
#[track_caller]
fn rescued(case: &Case<'_>, attempts: usize, longest: Duration) {
    for caller in CALLERS {
        for stream in [false, true] {
            let told = case.ask(caller, "alias", stream);
            told.whole_from("backup", attempts);
            assert!(told.took < longest, "{caller:?}: {:?}", told.took);
            case.keep(told);
        }
    }
}

fn pass(number: usize, what: &str) {
    figure(&format!("S{number:02}"), what);
}

/// What is said before a stream ends so.
fn after_two_words(end: &[Step]) -> Upstream {
    let (before, spoken, _) = Voice::Chat.frames(&words());
    let begun = before.into_iter().chain(spoken.into_iter().take(2)).map(Step::Bytes);
    Upstream::always(Voice::Chat.steps(begun.chain([Step::Sleep(60)]).chain(end.iter().cloned()).collect()))
}

/// A stream that has begun is never patched with another answer: it ends in an error event, in good time.
#[track_caller]
fn broken(case: &Case<'_>, two: &Upstream) {
    for caller in CALLERS {
        let told = case.ask(caller, "alias", true);
        assert_eq!(told.broken(), "one two ");
        assert!(told.took < Duration::from_secs(3), "{caller:?}: {:?}", told.took);
        case.keep(told);
    }
    assert_eq!(two.count(), 0);
}

#[test]
fn s01_connection_refused() {
    let two = good(Voice::Messages);
    let case = Setting::new().nowhere("alias", Voice::Chat, &format!("127.0.0.1:{}", free_port()));
    let case = case.up("backup", Voice::Messages, &two).chain().start();
    rescued(&case, 2, Duration::from_millis(500));
    case.close();
    pass(1, "connection refused: 8 of 8 rescued");
}

#[test]
fn s02_reset_before_an_answer() {
    let (one, two) = (Upstream::always(Reply::instead(Step::Reset)), good(Voice::Messages));
    let case = chained(&one, &two).start();
    rescued(&case, 2, Duration::from_millis(500));
    case.close();
    pass(2, "reset before an answer: 8 of 8 rescued");
}

#[test]
fn s03_server_errors() {
    for status in [500, 502, 503, 504, 529] {
        let (one, two) = (Upstream::always(failure(Voice::Chat, status, "no", "no")), good(Voice::Messages));
        let case = chained(&one, &two).start();
        rescued(&case, 2, Duration::from_millis(500));
        case.close();
    }
    pass(3, "500, 502, 503, 504, 529: 40 of 40 rescued");
}

#[test]
fn s04_rate_limited_with_a_time() {
    let limited = failure(Voice::Chat, 429, "rate_limit_exceeded", "slow down").header("retry-after", "30");
    let (one, two) = (Upstream::always(limited), good(Voice::Messages));
    let case = chained(&one, &two).start();
    let told = case.chat("alias");
    told.whole_from("backup", 2);
    case.keep(told);
    // It has said when to come back: until then it is left alone.
    rescued(&case, 1, Duration::from_millis(500));
    assert_eq!(one.count(), 1);
    case.close();
    pass(4, "429 with Retry-After: 9 of 9 rescued, the limited provider asked once");
}

#[test]
fn s05_a_dead_key() {
    let (one, two) = (Upstream::always(failure(Voice::Chat, 401, "invalid_api_key", "bad key")), good(Voice::Messages));
    let case = chained(&one, &two).start();
    rescued(&case, 2, Duration::from_millis(500));
    case.close();
    // With another key at the same provider the fallback is not needed.
    let one =
        Upstream::start(|attempt| match attempt.header("authorization").is_some_and(|key| key.contains("dead")) {
            true => failure(Voice::Chat, 401, "invalid_api_key", "bad key"),
            false => Voice::Chat.good(attempt, ANSWER),
        });
    let keys = format!("api_keys: [\"sk-dead\", \"{PROVIDER_KEY}\"]");
    let case = Setting::new().up("alias", Voice::Chat, &one).replacing(&format!("api_key: \"{PROVIDER_KEY}\""), &keys);
    let case = case.start();
    for _ in 0..8 {
        let told = case.chat("alias");
        assert_eq!(told.outcome, Outcome::Whole, "{}", told.got);
        case.keep(told);
    }
    case.close();
    pass(5, "a dead key: 8 of 8 rescued by the fallback, 8 of 8 by another key");
}

#[test]
fn s06_a_provider_that_hangs() {
    let (one, two) = (Upstream::always(Reply::instead(Step::Hang)), good(Voice::Messages));
    let case = chained(&one, &two).start();
    rescued(&case, 2, Duration::from_secs(3));
    assert_eq!(one.count(), 8, "one attempt a call");
    case.close();
    pass(6, "a provider that hangs: 8 of 8 rescued after its limit of 1 s");
}

#[test]
fn s07_a_slow_first_token() {
    let (before, spoken, after) = Voice::Chat.frames(&words());
    let late = [Step::Sleep(5_000)].into_iter().chain([spoken, after].concat().into_iter().map(Step::Bytes));
    let one = Upstream::always(Voice::Chat.steps(before.into_iter().map(Step::Bytes).chain(late).collect()));
    let two = good(Voice::Messages);
    let case = chained(&one, &two).start();
    for caller in CALLERS {
        let told = case.ask(caller, "alias", true);
        told.whole_from("backup", 2);
        assert!(told.took < Duration::from_secs(3), "{:?}", told.took);
        case.keep(told);
    }
    case.close();
    pass(7, "first token after 5 s: 4 of 4 rescued after the limit of 1 s");
}

#[test]
fn s08_a_stream_cut_in_the_middle() {
    for end in [vec![Step::Close], vec![Step::Reset], vec![]] {
        let (one, two) = (after_two_words(&end), good(Voice::Messages));
        let case = chained(&one, &two).start();
        broken(&case, &two);
        case.close();
    }
    pass(8, "a stream cut in the middle: 12 of 12 end in an error event, 0 given as whole");
}

#[test]
fn s09_a_stream_that_stalls_in_the_middle() {
    let (one, two) = (after_two_words(&[Step::Hang]), good(Voice::Messages));
    let case = chained(&one, &two).start();
    broken(&case, &two);
    case.close();
    pass(9, "a stream that stalls: 4 of 4 end in an error event after the idle limit");
}

#[test]
fn s10_malformed_chunks() {
    for bad in [
        Step::Bytes(b"data: {\"choices\":[{\"index\":0,\"del\n\n".to_vec()),
        Step::Bytes(b"data: <html>\n\n".to_vec()),
        Step::Bytes(b"data: {\"x\":\"\xff\xfe\"}\n\n".to_vec()),
        Step::Raw(b"zz\r\nnot a chunk".to_vec()),
    ] {
        // After content.
        let (one, two) = (after_two_words(&[bad.clone(), Step::Sleep(60), Step::Close]), good(Voice::Messages));
        let case = chained(&one, &two).start();
        broken(&case, &two);
        case.close();
        // Before any.
        let one = Upstream::always(Voice::Chat.steps(vec![bad, Step::Sleep(60), Step::Close]));
        let case = chained(&one, &two).start();
        for caller in CALLERS {
            let told = case.ask(caller, "alias", true);
            told.whole_from("backup", 2);
            case.keep(told);
        }
        case.close();
    }
    pass(10, "malformed chunks: 16 of 16 rescued before content, 16 of 16 end in an error event after it");
}

#[test]
fn s11_an_error_in_the_place_of_an_answer() {
    let error = r#"{"error":{"message":"no","type":"server_error","param":null,"code":null}}"#;
    for reply in [
        Reply::json(200, error),
        Reply::new(200, "text/html", "<html>Log in first</html>"),
        Reply::json(200, ""),
        Voice::Chat.stream([Voice::Chat.failure()]),
        Voice::Chat.stream([]),
    ] {
        let (one, two) = (Upstream::always(reply), good(Voice::Messages));
        let case = chained(&one, &two).start();
        rescued(&case, 2, Duration::from_secs(2));
        case.close();
    }
    pass(11, "200 with an error, a page, nothing, an error event, no event: 40 of 40 rescued");
}

#[test]
fn s12_a_prompt_too_long_for_the_model() {
    let code = "context_length_exceeded";
    let long = failure(Voice::Chat, 400, code, "This model's maximum context length is 8192 tokens.");
    let (one, two) = (Upstream::always(long.clone()), good(Voice::Messages));
    let case = chained(&one, &two).start();
    for caller in CALLERS {
        let told = case.ask(caller, "alias", true);
        match &told.outcome {
            // Another model may have room for it; the same one has not.
            Outcome::Whole => told.whole_from("backup", 2),
            _ => assert!(told.refused(400).contains("maximum context length"), "{}", told.got),
        }
        case.keep(told);
    }
    assert_eq!(one.count(), 4, "never twice at the same model");
    case.close();
    pass(12, "context length: one attempt at the model that is too small");
}

#[test]
fn s13_a_content_filter() {
    let reason = "Your request was rejected as a result of our safety system.";
    let (one, two) =
        (Upstream::always(failure(Voice::Chat, 400, "content_policy_violation", reason)), good(Voice::Messages));
    let case = chained(&one, &two).start();
    for caller in CALLERS {
        let told = case.ask(caller, "alias", true);
        assert_eq!(told.refused(400), reason);
        case.keep(told);
    }
    assert_eq!((one.count(), two.count()), (4, 0), "not gone around unless that is asked for");
    case.close();
    pass(13, "a content filter: its reason told, 4 of 4, one attempt each");
}

#[test]
fn s14_an_error_event_in_the_middle() {
    let (one, two) = (after_two_words(&[Step::Bytes(Voice::Chat.failure())]), good(Voice::Messages));
    let case = chained(&one, &two).start();
    broken(&case, &two);
    case.close();
    pass(14, "an error event in the middle: 4 of 4 told in the caller's own protocol");
}

#[test]
fn s15_down_and_up_again() {
    let down = failure(Voice::Chat, 503, "down", "down");
    let (one, two) = (Upstream::always(down), good(Voice::Messages));
    let more = QUICK.replace("failures: 1000", "failures: 3, cooldown: 1s");
    let case = chained(&one, &two).more(&more).start();
    for _ in 0..20 {
        let told = case.chat("alias");
        assert_eq!(told.got.header("x-portolan-model"), Some("backup"), "{}", told.got);
        case.keep(told);
    }
    let probes = one.count();
    assert!(probes < 10, "a failing provider was asked {probes} times for 20 calls");
    one.set(|attempt| Voice::Chat.good(attempt, ANSWER));
    let up = std::time::Instant::now();
    loop {
        let told: Told = case.chat("alias");
        assert_eq!(told.outcome, Outcome::Whole, "{}", told.got);
        let back = told.got.header("x-portolan-model") == Some("alias");
        case.keep(told);
        if back {
            break;
        }
        assert!(up.elapsed() < Duration::from_secs(5), "not back after {:?}", up.elapsed());
        std::thread::sleep(Duration::from_millis(50));
    }
    pass(
        15,
        &format!(
            "down: 20 of 20 served by the fallback, {probes} attempts at the one that is down; back after {:?}",
            up.elapsed()
        ),
    );
    case.close();
}

#[test]
fn s16_all_down() {
    let (one, two) = (
        Upstream::always(failure(Voice::Chat, 503, "down", "the first is down")),
        Upstream::always(failure(Voice::Messages, 529, "overloaded_error", "the second is down")),
    );
    let case = chained(&one, &two).start();
    for caller in CALLERS {
        for stream in [false, true] {
            let told = case.ask(caller, "alias", stream);
            let status = told.got.status;
            assert!((500..=599).contains(&status), "{}", told.got);
            assert!(told.refused(status).contains("is down"), "{}", told.got);
            assert!(told.took < Duration::from_secs(1), "{:?}", told.took);
            case.keep(told);
        }
    }
    assert_eq!((one.count(), two.count()), (8, 8));
    case.close();
    pass(16, "all down: 8 of 8 told at once, by an error of their own protocol");
}
