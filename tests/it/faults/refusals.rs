//! What is refused, when Postgres is not as it must be: at the start with a sentence that names the
//! cure, at work with an error in time, and never with an approval.
//!
//! Not here: what becomes of calls while Postgres comes and goes (`faults`).

use std::fs;
use std::time::{Duration, Instant};

use quetra::proto::v1;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::cluster::{Cluster, Site};
use crate::checker;
use crate::checker::books::Books;
use crate::harness::{Clients, ask, budget, link};
use crate::process::Process;

/// The server's own limit of a call (`Site`), and some time for a busy machine.
const IN_TIME: Duration = Duration::from_secs(6);

/// Longer than anything: who answers in time is the server, not the client.
const CLIENT_TIME: Duration = Duration::from_secs(60);

fn connect(server: &Process, site: &Site) -> Clients {
    let endpoint = Endpoint::from_shared(server.url.clone()).unwrap().timeout(CLIENT_TIME);
    Clients::new(link(endpoint.connect_lazy(), &site.key))
}

fn end(server: &mut Process) {
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.errors());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_must_not_be_used_is_refused_with_what_to_do() {
    let cluster = Cluster::new().await;
    let site = Site::new(&cluster.url);
    for (setting, says) in [
        ("fsync=off", "fsync = off"),
        ("synchronous_commit=off", "synchronous_commit = off"),
        ("default_transaction_read_only=on", "default_transaction_read_only"),
    ] {
        cluster.stop();
        cluster.start(&[setting]);
        let said = site.refused();
        assert!(said.contains(says) && said.contains("turn it"), "{setting}: {said}");
    }
    cluster.stop();
    let signal = cluster.data.join("standby.signal");
    fs::write(&signal, "").unwrap();
    cluster.start(&[]);
    let said = site.refused();
    assert!(said.contains("standby") && said.contains("name the primary"), "{said}");
    cluster.stop();
    let said = site.refused();
    assert!(said.contains("open the database"), "{said}");
    fs::remove_file(&signal).unwrap();
    cluster.start(&[]);

    // And one that runs, but whose schema is another server's.
    let url = &cluster.url;
    let applied = "UPDATE _sqlx_migrations SET version = version";
    cluster.run(url, &format!("{applied} + 1000 WHERE version = 1")).await;
    let said = site.refused();
    assert!(said.contains("newer than this server"), "{said}");
    cluster.run(url, &format!("{applied} - 1000 WHERE version = 1001")).await;
    cluster.run(url, "UPDATE _sqlx_migrations SET success = false WHERE version = 1").await;
    let said = site.refused();
    assert!(said.contains("run `quetra migrate`"), "{said}");
    cluster.run(url, "UPDATE _sqlx_migrations SET success = true").await;
    end(&mut site.serve("server.log"));
}

/// What breaks Postgres under a server that runs, and what mends it.
const BROKEN: [(&str, &str, &str); 4] = [
    (
        "a setting that forgets",
        "ALTER SYSTEM SET synchronous_commit = off",
        "ALTER SYSTEM RESET synchronous_commit",
    ),
    ("another setting that forgets", "ALTER SYSTEM SET fsync = off", "ALTER SYSTEM RESET fsync"),
    (
        "read-only",
        "ALTER SYSTEM SET default_transaction_read_only = on",
        "ALTER SYSTEM RESET default_transaction_read_only",
    ),
    (
        "full",
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON spend FOR EACH ROW EXECUTE FUNCTION full_disk()",
        "DROP TRIGGER full_disk ON spend; DROP FUNCTION full_disk()",
    ),
];

async fn reload(cluster: &Cluster, sql: &str) {
    // What changes settings needs a session that may write.
    let url = format!("{}?options[default_transaction_read_only]=off", cluster.url);
    cluster.run(&url, sql).await;
    cluster.run(&url, "SELECT pg_reload_conf()").await;
}

