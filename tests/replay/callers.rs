//! Every recorded answer and stream of every provider's dialect, told to a caller of each dialect, says what it said:
//! as it came, and turned (a whole answer told as a stream, a stream gathered).

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use portolan::ir::Losses;
use serde_json::Value;

use super::answers;
use super::plain::{self, Answer, Choice, Counts, clip, events, items, members, same_arguments, says, string};
use super::recordings::{Exchange, Speech};
use super::tally::Tally;
use super::through::{ASKED, MODEL, Passed, Way};

/// Fixtures of unit tests whose pieces do not add up to what ends them, by the beginning of their ids.
const CUT: [&str; 2] = ["754a39dd06a4f34e6283", "3aba828c6943eca3227b"];

pub fn replay(recordings: &[Exchange]) -> Tally {
    let mut tally = Tally::default();
    for exchange in recordings.iter().filter(|exchange| exchange.is_good()) {
        if let Some(reason) = exchange.aside() {
            tally.skip(reason);
            continue;
        }
        if exchange.speech() == Speech::Completions {
            tally.skip("an answer of legacy completions: no provider is asked in them");
            continue;
        }
        match exchange.whole() {
            Some(body) => whole(&mut tally, exchange, body),
            None => {
                for (id, bytes) in exchange.byte_streams() {
                    stream(&mut tally, exchange, &id, &bytes);
                }
            }
        }
    }
    tally
}

/// Whether the caller's side is told in full by [`answers`], which is stricter.
fn is_told_elsewhere(exchange: &Exchange, to: Speech) -> bool {
    to == Speech::Chat && Speech::FIRST.contains(&exchange.speech()) && !exchange.api.starts_with("invoke_model")
}

fn whole(tally: &mut Tally, exchange: &Exchange, body: &str) {
    let Some(theirs) = reading(|| answers::read(exchange, body)) else {
        return tally.count(&exchange.id, vec!["the plain reading fell".to_owned()], &Losses::default());
    };
    if !theirs.whole && theirs.error.is_none() && exchange.speech() == Speech::Responses {
        return tally.skip("an answer made in the background, not there yet");
    }
    for to in Speech::CALLERS {
        let way = Way { from: exchange.speech().dialect(), to: to.dialect() };
        let forms = [(way.whole(body), false), (way.told_as_stream(body), true)];
        for (passed, streams) in forms {
            if !streams && is_told_elsewhere(exchange, to) {
                continue;
            }
            let passed = match passed {
                Ok(passed) => passed,
                // A failure in place of an answer, or an answer that is still being made.
                Err(error) if theirs.error.is_some() || !theirs.whole => {
                    let word = if theirs.error.is_some() { "a failure" } else { "an answer that is not there yet" };
                    let problems = if error.is_empty() { vec!["no word of why".to_owned()] } else { Vec::new() };
                    tally.count(&label(exchange, &exchange.id, to, word), problems, &Losses::default());
                    continue;
                }
                Err(error) => {
                    tally.count(&label(exchange, &exchange.id, to, "whole"), vec![error], &Losses::default());
                    continue;
                }
            };
            let mut problems = Vec::new();
            if to == Speech::Responses && !streams && exchange.speech() != Speech::Chat {
                problems.extend(answers::unknown_kinds(tally, exchange, &passed));
            }
            problems.extend(passed.disorder.clone());
            problems.extend(answers::miscounted(theirs.usage, passed.usage));
            problems.extend(judge(&theirs, exchange.speech(), to, streams, &passed));
            let form = if streams { "whole as a stream" } else { "whole" };
            tally.count(&label(exchange, &exchange.id, to, form), problems, &passed.losses);
        }
    }
}

fn stream(tally: &mut Tally, exchange: &Exchange, id: &str, bytes: &[u8]) {
    let Some(mut theirs) = reading(|| answers::read_bytes(exchange, bytes)) else {
        return tally.count(id, vec!["the plain reading fell".to_owned()], &Losses::default());
    };
    theirs.whole &= theirs.error.is_none();
    if CUT.iter().any(|cut| id.starts_with(cut)) {
        return tally.skip("pieces were cut out of the recorded stream");
    }
    for to in Speech::CALLERS {
        let way = Way { from: exchange.speech().dialect(), to: to.dialect() };
        for streams in [true, false] {
            if streams && is_told_elsewhere(exchange, to) {
                continue;
            }
            let passed = if streams { way.stream(bytes, &[]) } else { way.gathered(bytes) };
            let mut problems = Vec::new();
            if to == Speech::Responses && streams {
                problems.extend(answers::unknown_kinds(tally, exchange, &passed));
            }
            problems.extend(passed.disorder.clone());
            if theirs.error.is_some() != passed.fault.is_some() {
                problems.push(format!("the provider's error {:?} became {:?}", theirs.error, passed.fault));
            }
            let broken = passed.fault.is_some() || passed.broken.is_some();
            if theirs.whole == broken {
                problems.push(format!("whole: {}, ours: {:?}", theirs.whole, passed.broken));
            } else if theirs.whole {
                problems.extend(answers::miscounted(theirs.usage, passed.usage));
                problems.extend(judge(&theirs, exchange.speech(), to, streams, &passed));
            } else if streams {
                problems.extend(judge_broken(&theirs, to, &passed));
            } else if !passed.out.is_empty() {
                problems.push("something came out of a stream that broke off".to_owned());
            }
            let form = if streams { "stream" } else { "stream gathered" };
            tally.count(&label(exchange, id, to, form), problems, &passed.losses);
        }
    }
}

