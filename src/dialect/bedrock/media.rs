//! Media in the forms that Converse takes: bytes, or a place in S3, with a format by its own short name.
//!
//! Bedrock fetches no addresses: what is not sent along is not seen. Documents must have names, of few kinds of letters
//! and no two alike in a request ("DocumentBlock", seen 2026-11-21).

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::model::{Maker, Model};
use crate::dialect::Unsayable;
use crate::ir::{Media, MediaKind, Source};
use crate::wire::writer::Object;

/// Longest name of a document.
const LONGEST_NAME: usize = 200;

/// One image, document, video or sound, ready to be written.
#[derive(Debug)]
pub(super) struct Form<'r> {
    kind: &'static str,
    format: &'static str,
    source: Place<'r>,
    /// Of documents.
    name: String,
}

#[derive(Debug)]
enum Place<'r> {
    Bytes(Cow<'r, str>),
    S3(&'r str),
}

/// MIME type, file extension, format; in the order in which one MIME type is looked for.
type Formats = &'static [(&'static str, &'static str, &'static str)];

const IMAGES: Formats = &[
    ("image/png", "png", "png"),
    ("image/jpeg", "jpg", "jpeg"),
    ("image/jpg", "jpeg", "jpeg"),
    ("image/gif", "gif", "gif"),
    ("image/webp", "webp", "webp"),
];

const DOCUMENTS: Formats = &[
    ("application/pdf", "pdf", "pdf"),
    ("text/csv", "csv", "csv"),
    ("application/msword", "doc", "doc"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx", "docx"),
    ("application/vnd.ms-excel", "xls", "xls"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx", "xlsx"),
    ("text/html", "html", "html"),
    ("text/markdown", "md", "md"),
    ("text/plain", "txt", "txt"),
    ("application/json", "json", "txt"),
    ("application/xml", "xml", "txt"),
    ("application/yaml", "yaml", "txt"),
];

const VIDEOS: Formats = &[
    ("video/mp4", "mp4", "mp4"),
    ("video/quicktime", "mov", "mov"),
    ("video/x-matroska", "mkv", "mkv"),
    ("video/webm", "webm", "webm"),
    ("video/x-flv", "flv", "flv"),
    ("video/mpeg", "mpeg", "mpeg"),
    ("video/mpg", "mpg", "mpg"),
    ("video/x-ms-wmv", "wmv", "wmv"),
    ("video/wmv", "wmv", "wmv"),
    ("video/3gpp", "3gp", "three_gp"),
];

const SOUNDS: Formats = &[
    ("audio/mpeg", "mp3", "mp3"),
    ("audio/mp3", "mp3", "mp3"),
    ("audio/wav", "wav", "wav"),
    ("audio/x-wav", "wav", "wav"),
    ("audio/wave", "wav", "wav"),
    ("audio/aac", "aac", "aac"),
    ("audio/flac", "flac", "flac"),
    ("audio/mp4", "m4a", "m4a"),
    ("audio/ogg", "ogg", "ogg"),
    ("audio/opus", "opus", "opus"),
    ("audio/webm", "webm", "webm"),
    ("audio/pcm", "pcm", "pcm"),
];

/// Beginnings of base64 that tell what the bytes are, whatever the caller says of them.
const MARKS: [(&str, &str); 5] = [
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBERi", "application/pdf"),
];

impl<'r> Form<'r> {
    /// Finds the form. `names` has those that documents of this request have already.
    ///
    /// # Errors
    /// There is none. Leaving the part out would change what was said, so the request cannot go to this target.
    pub(super) fn of(
        media: &'r Media<'r>,
        model: Model,
        names: &mut Vec<String>,
        path: &str,
    ) -> Result<Form<'r>, Unsayable> {
        let unsayable = |what: &str| Unsayable { path: path.to_owned(), message: format!("Bedrock takes {what}") };
        let claude = model.maker == Maker::Claude;
        let said = media.mime.as_deref().map(|mime| mime.split(';').next().unwrap_or(mime).trim());
        let (kind, formats, what) = match media.kind {
            MediaKind::Image => ("image", IMAGES, "images as JPEG, PNG, GIF or WebP"),
            MediaKind::Video if claude => return Err(unsayable("no video for this model")),
            MediaKind::Audio if claude => return Err(unsayable("no audio for this model")),
            MediaKind::Video => ("video", VIDEOS, "videos as MP4, MOV, MKV, WebM, FLV, MPEG, WMV or 3GP"),
            MediaKind::Audio => ("audio", SOUNDS, "audio as MP3, WAV, AAC, FLAC, M4A, Ogg, Opus or WebM"),
            MediaKind::File => {
                ("document", DOCUMENTS, "documents as PDF, CSV, Word, Excel, HTML, Markdown or plain text")
            }
        };
        let (kind, format, source) = match &media.source {
            Source::Url(uri) | Source::Id(uri) if uri.starts_with("s3://") => {
                if claude {
                    return Err(unsayable("nothing from S3 for this model: send the bytes"));
                }
                let format = format(formats, said, None, media.name.as_deref().or(Some(uri)));
                (kind, format.ok_or_else(|| unsayable(what))?, Place::S3(uri))
            }
            Source::Url(_) => return Err(unsayable("no addresses but s3://: send the bytes (base64)")),
            Source::Id(_) => return Err(unsayable("no uploaded files: send the bytes (base64)")),
            Source::Text(text) => ("document", "txt", Place::Bytes(Cow::Owned(STANDARD.encode(text.as_bytes())))),
            Source::Base64(data) => {
                let mark = MARKS.iter().find(|(mark, _)| data.starts_with(mark)).map(|(_, mime)| *mime);
                // An image among the files and a document among the images go by what they are.
                let (kind, formats) = match (kind, mark) {
                    ("image", Some("application/pdf")) => ("document", DOCUMENTS),
                    ("document", Some(mime)) if mime.starts_with("image/") => ("image", IMAGES),
                    ("document", None) if said.is_some_and(|mime| mime.starts_with("image/")) => ("image", IMAGES),
                    _ => (kind, formats),
                };
                let mark = mark.filter(|_| matches!(kind, "image" | "document"));
                let format = format(formats, said, mark, media.name.as_deref());
                (kind, format.ok_or_else(|| unsayable(what))?, Place::Bytes(Cow::Borrowed(data)))
            }
        };
        let name = if kind == "document" { unique(media.name.as_deref(), names) } else { String::new() };
        Ok(Form { kind, format, source, name })
    }

    pub(super) fn is_document(&self) -> bool {
        self.kind == "document"
    }

    /// Whether a mark of what to cache is refused behind it (so it is of documents and videos, not of images, as clients of
    /// the API found).
    pub(super) fn bars_marks(&self) -> bool {
        matches!(self.kind, "document" | "video")
    }

    /// Sound has no place in the result of a tool.
    pub(super) fn is_sound(&self) -> bool {
        self.kind == "audio"
    }

    /// Whether the file's name came across.
    pub(super) fn keeps(&self, name: &str) -> bool {
        self.is_document() && !name.contains(['/', '\\']) && stem(name) == self.name
    }

    /// Writes the block's one member.
    pub(super) fn write(&self, o: &mut Object<'_>) {
        o.object(self.kind, |o| {
            o.string("format", self.format);
            if self.is_document() {
                o.string("name", &self.name);
            }
            o.object("source", |o| match &self.source {
                Place::Bytes(data) => o.string("bytes", data),
                Place::S3(uri) => o.object("s3Location", |o| o.string("uri", uri)),
            });
        });
    }
}

/// The format: by the bytes, by the type that was said, by the file's name; else text is text.
fn format(formats: Formats, said: Option<&str>, mark: Option<&str>, name: Option<&str>) -> Option<&'static str> {
    let by_type = |mime: &str| formats.iter().find(|(known, ..)| known.eq_ignore_ascii_case(mime));
    let by_name = |name: &str| {
        let (_, ending) = name.rsplit_once('.')?;
        formats.iter().find(|(_, known, _)| known.eq_ignore_ascii_case(ending))
    };
    let found = mark.and_then(by_type).or_else(|| said.and_then(by_type)).or_else(|| name.and_then(by_name));
    let text = by_type("text/plain").is_some() && said.is_some_and(|mime| mime.starts_with("text/"));
    found.map(|(.., format)| *format).or(text.then_some("txt"))
}

