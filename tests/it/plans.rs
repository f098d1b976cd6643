//! What a server reads of a large database: for no call it reads a table from end to end, although
//! row-level security adds a condition to every statement.
//!
//! Postgres itself counts how often a table was read as a whole. Not here: how long calls take (the
//! benchmark).

use std::sync::Arc;

use quetra::clock::SystemClock;
use quetra::config::DatabaseUrl;
use quetra::proto::v1::{self, Decision};
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use crate::harness::postgres::as_owner;
use crate::harness::{Clients, Engine, Server, ask, budget};

/// Another organization with so much of everything that no table is small enough to be read as a
/// whole, and the statistics of a database that vacuums itself.
const ANOTHER: &str = "
CREATE TEMPORARY TABLE one AS SELECT '\\x99999999999999999999999999999999'::bytea AS org;
CREATE TEMPORARY TABLE other AS SELECT number AS seq, one.org,
    decode(lpad(to_hex(number), 32, '0'), 'hex') AS id FROM one, generate_series(1, 8000) number;
INSERT INTO organization SELECT one.org, 'another', false, 1, document FROM organization, one;
INSERT INTO agent SELECT id, org, 'agent ' || seq, 'active', NULL, 1, '{}' FROM other;
INSERT INTO mandate SELECT id, org, id, 'active', 2, '{}' FROM other;
INSERT INTO mandate_version SELECT id, 1, org, '{}' FROM other;
INSERT INTO api_key SELECT id, org, id, 'agent', sha256(id), NULL, NULL, NULL, '{}' FROM other;
INSERT INTO receipt SELECT org, 'key ' || seq, id, '{}', 0 FROM other;
INSERT INTO counter SELECT org, id, 'b:none', 0, 9223372036854775807, 1, 0 FROM other;
INSERT INTO spend SELECT org, seq, id, id, id, 0, 0, 'approved', 'approved', 1, NULL, NULL,
    'USD', 'a.com', NULL, 'key', id, 0, 0, '{}' FROM other;
UPDATE ledger_head SET seq = 8000 FROM one WHERE org_id = org;
VACUUM ANALYZE";

/// Takes it away again: rows that nothing has led to would not pass the checker.
const NOBODY: &str = "
DELETE FROM spend USING one WHERE org_id = org;
DELETE FROM spend_by_id USING one WHERE org_id = org;
DELETE FROM counter USING one WHERE org_id = org;
DELETE FROM receipt USING one WHERE org_id = org;
DELETE FROM api_key USING one WHERE org_id = org;
DELETE FROM mandate_version USING one WHERE org_id = org;
DELETE FROM mandate USING one WHERE org_id = org;
DELETE FROM agent USING one WHERE org_id = org;
DELETE FROM journal USING one WHERE org_id = org;
DELETE FROM journal_head USING one WHERE org_id = org;
DELETE FROM ledger_head USING one WHERE org_id = org;
DELETE FROM organization USING one WHERE id = org";

/// Reads a table as a whole, by a session without a server's settings: shows that Postgres counts.
const CONTROL: &str = "SELECT count(*) FROM organization;
SELECT pg_stat_force_next_flush()";

/// Tables that grow; those with a row or two for each organization are small here.
const READ_WHOLE: &str = "SELECT relname::text FROM pg_stat_user_tables
    WHERE seq_scan > 0 AND (relname LIKE 'spend%' OR relname IN ('agent', 'mandate',
        'mandate_version', 'api_key', 'receipt', 'counter', 'organization')) ORDER BY 1";

async fn run(owner: &mut PgConnection, sql: &str) {
    for statement in sql.split(";\n") {
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        sqlx::raw_sql(statement).execute(&mut *owner).await.unwrap();
    }
}

