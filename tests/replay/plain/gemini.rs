//! Gemini `generateContent`.

use serde_json::Value;

use super::{Answer, Call, Counts, Finish, events, items, members, string};

/// Members that are read here, or that say nothing to a caller.
const TOP: [&str; 5] = ["candidates", "usageMetadata", "modelVersion", "responseId", "createTime"];
const CANDIDATE: [&str; 4] = ["index", "content", "finishReason", "logprobsResult"];

/// A whole answer; a list of them is a stream without its framing.
pub fn whole(body: &Value) -> Answer {
    match body {
        Value::Array(list) => read(list.clone()),
        _ => read(vec![body.clone()]),
    }
}

/// A streamed answer.
pub fn stream(text: &str) -> Answer {
    let parse = |(_, data): (String, String)| serde_json::from_str(&data).unwrap_or_else(|e| panic!("{e}: {data}"));
    read(events(text).into_iter().map(parse).collect())
}

fn read(documents: Vec<Value>) -> Answer {
    let mut answer = Answer::default();
    // A call whose arguments come in pieces, by paths.
    let mut pieces: Option<Value> = None;
    for document in &documents {
        if document["error"].is_object() {
            answer.error = Some(document["error"].clone());
            break;
        }
        answer.id = if answer.id.is_empty() { string(&document["responseId"]) } else { answer.id };
        answer.model = if answer.model.is_empty() { string(&document["modelVersion"]) } else { answer.model };
        answer.usage = counts(&document["usageMetadata"]).or(answer.usage);
        answer.note("usageMetadata.trafficType", &document["usageMetadata"]["trafficType"]);
        for (name, value) in members(document).filter(|(name, _)| !TOP.contains(&name.as_str())) {
            answer.note(name.as_str(), value);
        }
        for candidate in items(&document["candidates"]) {
            for (name, value) in members(candidate).filter(|(name, _)| !CANDIDATE.contains(&name.as_str())) {
                answer.note(format!("choices.{name}"), value);
            }
            let index = candidate["index"].as_u64().unwrap_or(0);
            answer.choice(index);
            for part in items(&candidate["content"]["parts"]) {
                self::part(&mut answer, index, part, &mut pieces);
            }
            let choice = answer.choice(index);
            let logprobs = &candidate["logprobsResult"];
            for (n, chosen) in items(&logprobs["chosenCandidates"]).enumerate() {
                choice.logprobs.push(logprob(chosen, Some(&logprobs["topCandidates"][n])));
            }
            if let Some(word) = word(&candidate["finishReason"]) {
                choice.finish = finish(&word);
            }
        }
        if let (true, Some(_)) = (answer.choices.is_empty(), document["promptFeedback"]["blockReason"].as_str()) {
            answer.choice(0).finish = Finish::as_is("content_filter");
        }
    }
    for choice in answer.choices.values_mut() {
        // Gemini says `STOP` also where it stops in order to call.
        if let (Some(finish), false) = (&mut choice.finish, choice.calls.is_empty())
            && finish.word == "stop"
        {
            finish.word = "tool_calls";
        }
    }
    answer.whole = !answer.choices.is_empty() && answer.choices.values().all(|choice| choice.finish.is_some());
    answer
}

