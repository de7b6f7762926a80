//! Every recorded answer and stream, decoded by its dialect and encoded as Chat Completions, says what it said.

use portolan::ir::{FaultKind, Usage};
use serde_json::Value;

use super::kinds;
use super::plain::{self, Answer, Counts};
use super::recordings::{Exchange, Speech};
use super::tally::Tally;
use super::through::{Passed, Way};

pub fn replay(recordings: &[Exchange]) -> Tally {
    let mut tally = Tally::default();
    for exchange in recordings.iter().filter(|exchange| exchange.is_good()) {
        match exchange.whole() {
            Some(body) => whole(&mut tally, exchange, body),
            None => {
                for (id, text) in exchange.streams() {
                    stream(&mut tally, exchange, &id, text);
                }
            }
        }
    }
    tally
}

/// What the provider's whole answer says.
pub fn read(exchange: &Exchange, body: &str) -> Answer {
    let json = serde_json::from_str(body).unwrap_or_else(|error| panic!("{}: {error}", exchange.id));
    match exchange.speech() {
        Speech::Chat => plain::chat::whole(&json, &exchange.provider),
        Speech::Messages => plain::messages::whole(&json),
        Speech::Gemini => plain::gemini::whole(&json),
        Speech::Responses => plain::responses::whole(&json),
        Speech::Converse => plain::bedrock::whole(&json),
        Speech::Cohere => plain::cohere::whole(&json),
        Speech::Ollama => plain::ollama::whole(&json),
        Speech::Completions => panic!("no provider is asked in it"),
    }
}

/// What the provider's stream says.
pub fn read_stream(exchange: &Exchange, text: &str) -> Answer {
    read_bytes(exchange, text.as_bytes())
}

/// The same, of whatever framing.
pub fn read_bytes(exchange: &Exchange, bytes: &[u8]) -> Answer {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    match exchange.speech() {
        Speech::Chat => plain::chat::stream(text, &exchange.provider),
        Speech::Messages => plain::messages::stream(text),
        Speech::Gemini => plain::gemini::stream(text),
        Speech::Responses => plain::responses::stream(text),
        Speech::Converse => plain::bedrock::stream(bytes),
        Speech::Cohere => plain::cohere::stream(text),
        Speech::Ollama => plain::ollama::stream(text),
        Speech::Completions => panic!("no provider is asked in it"),
    }
}

fn whole(tally: &mut Tally, exchange: &Exchange, body: &str) {
    let theirs = read(exchange, body);
    let passed = match Way::to_chat(exchange.speech().dialect()).whole(body) {
        Ok(passed) => passed,
        Err(error) => return tally.count(&exchange.id, vec![error], &Default::default()),
    };
    let mut problems = unknown_kinds(tally, exchange, &passed);
    let json: Value = serde_json::from_slice(&passed.out).expect("our answer is JSON");
    match plain::ours::whole(&json) {
        Ok(ours) => problems.extend(plain::differences(&theirs, &ours, Some(&json), &passed.losses)),
        Err(shape) => problems.push(format!("our answer's shape: {shape}")),
    }
    problems.extend(miscounted(theirs.usage, passed.usage));
    tally.count(&exchange.id, problems, &passed.losses);
}

fn stream(tally: &mut Tally, exchange: &Exchange, id: &str, text: &str) {
    let mut theirs = read_stream(exchange, text);
    let passed = Way::to_chat(exchange.speech().dialect()).stream(text.as_bytes(), &[]);
    let mut problems = unknown_kinds(tally, exchange, &passed);
    problems.extend(passed.disorder.clone());
    match (&theirs.error, &passed.fault) {
        (None, None) => {}
        (Some(_), Some(fault)) if !fault.message.is_empty() => theirs.whole = false,
        (theirs, ours) => problems.push(format!("the provider's error event {theirs:?} became {ours:?}")),
    }
    let broken = passed.broken.as_ref().map(|fault| fault.kind);
    match (theirs.whole, broken) {
        (true, None) => {}
        (false, Some(FaultKind::Truncated)) => {}
        (false, Some(_)) if theirs.error.is_some() => {}
        (whole, _) => problems.push(format!("the stream is whole: {whole}; we say {:?}", passed.broken)),
    }
    if !theirs.whole {
        theirs.choices.values_mut().for_each(|choice| choice.finish = None);
        theirs.usage = None;
        if passed.out.is_empty() {
            // It broke off before it said anything.
            theirs.choices.retain(|_, choice| !choice.text.is_empty() || !choice.calls.is_empty());
            (theirs.id, theirs.model) = Default::default();
        }
    }
    match plain::ours::stream(std::str::from_utf8(&passed.out).expect("our stream is text"), true) {
        Ok(ours) => {
            if ours.whole != theirs.whole {
                problems.push(format!("whole: provider {}, ours {}", theirs.whole, ours.whole));
            }
            problems.extend(plain::differences(&theirs, &ours, None, &passed.losses));
        }
        Err(shape) => problems.push(format!("our stream's shape: {shape}")),
    }
    if theirs.whole {
        problems.extend(miscounted(theirs.usage, passed.usage));
    }
    tally.count(id, problems, &passed.losses);
}

pub fn unknown_kinds(tally: &mut Tally, exchange: &Exchange, passed: &Passed) -> Vec<String> {
    let speech = exchange.speech();
    let mut unknown = Vec::new();
    for (kind, count) in &passed.kinds {
        *tally.kinds.entry(format!("{} {kind}", speech.name())).or_default() += count;
        if !kinds::is_known(speech, kind) {
            unknown.push(format!("unknown kind `{kind}`"));
        }
    }
    unknown
}

/// Whether what is metered differs from what the provider reported.
pub fn miscounted(theirs: Option<Counts>, ours: Option<Usage>) -> Option<String> {
    let counts = ours.map(|usage| Counts {
        prompt: usage.input,
        completion: usage.output,
        total: usage.total(),
        cached: usage.cached,
        written: usage.cache_write,
        written_1h: usage.cache_write_1h,
        audio_in: usage.audio_input,
        reasoning: usage.reasoning,
        audio_out: usage.audio_output,
        searches: usage.searches,
    });
    (counts != theirs).then(|| format!("metered {counts:?}, reported {theirs:?}"))
}
