//! The four questions of a new user, and the answers that docs/MCP.md promises; rejections that
//! teach, decisions that wait, and purchases that are charged once.

use quetra::proto::v1;
use serde_json::{Value, json};

use super::{Mcp, agent_key, assert_conforms, text};
use crate::harness::{Server, budget};

/// Every tool's answer has the shape that the tool promises.
async fn conforming(mcp: &Mcp, tool: &str, arguments: Value) -> Value {
    let tools = mcp.tools().await;
    let promised = tools.iter().find(|row| row["name"] == tool).unwrap();
    assert_conforms(&arguments, &promised["inputSchema"], tool);
    let data = mcp.data(tool, arguments).await;
    assert_conforms(&data, &promised["outputSchema"], tool);
    data
}

#[tokio::test(flavor = "multi_thread")]
async fn the_four_questions_of_a_new_user_get_the_documented_answers() {
    let server = Server::start().await;
    for mcp in [Mcp::of_agent(&server), Mcp::of_agent(&server).legacy()] {
        let left = conforming(&mcp, "quetra_check_budget", json!({})).await;
        assert_eq!(left["budget"]["total"], 10_000);
        assert_eq!(left["budget"]["perTransaction"], 2_500);
        assert_eq!(left["status"], "active");

        let spend = json!({"amount": 200, "vendor": "firecrawl.dev", "category": "research"});
        let could = conforming(&mcp, "quetra_can_spend", spend.clone()).await;
        assert_eq!(
            (&could["wouldBeApproved"], &could["decision"]),
            (&true.into(), &"approved".into())
        );
        assert_eq!(could["budget"]["remaining"], left["budget"]["remaining"]);

        let too_much =
            json!({"amount": 50_000, "vendor": "netflix.com", "category": "entertainment"});
        let refused = conforming(&mcp, "quetra_evaluate", too_much).await;
        assert_eq!(
            (&refused["approved"], &refused["decision"]),
            (&false.into(), &"rejected".into())
        );
        let rules = |refused: &Value| {
            let reasons = refused["reasons"].as_array().unwrap().clone();
            reasons
                .into_iter()
                .map(|reason| reason["rule"].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let expected = ["budget_per_tx", "budget_total", "category", "vendor_allowlist"];
        assert_eq!(rules(&refused), expected);
        assert_eq!(refused["retry"], json!({"worthwhile": false}));

        let approved = conforming(&mcp, "quetra_evaluate", spend).await;
        assert_eq!(approved["approved"], true);
        let shown = conforming(&mcp, "quetra_transactions", json!({"limit": 2})).await;
        let ids: Vec<_> = shown["transactions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|shown| shown["transactionId"].clone())
            .collect();
        assert_eq!(ids, [approved["transactionId"].clone(), refused["transactionId"].clone()]);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_checks_asks_acts_and_explains() {
    let server = Server::start().await;
    let mcp = Mcp::of_agent(&server);
    let left = mcp.data("quetra_check_budget", json!({})).await;
    let most = left["budget"]["perTransaction"].as_i64().unwrap();
    // More than one purchase may cost: the answer says how much would do, and that does.
    let wish = json!({"amount": most + 1, "vendor": "firecrawl.dev", "category": "research"});
    let refused = mcp.call("quetra_evaluate", wish).await;
    assert_eq!(refused["isError"], false, "a rejection is an answer");
    let data = &refused["structuredContent"];
    assert_eq!(data["retry"], json!({"worthwhile": true, "largestAmount": most}));
    let reason = &data["reasons"][0];
    assert_eq!((&reason["limit"], &reason["actual"]), (&json!(most), &json!(most + 1)));
    assert_eq!((&reason["passesNow"], &reason["retryable"]), (&json!(most), &json!(true)));
    assert!(text(&refused).contains("At most $25.00 would pass now"), "{refused}");
    let amount = data["retry"]["largestAmount"].clone();
    let modest = json!({"amount": amount, "vendor": "firecrawl.dev", "category": "research"});
    let approved = mcp.data("quetra_evaluate", modest).await;
    assert_eq!(approved["approved"], true);
    // The purchase is made and settled by the agent's own client; the model sees what became of it.
    let mut agent = server.agent().await;
    let id = approved["transactionId"].as_str().unwrap().to_owned();
    let settle = v1::SettleTransactionRequest { transaction_id: id.clone(), amount: Some(2_000) };
    agent.transactions.settle_transaction(settle).await.unwrap();
    let one = mcp.data("quetra_transactions", json!({"transactionId": id})).await;
    let one = &one["transactions"][0];
    assert_eq!((&one["state"], &one["settledAmount"]), (&json!("settled"), &json!(2_000)));
    let now = mcp.data("quetra_check_budget", json!({})).await;
    assert_eq!(now["budget"]["remaining"], 8_000);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_with_one_intent_key_is_charged_once() {
    let server = Server::start().await;
    let mcp = Mcp::of_agent(&server);
    let spend = json!({
        "amount": 300, "vendor": "firecrawl.dev", "category": "research",
        "intentKey": "report-42-firecrawl",
    });
    let first = mcp.data("quetra_evaluate", spend.clone()).await;
    assert_eq!((&first["approved"], &first["replayed"]), (&json!(true), &json!(false)));
    let again = mcp.call("quetra_evaluate", spend.clone()).await;
    let data = &again["structuredContent"];
    assert_eq!((&data["approved"], &data["replayed"]), (&json!(true), &json!(true)));
    assert_eq!(data["transactionId"], first["transactionId"]);
    assert!(text(&again).contains("nothing was charged now"), "{again}");
    let many = (0..20).map(|_| mcp.data("quetra_evaluate", spend.clone()));
    for again in futures::future::join_all(many).await {
        assert_eq!(again["transactionId"], first["transactionId"]);
    }
    // What was given back since may not be spent.
    let second = json!({
        "amount": 300, "vendor": "firecrawl.dev", "category": "research",
        "intentKey": "report-43-firecrawl",
    });
    let given_back = mcp.data("quetra_evaluate", second.clone()).await;
    let transaction_id = given_back["transactionId"].as_str().unwrap().to_owned();
    let void = v1::VoidTransactionRequest { transaction_id };
    server.admin().await.transactions.void_transaction(void).await.unwrap();
    let again = mcp.call("quetra_evaluate", second).await;
    let data = &again["structuredContent"];
    assert_eq!((&data["approved"], &data["state"]), (&json!(false), &json!("voided")));
    assert!(text(&again).contains("given back since: do not spend"), "{again}");
    let left = mcp.data("quetra_check_budget", json!({})).await;
    assert_eq!(left["budget"]["spent"], 300);
    // Another purchase under the same name is a mistake, and nothing is approved.
    let mut other = spend.clone();
    other["amount"] = 301.into();
    let why = mcp.failure("quetra_evaluate", other).await;
    assert!(why.starts_with("NOT APPROVED") && why.contains("IDEMPOTENCY_KEY_REUSED"), "{why}");
    assert!(why.contains("choose a new one"), "{why}");
    // Without a name each call is a purchase of its own.
    let mut nameless = spend;
    nameless.as_object_mut().unwrap().remove("intentKey");
    let one = mcp.data("quetra_evaluate", nameless.clone()).await;
    let two = mcp.data("quetra_evaluate", nameless).await;
    assert_ne!(one["transactionId"], two["transactionId"]);
    assert_ne!(one["intentKey"], two["intentKey"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_waits_is_an_answer_that_says_for_whom() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let approval = v1::ApprovalRule {
        threshold: 100,
        approver_roles: vec!["admin".to_owned()],
        timeout_minutes: 60,
        approvals_required: 1,
    };
    let rule = v1::Rule { kind: Some(v1::rule::Kind::Approval(approval)) };
    let (agent_id, _) = admin.agent_with_mandate(budget(10_000, 5_000), vec![rule]).await;
    let mcp = Mcp::new(&server, &agent_key(&mut admin, &agent_id).await);
    let spend = json!({"amount": 500, "vendor": "acme.com", "description": "a chair"});
    let waiting = conforming(&mcp, "quetra_evaluate", spend.clone()).await;
    assert_eq!(waiting["approved"], false, "money that waits may not be spent");
    assert_eq!(waiting["decision"], "pending_approval");
    assert!(waiting.get("retry").is_none(), "{waiting}");
    let approval = &waiting["approval"];
    assert_eq!(approval["decidedBy"], json!(["admin"]));
    assert_eq!(approval["timeoutMinutes"], 60);
    let asked = json!({
        "amount": 500, "currency": "USD", "vendor": "acme.com", "description": "a chair",
    });
    assert_eq!(approval["asked"], asked);
    let id = waiting["transactionId"].as_str().unwrap();
    assert!(approval["howToLearn"].as_str().unwrap().contains(id), "{approval}");
    let one = conforming(&mcp, "quetra_transactions", json!({"transactionId": id})).await;
    assert_eq!(one["transactions"][0]["state"], "pending_approval");
    let told = text(&mcp.call("quetra_evaluate", spend).await);
    assert!(told.contains("Do not spend yet") && told.contains("admin"), "{told}");
    let left = conforming(&mcp, "quetra_check_budget", json!({})).await;
    assert_eq!(left["budget"]["held"], 1_000);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_spend_at_all_is_told_so_and_it_is_recorded() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let request = v1::RegisterAgentRequest { name: "idle".to_owned(), ..Default::default() };
    let agent = admin.agents.register_agent(request).await.unwrap().into_inner().agent.unwrap();
    let idle = Mcp::new(&server, &agent_key(&mut admin, &agent.id).await);
    let spend = json!({"amount": 10, "vendor": "firecrawl.dev"});
    let refused = conforming(&idle, "quetra_evaluate", spend.clone()).await;
    assert_eq!(refused["reasons"][0]["reason"], "no_active_mandate");
    assert_eq!(refused["retry"], json!({"worthwhile": false}));
    let why = idle.failure("quetra_check_budget", json!({})).await;
    assert!(why.contains("NOT_FOUND"), "{why}");

    admin.organization.freeze_organization(v1::FreezeOrganizationRequest {}).await.unwrap();
    let mcp = Mcp::of_agent(&server);
    let refused = conforming(&mcp, "quetra_evaluate", spend).await;
    assert_eq!(refused["approved"], false);
    assert_eq!(refused["reasons"][0]["reason"], "organization_frozen");
    assert_eq!(refused["retry"]["worthwhile"], false);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_every_agent_names_the_agent_in_each_call() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let (other, _) = admin.agent_with_mandate(budget(700, 500), vec![]).await;
    let mcp = Mcp::new(&server, &agent_key(&mut admin, "").await);
    let agents = conforming(&mcp, "quetra_list_agents", json!({})).await;
    let agents = agents["agents"].as_array().unwrap();
    let demo = agents.iter().find(|agent| agent["agentId"] == server.agent_id()).unwrap();
    assert_eq!(demo["description"], "Buys web data and model calls for research tasks");
    assert_eq!(demo["budget"]["remaining"], 10_000);
    assert_eq!(demo["rules"][0], "categories: research, generation");
    assert!(agents.iter().any(|agent| agent["agentId"] == other), "{agents:?}");

    let spend = json!({"agentId": other, "amount": 500, "vendor": "acme.com"});
    assert_eq!(conforming(&mcp, "quetra_evaluate", spend).await["approved"], true);
    let left = conforming(&mcp, "quetra_check_budget", json!({"agentId": other})).await;
    assert_eq!(left["budget"]["remaining"], 200);
    let own = mcp.data("quetra_transactions", json!({"agentId": other})).await;
    let id = own["transactions"][0]["transactionId"].clone();
    let lent = json!({"agentId": server.agent_id(), "transactionId": &id});
    let why = mcp.failure("quetra_transactions", lent).await;
    assert!(why.contains("no such transaction"), "{why}");
    let why = mcp.failure("quetra_check_budget", json!({})).await;
    assert!(why.contains("`agentId` is required"), "{why}");

    // A key that is bound to one agent never reaches another.
    let bound = Mcp::of_agent(&server);
    let why = bound.failure("quetra_transactions", json!({"transactionId": id})).await;
    assert!(why.contains("NOT_FOUND"), "{why}");
    let why = bound.failure("quetra_check_budget", json!({"agentId": other})).await;
    assert!(why.contains("there is no argument `agentId`"), "{why}");
    let found = bound.send("tools/call", json!({"name": "quetra_list_agents"})).await;
    let answer: Value = found.json().await.unwrap();
    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    server.stop().await;
}
