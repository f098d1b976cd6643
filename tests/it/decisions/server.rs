//! Runs vectors against a real server, whose clock goes through all of them at once.
//!
//! Made and managed by REST as published; decided by gRPC, foretold by REST, and repeated by REST
//! and by JSON, which must all say the same. Not here: the pure core.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use quetra::clock::ManualClock;
use quetra::forms::{EvaluateView, SpendForm};
use quetra::proto::v1;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::country_file;
use super::vector::{AgentWord, Answer, MandateWord, Past, Then, Vector};
use crate::harness::{Clients, Folder, Server};

/// What happens to one vector at one time.
enum Event<'a> {
    Begin,
    Past(usize, &'a Past),
    Ask,
}

/// One vector on the server.
struct Run<'a> {
    vector: &'a Vector,
    agent_id: String,
    mandate_id: String,
}

struct World {
    server: Server,
    clock: Arc<ManualClock>,
    http: reqwest::Client,
    clients: Clients,
    timezone: String,
}

/// Runs vectors that all see the same country of their caller.
pub(super) async fn run(vectors: &[&Vector], caller: Option<&str>, wrong: &mut Vec<String>) {
    let mut events = Vec::new();
    for (index, vector) in vectors.iter().enumerate() {
        events.push((vector.starts_at(), index, Event::Begin));
        let past = vector.history.iter().enumerate();
        events.extend(past.map(|(place, past)| (past.at, index, Event::Past(place, past))));
        events.push((vector.at, index, Event::Ask));
    }
    // Stable: of one time, the vectors one after the other, each in its own order.
    events.sort_by_key(|(at, index, _)| (*at, *index));
    let mut world = World::start(events[0].0, caller).await;
    let mut runs = vectors.iter().map(|vector| Run::new(vector)).collect::<Vec<_>>();
    for (at, index, event) in events {
        world.clock.set(at);
        let run = &mut runs[index];
        world.move_to(&run.vector.organization.timezone).await;
        match event {
            Event::Begin => world.begin(run, index).await,
            Event::Past(place, past) => world.past(run, (index, place), past, wrong).await,
            Event::Ask => world.ask(run, index, wrong).await,
        }
    }
    world.server.stop().await;
}

impl<'a> Run<'a> {
    fn new(vector: &'a Vector) -> Self {
        Self { vector, agent_id: String::new(), mandate_id: String::new() }
    }

    /// The published body of a spend, whole.
    fn body(&self, spend: &Value, key: &str) -> Value {
        let mut body = spend.clone();
        body["agentId"] = json!(self.agent_id);
        body["idempotencyKey"] = json!(key);
        if self.vector.named {
            body["mandateId"] = json!(self.mandate_id);
        }
        body
    }

    fn request(&self, spend: &Value, key: &str) -> v1::EvaluateRequest {
        let form: SpendForm = serde_json::from_value(spend.clone()).unwrap();
        let mut request = form.into_evaluate();
        request.agent_id.clone_from(&self.agent_id);
        key.clone_into(&mut request.idempotency_key);
        if self.vector.named {
            request.mandate_id.clone_from(&self.mandate_id);
        }
        if request.currency.is_empty() {
            let mandate = self.vector.mandate.as_ref();
            let currency = mandate.and_then(|mandate| mandate["budget"]["currency"].as_str());
            request.currency = currency.unwrap_or("USD").to_owned();
        }
        request
    }
}

