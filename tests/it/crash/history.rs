//! What clients saw and what the database has, in a form that the checker can judge.
//!
//! Times are places in one order of all events of the test: a call that completed at 5 came before
//! one that was invoked at 6. Not here: how calls are made (`load`) and judged (`checker`).

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use quetra::proto::v1;
use sqlx::{Row, query};

use crate::harness::ledger_check;

/// One call of one client.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) invoked: u64,
    pub(crate) completed: u64,
    pub(crate) request: Request,
    pub(crate) outcome: Outcome,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Evaluate {
        agent: String,
        key: String,
        amount: i64,
        vendor: String,
    },
    Settle {
        id: String,
        amount: i64,
    },
    Void {
        id: String,
    },
    /// Any change of a mandate: pause, resume, another total.
    Change {
        mandate: String,
    },
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A decision.
    Decided(Decided),
    /// A settlement or void took effect, now or before.
    Resolved,
    /// A mandate stands at this version.
    Changed { version: i64 },
    /// An error that says that nothing happened.
    Failed(String),
    /// No answer, or an error that says nothing about the effect.
    Unknown,
}

/// A decision, as far as every answer for its key must agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) id: String,
    pub(crate) approved: bool,
    pub(crate) version: i64,
    pub(crate) decided_at: i64,
    /// Of everything else that may not differ: results, reasons, explanation, budget.
    pub(crate) digest: u64,
}

impl Decided {
    pub(crate) fn new(answer: &v1::EvaluateResponse) -> Self {
        let at = answer.decided_at.unwrap();
        let mut hasher = DefaultHasher::new();
        let rest = (&answer.mandate_id, &answer.rule_results, &answer.reasons);
        format!("{rest:?} {} {:?}", answer.explanation, answer.budget).hash(&mut hasher);
        Self {
            id: answer.transaction_id.clone(),
            approved: answer.decision() == v1::Decision::Approved,
            version: answer.mandate_version,
            decided_at: at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000,
            digest: hasher.finish(),
        }
    }
}

/// One row of the record.
#[derive(Clone, Debug)]
pub(crate) struct Spend {
    pub(crate) seq: i64,
    pub(crate) id: String,
    pub(crate) agent: String,
    pub(crate) mandate: String,
    pub(crate) version: i64,
    pub(crate) key: String,
    pub(crate) amount: i64,
    pub(crate) vendor: String,
    pub(crate) approved: bool,
    pub(crate) state: String,
    pub(crate) settled: Option<i64>,
    pub(crate) decided_at: i64,
    pub(crate) updated_at: i64,
}

/// What a version of a mandate said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) status: String,
    pub(crate) total: i64,
}

/// What the database has after the last restart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    pub(crate) spends: Vec<Spend>,
    /// By mandate and version.
    pub(crate) terms: HashMap<(String, i64), Terms>,
    /// What each mandate's budget counter says is spent.
    pub(crate) counters: HashMap<String, i64>,
    /// Each mandate's number and sum of approvals.
    pub(crate) tallies: HashMap<String, (i64, i64)>,
}

const SPENDS: &str = "
SELECT seq, lower(hex(id)) AS id, lower(hex(agent_id)) AS agent, lower(hex(mandate_id)) AS mandate,
  evidence ->> '$.mandate' AS version, idempotency_key, amount, vendor,
  verdict, state, settled, decided_at, updated_at
FROM spend ORDER BY seq";

const TERMS: &str = "
SELECT lower(hex(id)) AS mandate, version, document ->> '$.status' AS status,
  document ->> '$.policy.budget.total' AS total FROM mandate
UNION ALL SELECT lower(hex(mandate_id)), version, document ->> '$.status',
  document ->> '$.policy.budget.total' FROM mandate_version";

impl Books {
    /// Reads the database of a stopped server.
    pub(crate) async fn read(database: &Path) -> Self {
        let pool = ledger_check::open(database).await;
        let mut books = Self::default();
        for row in query(SPENDS).fetch_all(&pool).await.unwrap() {
            books.spends.push(Spend {
                seq: row.get("seq"),
                id: format!("tx_{}", row.get::<String, _>("id")),
                agent: row.get("agent"),
                mandate: format!("mdt_{}", row.get::<String, _>("mandate")),
                version: row.get("version"),
                key: row.get("idempotency_key"),
                amount: row.get("amount"),
                vendor: row.get("vendor"),
                approved: row.get::<&str, _>("verdict") == "approved",
                state: row.get("state"),
                settled: row.get("settled"),
                decided_at: row.get("decided_at"),
                updated_at: row.get("updated_at"),
            });
        }
        for row in query(TERMS).fetch_all(&pool).await.unwrap() {
            let key = (format!("mdt_{}", row.get::<String, _>("mandate")), row.get("version"));
            let terms = Terms { status: row.get("status"), total: row.get("total") };
            books.terms.insert(key, terms);
        }
        // A row and what was recorded after it; the checker has compared the row itself.
        let counters = "SELECT lower(hex(mandate_id)) AS mandate, spent + coalesce((
                SELECT sum(CASE state WHEN 'approved' THEN amount WHEN 'settled' THEN settled
                    WHEN 'refunded' THEN settled - refunded ELSE 0 END)
                FROM spend WHERE spend.mandate_id = counter.mandate_id AND seq > through), 0)
            AS spent FROM counter WHERE subject = 'b:none'";
        for row in query(counters).fetch_all(&pool).await.unwrap() {
            let mandate = format!("mdt_{}", row.get::<String, _>("mandate"));
            books.counters.insert(mandate, row.get("spent"));
        }
        // The tally is what the last approval says.
        let tallies = "SELECT lower(hex(mandate_id)) AS mandate, approvals_before + 1 AS approvals,
            sum_before + amount AS approved_sum FROM spend WHERE seq IN
            (SELECT max(seq) FROM spend WHERE verdict <> 'rejected' GROUP BY mandate_id)";
        for row in query(tallies).fetch_all(&pool).await.unwrap() {
            let mandate = format!("mdt_{}", row.get::<String, _>("mandate"));
            books.tallies.insert(mandate, (row.get("approvals"), row.get("approved_sum")));
        }
        pool.close().await;
        books
    }
}
