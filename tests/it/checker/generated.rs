//! True stories: random runs of the reference, as clients and stores would tell them. The checker
//! must be silent on all of them, and what `seeded` does to one it must name.
//!
//! Calls overlap, answers get lost, keys are repeated and reused, clocks jump, everything is
//! stopped and changed. Not here: what is asked and changed (`model`), and a server (`crash`,
//! `chaos`).

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use quetra::domain::evaluate::{Case, Ruling, conclude, screen};
use quetra::domain::hold::Terms as Agreement;
use quetra::domain::id::{AgentId, MandateId, OrgId, TransactionId};
use quetra::domain::ledger::{Act, Book, Charge, Claim, CounterKey, Decided, Subject};
use quetra::domain::mandate::{CompiledMandate, Mandate};
use quetra::domain::period::parse_zone;
use quetra::domain::transaction::TransactionRecord;
use quetra::store::Change;

use super::books::{Agent, Books, Counter, Entry, Head, Indexes, Name, Seen, Terms};
use super::escrow::{Escrow, Lease, Shard};
use super::history::{self, Call, Outcome, Request, Switch};
use super::{acquit, violations};
use crate::dice::{Dice, seeds, setting};
use crate::model::catalogue::Catalogue;
use crate::model::commands::{Command, Commands};

/// How far around its effect a call may reach, where effects are ten apart.
const REACH: usize = 35;

/// A story: what clients saw, and what the stores have.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) history: Vec<Call>,
    pub(super) books: Books,
}

struct Maker {
    dice: Dice,
    catalogue: Catalogue,
    commands: Commands,
    book: Book,
    now: Timestamp,
    /// One record for all, as on SQLite, or one for each organization, as on Postgres.
    is_shared: bool,
    floors: HashMap<String, Timestamp>,
    order: Vec<TransactionId>,
    versions: HashMap<(MandateId, i64), Mandate>,
    charges: HashMap<CounterKey, Charge>,
    /// Whose each id is: a key of another agent would be another id.
    agents: HashMap<TransactionId, AgentId>,
    effect: u64,
    history: Vec<Call>,
}

fn text(id: &[u8; 16]) -> String {
    hex::encode(id)
}

/// The API key of an organization.
fn key_of(org: OrgId) -> String {
    format!("{}{}", "f".repeat(24), &text(org.as_bytes())[24..])
}

pub(super) fn run(seed: u64, operations: u64) -> Run {
    let mut dice = Dice::new(seed);
    let now = Timestamp::from_second(1_790_000_000 + dice.between(0, 40_000_000)).unwrap();
    let catalogue = Catalogue::new(&mut dice, now);
    let mut maker = Maker {
        dice,
        catalogue,
        commands: Commands::default(),
        book: Book::default(),
        now,
        is_shared: seed.is_multiple_of(2),
        floors: HashMap::new(),
        order: Vec::new(),
        versions: HashMap::new(),
        charges: HashMap::new(),
        agents: HashMap::new(),
        effect: 100,
        history: Vec::new(),
    };
    let first = maker.catalogue.mandates.clone();
    for mandate in first {
        maker.version(&mandate);
    }
    maker.stand();
    for _ in 0..operations {
        maker.step();
    }
    maker.finish()
}

impl Maker {
    fn step(&mut self) {
        match self.dice.below(100) {
            0..75 => {
                let (now, dice) = (self.now, &mut self.dice);
                let command = self.commands.any(dice, &mut self.catalogue, now);
                let is_anothers = match &command {
                    Command::Decide(decide) => {
                        let agent = decide.spend.agent_id;
                        *self.agents.entry(decide.id).or_insert(agent) != agent
                    }
                    Command::Resolve(_) => false,
                };
                if !is_anothers {
                    self.ask(command);
                }
            }
            75..88 => self.change(),
            _ => {
                let seconds = match self.dice.below(6) {
                    0 => -self.dice.between(0, 9_000),
                    1 => self.dice.between(0, 3_000_000),
                    _ => self.dice.between(0, 4_000),
                };
                self.now += SignedDuration::from_secs(seconds);
            }
        }
    }

