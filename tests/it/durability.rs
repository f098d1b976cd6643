//! What a decision survives, as mandates and organizations ask for it: kept, signed, recorded and
//! told, on every engine.
//!
//! Not here: that answers wait as long as their level says (`redis/levels`), and how the command
//! line asks (`cli`).

use quetra::proto::v1::{self, Durability};
use serde_json::{Value, json};

use crate::harness::{Clients, Engine, FAST, STRICT, Server, ask, budget, on_all, refused};

/// Short names for the calls of these tests.
impl Clients {
    async fn ask_for(&mut self, mandate: &str, durability: Durability) -> v1::Mandate {
        let request = v1::UpdateMandateRequest {
            mandate_id: mandate.to_owned(),
            update_mask: Some(prost_types::FieldMask { paths: vec!["durability".to_owned()] }),
            durability: durability.into(),
            ..Default::default()
        };
        let answer = self.mandates.update_mandate(request).await.unwrap().into_inner();
        answer.mandate.unwrap()
    }

    async fn set_floor(&mut self, floor: Durability) -> v1::Organization {
        let answer = self.organization.update_organization(to_floor(floor)).await.unwrap();
        answer.into_inner().organization.unwrap()
    }

    /// What the answer to a spend survives.
    async fn survives(&mut self, agent: &str) -> Durability {
        self.spend(ask(agent, 1)).await.durability()
    }

