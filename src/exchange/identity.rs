//! What makes two calls the same call: everything that an answer may depend on, and whose it is.

use sha2::{Digest, Sha256};

use super::Call;
use crate::config::snapshot::Key;
use crate::wire::json::Number;
use crate::wire::scan;

/// Headers that an answer may depend on, beside our own controls.
const HEADERS: [&str; 6] =
    ["anthropic-beta", "anthropic-version", "idempotency-key", "openai-beta", "openai-organization", "openai-project"];
/// How our own begin.
const CONTROLS: &str = "x-portolan-";

/// The identity of a call. Two keys never have one in common, whatever they ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity([u8; 32]);

impl Identity {
    /// `dialect`: the caller's; `whereto`: what the call may go to; `headers`: the names and values of the request, names
    /// in lower case.
    pub fn of<'h>(
        call: &Call,
        key: &Key,
        dialect: &str,
        whereto: u64,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    ) -> Identity {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            // Where one part ends and the next begins counts.
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(key.id.as_bytes());
        part(dialect.as_bytes());
        part(&whereto.to_le_bytes());
        part(&[u8::from(call.stream), u8::from(call.array), u8::from(call.count)]);
        part(call.model.as_bytes());
        let mut relevant: Vec<_> = headers.filter(|(name, _)| is_relevant(name)).collect();
        relevant.sort_unstable();
        part(&(relevant.len() as u64).to_le_bytes());
        for (name, value) in relevant {
            part(name.as_bytes());
            part(value);
        }
        part(&call.body);
        Identity(hash.finalize().into())
    }
}

fn is_relevant(name: &str) -> bool {
    HEADERS.contains(&name) || (name.starts_with(CONTROLS) && name != super::call::DEDUP)
}

/// Whether the caller has asked for no chance in the answer: two such calls want the same words, where others may well be
/// sent several times to get several answers.
pub fn is_settled(call: &Call) -> bool {
    let zero = |json: &str| serde_json::from_str::<Number<'_>>(json).is_ok_and(|number| number.as_f64() == 0.0);
    if let Some(raw) = call.members.raw(&call.body, "temperature") {
        return zero(raw.get());
    }
    // Gemini's.
    let mut settled = false;
    for name in ["generationConfig", "generation_config"] {
        if let Some(raw) = call.members.raw(&call.body, name) {
            // The body has been scanned: this cannot fail for its grammar.
            let _ = scan::walk(raw.get(), usize::MAX, &mut |name, value| {
                settled |= name == "temperature" && zero(value);
            });
        }
    }
    settled
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::dialect::{gemini, openai_chat};
    use crate::exchange::Said;

    fn call(body: &str) -> Call {
        let snapshot = config::from_text("providers: { p: { preset: ollama } }\n", &|_| None).unwrap();
        let dialect = if body.contains("contents") { gemini::DIALECT } else { openai_chat::DIALECT };
        let said =
            Said { reads: dialect.inbound.unwrap().reads(), model: "m", stream: false, array: false, count: false };
        Call::read(body.to_owned().into(), &said, &snapshot.limits, &|_| None).unwrap()
    }

    #[test]
    fn the_same_is_the_same_and_nothing_else_is() {
        let text = format!(
            "providers: {{ p: {{ preset: ollama }} }}\nkeys: [{{ id: a, secret_sha256: \"{}\" }}, {{ id: b, secret_sha256: \"{}\" }}]\n",
            "0".repeat(64),
            "1".repeat(64)
        );
        let snapshot = config::from_text(&text, &|_| None).unwrap();
        let key = |id: &str| snapshot.keys.values().find(|key| key.id == id).unwrap().clone();
        let of = |body: &str, id: &str, dialect: &str, headers: &[(&str, &str)]| {
            let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes()));
            Identity::of(&call(body), &key(id), dialect, 7, headers)
        };
        let body = r#"{"model":"m","messages":[]}"#;
        let one = of(body, "a", "d", &[("x-portolan-tags", "a=b"), ("traceparent", "1")]);
        assert_eq!(
            one,
            of(body, "a", "d", &[("traceparent", "2"), ("x-portolan-tags", "a=b"), ("x-portolan-dedup", "on")])
        );
        for other in [
            of(body, "b", "d", &[("x-portolan-tags", "a=b")]),
            of(body, "a", "e", &[("x-portolan-tags", "a=b")]),
            of(body, "a", "d", &[("x-portolan-tags", "a=c")]),
            of(body, "a", "d", &[("x-portolan-tags", "a=b"), ("openai-beta", "x")]),
            of(r#"{"model":"m","messages":[] }"#, "a", "d", &[("x-portolan-tags", "a=b")]),
            of(r#"{"model":"m","messages":[],"stream":true}"#, "a", "d", &[("x-portolan-tags", "a=b")]),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn a_call_without_chance_is_settled() {
        for (body, settled) in [
            (r#"{"model":"m","messages":[],"temperature":0}"#, true),
            (r#"{"model":"m","messages":[],"temperature":0.0}"#, true),
            (r#"{"model":"m","messages":[],"temperature":0.1}"#, false),
            (r#"{"model":"m","messages":[],"temperature":null}"#, false),
            (r#"{"model":"m","messages":[]}"#, false),
            (r#"{"contents":[],"generationConfig":{"temperature":0}}"#, true),
            (r#"{"contents":[],"generationConfig":{"topP":0}}"#, false),
        ] {
            assert_eq!(is_settled(&call(body)), settled, "{body}");
        }
    }
}
