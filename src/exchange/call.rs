//! What is wanted: a request's body, scanned once.
//!
//! The scan checks that the body is JSON and not too deep, finds the spans of its top-level members, and reads the few
//! that we route, bill or time by. Those may not be repeated: two readers could otherwise take different ones. All
//! other members are looked at only if the request is transcoded.

use std::time::Duration;

use bytes::Bytes;

use super::Refusal;
use crate::config::snapshot::Limits;
use crate::dialect::{Asked, CONTROLS, Reads};
use crate::policy::queue::Urgency;
use crate::policy::route::Strategy;
use crate::wire::json::{Invalid, Kind, Number, Raw, Text};
use crate::wire::scan::{self, Members, ScanError};

/// The header that says whether an identical call under way may answer this one: `on` or `off`. It is no part of what is
/// asked.
pub const DEDUP: &str = "x-portolan-dedup";

/// A call's request, read.
#[derive(Clone, Debug)]
pub struct Call {
    /// The body as it came.
    pub body: Bytes,
    pub members: Members,
    /// The model as the caller named it.
    pub model: String,
    pub stream: bool,
    /// The stream is to be a growing JSON array instead of events.
    pub array: bool,
    /// Only the number of input tokens is asked for.
    pub count: bool,
    /// The caller asked to see usage in its stream.
    pub include_usage: bool,
    /// The caller's own bound of generated tokens.
    pub max_output: Option<u64>,
    /// A rough count of input tokens: four bytes of the prompt's JSON a token.
    pub input_estimate: u64,
    pub controls: Controls,
    /// What was put before the caller's own input.
    pub earlier: Option<Earlier>,
}

/// A conversation that the gateway remembered and put before the `input` of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// How many items.
    pub items: usize,
    /// The caller's own input is a bare text.
    pub text: bool,
}

/// Portolan's own members of a request, from the body or from their header twins; the body wins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Controls {
    /// Models to go on with; `None` leaves it to the configuration.
    pub fallback: Option<Vec<String>>,
    /// The whole call's deadline.
    pub timeout: Option<Duration>,
    pub tags: Vec<(String, String)>,
    /// Regions the call may be served in; empty: any.
    pub region: Vec<String>,
    /// What its target must have.
    pub attributes: Vec<String>,
    /// How to choose among targets.
    pub routing: Option<Strategy>,
    /// Among the calls of its key, where they wait; `None` leaves it to the configuration.
    pub urgency: Option<Urgency>,
    /// The session that the call is part of, by a header.
    pub session: Option<String>,
    /// A lasting loss refuses the call.
    pub strict: bool,
    /// Whether its stream is gone on with when it breaks; `None` leaves it to the configuration.
    pub continuation: Option<bool>,
    /// Asked for, and not yet heeded: named as losses.
    pub unheeded: Vec<&'static str>,
}

/// What a call's path and its dialect say of it.
#[derive(Clone, Copy, Debug)]
pub struct Said<'p> {
    pub reads: &'static Reads,
    /// Model and stream flag, where they stand in the path.
    pub model: &'p str,
    pub stream: bool,
    /// See [`Call::array`].
    pub array: bool,
    /// See [`Call::count`].
    pub count: bool,
}

/// Bounds of the controls: a request is not a place to store things.
const MOST_FALLBACKS: usize = 16;
const MOST_TAGS: usize = 32;
const LONGEST_TAG: usize = 256;
const LONGEST_TIMEOUT: f64 = 86_400.0;

impl Call {
    /// Reads a request. `header` finds a request header.
    ///
    /// # Errors
    /// The body is not what every dialect of this kind demands; the caller is told which member is at fault.
    pub fn read<'h>(
        body: Bytes,
        said: &Said<'_>,
        limits: &Limits,
        header: &dyn Fn(&str) -> Option<&'h str>,
    ) -> Result<Call, Refusal> {
        let members = scan::scan(&body, limits.depth).map_err(|error| refuse_scan(&error, &body, limits))?;
        let reads = said.reads;
        for names in
            [&CONTROLS[..], if reads.in_body { &IN_BODY } else { &[] }, reads.max_output, reads.single, reads.prompt]
        {
            if let Some(member) = members.repeated(&body, names) {
                return Err(Refusal::Repeated { member: member.to_string() });
            }
        }
        let at = Body { body: &body, members: &members };
        let model = match at.raw("model") {
            _ if !reads.in_body => said.model.to_owned(),
            None => return Err(invalid("model", "the member `model` is missing")),
            Some(raw) => raw.read::<Text<'_>>().map_err(|_| invalid("model", "expected a string"))?.to_string(),
        };
        if model.is_empty() {
            return Err(invalid("model", "the model's name is empty"));
        }
        let stream = if reads.in_body { at.bool("stream")?.unwrap_or(false) } else { said.stream } && !said.count;
        let include_usage = reads.usage_always || at.include_usage()?;
        let max_output = at.bound(reads.max_output)?;
        let controls = Controls::read(&at, header)?;
        let prompt: usize =
            reads.prompt.iter().filter_map(|name| members.get(&body, name)).map(|member| member.value.len()).sum();
        Ok(Call {
            model,
            stream,
            array: said.array && stream,
            count: said.count,
            include_usage,
            max_output,
            controls,
            earlier: None,
            input_estimate: prompt as u64 / 4,
            members,
            body,
        })
    }
}

