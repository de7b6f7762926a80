//! Whole files in, snapshots or problems out.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::dialect::ReasoningStyle;
use crate::policy::price::Rates;
use crate::policy::tenancy::Standing;
use crate::provider::AuthScheme;

mod auth;
mod budgets;
mod issuers;
mod limits;
mod prices;
mod routing;
mod rules;
mod tenancy;

const QUICKSTART: &str = include_str!("../../conf/quickstart.yaml");

/// The shipped files, each with the environment and the files that it needs.
const SHIPPED: [(&str, &str); 12] = [
    ("conf/quickstart.yaml", QUICKSTART),
    ("conf/portolan.yaml", include_str!("../../conf/portolan.yaml")),
    ("conf/examples/laptop.yaml", include_str!("../../conf/examples/laptop.yaml")),
    ("conf/examples/failover.yaml", include_str!("../../conf/examples/failover.yaml")),
    ("conf/examples/team.yaml", include_str!("../../conf/examples/team.yaml")),
    ("conf/examples/azure.yaml", include_str!("../../conf/examples/azure.yaml")),
    ("conf/examples/vertex.yaml", include_str!("../../conf/examples/vertex.yaml")),
    ("conf/examples/aws.yaml", include_str!("../../conf/examples/aws.yaml")),
    ("conf/examples/self-hosted.yaml", include_str!("../../conf/examples/self-hosted.yaml")),
    ("conf/examples/resilience.yaml", include_str!("../../conf/examples/resilience.yaml")),
    ("conf/examples/routing.yaml", include_str!("../../conf/examples/routing.yaml")),
    ("conf/examples/rules.yaml", include_str!("../../conf/examples/rules.yaml")),
];

fn with(files: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Snapshot, Vec<Problem>> {
    let read = |path: &Path| {
        let found = files.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| ErrorKind::NotFound.into())
    };
    let env = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    load(Path::new(files[0].0), &Outside { env: &env, read: &read }, &Catalogue::EMPTY, &Live::default())
}

