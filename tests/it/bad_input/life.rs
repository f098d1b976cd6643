//! Rows 83 to 94: steps that the state of a mandate, an agent, a key or the organization forbids.
//!
//! Not here: what is wrong in any state (`mandates`).

use serde_json::{Value, json};
use tonic::Code;

use super::CANARY;
use super::server::Server;
use super::ways::{Row, Way, patched, refused, rest};

fn mandate(number: u16, what: &str, verb: &str, id: &str) -> Row {
    let path = match verb {
        "Delete" => rest("DELETE", format!("/mandates/{id}"), Value::Null),
        verb => rest("POST", format!("/mandates/{id}/{}", verb.to_lowercase()), Value::Null),
    };
    let rpc = format!("MandatesService/{verb}Mandate");
    Row::new(number, what, &rpc, json!({ "mandateId": id })).rest(path)
}

fn wrong_status(row: Row) -> Row {
    row.refused(Code::FailedPrecondition, "MANDATE_WRONG_STATUS")
}

/// Mandates of the demo agent in every status but active, which it has already.
struct Mandates {
    active: String,
    draft: String,
    paused: String,
    revoked: String,
}

impl Mandates {
    async fn make(server: &mut Server) -> Self {
        let mut made = Vec::new();
        for steps in [&[][..], &["Activate", "Pause"], &["Activate", "Revoke"]] {
            let agent = server.agent().await;
            let id = server.draft(&agent).await;
            for step in steps {
                server.step(step, &id).await;
            }
            made.push(id);
        }
        let asked = json!({"agentId": server.agent_id});
        let active = server.ok("BudgetService/GetBudget", asked).await;
        let [draft, paused, revoked] = <[String; 3]>::try_from(made).unwrap();
        Self { active: active["mandateId"].as_str().unwrap().to_owned(), draft, paused, revoked }
    }
}

#[tokio::test]
async fn a_mandate_takes_no_step_that_its_status_forbids() {
    let mut server = Server::start().await;
    let agent = server.agent_id.clone();
    let second = server.draft(&agent).await;
    let all = Mandates::make(&mut server).await;
    let mut rows = vec![
        mandate(83, "a second active one", "Activate", &second)
            .refused(Code::AlreadyExists, "ACTIVE_MANDATE_EXISTS"),
    ];
    for (verb, ids) in [
        ("Activate", vec![&all.paused, &all.revoked]),
        ("Pause", vec![&all.draft, &all.revoked]),
        ("Resume", vec![&all.draft, &all.revoked]),
        ("Revoke", vec![&all.draft]),
        ("Delete", vec![&all.active, &all.paused, &all.revoked]),
    ] {
        let unknown = format!("mdt_{}", "0".repeat(32));
        rows.push(mandate(84, verb, verb, &unknown).not_found());
        rows.push(mandate(84, verb, verb, CANARY).fields(&["mandate_id"]));
        rows.extend(ids.into_iter().map(|id| wrong_status(mandate(84, verb, verb, id))));
    }
    rows.push(wrong_status(budget(
        84,
        "change what was revoked",
        &all.revoked,
        json!({"total": 5}),
    )));
    let admin = server.admin_key.clone();
    let rows: Vec<_> = rows.into_iter().map(|row| row.by(&admin)).collect();
    refused(&mut server, &rows).await;

    // 88: once more changes nothing, and says the same.
    let asked = json!({ "mandateId": all.revoked });
    let first = server.ok("MandatesService/GetMandate", asked.clone()).await;
    let before = server.state().await;
    let again = server.ok("MandatesService/RevokeMandate", asked).await;
    assert_eq!(again["mandate"], first["mandate"]);
    assert_eq!(server.state().await, before);
    server.stop().await;
}

fn budget(number: u16, what: &str, id: &str, change: Value) -> Row {
    let path = rest("PATCH", format!("/mandates/{id}/budget"), change.clone());
    let mut message = change;
    message["mandateId"] = json!(id);
    Row::new(number, what, "MandatesService/UpdateBudget", message).rest(path)
}