fn label(exchange: &Exchange, id: &str, to: Speech, form: &str) -> String {
    format!("{} {id} {} to {} ({form})", exchange.provider, exchange.speech().name(), to.name())
}

/// A plain reading; `None` where it met what it does not know, which it has told then.
fn reading<T>(read: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(read)).ok()
}

/// What our own bytes say.
fn ours(to: Speech, streams: bool, out: &[u8]) -> Result<Answer, String> {
    let text = std::str::from_utf8(out).map_err(|error| error.to_string())?;
    let read = || -> Result<Answer, String> {
        if streams {
            return match to {
                Speech::Chat => plain::ours::stream(text, true),
                Speech::Responses => plain::responses::ours(text),
                Speech::Messages => plain::messages::ours(text),
                Speech::Completions => plain::completions::stream(text),
                _ => Ok(plain::gemini::stream(text)),
            };
        }
        let json: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match to {
            Speech::Chat => plain::ours::whole(&json),
            Speech::Responses => plain::responses::shaped(&json).map(|()| plain::responses::whole(&json)),
            Speech::Messages => plain::messages::shaped(&json).map(|()| plain::messages::whole(&json)),
            Speech::Completions => plain::completions::whole(&json),
            _ => Ok(plain::gemini::whole(&json)),
        }
    };
    reading(read).unwrap_or_else(|| Err("the plain reading of ours fell".to_owned()))
}

/// What differs between a provider's whole answer and what we tell the caller.
fn judge(theirs: &Answer, from: Speech, to: Speech, streams: bool, passed: &Passed) -> Vec<String> {
    let ours = match ours(to, streams, &passed.out) {
        Ok(ours) => ours,
        Err(shape) => return vec![format!("our answer's shape: {shape}")],
    };
    let mut found = Vec::new();
    let losses = &passed.losses;
    let named = |word: &str| losses.iter().any(|loss| loss.path.contains(word));
    let mut differ = |what: &str, same: bool, theirs: &dyn std::fmt::Debug, ours: &dyn std::fmt::Debug| {
        if !same {
            found.push(format!("{what}: provider {}, ours {}", clip(&theirs), clip(&ours)));
        }
    };
    differ("whole", ours.whole, &true, &ours.whole);
    let model = if theirs.model.is_empty() { MODEL } else { &theirs.model };
    differ("model", ours.model == model, &model, &ours.model);
    let id = match to {
        Speech::Responses => ours.id.starts_with("resp_"),
        Speech::Messages => ours.id.starts_with("msg_") && (ours.id == theirs.id || !theirs.id.starts_with("msg_")),
        _ => ours.id == theirs.id || theirs.id.is_empty() && ours.id.contains(shared_id(from)),
    };
    differ("id", id, &theirs.id, &ours.id);
    let wanted = theirs.usage.map(|counts| countable(counts, to));
    let counted = ours.usage.map(|counts| countable(counts, to));
    let made = wanted.is_none() && (named("usage") || to != Speech::Chat) && counted.is_none_or(is_zero);
    differ("usage", wanted == counted || made, &wanted, &counted);
    if theirs.usage.is_some_and(|counts| counts.written + counts.written_1h > 0) && to == Speech::Gemini {
        differ("loss of what was written to the cache", named("usage"), &theirs.usage, &losses);
    }
    let single = matches!(to, Speech::Responses | Speech::Messages);
    if single && theirs.choices.len() > 1 {
        differ("loss of choices", named("candidates") || named("choices["), &theirs.choices.len(), &losses);
    } else {
        let indices = |answer: &Answer| answer.choices.keys().copied().collect::<Vec<_>>();
        differ("choices", indices(theirs) == indices(&ours), &indices(theirs), &indices(&ours));
    }
    let said = Said::read(&passed.out, streams);
    for (index, mine) in &ours.choices {
        if let Some(choice) = theirs.choices.get(index) {
            found.extend(compare(choice, mine, from, to, losses, &said));
        }
    }
    for (path, value) in &theirs.beside {
        let name = path.rsplit('.').next().unwrap();
        let same = from == to && ours.beside.iter().any(|(other, kept)| other == path && kept == value);
        let spread = value.is_array() && items(value).all(|item| said.holds(item));
        if !same && !named(name) && !said.holds(value) && !spread {
            found.push(format!("`{path}` is neither shown nor a named loss"));
        }
    }
    found
}