impl Call {
    /// A member's value as it stands in the body.
    pub(super) fn written(&self, name: &str) -> Option<&str> {
        let member = self.members.get(&self.body, name)?;
        std::str::from_utf8(self.body.get(member.value.clone())?).ok()
    }

    /// The path of a member as it is in the body that the caller sent, where an earlier conversation was put into it.
    pub fn own(&self, path: String) -> String {
        let Some(earlier) = &self.earlier else { return path };
        let item = path.strip_prefix("input[").and_then(|rest| rest.split_once(']'));
        let Some((Ok(index), rest)) = item.map(|(index, rest)| (index.parse::<usize>(), rest)) else { return path };
        match index.checked_sub(earlier.items) {
            None => "previous_response_id".to_owned(),
            Some(_) if earlier.text => "input".to_owned(),
            Some(index) => format!("input[{index}]{rest}"),
        }
    }
}

/// Members that say model and form of the answer, in dialects that have them in the body.
const IN_BODY: [&str; 3] = ["model", "stream", "stream_options"];

impl Call {
    /// What an answer depends on of this request; `id` is the call's, as text.
    pub fn asked<'c>(&'c self, id: &'c str) -> Asked<'c> {
        Asked {
            body: &self.body,
            members: Some(&self.members),
            model: &self.model,
            include_usage: self.include_usage,
            array: self.array,
            silent: false,
            id,
        }
    }
}

#[derive(serde::Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

impl Controls {
    fn read<'h>(at: &Body<'_>, header: &dyn Fn(&str) -> Option<&'h str>) -> Result<Controls, Refusal> {
        let mut controls = Controls::default();
        if let Some(raw) = at.raw("fallback") {
            let names: Vec<String> = raw.read().map_err(|_| invalid("fallback", "expected an array of model names"))?;
            controls.fallback = Some(names);
        } else if let Some(list) = header("x-portolan-fallback") {
            controls.fallback = Some(split(list));
        }
        if controls.fallback.as_ref().is_some_and(|names| names.len() > MOST_FALLBACKS) {
            return Err(invalid("fallback", "more than 16 models"));
        }

