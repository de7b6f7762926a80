//! The recordings, as their README describes them: one gzip-compressed file of JSON lines for each provider and API.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::LazyLock;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One exchange with a provider.
#[derive(Deserialize)]
pub struct Exchange {
    pub id: String,
    pub fidelity: String,
    pub provider: String,
    pub api: String,
    #[serde(default)]
    pub features: Vec<String>,
    pub request: Option<Request>,
    pub response: Response,
}

#[derive(Deserialize)]
pub struct Request {
    #[serde(default)]
    pub path: String,
    /// As it was recorded, byte for byte where the fidelity is `raw`.
    pub body: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
pub struct Response {
    pub status: u16,
    pub body: Option<Box<RawValue>>,
    pub sse: Option<String>,
    pub text: Option<String>,
}

/// The dialect that an answer is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    Chat,
    Messages,
    Gemini,
}

impl Speech {
    pub const ALL: [Speech; 3] = [Speech::Chat, Speech::Messages, Speech::Gemini];

    /// The name of the dialect.
    pub fn name(self) -> &'static str {
        match self {
            Speech::Chat => "openai_chat",
            Speech::Messages => "anthropic",
            Speech::Gemini => "gemini",
        }
    }

    pub fn dialect(self) -> portolan::dialect::Dialect {
        portolan::dialect::named(self.name()).unwrap()
    }
}

impl Exchange {
    pub fn speech(&self) -> Speech {
        match self.api.as_str() {
            "chat_completions" => Speech::Chat,
            "messages" => Speech::Messages,
            _ => Speech::Gemini,
        }
    }

    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.response.status)
    }

    /// The bytes are those of the wire.
    pub fn is_raw(&self) -> bool {
        self.fidelity == "raw"
    }

    /// The answer as text, if it came whole.
    pub fn whole(&self) -> Option<&str> {
        match &self.response {
            Response { body: Some(body), .. } => Some(body.get()),
            Response { text: Some(text), .. } => Some(text),
            // An error without a body.
            Response { sse: None, .. } => Some(""),
            _ => None,
        }
    }

    /// The streamed answers. Fixtures of unit tests hold several one after the other where a conversation went on; each
    /// was an answer of its own.
    pub fn streams(&self) -> Vec<(String, &str)> {
        let Some(text) = &self.response.sse else { return Vec::new() };
        const START: &str = "event: message_start";
        let starts: Vec<usize> = text.match_indices(START).map(|(at, _)| at).collect();
        if self.speech() != Speech::Messages || starts.len() < 2 {
            return vec![(self.id.clone(), text)];
        }
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        let parts = starts.iter().zip(ends).enumerate();
        parts.map(|(n, (from, to))| (format!("{}#{n}", self.id), &text[*from..to])).collect()
    }

    /// The request's body as it was recorded.
    pub fn asked(&self) -> Option<&str> {
        Some(self.request.as_ref()?.body.as_ref()?.get())
    }

    /// The same, as a caller of ours sends it: Azure's old paths name the model, and then the body does not.
    pub fn asked_of_us(&self) -> Option<Cow<'_, str>> {
        let body = self.asked()?;
        let path = &self.request.as_ref()?.path;
        let deployment = path.split_once("/deployments/").and_then(|(_, rest)| rest.split('/').next());
        let Some(deployment) = deployment else { return Some(body.into()) };
        Some(body.replacen("\"model\":null", &format!("\"model\":\"{deployment}\""), 1).into())
    }
}

/// Every exchange in the three dialects, in the order of the file names; `None`, told in a line, where there is no
/// folder of recordings.
pub fn all() -> Option<&'static [Exchange]> {
    static ALL: LazyLock<Option<Vec<Exchange>>> = LazyLock::new(|| {
        let folder = std::env::var_os("PORTOLAN_RECORDINGS").filter(|folder| !folder.is_empty())?;
        Some(load(Path::new(&folder)))
    });
    let all = ALL.as_deref();
    if all.is_none() {
        println!("replay: skipped, PORTOLAN_RECORDINGS names no folder");
    }
    all
}

fn load(folder: &Path) -> Vec<Exchange> {
    let files = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let covered = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".jsonl.gz") else { return false };
        let (provider, api) = name.split_once('.').unwrap();
        match api {
            "chat_completions" => true,
            "messages" => provider == "anthropic",
            "generate_content" | "stream_generate_content" => matches!(provider, "gemini" | "vertexai"),
            _ => false,
        }
    };
    let mut all = Vec::new();
    for path in files.into_iter().filter(|path| covered(path)) {
        let lines = BufReader::new(MultiGzDecoder::new(File::open(&path).unwrap())).lines();
        all.extend(lines.map(|line| {
            let line = line.unwrap();
            serde_json::from_str::<Exchange>(&line).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        }));
    }
    assert!(!all.is_empty(), "{} holds no recordings", folder.display());
    all
}
