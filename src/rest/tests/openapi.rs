//! The OpenAPI document against the router, the forms, the answers and the contract's words.
//!
//! Its examples are sent as they stand, so a reader can trust them. Not here: a full validator;
//! only the keywords that the document uses.

use std::collections::BTreeSet;

use axum::body::Body;
use http::Request;
use serde_json::{Map, Value, json};

use super::{Bench, Reply};
use crate::proto::v1;
use crate::rest::routes::{Verb, table};

fn document() -> Value {
    serde_json::from_str(crate::rest::OPENAPI).unwrap()
}

/// Every operation: method, path, and what is said of it.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            operations.push((method.clone(), path.clone(), operation.clone()));
        }
    }
    operations
}

#[test]
fn the_document_and_the_router_have_the_same_paths() {
    let verb = |verb| match verb {
        Verb::Get => "get",
        Verb::Post => "post",
        Verb::Patch => "patch",
        Verb::Delete => "delete",
    };
    let served = table();
    let served = served.iter().map(|route| {
        let path = format!("{}{}", crate::rest::BASE, route.path);
        (verb(route.verb).to_owned(), path)
    });
    let described = operations(&document());
    let described = described.into_iter().map(|(method, path, _)| (method, path));
    assert_eq!(served.collect::<BTreeSet<_>>(), described.collect::<BTreeSet<_>>());
}

#[test]
fn the_words_of_the_document_are_those_of_the_contract() {
    let document = document();
    let words = |pointer: &str| -> BTreeSet<String> {
        let words = document.pointer(pointer).unwrap().as_array().unwrap();
        words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let errors = (1..200).filter_map(|number| v1::ErrorReason::try_from(number).ok());
    let errors = errors.map(|reason| reason.as_str_name().replace("ERROR_REASON_", ""));
    let described = words("/components/schemas/Error/properties/reason/enum");
    assert_eq!(errors.collect::<BTreeSet<_>>(), described);

    let rejections = (1..200).filter_map(|number| v1::RejectionReason::try_from(number).ok());
    let rejections = rejections
        .map(|reason| reason.as_str_name().replace("REJECTION_REASON_", "").to_lowercase());
    let described = words("/components/schemas/RejectionReason/enum");
    assert_eq!(rejections.collect::<BTreeSet<_>>(), described);
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_used() {
    fn collect(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| collect(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = document();
    let mut found = BTreeSet::new();
    collect(&document, &mut found);
    for reference in &found {
        assert!(target(&document, reference).is_some(), "{reference}");
    }
    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        assert!(found.contains(&format!("#/components/schemas/{name}")), "{name}");
    }
}

#[tokio::test]
async fn every_example_is_valid_is_served_and_is_answered_as_described() {
    let document = document();
    for (method, path, operation) in operations(&document) {
        let content = &operation["requestBody"]["content"]["application/json"];
        let examples = content["examples"].as_object().cloned().unwrap_or_default();
        let mut bodies: Vec<_> =
            examples.values().map(|example| example["value"].clone()).collect();
        if operation["requestBody"]["required"] != true {
            bodies.push(Value::Null);
        }
        assert!(!bodies.is_empty(), "{method} {path} has no example");
        for body in bodies {
            let mut text = String::new();
            if !body.is_null() {
                check(&document, &content["schema"], &body).unwrap();
                text = body.to_string();
            }
            let path = path.replace("/api/v1", "").replace("{id}", "mdt_1");
            let reply = Bench::new().call(&method.to_uppercase(), &path, &text).await;
            answered_as_described(&document, &operation, &reply);
        }
    }
}

fn answered_as_described(document: &Value, operation: &Value, reply: &Reply) {
    assert!(reply.status.is_success(), "{operation}: {reply:?}");
    let response = &operation["responses"][reply.status.as_str()];
    assert!(response.is_object(), "{operation}: {reply:?}");
    let schema = &response["content"]["application/json"]["schema"];
    if schema.is_null() {
        assert!(reply.body.is_null());
    } else {
        check(document, schema, &reply.body).unwrap();
    }
}

#[test]
fn the_examples_of_answers_are_valid() {
    let document = document();
    let rejected = "/paths/~1api~1v1~1gateway~1evaluate/post/responses/403/content\
                    /application~1json";
    let shared = document["components"]["responses"].as_object().unwrap().values();
    let shared = shared.map(|response| &response["content"]["application/json"]);
    for content in shared.chain(document.pointer(rejected)) {
        check(&document, &content["schema"], &content["example"]).unwrap();
    }
}

#[tokio::test]
async fn errors_are_as_described_and_the_document_is_public() {
    let bench = Bench::new();
    let reply = bench.call("POST", "/gateway/evaluate", "{}x").await;
    check(&document(), &json!({"$ref": "#/components/schemas/Error"}), &reply.body).unwrap();

    let request = Request::get("/openapi.json").body(Body::empty()).unwrap();
    let reply = bench.send(request).await;
    assert_eq!((reply.status.as_u16(), reply.body), (200, document()));
    let request = Request::post("/openapi.json").body(Body::empty()).unwrap();
    assert_eq!(bench.send(request).await.status, 405);
}

fn target<'a>(document: &'a Value, reference: &str) -> Option<&'a Value> {
    document.pointer(reference.strip_prefix('#')?)
}

/// Whether the value fits the schema.
fn check(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return check(document, target(document, reference).unwrap(), value);
    }
    let fail = |what: &str| Err(format!("{what}: {value} against {schema}"));
    for part in schema["allOf"].as_array().into_iter().flatten() {
        check(document, part, value)?;
    }
    if let Some(options) = schema["oneOf"].as_array() {
        let fitting = options.iter().filter(|option| check(document, option, value).is_ok());
        if fitting.count() != 1 {
            return fail("not exactly one option");
        }
    }
    if schema.get("const").is_some_and(|wanted| wanted != value) {
        return fail("not the constant");
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return fail("not one of the words");
    }
    if !is_of_type(&schema["type"], value) {
        return fail("of the wrong type");
    }
    if let (Some(number), Some(least)) = (value.as_i64(), schema["minimum"].as_i64())
        && number < least
    {
        return fail("too small");
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && let Some(text) = value.as_str()
        && !regex::Regex::new(pattern).unwrap().is_match(text)
    {
        return fail("not of the pattern");
    }
    for item in value.as_array().into_iter().flatten() {
        check(document, &schema["items"], item)?;
    }
    value.as_object().map_or(Ok(()), |fields| check_fields(document, schema, fields))
}

fn is_of_type(wanted: &Value, value: &Value) -> bool {
    let fits = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        unknown => panic!("type {unknown}"),
    };
    let name = wanted.as_str().into_iter();
    let names = wanted.as_array().into_iter().flatten().filter_map(Value::as_str);
    wanted.is_null() || name.chain(names).any(fits)
}

fn check_fields(
    document: &Value,
    schema: &Value,
    fields: &Map<String, Value>,
) -> Result<(), String> {
    for name in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(name.as_str().unwrap()) {
            return Err(format!("{name} is missing: {fields:?} against {schema}"));
        }
    }
    for (name, value) in fields {
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(property), _) => check(document, property, value)?,
            (None, Value::Bool(false)) => {
                return Err(format!("{name} is not described: {schema}"));
            }
            (None, other) => check(document, other, value)?,
        }
    }
    Ok(())
}