impl World {
    async fn start(at: Timestamp, caller: Option<&str>) -> Self {
        let clock = Arc::new(ManualClock::new(at - SignedDuration::from_hours(1)));
        let files = Folder::new();
        let countries = caller.map(|country| {
            let path = files.path().join("countries.mmdb");
            country_file::write(&path, country);
            path
        });
        let server = Server::with(|config| config.geo_database = countries, clock.clone()).await;
        let clients = server.admin().await;
        let timezone = "UTC".to_owned();
        Self { server, clock, http: reqwest::Client::new(), clients, timezone }
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let key = &self.server.first.admin_key;
        let url = format!("{}{path}", self.server.url());
        let request = self.http.request(method, url).bearer_auth(key).json(body);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json().await.unwrap_or_default())
    }

    async fn done(&self, method: Method, path: &str, body: &Value) -> Value {
        let (status, answer) = self.send(method, &format!("/api/v1{path}"), body).await;
        assert!(status < 300, "{path}: {status} {answer}");
        answer
    }

    async fn post(&self, path: &str) {
        self.done(Method::POST, path, &json!({})).await;
    }

    async fn move_to(&mut self, timezone: &str) {
        if self.timezone != timezone {
            self.done(Method::PATCH, "/organization", &json!({ "timezone": timezone })).await;
            timezone.clone_into(&mut self.timezone);
        }
    }

    async fn begin(&self, run: &mut Run<'_>, index: usize) {
        let agent = json!({ "name": format!("agent {index}") });
        let agent = self.done(Method::POST, "/agents", &agent).await;
        run.agent_id = agent["id"].as_str().unwrap().to_owned();
        let Some(mut mandate) = run.vector.mandate.clone() else { return };
        mandate["agentId"] = agent["id"].clone();
        let mandate = self.done(Method::POST, "/mandates", &mandate).await;
        run.mandate_id = mandate["id"].as_str().unwrap().to_owned();
        if run.vector.in_force() {
            self.post(&format!("/mandates/{}/activate", run.mandate_id)).await;
        }
    }

    async fn past(
        &self,
        run: &Run<'_>,
        (index, place): (usize, usize),
        past: &Past,
        wrong: &mut Vec<String>,
    ) {
        let body = run.body(&past.spend, &format!("past-{index}-{place}"));
        let (_, answer) = self.send(Method::POST, "/api/v1/gateway/evaluate", &body).await;
        if answer["decision"] != past.decision {
            wrong.push(format!("{}: in its history {answer}", run.vector.name));
            return;
        }
        let path = format!("/transactions/{}", answer["transactionId"].as_str().unwrap());
        for then in &past.then {
            let (verb, body) = match *then {
                Then::Settle { amount } => ("settle", json!({ "amount": amount })),
                Then::Void {} => ("void", json!({})),
                Then::Refund { amount: None } => ("refund", json!({})),
                Then::Refund { amount } => ("refund", json!({ "amount": amount })),
            };
            self.done(Method::POST, &format!("{path}/{verb}"), &body).await;
        }
    }

    /// What happens between the history and the spend.
    async fn change(&self, run: &Run<'_>) {
        let mandate = format!("/mandates/{}", run.mandate_id);
        if let Some(change) = &run.vector.budget_change {
            self.done(Method::PATCH, &format!("{mandate}/budget"), change).await;
        }
        match run.vector.mandate_status {
            MandateWord::Draft | MandateWord::Active => {}
            MandateWord::Paused => self.post(&format!("{mandate}/pause")).await,
            MandateWord::Revoked => self.post(&format!("{mandate}/revoke")).await,
        }
        let agent = format!("/agents/{}", run.agent_id);
        match run.vector.agent_status {
            AgentWord::Active => {}
            AgentWord::Suspended => self.post(&format!("{agent}/suspend")).await,
            AgentWord::Decommissioned => {
                self.done(Method::DELETE, &agent, &json!({})).await;
            }
        }
        if run.vector.organization.frozen {
            self.post("/organization/freeze").await;
        }
    }

    async fn ask(&mut self, run: &Run<'_>, index: usize, wrong: &mut Vec<String>) {
        self.change(run).await;
        let (vector, key) = (run.vector, format!("final-{index:04}"));
        let body = run.body(&vector.spend, &key);
        let who = |way: &str| format!("{} ({way})", vector.name);

        let (status, told) = self.send(Method::POST, "/api/v1/gateway/can-spend", &body).await;
        assert_eq!(status, 200, "{}: {told}", vector.name);
        vector.expect.compare_rules(&who("can-spend"), &read(&told), wrong);

        let request = run.request(&vector.spend, &key);
        let decided = self.clients.evaluate.evaluate(request).await;
        let decided = decided.unwrap_or_else(|error| panic!("{}: {error}", vector.name));
        let decided = decided.into_inner();
        let decided_at = decided.decided_at.unwrap();
        let decided_at = Timestamp::new(decided_at.seconds, decided_at.nanos).unwrap();
        assert_eq!((decided_at, decided.replayed), (vector.at, false), "{}", vector.name);
        let first = serde_json::to_value(EvaluateView::from(decided)).unwrap();
        vector.expect.compare(&who("grpc"), &read(&first), wrong);

        let (status, again) = self.send(Method::POST, "/api/v1/gateway/evaluate", &body).await;
        let expected = match vector.expect.decision.as_str() {
            "approved" => 200,
            "pending_approval" => 202,
            _ => 403,
        };
        if status != expected || again["replayed"] != true {
            wrong.push(format!("{}: {status} {again}", vector.name));
        }
        for field in ["decision", "evaluations", "reasons", "explanation", "transactionId"] {
            assert_eq!(again[field], first[field], "{}: {field}", vector.name);
        }
        vector.expect.compare(&who("rest"), &read(&again), wrong);

        let lookup = json!({ "agentId": run.agent_id, "idempotencyKey": key });
        let path = "/quetra.v1.EvaluateService/LookupDecision";
        let (status, found) = self.send(Method::POST, path, &lookup).await;
        assert_eq!(status, 200, "{}: {found}", vector.name);
        let found = found.to_string();
        for part in [&first["transactionId"], &first["explanation"]] {
            assert!(found.contains(&part.to_string()), "{}: {part} in {found}", vector.name);
        }
        if vector.organization.frozen {
            self.post("/organization/unfreeze").await;
        }
    }
}

fn read(body: &Value) -> Answer {
    Answer::deserialize(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}
