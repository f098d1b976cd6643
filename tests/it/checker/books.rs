//! What the stores hold in the end, as plain rows.
//!
//! One form for SQLite and Postgres, and for what Redis has where it spends. Ids are bare
//! hexadecimal digits, times microseconds since 1970, money minor units. Not here: how rows are
//! read (`read`), and what must hold between them.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;
use serde_json::Value;

use super::escrow::Escrow;

/// One entry of the record of decisions.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Whose sequence it is in: an organization's on Postgres, empty where there is only one.
    pub(crate) chain: String,
    pub(crate) seq: i64,
    pub(crate) id: String,
    pub(crate) org: String,
    pub(crate) agent: String,
    pub(crate) mandate: Option<String>,
    pub(crate) key: String,
    pub(crate) amount: i64,
    pub(crate) settled: Option<i64>,
    pub(crate) refunded: Option<i64>,
    pub(crate) currency: String,
    pub(crate) vendor: String,
    pub(crate) category: Option<String>,
    pub(crate) verdict: String,
    pub(crate) state: String,
    pub(crate) decided_at: i64,
    pub(crate) updated_at: i64,
    /// The approvals of its mandate before it: how many, and their sum.
    pub(crate) before: (i64, i64),
    pub(crate) evidence: Seen,
    /// When its state ends by itself.
    pub(crate) due_at: Option<i64>,
    pub(crate) followup: Followup,
}

/// What people said, and whether it was settled late.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Followup {
    #[serde(default)]
    pub(crate) grants: Vec<Statement>,
    #[serde(default)]
    pub(crate) denial: Option<Statement>,
    #[serde(default)]
    pub(crate) late: bool,
}

/// What one person said.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Statement {
    pub(crate) by: String,
    pub(crate) at: jiff::Timestamp,
}

/// What was agreed about what may follow.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Agreed {
    #[serde(default)]
    pub(crate) approval: Option<Approval>,
    #[serde(default)]
    pub(crate) hold_seconds: Option<i64>,
    #[serde(default)]
    pub(crate) tolerance: i64,
}

/// Who has to approve.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Approval {
    pub(crate) required: usize,
    pub(crate) seconds: i64,
    #[serde(default)]
    pub(crate) asked_by: Option<String>,
}

/// What a decision says it was based on; what is usual is not said.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Seen {
    #[serde(default)]
    pub(crate) frozen: bool,
    #[serde(default = "active")]
    pub(crate) agent: String,
    /// The version of the mandate.
    #[serde(default)]
    pub(crate) mandate: Option<i64>,
    #[serde(default = "active")]
    pub(crate) status: String,
    pub(crate) zone: String,
    /// How long before the decision the rules were tested.
    pub(crate) screened: i64,
    /// Spent and held of each counter.
    #[serde(default)]
    pub(crate) levels: Vec<(i64, i64)>,
    /// Count and sum of each sliding window, and the age of its oldest approval.
    #[serde(default)]
    pub(crate) windows: Vec<(i64, i64, Option<i64>)>,
    /// Subject and start of each counter that was charged.
    #[serde(default)]
    pub(crate) charged: Vec<(String, i64)>,
    #[serde(default)]
    pub(crate) terms: Agreed,
}

fn active() -> String {
    "active".to_owned()
}

/// What one version of a mandate says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) org: String,
    pub(crate) agent: String,
    pub(crate) status: String,
    pub(crate) total: i64,
    pub(crate) per_transaction: i64,
    pub(crate) currency: String,
    pub(crate) reset: String,
    pub(crate) caps: Vec<Cap>,
    pub(crate) rates: Vec<Rate>,
    /// Above this, a person has to decide.
    pub(crate) approval: Option<i64>,
    /// Whether there are rules that the checker does not compute again.
    pub(crate) others: bool,
    pub(crate) valid: (i64, Option<i64>),
    pub(crate) rules: usize,
    pub(crate) seal: Option<Seal>,
}

