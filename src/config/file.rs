//! What an operator writes: the YAML file as types.
//!
//! The doc comments are the reference: they become the descriptions of the JSON Schema (`portolan schema`). A field is
//! here only when it does something; what the product will have later is an unknown field until then
//! ([`super::schema`] says so by name).

mod beside;
mod budgets;
mod classes;
mod health;
mod issuers;
mod ledger;
mod limits;
mod resale;
mod routing;
mod rules;
mod tenancy;

pub use beside::{Cost, Dedup, Hedge, Shadow};
pub use budgets::{Alerts, Budget, BudgetDegrade, BudgetPer, Unpriced, Webhook, WebhookForm};
pub use classes::{Class, Classes, Mode};
pub use health::{Heartbeat, Question, When};
pub use issuers::{Administrators, ClaimNames, GivenRole, Introspection, Issuer, Role, SignedBy};
pub use ledger::Ledger;
pub use limits::{CallLimit, CallLimits, Elastic, LimitBy, LimitOf, LimitPer, ShortLimits};
pub use resale::{Prepaid, PriceGroup, Statements, Tariff};
pub use routing::{Balanced, By, Queue, Quota, Routing, Split, Strategy};
pub use rules::{KeyTier, Priority, Rule, Set};
pub use tenancy::{Callers, Function, Key, LevelRules, Organisation, Project, Team, Tenancy, User};

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::dialect::{Abilities, Prefill, ReasoningStyle, Streams};

use super::value::{Address, Decimal, Size, Span};

/// Configuration of Portolan. Text values may contain ${NAME} and ${NAME:-default} for environment variables; $$ is a
/// dollar sign.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "portolan.yaml")]
pub struct File {
    /// Further files, relative to this one. Their providers, models, keys and currencies are added to these; anything
    /// else may stand in only one of the files. An included file includes no others.
    pub include: Vec<String>,
    /// Where callers connect: one address or a list. Default 127.0.0.1:8080.
    pub listen: Option<OneOrMany<Address>>,
    /// Metrics, status and administration. Never open it to callers.
    pub admin: Option<Admin>,
    /// Accounts at APIs, by a name of your choice.
    #[schemars(extend("propertyNames" = {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}))]
    pub providers: BTreeMap<String, Provider>,
    /// A file of prices and abilities in the form that `portolan catalog list` prints; its models come before those of the
    /// built-in catalogue. `portolan catalog update` writes it.
    pub catalog: Option<String>,
    /// What callers name in `model`, each a set of targets. Names match with `-` for `.` too.
    pub models: BTreeMap<String, Model>,
    /// Kinds of work that prompts ask for.
    pub classes: Option<Classes>,
    /// What is to be done with calls of a kind, whatever model they ask for.
    pub rules: Vec<Rule>,
    /// Bundles of routing settings that keys refer to, by a name of your choice.
    #[schemars(extend("propertyNames" = {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}))]
    pub tiers: BTreeMap<String, KeyTier>,
    /// Whom teams belong to, by a name of your choice. What it forbids, nothing below it can allow; the same goes for the
    /// levels below.
    #[schemars(extend("propertyNames" = {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}))]
    pub organisations: BTreeMap<String, Organisation>,
    /// Whom projects and users belong to, by a name of your choice.
    #[schemars(extend("propertyNames" = {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}))]
    pub teams: BTreeMap<String, Team>,
    /// What keys belong to, by a name of your choice.
    #[schemars(extend("propertyNames" = {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}))]
    pub projects: BTreeMap<String, Project>,
    /// Whose keys there are, by a name of your choice.
    #[schemars(extend("propertyNames" = {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}))]
    pub users: BTreeMap<String, User>,
    /// Whose tokens callers may bring instead of a key, by a name of your choice.
    #[schemars(extend("propertyNames" = {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}))]
    pub issuers: BTreeMap<String, Issuer>,
    /// Callers' credentials. `portolan keys new` prints a secret and its row.
    pub keys: Vec<Key>,
    /// Serves calls that bring no key. Leave it out wherever others can connect.
    pub anonymous: Option<Anonymous>,
    /// Bounds of what a call may bring and get.
    pub limits: Limits,
    /// Bounds in time; providers and models may have their own.
    pub timeouts: Timeouts,
    /// How failing targets are tried again and left alone.
    pub retry: Retry,
    /// How targets are chosen, where model, key and request do not say.
    pub routing: Routing,
    /// Calls that wait where no target of their model has room.
    pub queue: Queue,
    pub shutdown: Shutdown,
    /// Where journal and ledger live; relative to the working directory. Default /var/lib/portolan.
    pub state_dir: Option<String>,
    /// Worker threads of the data plane. Default: one a core. Changes with a restart only.
    #[schemars(range(min = 1, max = 512))]
    pub threads: Option<usize>,
    pub ledger: Ledger,
    pub log: Log,
    /// Who is told when parts of budgets are spent.
    pub alerts: Alerts,
    /// What becomes of calls to a target whose price nobody knows. Default: they are refused where a hard budget would have to
    /// pay for them, and served and flagged otherwise.
    pub unpriced: Option<Unpriced>,
    /// What customers are charged, by a name of your choice, for organisations, teams, projects, users and keys.
    #[schemars(extend("propertyNames" = {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}))]
    pub price_groups: BTreeMap<String, PriceGroup>,
    /// What customers are sent.
    pub statements: Statements,
    /// Units of other currencies for one US dollar, by code: each adds cost_<code> to answers.
    pub currencies: BTreeMap<String, Decimal>,
    pub response: Response,
    /// The built-in scripted provider for trying things out. Presets sandbox-openai, sandbox-anthropic and
    /// sandbox-gemini reach it.
    pub sandbox: Option<Sandbox>,
}

