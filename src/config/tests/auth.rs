//! Credentials that are more than a key, and quirks of paths and bodies.

use super::*;
use crate::provider::Source;
use crate::provider::aws::Keys;

/// The key file of a service account, made for the tests.
pub const GOOGLE: &str = include_str!("../../provider/cases/service-account.json");

const KEY_ID: (&str, &str) = ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE");
const SECRET: (&str, &str) = ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
const APP: [(&str, &str); 3] = [
    ("AZURE_TENANT_ID", "contoso.com"),
    ("AZURE_CLIENT_ID", "11112222-bbbb-3333-cccc-4444dddd5555"),
    ("AZURE_CLIENT_SECRET", "hunter2~hunter2"),
];

/// A file with one provider, at an address that tells a region of AWS.
fn one(fields: &str) -> String {
    let url = "https://bedrock-runtime.eu-west-3.amazonaws.com/v1";
    format!("providers:\n  p: {{ dialect: openai_chat, base_url: \"{url}\", {fields} }}\n")
}

fn source(fields: &str, files: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Snapshot, Vec<String>> {
    let text = one(fields);
    let mut all = vec![("f", text.as_str())];
    all.extend_from_slice(files);
    with(&all, env).map_err(|found| found.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn awake(fields: &str, files: &[(&str, &str)], env: &[(&str, &str)]) -> String {
    let snapshot = source(fields, files, env).unwrap();
    let provider = &snapshot.providers[0];
    assert!(provider.credentials.is_empty() && provider.auth.has_source());
    format!("{:?}", provider.source.as_ref().unwrap())
}

#[track_caller]
fn asleep(fields: &str, env: &[(&str, &str)], variables: &str) {
    let snapshot = source(fields, &[], env).unwrap();
    assert!(snapshot.providers.is_empty());
    assert_eq!(snapshot.asleep, [("p".to_owned(), variables.to_owned())]);
}

#[track_caller]
fn wrong(fields: &str, files: &[(&str, &str)], env: &[(&str, &str)], told: &str) {
    let found = source(fields, files, env).expect_err(told);
    assert!(found.iter().any(|one| one.contains(told)), "{told}: {found:#?}");
    assert!(found.iter().all(|one| one.starts_with("f:2:")), "{found:#?}");
    assert!(!format!("{found:?}").contains("hunter2"), "{found:#?}");
}

#[test]
fn service_accounts_have_a_file_or_a_text() {
    let shown = "Google([service account portolan@made-for-tests.iam.gserviceaccount.com])";
    let file = [("keys/v.json", GOOGLE)];
    assert_eq!(awake("auth: { google_service_account: { file: keys/v.json } }", &file, &[]), shown);
    assert_eq!(awake("auth: { google_service_account: { file: \"${F}\" } }", &file, &[("F", "keys/v.json")]), shown);
    let default = "auth: { google_service_account: {} }";
    assert_eq!(awake(default, &file, &[("GOOGLE_APPLICATION_CREDENTIALS", "keys/v.json")]), shown);
    assert_eq!(awake("auth: { google_service_account: { json: \"${J}\" } }", &[], &[("J", GOOGLE)]), shown);
    assert_eq!(awake("auth: { google_service_account: { json: \"file:keys/v.json\" } }", &file, &[]), shown);

    asleep(default, &[], "GOOGLE_APPLICATION_CREDENTIALS");
    asleep("auth: { google_service_account: { file: \"${F}\" } }", &[], "F");
    asleep("auth: { google_service_account: { json: \"${J}\" } }", &[], "J");

    let (json, of_file) = ("auth.google_service_account.json", "auth.google_service_account.file");
    let inline = "auth: { google_service_account: { json: \"${J}\" } }";
    wrong(inline, &[], &[("J", &GOOGLE[..900])], json);
    wrong(inline, &[], &[("J", "hunter2")], "not the whole JSON key file");
    wrong("auth: { google_service_account: { file: gone.json } }", &[], &[], "gone.json cannot be read");
    wrong("auth: { google_service_account: { file: cut } }", &[("cut", &GOOGLE[..900])], &[], of_file);
    wrong("auth: { google_service_account: { file: a, json: b } }", &[], &[], "write either file or json");
    wrong("auth: { google_service_account: { fle: a } }", &[], &[], "Did you mean `file`?");
    wrong("auth: { google_service_account: { file: keys/v.json, scope: \"\" } }", &file, &[], "scope");
    wrong("auth: { google_service_account: {} }, api_key: hunter2", &[], &[], "providers.p.api_key");
    wrong("auth: { google_service_acount: {} }", &[], &[], "Did you mean `google_service_account`?");
    wrong("auth: { basic: {} }", &[], &[], "Known here: header, google_service_account, entra, aws.");
    wrong("auth: {}", &[], &[], "there is nothing in it");
}

#[test]
fn applications_of_entra_have_three_parts() {
    let shown = "Entra([application 11112222-bbbb-3333-cccc-4444dddd5555 of contoso.com])";
    assert_eq!(awake("auth: { entra: {} }", &[], &APP), shown);
    let written = "auth: { entra: { tenant: contoso.com, client_id: \"${AZURE_CLIENT_ID}\", client_secret: \"file:s\", \
                   authority: https://login.microsoftonline.us, scope: https://ai.azure.com/.default } }";
    assert_eq!(awake(written, &[("s", "hunter2\n")], &APP), shown);
    asleep("auth: { entra: {} }", &[], "AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET");
    asleep("auth: { entra: { client_secret: \"${S}\" } }", &APP, "S");
    wrong("auth: { entra: { client_id: 11112222-bbbb } }", &[], &APP, "providers.p.auth.entra.client_id");
    wrong("auth: { entra: { client_secret: \"hunter2 \" } }", &[], &APP, "providers.p.auth.entra.client_secret");
    wrong("auth: { entra: { authority: http://login.example.com } }", &[], &APP, "providers.p.auth.entra.authority");
    wrong("auth: { entra: { tenant: \"x${NONE}\" } }", &[], &APP, "providers.p.auth.entra.tenant");
}

#[test]
fn keys_of_aws_come_from_three_places() {
    let account = |fields: &str, env: &[(&str, &str)]| {
        let snapshot = source(fields, &[], env).unwrap();
        let Some(Source::Aws(account)) = snapshot.providers[0].source.as_deref() else { panic!("an account") };
        let keys = match &account.keys {
            Keys::Own(_) => "own".to_owned(),
            Keys::Container { endpoint, authorization } => {
                format!("{}{} {authorization:?}", endpoint.authority, endpoint.path)
            }
            Keys::Instance { endpoint } => endpoint.authority.clone(),
        };
        format!("{} {} {keys}", account.region, account.service)
    };
    assert_eq!(account("auth: { aws: {} }", &[KEY_ID, SECRET]), "eu-west-3 bedrock own");
    let written = "auth: { aws: { region: us-east-1, service: sagemaker, access_key_id: AKIAIOSFODNN7EXAMPLE, \
                   secret_access_key: \"${AWS_SECRET_ACCESS_KEY}\" } }";
    assert_eq!(account(written, &[SECRET]), "us-east-1 sagemaker own");
    let container = "auth: { aws: { from: container } }";
    let relative = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1");
    let full = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials");
    let token = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "hunter2");
    let file = ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/var/run/token");
    assert_eq!(account(container, &[relative, full]), "eu-west-3 bedrock 169.254.170.2/v2/credentials/1 None");
    assert_eq!(account(container, &[full, token]), "eu-west-3 bedrock 169.254.170.23/v1/credentials Token([secret])");
    assert!(account(container, &[full, token, file]).ends_with("File(\"/var/run/token\")"));
    let instance = "auth: { aws: { from: instance } }";
    assert_eq!(account(instance, &[]), "eu-west-3 bedrock 169.254.169.254");
    let other = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://[fd00:ec2::254]");
    assert_eq!(account(instance, &[other]), "eu-west-3 bedrock [fd00:ec2::254]");

    asleep("auth: { aws: {} }", &[], "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY");
    asleep("auth: { aws: {} }", &[KEY_ID], "AWS_SECRET_ACCESS_KEY");
    asleep(container, &[], "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or AWS_CONTAINER_CREDENTIALS_FULL_URI");
}

#[test]
fn keys_of_aws_that_are_cut_or_mixed_up_are_named() {
    let aws = |fields: &str| format!("auth: {{ aws: {{ {fields} }} }}");
    wrong(&aws(""), &[], &[("AWS_ACCESS_KEY_ID", "hunter2"), SECRET], "providers.p.auth.aws.access_key_id");
    wrong(&aws("secret_access_key: hunter2"), &[], &[KEY_ID], "providers.p.auth.aws.secret_access_key");
    wrong(&aws("access_key_id: AKIAIOSFODNN7EXAMPLE"), &[], &[SECRET], "providers.p.auth.aws.secret_access_key");
    wrong(&aws("session_token: \"hunter2 x\""), &[], &[KEY_ID, SECRET], "providers.p.auth.aws.session_token");
    let temporary = ("AWS_ACCESS_KEY_ID", "ASIAIOSFODNN7EXAMPLE");
    wrong(&aws(""), &[], &[temporary, SECRET], "begins with ASIA");
    assert!(source(&aws(""), &[], &[temporary, SECRET, ("AWS_SESSION_TOKEN", "IQoJ")]).is_ok());
    wrong(&aws("from: container, session_token: x"), &[], &[], "providers.p.auth.aws.session_token");
    wrong(&aws("from: laptop"), &[], &[], "write `container` or `instance`");
    wrong(&aws("region: EU"), &[], &[KEY_ID, SECRET], "providers.p.auth.aws.region");
    wrong(&aws("service: \"\""), &[], &[KEY_ID, SECRET], "providers.p.auth.aws.service");
    let far = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://keys.example.com/");
    wrong(&aws("from: container"), &[], &[far], "providers.p.auth.aws.from");
    let elsewhere = "providers:\n  p: { dialect: openai_chat, base_url: \"https://x/v1\", auth: { aws: {} } }\n";
    let found = with(&[("f", elsewhere)], &[KEY_ID, SECRET]).unwrap_err();
    assert!(found[0].to_string().contains("providers.p.auth.aws.region: the provider's address"), "{found:?}");
}

#[test]
fn paths_and_bodies_depart_from_the_dialect() {
    let text = "providers:\n  a: { preset: azure-openai-deployments, base_url: \"https://r.openai.azure.com\", api_key: k }\n  \
                b: { preset: azure-openai-deployments, base_url: \"https://r.openai.azure.com\", api_key: k, \
                quirks: { api_version: 2025-04-01-preview, adds: { x: [1, { y: false }] } } }\n";
    let snapshot = with(&[("f", text)], &[]).unwrap();
    let [a, b] = [0, 1].map(|number: usize| &snapshot.providers[number].quirks);
    assert_eq!(a.api_version.as_deref(), Some("2024-10-21"));
    assert_eq!(a.template(true), Some("/openai/deployments/{model}/chat/completions?api-version={api_version}"));
    assert_eq!((b.api_version.as_deref(), b.path == a.path), (Some("2025-04-01-preview"), true));
    assert_eq!(b.adds["x"].json(), r#"[1,{"y":false}]"#);
    assert!(!b.no_model && a.adds.is_empty());

    let own = |fields: &str| format!("auth: none, quirks: {{ {fields} }}");
    wrong(&own("path: chat"), &[], &[], "providers.p.quirks.path: write a path that begins with a slash");
    wrong(&own("path: \"/chat/{mdl}\""), &[], &[], "providers.p.quirks.path: write {model}");
    wrong(&own("path: \"/chat?v={api_version}\""), &[], &[], "providers.p.quirks.path: `{api_version}`");
    wrong(&own("api_version: \"a b\""), &[], &[], "providers.p.quirks.api_version");
    wrong(&own("no_model: true"), &[], &[], "providers.p.quirks.path: neither path nor body");
    wrong(&own("no_model: true, path: /chat"), &[], &[], "providers.p.quirks.path: neither path nor body");
    let stream = "no_model: true, path: \"/chat/{model}\", stream_path: /chat";
    wrong(&own(stream), &[], &[], "providers.p.quirks.stream_path: neither path nor body");
    wrong(&own("adds: { model: x }"), &[], &[], "providers.p.quirks.adds.model");
    wrong(&own("adds: { fallback: [x] }"), &[], &[], "providers.p.quirks.adds.fallback");
    let gemini = "providers:\n  g: { preset: gemini, api_key: k, quirks: { path: /v1/generate } }\n";
    assert!(problems(gemini)[0].contains("providers.g.quirks.path: neither path nor body"));
    assert!(source(&own("path: /chat"), &[], &[]).is_ok(), "the body says which model is meant");
}

#[test]
fn messages_and_snapshots_hold_no_secret() {
    let text = "providers:\n  g: { preset: vertex-gemini, base_url: \"https://x/v1\", auth: { google_service_account: { json: \"${J}\" } } }\n  \
                e: { preset: azure-openai, base_url: \"https://x/v1\", auth: { entra: {} } }\n  \
                a: { dialect: openai_chat, base_url: \"https://x/v1\", auth: { aws: { region: us-east-1 } } }\n";
    let env = [("J", GOOGLE), KEY_ID, SECRET, APP[0], APP[1], APP[2]];
    let snapshot = with(&[("f", text)], &env).unwrap();
    assert_eq!(snapshot.providers.len(), 3);
    let shown = format!("{snapshot:?}");
    for secret in ["hunter2", SECRET.1, KEY_ID.1, "PRIVATE KEY"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}
