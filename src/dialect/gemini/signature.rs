//! Proofs of other providers' thoughts, inside `thoughtSignature`.
//!
//! Callers of this dialect send every `thoughtSignature` back on the part that it came on, and that is the only place
//! they have for such a thing. Google's own goes through as it is. What others issue (Anthropic's `signature` and
//! `redacted_thinking`, OpenAI's `encrypted_content`) is packed with its issuer's name, so that it finds its way back
//! byte for byte and to nobody else. The member is of type `bytes`: SDKs decode it from base64 and encode it again, some
//! in the alphabet for URLs (google-genai for Python 3.4, seen 2026-11-21), so both alphabets are read.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::NAME;
use crate::ir::Reasoning;
use crate::shape;
use crate::wire::json::{Number, Text};
use crate::wire::writer;

/// What is packed begins with this; nine bytes, so that it reads the same in base64 whatever follows.
const HEAD: &[u8] = b"portolan:";
/// [`HEAD`] in base64.
pub(super) const MARK: &str = "cG9ydG9sYW46";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

shape! {
    struct Packed {
        issuer "issuer": Text<'a>,
        signature "signature": Text<'a>,
        encrypted "encrypted": Text<'a>,
        id "id": Text<'a>,
        summary "summary": bool,
        text "text": Number<'a>,
    }
}

/// What proves one thought.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proof {
    /// The thought without its text.
    pub(super) thought: Reasoning<'static>,
    /// Length in bytes of the thought's text, which ends with the part that the proof stands on. `None`: it has none.
    pub(super) over: Option<u64>,
}

impl Proof {
    /// What of a thought its text does not tell; `None`: nothing.
    pub(super) fn of(thought: &Reasoning<'_>, over: Option<usize>) -> Option<Proof> {
        let own = |text: &Option<Text<'_>>| text.as_ref().map(|text| text.reborrow().into_owned());
        let says = thought.signature.is_some() || thought.encrypted.is_some() || thought.id.is_some();
        let foreign = thought.issuer.as_deref().is_some_and(|issuer| issuer != NAME);
        (says || foreign).then(|| Proof {
            thought: Reasoning {
                text: None,
                summary: thought.summary,
                signature: own(&thought.signature),
                encrypted: own(&thought.encrypted),
                issuer: own(&thought.issuer),
                id: own(&thought.id),
            },
            over: over.map(|bytes| bytes as u64),
        })
    }

    /// Google's own signature, which needs no packing.
    pub(super) fn is_own(&self) -> bool {
        self.thought.issuer.as_deref() == Some(NAME) && self.thought.encrypted.is_none()
    }
}

/// The value of `thoughtSignature` that carries these; `None` for none.
pub(super) fn carry(proofs: &[Proof]) -> Option<Cow<'_, str>> {
    match proofs {
        [] => None,
        [one] if one.is_own() => one.thought.signature.as_deref().map(Cow::Borrowed),
        all => Some(Cow::Owned(pack(all))),
    }
}

fn pack(proofs: &[Proof]) -> String {
    let mut out = HEAD.to_vec();
    writer::array(&mut out, |a| {
        for Proof { thought, over } in proofs {
            a.object(|o| {
                for (name, text) in [
                    ("issuer", &thought.issuer),
                    ("signature", &thought.signature),
                    ("encrypted", &thought.encrypted),
                    ("id", &thought.id),
                ] {
                    if let Some(text) = text {
                        o.string(name, text);
                    }
                }
                if thought.summary {
                    o.bool("summary", true);
                }
                if let Some(bytes) = over {
                    o.number("text", *bytes);
                }
            });
        }
    });
    BASE64.encode(out)
}

/// What a caller's `thoughtSignature` turned out to be.
#[derive(Debug, PartialEq)]
pub(super) enum Signature<'a> {
    /// Google's, as it came.
    Own(Text<'a>),
    Carried(Vec<Proof>),
}

/// Reads a `thoughtSignature`. What we did not pack is Google's.
pub(super) fn open(value: Text<'_>) -> Signature<'_> {
    match unpack(&value) {
        Some(proofs) => Signature::Carried(proofs),
        None => Signature::Own(value),
    }
}

fn unpack(value: &str) -> Option<Vec<Proof>> {
    if !value.starts_with(MARK) {
        return None;
    }
    let standard: Cow<'_, str> = if value.contains(['-', '_']) {
        Cow::Owned(value.replace('-', "+").replace('_', "/"))
    } else {
        Cow::Borrowed(value)
    };
    let bytes = BASE64.decode(standard.as_bytes()).ok()?;
    let packed: Vec<Packed<'_>> = serde_json::from_slice(bytes.strip_prefix(HEAD)?).ok()?;
    let own = |text: Option<Text<'_>>| text.map(Text::into_owned);
    Some(
        packed
            .into_iter()
            .map(|packed| Proof {
                thought: Reasoning {
                    text: None,
                    summary: packed.summary == Some(true),
                    signature: own(packed.signature),
                    encrypted: own(packed.encrypted),
                    issuer: own(packed.issuer),
                    id: own(packed.id),
                },
                over: packed.text.as_ref().and_then(Number::as_u64),
            })
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn googles_own_stays_as_it_is() {
        let own = Reasoning { signature: Some("CosC-_AY".into()), issuer: Some(NAME.into()), ..Reasoning::default() };
        let proof = Proof::of(&own, None).unwrap();
        assert_eq!(carry(std::slice::from_ref(&proof)).unwrap(), "CosC-_AY");
        assert_eq!(open("CosC-_AY".into()), Signature::Own("CosC-_AY".into()));
        assert_eq!(carry(&[]), None);
        let text = Reasoning { text: Some("Hm.".into()), issuer: Some(NAME.into()), ..Reasoning::default() };
        assert_eq!(Proof::of(&text, Some(3)), None);
    }

    #[test]
    fn what_only_looks_packed_is_not_ours() {
        for value in ["cG9ydG9sYW46", "cG9ydG9sYW46!!", "cG9ydG9sYW46eyJhIjoxfQ==", "cG9ydG9sYW4="] {
            assert_eq!(open(value.into()), Signature::Own(value.into()), "{value}");
        }
    }

    fn proof() -> impl Strategy<Value = Proof> {
        let text = proptest::option::of(".{0,40}");
        (text.clone(), text.clone(), text, "[a-z_]{1,12}", any::<bool>(), proptest::option::of(0..1_u64 << 40))
            .prop_map(|(signature, encrypted, id, issuer, summary, over)| Proof {
                thought: Reasoning {
                    text: None,
                    summary,
                    signature: signature.map(Text::from),
                    encrypted: encrypted.map(Text::from),
                    issuer: Some(issuer.into()),
                    id: id.map(Text::from),
                },
                over,
            })
    }

    proptest! {
        /// Byte for byte, in both alphabets, with and without padding.
        #[test]
        fn packed_and_unpacked(proofs in proptest::collection::vec(proof(), 1..4)) {
            let packed = pack(&proofs);
            prop_assert!(packed.starts_with(MARK));
            let urls = packed.replace('+', "-").replace('/', "_");
            for value in [packed.as_str(), urls.as_str(), urls.trim_end_matches('=')] {
                prop_assert_eq!(open(value.into()), Signature::Carried(proofs.clone()));
            }
        }
    }
}
