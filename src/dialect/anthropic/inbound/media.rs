//! Images and documents of a request.
//!
//! A document may also be made of blocks, so that citations point at them. Where these are all text, the IR has them as
//! one text; the source as it was rides along, for a provider of this dialect.

use super::{invalid, required};
use crate::ir::{Media, MediaKind, Source};
use crate::shape;
use crate::wire::json::{Extras, Invalid, Raw, Text, TextOr};

shape! {
    struct Origin {
        kind "type": Text<'a>,
        mime "media_type": Text<'a>,
        data "data": Text<'a>,
        url "url": Text<'a>,
        file "file_id": Text<'a>,
        content "content": TextOr<'a, Vec<Piece<'a>>>,
    }
}

shape! {
    struct Piece { kind "type": Text<'a>, text "text": Text<'a> }
}

/// Reads the source of a block; `None` for one that the IR cannot hold. What must be written back as it was goes to
/// `extras`, under `source`.
///
/// # Errors
/// It lacks what its type demands, or is of a media type that Anthropic does not take.
pub(super) fn decode<'a>(raw: Raw<'a>, kind: MediaKind, extras: &mut Extras<'a>) -> Result<Option<Media<'a>>, Invalid> {
    let origin: Origin<'a> = raw.open()?;
    let word = origin.kind.ok_or_else(|| required("type"))?;
    let document = kind == MediaKind::File;
    let mut whole = !origin.extras.is_empty();
    let (source, mime) = match word.as_str() {
        "base64" => {
            let mime = origin.mime.ok_or_else(|| required("media_type"))?;
            let taken: &[&str] =
                if document { &["application/pdf"] } else { &["image/jpeg", "image/png", "image/gif", "image/webp"] };
            if !taken.iter().any(|taken| mime.eq_ignore_ascii_case(taken)) {
                return Err(invalid("media_type", format!("expected one of {}", taken.join(", "))));
            }
            (Source::Base64(origin.data.ok_or_else(|| required("data"))?), Some(mime))
        }
        "url" => (Source::Url(origin.url.ok_or_else(|| required("url"))?), None),
        "file" => (Source::Id(origin.file.ok_or_else(|| required("file_id"))?), None),
        "text" if document => {
            if origin.mime.as_deref().is_some_and(|mime| mime != "text/plain") {
                return Err(invalid("media_type", "expected text/plain"));
            }
            (Source::Text(origin.data.ok_or_else(|| required("data"))?), Some("text/plain".into()))
        }
        "content" if document => {
            let text = match origin.content.ok_or_else(|| required("content"))? {
                TextOr::Text(text) => text,
                TextOr::Full(pieces) => {
                    let texts: Option<Vec<_>> = pieces
                        .into_iter()
                        .map(|p| p.text.filter(|_| p.kind.is_some_and(|kind| kind == "text")))
                        .collect();
                    let Some(texts) = texts else { return Ok(None) };
                    Text::from(texts.iter().map(Text::as_str).collect::<Vec<_>>().join("\n\n"))
                }
            };
            whole = true;
            (Source::Text(text), Some("text/plain".into()))
        }
        _ => return Ok(None),
    };
    if whole {
        extras.push("source", raw);
    }
    Ok(Some(Media { kind, source, mime, name: None, detail: None }))
}
