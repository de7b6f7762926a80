//! providers that refuse.

use std::time::{Duration, SystemTime};

use serde_json::json;

use super::case::{Setting, failure, figure, good};
use crate::callers::Caller;
use crate::gateway::PROVIDER_KEY;
use crate::upstream::{Reply, Upstream};
use crate::voices::Voice;

const RETRIES: &str = "retry: { tries: 3, pause: 40ms, max_pause: 200ms, failures: 1000 }\n\
    timeouts: { connect: 1s, first_byte: 2s, answer: 2s, idle: 1s, total: 8s }\n";

fn limited(voice: Voice) -> Reply {
    let code = match voice {
        Voice::Messages => "rate_limit_error",
        Voice::Gemini => "RESOURCE_EXHAUSTED",
        _ => "rate_limit_exceeded",
    };
    failure(voice, 429, code, "slow down")
}

/// Dialects whose ways of refusing differ.
const VOICES: [Voice; 3] = [Voice::Chat, Voice::Messages, Voice::Gemini];

#[test]
fn a_01_a_rate_limit_that_names_a_time_is_waited_out_or_gone_around() {
    for voice in VOICES {
        let one = Upstream::start(move |attempt| match attempt.number {
            0 => limited(voice).header("retry-after", "2"),
            _ => voice.good(attempt, super::case::ANSWER),
        });
        let case = Setting::new().up("alias", voice, &one).more(RETRIES).start();
        let told = case.chat("alias");
        told.whole_from("alias", 2);
        let attempts = one.attempts();
        let gap = attempts[1].at - attempts[0].at;
        assert!(gap >= Duration::from_millis(1_800), "asked for 2 s, waited {gap:?}");
        figure("A-1", &format!("{voice:?}: 429 with Retry-After 2 s: {gap:?} between 2 attempts"));
        case.keep(told);
        case.close();
    }
    let (one, two) = (Upstream::always(limited(Voice::Chat).header("retry-after", "2")), good(Voice::Chat));
    let case = Setting::new().up("alias", Voice::Chat, &one).up("backup", Voice::Chat, &two).chain();
    let case = case.more(RETRIES).start();
    let told = case.chat("alias");
    told.whole_from("backup", 2);
    assert!(told.took < Duration::from_secs(1), "{:?}", told.took);
    case.keep(told);
    // Until its time is over it is not asked again.
    for _ in 0..5 {
        let told = case.stream("alias");
        told.whole_from("backup", 1);
        case.keep(told);
    }
    assert_eq!((one.count(), two.count()), (1, 6));
    case.close();
}

#[test]
fn a_02_a_rate_limit_without_a_time_is_tried_with_growing_pauses_and_left() {
    for voice in VOICES {
        let (one, two) = (Upstream::always(limited(voice)), good(Voice::Chat));
        let case = Setting::new().up("alias", voice, &one).up("backup", Voice::Chat, &two).chain();
        let case = case.more(RETRIES).start();
        let told = case.stream("alias");
        told.whole_from("backup", 4);
        assert_eq!((one.count(), two.count()), (3, 1));
        figure("A-2", &format!("{voice:?}: 3 attempts, then the fallback, {:?} in all", told.took));
        case.keep(told);
        case.close();
    }
    // Where nothing else is left the caller is told, with a time to come back.
    let one = Upstream::always(limited(Voice::Chat));
    let case = Setting::new().up("alias", Voice::Chat, &one).more(RETRIES).start();
    let told = case.chat("alias");
    assert!(told.refused(429).contains("slow down"));
    assert!(told.got.header("retry-after").is_some(), "{}", told.got);
    let times: Vec<_> = one.attempts().iter().map(|attempt| attempt.at).collect();
    assert_eq!(times.len(), 3);
    case.keep(told);
    case.close();
}

#[test]
fn a_03_an_absurd_time_is_never_slept_out() {
    let past = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    let far = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(86_400 * 365));
    let mut longest = Duration::ZERO;
    for value in ["86400", "-1", "1e300", "99999999999999999999", "NaN", "inf", "soon", "", &past, &far] {
        let limited = limited(Voice::Chat).header("retry-after", value);
        // Alone: the caller is told, or a try within the call's time is made.
        let one = Upstream::always(limited.clone());
        let case = Setting::new().up("alias", Voice::Chat, &one).more(RETRIES).start();
        let told = case.chat("alias");
        told.refused(429);
        longest = longest.max(told.took);
        assert!(told.took < Duration::from_secs(2), "`{value}`: {:?}", told.took);
        assert!(one.count() <= 3, "`{value}`: {} attempts", one.count());
        let stated = told.got.header("retry-after").map(str::to_owned);
        case.keep(told);
        case.close();
        // With a fallback: at once.
        let (one, two) = (Upstream::always(limited), good(Voice::Chat));
        let case = Setting::new().up("alias", Voice::Chat, &one).up("backup", Voice::Chat, &two).chain();
        let case = case.more(RETRIES).start();
        let told = case.stream("alias");
        assert_eq!(told.got.header("x-portolan-model"), Some("backup"), "`{value}`: {}", told.got);
        longest = longest.max(told.took);
        assert!(told.took < Duration::from_secs(2), "`{value}`: {:?} (told {stated:?})", told.took);
        case.keep(told);
        case.close();
    }
    figure("A-3", &format!("10 absurd values of Retry-After: the longest call took {longest:?}"));
}

