//! What an expression may look at: names, their types, and how a call answers for them.

/// What a call answers with. Each is asked for only where an expression comes to it.
pub trait Facts {
    /// `None`: the call has none of it.
    fn value(&self, field: Field) -> Option<Value<'_>>;
    /// An entry of a map.
    fn entry(&self, map: Map, name: &str) -> Option<&str>;
}

/// A value of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'f> {
    Flag(bool),
    Number(i64),
    Text(&'f str),
}

/// The types of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Flag,
    Number,
    Text,
}

impl Type {
    pub fn name(self) -> &'static str {
        match self {
            Type::Flag => "true or false",
            Type::Number => "a number",
            Type::Text => "a text",
        }
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident = $path:literal: $kind:ident;)*) => {
        /// A single value that an expression may name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Field { $($(#[$doc])* $field,)* }

        impl Field {
            pub const ALL: &'static [Field] = &[$(Field::$field),*];

            /// As expressions name it.
            pub fn path(self) -> &'static str {
                match self { $(Field::$field => $path,)* }
            }

            pub fn kind(self) -> Type {
                match self { $(Field::$field => Type::$kind,)* }
            }
        }
    };
}

fields! {
    /// As the configuration names it: the one asked for, or the one that a rule put in its place.
    Model = "request.model": Text;
    /// `generate` or `count`.
    Operation = "request.operation": Text;
    /// The caller's: `openai_chat`, `anthropic`, ...
    Dialect = "request.dialect": Text;
    Stream = "request.stream": Flag;
    /// Estimated.
    InputTokens = "request.input_tokens": Number;
    /// The caller's own bound of the answer; absent where there is none.
    MaxTokens = "request.max_tokens": Number;
    HasTools = "request.has_tools": Flag;
    HasImages = "request.has_images": Flag;
    /// The answer is to be JSON, by a schema or not.
    WantsJson = "request.wants_json": Flag;
    /// Reasoning is asked for.
    WantsThinking = "request.wants_thinking": Flag;
    /// The class of task that the prompt is of; empty: none, or classes are in shadow.
    Class = "request.class": Text;
    /// The strategy that the request itself asks for; empty: none.
    Routing = "request.routing": Text;
    /// `high`, `normal` or `low`, as the request asks for it; `normal` where it does not.
    Priority = "request.priority": Text;
    /// Empty where the caller names none.
    Session = "request.session": Text;
    KeyId = "key.id": Text;
    /// The same: a key has no other name.
    KeyName = "key.name": Text;
    /// Empty: none.
    KeyTier = "key.tier": Text;
    /// The key's; empty: none.
    Project = "project": Text;
    /// Empty: none.
    Team = "team": Text;
    /// Where the caller is, as the key or `routing.home` says; empty: nobody does.
    ClientRegion = "client_region": Text;
    /// 0 to 23, in the configured zone as all of these.
    Hour = "time.hour": Number;
    /// 0 to 59.
    Minute = "time.minute": Number;
    /// 0 to 1439.
    MinuteOfDay = "time.minute_of_day": Number;
    /// 1 is Monday, 7 is Sunday (ISO 8601).
    Weekday = "time.weekday": Number;
}

impl Field {
    /// Whether a call may have none of it.
    pub fn is_optional(self) -> bool {
        self == Field::MaxTokens
    }
}

/// Values by names of the operator's or the caller's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// The request's tags.
    Tags,
    /// The key's.
    KeyTags,
    /// The request's headers, but for credentials.
    Headers,
}

impl Map {
    pub const ALL: [Map; 3] = [Map::Tags, Map::KeyTags, Map::Headers];

    /// As expressions name it.
    pub fn path(self) -> &'static str {
        match self {
            Map::Tags => "tags",
            Map::KeyTags => "key.tags",
            Map::Headers => "headers",
        }
    }
}

/// Words that headers with credentials have in their names.
const SECRET: [&str; 10] =
    ["authorization", "cookie", "cookie2", "token", "secret", "password", "key", "apikey", "credential", "credentials"];

/// Whether a header may hold a credential, by its name. Rules never see one.
pub fn is_secret(header: &str) -> bool {
    header.split(['-', '_']).any(|word| SECRET.iter().any(|secret| word.eq_ignore_ascii_case(secret)))
}
