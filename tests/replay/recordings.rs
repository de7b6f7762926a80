//! The recordings, as their README describes them: one gzip-compressed file of JSON lines for each provider and API.

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
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
    /// Asked for, else the one that answered.
    pub model: Option<String>,
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
    pub ndjson: Option<String>,
    pub eventstream_b64: Option<String>,
    pub text: Option<String>,
    /// A marker in place of bytes that were not kept.
    pub binary: Option<Box<RawValue>>,
}

/// The dialect that an answer is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speech {
    Chat,
    Messages,
    Gemini,
    Responses,
    Converse,
    Cohere,
    Ollama,
    Completions,
}

impl Speech {
    /// Those that the binary is replayed with.
    pub const FIRST: [Speech; 3] = [Speech::Chat, Speech::Messages, Speech::Gemini];
    /// Those that callers speak.
    pub const CALLERS: [Speech; 5] =
        [Speech::Chat, Speech::Responses, Speech::Messages, Speech::Gemini, Speech::Completions];

    /// The name of the dialect.
    pub fn name(self) -> &'static str {
        match self {
            Speech::Chat => "openai_chat",
            Speech::Messages => "anthropic",
            Speech::Gemini => "gemini",
            Speech::Responses => "openai_responses",
            Speech::Converse => "bedrock",
            Speech::Cohere => "cohere",
            Speech::Ollama => "ollama",
            Speech::Completions => "openai_completions",
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
            "messages" | "invoke_model" | "invoke_model_stream" => Speech::Messages,
            "generate_content" | "stream_generate_content" => Speech::Gemini,
            "responses" => Speech::Responses,
            "converse" | "converse_stream" => Speech::Converse,
            "cohere_chat" => Speech::Cohere,
            "ollama_native" => Speech::Ollama,
            "completions" => Speech::Completions,
            other => panic!("an API that this test does not know: {other}"),
        }
    }

    /// Why an exchange says nothing of the dialects; `None`: it does.
    pub fn aside(&self) -> Option<&'static str> {
        let path = self.request.as_ref().map_or("", |request| &request.path);
        let old_cohere = || match &self.response.body {
            _ if path == "/v1/chat" => true,
            Some(body) if self.is_good() => !body.get().contains("\"message\""),
            _ => false,
        };
        match self.api.as_str() {
            "cohere_chat" if old_cohere() => Some("the first version of Cohere's API, which we do not speak"),
            "invoke_model" | "invoke_model_stream"
                if !self.asked().is_some_and(|body| body.contains("\"anthropic_version\"")) =>
            {
                Some("a model's own format below Bedrock's InvokeModel, not Anthropic's")
            }
            "completions" if path.contains("/organization/") || path.contains("/prompts/") => {
                Some("no completion: figures of an organisation, a stored prompt")
            }
            _ if self.response.binary.is_some() => Some("the recording kept no bytes of the answer"),
            _ => None,
        }
    }

    fn is_first(&self) -> bool {
        Speech::FIRST.contains(&self.speech()) && !self.api.starts_with("invoke_model")
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
            Response { sse: None, ndjson: None, eventstream_b64: None, binary: None, .. } => Some(""),
            _ => None,
        }
    }

    /// The streamed answers. Fixtures of unit tests hold several one after the other where a conversation went on; each
    /// was an answer of its own.
    pub fn streams(&self) -> Vec<(String, &str)> {
        let Some(text) = &self.response.sse else { return Vec::new() };
        let start = match self.speech() {
            Speech::Messages => "event: message_start",
            Speech::Responses => "event: response.created",
            _ => return vec![(self.id.clone(), text)],
        };
        let starts: Vec<usize> = text.match_indices(start).map(|(at, _)| at).collect();
        if starts.len() < 2 {
            return vec![(self.id.clone(), text)];
        }
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        let parts = starts.iter().zip(ends).enumerate();
        parts.map(|(n, (from, to))| (format!("{}#{n}", self.id), &text[*from..to])).collect()
    }

    /// The same as bytes, of whatever framing. Bedrock's InvokeModel wraps each of Anthropic's events in one of its own,
    /// and is unwrapped here.
    pub fn byte_streams(&self) -> Vec<(String, Cow<'_, [u8]>)> {
        match &self.response {
            Response { ndjson: Some(lines), .. } => vec![(self.id.clone(), lines.as_bytes().into())],
            Response { eventstream_b64: Some(data), .. } => {
                let bytes = BASE64.decode(data).unwrap_or_else(|error| panic!("{}: {error}", self.id));
                if self.speech() == Speech::Converse {
                    return vec![(self.id.clone(), bytes.into())];
                }
                let mut sse = String::new();
                for (_, payload) in binary_events(&bytes) {
                    let wrap: serde_json::Value = serde_json::from_slice(payload).unwrap();
                    let event = BASE64.decode(wrap["bytes"].as_str().unwrap()).unwrap();
                    let event = String::from_utf8(event).unwrap();
                    let json: serde_json::Value = serde_json::from_str(&event).unwrap();
                    sse.push_str(&format!("event: {}\ndata: {event}\n\n", json["type"].as_str().unwrap()));
                }
                vec![(self.id.clone(), sse.into_bytes().into())]
            }
            _ => self.streams().into_iter().map(|(id, text)| (id, text.as_bytes().into())).collect(),
        }
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
        if self.api.starts_with("invoke_model") {
            // Bedrock has the model in the path.
            return Some(body.replacen('{', "{\"model\":\"m\",", 1).into());
        }
        let Some(deployment) = deployment else { return Some(body.into()) };
        Some(body.replacen("\"model\":null", &format!("\"model\":\"{deployment}\""), 1).into())
    }
}

/// Names and payloads of the events of Amazon's binary stream, read without the dialects: lengths, headers, payload,
/// checksum.
pub fn binary_events(mut bytes: &[u8]) -> Vec<(String, &[u8])> {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap()) as usize;
    let mut events = Vec::new();
    while bytes.len() >= 16 {
        let (total, head) = (number(bytes), number(&bytes[4..]));
        let Some(event) = bytes.get(..total) else { break };
        let mut headers = &event[12..12 + head];
        let mut name = String::new();
        while !headers.is_empty() {
            let (key, rest) = headers[1..].split_at(headers[0].into());
            // Kind 7: a string with its length in two bytes.
            assert_eq!(rest[0], 7);
            let length = usize::from(rest[1]) << 8 | usize::from(rest[2]);
            if key == b":event-type" || key == b":exception-type" {
                name = String::from_utf8(rest[3..3 + length].to_vec()).unwrap();
            }
            headers = &rest[3 + length..];
        }
        events.push((name, &event[12 + head..total - 4]));
        bytes = &bytes[total..];
    }
    events
}

/// The exchanges of the three dialects that the binary is replayed with; `None`, told in a line, where there is no
/// folder of recordings.
pub fn first() -> Option<&'static [Exchange]> {
    let all = all()?;
    let end = all.iter().position(|exchange| !exchange.is_first()).unwrap_or(all.len());
    Some(&all[..end])
}

/// Every exchange in one of the dialects, those of [`first`] before the others, else in the order of the file names;
/// `None`, told in a line, where there is no folder of recordings.
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
            "chat_completions" | "responses" | "converse" | "converse_stream" | "cohere_chat" | "ollama_native" => true,
            "completions" | "invoke_model" | "invoke_model_stream" => true,
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
    all.sort_by_key(|exchange: &Exchange| !exchange.is_first());
    assert!(!all.is_empty(), "{} holds no recordings", folder.display());
    all
}