        let seconds = match (at.raw("timeout"), header("x-portolan-timeout")) {
            (Some(raw), _) => {
                Some(raw.read::<Number<'_>>().map_err(|_| invalid("timeout", "expected a number of seconds"))?.as_f64())
            }
            (None, Some(text)) => {
                Some(text.trim().parse::<f64>().map_err(|_| invalid("timeout", "expected a number of seconds"))?)
            }
            (None, None) => None,
        };
        if let Some(seconds) = seconds {
            if !(seconds > 0.0 && seconds <= LONGEST_TIMEOUT) {
                return Err(invalid("timeout", "expected seconds above 0 and at most 86400"));
            }
            controls.timeout = Some(Duration::from_secs_f64(seconds));
        }

        if let Some(raw) = at.raw("tags") {
            let tags: std::collections::BTreeMap<String, String> =
                raw.read().map_err(|_| invalid("tags", "expected an object of strings"))?;
            controls.tags = tags.into_iter().collect();
        } else if let Some(list) = header("x-portolan-tags") {
            controls.tags = if list.trim_start().starts_with('{') {
                let tags: std::collections::BTreeMap<String, String> =
                    serde_json::from_str(list).map_err(|_| invalid("tags", "expected an object of strings"))?;
                tags.into_iter().collect()
            } else {
                split(list)
                    .into_iter()
                    .map(|pair| match pair.split_once('=') {
                        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
                        None => Err(invalid("tags", "expected name=value pairs")),
                    })
                    .collect::<Result<_, _>>()?
            };
        }
        if controls.tags.len() > MOST_TAGS
            || controls.tags.iter().any(|(n, v)| n.len() > LONGEST_TAG || v.len() > LONGEST_TAG)
        {
            return Err(invalid("tags", "at most 32 tags of at most 256 bytes"));
        }

        controls.region = at.names("region", header("x-portolan-region"))?;
        controls.attributes = at.names("attributes", header("x-portolan-attributes"))?;
        controls.session = match header("x-portolan-session").map(str::trim) {
            Some(session) if session.len() > LONGEST_TAG => {
                return Err(invalid("x-portolan-session", "longer than 256 bytes"));
            }
            session => session.filter(|session| !session.is_empty()).map(str::to_owned),
        };

        controls.strict = match (at.bool("strict")?, header("x-portolan-strict")) {
            (Some(strict), _) => strict,
            (None, Some("true")) => true,
            (None, Some("false") | None) => false,
            (None, Some(_)) => return Err(invalid("strict", "expected true or false")),
        };

        controls.continuation = match (at.bool("continuation")?, header("x-portolan-continuation").map(str::trim)) {
            (Some(wish), _) => Some(wish),
            (None, Some("true")) => Some(true),
            (None, Some("false")) => Some(false),
            (None, None) => None,
            (None, Some(_)) => return Err(invalid("continuation", "expected true or false")),
        };

        let routing = match at.raw("routing") {
            Some(raw) => Some(raw.read::<String>().map_err(|_| invalid("routing", "expected the name of a strategy"))?),
            None => header("x-portolan-routing").map(|name| name.trim().to_owned()),
        };
        if let Some(name) = routing {
            let found = Strategy::named(&name).ok_or_else(|| {
                let names = Strategy::ALL.map(Strategy::name).join(", ");
                invalid("routing", &format!("unknown strategy: expected one of {names}"))
            })?;
            controls.routing = Some(found);
        }
        let priority = match at.raw("priority") {
            Some(raw) => Some(raw.read::<String>().map_err(|_| invalid("priority", "expected high, normal or low"))?),
            None => header("x-portolan-priority").map(|name| name.trim().to_owned()),
        };
        if let Some(name) = priority {
            let found = Urgency::named(&name).ok_or_else(|| invalid("priority", "expected high, normal or low"))?;
            controls.urgency = Some(found);
        }
        if at.raw("cache").is_some() || header("x-portolan-cache").is_some_and(|mode| mode.trim() != "off") {
            controls.unheeded.push("cache");
        }
        Ok(controls)
    }
}

/// A body with the spans of its members; `null` reads as absent.
struct Body<'b> {
    body: &'b [u8],
    members: &'b Members,
}

impl Body<'_> {
    fn raw(&self, name: &str) -> Option<Raw<'_>> {
        self.members.raw(self.body, name).filter(|raw| !raw.is_null())
    }

    fn bool(&self, name: &'static str) -> Result<Option<bool>, Refusal> {
        self.raw(name).map(|raw| raw.read().map_err(|_| invalid(name, "expected true or false"))).transpose()
    }

    /// A name or a list of names, from the member or else from the header.
    fn names(&self, name: &'static str, header: Option<&str>) -> Result<Vec<String>, Refusal> {
        let Some(raw) = self.raw(name) else { return Ok(header.map(split).unwrap_or_default()) };
        let read = match raw.kind() {
            Kind::String => raw.read().map(|one| vec![one]),
            _ => raw.read(),
        };
        read.map_err(|_| invalid(name, "expected an array of names"))
    }

    /// The caller's bound of generated tokens: the first of these members that is there.
    fn bound(&self, names: &[&str]) -> Result<Option<u64>, Refusal> {
        for name in names {
            let (outer, inner) = name.split_once('.').map_or((*name, None), |(outer, inner)| (outer, Some(inner)));
            let Some(raw) = self.raw(outer) else { continue };
            let mut json = Some(raw.get());
            if let Some(inner) = inner {
                json = None;
                // The body's depth is settled: this cannot fail for it.
                let _ = scan::walk(raw.get(), usize::MAX, &mut |name, value| {
                    if name == inner && value != "null" {
                        json = Some(value);
                    }
                });
            }
            let Some(json) = json else { continue };
            let number: Number<'_> = serde_json::from_str(json).map_err(|_| invalid(name, "expected a number"))?;
            return number.as_u64().map(Some).ok_or_else(|| invalid(name, "expected a whole number, 0 or more"));
        }
        Ok(None)
    }

    fn include_usage(&self) -> Result<bool, Refusal> {
        match self.raw("stream_options") {
            Some(options) if options.kind() == Kind::Object => Ok(options
                .read::<StreamOptions>()
                .map_err(|_| invalid("stream_options", "expected an object of flags"))?
                .include_usage),
            Some(_) => Err(invalid("stream_options", "expected an object")),
            None => Ok(false),
        }
    }
}

fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn invalid(path: &str, message: &str) -> Refusal {
    Refusal::Invalid(Invalid { path: path.to_owned(), message: message.to_owned() })
}