/// One value or a list of them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Default 127.0.0.1:8081.
    pub listen: Option<Address>,
    /// Keeps why the last calls went where they went, for GET /admin/requests/{id}: names, numbers and times, never what was
    /// said. Default: not at all.
    pub explain: Option<Explain>,
    /// What of this port is shown to whoever can connect, without a token. Default: all of these where only this machine can
    /// connect, none elsewhere.
    pub open: Option<Vec<Door>>,
}

/// A part of the admin port that can be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Door {
    /// GET /metrics
    Metrics,
    /// GET /admin/targets
    Targets,
    /// GET /admin/requests/{id}
    Requests,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Explain {
    /// Calls that are kept, the last ones. Default 1000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub calls: Option<usize>,
    /// Most bytes of all of them. Default 16MiB.
    pub bytes: Option<Size>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    pub listen: Address,
}

/// An account at an API. It has a preset, or a dialect and an address.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Provider {
    /// A known provider: brings address, dialect, kind of credential and quirks.
    pub preset: Option<String>,
    /// How it is spoken to, where there is no preset.
    pub dialect: Option<String>,
    /// Address of the API up to and with its version: https://api.openai.com/v1.
    pub base_url: Option<String>,
    /// Equal nodes instead of one base_url: a weighted, health-checked pool.
    pub nodes: Vec<Node>,
    /// The credential: ${NAME}, file:/path or the key itself. When it is one variable that is not set, the provider
    /// sleeps until it is. Default: the variable of the preset, such as ${OPENAI_API_KEY}.
    pub api_key: Option<String>,
    /// Several credentials, used in turn.
    pub api_keys: Vec<String>,
    /// How the credential travels, where it differs from the preset.
    pub auth: Option<Auth>,
    /// Headers sent with every request. Values may be ${NAME} or file:/path.
    pub headers: BTreeMap<String, String>,
    /// Where it serves, for rules on residency: eu, us, ...
    pub region: Option<String>,
    /// What may be relied on here: zero-retention, hipaa, ... Keys and requests may demand it.
    pub attributes: Vec<String>,
    /// What the provider lets each of the credentials do, over all models.
    pub limits: Quota,
    /// What is paid of the catalogue's prices: 0.85 with a discount of 15 %, 1.1 with a mark-up. Default 1.
    pub price_factor: Option<Decimal>,
    /// Prices that were agreed on, by the provider's names for models; * stands for anything. A target's own price comes
    /// first.
    pub prices: BTreeMap<String, Price>,
    pub timeouts: Timeouts,
    pub tls: Tls,
    pub http: Http,
    /// Asks each node regularly whether it is well. Without it only real calls tell.
    pub health_check: Option<HealthCheck>,
    /// Asks for itself whether its targets are well, so that a call need not find out. Off without it.
    pub heartbeat: Option<Heartbeat>,
    /// Departures from the dialect, where they differ from the preset.
    pub quirks: Quirks,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Address of the API on this node: http://llm-1.internal:8000/v1.
    pub url: String,
    /// Share of the calls, relative to the other nodes. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// No credential.
    None,
    /// authorization: Bearer ...
    Bearer,
    /// A header with the bare key, by name.
    Header(String),
    /// Tokens for the key file of a Google service account.
    GoogleServiceAccount(GoogleServiceAccount),
    /// Tokens of Microsoft Entra for an application and its secret.
    Entra(Entra),
    /// Requests signed with the keys of an AWS account.
    Aws(Aws),
}

