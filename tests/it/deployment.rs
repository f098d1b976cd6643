//! `docker-compose.yml`, `Dockerfile` and the front's settings, held against the product as far as
//! that goes without a container engine: `HAProxy` itself runs in front of two real servers.
//!
//! Not here: the images, which nobody builds in a test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quetra::clock::SystemClock;
use quetra::config::{DurabilityLevel, Key, RedisConfig, Secret, ServerConfig};
use quetra::proto::v1::{Decision, Durability};
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::Channel;

use crate::faults::cluster::{Cluster, Site};
use crate::harness::redis::Redis;
use crate::harness::{Clients, Engine, Folder, Server, ask, budget, link, shared_database};
use crate::process::quetra;
use crate::tidy::{read, root};

/// How long the front may take to find its servers, and to notice that one is gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long callers may be without any answer while one of two servers ends.
const NOTICED: Duration = Duration::from_secs(2);

fn compose() -> Value {
    serde_saphyr::from_str(&read("docker-compose.yml")).unwrap()
}

fn service(name: &str) -> Value {
    let service = compose()["services"][name].take();
    assert!(service.is_object(), "there is no service {name}");
    service
}

#[test]
fn the_servers_are_given_settings_that_they_accept() {
    let folder = Folder::new();
    let key_file = folder.path().join("master.key");
    std::fs::write(&key_file, (0..32_u8).collect::<Vec<_>>()).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key_file, mode).unwrap();

    for name in ["one", "two"] {
        let settings = service(name)["environment"].take();
        let mut command = quetra(&["config"]);
        for (variable, value) in settings.as_object().unwrap() {
            assert!(Key::ALL.iter().any(|key| key.variable() == *variable), "{variable}");
            let value = value.as_str().unwrap_or_else(|| panic!("{variable} is no text"));
            // What compose puts in.
            let value = match value.split_once("${SERVER_PASSWORD:?") {
                Some((before, rest)) => {
                    format!("{before}hunter2{}", rest.split_once('}').unwrap().1)
                }
                None => value.to_owned(),
            };
            command.env(variable, value);
        }
        command.env("QUETRA_MASTER_KEY_FILE", &key_file);
        let said = command.output().unwrap();
        let (out, errors) = (text(&said.stdout), text(&said.stderr));
        assert!(said.status.success(), "{out}{errors}");
        assert!(!out.contains("hunter2"), "{out}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_has_the_settings_with_which_a_server_keeps_what_it_promises_by_default() {
    let command = service("redis")["command"].take();
    let words = command.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned());
    let words = words.collect::<Vec<_>>();
    assert_eq!(words[0], "redis-server");
    assert!(service("redis")["volumes"].is_array(), "it would forget");
    let redis = Redis::start_with(&words[1..]);
    let database = shared_database().await;
    let change = |config: &mut ServerConfig| {
        config.database = database;
        let url = Secret::new(redis.url());
        config.redis = Some(RedisConfig { url, level: DurabilityLevel::Durable });
    };
    let server = Server::with(change, Arc::new(SystemClock)).await;
    let mut admin = server.admin().await;
    let (agent, _) = admin.agent_with_mandate(budget(100, 10), Vec::new()).await;
    let answer = admin.spend(ask(&agent, 5)).await;
    assert_eq!((answer.decision(), answer.durability()), (Decision::Approved, Durability::Durable));
    server.stop().await;
}

#[test]
fn nothing_but_the_front_is_reached_from_outside_and_only_from_this_machine() {
    let compose = compose();
    for (name, service) in compose["services"].as_object().unwrap() {
        let networks = &service["networks"];
        if name == "front" {
            assert_eq!(service["ports"], json!(["127.0.0.1:7070:7070"]));
        } else {
            assert!(service["ports"].is_null(), "{name} is published");
            assert_eq!(*networks, json!(["inside"]), "{name}");
        }
        let is_ours = service["image"] == "quetra" || name == "front";
        assert_eq!(service["read_only"] == true && service["cap_drop"] == json!(["ALL"]), is_ours);
    }
    assert_eq!(compose["networks"]["inside"]["internal"], true);
    let settings = &compose["services"]["postgres"]["environment"];
    for (name, given) in
        [("POSTGRES_PASSWORD", "POSTGRES_PASSWORD"), ("QUETRA_SERVER_PASSWORD", "SERVER_PASSWORD")]
    {
        let password = settings[name].as_str().unwrap();
        assert!(password.starts_with(&format!("${{{given}:?")), "{password}");
    }
    let database = &compose["services"]["postgres"];
    assert!(database["volumes"].is_array(), "the database would forget");
    assert!(database["command"].to_string().contains("\"fsync=on\""), "{}", database["command"]);
}

