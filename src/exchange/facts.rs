//! What the conditions of rules may know of a call, found out when one asks.
//!
//! A look at the bytes, as [`super::needs`] takes it: what is asked for is worth a scan of the member that says it, never a
//! tree of the body.

use std::cell::{Cell, OnceCell};

use super::{Call, Circumstances};
use super::{needs, prompt};
use crate::config::Snapshot;
use crate::config::snapshot::Key;
use crate::policy::Moment;
use crate::policy::classes::{Judged, Prompt};
use crate::policy::queue::Urgency;
use crate::policy::route::Strategy;
use crate::policy::rules::{Facts, Field, Map, Value};
use crate::wire::scan;

/// A call, as conditions see it.
pub(super) struct Seen<'c> {
    snapshot: &'c Snapshot,
    key: &'c Key,
    call: &'c Call,
    dialect: &'static str,
    header: &'c dyn Fn(&str) -> Option<&'c str>,
    now: Moment,
    /// The model it asks for, or was led to.
    pub model: Cell<&'c str>,
    clock: OnceCell<Clock>,
    images: OnceCell<bool>,
    judged: OnceCell<Option<Judged>>,
}

/// The time as it is on the wall.
#[derive(Clone, Copy)]
struct Clock {
    hour: i64,
    minute: i64,
    weekday: i64,
}

impl<'c> Seen<'c> {
    pub fn new(
        snapshot: &'c Snapshot,
        key: &'c Key,
        call: &'c Call,
        circumstances: &Circumstances<'c>,
        model: &'c str,
        now: Moment,
    ) -> Seen<'c> {
        let (clock, images, judged) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        let Circumstances { dialect, header } = *circumstances;
        Seen { snapshot, key, call, dialect, header, now, model: Cell::new(model), clock, images, judged }
    }

    /// The class of task, decided at the first question.
    pub fn judged(&self) -> Option<&Judged> {
        let judge = || {
            let classes = self.snapshot.classes.as_ref()?;
            let text = prompt::head(self.call, classes.head);
            let (tokens, tools) = (self.call.input_estimate, needs::tools(self.call));
            Some(classes.judge(&Prompt { text: &text, tokens, tools }))
        };
        self.judged.get_or_init(judge).as_ref()
    }

    /// The class of task, where it was decided.
    pub fn into_judged(self) -> Option<Judged> {
        self.judged.into_inner().flatten()
    }

    fn clock(&self) -> Clock {
        *self.clock.get_or_init(|| {
            let at = jiff::Timestamp::from_millisecond(i64::try_from(self.now.unix_ms).unwrap_or(0));
            let local = self.snapshot.rulebook.zone.to_datetime(at.unwrap_or_default());
            Clock {
                hour: local.hour().into(),
                minute: local.minute().into(),
                weekday: local.weekday().to_monday_one_offset().into(),
            }
        })
    }
}