    /// The documents of the acts of a kind, oldest first.
    async fn acts(&mut self, kind: &str, count: usize) -> Vec<Value> {
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let request = v1::ListEventsRequest { kind: kind.to_owned(), ..Default::default() };
            let entries = self.audit.list_events(request).await.unwrap().into_inner().entries;
            let acts = entries.into_iter().filter_map(|entry| match entry.content {
                Some(v1::audit_entry::Content::Act(act)) => Some(act.document),
                _ => None,
            });
            let acts = acts.map(|text| serde_json::from_str(&text).unwrap()).collect::<Vec<_>>();
            if acts.len() >= count {
                return acts;
            }
            assert!(tokio::time::Instant::now() < until, "{} of {count} acts", acts.len());
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

fn to_floor(floor: Durability) -> v1::UpdateOrganizationRequest {
    v1::UpdateOrganizationRequest {
        update_mask: Some(prost_types::FieldMask { paths: vec!["durability_floor".to_owned()] }),
        durability_floor: floor.into(),
        ..Default::default()
    }
}

/// What an answer survives that is owed this: without Redis always everything.
fn answered(engine: Engine, owed: Durability) -> Durability {
    match engine {
        Engine::Sqlite | Engine::Postgres => Durability::Strict,
        Engine::Redis(_) | Engine::RedisCluster => owed,
    }
}

/// The default of a server.
fn default(engine: Engine) -> Durability {
    match engine {
        Engine::Redis(level) if level == FAST => Durability::Fast,
        Engine::Sqlite | Engine::Postgres | Engine::Redis(_) | Engine::RedisCluster => {
            Durability::Strict
        }
    }
}

async fn a_mandate_asks_for_a_level_which_is_signed_versioned_and_told(engine: Engine) {
    let server = Server::on(engine).await;
    let mut admin = server.admin().await;
    let (agent, id) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    assert_eq!(admin.survives(&agent).await, default(engine));
    let mut hashes = Vec::new();
    for asked in [Durability::Strict, Durability::Fast, Durability::Unspecified] {
        let after = admin.ask_for(&id, asked).await;
        assert_eq!(after.durability(), asked);
        hashes.push(after.policy_hash);
        let owed = if asked == Durability::Unspecified { default(engine) } else { asked };
        assert_eq!(admin.survives(&agent).await, answered(engine, owed), "{asked:?}");
    }
    let version = async |version| {
        let request = v1::GetMandateRequest { mandate_id: id.clone(), version };
        let mut client = admin.mandates.clone();
        client.get_mandate(request).await.unwrap().into_inner().mandate.unwrap()
    };
    // The draft, in force, and the three changes: what is not asked for is not signed either.
    let first = version(1).await;
    assert_eq!(first.policy_hash, hashes[2]);
    assert!(hashes[0] != hashes[1] && !hashes[..2].contains(&first.policy_hash));
    assert_eq!(version(3).await.durability(), Durability::Strict);
    assert_eq!(version(4).await.durability(), Durability::Fast);
    let acts = admin.acts("mandate.updated", 3).await;
    let asked = |side: &str| {
        let acts = acts.iter().map(|act| act[side]["policy"]["durability"].clone());
        acts.collect::<Vec<_>>()
    };
    assert_eq!(asked("before"), [Value::Null, json!("strict"), json!("fast")]);
    assert_eq!(asked("after"), [json!("strict"), json!("fast"), Value::Null]);
    server.stop().await;
}

async fn a_floor_raises_what_mandates_ask_for_and_lowers_nothing(engine: Engine) {
    let server = Server::on(engine).await;
    let mut admin = server.admin().await;
    let (fast, id) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    admin.ask_for(&id, Durability::Fast).await;
    let (strict, id) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    admin.ask_for(&id, Durability::Strict).await;
    assert_eq!(admin.survives(&fast).await, answered(engine, Durability::Fast));
    for floor in [Durability::Strict, Durability::Fast, Durability::Unspecified] {
        assert_eq!(admin.set_floor(floor).await.durability_floor(), floor);
        let owed = if floor == Durability::Strict { floor } else { Durability::Fast };
        assert_eq!(admin.survives(&fast).await, answered(engine, owed), "{floor:?}");
        assert_eq!(admin.survives(&strict).await, Durability::Strict, "{floor:?}");
    }
    let unknown =
        v1::UpdateOrganizationRequest { durability_floor: 9, ..to_floor(Durability::Unspecified) };
    let answer = admin.organization.update_organization(unknown).await;
    assert_eq!(refused(answer, "INVALID_FIELDS").fields, ["durability_floor"]);
    let acts = admin.acts("organization.updated", 3).await;
    let floors = acts.iter().map(|act| act["after"]["durability_floor"].clone());
    assert_eq!(floors.collect::<Vec<_>>(), [json!("strict"), json!("fast"), Value::Null]);
    server.stop().await;
}

on_all! {
    a_mandate_asks_for_a_level_which_is_signed_versioned_and_told;
    a_floor_raises_what_mandates_ask_for_and_lowers_nothing;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_are_asked_for_in_the_published_rest_bodies() {
    let server = Server::start().await;
    let call = async |method: reqwest::Method, path: &str, body: Value| {
        let url = format!("{}/api/v1{path}", server.url());
        let request = reqwest::Client::new().request(method, url).json(&body);
        let answer = request.bearer_auth(&server.first.admin_key).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let limits = json!({"total": 100, "perTransaction": 10, "currency": "USD"});
    let body = json!({"agentId": server.agent_id(), "name": "m", "rules": [], "budget": limits,
        "durability": "strict"});
    let (status, made) = call(reqwest::Method::POST, "/mandates", body).await;
    assert_eq!((status, &made["durability"]), (201, &json!("strict")), "{made}");
    let path = format!("/mandates/{}", made["id"].as_str().unwrap());
    for (asked, shown) in [(json!("fast"), json!("fast")), (json!(null), json!(null))] {
        let body = json!({ "durability": asked });
        let (status, after) = call(reqwest::Method::PATCH, &path, body).await;
        assert_eq!((status, &after["durability"]), (200, &shown), "{after}");
    }
    let (status, wrong) =
        call(reqwest::Method::PATCH, &path, json!({"durability": "eternal"})).await;
    assert_eq!(status, 400, "{wrong}");
    for floor in [json!("durable"), json!(null)] {
        let body = json!({ "durabilityFloor": floor });
        let (status, after) = call(reqwest::Method::PATCH, "/organization", body).await;
        assert_eq!((status, &after["durabilityFloor"]), (200, &floor), "{after}");
    }
    server.stop().await;
}
