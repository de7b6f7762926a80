//! Seals: how what another provider issued over its thoughts travels through a caller of this dialect and comes back.
//!
//! Messages have two places for proofs that clients must return unread: `thinking.signature` and
//! `redacted_thinking.data`. Thoughts that Anthropic did not issue get a seal there: a prefix that no signature of
//! Anthropic's has (theirs are base64), then issuer, id, signature and encrypted thoughts as `name=value` pairs. A `%` or
//! `&` within a value is written as in a URL; base64 has neither, so the common seal is its content and no longer.
//!
//! A signature on a tool call (Gemini) has no place on `tool_use`. It goes into a `redacted_thinking` block of its own,
//! before the call, with the call's id in the seal. An extra member on `tool_use` would cost less, and the official SDKs
//! do send it back where a program returns `response.content` whole. But LangChain, the Vercel AI SDK and others build
//! blocks anew from the members they know, while all of them return blocks of thoughts, since Anthropic refuses a
//! conversation without them. The call's id itself would come back from anybody, but clients take it for a file name or
//! a column, and signatures have kilobytes.
//!
//! A seal proves nothing to us and is not meant to: what is in it, its issuer checks.

use std::borrow::Cow;

use crate::ir::Reasoning;
use crate::wire::json::Text;

use super::wire::some;

/// What every seal begins with.
const MARK: &str = "portolan:";
/// The same as it stands in a body, where it is a string of its own.
const IN_BODY: &[u8] = b"\"portolan:";

/// What was under a seal.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Sealed<'a> {
    /// All of a thought but its text.
    Thought(Reasoning<'a>),
    /// The signature of the tool call with this id.
    Call { id: Text<'a>, signature: Text<'a> },
}

/// Seals a thought of another issuer, all but its text.
pub(super) fn thought(thought: &Reasoning<'_>) -> String {
    let summary = thought.summary.then_some("1");
    write(&[
        ("issuer", thought.issuer.as_deref()),
        ("id", thought.id.as_deref()),
        ("summary", summary),
        ("signature", thought.signature.as_deref()),
        ("encrypted", thought.encrypted.as_deref()),
    ])
}

/// Seals the signature of a tool call.
pub(super) fn call(id: &str, signature: &str) -> String {
    write(&[("call", Some(id)), ("signature", Some(signature))])
}

/// Opens a seal; `None` for what is none: a signature or data of Anthropic's own.
pub(super) fn open<'a>(text: &Text<'a>) -> Option<Sealed<'a>> {
    // Without escapes the body itself is borrowed, however long the signature is.
    let pairs: Vec<(Cow<'a, str>, Text<'a>)> = match &text.0 {
        Cow::Borrowed(text) => read(text)?,
        Cow::Owned(text) => {
            read(text)?.into_iter().map(|(name, value)| (Cow::Owned(name.into_owned()), value.into_owned())).collect()
        }
    };
    let mut found = Reasoning::default();
    let mut call = None;
    for (name, value) in pairs {
        match &*name {
            "issuer" => found.issuer = some(Some(value)),
            "id" => found.id = some(Some(value)),
            "summary" => found.summary = value == "1",
            "signature" => found.signature = some(Some(value)),
            "encrypted" => found.encrypted = some(Some(value)),
            "call" => call = some(Some(value)),
            // Of a later version of ours.
            _ => {}
        }
    }
    Some(match (call, found.signature.take()) {
        (Some(id), signature) => Sealed::Call { id, signature: signature.unwrap_or_default() },
        (None, signature) => Sealed::Thought(Reasoning { signature, ..found }),
    })
}

/// Whether a body may hold a seal. Anthropic would refuse it, so such a body must be decoded before it goes there.
pub(super) fn is_in(body: &[u8]) -> bool {
    memchr::memmem::find(body, IN_BODY).is_some()
}

fn write(pairs: &[(&str, Option<&str>)]) -> String {
    let length: usize = pairs.iter().map(|(name, value)| name.len() + value.map_or(0, str::len) + 2).sum();
    let mut seal = String::with_capacity(MARK.len() + length);
    seal.push_str(MARK);
    let mut first = true;
    for (name, value) in pairs {
        let Some(value) = value else { continue };
        if !std::mem::take(&mut first) {
            seal.push('&');
        }
        seal.push_str(name);
        seal.push('=');
        for piece in value.split_inclusive(['%', '&']) {
            match piece.strip_suffix(['%', '&']) {
                Some(plain) => {
                    seal.push_str(plain);
                    seal.push_str(if piece.ends_with('%') { "%25" } else { "%26" });
                }
                None => seal.push_str(piece),
            }
        }
    }
    seal
}

fn read(seal: &str) -> Option<Vec<(Cow<'_, str>, Text<'_>)>> {
    let pairs = seal.strip_prefix(MARK)?.split('&').filter_map(|pair| pair.split_once('='));
    Some(pairs.map(|(name, value)| (Cow::Borrowed(name), plain(value))).collect())
}

/// The value as it was before it was sealed.
fn plain(value: &str) -> Text<'_> {
    if value.contains('%') { Text::from(value.replace("%26", "&").replace("%25", "%")) } else { Text::from(value) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn maybe() -> impl Strategy<Value = Option<Text<'static>>> {
        let piece =
            prop_oneof![Just("%"), Just("&"), Just("="), Just("%26"), Just("25"), Just("portolan:"), Just("Ab+/=é")];
        proptest::option::of(proptest::collection::vec(piece, 1..6).prop_map(|pieces| Text::from(pieces.concat())))
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_what_comes_out(
            issuer in maybe(), id in maybe(), signature in maybe(), encrypted in maybe(), summary in any::<bool>(),
        ) {
            let whole = Reasoning { text: None, summary, signature, encrypted, issuer, id };
            let seal = thought(&whole);
            prop_assert_eq!(open(&Text::from(seal.as_str())), Some(Sealed::Thought(whole.clone())));
            prop_assert_eq!(open(&Text::from(seal)), Some(Sealed::Thought(whole.clone())));
            if let (Some(id), Some(signature)) = (whole.id, whole.signature) {
                let seal = call(&id, &signature);
                prop_assert_eq!(open(&Text::from(seal)), Some(Sealed::Call { id, signature }));
            }
        }
    }

    #[test]
    fn anthropics_own_is_no_seal() {
        assert_eq!(open(&"ErUBCkYIBBgCIkAOLwDXty2U".into()), None);
        assert_eq!(open(&"".into()), None);
        let seal = thought(&Reasoning {
            signature: Some("CpQB+/==".into()),
            issuer: Some("gemini".into()),
            ..Reasoning::default()
        });
        assert_eq!(seal, "portolan:issuer=gemini&signature=CpQB+/==");
        assert!(is_in(format!(r#"{{"signature":"{seal}"}}"#).as_bytes()));
        assert!(!is_in(br#"{"text":"see portolan: a map"}"#));
    }
}
