//! What an outsider can verify: the policy hash, its signature and the mandate token.
//!
//! Everything is computed again here from published parts only: the token, the organization's
//! public key and the rules of canonical JSON. Not here: the server's own cryptography (`crypto`).

use std::collections::HashMap;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use quetra::clock::{Clock, SystemClock};
use quetra::proto::v1;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Step, message, updated};
use crate::checker::books::canonical;
use crate::harness::{Clients, Server, budget, refused};

fn hash(policy: &Value) -> String {
    hex::encode(Sha256::digest(canonical(policy)))
}

/// The organization's public keys, by their name.
async fn public_keys(client: &mut Clients) -> HashMap<String, String> {
    let request = v1::GetOrganizationRequest {};
    let organization = client.organization.get_organization(request).await.unwrap().into_inner();
    let keys = organization.organization.unwrap().signing_keys.into_iter();
    let keys = keys.inspect(|key| assert_eq!(key.algorithm, "EdDSA"));
    keys.map(|key| (key.key_id, key.public_key)).collect()
}

/// The claims of a token, if one of the public keys verifies it.
fn verify(
    token: &str,
    keys: &HashMap<String, String>,
) -> Result<Value, jsonwebtoken::errors::Error> {
    let header = jsonwebtoken::decode_header(token)?;
    let key = DecodingKey::from_ed_components(&keys[header.kid.as_ref().unwrap()]).unwrap();
    let mut rules = Validation::new(Algorithm::EdDSA);
    rules.set_required_spec_claims(&["exp", "nbf", "iss", "sub"]);
    rules.validate_nbf = true;
    rules.leeway = 0;
    jsonwebtoken::decode::<Value>(token, &key, &rules).map(|token| token.claims)
}

async fn token(client: &mut Clients, agent_id: &str) -> v1::GetMandateTokenResponse {
    let request = v1::GetMandateTokenRequest { agent_id: agent_id.to_owned() };
    client.mandates.get_mandate_token(request).await.unwrap().into_inner()
}

fn rules() -> Vec<v1::Rule> {
    let category = v1::CategoryRule { allowed: vec!["research \"α\"".to_owned()] };
    let window = v1::TimeWindowRule {
        days: vec![0, 1, 2, 3, 4, 5, 6],
        start: "00:00".to_owned(),
        end: "24:00".to_owned(),
        timezone: "Europe/Zagreb".to_owned(),
    };
    let kinds = [v1::rule::Kind::Category(category), v1::rule::Kind::TimeWindow(window)];
    kinds.map(|kind| v1::Rule { kind: Some(kind) }).to_vec()
}

