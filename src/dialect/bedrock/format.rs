//! Structured output: by `outputConfig` where the model has it, else by a tool that the model must call, else in words.
//!
//! The tool has a name of ours ([`ANSWER`]), by which answers are known: what it is called with is the answer's text, and
//! neither decoder needs the request for that. It cannot stand beside tools of the caller's, since the model could not
//! call those any more, nor where a model thinks on a budget, which forbids force.

use super::model::Model;
use super::wire::Bag;
use crate::dialect::To;
use crate::dialect::anthropic::schema::{self, Fit, Notes};
use crate::ir::{Format, Losses, Request};
use crate::wire::json::{Raw, Text};
use crate::wire::writer::{self, Array, Object};

/// The tool that stands for a schema.
pub(super) const ANSWER: &str = "portolan_answer";

const JSON: &str = "Answer with one JSON object and nothing else: no explanation, no code fence.";

/// How the form is asked for.
pub(super) enum Form<'r> {
    Free,
    /// `outputConfig`: the schema as Bedrock takes it.
    Native {
        schema: String,
        name: Option<&'r str>,
        description: Option<&'r str>,
    },
    /// A tool that must be called.
    Tool {
        schema: &'r Raw<'r>,
        description: Option<&'r str>,
    },
    /// An instruction for the system prompt.
    Told(String),
}

impl<'r> Form<'r> {
    /// `free_to_force`: nothing else of the request forbids to force a tool.
    pub(super) fn of(
        request: &'r Request<'r>,
        model: Model,
        to: &To<'_>,
        free_to_force: bool,
        losses: &mut Losses,
    ) -> Form<'r> {
        let (name, description, schema) = match &request.format {
            Format::Free | Format::Text => return Form::Free,
            Format::JsonObject => {
                losses.emulated("response_format");
                return Form::Told(JSON.to_owned());
            }
            Format::JsonSchema { name, description, schema, .. } => (name.as_deref(), description.as_deref(), schema),
        };
        if model.takes_schema(to) {
            let mut out = Vec::new();
            let fit = schema::adapt(schema, Notes::default(), &mut out);
            if fit == Fit::Altered {
                losses.altered("response_format.json_schema.schema");
            }
            if let (true, Ok(schema)) = (fit != Fit::None, String::from_utf8(out)) {
                return Form::Native { schema, name, description };
            }
        }
        losses.emulated("response_format");
        if free_to_force && model.answers_by_tool() && is_of_object(schema) {
            if name.is_some() {
                losses.dropped("response_format.json_schema.name");
            }
            return Form::Tool { schema, description };
        }
        Form::Told(told(schema, name, description))
    }

    /// What goes into the system prompt.
    pub(super) fn instruction(&self) -> Option<String> {
        match self {
            Form::Told(text) => Some(text.clone()),
            _ => None,
        }
    }

    /// Writes `outputConfig`'s members.
    pub(super) fn write_config(&self, o: &mut Object<'_>) {
        let Form::Native { schema, name, description } = self else { return };
        o.object("textFormat", |o| {
            o.string("type", "json_schema");
            o.object("structure", |o| {
                o.object("jsonSchema", |o| {
                    o.string("schema", schema);
                    for (member, text) in [("name", name), ("description", description)] {
                        if let Some(text) = text {
                            o.string(member, text);
                        }
                    }
                });
            });
        });
    }

    /// Writes the tool that stands for the schema.
    pub(super) fn write_tool(&self, a: &mut Array<'_>) {
        let Form::Tool { schema, description } = self else { return };
        a.object(|o| {
            o.object("toolSpec", |o| {
                o.string("name", ANSWER);
                o.string("description", description.unwrap_or("Gives the answer, in the form that was asked for."));
                o.object("inputSchema", |o| o.raw("json", schema));
            });
        });
    }
}

/// Arguments of a tool are an object.
fn is_of_object(schema: &Raw<'_>) -> bool {
    let kind = schema.read::<Bag<'_>>().ok().and_then(|mut bag| bag.extras.take("type"));
    kind.is_some_and(|kind| kind.read::<Text<'_>>().is_ok_and(|kind| kind == "object"))
}

fn told(schema: &Raw<'_>, name: Option<&str>, description: Option<&str>) -> String {
    let mut text = format!("{JSON} It must satisfy this JSON Schema");
    for (mark, words) in [(" ", name), (": ", description)] {
        if let Some(words) = words {
            text.push_str(mark);
            text.push_str(words);
        }
    }
    text.push_str(":\n");
    text.push_str(schema.get());
    text
}

/// Writes a schema of a tool's arguments, told to be one of an object where it does not say so. Returns whether it was a
/// schema of an object at all.
pub(super) fn object_schema(schema: &Raw<'_>, out: &mut Vec<u8>) -> bool {
    match schema.read::<Bag<'_>>() {
        Ok(Bag { extras }) if extras.get("type").is_none() => {
            writer::object(out, |o| {
                o.string("type", "object");
                o.extras(&extras);
            });
            true
        }
        Ok(_) => {
            out.extend_from_slice(schema.get().as_bytes());
            true
        }
        Err(_) => {
            out.extend_from_slice(br#"{"type":"object"}"#);
            matches!(schema.get(), "true" | "false")
        }
    }
}