impl Facts for Seen<'_> {
    fn value(&self, field: Field) -> Option<Value<'_>> {
        let Seen { key, call, .. } = self;
        Some(match field {
            Field::Model => Value::Text(self.model.get()),
            Field::Operation => Value::Text(if call.count { "count" } else { "generate" }),
            Field::Dialect => Value::Text(self.dialect),
            Field::Stream => Value::Flag(call.stream),
            Field::InputTokens => Value::Number(number(call.input_estimate)),
            Field::MaxTokens => Value::Number(number(call.max_output?)),
            Field::HasTools => Value::Flag(needs::tools(call)),
            Field::HasImages => Value::Flag(*self.images.get_or_init(|| needs::pictures(call))),
            Field::WantsJson => Value::Flag(wants_json(call)),
            Field::WantsThinking => Value::Flag(wants_thinking(call)),
            Field::Class => {
                let class = self.judged().filter(|judged| !judged.shadow).and_then(|judged| judged.class.as_deref());
                Value::Text(class.unwrap_or_default())
            }
            Field::Routing => Value::Text(call.controls.routing.map_or("", Strategy::name)),
            Field::Priority => Value::Text(call.controls.urgency.map_or("normal", Urgency::name)),
            Field::Session => Value::Text(call.controls.session.as_deref().unwrap_or_default()),
            Field::KeyId | Field::KeyName => Value::Text(&key.id),
            Field::KeyTier => Value::Text(key.tier.as_deref().unwrap_or_default()),
            Field::Project => Value::Text(key.project.as_deref().unwrap_or_default()),
            Field::Team => Value::Text(key.team.as_deref().unwrap_or_default()),
            Field::ClientRegion => {
                let home = key.home.or(self.snapshot.home);
                Value::Text(home.and_then(|home| self.snapshot.homes.get(home)).map_or("", String::as_str))
            }
            Field::Hour => Value::Number(self.clock().hour),
            Field::Minute => Value::Number(self.clock().minute),
            Field::MinuteOfDay => Value::Number(self.clock().hour * 60 + self.clock().minute),
            Field::Weekday => Value::Number(self.clock().weekday),
        })
    }

    fn entry(&self, map: Map, name: &str) -> Option<&str> {
        let tags = match map {
            Map::Tags => &self.call.controls.tags,
            Map::KeyTags => &self.key.tags,
            Map::Headers => return (self.header)(name),
        };
        tags.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Members that say in which form the answer is to be, with the one inside that does so (OpenAI's two APIs, Anthropic's).
const FORMATS: [(&str, &str); 4] =
    [("response_format", ""), ("text", "format"), ("output_config", "format"), ("output_format", "")];
/// How Google's dialect may write the member that says such things.
const GENERATION: [&str; 2] = ["generationConfig", "generation_config"];

/// Whether the answer is to be JSON.
fn wants_json(call: &Call) -> bool {
    let by_type = FORMATS.iter().any(|(outer, within)| {
        let format =
            call.written(outer).and_then(|json| if within.is_empty() { Some(json) } else { inner(json, within) });
        format.and_then(|json| inner(json, "type")).is_some_and(|kind| kind.starts_with("\"json_"))
    });
    by_type
        || GENERATION.iter().filter_map(|name| call.written(name)).any(|json| {
            let mime = ["responseMimeType", "response_mime_type"].iter().find_map(|name| inner(json, name));
            mime == Some("\"application/json\"")
                || ["responseSchema", "response_schema", "responseJsonSchema", "response_json_schema"]
                    .iter()
                    .any(|name| inner(json, name).is_some())
        })
}

/// Whether reasoning is asked for.
fn wants_thinking(call: &Call) -> bool {
    let off = ["\"none\"", "\"disabled\"", "false", "0", "null"];
    let said = |json: Option<&str>| json.map(|json| !off.contains(&json));
    if let Some(wanted) = said(call.written("reasoning_effort")).or(said(call.written("enable_thinking"))) {
        return wanted;
    }
    if let Some(thinking) = call.written("thinking").filter(|json| *json != "null") {
        return said(inner(thinking, "type")).unwrap_or(true);
    }
    if let Some(reasoning) = call.written("reasoning").filter(|json| *json != "null") {
        let words = ["effort", "enabled", "max_tokens"];
        return words
            .iter()
            .filter_map(|name| said(inner(reasoning, name)))
            .reduce(|all, one| all && one)
            .unwrap_or(false);
    }
    GENERATION.iter().filter_map(|name| call.written(name)).any(|json| {
        let thinking = ["thinkingConfig", "thinking_config"].iter().find_map(|name| inner(json, name));
        let budget = |json: &str| ["thinkingBudget", "thinking_budget"].iter().find_map(|name| said(inner(json, name)));
        thinking.is_some_and(|json| budget(json).unwrap_or(true))
    })
}

/// A member of an object, as it is written. The body has been scanned: its grammar is sound.
fn inner<'b>(json: &'b str, name: &str) -> Option<&'b str> {
    let mut found = None;
    let _ = scan::walk(json, usize::MAX, &mut |own, value| {
        if own == name && value != "null" {
            found = Some(value);
        }
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::snapshot::Limits;
    use crate::dialect::{anthropic, gemini, openai_chat, openai_responses};
    use crate::exchange::Said;

    fn call(dialect: crate::dialect::Dialect, more: &str) -> Call {
        let limits = Limits::small();
        let reads = dialect.inbound.unwrap().reads();
        let said = Said { reads, model: "m", stream: false, array: false, count: false };
        Call::read(format!(r#"{{"model":"m"{more}}}"#).into(), &said, &limits, &|_| None).unwrap()
    }

    #[test]
    fn what_is_wanted_is_seen_in_each_dialect() {
        let (chat, responses) = (openai_chat::DIALECT, openai_responses::DIALECT);
        for (dialect, more, json, thinking) in [
            (chat, "", false, false),
            (chat, r#","response_format":{"type":"json_object"}"#, true, false),
            (chat, r#","response_format":{"type":"text"},"reasoning_effort":"low""#, false, true),
            (chat, r#","reasoning_effort":"none""#, false, false),
            (chat, r#","reasoning":{"enabled":false}"#, false, false),
            (chat, r#","enable_thinking":true"#, false, true),
            (responses, r#","text":{"format":{"type":"json_schema"}},"reasoning":{"effort":"high"}"#, true, true),
            (responses, r#","text":{"format":{"type":"text"}},"reasoning":{"summary":"auto"}"#, false, false),
            (anthropic::DIALECT, r#","thinking":{"type":"enabled","budget_tokens":1024}"#, false, true),
            (anthropic::DIALECT, r#","thinking":{"type":"disabled"}"#, false, false),
            (anthropic::DIALECT, r#","output_config":{"format":{"type":"json_schema"}}"#, true, false),
            (gemini::DIALECT, r#","generationConfig":{"responseMimeType":"application/json"}"#, true, false),
            (gemini::DIALECT, r#","generationConfig":{"thinkingConfig":{"thinkingBudget":0}}"#, false, false),
            (gemini::DIALECT, r#","generationConfig":{"thinkingConfig":{"includeThoughts":true}}"#, false, true),
        ] {
            let call = call(dialect, more);
            assert_eq!((wants_json(&call), wants_thinking(&call)), (json, thinking), "{more}");
        }
    }
}