fn update(number: u16, what: &str, id: &str, (mask, change): (&str, Value)) -> Row {
    let mut message = change;
    message["mandateId"] = json!(id);
    message["updateMask"] = json!(mask);
    Row::new(number, what, "MandatesService/UpdateMandate", message)
}

#[tokio::test]
async fn a_change_that_is_none_or_comes_too_late_is_refused() {
    let mut server = Server::start().await;
    let all = Mandates::make(&mut server).await;
    let id = &*all.active;
    let patch = |body: Value| rest("PATCH", format!("/mandates/{id}"), body);
    let conflict = |row: Row| row.refused(Code::Aborted, "VERSION_CONFLICT");
    let other_money = json!({"budget": {"total": 5, "perTransaction": 5, "currency": "EUR"}});
    let rows = vec![
        conflict(budget(85, "a stale version", id, json!({"total": 5, "expectedVersion": 99}))),
        conflict(update(
            85,
            "a stale version",
            id,
            ("name", json!({"name": "x", "expectedVersion": 99})),
        ))
        .rest(patch(json!({"name": "x", "expectedVersion": 99}))),
        budget(85, "a version below 0", id, json!({"total": 5, "expectedVersion": -1}))
            .fields(&["expected_version"]),
        budget(86, "a budget without a change", id, json!({})).fields(&["total"]),
        budget(74, "total 0", id, json!({"total": 0})).fields(&["total"]),
        budget(74, "a ceiling above the total", id, json!({"total": 5}))
            .fields(&["per_transaction"]),
        update(86, "an empty mask", id, ("", json!({"name": "x"}))).fields(&["update_mask"]),
        update(86, "nothing", id, ("", json!({})))
            .fields(&["update_mask"])
            .rest(patch(json!({})))
            .rest_fields(&["body"]),
        update(86, "an unknown path", id, ("name,nothing", json!({"name": "x"})))
            .fields(&["update_mask"]),
        update(86, "an immutable path", id, ("agentId", json!({"name": "x"})))
            .fields(&["update_mask"]),
        update(86, "another currency", id, ("budget", other_money.clone()))
            .fields(&["budget.currency"])
            .rest(patch(other_money)),
        update(86, "an empty name", id, ("name", json!({"name": ""})))
            .fields(&["name"])
            .rest(patch(json!({"name": ""}))),
    ];
    let admin = server.admin_key.clone();
    let rows: Vec<_> = rows.into_iter().map(|row| row.by(&admin)).collect();
    refused(&mut server, &rows).await;

    // 87: a limit below what is spent is meant: nothing is taken back, and nothing passes.
    server.spend(500).await;
    let lower = json!({"mandateId": id, "total": 400, "perTransaction": 400});
    let answer = server.ok("MandatesService/UpdateBudget", lower).await;
    assert_eq!(answer["mandate"]["budgetStatus"]["overCommitted"], true, "{answer}");
    let asked = json!({"agentId": server.agent_id, "amount": 1, "currency": "USD",
        "vendor": "firecrawl.dev", "category": "research", "idempotencyKey": "lowered-0001"});
    let answer = server.ok("EvaluateService/Evaluate", asked).await;
    assert_eq!(answer["reasons"][0]["reason"], "REJECTION_REASON_BUDGET_EXHAUSTED");
    server.stop().await;
}

fn register(number: u16, what: &str, body: Value) -> Row {
    let path = rest("POST", "/agents", body.clone());
    Row::new(number, what, "AgentsService/RegisterAgent", body).rest(path)
}

