//! What a passed-through answer repeats of its request, said as the caller wrote it.
//!
//! A provider is sent a request that differs from its caller's where the gateway has put an earlier conversation into it, or
//! has written it anew; an answer that repeats its request (Responses) would then say what the caller did not.

use super::*;
use crate::wire::patch::Patch;

/// The bytes of whole frames, or of a whole answer.
pub(super) fn restated(bytes: Bytes, stream: bool, terms: &Terms) -> Bytes {
    if !stream {
        return one(&bytes, terms).map_or(bytes, Bytes::from);
    }
    let mut out = Vec::new();
    let mut kept = 0;
    let mut at = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let begins = at;
        at += line.len();
        let Some(data) = line.strip_prefix(b"data:") else { continue };
        let json = data.trim_ascii();
        let Some(other) = one(json, terms) else { continue };
        let from = begins + "data:".len() + data.len() - data.trim_ascii_start().len();
        out.extend_from_slice(bytes.get(kept..from).unwrap_or_default());
        out.extend_from_slice(&other);
        kept = from + json.len();
    }
    if kept == 0 {
        return bytes;
    }
    out.extend_from_slice(bytes.get(kept..).unwrap_or_default());
    out.into()
}

fn one(json: &[u8], terms: &Terms) -> Option<Vec<u8>> {
    let mut patch = Patch::default();
    terms.inbound.restate(std::str::from_utf8(json).ok()?, &terms.asked(), &mut patch);
    (!patch.is_empty()).then(|| patch.apply(json))
}