#[test]
fn a_04_server_errors_are_retried_then_gone_around_then_told() {
    for (voice, status, code) in [
        (Voice::Chat, 500, "server_error"),
        (Voice::Chat, 503, "service_unavailable"),
        (Voice::Messages, 500, "api_error"),
        (Voice::Messages, 529, "overloaded_error"),
        (Voice::Gemini, 503, "UNAVAILABLE"),
    ] {
        let bad = failure(voice, status, code, "out of order");
        // Once.
        let once = bad.clone();
        let one = Upstream::start(move |attempt| match attempt.number {
            0 => once.clone(),
            _ => voice.good(attempt, super::case::ANSWER),
        });
        let case = Setting::new().up("alias", voice, &one).more(RETRIES).start();
        let told = case.stream("alias");
        told.whole_from("alias", 2);
        case.keep(told);
        case.close();
        // Lasting.
        let (one, two) = (Upstream::always(bad.clone()), good(Voice::Chat));
        let case = Setting::new().up("alias", voice, &one).up("backup", Voice::Chat, &two).chain();
        let case = case.more(&RETRIES.replace("tries: 3", "tries: 1")).start();
        let told = case.chat("alias");
        told.whole_from("backup", 2);
        figure("A-4", &format!("{voice:?} {status}: 2 attempts, failover after {:?}", told.took));
        case.keep(told);
        case.close();
        // Lasting, and nowhere to go: the provider's own sentence.
        let one = Upstream::always(bad);
        let case = Setting::new().up("alias", voice, &one).more(RETRIES).start();
        for caller in [Caller::Chat, Caller::Messages, Caller::Gemini, Caller::Responses] {
            let told = case.ask(caller, "alias", true);
            let got = told.got.status;
            assert!((500..=599).contains(&got), "{caller:?}: {}", told.got);
            assert!(told.refused(got).contains("out of order"), "{caller:?}: {}", told.got);
            case.keep(told);
        }
        assert_eq!(one.count(), 4 * 3);
        case.close();
    }
}

#[test]
fn a_15_a_request_at_fault_is_not_tried_again() {
    let too_long = |voice: Voice| match voice {
        Voice::Messages => {
            failure(voice, 400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")
        }
        Voice::Gemini => failure(
            voice,
            400,
            "INVALID_ARGUMENT",
            "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        ),
        _ => failure(
            voice,
            400,
            "context_length_exceeded",
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        ),
    };
    for voice in VOICES {
        let one = Upstream::always(too_long(voice));
        let case = Setting::new().up("alias", voice, &one).more(RETRIES).start();
        let told = case.stream("alias");
        let message = told.refused(400).to_owned();
        assert!(message.contains("token"), "{message}");
        assert_eq!(one.count(), 1, "the same model will not take it a second time");
        case.keep(told);
        case.close();
    }
    // A filter's refusal is the caller's to know, and not to be gone around unless that was asked for.
    let reason = "Your request was rejected as a result of our safety system.";
    let filtered = failure(Voice::Chat, 400, "content_policy_violation", reason);
    let (one, two) = (Upstream::always(filtered), good(Voice::Chat));
    let case = Setting::new().up("alias", Voice::Chat, &one).up("backup", Voice::Chat, &two).chain();
    let case = case.more(RETRIES).start();
    for caller in [Caller::Chat, Caller::Messages] {
        let told = case.ask(caller, "alias", false);
        assert_eq!(told.refused(400), reason);
        case.keep(told);
    }
    assert_eq!((one.count(), two.count()), (2, 0));
    figure("A-15", "context length: 1 attempt at the same model; content filter: 1 attempt, 0 at the fallback");
    case.close();
}

#[test]
fn a_16_a_dead_key_is_benched_and_never_shown() {
    const DEAD: &str = "sk-dead-Qw7Lm2Xc9VbT";
    for (voice, header) in
        [(Voice::Chat, "authorization"), (Voice::Messages, "x-api-key"), (Voice::Gemini, "x-goog-api-key")]
    {
        for status in [401, 403] {
            // As some do, it repeats the key.
            let answer = move |attempt: &crate::upstream::Attempt| {
                let key = attempt.header(header).unwrap_or_default().to_owned();
                if key.contains(DEAD) || attempt.json().to_string().contains("nobody") {
                    let message = format!("Incorrect API key provided: {key}. Find yours at account org-5521.");
                    return failure(voice, status, "invalid_api_key", &message).header("x-api-key", &key);
                }
                voice.good(attempt, super::case::ANSWER)
            };
            let one = Upstream::start(answer);
            let keys = format!("api_keys: [\"{DEAD}\", \"{PROVIDER_KEY}\"]");
            let setting = Setting::new().up("alias", voice, &one).more(RETRIES);
            let case = setting.replacing(&format!("api_key: \"{PROVIDER_KEY}\""), &keys).start();
            for _ in 0..12 {
                let told = case.chat("alias");
                assert_eq!(told.outcome, super::case::Outcome::Whole, "{}", told.got);
                case.keep(told);
            }
            let dead = |attempts: &[crate::upstream::Attempt]| {
                attempts.iter().filter(|attempt| attempt.header(header).is_some_and(|key| key.contains(DEAD))).count()
            };
            assert!(dead(&one.attempts()) <= 1, "the dead key was used {} times", dead(&one.attempts()));
            // With no other key: the operator's affair, and nothing of the provider's text.
            let told = case.ask_with(Caller::Chat, "alias", false, |body| {
                let text = body["messages"][0]["content"].as_str().unwrap().to_owned();
                body["messages"][0]["content"] = json!(text + " nobody");
            });
            let message = told.refused(502).to_owned();
            for leak in ["Incorrect", "org-5521", DEAD] {
                assert!(!told.got.to_string().contains(leak), "{leak}: {}", told.got);
            }
            assert!(!message.is_empty());
            case.keep(told);
            let log = case.gateway.logs();
            assert!(!log.contains(&DEAD[8..]), "{log}");
            case.close();
        }
    }
    figure(
        "A-16",
        "3 dialects, 401 and 403: 1 call at most for a dead key, 0 bytes of it or of the provider's text told",
    );
}
