//! An answer that is passed through, watched: content, usage, faults and the end, without copying anything.
//!
//! Each frame is read once by visitors that keep flags and borrowed spans, so a frame that only carries content costs
//! no allocation. Reading the JSON, rather than searching for words in it, is what tells a member `usage` from a
//! model that writes about `"usage"`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::dialect::{Seen, Sniffer};
use crate::ir::{Fault, FaultKind, Usage};
use crate::wire::json::{Raw, clip};
use crate::wire::sse::Frame;

use super::{fault, usage};

/// Watches one answer.
#[derive(Default)]
pub struct Watch {
    done: bool,
    failed: bool,
    /// Choices that were seen, and those that were finished, one bit each.
    begun: u128,
    finished: u128,
}

impl Sniffer for Watch {
    fn frame(&mut self, frame: &Frame<'_>) -> Seen {
        let data = frame.data.trim();
        if frame.comment || data.is_empty() {
            return Seen::default();
        }
        if data == "[DONE]" {
            self.done = true;
            return Seen { end: true, ..Seen::default() };
        }
        let view = match serde_json::from_str::<View<'_>>(data) {
            Ok(view) => view,
            Err(e) => return self.garbage(&e),
        };
        let mut seen = self.look(&view);
        if seen.fault.is_none() && frame.event == "error" {
            self.failed = true;
            seen.fault = Raw::parse(data).ok().map(|raw| fault::in_stream(&raw));
        }
        seen
    }

    fn body(&mut self, body: &[u8]) -> Seen {
        let view = match serde_json::from_slice::<View<'_>>(body) {
            Ok(view) => view,
            Err(e) => return self.garbage(&e),
        };
        let mut seen = self.look(&view);
        if seen.fault.is_none() && view.choices.is_none() {
            self.failed = true;
            seen.fault = Some(Fault::new(FaultKind::Garbage, "the answer has no choices"));
        }
        self.done = seen.fault.is_none();
        seen.end = self.done;
        seen.usage_only = false;
        seen
    }

    fn whole(&self) -> bool {
        !self.failed && (self.done || (self.begun != 0 && self.begun == self.finished))
    }
}

impl Watch {
    fn look(&mut self, view: &View<'_>) -> Seen {
        let choices = view.choices.unwrap_or_default();
        self.begun |= choices.begun;
        self.finished |= choices.finished;
        let fault = view.fault();
        self.failed |= fault.is_some();
        let usage = [view.usage, view.groq, choices.usage].into_iter().flatten().find_map(counted);
        Seen {
            content: choices.content,
            usage,
            usage_only: usage.is_some() && choices.begun == 0 && fault.is_none(),
            end: false,
            fault,
        }
    }

    fn garbage(&mut self, error: &serde_json::Error) -> Seen {
        self.failed = true;
        let message = format!("not a chat completion: {}", clip(&error.to_string(), 300));
        Seen { fault: Some(Fault::new(FaultKind::Garbage, message)), ..Seen::default() }
    }
}

/// Usage in a value; Groq wraps it in a member of its own.
fn counted(raw: &RawValue) -> Option<Usage> {
    crate::shape! { struct Wrapped { usage "usage": Raw<'a> } }
    let raw = Raw::parse(raw.get()).ok()?;
    usage::read(Some(&raw)).or_else(|| usage::read(raw.read::<Wrapped<'_>>().ok()?.usage.as_ref()))
}

/// What matters of a chunk or an answer.
#[derive(Default)]
struct View<'a> {
    choices: Option<Choices<'a>>,
    usage: Option<&'a RawValue>,
    groq: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    /// `"object":"error"`, with the text of the error beside it (Mistral).
    refused: bool,
    message: Option<&'a RawValue>,
}

impl View<'_> {
    fn fault(&self) -> Option<Fault> {
        let error = self.error.or(self.message.filter(|_| self.refused))?;
        Raw::parse(error.get()).ok().map(|raw| fault::in_stream(&raw))
    }
}

#[derive(Clone, Copy, Default)]
struct Choices<'a> {
    begun: u128,
    finished: u128,
    content: bool,
    usage: Option<&'a RawValue>,
}

/// One choice.
#[derive(Default)]
struct Choice<'a> {
    index: u32,
    finished: bool,
    content: bool,
    usage: Option<&'a RawValue>,
}