/// Asks until the answer is as expected; sessions learn of a setting when they are idle.
async fn until(
    calls: &mut Clients,
    request: &v1::EvaluateRequest,
    expected: impl Fn(&Result<v1::EvaluateResponse, Status>) -> bool,
) -> Result<v1::EvaluateResponse, Status> {
    let until = Instant::now() + IN_TIME;
    loop {
        let answer =
            calls.evaluate.evaluate(request.clone()).await.map(tonic::Response::into_inner);
        if expected(&answer) {
            return answer;
        }
        assert!(Instant::now() < until, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What `/readyz` says.
async fn readiness(server: &Process) -> (u16, String) {
    let said = reqwest::get(format!("{}/readyz", server.url)).await.unwrap();
    (said.status().as_u16(), said.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_turns_bad_at_work_approves_nothing_until_it_is_mended() {
    let cluster = Cluster::new().await;
    let site = Site::new(&cluster.url);
    let mut server = site.serve("server.log");
    let mut calls = connect(&server, &site);
    let (agent, _) = calls.agent_with_mandate(budget(1_000_000, 1_000), vec![]).await;
    for (what, broken, mended) in BROKEN {
        calls.spend(ask(&agent, 1)).await;
        reload(&cluster, broken).await;
        // The first may still be an approval of a session that has not heard of it; from the first
        // refusal on there is none.
        let refused = until(&mut calls, &ask(&agent, 1), Result::is_err).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{what}: {refused:?}");
        assert!(refused.message().contains("not available"), "{what}: {refused:?}");
        let request = ask(&agent, 1);
        let mut ready = Vec::new();
        for _ in 0..5 {
            let answer = calls.evaluate.evaluate(request.clone()).await;
            assert_eq!(answer.unwrap_err().code(), Code::Unavailable, "{what}");
            ready.push(readiness(&server).await);
        }
        // What is tried now and then may work where recording a decision does not.
        assert!(ready.iter().any(|(status, _)| *status == 503), "{what}: {ready:?}");
        let why = "the database takes no writes: its disk may be full, or it is read-only\n";
        assert!(ready.iter().all(|(status, said)| *status == 200 || said == why), "{ready:?}");
        reload(&cluster, mended).await;
        if what == "read-only" {
            // Without a call that would find out.
            let until = Instant::now() + IN_TIME;
            while readiness(&server).await.0 != 200 {
                assert!(Instant::now() < until, "{what}: it stays not ready");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let answer = until(&mut calls, &request, Result::is_ok).await.unwrap();
        assert!(!answer.replayed, "{what}: it was decided while it was refused");
        assert_eq!(readiness(&server).await, (200, "ready\n".to_owned()), "{what}");
    }
    end(&mut server);
    checker::acquit(&checker::of_books(&Books::of_server(&site.database).await));
}

/// The error of a call that took no longer than it may.
async fn in_time<T>(what: &str, call: impl Future<Output = Result<T, Status>>) {
    let began = Instant::now();
    let Err(status) = call.await else { panic!("{what} was answered without a database") };
    let took = began.elapsed();
    assert!(took < IN_TIME, "{what}: {took:?}");
    let is_refusal = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded);
    assert!(is_refusal, "{what}: {status:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgres_hangs_every_call_ends_in_time_and_none_approves() {
    let cluster = Cluster::new().await;
    let site = Site::new(&cluster.url);
    let mut server = site.serve("server.log");
    let mut calls = connect(&server, &site);
    let (agent_id, _) = calls.agent_with_mandate(budget(1_000_000, 1_000), vec![]).await;
    let transaction_id = calls.spend(ask(&agent_id, 7)).await.transaction_id;
    let asked = ask(&agent_id, 1);
    cluster.signal("STOP");
    let [mut a, mut b, mut c, mut d, mut e] = std::array::from_fn(|_| calls.clone());
    let budget = v1::GetBudgetRequest { agent_id: agent_id.clone(), ..Default::default() };
    let void = v1::VoidTransactionRequest { transaction_id };
    let agents = v1::ListAgentsRequest::default();
    let register = v1::RegisterAgentRequest { name: "late".to_owned(), ..Default::default() };
    tokio::join!(
        in_time("evaluate", a.evaluate.evaluate(asked.clone())),
        in_time("get budget", b.budget.get_budget(budget)),
        in_time("void", c.transactions.void_transaction(void)),
        in_time("list agents", d.agents.list_agents(agents)),
        in_time("register", e.agents.register_agent(register)),
    );
    let began = Instant::now();
    let ready = reqwest::get(format!("{}/readyz", server.url)).await.unwrap();
    assert_eq!(ready.status().as_u16(), 503);
    assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
    cluster.signal("CONT");
    let answer = until(&mut calls, &asked, Result::is_ok).await.unwrap();
    assert_eq!(answer.decision(), v1::Decision::Approved);
    end(&mut server);
    checker::acquit(&checker::of_books(&Books::of_server(&site.database).await));
}

/// Longer than the server lets a statement take.
const LONGER_THAN_A_STATEMENT: Duration = Duration::from_millis(10_800);

const WAITS: &str = "SELECT count(*)::text FROM pg_stat_activity
    WHERE application_name = 'quetra' AND wait_event = 'SyncRep'";

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_no_standby_has_confirmed_is_never_taken_for_done() {
    let cluster = Cluster::new().await;
    let site = Site::new(&cluster.url);
    let mut server = site.serve("server.log");
    let mut calls = connect(&server, &site);
    let (agent, _) = calls.agent_with_mandate(budget(1_000_000, 1_000), vec![]).await;
    reload(&cluster, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    let request = ask(&agent, 1);
    let began = Instant::now();
    in_time("evaluate", calls.evaluate.evaluate(request.clone())).await;
    // Postgres ends the wait of a statement that takes too long, and reports the commit as done.
    tokio::time::sleep(LONGER_THAN_A_STATEMENT.saturating_sub(began.elapsed())).await;
    assert_ne!(cluster.ask(WAITS).await, "0", "the commit does not wait any more");
    // It would be found in the record.
    in_time("evaluate", calls.evaluate.evaluate(request.clone())).await;
    reload(&cluster, "ALTER SYSTEM RESET synchronous_standby_names").await;
    let answer = until(&mut calls, &request, Result::is_ok).await.unwrap();
    assert_eq!(answer.decision(), v1::Decision::Approved);
    assert!(answer.replayed, "it was decided twice");
    end(&mut server);
    checker::acquit(&checker::of_books(&Books::of_server(&site.database).await));
}