/// A Google service account. Default: the key file that the variable GOOGLE_APPLICATION_CREDENTIALS names.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GoogleServiceAccount {
    /// Path of its key file.
    pub file: Option<String>,
    /// What stands in the key file, instead of its path: ${NAME} or file:/path.
    pub json: Option<String>,
    /// What its tokens are for. Default https://www.googleapis.com/auth/cloud-platform.
    pub scope: Option<String>,
}

/// An application that is registered with Microsoft Entra. Each value may be ${NAME} or file:/path.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Entra {
    /// Id or domain of the directory. Default ${AZURE_TENANT_ID}.
    pub tenant: Option<String>,
    /// Id of the application. Default ${AZURE_CLIENT_ID}.
    pub client_id: Option<String>,
    /// Default ${AZURE_CLIENT_SECRET}.
    pub client_secret: Option<String>,
    /// Who gives tokens. Default https://login.microsoftonline.com.
    pub authority: Option<String>,
    /// What they are for. Default https://cognitiveservices.azure.com/.default.
    pub scope: Option<String>,
}

/// The keys of an AWS account. Each value may be ${NAME} or file:/path.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Aws {
    /// The region that requests are signed for. Default: the one in the address.
    pub region: Option<String>,
    /// The service that they are signed for. Default bedrock.
    pub service: Option<String>,
    /// Default: ${AWS_ACCESS_KEY_ID}, with ${AWS_SECRET_ACCESS_KEY} and, where it is set, AWS_SESSION_TOKEN.
    pub access_key_id: Option<String>,
    pub secret_access_key: Option<String>,
    /// Goes with temporary keys.
    pub session_token: Option<String>,
    /// Gets the keys from the service beside this process instead, and new ones in time.
    pub from: Option<KeysFrom>,
}

/// Where the keys of an AWS account come from.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeysFrom {
    /// A task of ECS or a pod of EKS, as AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI say.
    Container,
    /// An instance of EC2 with a role.
    Instance,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file of the authority to trust instead of the system's.
    pub ca_file: Option<String>,
    /// Name to ask for and to check, where it is not the host of the address.
    pub server_name: Option<String>,
    /// Accepts any certificate. Anyone between here and there can read keys and prompts.
    pub insecure_skip_verify: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Http {
    /// HTTP/2 where the server offers it, else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 only; without TLS, with prior knowledge.
    Http2,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Path on the node, from its root: /health.
    pub path: String,
    /// Default 5s.
    pub interval: Option<Span>,
    /// Default 2s.
    pub timeout: Option<Span>,
    /// Failures in a row that take a node out. Default 3.
    #[schemars(range(min = 1, max = 1000))]
    pub unhealthy_after: Option<u32>,
    /// Successes in a row that bring it back. Default 2.
    #[schemars(range(min = 1, max = 1000))]
    pub healthy_after: Option<u32>,
}

/// Departures from a dialect. What is written here replaces what the preset says.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Quirks {
    /// Request fields that the provider knows under another name: {max_completion_tokens: max_tokens}.
    pub rename: Option<BTreeMap<String, String>>,
    /// Request fields that the provider refuses: dropped, and named as losses.
    pub refuses: Option<Vec<String>>,
    /// Does not take stream_options.
    pub no_stream_options: Option<bool>,
    /// Does not know the role developer: sent as system.
    pub no_developer_role: Option<bool>,
    /// Takes json_object but no json_schema.
    pub no_json_schema: Option<bool>,
    /// How the provider is told to think.
    pub reasoning: Option<ReasoningStyle>,
    /// Whether a last message of the assistant's is gone on with (`continuation`): none, plain, or marked with
    /// `prefix: true` (prefix) or `partial: true` (partial). Without, the model is told to go on.
    pub prefill: Option<Prefill>,
    /// Path and query below base_url in place of the dialect's own; {model} stands for the target's model, {+model} keeps
    /// its slashes, {api_version} is api_version: /openai/deployments/{model}/chat/completions?api-version={api_version}.
    pub path: Option<String>,
    /// The same for streams. Default: path.
    pub stream_path: Option<String>,
    /// What stands for {api_version} in path and stream_path.
    pub api_version: Option<String>,
    /// Takes no `model` in the body: the path says it.
    pub no_model: Option<bool>,
    /// Fields added to every request's body, unless the caller wrote them: {anthropic_version: vertex-2023-10-16}. What is
    /// null is left out.
    pub adds: Option<BTreeMap<String, serde_json::Value>>,
    /// Whether it streams: as_asked, always, never. What the caller wants is made of what comes.
    pub streams: Option<Streams>,
}