    /// Puts what stands in the catalogue into the book.
    fn stand(&mut self) {
        let catalogue = &self.catalogue;
        let orgs = catalogue.orgs.iter();
        self.book.orgs = orgs.map(|org| (org.id, (org.version, org.frozen))).collect();
        let agents = catalogue.agents.iter();
        let agents = agents.map(|agent| (agent.id, (agent.status, agent.current_mandate)));
        self.book.agents = agents.collect();
        let mandates = catalogue.mandates.iter();
        let standing = |mandate: &Mandate| (mandate.id, (mandate.version, mandate.status));
        self.book.mandates = mandates.map(standing).collect();
    }

    fn version(&mut self, mandate: &Mandate) {
        self.versions.insert((mandate.id, mandate.version), mandate.clone());
    }

    /// Writes a call down that had, or would have had, its effect now.
    fn note(&mut self, request: Request, outcome: Outcome) {
        let around = |dice: &mut Dice| u64::try_from(dice.below(REACH)).unwrap();
        let invoked = self.effect - around(&mut self.dice);
        let completed = self.effect + 1 + around(&mut self.dice);
        let ms = (invoked, completed);
        self.history.push(Call { invoked, completed, ms, request, outcome });
    }

    fn change(&mut self) {
        let before = self.catalogue.orgs.iter().map(|org| (org.id, org.frozen));
        let frozen = before.collect::<HashMap<_, _>>();
        let statuses = self.book.agents.clone();
        self.effect += 10;
        for change in self.catalogue.change(&mut self.dice, self.now) {
            match change {
                Change::ReplaceMandate(mandate, _) => {
                    self.version(&mandate);
                    let request = Request::Change { mandate: text(mandate.id.as_bytes()) };
                    let outcome = match self.dice.chance(90) {
                        true => Outcome::Changed { version: mandate.version },
                        false => Outcome::Unknown,
                    };
                    self.note(request, outcome);
                }
                Change::ReplaceOrg(org, _) if frozen[&org.id] != org.frozen => {
                    self.switch(Switch::Organization, text(org.id.as_bytes()), !org.frozen);
                }
                Change::ReplaceAgent(agent, _) if statuses[&agent.id].0 != agent.status => {
                    let on = agent.status == quetra::domain::agent::AgentStatus::Active;
                    self.switch(Switch::Agent, text(agent.id.as_bytes()), on);
                }
                Change::ReplaceOrg(..)
                | Change::ReplaceAgent(..)
                | Change::CreateOrg(..)
                | Change::CreateAgent(_)
                | Change::CreateMandate(_)
                | Change::DeleteDraft(..)
                | Change::CreateKey(_)
                | Change::RevokeKey(..)
                | Change::RevokeKeysOf(..)
                | Change::Webhook(_) => {}
            }
        }
        self.stand();
    }

    fn switch(&mut self, what: Switch, id: String, on: bool) {
        let outcome = match self.dice.chance(90) {
            true => Outcome::Resolved,
            false => Outcome::Unknown,
        };
        self.note(Request::Switch { what, id, on }, outcome);
    }

    fn chain(&self, org: OrgId) -> String {
        if self.is_shared { String::new() } else { text(org.as_bytes()) }
    }