/// An agent with an active mandate that ends; the ids of both.
async fn agent_with_ending_mandate(admin: &mut Clients, until: Timestamp) -> (String, String) {
    let agent_id = admin.agent_named("signed").await;
    let request = v1::CreateMandateRequest {
        agent_id: agent_id.clone(),
        name: "signed".to_owned(),
        budget: Some(v1::Budget { reset: v1::Period::Weekly.into(), ..budget(1_000, 100) }),
        rules: rules(),
        valid_until: Some(message(until)),
        ..Default::default()
    };
    let made = admin.mandates.create_mandate(request).await.unwrap().into_inner();
    let id = made.mandate.unwrap().id;
    admin.step(&id, Step::Activate).await.unwrap();
    (agent_id, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_verifies_with_the_public_key_and_says_what_the_mandate_allows() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let until = SystemClock.now() + SignedDuration::from_hours(24);
    let (agent, id) = agent_with_ending_mandate(&mut admin, until).await;
    let issued = token(&mut admin, &agent).await;
    let keys = public_keys(&mut admin).await;
    let claims = verify(&issued.token, &keys).unwrap();
    let mandate = admin.get(&id).await;
    assert_eq!(issued.mandate.unwrap(), mandate);
    assert_eq!(claims["sub"], agent);
    assert_eq!(claims["mandate_id"], id);
    assert_eq!(claims["mandate_version"], 2);
    assert_eq!(claims["policy_hash"], mandate.policy_hash);
    assert_eq!(claims["policy_signature"], mandate.signature);
    assert_eq!(claims["exp"], issued.expires_at.unwrap().seconds);
    let hour = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(hour, 3_600);

    // The policy in it is the mandate's own.
    let policy = &claims["policy"];
    assert_eq!(policy["agent_id"], agent);
    assert_eq!(policy["mandate_id"], id);
    let limits = json!({"total": 1_000, "per_transaction": 100, "currency": "USD",
        "reset": "weekly"});
    assert_eq!(policy["budget"], limits);
    assert_eq!(policy["rules"][0]["allowed"], json!(["research \"α\""]));
    assert_eq!(policy["rules"][1]["timezone"], "Europe/Zagreb");
    assert_eq!(policy["rules"].as_array().unwrap().len(), 2);
    let time = |field: &str| policy[field].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert_eq!(Some(message(time("valid_from"))), mandate.valid_from);
    assert_eq!(Some(message(time("valid_until"))), mandate.valid_until);

    // Its hash is what is signed.
    assert_eq!(hash(policy), mandate.policy_hash);
    let public = URL_SAFE_NO_PAD.decode(&keys[&mandate.signing_key_id]).unwrap();
    let signature = URL_SAFE_NO_PAD.decode(&mandate.signature).unwrap();
    let public = UnparsedPublicKey::new(&ED25519, &public);
    public.verify(mandate.policy_hash.as_bytes(), &signature).unwrap();
    assert!(public.verify(b"another text", &signature).is_err());
    server.stop().await;
}

/// Every value inside, changed one at a time.
fn tampered(policy: &Value) -> Vec<Value> {
    match policy {
        Value::Object(fields) => {
            let mut all = Vec::new();
            for (key, value) in fields {
                for changed in tampered(value) {
                    let mut fields = fields.clone();
                    fields.insert(key.clone(), changed);
                    all.push(Value::Object(fields));
                }
                let mut without = fields.clone();
                without.remove(key);
                all.push(Value::Object(without));
            }
            all
        }
        Value::Array(items) => {
            let mut all = vec![json!([]), Value::Array([&items[..], &items[..]].concat())];
            for (index, item) in items.iter().enumerate() {
                for changed in tampered(item) {
                    let mut items = items.clone();
                    items[index] = changed;
                    all.push(Value::Array(items));
                }
            }
            all
        }
        Value::String(text) => vec![json!(format!("{text}x")), json!("")],
        Value::Number(number) => vec![json!(number.as_i64().unwrap() + 1)],
        Value::Bool(value) => vec![json!(!value)],
        Value::Null => vec![json!("2027-01-01T00:00:00Z")],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_policy_can_be_changed_without_breaking_hash_and_token() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let until = SystemClock.now() + SignedDuration::from_hours(24);
    let (agent, id) = agent_with_ending_mandate(&mut admin, until).await;
    let issued = token(&mut admin, &agent).await.token;
    let keys = public_keys(&mut admin).await;
    let claims = verify(&issued, &keys).unwrap();
    let expected = admin.get(&id).await.policy_hash;
    let tampered = tampered(&claims["policy"]);
    assert!(tampered.len() > 20, "only {} ways to tamper", tampered.len());
    let parts = issued.split('.').collect::<Vec<_>>();
    for policy in tampered {
        assert_ne!(hash(&policy), expected, "{policy}");
        let mut claims = claims.clone();
        claims["policy"] = policy;
        let body = URL_SAFE_NO_PAD.encode(claims.to_string());
        let forged = format!("{}.{body}.{}", parts[0], parts[2]);
        assert!(verify(&forged, &keys).is_err());
    }
    // A token without a signature is none.
    let header = URL_SAFE_NO_PAD
        .encode(format!(r#"{{"typ":"JWT","alg":"none","kid":"{}"}}"#, keys.keys().next().unwrap()));
    assert!(verify(&format!("{header}.{}.", parts[1]), &keys).is_err());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_that_changes_is_hashed_and_signed_anew_and_no_other() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let until = SystemClock.now() + SignedDuration::from_hours(24);
    let (agent, id) = agent_with_ending_mandate(&mut admin, until).await;
    let keys = public_keys(&mut admin).await;
    let mut last = admin.get(&id).await;
    let mut hashes = vec![last.policy_hash.clone()];
    for (path, step) in [("budget", 0), ("budget", 1), ("rules", 2), ("valid_until", 3)] {
        let change = |request: &mut v1::UpdateMandateRequest| {
            let limits = budget(1_000 + i64::from(step == 1), 101);
            request.budget = Some(limits);
            request.rules = rules()[..1].to_vec();
            request.valid_until = None;
        };
        let next = updated(admin.update(&id, &[path], change).await);
        assert!(!hashes.contains(&next.policy_hash), "{path}");
        assert_ne!(next.signature, last.signature, "{path}");
        hashes.push(next.policy_hash.clone());
        let claims = verify(&token(&mut admin, &agent).await.token, &keys).unwrap();
        assert_eq!(hash(&claims["policy"]), next.policy_hash, "{path}");
        last = next;
    }
    let renamed = updated(admin.update(&id, &["name"], |r| r.name = "new".to_owned()).await);
    assert_eq!(renamed.policy_hash, last.policy_hash);
    for step in [Step::Pause, Step::Resume, Step::Revoke] {
        let mandate = admin.step(&id, step).await.unwrap();
        assert_eq!(mandate.policy_hash, last.policy_hash, "{step:?}");
        assert_eq!(mandate.signature, last.signature, "{step:?}");
    }
    // The same policy of another agent is another promise.
    let (_, first) = admin.agent_with_mandate(budget(5, 5), vec![]).await;
    let (_, second) = admin.agent_with_mandate(budget(5, 5), vec![]).await;
    assert_ne!(admin.get(&first).await.policy_hash, admin.get(&second).await.policy_hash);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mandate_that_is_not_in_force_has_no_token() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let (agent_id, id) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let request = v1::GetMandateTokenRequest { agent_id: agent_id.clone() };
    admin.step(&id, Step::Pause).await.unwrap();
    refused(admin.mandates.get_mandate_token(request.clone()).await, "NOT_FOUND");
    admin.step(&id, Step::Resume).await.unwrap();
    token(&mut admin, &agent_id).await;
    admin.step(&id, Step::Revoke).await.unwrap();
    refused(admin.mandates.get_mandate_token(request).await, "NOT_FOUND");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_could_not_spend_gets_no_token() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let (agent_id, _) = admin.agent_with_mandate(budget(1_000, 100), vec![]).await;
    let request = v1::GetMandateTokenRequest { agent_id: agent_id.clone() };
    let suspend = v1::SuspendAgentRequest { agent_id: agent_id.clone() };
    admin.agents.suspend_agent(suspend).await.unwrap();
    let answer = admin.mandates.get_mandate_token(request.clone()).await;
    assert_eq!(refused(answer, "AGENT_WRONG_STATUS").says("status"), "suspended");
    let resume = v1::ResumeAgentRequest { agent_id: agent_id.clone() };
    admin.agents.resume_agent(resume).await.unwrap();
    token(&mut admin, &agent_id).await;

    let freeze = v1::FreezeOrganizationRequest {};
    admin.organization.freeze_organization(freeze).await.unwrap();
    refused(admin.mandates.get_mandate_token(request).await, "ORGANIZATION_FROZEN");
    let unfreeze = v1::UnfreezeOrganizationRequest {};
    admin.organization.unfreeze_organization(unfreeze).await.unwrap();
    token(&mut admin, &agent_id).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_for_no_time_outside_of_its_mandates_validity() {
    let server = Server::start().await;
    let mut admin = server.admin().await;
    let now = SystemClock.now();
    let until = now + SignedDuration::from_mins(10);
    let (agent, id) = agent_with_ending_mandate(&mut admin, until).await;
    let keys = public_keys(&mut admin).await;
    let issued = token(&mut admin, &agent).await;
    let claims = verify(&issued.token, &keys).unwrap();
    assert!(claims["exp"].as_i64().unwrap() <= until.as_second());
    assert!(claims["exp"].as_i64().unwrap() >= until.as_second() - 1);
    let expires_at = issued.expires_at.unwrap();
    assert!(
        (expires_at.seconds, expires_at.nanos) <= (until.as_second(), until.subsec_nanosecond())
    );
    // One that is in force later only is not good before.
    let later = now + SignedDuration::from_mins(5);
    let change = |request: &mut v1::UpdateMandateRequest| request.valid_from = Some(message(later));
    updated(admin.update(&id, &["valid_from"], change).await);
    let issued = token(&mut admin, &agent).await.token;
    assert!(verify(&issued, &keys).is_err(), "it is good before its mandate is");
    server.stop().await;
}