fn refuse_scan(error: &ScanError, body: &[u8], limits: &Limits) -> Refusal {
    if body.is_empty() {
        return Refusal::Malformed { message: "it is empty.".into() };
    }
    match error {
        ScanError::TooDeep { .. } => Refusal::TooDeep { limit: limits.depth },
        other => Refusal::Malformed { message: other.describe(body) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits::small()
    }

    fn said() -> Said<'static> {
        let reads = crate::dialect::openai_chat::DIALECT.inbound.unwrap().reads();
        Said { reads, model: "", stream: false, array: false, count: false }
    }

    fn read(body: &str) -> Result<Call, Refusal> {
        Call::read(Bytes::copy_from_slice(body.as_bytes()), &said(), &limits(), &|_| None)
    }

    fn with_header(body: &str, name: &str, value: &'static str) -> Result<Call, Refusal> {
        Call::read(Bytes::copy_from_slice(body.as_bytes()), &said(), &limits(), &|asked| {
            (asked == name).then_some(value)
        })
    }

    #[test]
    fn what_routes_and_bills_is_read() {
        let call = read(
            r#"{"model":"m\u0031","messages":[{}],"stream":true,"stream_options":{"include_usage":true},"max_tokens":5,"max_completion_tokens":7,
               "fallback":["a","b"],"timeout":1.5,"tags":{"x":"y"},"region":["eu"],"attributes":"zdr","routing":"balanced"}"#,
        )
        .unwrap();
        assert_eq!(call.model, "m1");
        assert!(call.stream && call.include_usage);
        assert_eq!(call.max_output, Some(7));
        assert_eq!(call.controls.fallback, Some(vec!["a".into(), "b".into()]));
        assert_eq!(call.controls.timeout, Some(Duration::from_millis(1_500)));
        assert_eq!(call.controls.tags, [("x".into(), "y".into())]);
        assert_eq!(call.controls.region, ["eu"]);
        assert_eq!((call.controls.attributes, call.controls.routing), (vec!["zdr".into()], Some(Strategy::Balanced)));
    }

    #[test]
    fn headers_are_twins_and_the_body_wins() {
        let call = with_header(r#"{"model":"m"}"#, "x-portolan-fallback", "a, b").unwrap();
        assert_eq!(call.controls.fallback, Some(vec!["a".into(), "b".into()]));
        let call = with_header(r#"{"model":"m","fallback":[]}"#, "x-portolan-fallback", "a, b").unwrap();
        assert_eq!(call.controls.fallback, Some(vec![]));
        let call = with_header(r#"{"model":"m"}"#, "x-portolan-tags", "project=finance, env=dev").unwrap();
        assert_eq!(call.controls.tags, [("project".into(), "finance".into()), ("env".into(), "dev".into())]);
        assert!(with_header(r#"{"model":"m"}"#, "x-portolan-timeout", "soon").is_err());
    }

    #[test]
    fn each_mistake_names_its_member() {
        for (body, param) in [
            (r#"{}"#, "model"),
            (r#"{"model":5}"#, "model"),
            (r#"{"model":""}"#, "model"),
            (r#"{"model":"m","stream":"yes"}"#, "stream"),
            (r#"{"model":"m","stream_options":[]}"#, "stream_options"),
            (r#"{"model":"m","max_tokens":-1}"#, "max_tokens"),
            (r#"{"model":"m","max_tokens":1.5}"#, "max_tokens"),
            (r#"{"model":"m","timeout":0}"#, "timeout"),
            (r#"{"model":"m","timeout":1e9}"#, "timeout"),
            (r#"{"model":"m","fallback":"x"}"#, "fallback"),
            (r#"{"model":"m","tags":{"a":1}}"#, "tags"),
            (r#"{"model":"m","routing":"fastest"}"#, "routing"),
            (r#"{"model":"m","routing":5}"#, "routing"),
            (r#"{"model":"m","priority":"now"}"#, "priority"),
            (r#"{"model":"m","region":5}"#, "region"),
            (r#"{"model":"m","attributes":[1]}"#, "attributes"),
            (r#"{"model":"m","model":"n"}"#, "model"),
            (r#"{"model":"m","mod\u0065l":"n"}"#, "model"),
        ] {
            let refusal = read(body).unwrap_err();
            assert_eq!(refusal.param(), Some(param), "{body}: {refusal:?}");
            assert_eq!(refusal.status(), 400);
        }
        for body in ["", "[1]", "{\"model\":\"m\"", "{\"model\":\"m\"}x", "nope"] {
            assert_eq!(read(body).unwrap_err().code(), Some("invalid_json"), "{body}");
        }
        let deep = format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(100), "]".repeat(100));
        assert_eq!(read(&deep).unwrap_err(), Refusal::TooDeep { limit: 64 });
        assert!(read(r#"{"model":"m","metadata":1,"metadata":2}"#).is_ok(), "not routed by: passes");
    }
}