/// What an id is made from where the provider gave none.
fn shared_id(from: Speech) -> &'static str {
    if from == Speech::Ollama { "ollama-" } else { ASKED.id }
}

fn is_zero(counts: Counts) -> bool {
    counts == Counts::default()
}

/// The counts that a caller's dialect has words for.
fn countable(counts: Counts, to: Speech) -> Counts {
    match to {
        Speech::Messages => {
            // What is read counts first where a provider says that tokens were both read and written.
            let written = counts.written.min(counts.prompt.saturating_sub(counts.cached));
            Counts { total: 0, audio_in: 0, audio_out: 0, written, ..counts }
        }
        Speech::Gemini => Counts { written: 0, written_1h: 0, searches: 0, ..counts },
        _ => counts,
    }
}

fn compare(theirs: &Choice, ours: &Choice, from: Speech, to: Speech, losses: &Losses, said: &Said) -> Vec<String> {
    let mut found = Vec::new();
    let named = |word: &str| losses.iter().any(|loss| loss.path.contains(word));
    let mut differ = |what: &str, same: bool, theirs: &dyn std::fmt::Debug, ours: &dyn std::fmt::Debug| {
        if !same {
            found.push(format!("{what}: provider {}, ours {}", clip(&theirs), clip(&ours)));
        }
    };
    let text_only = to == Speech::Completions;
    let declines = matches!(to, Speech::Chat | Speech::Responses);
    if declines || theirs.refusal.is_empty() {
        differ("text", theirs.text == ours.text, &theirs.text, &ours.text);
        differ("refusal", theirs.refusal == ours.refusal, &theirs.refusal, &ours.refusal);
    } else {
        let both = format!("{}{}", theirs.text, theirs.refusal);
        differ("text and refusal", both == ours.text && named("refusal"), &both, &ours.text);
    }
    let lost = text_only && ours.reasoning.is_empty() && named("reasoning");
    differ("reasoning", theirs.reasoning == ours.reasoning || lost, &theirs.reasoning, &ours.reasoning);
    let unsaid: Vec<_> = theirs.proofs.iter().filter(|proof| !said.has(proof)).collect();
    let lost = text_only && named("reasoning") || text_only && !theirs.calls.is_empty() && named("tool_calls");
    let gone = lost || text_only && named("signature") || named("reasoning.signature");
    differ("proofs", unsaid.is_empty() || gone, &unsaid, &losses);
    let same = theirs.images == ours.images || theirs.images.len() > ours.images.len() && named("image");
    differ("images", same, &theirs.images, &ours.images);
    let same = theirs.audio.is_none() || ours.audio.is_some() || named("audio");
    differ("audio", same, &theirs.audio, &ours.audio);
    let same = pairs(&theirs.logprobs) == pairs(&ours.logprobs) || named("logprobs");
    differ("logprobs", same, &theirs.logprobs, &ours.logprobs);
    let same = theirs.annotations.len() <= ours.annotations.len() || named("citations") || named("annotations");
    differ("annotations", same, &theirs.annotations, &ours.annotations);
    if from == to {
        differ("own annotations", theirs.annotations == ours.annotations, &theirs.annotations, &ours.annotations);
    }
    finish(theirs, ours, to, losses).into_iter().for_each(|(theirs, ours)| differ("finish", false, &theirs, &ours));
    if text_only {
        differ("calls", theirs.calls.is_empty() || named("tool_calls"), &theirs.calls, &losses);
        return found;
    }
    differ("number of tool calls", theirs.calls.len() == ours.calls.len(), &theirs.calls, &ours.calls);
    for (n, (call, mine)) in theirs.calls.iter().zip(&ours.calls).enumerate() {
        differ(&format!("call {n} name"), call.name == mine.name, &call.name, &mine.name);
        differ(&format!("call {n} id"), call.id.is_empty() || call.id == mine.id, &call.id, &mine.id);
        let same = same_arguments(&call.arguments, &mine.arguments) || wraps(&call.arguments, &mine.arguments, losses);
        differ(&format!("call {n} arguments"), same, &call.arguments, &mine.arguments);
    }
    let ids: BTreeSet<_> = ours.calls.iter().map(|call| &call.id).collect();
    let made = theirs.calls.iter().all(|call| call.id.is_empty()) && to != Speech::Gemini;
    differ("made ids", !made || ids.len() == ours.calls.len(), &theirs.calls, &ours.calls);
    found
}