fn problems(text: &str) -> Vec<String> {
    let found = with(&[("f", text)], &[]).expect_err("has problems");
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn the_readmes_configuration_is_sound() {
    let readme = include_str!("../../README.md");
    let yaml = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let snapshot = from_text(yaml, &|name| Some(format!("{name}-value"))).unwrap();
    assert_eq!((snapshot.providers.len(), snapshot.models["smart"].targets.len()), (2, 2));
}

#[test]
fn every_shipped_file_is_sound() {
    let pem = "-----BEGIN CERTIFICATE-----\n";
    for (name, text) in SHIPPED {
        let files = [
            (name, text),
            ("conf/examples/internal-ca.pem", pem),
            ("conf/examples/vllm.key", "k\n"),
            ("/run/credentials/portolan.service/anthropic", "k\n"),
            ("/etc/portolan/vertex.json", auth::GOOGLE),
        ];
        if let Err(problems) = with(&files, &[]) {
            panic!("{}", problems.iter().map(|problem| format!("{problem}\n")).collect::<String>());
        }
    }
}

/// A field that does something must stand in the commented reference.
#[test]
fn the_reference_shows_every_field() {
    let schema = schema::schema();
    let reference = yaml::parse(SHIPPED[1].1, 0).unwrap();
    let mut keys = std::collections::BTreeSet::new();
    fn gather(node: &Node, keys: &mut std::collections::BTreeSet<String>) {
        match &node.value {
            Value::Map(entries) => entries.iter().for_each(|entry| {
                keys.insert(entry.key.clone());
                gather(&entry.value, keys);
            }),
            Value::List(items) => items.iter().for_each(|item| gather(item, keys)),
            _ => {}
        }
    }
    gather(&reference, &mut keys);
    let definitions = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    for field in definitions.filter_map(|part| part["properties"].as_object()).flat_map(|fields| fields.keys()) {
        let shown = keys.contains(field)
            || SHIPPED[1].1.contains(&format!("# {field}:"))
            || field == "base_url"
            || field == "api_key";
        assert!(shown, "conf/portolan.yaml does not show `{field}`");
    }
}

#[test]
fn the_quickstart_serves_the_sandbox_and_wakes_with_keys() {
    let snapshot = with(&[("q.yaml", QUICKSTART)], &[]).unwrap();
    assert_eq!(snapshot.sandbox.unwrap().to_string(), "127.0.0.1:8082");
    let key = snapshot.key("pk-quickstart").expect("the secret that the comment names");
    assert!(key.may_use("sandbox") && key.standing(0).is_ok());
    let ids: Vec<_> = snapshot.providers.iter().map(|provider| provider.id.as_str()).collect();
    assert_eq!(ids, ["sandbox-openai", "sandbox-anthropic", "sandbox-gemini"]);
    let gemini = &snapshot.model("sandbox-gemini").unwrap().targets[0];
    assert_eq!(gemini.target.provider.nodes[0].authority, "127.0.0.1:8082");
    assert_eq!(gemini.target.provider.nodes[0].path, "/v1beta");
    assert_eq!(gemini.target.id, "sandbox-gemini/sandbox");
    assert_eq!(gemini.price.as_ref().unwrap().rates.cached, 100_000_000);
    assert!(snapshot.asleep.contains(&("openai".into(), "OPENAI_API_KEY".into())));
    assert!(snapshot.model("gpt-5.6").is_none());
    assert_eq!(snapshot.model_asleep("gpt-5.6").unwrap(), ["OPENAI_API_KEY"]);
    assert_eq!(snapshot.model_asleep("gpt-5-6").unwrap(), ["OPENAI_API_KEY"]);
    assert_eq!(snapshot.model_asleep("openai/gpt-4").unwrap(), ["OPENAI_API_KEY"]);
    assert_eq!(snapshot.model_asleep("gpt-oss-120b").unwrap(), ["GROQ_API_KEY", "OPENROUTER_API_KEY"]);
    assert!(snapshot.model_asleep("sandbox").is_none() && snapshot.model_asleep("unheard-of").is_none());

    let awake =
        with(&[("q.yaml", QUICKSTART)], &[("OPENAI_API_KEY", "sk-1"), ("GEMINI_API_KEY", "g"), ("XAI_API_KEY", "")])
            .unwrap();
    let target = &awake.model("gpt-5.6").unwrap().targets[0].target;
    assert_eq!((&*target.provider.nodes[0].host, &*target.provider.nodes[0].path), ("api.openai.com", "/v1"));
    assert_eq!(target.provider.credentials[0].header.1, "Bearer sk-1");
    assert_eq!(target.provider.credentials[0].name, "openai#1");
    assert!(awake.model("gemini-2-5-pro").is_some());
    assert!(awake.asleep.contains(&("xai".into(), "XAI_API_KEY".into())), "set to nothing is not set");
    assert_eq!(awake.version, snapshot.version);
    assert_eq!(awake.version.len(), 12);
}

#[test]
fn an_empty_file_has_all_defaults() {
    let snapshot = with(&[("f", "")], &[]).unwrap();
    assert_eq!(snapshot.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!(snapshot.admin, "127.0.0.1:8081".parse().unwrap());
    assert_eq!(snapshot.limits.body_bytes, 50 << 20);
    assert!(snapshot.anonymous.is_none() && snapshot.sandbox.is_none() && snapshot.keys.is_empty());
}

#[test]
fn names_are_found_in_every_spelling() {
    let text = "providers: {p: {preset: ollama}}\n\
                models:\n  gemini-2.5-pro: {targets: [{provider: p}]}\n  a.b: {targets: [{provider: p, model: dot}]}\n  a-b: {targets: [{provider: p, model: dash}]}\n";
    let snapshot = with(&[("f", text)], &[]).unwrap();
    for name in ["gemini-2.5-pro", "gemini-2-5-pro", "gemini.2.5.pro", "p/gemini-2.5-pro", "p/gemini-2-5-pro"] {
        assert!(snapshot.model(name).is_some(), "{name}");
    }
    assert_eq!(snapshot.model("a.b").unwrap().targets[0].target.model, "dot");
    assert_eq!(snapshot.model("a-b").unwrap().targets[0].target.model, "dash");
    assert_eq!(snapshot.model("p/dash").unwrap().name, "p/dash");
    let long = "x".repeat(1000);
    for name in ["", "gemini", "GEMINI-2.5-PRO", "p/", "p/none", "/", long.as_str()] {
        assert!(snapshot.model(name).is_none(), "{name}");
    }
    assert_eq!(snapshot.index.names, ["gemini-2.5-pro", "a.b", "a-b"]);
}

#[test]
fn the_catalogue_fills_in_what_the_file_leaves_out() {
    let price = Price { rates: Rates { input: 7, ..Rates::default() }, tiers: Vec::new(), version: "2026-11".into() };
    let find = |preset: &str, model: &str| {
        let known = preset == "ollama" && model.starts_with("llama");
        let abilities = Abilities { context: Some(8192), vision: Some(false), ..Abilities::default() };
        known.then(|| Listed { abilities, price: price.clone(), ..Listed::default() })
    };
    let models = |preset: &str| if preset == "ollama" { vec!["llama-1".into(), "llama-2".into()] } else { Vec::new() };
    let catalogue = Catalogue { find: &find, models: &models, now: 0 };
    let text = "providers: {local: {preset: ollama}, other: {preset: vllm}, off: {preset: openai}}\n\
                models: {m: {targets: [{provider: local, model: llama-1, abilities: {vision: true}}, {provider: other}]}}\n";
    let read = |_: &Path| Ok(text.as_bytes().to_vec());
    let snapshot =
        load(Path::new("f"), &Outside { env: &|_| None, read: &read }, &catalogue, &Live::default()).unwrap();
    let targets = &snapshot.model("m").unwrap().targets;
    assert_eq!(targets[0].target.abilities.context, Some(8192));
    assert_eq!(targets[0].target.abilities.vision, Some(true), "the file goes before the catalogue");
    assert_eq!(targets[0].price.as_ref().unwrap().version, "2026-11");
    assert!(targets[1].price.is_none(), "unknown is not free");
    assert_eq!(snapshot.model("local/llama-2").unwrap().targets[0].price.as_ref().unwrap().rates.input, 7);
    assert!(snapshot.model("off/llama-2").is_none());
}

#[test]
fn prices_are_exact_and_never_free_by_default() {
    let text = "providers: {p: {preset: ollama}}\n\
                models: {m: {targets: [{provider: p, price: {input: 0.1, output: \"0.3\", cache_write: 0.125, tiers: [{above: 200000, input: 0.2, output: 0.7}]}}]}}\n";
    let snapshot = with(&[("f", text)], &[]).unwrap();
    let price = snapshot.model("m").unwrap().targets[0].price.clone().unwrap();
    let expected = Rates {
        input: 100_000_000,
        output: 300_000_000,
        cached: 100_000_000,
        cache_write: 125_000_000,
        cache_write_1h: 125_000_000,
        audio_input: 100_000_000,
        audio_output: 300_000_000,
        reasoning: 300_000_000,
        request: 0,
        search: 0,
    };
    assert_eq!(price.rates, expected);
    assert_eq!(price.tiers[0].0, 200_000);
    assert_eq!((price.tiers[0].1.cached, price.tiers[0].1.reasoning), (200_000_000, 700_000_000));
    assert_eq!(price.version, "config");
}

#[test]
fn providers_take_what_the_preset_brings_unless_told_otherwise() {
    let text = r#"
timeouts: { idle: 7s }
providers:
  a: { preset: anthropic, api_keys: ["k1", "${SET}", "${UNSET}"], timeouts: { connect: 1s } }
  d: { preset: deepseek, api_key: k, quirks: { no_json_schema: false }, base_url: "http://[::1]:9/x/" }
  g: { dialect: gemini, base_url: "https://g", api_key: "file:keys/g", headers: { x-team: "${SET}" } }
  n: { preset: openai, auth: none }
  t: { preset: vllm, base_url: "https://v/v1", tls: { ca_file: ca.pem, server_name: v.internal }, http: http2 }
models:
  m: { targets: [{ provider: a }], timeouts: { total: 3m } }
"#;
    let files = [("etc/p.yaml", text), ("etc/keys/g", "secret-g\n"), ("etc/ca.pem", "-----BEGIN CERTIFICATE-----")];
    let snapshot = with(&files, &[("SET", "k2")]).unwrap();
    let by: HashMap<_, _> = snapshot.providers.iter().map(|provider| (provider.id.as_str(), provider)).collect();
    assert_eq!(by["a"].credentials.iter().map(|key| key.secret.expose()).collect::<Vec<_>>(), ["k1", "k2"]);
    assert!(snapshot.index.remarks[0].message.contains("UNSET"), "{:?}", snapshot.index.remarks);
    assert_eq!(by["a"].headers[0].0, "anthropic-version");
    assert_eq!(by["a"].credentials[0].header.0, "x-api-key");
    assert_eq!((by["a"].timeouts.connect, by["a"].timeouts.idle), (Duration::from_secs(1), Duration::from_secs(7)));
    assert_eq!(by["d"].quirks.reasoning, ReasoningStyle::Thinking);
    assert!(!by["d"].quirks.no_json_schema && by["d"].quirks.no_developer_role);
    assert_eq!((by["d"].nodes[0].path.as_str(), by["d"].nodes[0].port), ("/x", 9));
    assert_eq!(by["g"].credentials[0].header.1, "secret-g");
    assert_eq!(by["g"].headers[0].1, "k2");
    assert_eq!(by["n"].auth, AuthScheme::None);
    assert_eq!(by["t"].auth, AuthScheme::None, "a preset without a key is called without one");
    assert_eq!(by["t"].tls.server_name.as_deref(), Some("v.internal"));
    assert!(by["t"].tls.verify && by["t"].tls.ca.is_some());
    let target = &snapshot.model("m").unwrap().targets[0];
    assert_eq!((target.timeouts.connect, target.timeouts.total), (Duration::from_secs(1), Duration::from_secs(180)));
    let shown = format!("{snapshot:?}");
    for secret in ["k1", "k2", "secret-g"] {
        assert!(
            !shown.contains(&format!("\"{secret}\"")) && !shown.contains(&format!("Bearer {secret}")),
            "{secret} is printed"
        );
    }
}

#[test]
fn what_no_schema_can_say_is_found_all_at_once() {
    let text = r#"listen: ["127.0.0.1:8081", "0.0.0.0:8082"]
sandbox: { listen: 127.0.0.1:8082 }
providers:
  both: { preset: openai, dialect: gemini }
  none: {}
  odd: { preset: opnai }
  azure: { preset: azure-openai, api_key: k }
  url: { dialect: openai_chat, base_url: "api.x.com/v1" }
  tls: { preset: openai, api_key: k, tls: { server_name: "", ca_file: /gone } }
  keys: { preset: openai, api_key: "", headers: { host: x, "a b": y } }
  ok: { preset: ollama }
models:
  m:
    targets: [{ provider: okk }, { provider: ok }, { provider: ok }]
    fallback: [n, n, missing]
  n: { targets: [{ provider: ok }], fallback: [m] }
  empty: { targets: [] }
  "a b": { targets: [{ provider: ok }], timeouts: { idle: 0s } }
keys:
  - { id: a, secret_sha256: "297c181d716820997ce5e86d47eb9c518bd6a4850760efed58277f80941f3b1c", models: [] }
  - { id: a, secret_sha256: "297c181d716820997ce5e86d47eb9c518bd6a4850760efed58277f80941f3b1c", models: ["gpt-?"] }
  - { id: "no good", secret_sha256: "24a5e1f2f82f05d00e3c26817e91ca39011a7a6fa20d069ea67254388e300aad" }
limits: { body_bytes: 600MiB, event_bytes: 5 }
retry: { pause: 9s }
currencies: { usd: 1, yen: 0, eurx: 0.92, cny: 7.1234567 }
"#;
    let expected = r#"f:2:12: sandbox.listen: 127.0.0.1:8082 collides with 0.0.0.0:8082, which is listened on too: take another port
f:4:27: providers.both.dialect: the preset `openai` brings its dialect: take this out, or the preset
f:5:3: providers.none: add `preset: NAME`, or `dialect: NAME` and `base_url: URL`
f:6:10: providers.odd.preset: unknown preset `opnai`. Did you mean `openai`?
f:7:3: providers.azure: add `base_url`, of the form https://RESOURCE.openai.azure.com/openai/v1
f:8:32: providers.url.base_url: write a URL such as https://api.example.com/v1
f:9:45: providers.tls.tls.server_name: write the host name that the certificate is for, or take it out
f:9:62: providers.tls.tls.ca_file: /gone cannot be read: entity not found
f:10:27: providers.keys.api_key: the secret is empty: write `${NAME}`, `file:/path` or the key itself
f:10:51: providers.keys.headers.host: `host` is set by Portolan: take it out
f:10:60: providers.keys.headers["a b"]: not a header name: write letters, digits and hyphens
f:14:17: models.m.targets[0].provider: no provider is called `okk`: add it under `providers`. Did you mean `ok`?
f:14:52: models.m.targets[2]: this target is already in the list: raise its weight instead
f:15:5: models.m.fallback: fallbacks go in a circle: `m` -> `n` -> `m`. Take one of them out
f:15:19: models.m.fallback[1]: this model is already in the list: keep one
f:15:22: models.m.fallback[2]: no model is called `missing`: add it under `models`.
f:17:12: models.empty.targets: a model needs a target: add `{provider: NAME}`
f:18:3: models["a b"]: a model's name is 1 to 256 bytes without spaces
f:18:53: models["a b"].timeouts.idle: nothing can happen in no time: write more than 0
f:20:97: keys[0].models: with no name in the list nothing may be used: write names, or "*" for all, or `disabled: true`
f:21:7: keys[1].id: another key is called `a`: take another id
f:21:14: keys[1].secret_sha256: the key `a` has the same secret: make another with `portolan keys new`
f:21:106: keys[1].models[0]: only * stands for other text here: write the names out
f:22:7: keys[2].id: a key's id is 1 to 64 letters, digits, dots, hyphens and underscores
f:23:31: limits.event_bytes: too small for any call: write 1KiB or more
f:23:1: limits.buffered_bytes: less than body_bytes: a body of the largest size could never come in
f:24:1: retry: `max_pause` is shorter than `pause`: raise it or lower the other
f:25:15: currencies.usd: US dollars are always there: take it out
f:25:23: currencies.yen: write how many units make one US dollar: more than 0
f:25:31: currencies.eurx: write a currency as three small letters, such as cny
f:25:43: currencies.cny: write at most six digits after the point"#;
    let found = problems(text);
    let mut expected: Vec<&str> = expected.lines().collect();
    let mut sorted: Vec<&str> = found.iter().map(String::as_str).collect();
    // The admin address is a default and stands nowhere, so its collision has the place of the file.
    assert!(found.iter().any(|one| one.contains("admin.listen: 127.0.0.1:8081 collides")), "{found:#?}");
    sorted.retain(|one| !one.contains("admin.listen"));
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
}

#[test]
fn damage_in_one_place_hides_nothing_elsewhere_and_invents_nothing() {
    let found = problems(
        "providers:\n  a: {preset: ollama, colour: red}\n  b: {preset: ollama}\n\
         models:\n  m: {targets: [{provider: a}, {provider: c}]}\n  n: {targets: [{provider: c, colour: red}]}\n\
         keys:\n  - {id: x}\n  - {id: 'y z', secret_sha256: \"24a5e1f2f82f05d00e3c26817e91ca39011a7a6fa20d069ea67254388e300aad\"}\n\
         providers: {d: {}}\n",
    );
    let places: Vec<_> = found.iter().map(|one| one.split_once(' ').unwrap().0).collect();
    assert_eq!(places, ["f:2:23:", "f:5:33:", "f:6:18:", "f:6:31:", "f:8:5:", "f:9:6:", "f:10:1:"], "{found:#?}");
    assert!(found[5].contains("keys[1].id"), "{found:#?}");
}

#[test]
fn files_are_joined_and_name_their_own_lines() {
    let main =
        "include: [models.yaml, \"${EXTRA:-keys.yaml}\"]\nproviders: {p: {preset: ollama}}\nlog: {level: debug}\n";
    let models = "models:\n  m: {targets: [{provider: p}]}\n";
    let keys =
        "keys:\n  - {id: a, secret_sha256: \"24a5e1f2f82f05d00e3c26817e91ca39011a7a6fa20d069ea67254388e300aad\"}\n";
    let snapshot = with(&[("etc/f.yaml", main), ("etc/models.yaml", models), ("etc/keys.yaml", keys)], &[]).unwrap();
    assert!(snapshot.model("m").is_some() && snapshot.keys.len() == 1);
    assert_eq!(snapshot.index.files, ["etc/f.yaml", "etc/models.yaml", "etc/keys.yaml"].map(PathBuf::from));

    let models = "models:\n  m: {targets: [{provider: q}]}\nproviders: {p: {preset: vllm}}\ninclude: [x]\nlog: {}\n";
    let found = with(&[("etc/f.yaml", main), ("etc/models.yaml", models)], &[]).unwrap_err();
    let shown: Vec<_> = found.iter().map(ToString::to_string).collect();
    let expected = [
        "etc/models.yaml:2:18: models.m.targets[0].provider: no provider is called `q`: add it under `providers`.",
        "etc/models.yaml:3:13: providers.p: this name is already in another file: keep one",
        "etc/models.yaml:4:1: include: an included file includes no others: name them in the first file",
        "etc/models.yaml:5:1: log: this field already stands in another file: keep one",
        "etc/keys.yaml: cannot be read: entity not found",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn sleeping_models_are_no_fallback_and_no_error() {
    let text = "providers: {p: {preset: ollama}, o: {preset: openai}}\n\
                models:\n  m: {targets: [{provider: o}, {provider: p}], fallback: [z, p/other, o/x]}\n  z: {targets: [{provider: o}]}\n  y: {targets: [{provider: p, model: other}]}\n";
    let snapshot = with(&[("f", text)], &[]).unwrap();
    let model = snapshot.model("m").unwrap();
    assert_eq!(model.targets.len(), 1);
    assert_eq!(model.fallback, ["p/other"]);
    assert!(snapshot.model("z").is_none());
}

#[test]
fn unusable_files_are_one_clear_problem() {
    assert_eq!(with(&[("g", "")], &[]).map(drop), Ok(()));
    let gone = load(
        Path::new("gone"),
        &Outside { env: &|_| None, read: &|_| Err(ErrorKind::NotFound.into()) },
        &Catalogue::EMPTY,
        &Live::default(),
    );
    assert_eq!(gone.unwrap_err()[0].to_string(), "gone: cannot be read: entity not found");
    let bytes = |bytes: &'static [u8]| {
        let read = move |_: &Path| Ok(bytes.to_vec());
        load(Path::new("f"), &Outside { env: &|_| None, read: &read }, &Catalogue::EMPTY, &Live::default()).unwrap_err()
            [0]
        .to_string()
    };
    assert_eq!(bytes(b"a: 1\nb: \xff"), "f:2:1: not UTF-8 from here on: save the file as UTF-8");
    assert_eq!(bytes(b"- a"), "f:1:1: a configuration is a map of fields, such as `listen: ...`");
    assert!(bytes(b"listen: [").starts_with("f:"));
    assert!(
        bytes(b"providers:\n  a: {preset: openai, api_key: ${KEY}}")
            .ends_with("Is a `${NAME}` in this line not in quotes?")
    );
    let huge = |_: &Path| Ok(vec![b'#'; BYTES + 1]);
    let found = load(Path::new("f"), &Outside { env: &|_| None, read: &huge }, &Catalogue::EMPTY, &Live::default())
        .unwrap_err();
    assert!(found[0].message.contains("50 MiB"));
}

#[test]
fn messages_hold_no_secret() {
    let text = "providers:\n  a: {preset: openai, api_key: \"hunter2\\nx\"}\n  b: {preset: openai, api_keys: [hunter2, hunter2]}\n  c: {dialect: openai_chat, base_url: \"https://u:hunter2@x\"}\n  d: {preset: openai, auth: none, api_key: hunter2}\n  e: {preset: openai, api_key: \"${S}\", headers: {x: \"${S}\\n\"}}\n  f: {preset: openai, http: \"${S}\"}\n";
    let found = with(&[("f", text)], &[("S", "hunter2\u{1}")]).unwrap_err();
    assert!(found.len() >= 6, "{found:#?}");
    assert!(!format!("{found:?}").contains("hunter2"), "{found:#?}");
}

#[test]
fn keys_have_a_standing() {
    let text = "keys:\n  - {id: a, secret_sha256: \"297c181d716820997ce5e86d47eb9c518bd6a4850760efed58277f80941f3b1c\", expires: 2026-11-21, models: [\"gpt-*\", x], tags: {team: \"7\"}}\n";
    let snapshot = with(&[("f", text)], &[]).unwrap();
    let key = snapshot.key("pk-quickstart").unwrap();
    assert!(key.standing(1_795_219_199).is_ok());
    assert_eq!(key.standing(1_795_219_200).unwrap_err().1, Standing::Expired);
    assert!(key.may_use("gpt-5") && key.may_use("x") && !key.may_use("xy"));
    assert_eq!(key.tags, [("team".to_owned(), "7".to_owned())]);
    assert!(snapshot.key("pk-quickstar").is_none() && snapshot.key("").is_none());
}

#[test]
fn every_preset_makes_a_provider() {
    for name in crate::provider::presets::names() {
        let preset = crate::provider::presets::named(name).unwrap();
        let own = matches!(preset.address, crate::provider::presets::Address::Own(_));
        let base_url = if own { "base_url: \"https://bedrock.us-east-1.amazonaws.com/v1\", " } else { "" };
        let text = format!("sandbox: {{listen: 127.0.0.1:1}}\nproviders: {{p: {{{base_url}preset: {name}}}}}\n");
        let asleep = with(&[("f", &text)], &[]).unwrap();
        assert_eq!(
            asleep.providers.len(),
            usize::from(preset.keyless),
            "{name} sleeps without its key, unless it needs none"
        );
        let key = preset.key.as_deref().unwrap_or("UNUSED");
        let env = [(key, if preset.auth == AuthScheme::Aws { "AKIAIOSFODNN7EXAMPLE" } else { "k" })];
        let more = ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let awake = with(&[("f", &text), ("k", auth::GOOGLE)], &[env[0], more]).unwrap();
        assert_eq!((awake.providers[0].preset.as_deref(), awake.providers[0].dialect), (Some(name), preset.dialect));
        assert_eq!(awake.providers[0].source.is_some(), preset.auth.has_source(), "{name}");
        let keys = usize::from(preset.key.is_some() && !preset.auth.has_source());
        assert_eq!(awake.providers[0].credentials.len(), keys, "{name}");
    }
}

/// One change to a file, as a slip of the editor would make it.
fn mutated(text: &str, kind: u8, at: usize, other: usize, piece: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let (at, other) = (at % lines.len(), other % lines.len());
    let mut lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
    match kind {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[other].clone()),
        2 => lines.swap(at, other),
        3 => {
            let place = lines[at].floor_char_boundary(other % (lines[at].len() + 1));
            lines[at].insert_str(place, piece);
        }
        4 => lines[at] = lines[at].replacen(':', piece, 1),
        5 => lines[at].insert(0, ' '),
        _ => {
            let half = lines[at].floor_char_boundary(lines[at].len() / 2);
            lines[at].truncate(half);
        }
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_file_is_taken_or_refused_with_a_place(
        which in 0..SHIPPED.len(),
        changes in prop::collection::vec((0u8..7, any::<usize>(), any::<usize>(), "[-:#{}\\[\\]&*!|>'\"%@`$,? a0.~é\n\t]{1,4}"), 1..4),
    ) {
        let mut text = SHIPPED[which].1.to_owned();
        for (kind, at, other, piece) in &changes {
            text = mutated(&text, *kind, *at, *other, piece);
        }
        if let Err(problems) = with(&[("f", &text)], &[]) {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                let placed = problem.line >= 1 && problem.column >= 1;
                prop_assert!(placed && !problem.message.is_empty(), "{:?}", problem);
            }
        }
    }

    #[test]
    fn any_text_at_all_is_survived(text in "[-:#{}\\[\\]&*!|>'\"%@`$,? \n\ta0.~é\u{feff}]{0,60}") {
        if let Err(problems) = with(&[("f", &text)], &[]) {
            prop_assert!(!problems.is_empty());
        }
    }
}