#[test]
fn the_image_is_built_from_what_there_is_and_runs_as_nobody() {
    let (file, ignored) = (read("Dockerfile"), read(".dockerignore"));
    let manifest = read("Cargo.toml");
    // What the manifest names must be there, even where it is not built.
    for path in manifest.lines().filter_map(|line| line.strip_prefix("path = ")) {
        let path = path.trim_matches('"');
        let copied = |line: &str| {
            let source = line.strip_prefix("COPY ").and_then(|line| line.split(' ').next());
            source.is_some_and(|source| path.starts_with(&format!("{source}/")))
        };
        assert!(file.lines().any(copied), "{path} is not copied");
    }
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
    assert!(file.contains(&format!("FROM rust:{}-slim", rust.trim_matches('"'))));
    let copies = file.lines().filter_map(|line| line.strip_prefix("COPY "));
    for copy in copies.filter(|copy| !copy.starts_with("--from")) {
        let words = copy.split(' ').collect::<Vec<_>>();
        for source in &words[..words.len() - 1] {
            assert!(root().join(source).exists(), "{source} is not there");
            assert!(ignored.lines().any(|line| line == format!("!{source}")), "{source}");
        }
    }
    let (_, last) = file.rsplit_once("\nFROM ").unwrap();
    for line in ["USER 10001:10001", "HEALTHCHECK", "ENTRYPOINT [\"quetra\"]", "CMD [\"serve\"]"] {
        assert!(last.contains(line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_the_database_is_made_with_is_all_that_a_server_needs() {
    let cluster = Cluster::new().await;
    let rest = cluster.url.strip_prefix("postgres://").unwrap();
    let (who, place) = rest.split_once('@').unwrap();
    let ((user, password), (address, name)) =
        (who.split_once(':').unwrap(), place.split_once('/').unwrap());
    let (host, port) = address.split_once(':').unwrap();
    let made = Command::new(root().join("deploy/roles.sh"))
        .env("PGHOST", host)
        .env("PGPORT", port)
        .env("PGPASSWORD", password)
        .env("POSTGRES_USER", user)
        .env("POSTGRES_DB", name)
        .env("QUETRA_SERVER_PASSWORD", "it's \"quoted\"")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));

    let words = service("schema")["command"].take();
    let words = words.as_array().unwrap().iter().map(|word| word.as_str().unwrap());
    let mut migrate = quetra(&words.collect::<Vec<_>>());
    let migrated = migrate.args(["--database-url", &cluster.url]).output().unwrap();
    assert!(migrated.status.success(), "{}", text(&migrated.stderr));
    let url = format!("postgres://quetra_server:it%27s%20%22quoted%22@{place}");
    assert!(Site::new(&url).key.starts_with("sk_admin_"));
}

/// `HAProxy` as the compose file has it, in front of these servers.
struct Front {
    process: Child,
    url: String,
}

impl Front {
    async fn start(one: &Server, two: &Server) -> Self {
        if Command::new("haproxy").arg("-v").stdout(Stdio::null()).status().is_err() {
            let packages = Command::new(root().join("tests/packages")).arg("haproxy").status();
            assert!(packages.unwrap().success(), "this test needs HAProxy, and there is none");
        }
        let server = |server: &Server| server.url().split_off("http://".len());
        let until = Instant::now() + PATIENCE;
        loop {
            // Somebody else may take the port meanwhile; then the process ends at once.
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap().to_string();
            drop(free);
            let process = Command::new("haproxy")
                .arg("-db")
                .arg("-f")
                .arg(root().join("deploy/haproxy.cfg"))
                .env("QUETRA_FRONT", &address)
                .env("QUETRA_ONE", server(one))
                .env("QUETRA_TWO", server(two))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut front = Self { process, url: format!("http://{address}") };
            while front.process.try_wait().unwrap().is_none() {
                if front.status("/readyz").await == Some(200) {
                    return front;
                }
                assert!(Instant::now() < until, "the front does not find its servers");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert!(Instant::now() < until, "the front does not start");
        }
    }

    async fn status(&self, path: &str) -> Option<u16> {
        let answer = reqwest::get(format!("{}{path}", self.url)).await.ok()?;
        Some(answer.status().as_u16())
    }

    async fn clients(&self, key: &str) -> Clients {
        let channel = Channel::from_shared(self.url.clone()).unwrap().connect().await.unwrap();
        Clients::new(link(channel, key))
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_protocol_goes_through_the_front_and_a_server_that_ends_is_hardly_noticed() {
    let one = Server::on(Engine::Postgres).await;
    let two = one.replica(Arc::new(SystemClock)).await;
    let front = Front::start(&one, &two).await;

    let mut admin = front.clients(&one.first.admin_key).await;
    let (agent, _) = admin.agent_with_mandate(budget(1_000_000, 1_000), Vec::new()).await;
    assert_eq!(admin.spend(ask(&agent, 5)).await.decision(), Decision::Approved);
    let rest = json!({"agentId": agent, "amount": 7, "currency": "USD", "vendor": "exa.ai"});
    let answer = reqwest::Client::new()
        .post(format!("{}/api/v1/gateway/evaluate", front.url))
        .bearer_auth(&one.first.admin_key)
        .json(&rest)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    // What is counted inside is nobody's outside.
    assert_eq!(front.status("/metrics").await, Some(404));
    assert_eq!(reqwest::get(format!("{}/metrics", one.url())).await.unwrap().status(), 200);

    let ends = Arc::new(AtomicBool::new(false));
    let callers = (0..8).map(|_| {
        let (mut client, agent, ends) = (admin.clone(), agent.clone(), Arc::clone(&ends));
        tokio::spawn(async move {
            let (mut approved, mut waited) = (0, Duration::ZERO);
            while !ends.load(Ordering::Relaxed) {
                let (request, asked) = (ask(&agent, 1), Instant::now());
                // The front may have to give a call back that no server took. None breaks off.
                while let Err(status) = client.evaluate.evaluate(request.clone()).await {
                    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                }
                waited = waited.max(asked.elapsed());
                approved += 1;
            }
            (approved, waited)
        })
    });
    let callers = callers.collect::<Vec<_>>();
    tokio::time::sleep(Duration::from_secs(1)).await;
    two.end().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    ends.store(true, Ordering::Relaxed);
    let mut approved = 0;
    for caller in callers {
        let (calls, waited) = caller.await.unwrap();
        assert!(waited < NOTICED, "a caller waited {waited:?}");
        approved += calls;
    }
    assert!(approved > 100, "{approved}");
    drop(front);

    let request = quetra::proto::v1::GetBudgetRequest { agent_id: agent, ..Default::default() };
    let budget = one.admin().await.budget.get_budget(request).await.unwrap().into_inner();
    assert_eq!(budget.budget.unwrap().spent, approved + 12);
    one.stop().await;
}