/// Whether a delta or message says more than its role.
struct Says(bool);

/// Implements `Deserialize` for a view of an object: known members are looked at, others skipped.
macro_rules! view {
    ($name:ident, $lifetime:lifetime, |$view:ident, $map:ident| { $($key:literal => $look:expr,)* }) => {
        impl<'de: $lifetime, $lifetime> Deserialize<'de> for $name<$lifetime> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Members<'a>(std::marker::PhantomData<&'a ()>);
                impl<'de: 'a, 'a> Visitor<'de> for Members<'a> {
                    type Value = $name<'a>;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut $map: A) -> Result<$name<'a>, A::Error> {
                        const NAMES: &[&str] = &[$($key),*];
                        let mut $view = $name::default();
                        while let Some(Name(name)) = $map.next_key_seed(Names(NAMES))? {
                            match name {
                                $(Some($key) => $look,)*
                                _ => { $map.next_value::<IgnoredAny>()?; }
                            }
                        }
                        Ok($view)
                    }
                }
                deserializer.deserialize_map(Members(std::marker::PhantomData))
            }
        }
    };
}

view!(View, 'a, |view, map| {
    "choices" => view.choices = map.next_value()?,
    "usage" => view.usage = map.next_value()?,
    "x_groq" => view.groq = map.next_value()?,
    "error" => view.error = map.next_value()?,
    "message" => view.message = map.next_value()?,
    "object" => view.refused = map.next_value::<&'de RawValue>()?.get() == r#""error""#,
});

view!(Choice, 'a, |choice, map| {
    "index" => choice.index = map.next_value::<&'de RawValue>()?.get().parse().unwrap_or(0),
    "delta" => choice.content |= map.next_value::<Option<Says>>()?.is_some_and(|says| says.0),
    "message" => choice.content |= map.next_value::<Option<Says>>()?.is_some_and(|says| says.0),
    "finish_reason" => choice.finished = says(map.next_value::<&'de RawValue>()?),
    "usage" => choice.usage = map.next_value()?,
});

/// A member's name, as one of those looked for.
struct Name(Option<&'static str>);

/// Reads a member's name without keeping it.
struct Names(&'static [&'static str]);

impl<'de> serde::de::DeserializeSeed<'de> for Names {
    type Value = Name;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Names {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        Ok(Name(self.0.iter().find(|known| **known == name).copied()))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Choices<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<'a>(std::marker::PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Items<'a> {
            type Value = Choices<'a>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of choices")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Choices<'a>, A::Error> {
                let mut choices = Choices::default();
                while let Some(choice) = seq.next_element::<Choice<'a>>()? {
                    let bit = 1_u128.checked_shl(choice.index).unwrap_or(1 << 127);
                    choices.begun |= bit;
                    if choice.finished {
                        choices.finished |= bit;
                    }
                    choices.content |= choice.content || choice.finished;
                    choices.usage = choices.usage.or(choice.usage);
                }
                Ok(choices)
            }
        }
        deserializer.deserialize_seq(Items(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for Says {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Says;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Says, A::Error> {
                // What stands beside the content rather than is content.
                const BESIDE: &[&str] =
                    &["role", "channel", "name", "index", "token_id", "obfuscation", "padding", "p"];
                let mut any = false;
                while let Some(Name(beside)) = map.next_key_seed(Names(BESIDE))? {
                    let value = map.next_value::<&'de RawValue>()?;
                    any |= beside.is_none() && says(value);
                }
                Ok(Says(any))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// Whether a value is more than null or empty.
fn says(value: &RawValue) -> bool {
    !matches!(value.get(), "null" | r#""""# | "[]" | "{}")
}