/// A limit on what is spent at a vendor or in a category.
#[derive(Clone, Debug)]
pub(crate) struct Cap {
    /// `v` for a vendor and all below it, `c` for a category.
    pub(crate) kind: char,
    pub(crate) name: String,
    pub(crate) period: String,
    pub(crate) limit: i64,
}

/// A limit on a sliding window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) minutes: i64,
    pub(crate) most: Most,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Most {
    /// Fewer approvals before it than this.
    Count(i64),
    /// At most this, with it.
    Sum(i64),
}

/// What makes a version of a mandate verifiable by an outsider.
#[derive(Clone, Debug)]
pub(crate) struct Seal {
    /// Canonical JSON of all that the hash covers.
    pub(crate) policy: String,
    pub(crate) hash: String,
    pub(crate) signature: String,
    pub(crate) key: String,
}

/// A counter of a period.
#[derive(Clone, Debug)]
pub(crate) struct Counter {
    pub(crate) mandate: String,
    pub(crate) subject: String,
    pub(crate) starts_at: i64,
    /// Exclusive.
    pub(crate) ends_at: i64,
    pub(crate) spent: i64,
    pub(crate) held: i64,
    /// The last entry that must be in it.
    pub(crate) through: i64,
}

/// An agent as it stands.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) org: String,
    pub(crate) status: String,
    pub(crate) mandate: Option<String>,
}

/// The end of an organization's record, as it says itself.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) org: String,
    pub(crate) seq: i64,
    pub(crate) floor: i64,
}

/// What SQLite's record is searched by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Indexes {
    /// Every entry up to this one must be in all three.
    pub(crate) through: i64,
    pub(crate) by_id: Vec<(String, i64)>,
    pub(crate) by_agent: Vec<(String, i64)>,
    /// Mandate, time, place, approvals and sum before it, amount.
    pub(crate) approvals: Vec<(String, i64, i64, i64, i64, i64)>,
}

/// Where the decision of an id is, as a table beside the record in parts has it: id, organization,
/// place and time.
pub(crate) type Name = (String, String, i64, i64);

/// Everything, after the last call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    /// In the order of the record, one chain after the other.
    pub(crate) entries: Vec<Entry>,
    /// By mandate and version.
    pub(crate) terms: BTreeMap<(String, i64), Terms>,
    pub(crate) counters: Vec<Counter>,
    pub(crate) heads: Vec<Head>,
    pub(crate) indexes: Option<Indexes>,
    /// Of Postgres alone.
    pub(crate) names: Option<Vec<Name>>,
    pub(crate) agents: HashMap<String, Agent>,
    /// Whether each organization is frozen.
    pub(crate) orgs: HashMap<String, bool>,
    /// Of each API key: the organization, and whether it is revoked.
    pub(crate) keys: HashMap<String, (String, bool)>,
    /// Public keys by organization and name.
    pub(crate) public_keys: HashMap<(String, String), Vec<u8>>,
    pub(crate) escrow: Option<Escrow>,
    /// Ids that were found in an outbox after another server had recorded them in Redis' absence.
    pub(crate) beside: HashSet<String>,
    /// What must be nowhere, and everywhere it could be: name and text.
    pub(crate) secrets: Vec<String>,
    pub(crate) texts: Vec<(String, String)>,
}

