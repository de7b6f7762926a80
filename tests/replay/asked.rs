//! Every recorded request of every caller's dialect, encoded for every provider's: each member is in the body that is
//! sent, or is a named loss; and in its own dialect it comes out meaning the same.
//!
//! Members are found by what they hold, wherever it stands: texts, names and numbers. What a body says in words of its
//! own (a mode, a wish) is found by the members that may say it, in [`WORDS`].

use std::collections::{BTreeMap, BTreeSet, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use portolan::dialect::{Abilities, Quirks, To};
use portolan::ir::{Losses, Request};
use serde_json::Value;

use super::plain::says;
use super::recordings::{Exchange, Speech};
use super::tally::{Tally, without_places};

/// Requests that the provider took and we refuse, by the beginning of their ids, and why.
const REFUSED: [(&str, &str); 12] = [
    ("001b9f1e803b9ca301f6", "a result for a call that is not in the conversation"),
    ("25f1d34c8d19a5a5604d", BACKGROUND),
    ("929da02c0d2b6c6a919d", BACKGROUND),
    ("b7d337c9cf4c7eb366e3", BACKGROUND),
    ("a129c8e71218471d21b4", BACKGROUND),
    ("e754c3a77e0e66672384", BACKGROUND),
    ("93a3cedfc9bf0c15ce92", PROMPTS),
    ("c921456a80f627b93721", PROMPTS),
    ("c422c2f9ce423dfff7a9", PROMPTS),
    ("d8c062ea1fdf315f1c23", "a text to fill in before a suffix, which no chat model does"),
    ("2aae04639c6dbdee0620", PROMPTS),
    ("a92af760140aba9e2c2d", PROMPTS),
];
const BACKGROUND: &str = "an answer to be made in the background";
const PROMPTS: &str = "several prompts at once, or prompts as token ids";

/// Members that lay out a request, by their last names: what they hold is found by its other members.
const LAYOUT: [&str; 10] =
    ["type", "role", "model", "stream", "status", "index", "mimeType", "mime_type", "media_type", "format"];

/// Last names of members that say what bodies say in words of their own, and the members that may say it.
const WORDS: &[(&str, &[&str])] = &[
    ("toolchoice", &["toolchoice", "toolconfig"]),
    ("mode", &["toolchoice", "toolconfig"]),
    // Gemini holds calls to their schemas by its mode, Cohere all or none.
    ("strict", &["stricttools", "toolconfig"]),
    ("logprobs", &["include", "logprobs", "responselogprobs"]),
    ("responselogprobs", &["include", "logprobs", "responselogprobs"]),
    ("include", &["include", "logprobs", "responselogprobs"]),
    ("functioncall", &["toolchoice", "toolconfig"]),
    ("disableparalleltooluse", &["paralleltoolcalls", "toolchoice"]),
    ("paralleltoolcalls", &["paralleltoolcalls", "toolchoice", "toolconfig"]),
    ("enabled", THINKING),
    ("effort", THINKING),
    ("reasoningeffort", THINKING),
    ("summary", THINKING),
    ("display", THINKING),
    ("budgettokens", THINKING),
    ("thinkingbudget", THINKING),
    ("thinkinglevel", THINKING),
    ("includethoughts", THINKING),
    ("responsemimetype", &["responseformat", "text", "outputconfig", "format", "toolconfig", "responsemimetype"]),
    ("detail", &["detail", "mediaresolution", "resolution"]),
    ("iserror", &["iserror", "status", "error"]),
];

/// Members that tell a model to think.
const THINKING: &[&str] = &[
    "reasoning",
    "reasoningeffort",
    "thinking",
    "thinkingconfig",
    "think",
    "outputconfig",
    "additionalmodelrequestfields",
];

/// Losses of thoughts and their proofs are named for the thought, whatever its parts are called.
const THOUGHTS: [&str; 9] = [
    "thoughtsignature",
    "signature",
    "encryptedcontent",
    "thinking",
    "data",
    "summary",
    "thought",
    "reasoningcontent",
    "reasoning",
];

/// What a JSON Schema says to its readers alone, or what some providers say in words of their own.
const NOTES: [&str; 11] = [
    "$schema",
    "$id",
    "$ref",
    "additionalproperties",
    "strict",
    "title",
    "format",
    "nullable",
    "const",
    "exclusiveminimum",
    "default",
];

/// A part of a tool's result, in losses.
const RESULT: &str = "messages[].content[].content[]";

/// One way to be spoken to.
struct Target {
    speech: Speech,
    model: &'static str,
    quirks: Quirks,
    abilities: Abilities,
}

fn targets() -> Vec<Target> {
    let models = [
        (Speech::Chat, "gpt-5"),
        (Speech::Responses, "gpt-5"),
        (Speech::Messages, "claude-sonnet-4-5"),
        (Speech::Gemini, "gemini-2.5-flash"),
        (Speech::Gemini, "gemini-3-pro-preview"),
        (Speech::Converse, "anthropic.claude-sonnet-4-5-20250929-v1:0"),
        (Speech::Converse, "amazon.nova-pro-v1:0"),
        (Speech::Cohere, "command-a-03-2025"),
        (Speech::Ollama, "qwen3:4b"),
    ];
    let target = |(speech, model)| Target { speech, model, quirks: Quirks::default(), abilities: Abilities::default() };
    models.map(target).into()
}

pub fn replay(recordings: &[Exchange]) -> Tally {
    let mut tally = Tally::default();
    let targets = targets();
    for exchange in recordings.iter().filter(|exchange| Speech::CALLERS.contains(&exchange.speech())) {
        if let Some(reason) = exchange.aside() {
            tally.skip(format!("request: {reason}"));
            continue;
        }
        let Some(body) = exchange.asked_of_us() else {
            tally.skip("response only: the recording has no request");
            continue;
        };
        let asked: Value = serde_json::from_str(&body).unwrap();
        if !asked.is_object() {
            tally.skip("a request that is no JSON object");
            continue;
        }
        let speech = exchange.speech();
        let mut request = match speech.dialect().inbound.unwrap().decode(body.as_bytes()) {
            Ok(request) => request,
            Err(error) => {
                let path = without_places(&error.path);
                let known = REFUSED.iter().find(|(id, _)| exchange.id.starts_with(id));
                match known {
                    _ if !exchange.is_good() => tally.skip(format!("refused as by its provider: `{path}`")),
                    Some((_, why)) => tally.skip(format!("{}: {why}", speech.name())),
                    None => {
                        let problem = format!("refused: {error}");
                        tally.count(&label(exchange, None), vec![problem], &Losses::default());
                    }
                }
                continue;
            }
        };
        if speech == Speech::Gemini {
            request.model = "m".into();
            request.stream = exchange.api.starts_with("stream");
        }
        for target in &targets {
            // Told by another part of the replay, which is stricter.
            if speech == Speech::Chat && Speech::FIRST.contains(&target.speech) {
                continue;
            }
            let (problems, losses) = encode(&request, &asked, target, speech);
            tally.count(&label(exchange, Some(target)), problems, &losses);
        }
        let problems = again(&request, speech);
        tally.count(&format!("{} and back", label(exchange, None)), problems, &Losses::default());
    }
    tally
}

fn label(exchange: &Exchange, target: Option<&Target>) -> String {
    let to = target.map(|target| format!(" to {} ({})", target.speech.name(), target.model)).unwrap_or_default();
    format!("{} {} request {}{to}", exchange.provider, exchange.id, exchange.speech().name())
}

fn write(request: &Request<'_>, target: &Target) -> (Result<Vec<u8>, portolan::dialect::Unsayable>, Losses) {
    let to = To { model: target.model, stream: request.stream, quirks: &target.quirks, abilities: &target.abilities };
    let (mut out, mut losses) = (Vec::new(), Losses::default());
    let said = target.speech.dialect().outbound.unwrap().encode(request, &to, &mut out, &mut losses);
    (said.map(|()| out), losses)
}

/// Encodes a request and names what is neither in the body nor among the losses.
fn encode(request: &Request<'_>, asked: &Value, target: &Target, from: Speech) -> (Vec<String>, Losses) {
    let (out, losses) = write(request, target);
    let out = match out {
        Ok(out) => out,
        Err(unsayable) => {
            let mut losses = Losses::default();
            losses.dropped(format!("(unsayable) {}", unsayable.path));
            let first = unsayable.path.split(['.', '[']).next().unwrap();
            // A part of the conversation is named as Chat Completions would.
            let exists = says(&asked[first]) || ["messages", "n"].contains(&first) && !unsayable.message.is_empty();
            let problem = format!("unsayable, but not in the request: {}", unsayable.path);
            return (if exists { Vec::new() } else { vec![problem] }, losses);
        }
    };
    let body: Value = match serde_json::from_slice(&out) {
        Ok(body) => body,
        Err(error) => return (vec![format!("the encoded body is not JSON: {error}")], losses),
    };
    let mut search = Search {
        placed: Vec::new(),
        uncalled: false,
        losses: Vec::new(),
        held: Held::default(),
        missing: BTreeMap::new(),
        from,
    };
    search.placed = losses.iter().map(|loss| loss.path.to_string()).collect();
    search.uncalled = body.get("tools").is_none_or(|tools| !says(tools)) && body["toolConfig"]["tools"].is_null();
    search.losses = losses.iter().map(|loss| plain_path(&loss.path)).collect();
    if from == Speech::Chat {
        // The content of a message of a tool's is its result's.
        let inner = |loss: &String| Some(format!("messages[].content[]{}", loss.strip_prefix(RESULT)?));
        let results: Vec<String> = search.losses.iter().filter_map(inner).collect();
        search.losses.extend(results);
    }
    search.held.take(&body);
    search.walk(asked, "", "");
    (search.missing.into_values().collect(), losses)
}

/// A request in its own dialect, written, read and written again: both bodies are the same.
fn again(request: &Request<'_>, speech: Speech) -> Vec<String> {
    let Some(target) = targets().into_iter().find(|target| target.speech == speech) else { return Vec::new() };
    let (Ok(once), _) = write(request, &target) else { return vec!["it cannot be said in its own dialect".to_owned()] };
    let mut read = match speech.dialect().inbound.unwrap().decode(&once) {
        Ok(read) => read,
        Err(error) => return vec![format!("its own dialect refuses what it wrote: {error}")],
    };
    (read.model, read.stream) = (request.model.clone(), request.stream);
    let (Ok(twice), _) = write(&read, &target) else { return vec!["it cannot be said a second time".to_owned()] };
    let [first, second]: [Value; 2] = [&once, &twice].map(|body| serde_json::from_slice(body).unwrap());
    if first == second {
        return Vec::new();
    }
    let names = |body: &Value| body.as_object().unwrap().clone();
    let (first, second) = (names(&first), names(&second));
    let all: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    let changed = all.into_iter().filter(|name| first.get(*name) != second.get(*name));
    vec![format!("a second time it says otherwise: {}", changed.cloned().collect::<Vec<_>>().join(", "))]
}

/// A name without case and underlines: some callers write Google's members in snake case.
fn plain_name(name: &str) -> String {
    name.replace('_', "").to_lowercase()
}

/// A path without places, in the words in which losses are named: those of Chat Completions, whoever asked.
fn plain_path(path: &str) -> String {
    let mut path = plain_name(&without_places(&path));
    for (theirs, ours) in [
        ("contents[].parts[].functionresponse.parts[]", "messages[].content[].content[]"),
        ("contents[].parts[]", "messages[].content[]"),
        ("contents.parts[]", "messages[].content[]"),
        ("contents[].parts", "messages[].content[]"),
        ("systeminstruction.parts[]", "messages[].content[]"),
        ("systeminstruction", "messages[].content"),
        ("system[]", "messages[].content[]"),
        ("system", "messages[].content"),
        ("instructions", "messages[].content"),
        ("input[].content[]", "messages[].content[]"),
        ("input[].output[]", "messages[].content[].content[]"),
        ("input[]", "messages[].content[]"),
        ("generationconfig.thinkingconfig", "reasoning"),
        ("generationconfig.responseschema", "responseformat.jsonschema"),
        ("generationconfig.responsejsonschema", "responseformat.jsonschema"),
        ("generationconfig.responsemimetype", "responseformat.type"),
        ("generationconfig.stopsequences", "stop"),
        ("generationconfig.maxoutputtokens", "maxtokens"),
        ("generationconfig.candidatecount", "n"),
        ("generationconfig.responselogprobs", "logprobs"),
        ("generationconfig.logprobs", "toplogprobs"),
        ("generationconfig.responsemodalities", "modalities"),
        ("generationconfig.", ""),
        ("tools[].functiondeclarations[]", "tools[]"),
        ("tools.functiondeclarations[]", "tools[]"),
        ("tools[].function.", "tools[]."),
        ("toolconfig.functioncallingconfig", "toolchoice"),
        ("toolchoice.disableparalleltooluse", "paralleltoolcalls"),
        ("text.format", "responseformat.jsonschema"),
        ("outputconfig.format", "responseformat.jsonschema"),
        ("outputconfig.effort", "reasoning.effort"),
        ("responseformat.jsonschema.type", "responseformat.type"),
        ("stopsequences", "stop"),
        ("maxcompletiontokens", "maxtokens"),
        ("messages[].content[].item.", "messages[].content[]."),
        ("maxoutputtokens", "maxtokens"),
        ("metadata.userid", "user"),
    ] {
        if let Some(rest) = path.strip_prefix(theirs) {
            path = format!("{ours}{rest}");
            break;
        }
    }
    path
}

/// Everything that a body holds, that of JSON within its strings too.
#[derive(Default)]
struct Held {
    names: HashSet<String>,
    strings: HashSet<String>,
    /// All strings, one after the other.
    text: String,
    numbers: Vec<f64>,
    flags: HashSet<(String, bool)>,
}

impl Held {
    fn take(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                if text.trim_start().starts_with(['{', '['])
                    && let Ok(json) = serde_json::from_str::<Value>(text)
                {
                    self.take(&json);
                }
                self.text.push_str(text);
                self.text.push('\n');
                self.strings.insert(text.clone());
            }
            Value::Number(number) => self.numbers.extend(number.as_f64()),
            Value::Array(list) => list.iter().for_each(|item| self.take(item)),
            Value::Object(members) => {
                for (name, value) in members {
                    if let Value::Bool(flag) = value {
                        self.flags.insert((plain_name(name), *flag));
                    }
                    self.names.insert(plain_name(name));
                    self.take(value);
                }
            }
            _ => {}
        }
    }

    fn has(&self, text: &str) -> bool {
        self.strings.contains(text) || self.text.contains(text)
    }
}

