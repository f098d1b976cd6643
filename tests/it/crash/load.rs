//! Clients that spend, settle, void and repeat until they are told to stop, and write down all they
//! see. `load/administer` has those who stop, start and change what they spend meanwhile.
//!
//! An outcome that is not known is asked again with the same key, as a client should. Not here:
//! what happens to the server (`crash`) and whether the story is sound (`checker`).

mod administer;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quetra::proto::v1;
use tokio::sync::watch;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use crate::checker::history::{Call, Decided, Outcome, Request, bare};
use crate::dice::{Dice, setting};
use crate::harness::{Clients, budget, link};
use crate::process::Process;

/// How long a call may take; a stopped server answers later than this.
const CALL_TIME: Duration = Duration::from_millis(800);
/// How long a call may take before there is anything to test.
const PREPARATION: Duration = Duration::from_secs(30);
/// How long to wait before asking a server again that gave no answer.
const PAUSE: Duration = Duration::from_millis(20);
/// How long to ask for what may never be answered.
const GIVE_UP: Duration = Duration::from_secs(3);
const AMOUNT_MAX: i64 = 20;
/// The budget of an agent that can spend all the time.
const RICH: i64 = 1_000_000_000;

/// What all clients share.
pub(crate) struct Shared {
    agents: Vec<Target>,
    /// Agents that nobody stops, with budgets that are never used up.
    rich: Vec<Target>,
    admin_key: String,
    /// The admin's organization and the id of its key.
    org: String,
    by: String,
    /// Where the servers are; another address after each restart.
    urls: watch::Receiver<Vec<String>>,
    /// Counts every event.
    order: AtomicU64,
    began: Instant,
    history: Mutex<Vec<Call>>,
    /// Why calls had no answer, and how many.
    unknown: Mutex<BTreeMap<String, usize>>,
    answered: AtomicUsize,
    stop: AtomicBool,
    /// Whether what is asked may never be answered, and is given up.
    gives_up: AtomicBool,
    /// Whom the next decision kills.
    victim: Mutex<Option<Arc<Mutex<Process>>>>,
}

/// An agent and its mandate.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    agent_id: String,
    mandate_id: String,
}

/// Calls of every service at an address, each within this time.
fn connect_within(time: Duration, url: &str, key: &str) -> Clients {
    let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
    let endpoint = endpoint.connect_timeout(time).timeout(time);
    Clients::new(link(endpoint.connect_lazy(), key))
}

/// The same, as impatient as clients are.
pub(crate) fn connect(url: &str, key: &str) -> Clients {
    connect_within(CALL_TIME, url, key)
}

/// How an error tells of the effect of a call.
fn outcome_of(error: &Status) -> Outcome {
    let says_nothing_happened = [
        Code::InvalidArgument,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::ResourceExhausted,
    ];
    if says_nothing_happened.contains(&error.code()) {
        Outcome::Failed(format!("{:?}: {}", error.code(), error.message()))
    } else {
        Outcome::Unknown
    }
}