/// Text that is no JSON object, as the one member of one, and named.
fn wraps(theirs: &str, ours: &str, losses: &Losses) -> bool {
    let json: Value = serde_json::from_str(ours).unwrap_or_default();
    let mut members = members(&json).map(|(_, value)| value);
    let wrapped = members.next().and_then(Value::as_str) == Some(theirs) && members.next().is_none();
    let nothing = theirs.trim() == "null" && ours == "{}";
    nothing || wrapped && losses.iter().any(|loss| loss.path.contains("tool"))
}

/// The words for why the model stopped, where ours is another and no loss names it.
fn finish(theirs: &Choice, ours: &Choice, to: Speech, losses: &Losses) -> Option<(Option<&'static str>, String)> {
    let word = theirs.finish.map(|finish| finish.word);
    let mine = ours.finish.map(|finish| finish.word);
    let called = !theirs.calls.is_empty();
    let same = match (word, mine) {
        _ if word == mine => true,
        // Programs go on at the word for calls only, and several providers say that they stopped.
        (Some("stop"), Some("tool_calls")) => called,
        // Gemini has no word for calls: there are some, or not.
        (Some("tool_calls"), Some("stop")) => to == Speech::Gemini && !called,
        // A refusal in words has a reason of its own in Messages.
        (Some("stop"), Some("content_filter")) => to == Speech::Messages && !theirs.refusal.is_empty(),
        _ => false,
    };
    let named = losses.iter().any(|loss| loss.path.contains("finish_reason") || loss.path.contains("stop_reason"));
    // Legacy completions have no calls, and so no word for them: the calls are named.
    let called = to == Speech::Completions && losses.iter().any(|loss| loss.path.contains("tool_calls"));
    (!same && !named && !called).then(|| (word, format!("{mine:?}")))
}

/// Tokens and their log probabilities; what else stands beside them differs between dialects.
fn pairs(tokens: &[Value]) -> Vec<(String, i64)> {
    // OpenAI's last word on a token differs from its first in the seventh place.
    let rounded = |value: &Value| (value.as_f64().unwrap_or(0.0) * 1e4).round() as i64;
    let mut pairs: Vec<_> = tokens.iter().map(|token| (string(&token["token"]), rounded(&token["logprob"]))).collect();
    // Those of thoughts stand among the others in a stream, and behind them in a whole answer.
    pairs.sort();
    pairs
}

/// What a stream that broke off told before, and how it ended.
fn judge_broken(theirs: &Answer, to: Speech, passed: &Passed) -> Vec<String> {
    let mut problems = Vec::new();
    if passed.last_words.is_empty() {
        problems.push("no error ends it".to_owned());
    }
    if passed.out.is_empty() {
        return problems;
    }
    let ours = match ours(to, true, &passed.out) {
        Ok(ours) => ours,
        Err(shape) => return vec![format!("our stream's shape: {shape}")],
    };
    let shown = ours.choices.get(&0).map_or("", |choice| &choice.text);
    let text = theirs.choices.get(&0).map_or("", |choice| &choice.text);
    if shown != text {
        problems.push(format!("text: provider {}, ours {}", clip(&text), clip(&shown)));
    }
    if ours.whole && to != Speech::Gemini {
        problems.push("it is shown as whole".to_owned());
    }
    problems
}

/// Everything that our bytes hold.
struct Said {
    documents: Vec<Value>,
    strings: String,
}

impl Said {
    fn read(out: &[u8], streams: bool) -> Said {
        let text = std::str::from_utf8(out).unwrap_or_default();
        let texts =
            if streams { events(text).into_iter().map(|(_, data)| data).collect() } else { vec![text.to_owned()] };
        let documents: Vec<Value> = texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
        let mut strings = String::new();
        documents.iter().for_each(|document| collect(document, &mut strings));
        Said { documents, strings }
    }

    fn has(&self, text: &str) -> bool {
        self.strings.contains(text)
    }

    /// Whether a value stands somewhere, whole.
    fn holds(&self, value: &Value) -> bool {
        fn holds(within: &Value, value: &Value) -> bool {
            within == value
                || items(within).any(|item| holds(item, value))
                || members(within).any(|(_, member)| holds(member, value))
        }
        !says(value) || self.documents.iter().any(|document| holds(document, value))
    }
}

/// All strings, and what those hold that we packed in base64.
fn collect(value: &Value, into: &mut String) {
    match value {
        Value::String(text) => {
            into.push_str(text);
            into.push('\n');
            if let Some(packed) = text.starts_with("cG9ydG9sYW46").then(|| BASE64.decode(text).ok()).flatten() {
                let json: Value = serde_json::from_slice(&packed["portolan:".len()..]).unwrap_or_default();
                collect(&json, into);
            }
        }
        Value::Array(list) => list.iter().for_each(|item| collect(item, into)),
        Value::Object(members) => members.values().for_each(|member| collect(member, into)),
        _ => {}
    }
}
