//! The OpenAPI 3.1 document, made of the table that requests are routed by (spec.openapis.org/oas/v3.1.1, seen 2026-11-21).

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Failure, JSON, Refused};
use super::desk::{Asked, Desk};
use super::table::{Access, Content, Form, Parameter, Route, Run, routes};

static DOCUMENT: LazyLock<Vec<u8>> = LazyLock::new(|| serde_json::to_vec(&document()).unwrap_or_default());

pub fn show(_: &Desk, _: &Asked<'_>) -> Result<Answer, Refused> {
    Ok(Answer::raw(200, DOCUMENT.clone()))
}

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for route in routes() {
        let body = route.body.map(|shape| shape(&mut generator).to_value());
        let good = match route.answers.1 {
            Content::Json(shape) => vec![(JSON, shape(&mut generator).to_value())],
            Content::Any => vec![(JSON, json!({"type": "object"}))],
            Content::Text => vec![("text/plain", json!({"type": "string"}))],
            Content::Statement => {
                let text = json!({"type": "string"});
                vec![(JSON, json!({"type": "object"})), ("text/csv", text.clone()), ("text/html", text)]
            }
            Content::None => Vec::new(),
        };
        let operation = operation(route, body, good);
        let path = paths.entry(route.path.clone()).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(route.method.to_ascii_lowercase(), operation);
        }
    }
    let failure = generator.subschema_for::<Failure>().to_value();
    let mut schemas = generator.take_definitions(true);
    // The file's key has its secret's digest in it; a key here never shows one.
    if let Some(key) = schemas.get_mut("Key").and_then(Value::as_object_mut) {
        key.remove("required");
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Portolan",
            "summary": "Who may call, how much and what, and how the gateway is.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {"Failure": {
                "description": "Refused: why, and the request's id.",
                "content": {JSON: {"schema": failure}}
            }},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}
        }
    })
}

fn operation(route: &Route, body: Option<Value>, good: Vec<(&str, Value)>) -> Value {
    let mut parameters: Vec<Value> = route.parameters.iter().map(parameter).collect();
    if route.path.contains("{id}") {
        let schema =
            json!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$"});
        parameters.push(json!({"name": "id", "in": "path", "required": true, "schema": schema}));
    }
    let changes_one = matches!(route.method, "PUT" | "PATCH" | "DELETE") && route.kind.is_some();
    if changes_one {
        let about = "The `ETag` of what is to be changed: refused with 412 where it was changed meanwhile.";
        let schema = json!({"type": "string", "pattern": "^\"[0-9]{1,18}\"$"});
        parameters.push(json!({"name": "If-Match", "in": "header", "description": about, "schema": schema}));
    }
    let mut answers = Map::new();
    let mut shown = json!({"description": "Done."});
    if let (Some(members), false) = (shown.as_object_mut(), good.is_empty()) {
        let content: Map<String, Value> =
            good.into_iter().map(|(kind, schema)| (kind.to_owned(), json!({"schema": schema}))).collect();
        members.insert("content".to_owned(), content.into());
    }
    if route.operation.starts_with("pay_") {
        // It was paid in before, by this id.
        answers.insert("200".to_owned(), shown.clone());
    }
    if route.method == "PUT" {
        answers.insert("201".to_owned(), shown.clone());
    }
    answers.insert(route.answers.0.to_string(), shown);
    for status in refusals(route, changes_one) {
        answers.insert(status.to_string(), json!({"$ref": "#/components/responses/Failure"}));
    }
    if route.operation == "ready" {
        let why = json!({"description": "Not now, and why.", "content": {JSON: {"schema": {"type": "object"}}}});
        answers.insert("503".to_owned(), why);
    }
    let mut told = json!({
        "operationId": route.operation,
        "summary": route.summary,
        "parameters": parameters,
        "responses": answers,
        "security": security(route.access),
        "x-portolan-access": access(route.access),
    });
    if let (Some(members), Some(schema)) = (told.as_object_mut(), body) {
        let needed = route.operation != "rotate_key";
        members.insert("requestBody".to_owned(), json!({"required": needed, "content": {JSON: {"schema": schema}}}));
    }
    told
}

/// What a route may be refused with, beside what all may.
fn refusals(route: &Route, changes_one: bool) -> Vec<u16> {
    let mut all = Vec::new();
    if matches!(route.access, Access::Open(_)) {
        all.push(421);
    }
    if !matches!(route.access, Access::Public) {
        all.extend([401, 403, 429]);
    }
    if route.path.contains("{id}") {
        all.push(404);
    }
    if !route.parameters.is_empty() {
        all.push(400);
    }
    if matches!(route.run, Run::Store(_)) {
        all.extend([500, 503]);
    }
    if route.body.is_some() {
        all.extend([400, 404, 408, 409, 413, 415, 422]);
    }
    if changes_one || route.method == "DELETE" {
        all.push(409);
    }
    if changes_one || route.operation == "rotate_key" {
        all.push(412);
    }
    if route.method == "PUT" {
        all.push(428);
    }
    all
}

fn parameter(one: &Parameter) -> Value {
    let schema = match one.form {
        Form::Text => json!({"type": "string", "maxLength": 256}),
        Form::Number(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Form::Flag => json!({"type": "boolean"}),
    };
    json!({"name": one.name, "in": "query", "description": one.about, "schema": schema})
}

fn security(access: Access) -> Value {
    match access {
        Access::Public => json!([]),
        // Whether it is open is for the configuration to say.
        Access::Open(_) => json!([{}, {"token": []}]),
        Access::Least(..) => json!([{"token": []}]),
    }
}

fn access(access: Access) -> Value {
    match access {
        Access::Public => json!({"role": null}),
        Access::Open(_) => json!({"role": "viewer", "teams": false, "may_be_open": true}),
        Access::Least(role, reach) => {
            json!({"role": role.name(), "teams": reach == crate::policy::role::Reach::Team})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_every_route_and_every_reference_leads_somewhere() {
        fn references(value: &Value, found: &mut Vec<String>) {
            match value {
                Value::Object(members) => {
                    for (name, inner) in members {
                        match inner {
                            Value::String(to) if name == "$ref" => found.push(to.clone()),
                            _ => references(inner, found),
                        }
                    }
                }
                Value::Array(items) => items.iter().for_each(|item| references(item, found)),
                _ => {}
            }
        }
        let document = document();
        for route in routes() {
            let told = &document["paths"][&route.path][route.method.to_ascii_lowercase()];
            assert_eq!(told["operationId"], json!(route.operation));
            assert_eq!(told["security"] == json!([]), route.access == Access::Public, "{}", route.path);
        }
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 20);
        for to in found {
            let pointer = to.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{to} leads nowhere");
        }
    }
}