impl Shared {
    /// Makes agents with mandates, on a server that runs; they ask for these levels in turn, or for
    /// none.
    pub(crate) async fn new(
        urls: watch::Receiver<Vec<String>>,
        admin_key: &str,
        levels: &[v1::Durability],
    ) -> Arc<Self> {
        let first = urls.borrow()[0].clone();
        let mut admin = connect_within(PREPARATION, &first, admin_key);
        let rich = usize::try_from(setting("QUETRA_RICH", 0)).unwrap();
        let mut agents = Vec::new();
        let levels = levels.iter().copied().cycle().map(Some).chain(std::iter::repeat(None));
        for (limit, level) in std::iter::repeat_n(RICH, rich).chain([500; 4]).zip(levels) {
            let (level, budget) = (level.unwrap_or_default(), budget(limit, AMOUNT_MAX));
            let (agent_id, mandate_id) = admin.agent_asking(level, budget, Vec::new()).await;
            agents.push(Target { agent_id, mandate_id });
        }
        let rich = agents.drain(..rich).collect();
        let caller = admin.organization.get_caller(v1::GetCallerRequest {}).await;
        let caller = caller.unwrap().into_inner();
        Arc::new(Self {
            agents,
            rich,
            admin_key: admin_key.to_owned(),
            org: bare(&caller.organization_id),
            by: bare(&caller.api_key_id),
            urls,
            order: AtomicU64::new(1),
            began: Instant::now(),
            history: Mutex::default(),
            unknown: Mutex::default(),
            answered: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            gives_up: AtomicBool::new(false),
            victim: Mutex::default(),
        })
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// From now on clients give a question up that is not answered for a while: what a lost epoch
    /// had leased counts as spent, and is no reason to refuse.
    pub(crate) fn give_up(&self) {
        self.gives_up.store(true, Ordering::Relaxed);
    }

    fn is_given_up(&self, since: Instant) -> bool {
        self.gives_up.load(Ordering::Relaxed) && since.elapsed() > GIVE_UP
    }

    pub(crate) fn history(&self) -> Vec<Call> {
        self.history.lock().unwrap().clone()
    }

    /// Kills the server as soon as a client has a decision in its hands: whatever was not yet done
    /// then is never done.
    pub(crate) fn kill_on_decision(&self, process: &Arc<Mutex<Process>>) {
        *self.victim.lock().unwrap() = Some(Arc::clone(process));
    }

    /// How many calls were answered.
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    fn is_running(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn tick(&self) -> (u64, u64) {
        let ms = self.ms();
        (self.order.fetch_add(1, Ordering::SeqCst), ms)
    }

    /// How long it has run.
    pub(crate) fn ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap()
    }

    /// Why calls had no answer, the most frequent first.
    pub(crate) fn unknown(&self) -> Vec<(String, usize)> {
        let mut all = self.unknown.lock().unwrap().clone().into_iter().collect::<Vec<_>>();
        all.sort_by_key(|(_, count)| Reverse(*count));
        all
    }

    /// Waits for a call and writes down how it ended.
    async fn note(
        &self,
        request: Request,
        call: impl Future<Output = Result<Outcome, Status>>,
    ) -> Outcome {
        let (invoked, began) = self.tick();
        let (outcome, why) = match tokio::time::timeout(CALL_TIME, call).await {
            Ok(Ok(outcome)) => (outcome, String::new()),
            Ok(Err(error)) => {
                (outcome_of(&error), format!("{:?}: {}", error.code(), error.message()))
            }
            Err(_) => (Outcome::Unknown, "it took too long".to_owned()),
        };
        if outcome == Outcome::Unknown {
            *self.unknown.lock().unwrap().entry(why).or_default() += 1;
        }
        if matches!(outcome, Outcome::Decided(_))
            && let Some(victim) = self.victim.lock().unwrap().take()
        {
            victim.lock().unwrap().kill();
        }
        let (completed, ended) = self.tick();
        if outcome != Outcome::Unknown {
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        let ms = (began, ended);
        let call = Call { invoked, completed, ms, request, outcome: outcome.clone() };
        self.history.lock().unwrap().push(call);
        outcome
    }
}

/// A client: its connection, and what it has asked before.
pub(crate) struct Client {
    shared: Arc<Shared>,
    urls: watch::Receiver<Vec<String>>,
    calls: Clients,
    key: String,
    by: String,
    dice: Dice,
    name: u64,
    asked: Vec<v1::EvaluateRequest>,
    approved: Vec<(String, i64)>,
}

impl Client {
    pub(crate) fn new(shared: &Arc<Shared>, name: u64) -> Self {
        let mut dice = Dice::new(name);
        let mut urls = shared.urls.clone();
        let url = dice.pick(urls.borrow_and_update().as_slice()).clone();
        let (key, by) = (shared.admin_key.clone(), shared.by.clone());
        let (calls, shared) = (connect(&url, &key), Arc::clone(shared));
        let (asked, approved) = (Vec::new(), Vec::new());
        Self { shared, urls, calls, key, by, dice, name, asked, approved }
    }

    /// Spends until it is stopped; then nothing it asked is unknown.
    pub(crate) async fn spend(mut self) -> Self {
        while self.shared.is_running() {
            match self.dice.below(10) {
                0 if !self.asked.is_empty() => {
                    let request = self.dice.pick(&self.asked).clone();
                    self.decide(request).await;
                }
                1 | 2 if !self.approved.is_empty() => self.resolve().await,
                _ => {
                    let request = self.request();
                    self.asked.push(request.clone());
                    self.decide(request).await;
                }
            }
        }
        self
    }

    /// Asks some of its old questions again.
    pub(crate) async fn repeat(mut self, count: usize) {
        for _ in 0..count.min(self.asked.len()) {
            let request = self.dice.pick(&self.asked).clone();
            self.decide(request).await;
        }
    }

    fn request(&mut self) -> v1::EvaluateRequest {
        let Shared { agents, rich, .. } = &*self.shared;
        let is_rich = !rich.is_empty() && self.dice.chance(90);
        let agent_id = self.dice.pick(if is_rich { rich } else { agents }).agent_id.clone();
        let vendor = (*self.dice.pick(&["openai.com", "firecrawl.dev"])).to_owned();
        v1::EvaluateRequest {
            agent_id,
            amount: Some(self.dice.between(0, AMOUNT_MAX)),
            currency: "USD".to_owned(),
            vendor,
            category: "research".to_owned(),
            idempotency_key: format!("client-{}-{:06}", self.name, self.asked.len()),
            ..Default::default()
        }
    }

    /// Until it is known what was decided, or it is given up.
    async fn decide(&mut self, request: v1::EvaluateRequest) {
        let since = Instant::now();
        loop {
            let about = Request::Evaluate {
                by: self.by.clone(),
                agent: bare(&request.agent_id),
                key: request.idempotency_key.clone(),
                amount: request.amount(),
                vendor: request.vendor.clone(),
            };
            let calls = &mut self.calls.evaluate;
            let mut replayed = false;
            let call = async {
                let answer = calls.evaluate(request.clone()).await?.into_inner();
                replayed = answer.replayed;
                Ok(Outcome::Decided(Decided::new(&answer)))
            };
            match self.shared.note(about, call).await {
                Outcome::Unknown if self.shared.is_given_up(since) => return,
                Outcome::Unknown => self.reconnect().await,
                Outcome::Decided(decided) => {
                    if decided.verdict == "approved" && !replayed {
                        self.approved.push((format!("tx_{}", decided.id), request.amount()));
                    }
                    return;
                }
                Outcome::Resolved | Outcome::Changed { .. } | Outcome::Failed(_) => return,
            }
        }
    }

    /// Settles or voids one of its approvals, until it is known that it is.
    async fn resolve(&mut self) {
        let index = self.dice.below(self.approved.len());
        let (transaction_id, amount) = self.approved.swap_remove(index);
        let settled = (amount > 0 && self.dice.chance(50)).then(|| self.dice.between(1, amount));
        let since = Instant::now();
        loop {
            let (id, calls) = (transaction_id.clone(), &mut self.calls.transactions);
            let outcome = match settled {
                Some(amount) => {
                    let about = Request::Settle { id: bare(&id), amount };
                    let amount = Some(amount);
                    let request = v1::SettleTransactionRequest { transaction_id: id, amount };
                    let call = async {
                        calls.settle_transaction(request).await.map(|_| Outcome::Resolved)
                    };
                    self.shared.note(about, call).await
                }
                None => {
                    let about = Request::Void { id: bare(&id) };
                    let request = v1::VoidTransactionRequest { transaction_id: id };
                    let call =
                        async { calls.void_transaction(request).await.map(|_| Outcome::Resolved) };
                    self.shared.note(about, call).await
                }
            };
            if outcome != Outcome::Unknown || self.shared.is_given_up(since) {
                return;
            }
            self.reconnect().await;
        }
    }

    /// Goes to where a server is now, whichever.
    async fn reconnect(&mut self) {
        if !self.urls.has_changed().unwrap_or_default() {
            drop(tokio::time::timeout(PAUSE, self.urls.changed()).await);
        }
        let url = self.dice.pick(self.urls.borrow_and_update().as_slice()).clone();
        self.calls = connect(&url, &self.key);
    }
}
