//! An answer that is passed through, watched: content, usage, faults and the end, without copying anything.
//!
//! Each frame is walked by span; only usage and faults are then read as JSON. Usage and the end come with the whole
//! response, which the last event repeats.

use crate::dialect::openai_chat::fault;
use crate::dialect::{Seen, Sniffer};
use crate::ir::{Fault, FaultKind, Usage};
use crate::wire::json::{Raw, clip};
use crate::wire::scan::walk;
use crate::wire::sse::Frame;

use super::usage;

/// Deepest nesting of an answer that is looked at.
const DEPTH: usize = 128;

/// Watches one answer.
#[derive(Default)]
pub struct Watch {
    done: bool,
    failed: bool,
}

impl Sniffer for Watch {
    fn frame(&mut self, frame: &Frame<'_>) -> Seen {
        let data = frame.data.trim();
        if frame.comment || data.is_empty() || data == "[DONE]" || self.done || self.failed {
            return Seen::default();
        }
        let (mut kind, mut response, mut error) = ("", None, None);
        let walked = walk(data, DEPTH, &mut |name, value| match name {
            "type" => kind = value.trim_matches('"'),
            "response" => response = Some(value),
            "error" => error = Some(value).filter(|error| says(error)),
            _ => {}
        });
        if walked.is_err() || !data.starts_with('{') {
            return self.garbage(data);
        }
        if kind.is_empty() {
            kind = frame.event;
        }
        match (kind, response) {
            ("error", _) => self.fault(error.unwrap_or(data)),
            ("", _) if error.is_some() => self.fault(error.unwrap_or(data)),
            ("response.completed" | "response.incomplete" | "response.cancelled" | "response.failed", Some(json)) => {
                let seen = self.whole_response(json);
                if kind == "response.failed" && seen.fault.is_none() {
                    return self.fault(r#""the provider failed and did not say why""#);
                }
                seen
            }
            _ => Seen { content: kind.ends_with(".delta") || kind == "response.output_item.done", ..Seen::default() },
        }
    }

    fn body(&mut self, body: &[u8]) -> Seen {
        let Ok(text) = std::str::from_utf8(body) else { return self.garbage("bytes that are not UTF-8") };
        self.whole_response(text.trim())
    }

    fn whole(&self) -> bool {
        self.done && !self.failed
    }
}

impl Watch {
    fn whole_response(&mut self, json: &str) -> Seen {
        let (mut output, mut counts, mut tools, mut error) = (false, None, None, None);
        let walked = walk(json, DEPTH, &mut |name, value| match name {
            "output" => output = value.starts_with('['),
            "usage" => counts = Some(value),
            "tool_usage" => tools = Some(value),
            "error" => error = Some(value).filter(|error| says(error)),
            _ => {}
        });
        if walked.is_err() || !json.starts_with('{') {
            return self.garbage(json);
        }
        if let Some(error) = error {
            return Seen { usage: counted(counts, tools), ..self.fault(error) };
        }
        if !output {
            return self.garbage(json);
        }
        self.done = true;
        Seen { content: true, usage: counted(counts, tools), end: true, ..Seen::default() }
    }

    fn fault(&mut self, error: &str) -> Seen {
        self.failed = true;
        let fault = Raw::parse(error)
            .map_or_else(|_| Fault::new(FaultKind::Server, clip(error, 200)), |raw| fault::in_stream(&raw));
        Seen { fault: Some(fault), ..Seen::default() }
    }

    fn garbage(&mut self, data: &str) -> Seen {
        self.failed = true;
        let message = format!("not a response: {}", clip(data, 200));
        Seen { fault: Some(Fault::new(FaultKind::Garbage, message)), ..Seen::default() }
    }
}

fn counted(usage: Option<&str>, tools: Option<&str>) -> Option<Usage> {
    let usage = Raw::parse(usage?).ok()?;
    let tools = tools.and_then(|tools| Raw::parse(tools).ok());
    usage::read(Some(&usage), tools.as_ref())
}

/// Whether a value is more than null or empty.
fn says(value: &str) -> bool {
    !matches!(value, "null" | r#""""# | "[]" | "{}")
}
