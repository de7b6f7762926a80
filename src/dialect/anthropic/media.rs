//! Media in the forms that Messages take: images and documents. There is no place for sound and moving pictures.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::dialect::Unsayable;
use crate::ir::{Media, MediaKind, Source};
use crate::wire::json::Raw;
use crate::wire::writer::Object;

/// One image or document, ready to be written.
#[derive(Debug)]
pub(super) struct Form<'r> {
    kind: &'static str,
    source: Origin<'r>,
    title: Option<&'r str>,
}

#[derive(Debug)]
enum Origin<'r> {
    Url(&'r str),
    File(&'r str),
    Bytes { mime: &'static str, data: &'r str },
    Text(Cow<'r, str>),
}

impl<'r> Form<'r> {
    /// Finds the form. `own`: the caller speaks this dialect too, and its ids are of the provider's.
    ///
    /// # Errors
    /// There is none. Leaving the part out would change what was said, so the request cannot go to this target.
    pub(super) fn of(media: &'r Media<'r>, own: bool, path: &str) -> Result<Form<'r>, Unsayable> {
        let unsayable = |what: &str| Unsayable { path: path.to_owned(), message: format!("Anthropic takes {what}") };
        let kind = match media.kind {
            MediaKind::Image => "image",
            MediaKind::File => "document",
            MediaKind::Audio => return Err(unsayable("no audio")),
            MediaKind::Video => return Err(unsayable("no video")),
        };
        let mut form = Form { kind, source: Origin::Url(""), title: media.name.as_deref() };
        form.source = match &media.source {
            Source::Url(url) if url.starts_with("https://") || url.starts_with("http://") => Origin::Url(url),
            Source::Url(_) => return Err(unsayable("only addresses that begin with https:// or http://")),
            // Ids of its own Files API begin so; OpenAI's begin with `file-`.
            Source::Id(id) if own || id.starts_with("file_") => Origin::File(id),
            Source::Id(_) => return Err(unsayable("only files that were uploaded to Anthropic")),
            Source::Text(text) => {
                form.kind = "document";
                Origin::Text(Cow::Borrowed(text))
            }
            Source::Base64(data) => {
                let said = media.mime.as_deref().map(|mime| mime.split(';').next().unwrap_or(mime).trim());
                match (mime(data, said), said) {
                    (Some("application/pdf"), _) => {
                        form.kind = "document";
                        Origin::Bytes { mime: "application/pdf", data }
                    }
                    (Some(mime), _) => {
                        form.kind = "image";
                        Origin::Bytes { mime, data }
                    }
                    (None, Some(said)) if is_text(said) && media.kind == MediaKind::File => match text(data) {
                        Some(text) => Origin::Text(Cow::Owned(text)),
                        None => return Err(unsayable("text files in base64 only where they are UTF-8")),
                    },
                    (None, _) if media.kind == MediaKind::Image => {
                        return Err(unsayable("images as JPEG, PNG, GIF or WebP"));
                    }
                    (None, _) => return Err(unsayable("documents as PDF or plain text")),
                }
            }
        };
        Ok(form)
    }

    /// Whether the file's name has a place.
    pub(super) fn names(&self) -> bool {
        self.kind == "document"
    }

    /// Writes type, source and title. `source` is written in place of what the IR has of it.
    pub(super) fn write(&self, source: Option<&Raw<'_>>, o: &mut Object<'_>) {
        o.string("type", self.kind);
        match source {
            Some(json) => o.raw("source", json),
            None => self.source(o),
        }
        if let (Some(title), true) = (self.title, self.names()) {
            o.string("title", title);
        }
    }

    fn source(&self, o: &mut Object<'_>) {
        o.object("source", |o| match &self.source {
            Origin::Url(url) => {
                o.string("type", "url");
                o.string("url", url);
            }
            Origin::File(id) => {
                o.string("type", "file");
                o.string("file_id", id);
            }
            Origin::Bytes { mime, data } => {
                o.string("type", "base64");
                o.string("media_type", mime);
                o.string("data", data);
            }
            Origin::Text(text) => {
                o.string("type", "text");
                o.string("media_type", "text/plain");
                o.string("data", text);
            }
        });
    }
}

/// The type of bytes that Anthropic takes, by their beginning; else as the caller said it. A type that is not that of
/// the bytes is refused, and callers often guess.
fn mime(data: &str, said: Option<&str>) -> Option<&'static str> {
    const MARKS: [(&str, &str); 5] = [
        ("iVBORw0KGgo", "image/png"),
        ("/9j/", "image/jpeg"),
        ("R0lGOD", "image/gif"),
        ("UklGR", "image/webp"),
        ("JVBERi", "application/pdf"),
    ];
    const NAMES: [(&str, &str); 6] = [
        ("image/png", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("image/jpg", "image/jpeg"),
        ("image/gif", "image/gif"),
        ("image/webp", "image/webp"),
        ("application/pdf", "application/pdf"),
    ];
    let by_bytes = MARKS.iter().find(|(mark, _)| data.starts_with(mark));
    by_bytes
        .or_else(|| NAMES.iter().find(|(name, _)| said.is_some_and(|said| said.eq_ignore_ascii_case(name))))
        .map(|(_, mime)| *mime)
}

fn is_text(mime: &str) -> bool {
    mime.starts_with("text/") || matches!(mime, "application/json" | "application/xml" | "application/yaml")
}

fn text(data: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(data).ok()?).ok()
}
