//! Media in parts: where they are, what type they have, and what rides along inside.

use crate::ir::{Media, MediaKind, Source};
use crate::wire::json::{Extras, Raw};
use crate::wire::writer::Object;

/// Writes `inlineData`, or `fileData` for what lies elsewhere: Google fetches public `https` addresses, its own
/// storage, files uploaded to it and YouTube by it (Gemini API, "File input methods"; recorded for images, PDF, audio
/// and video on both APIs).
///
/// `named`: with the name of the file. `extras`: those of them that belong inside are written there.
pub(super) fn data(media: &Media<'_>, source: &Source<'_>, named: bool, extras: &Extras<'_>, o: &mut Object<'_>) {
    let rest = |member: &str, o: &mut Object<'_>| {
        if let Some(name) = media.name.as_deref().filter(|_| named) {
            o.string("displayName", name);
        }
        nested(extras, member).for_each(|(name, json)| o.raw(name, json));
    };
    match source {
        Source::Base64(data) => o.object("inlineData", |o| {
            o.string("mimeType", media.mime.as_deref().unwrap_or_else(|| sniffed(data, media.kind)));
            o.string("data", data);
            rest("inlineData", o);
        }),
        Source::Url(uri) | Source::Id(uri) | Source::Text(uri) => o.object("fileData", |o| {
            o.string("mimeType", media.mime.as_deref().unwrap_or_else(|| guessed(uri, media.kind)));
            o.string("fileUri", uri);
            rest("fileData", o);
        }),
    }
}

/// Inner objects of a part whose unknown members ride along under their path.
const INNER: [&str; 4] = ["inlineData", "fileData", "functionCall", "functionResponse"];

/// The extras that belong into an inner object, by the names they had there.
pub(super) fn nested<'e>(extras: &'e Extras<'_>, prefix: &'e str) -> impl Iterator<Item = (&'e str, &'e Raw<'e>)> {
    extras.iter().filter_map(move |(name, json)| {
        let name = name.strip_prefix(prefix)?.strip_prefix('.')?;
        (!name.contains('.')).then_some((name, json))
    })
}

/// The extras that belong beside the inner object.
pub(super) fn beside_all<'e>(extras: &'e Extras<'_>) -> impl Iterator<Item = (&'e str, &'e Raw<'e>)> {
    let inner = |name: &str| INNER.iter().any(|p| name.strip_prefix(p).is_some_and(|rest| rest.starts_with('.')));
    extras.iter().filter(move |(name, _)| !inner(name))
}

pub(super) fn is_google_file(id: &str) -> bool {
    id.starts_with("files/") || id.starts_with("gs://") || id.starts_with("https://")
}

/// The type of data without one, by its first bytes as base64 shows them.
fn sniffed(data: &str, kind: MediaKind) -> &'static str {
    const MARKS: [(&str, &str); 8] = [
        ("iVBORw0KGgo", "image/png"),
        ("/9j/", "image/jpeg"),
        ("R0lGOD", "image/gif"),
        ("UklGR", "image/webp"),
        ("JVBERi", "application/pdf"),
        ("SUQz", "audio/mpeg"),
        ("T2dnUw", "audio/ogg"),
        ("ZkxhQw", "audio/flac"),
    ];
    match MARKS.iter().find(|(mark, _)| data.starts_with(mark)) {
        // RIFF is the frame of sounds too.
        Some((_, "image/webp")) if kind == MediaKind::Audio => "audio/wav",
        Some((_, mime)) => mime,
        None => usual(kind),
    }
}

/// The type of what an address points at, by its ending.
pub(super) fn guessed(uri: &str, kind: MediaKind) -> &'static str {
    const ENDINGS: [(&str, &str); 27] = [
        ("png", "image/png"),
        ("jpg", "image/jpeg"),
        ("jpeg", "image/jpeg"),
        ("webp", "image/webp"),
        ("gif", "image/gif"),
        ("heic", "image/heic"),
        ("heif", "image/heif"),
        ("avif", "image/avif"),
        ("bmp", "image/bmp"),
        ("pdf", "application/pdf"),
        ("txt", "text/plain"),
        ("md", "text/markdown"),
        ("csv", "text/csv"),
        ("html", "text/html"),
        ("json", "application/json"),
        ("mp3", "audio/mpeg"),
        ("wav", "audio/wav"),
        ("ogg", "audio/ogg"),
        ("flac", "audio/flac"),
        ("aac", "audio/aac"),
        ("m4a", "audio/mp4"),
        ("mp4", "video/mp4"),
        ("mov", "video/quicktime"),
        ("webm", "video/webm"),
        ("mpeg", "video/mpeg"),
        ("avi", "video/x-msvideo"),
        ("mkv", "video/x-matroska"),
    ];
    let path = uri.split(['?', '#']).next().unwrap_or(uri);
    let host = path.split_once("://").map_or(path, |(_, rest)| rest).split('/').next().unwrap_or_default();
    if ["youtube.com", "www.youtube.com", "m.youtube.com", "youtu.be"].contains(&host) {
        return "video/mp4";
    }
    let ending = path.rsplit('/').next().and_then(|file| file.rsplit_once('.')).map_or("", |(_, ending)| ending);
    let known = ENDINGS.iter().find(|(known, _)| ending.eq_ignore_ascii_case(known));
    known.map_or_else(|| usual(kind), |(_, mime)| mime)
}

fn usual(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Image => "image/jpeg",
        MediaKind::Audio => "audio/wav",
        MediaKind::Video => "video/mp4",
        MediaKind::File => "application/pdf",
    }
}
