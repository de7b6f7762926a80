//! Ollama's own chat.

use serde_json::Value;

use super::{Answer, Call, Counts, Finish, items, string};

/// A whole answer.
pub fn whole(body: &Value) -> Answer {
    read(std::slice::from_ref(body))
}

/// A streamed answer: lines that are each like a whole one.
pub fn stream(text: &str) -> Answer {
    let lines: Vec<Value> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    read(&lines)
}

fn read(lines: &[Value]) -> Answer {
    let mut answer = Answer::default();
    answer.choice(0);
    for line in lines {
        answer.model = string(&line["model"]);
        let choice = answer.choices.entry(0).or_default();
        let message = &line["message"];
        choice.text.push_str(&string(&message["content"]));
        choice.reasoning.push_str(&string(&message["thinking"]));
        for call in items(&message["tool_calls"]) {
            let function = &call["function"];
            choice.calls.push(Call {
                id: string(&call["id"]),
                name: string(&function["name"]),
                arguments: function["arguments"].to_string(),
            });
        }
        if line["done"] == true {
            answer.whole = true;
            choice.finish = match line["done_reason"].as_str() {
                Some("length") => Finish::as_is("length"),
                Some("stop") | None if choice.calls.is_empty() => Finish::as_is("stop"),
                Some("stop") | None => Finish::as_is("tool_calls"),
                Some(word) => panic!("a finish reason that this reading does not know: {word}"),
            };
        }
        let [prompt, completion] = [&line["prompt_eval_count"], &line["eval_count"]].map(Value::as_u64);
        if prompt.is_some() || completion.is_some() {
            let (prompt, completion) = (prompt.unwrap_or(0), completion.unwrap_or(0));
            answer.usage = Some(Counts { prompt, completion, total: prompt + completion, ..Counts::default() });
        }
    }
    answer
}
