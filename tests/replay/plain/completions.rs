//! Our own legacy completions, held to the shape that OpenAI's SDKs expect while they are read.

use serde_json::Value;

use super::{Answer, Finish, events, items, ours, says, string};

/// A whole answer.
///
/// # Errors
/// It has not the shape of a `text_completion`.
pub fn whole(body: &Value) -> Result<Answer, String> {
    let mut answer = Answer { whole: true, ..Answer::default() };
    read(&mut answer, body)?;
    Ok(answer)
}

/// A streamed answer.
///
/// # Errors
/// As [`whole`].
pub fn stream(text: &str) -> Result<Answer, String> {
    let mut answer = Answer::default();
    for (_, data) in events(text) {
        if answer.whole {
            return Err(format!("something follows the end: {data}"));
        }
        if data == "[DONE]" {
            answer.whole = true;
            continue;
        }
        let chunk: Value = serde_json::from_str(&data).map_err(|error| format!("{error}: {data}"))?;
        if says(&chunk["error"]) {
            answer.error = Some(chunk["error"].clone());
            continue;
        }
        read(&mut answer, &chunk)?;
    }
    Ok(answer)
}

fn read(answer: &mut Answer, body: &Value) -> Result<(), String> {
    if body["object"] != "text_completion" || !body["created"].is_u64() || !body["choices"].is_array() {
        return Err(format!("object, created or choices: {body}"));
    }
    (answer.id, answer.model) = (string(&body["id"]), string(&body["model"]));
    for said in items(&body["choices"]) {
        let index = said["index"].as_u64().ok_or("a choice without an index")?;
        let choice = answer.choice(index);
        choice.text.push_str(said["text"].as_str().ok_or("a choice without text")?);
        choice.finish = match said["finish_reason"].as_str() {
            None => None,
            Some(word) => {
                let known = ["stop", "length", "content_filter"].into_iter().find(|known| *known == word);
                Finish::as_is(known.ok_or_else(|| format!("finish reason {word}"))?)
            }
        };
        if let Some(tokens) = said["logprobs"]["tokens"].as_array() {
            let values = items(&said["logprobs"]["token_logprobs"]);
            let pairs = tokens.iter().zip(values);
            choice.logprobs.extend(pairs.map(|(token, p)| serde_json::json!({"token": token, "logprob": p})));
        }
    }
    answer.usage = ours::usage(&body["usage"])?.or(answer.usage);
    Ok(())
}
