//! The shapes of Ollama's answers, whole or one line of a stream: they are the same.

use crate::ir::{Finish, FinishReason, Usage};
use crate::shape;
use crate::wire::json::{Extras, Kind, Number, Raw, Text};

shape! {
    pub(super) struct Answer {
        model "model": Text<'a>,
        created "created_at": Text<'a>,
        message "message": Message<'a>,
        done "done": bool,
        reason "done_reason": Text<'a>,
        prompt "prompt_eval_count": Raw<'a>,
        answer "eval_count": Raw<'a>,
        logprobs "logprobs": Raw<'a>,
        error "error": Raw<'a>,
        // Where the server spent its time, in nanoseconds: of the server, not of the answer.
        total_time "total_duration": Raw<'a>,
        load_time "load_duration": Raw<'a>,
        prompt_time "prompt_eval_duration": Raw<'a>,
        answer_time "eval_duration": Raw<'a>,
    }
}

shape! {
    pub(super) struct Message {
        role "role": Text<'a>,
        content "content": Text<'a>,
        thinking "thinking": Text<'a>,
        images "images": Vec<Text<'a>>,
        calls "tool_calls": Vec<Call<'a>>,
    }
}

shape! {
    pub(super) struct Call { id "id": Text<'a>, kind "type": Text<'a>, function "function": Function<'a> }
}

shape! {
    pub(super) struct Function { index "index": Raw<'a>, name "name": Text<'a>, arguments "arguments": Raw<'a> }
}

/// Why the model stopped; a call is not a reason of its own here.
pub(super) fn finish(native: Option<Text<'_>>, called: bool) -> Finish<'_> {
    let reason = match native.as_deref() {
        Some("length") => FinishReason::Length,
        None | Some("stop" | "") if called => FinishReason::ToolCalls,
        None | Some("stop" | "") => FinishReason::Stop,
        // `load` and `unload`: no message was given, so nothing was said.
        Some(_) => FinishReason::Other,
    };
    Finish { reason, sequence: None, native }
}

/// `None` where nothing was counted. A prompt that was still in the server's cache may be left out.
pub(super) fn usage(prompt: Option<&Raw<'_>>, answer: Option<&Raw<'_>>) -> Option<Usage> {
    let count = |raw: Option<&Raw<'_>>| raw?.read::<Number<'_>>().ok()?.as_u64();
    let (input, output) = (count(prompt), count(answer));
    (input.is_some() || output.is_some()).then(|| Usage {
        input: input.unwrap_or(0),
        output: output.unwrap_or(0),
        ..Usage::default()
    })
}

/// The answer has no id; the moment of its creation, which has nanoseconds, tells it from others.
pub(super) fn id(created: Option<&Text<'_>>) -> String {
    created.map(|created| format!("ollama-{created}")).unwrap_or_default()
}

/// Unix seconds.
pub(super) fn seconds(created: Option<&Text<'_>>) -> Option<u64> {
    let moment: jiff::Timestamp = created?.parse().ok()?;
    u64::try_from(moment.as_second()).ok()
}

/// Arguments are an object here, not text of one.
pub(super) fn arguments(raw: Option<Raw<'_>>) -> Text<'_> {
    match raw {
        Some(raw) if raw.kind() == Kind::String => raw.open().unwrap_or_default(),
        Some(raw) if !raw.is_null() => raw.into_text(),
        _ => "{}".into(),
    }
}

/// The list of log probabilities, whose entries are OpenAI's, in OpenAI's wrapping.
pub(super) fn logprobs(raw: Option<Raw<'_>>) -> Option<Raw<'static>> {
    let raw = raw.filter(|raw| raw.kind() == Kind::Array && raw.get().len() > 2)?;
    Some(Raw::trusted(format!(r#"{{"content":{}}}"#, raw.get())))
}

/// Whether a raw value is more than null or empty.
pub(super) fn says(raw: &Raw<'_>) -> bool {
    match raw.kind() {
        Kind::Null => false,
        Kind::String | Kind::Array | Kind::Object => raw.get().len() > 2,
        Kind::Number | Kind::Bool => true,
    }
}

/// The members that say something, each under `prefix`.
pub(super) fn adopt<'a>(into: &mut Extras<'a>, prefix: &str, extras: Extras<'a>) {
    for (name, json) in extras.0.into_iter().filter(|(_, json)| says(json)) {
        into.push(Text::from(format!("{prefix}{name}")), json);
    }
}