#[tokio::test]
async fn an_agent_that_cannot_be_named_or_changed_is_refused() {
    let mut server = Server::start().await;
    let taken = server.ok("AgentsService/RegisterAgent", json!({"name": "<b>taken</b>"})).await;
    assert_eq!(taken["agent"]["name"], "<b>taken</b>");
    let gone = server.agent().await;
    server.ok("AgentsService/DecommissionAgent", json!({ "agentId": gone })).await;
    let holding = server.agent().await;
    let message = json!({"agentId": holding, "name": "asks people",
        "budget": {"total": 100, "perTransaction": 100, "currency": "USD"},
        "rules": [{"approval": {"threshold": 1, "timeoutMinutes": 60}}]});
    let made = server.ok("MandatesService/CreateMandate", message).await;
    server.step("Activate", made["mandate"]["id"].as_str().unwrap()).await;
    let asked = json!({"agentId": holding, "amount": 50, "currency": "USD",
        "vendor": "a.dev", "idempotencyKey": "held-0001"});
    let held = server.ok("EvaluateService/Evaluate", asked).await;
    assert_eq!(held["decision"], "DECISION_PENDING_APPROVAL");

    let step = |number: u16, what: &str, verb: &str, id: &str| {
        let path = match verb {
            "Decommission" => rest("DELETE", format!("/agents/{id}"), Value::Null),
            verb => rest("POST", format!("/agents/{id}/{}", verb.to_lowercase()), Value::Null),
        };
        let rpc = format!("AgentsService/{verb}Agent");
        Row::new(number, what, &rpc, json!({ "agentId": id })).rest(path)
    };
    let ended = |row: Row| row.refused(Code::FailedPrecondition, "AGENT_WRONG_STATUS");
    let tags: Vec<String> = (0..33).map(|n| n.to_string()).collect();
    let mut rows = vec![
        step(89, "an agent with held money", "Decommission", &holding)
            .refused(Code::FailedPrecondition, "OPEN_HOLDS"),
        ended(step(89, "suspend what is gone", "Suspend", &gone)),
        ended(step(89, "resume what is gone", "Resume", &gone)),
        step(89, "no id", "Suspend", CANARY).fields(&["agent_id"]),
        step(89, "an unknown one", "Resume", "7b1f4f0e-9d0c-4c5e-8f6f-3a1d2b4c5d6e").not_found(),
        register(90, "an empty name", json!({"name": ""})).fields(&["name"]),
        register(90, "only spaces", json!({"name": " \u{a0} "})).fields(&["name"]),
        register(90, "1 KB", json!({"name": format!("{CANARY}{}", "n".repeat(1_000))}))
            .fields(&["name"]),
        register(90, "a bidi override", json!({"name": format!("{CANARY}\u{202e}")}))
            .fields(&["name"]),
        register(90, "a name that is taken", json!({"name": "<b>taken</b>"}))
            .refused(Code::AlreadyExists, "NAME_TAKEN"),
        register(90, "33 tags", json!({"name": "a", "tags": tags})).fields(&["tags"]),
        register(90, "a tag twice", json!({"name": "a", "tags": ["x", "x"]})).fields(&["tags[1]"]),
        register(90, "an unknown framework", json!({"name": "a", "framework": 99}))
            .fields(&["framework"]),
        register(90, "a long label", json!({"name": "a", "metadata": {"k": "v".repeat(257)}}))
            .fields(&["metadata[\"k\"]"]),
        register(
            90,
            "six at once",
            json!({"name": "", "description": "d".repeat(2_001),
            "framework": 99, "executionMode": "e".repeat(65), "tags": [""],
            "metadata": {"k": "v".repeat(257)}}),
        )
        .fields(&[
            "name",
            "description",
            "framework",
            "execution_mode",
            "tags[0]",
            "metadata[\"k\"]",
        ]),
    ];
    let message = json!({"agentId": gone, "updateMask": "name", "name": "x"});
    let path = rest("PATCH", format!("/agents/{gone}"), json!({"name": "x"}));
    let row = Row::new(89, "change what is gone", "AgentsService/UpdateAgent", message);
    rows.push(ended(row.rest(path)));
    let admin = server.admin_key.clone();
    let rows: Vec<_> = rows.into_iter().map(|row| row.by(&admin)).collect();
    refused(&mut server, &rows).await;
    server.stop().await;
}

