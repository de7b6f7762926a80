//! A plain second reading of answers, for comparison: what each provider's JSON says, and what ours says, without a
//! line of the dialects.

use std::collections::{BTreeMap, BTreeSet};

use portolan::ir::Losses;
use serde_json::Value;

pub mod bedrock;
pub mod chat;
pub mod cohere;
pub mod completions;
pub mod gemini;
pub mod messages;
pub mod ollama;
pub mod ours;
pub mod responses;

/// What an answer says, in the words of Chat Completions.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub id: String,
    pub model: String,
    pub choices: BTreeMap<u64, Choice>,
    pub usage: Option<Counts>,
    /// Members and parts that Chat Completions has no place for, by path and value: each must be in our answer all the
    /// same, or be a loss with its name.
    pub beside: Vec<(String, Value)>,
    /// The answer came to its end.
    pub whole: bool,
    /// The provider's error event, as JSON.
    pub error: Option<Value>,
}

#[derive(Clone, Debug, Default)]
pub struct Choice {
    pub text: String,
    pub refusal: String,
    pub reasoning: String,
    pub calls: Vec<Call>,
    pub finish: Option<Finish>,
    /// As addresses.
    pub images: Vec<String>,
    pub audio: Option<Value>,
    /// Signatures and encrypted thoughts.
    pub proofs: BTreeSet<String>,
    /// Tokens with their log probabilities.
    pub logprobs: Vec<Value>,
    /// Annotations in the shape of Chat Completions.
    pub annotations: Vec<Value>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Call {
    /// Empty where the provider gives none.
    pub id: String,
    pub name: String,
    /// As text; pieces of a stream joined.
    pub arguments: String,
}

/// A word of Chat Completions, and whether it says less than the provider's own: then it must be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finish {
    pub word: &'static str,
    pub less: bool,
}

impl Finish {
    pub fn as_is(word: &'static str) -> Option<Finish> {
        Some(Finish { word, less: false })
    }

    pub fn less(word: &'static str) -> Option<Finish> {
        Some(Finish { word, less: true })
    }
}

/// Tokens as Chat Completions count them: prompts include what was cached, completions include reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub prompt: u64,
    pub completion: u64,
    pub total: u64,
    /// Of the prompt: read from a cache, written to one for minutes, for an hour; sound.
    pub cached: u64,
    pub written: u64,
    pub written_1h: u64,
    pub audio_in: u64,
    /// Of the completion.
    pub reasoning: u64,
    pub audio_out: u64,
    /// Searches of the provider's own tool.
    pub searches: u64,
}

impl Answer {
    pub fn choice(&mut self, index: u64) -> &mut Choice {
        self.choices.entry(index).or_default()
    }

    /// Notes a member that Chat Completions has no place for, unless it says nothing.
    pub fn note(&mut self, path: impl Into<String>, value: &Value) {
        let path = path.into();
        if says(value) && !self.beside.iter().any(|(p, _)| *p == path) {
            self.beside.push((path, value.clone()));
        }
    }
}

/// Where our answer differs from the provider's. `shown` is our whole answer as JSON: members that it keeps are no loss.
pub fn differences(theirs: &Answer, ours: &Answer, shown: Option<&Value>, losses: &Losses) -> Vec<String> {
    let mut found = Vec::new();
    differ(&mut found, "id", &theirs.id, &ours.id, theirs.id.is_empty());
    differ(&mut found, "model", &theirs.model, &ours.model, theirs.model.is_empty());
    differ(&mut found, "usage", &theirs.usage, &ours.usage, false);
    let indices = |answer: &Answer| answer.choices.keys().copied().collect::<Vec<_>>();
    differ(&mut found, "choices", &indices(theirs), &indices(ours), false);
    for (index, mine) in &ours.choices {
        if let Some(choice) = theirs.choices.get(index) {
            compare(&mut found, choice, mine, losses);
        }
    }
    let named = |name: &str| losses.iter().any(|loss| loss.path.split('.').any(|step| step == name));
    for (path, value) in &theirs.beside {
        let name = path.rsplit('.').next().unwrap();
        if !named(name) && !shown.is_some_and(|shown| keeps(shown, path, value)) {
            found.push(format!("`{path}` is neither shown nor a named loss"));
        }
    }
    found
}