    fn ask(&mut self, command: Command) {
        self.effect += 10;
        let org = match &command {
            Command::Decide(decide) => decide.org_id,
            Command::Resolve(resolve) => resolve.org_id,
        };
        let chain = self.chain(org);
        let floor = self.floors.get(&chain).copied().unwrap_or(Timestamp::UNIX_EPOCH);
        let now = self.now.max(floor);
        let is_lost = self.dice.chance(4);
        let (request, outcome, has_effect) = match command {
            Command::Decide(decide) => {
                let request = Request::Evaluate {
                    by: key_of(decide.org_id),
                    agent: text(decide.spend.agent_id.as_bytes()),
                    key: decide.idempotency_key.clone(),
                    amount: decide.spend.amount,
                    vendor: decide.spend.vendor.canonical().to_owned(),
                };
                if is_lost {
                    (request, Outcome::Unknown, false)
                } else {
                    for charge in decide.claim.iter().flat_map(|claim| &claim.charges) {
                        self.charges.insert(charge.key.clone(), charge.clone());
                    }
                    let (outcome, is_new) = match self.book.decide(&decide, now) {
                        Decided::Ruled(record) => {
                            self.order.push(record.id);
                            (Outcome::Decided(self.answer(&record)), true)
                        }
                        Decided::Replayed(record) => {
                            (Outcome::Decided(self.answer(&record)), false)
                        }
                        Decided::KeyReused => (Outcome::Failed("reused".to_owned()), false),
                        Decided::Stale => (Outcome::Failed("stale".to_owned()), false),
                        Decided::Undecided => (Outcome::Failed("undecided".to_owned()), false),
                    };
                    (request, outcome, is_new)
                }
            }
            Command::Resolve(resolve) => {
                let id = text(resolve.id.as_bytes());
                let request = match &resolve.act {
                    Act::Settle(amount) => Request::Settle { id, amount: *amount },
                    Act::Void => Request::Void { id },
                    Act::Refund(amount) => Request::Refund { id, amount: *amount },
                    Act::Approve(person, _) => Request::Approve { id, by: person.key.to_string() },
                    Act::Deny(person, _) => Request::Deny { id, by: person.key.to_string() },
                    Act::Expire => Request::Expire { id },
                };
                if is_lost {
                    (request, Outcome::Unknown, false)
                } else {
                    match self.book.resolve(&resolve, now) {
                        Ok(resolved) => (request, Outcome::Resolved, resolved.changed),
                        Err(error) => (request, Outcome::Failed(format!("{error:?}")), false),
                    }
                }
            }
        };
        if has_effect {
            self.floors.insert(chain, now);
        }
        // An answer can be lost on its way, an error too.
        let outcome = if self.dice.chance(8) { Outcome::Unknown } else { outcome };
        self.note(request, outcome);
    }

    /// What a client is told of a record.
    fn answer(&self, record: &TransactionRecord) -> history::Decided {
        let evidence = &record.evidence;
        let compiled = record.mandate().map(|key| &self.versions[&key]);
        let compiled = compiled.map(|mandate| CompiledMandate::try_new(mandate).unwrap());
        let case = Case {
            standing: &evidence.standing,
            mandate: compiled.as_ref(),
            spend: &record.spend,
            observed: &evidence.observed,
            zone: &parse_zone(&evidence.zone).unwrap(),
            now: evidence.screened_at,
        };
        let ruling = Ruling {
            verdict: record.verdict,
            levels: &evidence.levels,
            windows: &evidence.windows,
        };
        let decision = conclude(&screen(&case).unwrap(), &record.spend, &ruling);
        let word = |reason| serde_json::to_value(reason).unwrap().as_str().unwrap().to_owned();
        history::Decided {
            id: text(record.id.as_bytes()),
            verdict: record.verdict.word().to_owned(),
            version: record.mandate().map_or(0, |(_, version)| version),
            decided_at: record.decided_at.as_microsecond(),
            reasons: decision.reasons.iter().map(|reason| word(reason.reason)).collect(),
            digest: u64::try_from(decision.explanation.len()).unwrap(),
        }
    }