/// A key that cannot be made: its role, and what else is said of it.
fn key(number: u16, what: &str, role: &str, more: &Value) -> Row {
    let base = json!({"name": "x", "role": format!("ROLE_{}", role.to_uppercase())});
    let published = json!({"name": "x", "role": role});
    let path = rest("POST", "/api-keys", patched(&published, more));
    Row::new(number, what, "OrganizationService/CreateApiKey", patched(&base, more)).rest(path)
}

#[tokio::test]
async fn keys_and_the_organization_keep_their_bounds() {
    let mut server = Server::start().await;
    let listed = server.ok("OrganizationService/ListApiKeys", json!({})).await;
    let keys = listed["apiKeys"].as_array().unwrap();
    let last = keys.iter().find(|key| key["role"] == "ROLE_ADMIN").unwrap();
    let last = last["id"].as_str().unwrap().to_owned();
    let (admin, agent) = (server.admin_key.clone(), server.agent_key.clone());
    let revoke = |what: &str, id: &str| {
        let path = rest("DELETE", format!("/api-keys/{id}"), Value::Null);
        let message = json!({ "apiKeyId": id });
        Row::new(94, what, "OrganizationService/RevokeApiKey", message).rest(path).by(&admin)
    };
    let organization = |what: &str, mask: &str, body: Value| {
        let mut message = body.clone();
        message["updateMask"] = json!(mask);
        let row = Row::new(86, what, "OrganizationService/UpdateOrganization", message).by(&admin);
        row.rest(rest("PATCH", "/organization", body))
    };
    let unknown = "7b1f4f0e-9d0c-4c5e-8f6f-3a1d2b4c5d6e";
    let hidden = format!("{CANARY}\u{202e}");
    let end = json!({"expiresAt": "2020-01-01T00:00:00Z"});
    let mine = json!({ "agentId": server.agent_id });
    let mut rows = vec![
        key(92, "an end in the past", "reader", &end).fields(&["expires_at"]),
        key(91, "role 99", "reader", &json!({"role": 99})).fields(&["role"]),
        key(91, "no role", "reader", &json!({"role": null})).fields(&["role"]),
        key(91, "an admin of one agent", "admin", &mine).fields(&["agent_id"]),
        key(91, "of an unknown agent", "agent", &json!({ "agentId": unknown })).not_found(),
        key(91, "a hidden name", "reader", &json!({ "name": hidden })).fields(&["name"]),
    ];
    rows = rows.into_iter().map(|row| row.by(&admin)).collect();
    for role in ["admin", "agent", "reader"] {
        let row = key(91, "an agent makes a key", role, &json!({})).by(&agent);
        rows.push(row.refused(Code::PermissionDenied, "ROLE_NOT_ALLOWED"));
    }
    rows.extend([
        revoke("the last admin key", &last).refused(Code::FailedPrecondition, "LAST_ADMIN_KEY"),
        revoke("no id", CANARY).fields(&["api_key_id"]),
        revoke("an unknown key", &format!("key_{}", "0".repeat(32))).not_found(),
        organization("an empty name", "name", json!({"name": ""})).fields(&["name"]),
        organization("a zone of Mars", "timezone", json!({"timezone": "Mars/Base"}))
            .fields(&["timezone"]),
        organization("no currency", "defaultCurrency", json!({"defaultCurrency": "ZZZ"}))
            .fields(&["default_currency"]),
        organization(
            "three at once",
            "name,timezone,defaultCurrency",
            json!({"name": "", "timezone": "Mars/Base", "defaultCurrency": "ZZZ"}),
        )
        .fields(&["name", "timezone", "default_currency"]),
        organization("nothing", "", json!({})).fields(&["update_mask"]).rest_fields(&["body"]),
        organization("an immutable path", "slug", json!({"name": "x"}))
            .fields(&["update_mask"])
            .not(Way::Rest),
    ]);
    refused(&mut server, &rows).await;
    server.stop().await;
}