fn differ<T: PartialEq + std::fmt::Debug>(found: &mut Vec<String>, what: &str, theirs: &T, ours: &T, any: bool) {
    if !any && theirs != ours {
        found.push(format!("{what}: provider {}, ours {}", clip(theirs), clip(ours)));
    }
}

pub fn clip(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.chars().take(160).collect()
}

fn compare(found: &mut Vec<String>, theirs: &Choice, ours: &Choice, losses: &Losses) {
    differ(found, "text", &theirs.text, &ours.text, false);
    differ(found, "refusal", &theirs.refusal, &ours.refusal, false);
    differ(found, "reasoning", &theirs.reasoning, &ours.reasoning, false);
    differ(found, "images", &theirs.images, &ours.images, false);
    differ(found, "proofs", &theirs.proofs, &ours.proofs, false);
    differ(found, "logprobs", &theirs.logprobs, &ours.logprobs, false);
    differ(found, "annotations", &theirs.annotations, &ours.annotations, false);
    let audio_lost = losses.iter().any(|loss| loss.path.contains("audio"));
    differ(found, "audio", &theirs.audio, &ours.audio, audio_lost);
    let word = |finish: Option<Finish>| finish.map(|finish| finish.word);
    differ(found, "finish", &word(theirs.finish), &word(ours.finish), false);
    let named = losses.iter().any(|loss| loss.path == "finish_reason");
    if theirs.finish.is_some_and(|finish| finish.less) != named {
        found.push(format!("a loss of finish_reason is named: {named}, the provider's word: {:?}", theirs.finish));
    }
    differ(found, "number of tool calls", &theirs.calls.len(), &ours.calls.len(), false);
    for (n, (call, mine)) in theirs.calls.iter().zip(&ours.calls).enumerate() {
        differ(found, &format!("call {n} name"), &call.name, &mine.name, false);
        differ(found, &format!("call {n} id"), &call.id, &mine.id, call.id.is_empty());
        if !same_arguments(&call.arguments, &mine.arguments) {
            found.push(format!("call {n} arguments: {} {}", clip(&call.arguments), clip(&mine.arguments)));
        }
    }
    let ids: BTreeSet<_> = ours.calls.iter().map(|call| &call.id).collect();
    if ids.len() < ours.calls.len() && theirs.calls.iter().all(|call| call.id.is_empty()) {
        found.push("made ids repeat".to_owned());
    }
}

/// Arguments as JSON; text that is none as text. Nothing at all is no arguments.
pub fn same_arguments(theirs: &str, ours: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(if text.trim().is_empty() { "{}" } else { text }).ok();
    match (read(theirs), read(ours)) {
        (Some(theirs), Some(ours)) => theirs == ours,
        (None, None) => theirs == ours,
        _ => false,
    }
}

/// Whether a whole answer of ours has the member that was at `path` in the provider's: at the top, in a choice, or in
/// a choice's message.
fn keeps(shown: &Value, path: &str, value: &Value) -> bool {
    let choices = || shown["choices"].as_array().into_iter().flatten();
    match path.split_once('.') {
        None => shown.get(path) == Some(value),
        Some(("choices", name)) => choices().any(|choice| choice.get(name) == Some(value)),
        Some(("message", name)) => choices().any(|choice| choice["message"].get(name) == Some(value)),
        _ => false,
    }
}

/// Whether a value says anything.
pub fn says(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(members) => !members.is_empty(),
        _ => true,
    }
}

pub fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

pub fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Name and data of each event of a stream, comments left out. A last event without its blank line counts.
pub fn events(text: &str) -> Vec<(String, String)> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    for block in text.split("\n\n") {
        let (mut name, mut data) = (String::new(), Vec::new());
        for line in block.split('\n') {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => name = value.to_owned(),
                "data" => data.push(value),
                _ => {}
            }
        }
        if !data.is_empty() {
            events.push((name, data.join("\n")));
        }
    }
    events
}