    fn finish(self) -> Run {
        let mut places = HashMap::<String, i64>::new();
        let mut entries = Vec::new();
        for id in &self.order {
            let record = &self.book.transactions[id];
            let chain = self.chain(record.org_id);
            let seq = places.entry(chain.clone()).or_default();
            *seq += 1;
            entries.push(entry(record, chain, *seq));
        }
        entries.sort_by(|one, other| (&one.chain, one.seq).cmp(&(&other.chain, other.seq)));
        let heads = places.into_iter().filter(|(org, _)| !org.is_empty()).map(|(org, seq)| {
            let floor = self.floors[&org].as_microsecond();
            Head { org, seq, floor }
        });
        let versions = self.versions.iter().map(|((id, version), mandate)| {
            let document = serde_json::to_value(mandate).unwrap();
            let terms = Terms { seal: None, ..Terms::of(&document) };
            ((text(id.as_bytes()), *version), terms)
        });
        let agents = self.catalogue.agents.iter().map(|agent| {
            let mandate = agent.current_mandate.map(|id| text(id.as_bytes()));
            let (org, status) = (text(agent.org_id.as_bytes()), agent.status.word().to_owned());
            (text(agent.id.as_bytes()), Agent { org, status, mandate })
        });
        let orgs = self.catalogue.orgs.iter();
        let books = Books {
            indexes: self.is_shared.then(|| indexes(&entries)),
            names: (!self.is_shared).then(|| names(&entries)),
            counters: self.counters(),
            heads: heads.collect(),
            terms: versions.collect(),
            agents: agents.collect(),
            orgs: orgs.clone().map(|org| (text(org.id.as_bytes()), org.frozen)).collect(),
            keys: orgs.map(|org| (key_of(org.id), (text(org.id.as_bytes()), false))).collect(),
            entries,
            ..Books::default()
        };
        // Some stories are of one store alone.
        let leases = (!self.order.len().is_multiple_of(3)).then(|| escrow(&books));
        let books = Books { escrow: leases, ..books };
        Run { history: self.history, books }
    }

    fn counters(&self) -> Vec<Counter> {
        let counters = self.charges.values().map(|charge| {
            let claim = Claim {
                mandate: charge.key.mandate,
                charges: vec![charge.clone()],
                windows: Vec::new(),
                admissible: false,
                hold: false,
                terms: Agreement::default(),
                good_until: None,
            };
            let level = self.book.peek(&claim, self.now).0[0];
            Counter {
                mandate: text(charge.key.mandate.as_bytes()),
                subject: subject(&charge.key),
                starts_at: charge.key.starts_at.as_microsecond(),
                ends_at: charge.ends_at.map_or(i64::MAX, Timestamp::as_microsecond),
                spent: level.spent,
                held: level.held,
                through: i64::MAX,
            }
        });
        counters.collect()
    }
}

fn subject(key: &CounterKey) -> String {
    let period = serde_json::to_value(key.period).unwrap();
    let period = period.as_str().unwrap();
    match &key.subject {
        Subject::Budget => format!("b:{period}"),
        Subject::Vendor(vendor) => format!("v:{period}:{}", vendor.canonical()),
        Subject::Category(category) => format!("c:{period}:{category}"),
    }
}

/// What a store writes of it, as the checker reads that.
fn parsed<T: serde::de::DeserializeOwned>(value: &impl serde::Serialize) -> T {
    serde_json::from_value(serde_json::to_value(value).unwrap()).unwrap()
}

/// A row, as the stores have it.
fn entry(record: &TransactionRecord, chain: String, seq: i64) -> Entry {
    let (spend, seen) = (&record.spend, &record.evidence);
    let age = |at: Timestamp| record.decided_at.as_microsecond() - at.as_microsecond();
    let mandate = seen.standing.mandate.as_ref();
    let window = |level: &quetra::domain::ledger::WindowLevel| {
        (level.count, level.sum, level.oldest.map(age))
    };
    let charged = record.charged.iter();
    Entry {
        chain,
        seq,
        id: text(record.id.as_bytes()),
        org: text(record.org_id.as_bytes()),
        agent: text(spend.agent_id.as_bytes()),
        mandate: mandate.map(|mandate| text(mandate.id.as_bytes())),
        key: record.idempotency_key.clone(),
        amount: spend.amount,
        settled: record.settled,
        refunded: record.refunded,
        currency: spend.currency.to_string(),
        vendor: spend.vendor.canonical().to_owned(),
        category: spend.category.clone(),
        verdict: record.verdict.word().to_owned(),
        state: record.state.word().to_owned(),
        decided_at: record.decided_at.as_microsecond(),
        updated_at: record.updated_at.as_microsecond(),
        before: (record.tally_before.count, record.tally_before.sum),
        evidence: Seen {
            frozen: seen.standing.frozen,
            agent: seen.standing.agent.word().to_owned(),
            mandate: mandate.map(|mandate| mandate.version),
            status: mandate.map_or("active", |mandate| mandate.status.word()).to_owned(),
            zone: seen.zone.clone(),
            screened: age(seen.screened_at),
            levels: seen.levels.iter().map(|level| (level.spent, level.held)).collect(),
            windows: seen.windows.iter().map(window).collect(),
            charged: charged.map(|key| (subject(key), key.starts_at.as_microsecond())).collect(),
            terms: parsed(&record.terms),
        },
        due_at: record.due_at.map(Timestamp::as_microsecond),
        followup: parsed(&record.followup),
    }
}