/// What callers name: a set of targets and how to choose among them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Where it is served. At least one, unless rules lead each call to another model.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// What is to be done with calls of a kind that ask for it, or were led to it by a rule.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// How to choose among the targets. Default: that of `routing`.
    pub strategy: Option<Strategy>,
    /// How much cost, latency and success count in `balanced`. Default: those of `routing`.
    pub balanced: Option<Balanced>,
    /// What keeps calls at one target in `sticky`, the first that a call has. Default: that of `routing`.
    pub sticky: Option<Vec<By>>,
    /// Parts of the calls for named groups of targets.
    pub split: Option<Split>,
    /// Asks another target too where one is late, and takes the first answer. Off without it.
    pub hedge: Option<Hedge>,
    /// Makes one call of identical ones of a key that are under way at once. Off without it.
    pub dedup: Option<Dedup>,
    /// Sends some of the calls to another model too, whose answer nobody gets, and compares the two. Off without it.
    pub shadow: Option<Shadow>,
    /// Models to go on with, in order, when every target failed.
    #[serde(default)]
    pub fallback: Vec<String>,
    /// The model that answers when nothing else can: also where a request or a key has fallbacks of its own, and before any
    /// target is troubled that is known to fail.
    pub last_resort: Option<String>,
    /// What differs from the `retry` of all models.
    #[serde(default)]
    pub retry: Retry,
    /// Refuses a call that a target could not serve without loss, and names what would be lost.
    #[serde(default)]
    pub strict: bool,
    #[serde(default)]
    pub timeouts: Timeouts,
}

/// One model at one provider.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// A name of `providers`.
    pub provider: String,
    /// The provider's name for the model. Default: the name of the model that this is a target of.
    pub model: Option<String>,
    /// Share of the calls, relative to the other targets. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub weight: u32,
    /// Place in `priority`, lowest first. Default: 1, or its place in the list where no target has one.
    pub tier: Option<u32>,
    /// Its arm of the model's `split`.
    pub arm: Option<String>,
    /// Where it serves. Default: the provider's.
    pub region: Option<String>,
    /// What may be relied on here, beside the provider's.
    #[serde(default)]
    pub attributes: Vec<String>,
    /// What the provider lets each credential do with this model.
    #[serde(default)]
    pub limits: Quota,
    /// What the model can do, where it differs from the catalogue.
    pub abilities: Option<Abilities>,
    /// What it costs, instead of the catalogue's price.
    pub price: Option<Price>,
    /// As the provider's, in its place.
    pub heartbeat: Option<Heartbeat>,
}

/// US dollars for a million tokens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    pub input: Decimal,
    pub output: Decimal,
    /// Input read from a cache. Default: input.
    pub cached: Option<Decimal>,
    /// Input written to a cache. Default: input.
    pub cache_write: Option<Decimal>,
    /// Input written to a cache for an hour. Default: cache_write.
    pub cache_write_1h: Option<Decimal>,
    /// Default: input.
    pub audio_input: Option<Decimal>,
    /// Default: output.
    pub audio_output: Option<Decimal>,
    /// Default: output.
    pub reasoning: Option<Decimal>,
    /// US dollars for each call, on top. Default 0.
    pub request: Option<Decimal>,
    /// US dollars for each search of the provider's own tool, on top. Default 0.
    pub search: Option<Decimal>,
    /// Other prices for whole calls whose prompt is longer.
    #[serde(default)]
    pub tiers: Vec<Tier>,
}

/// Prices for calls with a prompt above a length; what is left out is as without the tier.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Prompt tokens above which it holds.
    #[schemars(range(min = 1))]
    pub above: u64,
    pub input: Decimal,
    pub output: Decimal,
    /// Default: input of this tier.
    pub cached: Option<Decimal>,
    /// Default: input of this tier.
    pub cache_write: Option<Decimal>,
    /// Default: cache_write of this tier.
    pub cache_write_1h: Option<Decimal>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Anonymous {
    /// Names that callers without a key may use; * stands for anything. Default: all.
    #[serde(default = "all")]
    pub models: Vec<String>,
    /// A name of `tiers`.
    pub tier: Option<String>,
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest request body. Default 50MiB.
    pub body_bytes: Option<Size>,
    /// Largest whole answer of a provider. Default 50MiB.
    pub answer_bytes: Option<Size>,
    /// Largest single event of a stream. Default 16MiB.
    pub event_bytes: Option<Size>,
    /// Longest text of a stream that is remembered so that it can be gone on with (`continuation`). Default 256KiB.
    pub continuation_bytes: Option<Size>,
    /// Deepest nesting of JSON, both ways. Default 64.
    #[schemars(range(min = 4, max = 256))]
    pub depth: Option<usize>,
    /// Time to read a request's body whole. Default 60s.
    pub body_time: Option<Span>,
    /// Largest head of a request. Default 64KiB.
    pub header_bytes: Option<Size>,
    /// Most headers of a request. Default 128.
    #[schemars(range(min = 8, max = 1000))]
    pub headers: Option<usize>,
    /// Most bytes of request bodies held at once, over all calls. Default 512MiB.
    pub buffered_bytes: Option<Size>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// TCP and TLS, together. Default 5s.
    pub connect: Option<Span>,
    /// From the request to the first content of a streamed answer. Default 1m.
    pub first_byte: Option<Span>,
    /// From the request to the end of an answer that is not streamed. Default 5m.
    pub answer: Option<Span>,
    /// Between two pieces of an answer. Default 2m.
    pub idle: Option<Span>,
    /// The whole call, all attempts included. Default 10m.
    pub total: Option<Span>,
}