impl Entry {
    /// The version that judged, with what it says.
    pub(crate) fn terms<'a>(&self, books: &'a Books) -> Option<&'a Terms> {
        books.terms.get(&(self.mandate.clone()?, self.evidence.mandate?))
    }

    pub(crate) fn is_rejected(&self) -> bool {
        self.verdict == "rejected"
    }

    /// What it took from its counters when it was decided: spent, and held.
    pub(crate) fn first_load(&self) -> (i64, i64) {
        match self.verdict.as_str() {
            "approved" => (self.amount, 0),
            "pending_approval" => (0, self.amount),
            _ => (0, 0),
        }
    }

    /// What it may have taken from them between both.
    pub(crate) fn loads_between(&self) -> Vec<(i64, i64)> {
        let mut loads = vec![self.first_load()];
        let is_approved =
            matches!(self.state.as_str(), "settled" | "refunded" | "voided" | "expired");
        if self.verdict == "pending_approval" && is_approved {
            loads.push((self.amount, 0));
        }
        if self.followup.late {
            loads.push((0, 0));
        }
        // What is refunded was settled before, at a time that is no longer known.
        if self.state == "refunded" {
            loads.push((self.settled.unwrap_or(self.amount), 0));
        }
        loads
    }

    /// What it takes from them in the end.
    pub(crate) fn last_load(&self) -> (i64, i64) {
        let settled = self.settled.unwrap_or(self.amount);
        match self.state.as_str() {
            "approved" => (self.amount, 0),
            "pending_approval" => (0, self.amount),
            "settled" => (settled, 0),
            "refunded" => (settled - self.refunded.unwrap_or(settled), 0),
            _ => (0, 0),
        }
    }
}

/// RFC 8785 for objects with ASCII keys: sorted, no white space.
pub(crate) fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut keys = fields.keys().collect::<Vec<_>>();
            keys.sort();
            let fields = keys.iter().map(|key| {
                format!("{}:{}", Value::from(key.as_str()), canonical(&fields[key.as_str()]))
            });
            format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

impl Terms {
    /// Reads the stored document of a version.
    pub(crate) fn of(document: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let at = |value: &Value| {
            let text = value.as_str()?;
            Some(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
        };
        let (policy, budget) = (&document["policy"], &document["policy"]["budget"]);
        let rules = policy["rules"].as_array().unwrap();
        let mut terms = Self {
            org: super::history::bare(&text(&document["org_id"])),
            agent: super::history::bare(&text(&document["agent_id"])),
            status: text(&document["status"]),
            total: budget["total"].as_i64().unwrap(),
            per_transaction: budget["per_transaction"].as_i64().unwrap(),
            currency: text(&budget["currency"]),
            reset: text(&budget["reset"]),
            valid: (at(&policy["valid_from"]).unwrap(), at(&policy["valid_until"])),
            rules: rules.len(),
            ..Self::default()
        };
        for rule in rules {
            terms.add(rule);
        }
        let mut covered = policy.as_object().unwrap().clone();
        covered.insert("agent_id".to_owned(), document["agent_id"].clone());
        covered.insert("mandate_id".to_owned(), document["id"].clone());
        terms.seal = Some(Seal {
            policy: canonical(&Value::Object(covered)),
            hash: text(&document["policy_hash"]),
            signature: text(&document["signature"]),
            key: text(&document["signing_key_id"]),
        });
        terms
    }

    fn add(&mut self, rule: &Value) {
        let number = |name: &str| rule[name].as_i64().unwrap();
        let text = |name: &str| rule[name].as_str().unwrap().to_owned();
        let cap = |kind, name| Cap {
            kind,
            name: text(name),
            period: text("period"),
            limit: number("amount"),
        };
        match rule["type"].as_str().unwrap() {
            "vendor_cap" => self.caps.push(cap('v', "vendor")),
            "category_cap" => self.caps.push(cap('c', "category")),
            "rate_limit" => self.rates.push(Rate {
                minutes: number("window_minutes"),
                most: Most::Count(number("max_transactions")),
            }),
            "spend_rate" => self.rates.push(Rate {
                minutes: number("window_minutes"),
                most: Most::Sum(number("max_amount")),
            }),
            "approval" => self.approval = Some(number("threshold")),
            _ => self.others = true,
        }
    }
}

/// What a server's log says of a decision in the outbox whose row is of another server.
const BESIDE: &str = "decided in Redis too;";

impl Books {
    /// Reads in the logs what was decided twice and recorded once.
    pub(crate) fn note_beside(&mut self) {
        let lines = self.texts.iter().flat_map(|(_, text)| text.lines());
        let ids = lines.filter(|line| line.contains(BESIDE)).filter_map(|line| {
            let (_, rest) = line.split_once("tx_")?;
            rest.get(..32).map(str::to_owned)
        });
        self.beside = ids.collect();
    }
}
