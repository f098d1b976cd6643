//! MCP as clients meet it: over HTTP in both kinds of revision, and over standard input.
//!
//! Requests are written by hand here, so that wrong ones can be written too; the official clients
//! and the official conformance suite run from `tests/mcp/run`. Not here: what the decisions are.

mod answers;
mod asking;
mod doors;
mod limits;
mod local;
mod secrets;
mod tools;

use quetra::proto::v1;
use reqwest::{RequestBuilder, Response};
use serde_json::{Map, Value, json};

use crate::harness::{Clients, Server, unique};

/// The current revision, which needs no handshake, and the one before it.
const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";

/// A client of one server with one key.
#[derive(Clone)]
struct Mcp {
    http: reqwest::Client,
    url: String,
    key: String,
    revision: &'static str,
    /// What it says that it can do.
    capabilities: Value,
}

impl Mcp {
    fn new(server: &Server, key: &str) -> Self {
        let http = reqwest::Client::new();
        Self {
            http,
            url: server.url(),
            key: key.to_owned(),
            revision: MODERN,
            capabilities: json!({}),
        }
    }

    fn of_agent(server: &Server) -> Self {
        Self::new(server, &server.first.agent_key)
    }

    fn legacy(self) -> Self {
        Self { revision: LEGACY, ..self }
    }

    fn able(self, capabilities: Value) -> Self {
        Self { capabilities, ..self }
    }

    /// A message as this client's revision wants it.
    fn message(&self, method: &str, mut params: Value) -> Value {
        if self.revision == MODERN {
            params["_meta"] = json!({
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": self.capabilities,
            });
        }
        json!({"jsonrpc": "2.0", "id": unique(), "method": method, "params": params})
    }

    /// A request with everything that belongs to it, except the credential.
    fn request_to(&self, path: &str, message: &Value) -> RequestBuilder {
        let mut request = self
            .http
            .post(format!("{}{path}", self.url))
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", self.revision);
        if self.revision == MODERN {
            request = request.header("mcp-method", message["method"].as_str().unwrap());
            if let Some(name) = message["params"]["name"].as_str() {
                request = request.header("mcp-name", name);
            }
        }
        request.json(message)
    }

    fn request(&self, message: &Value) -> RequestBuilder {
        self.request_to("/mcp", message).bearer_auth(&self.key)
    }

    async fn send(&self, method: &str, params: Value) -> Response {
        self.request(&self.message(method, params)).send().await.unwrap()
    }

    /// The result of a call that goes well.
    async fn result(&self, method: &str, params: Value) -> Value {
        let response = self.send(method, params).await;
        assert_eq!(response.status(), 200, "{method}");
        let mut answer: Value = response.json().await.unwrap();
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].take()
    }

    /// The result of a tool, whatever it says.
    async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.result("tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    /// The data of a tool's answer.
    async fn data(&self, tool: &str, arguments: Value) -> Value {
        let mut result = self.call(tool, arguments).await;
        assert_ne!(result["isError"], true, "{result}");
        result["structuredContent"].take()
    }

    /// What a tool says that could not answer.
    async fn failure(&self, tool: &str, arguments: Value) -> String {
        let result = self.call(tool, arguments).await;
        assert_eq!(result["isError"], true, "{result}");
        assert!(result.get("structuredContent").is_none(), "{result}");
        text(&result)
    }

    async fn tools(&self) -> Vec<Value> {
        self.result("tools/list", json!({})).await["tools"].as_array().unwrap().clone()
    }
}

/// The text of a tool's result.
fn text(result: &Value) -> String {
    result["content"][0]["text"].as_str().unwrap().to_owned()
}

/// A key of an organization's agents, bound to one of them or to none.
async fn agent_key(admin: &mut Clients, agent_id: &str) -> String {
    key(admin, v1::Role::Agent, agent_id).await.1
}

/// A key: its id and its text.
async fn key(admin: &mut Clients, role: v1::Role, agent_id: &str) -> (String, String) {
    let request = v1::CreateApiKeyRequest {
        name: format!("key {}", unique()),
        role: role.into(),
        agent_id: agent_id.to_owned(),
        ..Default::default()
    };
    let made = admin.organization.create_api_key(request).await.unwrap().into_inner();
    (made.api_key.unwrap().id, made.key)
}

/// Whether a value has the shape that a tool's schema promises: types, required fields, no others.
/// As much of JSON Schema as these schemas use; anything else in one fails.
fn assert_conforms(value: &Value, schema: &Value, at: &str) {
    let known = [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "format",
        "description",
        "pattern",
        "minimum",
        "maximum",
        "default",
    ];
    let schema: &Map<String, Value> = schema.as_object().unwrap();
    assert!(schema.keys().all(|key| known.contains(&&**key)), "{at}: {schema:?}");
    match schema["type"].as_str().unwrap() {
        "object" => {
            let fields = value.as_object().unwrap_or_else(|| panic!("{at}: {value}"));
            for required in schema["required"].as_array().unwrap() {
                assert!(fields.contains_key(required.as_str().unwrap()), "{at}: no {required}");
            }
            for (name, value) in fields {
                let field = schema["properties"].get(name);
                let field = field.unwrap_or_else(|| panic!("{at}.{name} is not in the schema"));
                assert_conforms(value, field, &format!("{at}.{name}"));
            }
        }
        "array" => {
            for item in value.as_array().unwrap_or_else(|| panic!("{at}: {value}")) {
                assert_conforms(item, &schema["items"], &format!("{at}[]"));
            }
        }
        "string" => {
            assert!(value.is_string(), "{at}: {value}");
            let words = schema.get("enum").and_then(Value::as_array);
            assert!(words.is_none_or(|words| words.contains(value)), "{at}: {value}");
        }
        "integer" => assert!(value.is_i64(), "{at}: {value}"),
        "boolean" => assert!(value.is_boolean(), "{at}: {value}"),
        other => panic!("{at}: {other}"),
    }
}