/// A file's name without its ending.
fn stem(name: &str) -> &str {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// A name in letters that Bedrock takes, which no other document of the request has.
fn unique(name: Option<&str>, names: &mut Vec<String>) -> String {
    let mut kept = String::new();
    for c in name.map(stem).unwrap_or_default().chars().take(LONGEST_NAME - 10) {
        let c = match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '(' | ')' | '[' | ']') => c,
            ' ' => c,
            _ => '-',
        };
        // White space stands alone.
        if c != ' ' || !kept.ends_with(' ') {
            kept.push(c);
        }
    }
    let kept = kept.trim();
    let numbered = |n: usize| if kept.is_empty() { format!("Document {n}") } else { format!("{kept} ({n})") };
    let first = if kept.is_empty() { numbered(names.len() + 1) } else { kept.to_owned() };
    let free = std::iter::once(first).chain((2..).map(numbered)).find(|name| !names.contains(name)).unwrap_or_default();
    names.push(free.clone());
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_what_is_taken_and_stay_apart() {
        let mut names = Vec::new();
        let mut of = |name: Option<&str>| unique(name, &mut names);
        assert_eq!(of(Some("Q3  report_v2.pdf")), "Q3 report-v2");
        assert_eq!(of(Some("a/b\\Q3 report_v2.docx")), "Q3 report-v2 (2)");
        assert_eq!(of(None), "Document 3");
        assert_eq!(of(Some("  .pdf")), "Document 4");
        assert_eq!(of(Some("Document 5")), "Document 5");
        assert_eq!(of(None), "Document 6");
        assert_eq!(of(Some("\u{e9}t\u{e9}")), "-t-");
        assert!(of(Some(&"x".repeat(500))).len() <= LONGEST_NAME);
    }

    #[test]
    fn formats_are_found() {
        assert_eq!(format(IMAGES, Some("image/png"), Some("image/jpeg"), None), Some("jpeg"));
        assert_eq!(format(IMAGES, Some("IMAGE/JPG"), None, None), Some("jpeg"));
        assert_eq!(format(DOCUMENTS, Some("application/octet-stream"), None, Some("a.DOCX")), Some("docx"));
        assert_eq!(format(DOCUMENTS, Some("text/x-python"), None, None), Some("txt"));
        assert_eq!(format(VIDEOS, Some("text/x-python"), None, None), None);
        assert_eq!(format(VIDEOS, None, None, Some("s3://bucket/a.3gp")), Some("three_gp"));
    }
}