struct Search {
    /// Losses with their places.
    placed: Vec<String>,
    /// The body has no tools.
    uncalled: bool,
    losses: Vec<String>,
    held: Held,
    /// By path without places, so that each kind is told once.
    missing: BTreeMap<String, String>,
    from: Speech,
}

impl Search {
    fn walk(&mut self, value: &Value, path: &str, name: &str) {
        match value {
            _ if !says(value) => {}
            Value::Object(members) => {
                for (name, value) in members {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    self.walk(value, &path, name);
                }
            }
            Value::Array(list) => {
                for (n, value) in list.iter().enumerate() {
                    self.walk(value, &format!("{path}[{n}]"), name);
                }
            }
            _ => {
                if !self.is_there(value, path, name) && !self.is_lost(path, &plain_name(name)) {
                    let value: String = value.to_string().chars().take(80).collect();
                    let kind = without_places(&path);
                    let problem = format!("`{kind}` = {value} is neither in the body nor a named loss");
                    self.missing.entry(kind).or_insert(problem);
                }
            }
        }
    }

    /// Whether a loss names this path, what holds it, or a part of it.
    fn is_lost(&self, placed: &str, name: &str) -> bool {
        let path = plain_path(placed);
        let begins = |long: &str, short: &str| {
            long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let named = |words: &[&str]| self.losses.iter().any(|loss| words.iter().any(|word| loss.contains(word)));
        let spoken = name == "text" && [Speech::Gemini, Speech::Responses, Speech::Chat].contains(&self.from);
        let thought = spoken || THOUGHTS.contains(&name) || path.contains(".summary[]") || path.contains("reasoning");
        let wish = ["reasoning", "thinking"].iter().any(|word| path.starts_with(word));
        self.losses.iter().any(|loss| begins(&path, loss) || begins(loss, &path))
            || (thought || wish) && named(&["reasoning", "signature", "thinking", "thought", "encrypted", "effort"])
            // A target that knows no choice is given only the tools that may be chosen.
            || path.starts_with("tools[]") && named(&["toolchoice"])
            || path.starts_with("tools[]") && self.is_of_lost_tool(placed)
            || ["fileid", "filename", "title"].contains(&name) && named(&["fileid", "filename"])
            || path == "include[]" && named(&["logprobs"])
            || thought && self.losses.iter().any(|loss| loss == "messages[].content[]")
            || path.ends_with("cachecontrol.ttl") && named(&["cachecontrol"])
            || path.starts_with("toolchoice") && named(&["tools"])
            || path.starts_with("responseformat") && named(&["responseformat", "format"])
    }

    /// Whether the tool at this place is lost whole: such a loss is named for the tool's kind.
    fn is_of_lost_tool(&self, path: &str) -> bool {
        const PARTS: [&str; 6] =
            ["function", "strict", "description", "cache_control", "defer_loading", "input_schema"];
        let Some((place, _)) = path.split_once('.') else { return false };
        let kinds = self.placed.iter().filter_map(|loss| loss.strip_prefix(place)?.strip_prefix('.'));
        kinds.into_iter().any(|kind| !PARTS.iter().any(|part| kind.starts_with(part)))
    }

    fn is_there(&self, value: &Value, path: &str, name: &str) -> bool {
        let place = plain_path(path);
        let plain = plain_name(name);
        let schema = ["schema", "parameters"].iter().any(|word| place.contains(word));
        if LAYOUT.contains(&name) || schema && NOTES.contains(&plain.as_str()) || self.says_nothing(value, path, &plain)
        {
            return true;
        }
        let words = WORDS.iter().find(|(known, _)| *known == plain).filter(|_| !place.starts_with("messages[]."));
        let words =
            words.or_else(|| WORDS.iter().find(|(known, _)| ["iserror", "detail"].contains(known) && *known == plain));
        if let Some((_, may)) = words
            && may.iter().any(|word| self.held.names.contains(*word))
        {
            return true;
        }
        match value {
            Value::String(text) => self.has(text),
            Value::Number(number) => {
                let number = number.as_f64();
                self.held.numbers.iter().any(|found| Some(*found) == number) || self.held.has(&value.to_string())
            }
            Value::Bool(flag) => self.held.flags.contains(&(plain, *flag)) || self.held.has(&flag.to_string()),
            _ => true,
        }
    }

    /// Whether a member only says what holds without it.
    fn says_nothing(&self, value: &Value, path: &str, name: &str) -> bool {
        let place = plain_path(path);
        match (name, value) {
            // No tools at all are none that may be called.
            _ if self.uncalled && place.starts_with("tool") => true,
            ("thought" | "iserror" | "strict" | "logprobs" | "responselogprobs" | "echo", Value::Bool(false)) => true,
            ("paralleltoolcalls", Value::Bool(true)) | ("disableparalleltooluse", Value::Bool(false)) => true,
            ("store", Value::Bool(_)) => true,
            ("n" | "candidatecount", Value::Number(n)) => n.as_f64() == Some(1.0),
            ("frequencypenalty" | "presencepenalty" | "toplogprobs", Value::Number(n)) => n.as_f64() == Some(0.0),
            ("toolchoice" | "functioncall" | "detail" | "servicetier" | "mode", Value::String(text)) => {
                ["auto", "AUTO", "default"].contains(&text.as_str())
            }
            ("responsemodalities", Value::String(text)) => text.eq_ignore_ascii_case("text"),
            ("responsemimetype", Value::String(text)) => text == "text/plain",
            ("include", Value::String(text)) => text == "reasoning.encrypted_content",
            ("includeusage", _) => true,
            // Where the conversation stands at the provider, and the names of items there, are ours to know.
            ("id", _) => self.from == Speech::Responses && place.starts_with("messages[].content[]"),
            ("conversation" | "previousresponseid", _) => self.from == Speech::Responses,
            ("paralleltoolcalls", _) => self.uncalled,
            ("reasoningeffort" | "effort", Value::String(text)) => text == "none",
            ("thinkingbudget", Value::Number(n)) => n.as_u64() == Some(0),
            ("includethoughts", Value::Bool(false)) => true,
            // The time that a cache lasts where nothing is said.
            ("ttl", Value::String(text)) => text == "5m",
            // Longer than what several providers take, or with other signs: one of ours stands for it, in call and result alike.
            ("callid", Value::String(text)) => {
                text.len() > 64 || text.contains(|c: char| !c.is_ascii_alphanumeric() && !"_-".contains(c))
            }
            // A label that no model reads.
            ("name", _) if place.starts_with("responseformat") => true,
            // Bedrock's own mark on Anthropic's bodies.
            ("anthropicversion", _) => true,
            _ => false,
        }
    }

    /// Whether a text stands in the body, by itself or as the JSON, the bytes or the document that it is.
    fn has(&self, text: &str) -> bool {
        if self.held.has(text) || self.held.has(text.trim()) {
            return true;
        }
        if let Ok(json) = serde_json::from_str::<Value>(text)
            && (json.is_object() || json.is_array())
        {
            return self.has_all(&json);
        }
        let data =
            text.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")).map_or(text, |(_, data)| data);
        let standard = data.replace('-', "+").replace('_', "/");
        let plain = BASE64.decode(&standard).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let encoded = BASE64.encode(text);
        // Providers that take letters and digits alone in a call's id.
        let bare = text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-', "_");
        let stem = text.rsplit_once('.').map_or(text, |(stem, _)| stem);
        let kind = text.rsplit_once('/').map_or(text, |(_, kind)| kind);
        self.held.has(&standard)
            || self.held.has(&encoded)
            || self.held.has(&bare)
            || self.held.has(data)
            || plain.is_some_and(|plain| !plain.is_empty() && self.held.has(&plain))
            || text.len() < 200 && (self.held.has(stem) || self.held.strings.contains(kind))
    }

    fn has_all(&self, json: &Value) -> bool {
        match json {
            Value::Object(members) => members.values().all(|value| self.has_all(value)),
            Value::Array(list) => list.iter().all(|value| self.has_all(value)),
            Value::String(text) => self.held.has(text),
            Value::Number(number) => self.held.numbers.iter().any(|found| Some(*found) == number.as_f64()),
            _ => true,
        }
    }
}
