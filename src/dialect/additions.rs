//! What a provider wants in, or out of, every request's body, whatever the dialect: members that are added, and the
//! model, where the path names it.
//!
//! Claude on Vertex AI is the case in point: no `model`, but `anthropic_version` in the body instead of a header.

use serde::{Deserialize, Serialize};

use super::Quirks;
use crate::wire::patch::Patch;
use crate::wire::scan::{Members, walk};
use crate::wire::writer;

/// Deepest nesting that is looked through; the body's own limit is settled before.
const DEPTH: usize = 1_000;

/// A JSON value, written once when the configuration is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(from = "serde_json::Value", into = "serde_json::Value")]
pub struct Literal(String);

impl From<serde_json::Value> for Literal {
    fn from(value: serde_json::Value) -> Self {
        Literal(value.to_string())
    }
}

impl From<Literal> for serde_json::Value {
    fn from(literal: Literal) -> Self {
        serde_json::from_str(&literal.0).unwrap_or_default()
    }
}

impl Literal {
    /// The value as JSON.
    pub fn json(&self) -> &str {
        &self.0
    }
}

/// Edits of a caller's body, after the dialect's own: takes the model out where the body has none, and adds what the
/// caller did not write. What the caller wrote and the provider refuses is not there either.
pub(super) fn splice(body: &[u8], members: &Members, quirks: &Quirks, patch: &mut Patch) {
    if quirks.no_model {
        patch.remove(members, body, "model");
    }
    for (name, value) in &quirks.adds {
        let stays =
            |written: &str| members.get(body, written).is_some() && !quirks.refuses.iter().any(|r| r == written);
        let renamed = || quirks.rename.iter().any(|(ours, theirs)| theirs == name && stays(ours));
        if !stays(name) && !renamed() {
            patch.insert(members, body, name, value.json().as_bytes());
        }
    }
}

/// Adds what an encoder did not write to the body that it wrote: the object that begins at `start` and ends `out`.
pub(super) fn complete(quirks: &Quirks, start: usize, out: &mut Vec<u8>) {
    if quirks.adds.is_empty() {
        return;
    }
    let mut missing: Vec<_> = quirks.adds.iter().collect();
    let mut empty = true;
    let body = out.get(start..).and_then(|body| std::str::from_utf8(body).ok()).unwrap_or_default();
    let walked = walk(body, DEPTH, &mut |written, _| {
        empty = false;
        missing.retain(|(name, _)| *name != written);
    });
    // An encoder writes an object; were it none, it would be the provider's to refuse.
    if walked.is_err() || out.pop_if(|last| *last == b'}').is_none() {
        return;
    }
    for (name, value) in missing {
        if !std::mem::take(&mut empty) {
            out.push(b',');
        }
        writer::string(out, name);
        out.push(b':');
        out.extend_from_slice(value.json().as_bytes());
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Abilities, CONTROLS, DIALECTS, To};
    use crate::ir::{Block, Losses, Message, Request};
    use crate::wire::scan::scan;
    use serde_json::{Value, json};

    fn quirks() -> Quirks {
        let adds = [("anthropic_version", json!("vertex-2023-10-16")), ("labels", json!({"team": ["a", 1.5, null]}))];
        Quirks {
            no_model: true,
            adds: adds.map(|(name, value)| (name.to_owned(), value.into())).into(),
            ..Quirks::default()
        }
    }

    fn spliced(body: &str, quirks: &Quirks) -> String {
        let members = scan(body.as_bytes(), 64).unwrap();
        let mut patch = Patch::default();
        splice(body.as_bytes(), &members, quirks, &mut patch);
        String::from_utf8(patch.apply(body.as_bytes())).unwrap()
    }

    #[test]
    fn what_the_caller_wrote_stays() {
        let version = r#""anthropic_version":"vertex-2023-10-16""#;
        let labels = r#""labels":{"team":["a",1.5,null]}"#;
        assert_eq!(spliced(r#"{"model":"m", "a":1.0}"#, &quirks()), format!(r#"{{"a":1.0,{version},{labels}}}"#));
        assert_eq!(spliced(r#"{"labels":{},"model":"m"}"#, &quirks()), format!(r#"{{"labels":{{}},{version}}}"#));
        assert_eq!(spliced("{}", &quirks()), format!("{{{version},{labels}}}"));
        let renamed = Quirks { rename: [("tags".into(), "labels".into())].into(), ..quirks() };
        assert_eq!(spliced(r#"{"tags":{}}"#, &renamed), format!(r#"{{"tags":{{}},{version}}}"#));
        let refused = Quirks { refuses: vec!["labels".into()], ..quirks() };
        assert!(spliced(r#"{"labels":{}}"#, &refused).contains(labels));
        assert_eq!(spliced(r#"{"model":"m"}"#, &Quirks::default()), r#"{"model":"m"}"#);
    }

    #[test]
    fn what_an_encoder_wrote_stays() {
        let completed = |body: &str| {
            let mut out = format!("before{body}").into_bytes();
            complete(&quirks(), 6, &mut out);
            String::from_utf8(out).unwrap()[6..].to_owned()
        };
        let version = r#""anthropic_version":"vertex-2023-10-16""#;
        assert_eq!(completed(r#"{"labels":{"labels":1}}"#), format!(r#"{{"labels":{{"labels":1}},{version}}}"#));
        assert_eq!(completed("{}"), format!(r#"{{{version},"labels":{{"team":["a",1.5,null]}}}}"#));
        assert_eq!(completed("[]"), "[]");
    }

    #[test]
    fn every_dialect_heeds_it() {
        let message = Message { blocks: vec![Block::text("hi")], ..Message::default() };
        let request = Request { messages: vec![message], ..Request::default() };
        for dialect in DIALECTS {
            let Some(outbound) = dialect.outbound else { continue };
            let (quirks, abilities) = (quirks(), Abilities::default());
            let to = To { model: "claude-x", stream: true, quirks: &quirks, abilities: &abilities };
            let mut out = Vec::new();
            outbound.encode(&request, &to, &mut out, &mut Losses::default()).unwrap();
            let encoded: Value = serde_json::from_slice(&out).unwrap();

            let body = json!({"model": "alias", "x": 1, CONTROLS[0]: []}).to_string();
            let mut patch = Patch::default();
            outbound.splice(body.as_bytes(), &scan(body.as_bytes(), 64).unwrap(), &to, &mut patch);
            let spliced: Value = serde_json::from_slice(&patch.apply(body.as_bytes())).unwrap();
            for body in [encoded, spliced] {
                assert!(body.get("model").is_none(), "{dialect:?}: {body}");
                assert_eq!(body["anthropic_version"], "vertex-2023-10-16", "{dialect:?}: {body}");
                assert_eq!(body["labels"]["team"][1], 1.5, "{dialect:?}: {body}");
            }
        }
    }
}
