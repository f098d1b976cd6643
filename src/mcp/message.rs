//! Whether bytes are one message of JSON-RPC that the SDK can read.
//!
//! The SDK answers what it cannot read as if the media type, or the method, were unknown. Not here:
//! what a message asks for.

use serde_json::{Map, Value, json};

/// Why bytes are not handed on, as JSON-RPC 2.0 numbers it (section 5.1).
#[derive(Debug, PartialEq)]
pub(super) struct Wrong {
    /// Of the message, where it has one.
    id: Value,
    code: i64,
    why: &'static str,
}

const PARSE: i64 = -32_700;
const REQUEST: i64 = -32_600;
const PARAMS: i64 = -32_602;

impl Wrong {
    const fn of_bytes(code: i64, why: &'static str) -> Self {
        Self { id: Value::Null, code, why }
    }

    /// A message that nobody reads to its end.
    pub(super) const fn too_long() -> Self {
        Self::of_bytes(REQUEST, "the message is too long")
    }

    /// Whether it is a message at all.
    pub(super) const fn is_message(&self) -> bool {
        self.code == PARAMS
    }

    /// The answer.
    pub(super) fn answer(&self) -> Value {
        let error = json!({ "code": self.code, "message": self.why });
        json!({ "jsonrpc": "2.0", "id": self.id, "error": error })
    }
}

/// Checks the bytes of one message.
///
/// # Errors
/// What is wrong with them first.
pub(super) fn check(bytes: &[u8]) -> Result<(), Wrong> {
    let parsed = serde_json::from_slice::<Value>(bytes);
    let no_json = "send one JSON-RPC message; this is no JSON, or is nested too deeply";
    let message = match parsed.map_err(|_| Wrong::of_bytes(PARSE, no_json))? {
        Value::Object(message) => message,
        Value::Array(_) => {
            let why = "send one message at a time; this protocol has no batches";
            return Err(Wrong::of_bytes(REQUEST, why));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(Wrong::of_bytes(REQUEST, "a message is a JSON object"));
        }
    };
    if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(Wrong::of_bytes(REQUEST, "a message has `jsonrpc` with the text 2.0"));
    }
    match message.get("method") {
        Some(Value::String(method)) => request(&message, method),
        Some(_) => Err(Wrong::of_bytes(REQUEST, "`method` is a text")),
        // An answer to something that the server has asked.
        None if message.contains_key("result") || message.contains_key("error") => Ok(()),
        None => Err(Wrong::of_bytes(REQUEST, "a message has a `method`, a `result` or an `error`")),
    }
}

fn request(message: &Map<String, Value>, method: &str) -> Result<(), Wrong> {
    let id = match message.get("id") {
        None => Value::Null,
        Some(id) if id.is_string() || id.is_i64() || id.is_u64() => id.clone(),
        Some(_) => return Err(Wrong::of_bytes(REQUEST, "`id` is a text or a whole number")),
    };
    let wrong = |why| Err(Wrong { id: id.clone(), code: PARAMS, why });
    let params = message.get("params");
    if params.is_some_and(|params| !params.is_object()) {
        return wrong("`params` is an object");
    }
    if method != "tools/call" {
        return Ok(());
    }
    let param = |name| params.and_then(|params| params.get(name));
    if !param("name").is_some_and(Value::is_string) {
        return wrong("`params.name` is the name of a tool; tools/list says which there are");
    }
    if param("arguments").is_some_and(|arguments| !arguments.is_object()) {
        return wrong("`params.arguments` is an object with the tool's arguments");
    }
    Ok(())
}

/// What is wrong with a message that passed the [`check()`] and that the SDK cannot read: nothing
/// if nobody waits for an answer.
pub(super) fn unreadable(bytes: &[u8]) -> Option<Wrong> {
    let message = serde_json::from_slice::<Map<String, Value>>(bytes).ok()?;
    message.get("method")?;
    let id = message.get("id")?.clone();
    Some(Wrong { id, code: PARAMS, why: "`params` are not those of the method" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Option<(i64, Value)> {
        check(text.as_bytes()).err().map(|wrong| (wrong.code, wrong.id))
    }

    #[test]
    fn a_message_that_can_be_read_is_handed_on() {
        for good in [
            r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
            r#"{"jsonrpc":"2.0","id":"a","result":{}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t"}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","arguments":{}}
            }"#,
        ] {
            assert_eq!(code(good), None, "{good}");
        }
    }

    #[test]
    fn what_is_wrong_has_its_number_and_the_id_of_its_message() {
        let deep = "[".repeat(20_000);
        for (text, number, id) in [
            ("", PARSE, Value::Null),
            (r#"{"jsonrpc":"#, PARSE, Value::Null),
            (deep.as_str(), PARSE, Value::Null),
            ("[]", REQUEST, Value::Null),
            ("null", REQUEST, Value::Null),
            (r#"{"id":5,"method":"ping"}"#, REQUEST, Value::Null),
            (r#"{"jsonrpc":"2.0"}"#, REQUEST, Value::Null),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, REQUEST, Value::Null),
            (r#"{"jsonrpc":"2.0","id":1,"method":5}"#, REQUEST, Value::Null),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}"#, PARAMS, json!(1)),
            (r#"{"jsonrpc":"2.0","id":"a","method":"tools/call"}"#, PARAMS, json!("a")),
            (
                r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":5}}"#,
                PARAMS,
                json!(2),
            ),
            (
                r#"{"jsonrpc":"2.0","id":3,"method":"tools/call",
                    "params":{"name":"t","arguments":[]}}"#,
                PARAMS,
                json!(3),
            ),
        ] {
            assert_eq!(code(text), Some((number, id)), "{text}");
        }
    }
}