/// Further attempts: how many, when, and on what.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Tries at one target before the next one, the first included. Default 2.
    #[schemars(range(min = 1, max = 20))]
    pub tries: Option<u32>,
    /// Tries of a whole call, over all targets. Default 6.
    #[schemars(range(min = 1, max = 100))]
    pub total_tries: Option<u32>,
    /// First pause between tries; doubles, with jitter. Default 250ms.
    pub pause: Option<Span>,
    /// Default 8s.
    pub max_pause: Option<Span>,
    /// Pause before another target is tried, with jitter. Default 0s.
    pub fallback_pause: Option<Span>,
    /// What else sends a call to another target: the model declines (refusal), a filter refuses the request or withholds
    /// the answer (content_filter). Default: nothing, the caller is told.
    pub on: Option<Vec<RetryOn>>,
    /// A stream that breaks goes on at another target, from the text that was already sent. Default false: the caller is told
    /// that it broke. A request may say otherwise.
    pub continuation: Option<bool>,
    /// How many further attempts there may be, in proportion to the calls.
    pub budget: Option<RetryBudget>,
    /// How long a failing target is left alone when it does not say how long. Default 10s.
    pub cooldown: Option<Span>,
    /// Failures in a row that bring the cooldown. Default 3.
    #[schemars(range(min = 1, max = 1000))]
    pub failures: Option<u32>,
}

/// Calls that are answered, and yet not as was wished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RetryOn {
    /// The model declines before it has said anything, or in a whole answer.
    Refusal,
    /// A filter refuses the request, or withholds the answer before anything of it was said.
    ContentFilter,
}

/// Bounds further attempts, for each model and (ten times the floor and the burst) for all together. When it is spent,
/// only targets that are well are gone on to; otherwise the caller is told the failure at once.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryBudget {
    /// Further attempts that a call earns. Default 0.1: under a lasting outage there are 1.1 attempts a call.
    pub ratio: Option<Decimal>,
    /// Attempts a minute where calls are too few to earn as many. Default 6.
    #[schemars(range(max = 1_000_000))]
    pub per_minute: Option<u64>,
    /// Attempts that can be saved up. Default 10.
    #[schemars(range(max = 1_000_000))]
    pub burst: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// How long a graceful stop waits for running calls. Default 60s.
    pub drain: Option<Span>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    #[default]
    Human,
    Json,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Response {
    /// Where cost_usd is put into bodies.
    pub cost_in_body: CostInBody,
    /// How often a caller that streams is given a sign of life while its provider is silent, so that proxies in between
    /// do not cut the connection: 15s by default, 0s for never. After the first one, a failure is told in the stream
    /// instead of by a status.
    pub keep_alive: Option<Span>,
    /// How long answers of the Responses API are kept for their callers to go on from: 30d by default, 0s for not at all.
    /// They lie in the state directory as plain text.
    pub keep_responses: Option<Span>,
    /// What becomes of a provider's answer when its caller has left.
    pub read_on: ReadOn,
}

/// When a caller leaves, its answer is read on for so long and so far, so that the ledger has what the provider reports; then,
/// or at once by default, the provider's connection is closed, and the ledger has an estimate that says so. Nothing is tried again
/// for a caller that has left.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReadOn {
    /// Default 0s: not at all.
    #[serde(rename = "for")]
    pub time: Option<Span>,
    /// Bytes of an answer, as callers would be given them. Default 1MiB.
    pub bytes: Option<Size>,
    /// Answers that are read on at once. Default 64.
    #[schemars(range(min = 1, max = 100_000))]
    pub calls: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CostInBody {
    Never,
    /// In answers that are written anew anyway; one that passes through stays as it is.
    #[default]
    Transcoded,
    Always,
}