/// A Redis that some of each budget is leased to, as if it had spent before.
fn escrow(books: &Books) -> Escrow {
    let mut escrow = Escrow::default();
    let budgets = books.counters.iter().filter(|counter| counter.subject.starts_with('b'));
    for (counter, leased) in budgets.zip([7, 0, 12].into_iter().cycle()) {
        let lease = Lease {
            mandate: counter.mandate.clone(),
            subject: counter.subject.clone(),
            starts_at: counter.starts_at,
            shard: 3,
            epoch: 2,
            number: 4,
            amount: 20,
            leased,
            limit: counter.spent + counter.held + leased,
        };
        escrow.slices.insert(lease.key(), (2, 4, leased));
        escrow.leases.push(lease);
    }
    let outbox = vec![(1, 8), (1, 9), (2, 0), (2, 1), (2, 2)];
    let (begun, last) = (Some(2), (2, 2));
    escrow.shards.push(Shard { shard: 3, epoch: 2, position: last, begun, last, outbox });
    escrow
}

fn indexes(entries: &[Entry]) -> Indexes {
    let approved = entries.iter().filter(|entry| !entry.is_rejected());
    let approved = approved.map(|entry| {
        let (mandate, (count, sum)) = (entry.mandate.clone().unwrap(), entry.before);
        (mandate, entry.decided_at, entry.seq, count, sum, entry.amount)
    });
    Indexes {
        through: i64::try_from(entries.len()).unwrap(),
        by_id: entries.iter().map(|entry| (entry.id.clone(), entry.seq)).collect(),
        by_agent: entries.iter().map(|entry| (entry.agent.clone(), entry.seq)).collect(),
        approvals: approved.collect(),
    }
}

fn names(entries: &[Entry]) -> Vec<Name> {
    let name = |entry: &Entry| (entry.id.clone(), entry.org.clone(), entry.seq, entry.decided_at);
    entries.iter().map(name).collect()
}

/// How many stories the normal run tells.
const CASES: u64 = 40_000;
const CASES_PER_STORY: u64 = 20;
const OPERATIONS: u64 = 60;

#[test]
fn true_stories_are_let_go() {
    let (mut calls, mut rows, mut approved) = (0, 0, 0);
    let seeds = seeds(setting("QUETRA_CASES", CASES).div_ceil(CASES_PER_STORY).max(1_000));
    for seed in &seeds {
        let Run { history, books } = run(*seed, OPERATIONS);
        let found = violations(&history, &books);
        if !found.is_empty() {
            println!("run it again with QUETRA_SEED={seed}");
        }
        acquit(&found);
        calls += history.len();
        rows += books.entries.len();
        approved += books.entries.iter().filter(|entry| !entry.is_rejected()).count();
    }
    println!("{} stories, {calls} calls, {rows} rows, {approved} approved", seeds.len());
    if seeds.len() > 1 {
        // A checker of nothing would be silent too.
        assert!(approved > 5 * seeds.len(), "only {approved} of {rows} were approved");
    }
}
