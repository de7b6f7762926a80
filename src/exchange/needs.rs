//! What a request needs of its target beyond text, as far as it decides where to go first.
//!
//! A look at the bytes, not a reading: it only orders the targets, so that one that is known to lack something is tried
//! after those that are not. What a target then cannot be told is settled when the request is written for it.

use memchr::memmem;

use super::Call;
use crate::config::snapshot::Lacks;
use crate::dialect::Abilities;

/// How members that hold pictures, and schemas for the answer, begin in the dialects of callers. A quoted word of a
/// prompt does not look so: its quotes are escaped.
const PICTURES: [&str; 6] = [
    "\"image_url\"",
    "\"input_image\"",
    "\"type\":\"image\"",
    "\"type\": \"image\"",
    "\"inlineData\"",
    "\"inline_data\"",
];
const SCHEMAS: [&str; 5] = [
    "\"json_schema\"",
    "\"responseSchema\"",
    "\"responseJsonSchema\"",
    "\"response_schema\"",
    "\"response_json_schema\"",
];

/// What a request needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub tools: bool,
    pub vision: bool,
    pub schema: bool,
    /// Rough count of input tokens.
    pub input: u64,
}

impl Needs {
    /// What some target lacks is looked for, and nothing else.
    pub fn of(call: &Call, lacks: Lacks) -> Needs {
        Needs {
            tools: lacks.tools && tools(call),
            vision: lacks.vision && pictures(call),
            schema: lacks.schema && has(call, &SCHEMAS),
            input: call.input_estimate,
        }
    }

    /// Whether a model may have all of it. What is not known of a model counts as there.
    pub fn met_by(&self, abilities: &Abilities) -> bool {
        let lacks = |needed: bool, ability: Option<bool>| needed && ability == Some(false);
        !lacks(self.tools, abilities.tools)
            && !lacks(self.vision, abilities.vision)
            && !lacks(self.schema, abilities.structured_output)
            && abilities.context.is_none_or(|most| self.input <= most)
    }
}

/// Whether there are tools.
pub(super) fn tools(call: &Call) -> bool {
    call.written("tools").is_some_and(|tools| !matches!(tools, "[]" | "null"))
}

/// Whether there are pictures.
pub(super) fn pictures(call: &Call) -> bool {
    has(call, &PICTURES)
}

fn has(call: &Call, marks: &[&str]) -> bool {
    marks.iter().any(|mark| memmem::find(&call.body, mark.as_bytes()).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_to_be_missing_counts() {
        let needs = Needs { tools: true, input: 9, ..Needs::default() };
        let able = |tools, context| needs.met_by(&Abilities { tools, context, ..Abilities::default() });
        assert!(able(None, None) && able(Some(true), Some(9)));
        assert!(!able(Some(false), None) && !able(None, Some(8)));
        let blind = Abilities { vision: Some(false), structured_output: Some(false), ..Abilities::default() };
        assert!(needs.met_by(&blind));
        assert!(!Needs { vision: true, ..Needs::default() }.met_by(&blind));
        assert!(!Needs { schema: true, ..Needs::default() }.met_by(&blind));
    }
}