/// Decides in windows and caps, gives back, and changes the mandate.
async fn spend(admin: &mut Clients) -> (String, String) {
    let rate = v1::RateLimitRule { max_transactions: 1_000, window_minutes: 60 };
    let cap = v1::VendorCapRule {
        vendor: "firecrawl.dev".to_owned(),
        amount: 10_000,
        period: v1::Period::Monthly.into(),
    };
    let kinds = [v1::rule::Kind::RateLimit(rate), v1::rule::Kind::VendorCap(cap)];
    let rules = kinds.map(|kind| v1::Rule { kind: Some(kind) }).to_vec();
    let (agent_id, mandate_id) = admin.agent_with_mandate(budget(10_000, 100), rules).await;
    for round in 0..40 {
        let asked = ask(&agent_id, 2);
        let answer = admin.spend(asked.clone()).await;
        assert_eq!(answer.decision(), Decision::Approved);
        assert!(admin.spend(asked).await.replayed);
        let transaction_id = answer.transaction_id;
        match round % 4 {
            0 => {
                let request = v1::VoidTransactionRequest { transaction_id };
                drop(admin.transactions.void_transaction(request).await.unwrap());
            }
            1 => {
                let amount = Some(1);
                let request = v1::SettleTransactionRequest { transaction_id, amount };
                drop(admin.transactions.settle_transaction(request).await.unwrap());
            }
            2 => {
                let total = Some(10_000 + round);
                let mandate_id = mandate_id.clone();
                let request = v1::UpdateBudgetRequest { mandate_id, total, ..Default::default() };
                drop(admin.mandates.update_budget(request).await.unwrap());
            }
            _ => {
                let request = v1::GetTransactionRequest { transaction_id, wait_seconds: 0 };
                drop(admin.transactions.get_transaction(request).await.unwrap());
            }
        }
    }
    (agent_id, mandate_id)
}

/// Asks for every list, with every filter that is a query of its own.
async fn list(admin: &mut Clients, agent_id: &str, mandate_id: &str) {
    let (agent, mandate) = (agent_id.to_owned(), mandate_id.to_owned());
    let budget = v1::GetBudgetRequest { agent_id: agent.clone(), ..Default::default() };
    assert!(admin.budget.get_budget(budget).await.unwrap().into_inner().budget.is_some());
    let since = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    let page = Some(v1::PageRequest { page_size: 10, ..Default::default() });
    let all = v1::ListTransactionsRequest { page, ..Default::default() };
    for request in [
        all.clone(),
        v1::ListTransactionsRequest { agent_id: agent.clone(), ..all.clone() },
        v1::ListTransactionsRequest { mandate_id: mandate.clone(), ..all.clone() },
        v1::ListTransactionsRequest { since, ..all.clone() },
        v1::ListTransactionsRequest { decision: Decision::Approved.into(), ..all },
    ] {
        let listed = admin.transactions.list_transactions(request).await.unwrap().into_inner();
        assert_eq!(listed.transactions.len(), 10);
    }
    let agents = admin.agents.list_agents(v1::ListAgentsRequest::default()).await.unwrap();
    assert!(!agents.into_inner().agents.is_empty());
    for agent_id in [String::new(), agent] {
        let request = v1::ListMandatesRequest { agent_id, ..Default::default() };
        let mandates = admin.mandates.list_mandates(request).await.unwrap().into_inner();
        assert!(!mandates.mandates.is_empty());
    }
    let keys = v1::ListApiKeysRequest::default();
    let keys = admin.organization.list_api_keys(keys).await.unwrap().into_inner();
    assert!(!keys.api_keys.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_reads_a_table_from_end_to_end() {
    let first = Server::on(Engine::Postgres).await;
    let DatabaseUrl::Postgres(url) = first.database() else { panic!("not on Postgres") };
    let mut owner = PgConnection::connect(&as_owner(url.expose())).await.unwrap();
    let server = first.replica(Arc::new(SystemClock)).await;
    run(&mut owner, ANOTHER).await;
    // It has read tables that were small then.
    first.end().await;
    run(&mut owner, "SELECT pg_stat_reset()").await;
    let mut admin = server.admin().await;
    for _ in 0..6 {
        let (agent, mandate) = spend(&mut admin).await;
        list(&mut admin, &agent, &mandate).await;
    }
    // The last of what sessions have counted is known when they have ended; the checker, which
    // reads everything, comes after that.
    let whole = server.stop_and(async || {
        run(&mut owner, CONTROL).await;
        let read = sqlx::query_scalar::<_, String>(READ_WHOLE).fetch_all(&mut owner).await;
        run(&mut owner, NOBODY).await;
        read.unwrap()
    });
    let whole = whole.await;
    assert_eq!(whole, ["organization"], "read as a whole");
    owner.close().await.unwrap();
}