fn part(answer: &mut Answer, index: u64, part: &Value, pieces: &mut Option<Value>) {
    let signature = part["thoughtSignature"].as_str().map(str::to_owned);
    let choice = answer.choice(index);
    choice.proofs.extend(signature);
    let text = part["text"].as_str();
    if let (Some(text), Some(true)) = (text, part["thought"].as_bool()) {
        choice.reasoning.push_str(text);
    } else if let Some(text) = text {
        choice.text.push_str(text);
    } else if part["functionCall"].is_object() {
        let call = &part["functionCall"];
        let more = call["willContinue"] == true;
        if call["name"].is_string() {
            let arguments = call.get("args").map_or("{}".to_owned(), Value::to_string);
            choice.calls.push(Call { id: string(&call["id"]), name: string(&call["name"]), arguments });
            *pieces = more.then(|| serde_json::json!({}));
        }
        if let Some(arguments) = pieces {
            items(&call["partialArgs"]).for_each(|piece| put(arguments, piece));
            if !more {
                choice.calls.last_mut().unwrap().arguments = arguments.to_string();
                *pieces = None;
            }
        }
    } else if let Some(data) = part["inlineData"]["data"].as_str() {
        let mime = string(&part["inlineData"]["mimeType"]);
        if mime.starts_with("image/") {
            choice.images.push(format!("data:{mime};base64,{data}"));
        } else if mime.starts_with("audio/") {
            choice.audio = Some(part["inlineData"].clone());
        } else {
            answer.note("content.file", part);
        }
    } else {
        let kind = members(part).map(|(name, _)| name).find(|name| *name != "thoughtSignature");
        if let Some(kind) = kind {
            // The signature lies within the part, and is lost with it.
            if let Some(signature) = part["thoughtSignature"].as_str() {
                choice.proofs.remove(signature);
            }
            answer.note(format!("content.{kind}"), part);
        }
    }
}

/// Puts one piece of an argument in its place: `$.a.b[0]`, text appended.
fn put(arguments: &mut Value, piece: &Value) {
    let path = piece["jsonPath"].as_str().unwrap();
    let mut at = arguments;
    for step in path.trim_start_matches('$').replace('[', ".[").split('.').filter(|step| !step.is_empty()) {
        at = match step.strip_prefix('[') {
            Some(place) => {
                let place: usize = place.trim_end_matches(']').parse().unwrap();
                if at.is_null() {
                    *at = serde_json::json!([]);
                }
                let list = at.as_array_mut().unwrap();
                while list.len() <= place {
                    list.push(Value::Null);
                }
                &mut list[place]
            }
            None => {
                if at.is_null() {
                    *at = serde_json::json!({});
                }
                at.as_object_mut().unwrap().entry(step).or_insert(Value::Null)
            }
        };
    }
    if let Some(text) = piece["stringValue"].as_str() {
        *at = Value::String(string(at) + text);
    }
    for name in ["numberValue", "boolValue"] {
        if !piece[name].is_null() {
            *at = piece[name].clone();
        }
    }
}

fn logprob(token: &Value, top: Option<&Value>) -> Value {
    let mut read = serde_json::json!({"token": token["token"], "logprob": token["logProbability"], "bytes": null});
    if let Some(top) = top {
        read["top_logprobs"] = items(&top["candidates"]).map(|token| logprob(token, None)).collect();
    }
    read
}

/// A word, or its number in protobuf.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(word) => Some(word.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn finish(word: &str) -> Option<Finish> {
    match word {
        "STOP" | "1" => Finish::as_is("stop"),
        "MAX_TOKENS" | "2" => Finish::as_is("length"),
        "SAFETY" | "MODEL_ARMOR" => Finish::as_is("content_filter"),
        "UNEXPECTED_TOOL_CALL" | "OTHER" => Finish::less("stop"),
        word => panic!("a finish reason that this reading does not know: {word}"),
    }
}

/// Thoughts are counted beside candidates, results of Google's own tools beside the prompt.
fn counts(usage: &Value) -> Option<Counts> {
    let n = |name: &str| usage[name].as_u64().unwrap_or(0);
    let prompt = n("promptTokenCount") + n("toolUsePromptTokenCount");
    let completion = n("candidatesTokenCount") + n("thoughtsTokenCount");
    let total = usage["totalTokenCount"].as_u64();
    (total.is_some() || prompt + completion > 0).then(|| Counts {
        prompt,
        completion,
        total: total.unwrap_or(prompt + completion),
        cached: n("cachedContentTokenCount"),
        audio_in: audio(&usage["promptTokensDetails"]),
        reasoning: n("thoughtsTokenCount"),
        audio_out: audio(&usage["candidatesTokensDetails"]),
        ..Counts::default()
    })
}

fn audio(details: &Value) -> u64 {
    let audio = items(details).filter(|detail| detail["modality"] == "AUDIO");
    audio.map(|detail| detail["tokenCount"].as_u64().unwrap_or(0)).sum()
}
