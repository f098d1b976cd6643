//! The connection to a Redis: one for all calls of a server, made again when it is lost. A call
//! waits a moment for that and no longer; it can be decided without Redis.
//!
//! A connection belongs to one process of Redis: its replication id is read when it is made, with
//! the settings that must hold (`settings`), and a process that restarts, is replaced or promoted
//! has another. Where there are replicas each script looks at it as well: a process may be demoted
//! and promoted again while its connections last. Not here: what is asked (`scripts`), who may be
//! believed (`shards`), who finds out that it is another now (`watch`), and which Redis has which
//! shard (`nodes`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::scripts::{Answer, SCRIPTS, Script};
use super::settings::{self, Identity, Unfit};
use crate::ledger::{Durability, NotKept};

/// How long a connection may take to be made.
const CONNECT_TIME: Duration = Duration::from_millis(500);

/// How long Redis may take to answer. What it did meanwhile, the key finds out.
const ANSWER_TIME: Duration = Duration::from_millis(900);

/// How long nobody tries again after a connection could not be made.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a call waits for the connection after one that was just lost.
const HOLD: Duration = Duration::from_millis(300);

/// How long it is believed that there are no replicas. Whoever adds one and promotes it must wait
/// longer than this: until then an approval at `durable` may be on one disk only.
const NEWS_TIME: Duration = Duration::from_millis(500);

/// The epoch that scripts name when the process is not the one that the connection was made to.
const REPLACED: i64 = -1;

/// Why Redis gave no answer that can be used; it may have done what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The driver, or Redis itself, says so.
    #[error("redis does not answer: {0}")]
    Driver(RedisError),
    /// A node of a cluster that is asked does not have the shard, or not all of it.
    #[error("the shard is moving between nodes of the redis cluster: {0}")]
    Moved(RedisError),
    /// No node of the cluster says that it has the shard.
    #[error("no node of the redis cluster has slot {0}; see `redis-cli --cluster check`")]
    Unplaced(u16),
    /// It runs with settings under which the level cannot be kept.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The connection to it was lost, and there is no other one yet.
    #[error("the connection to redis was lost a moment ago")]
    Lost,
    /// Another one has its place.
    #[error("this Redis was superseded by another one and is never believed again; name that one")]
    Superseded,
    /// What it answered cannot be understood.
    #[error("redis answered something that cannot be understood: {0}")]
    Answer(&'static str),
}

impl From<RedisError> for LinkError {
    fn from(error: RedisError) -> Self {
        match error.code() {
            Some("MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN") => Self::Moved(error),
            Some(_) | None => Self::Driver(error),
        }
    }
}

/// A connection, and whom it leads to.
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    /// The replication id of the process.
    pub(super) identity: Arc<str>,
    /// Whether it is known that a replica may be promoted in its place.
    has_replicas: bool,
    /// When the last question began whose answer said that all this is still so.
    looked: Mutex<Instant>,
    /// Whether it is one of several: then each command must keep to one shard.
    pub(super) is_in_cluster: bool,
    unkept: Vec<NotKept>,
    digests: Vec<String>,
    /// Where it is given up, for all callers.
    link: Weak<Link>,
}

impl Live {
    /// Whether a replica may be promoted in its place: some are known, or nobody has heard for a
    /// while that there are none.
    pub(super) fn may_have_replicas(&self) -> bool {
        let looked = *self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_replicas || looked.elapsed() > NEWS_TIME
    }

    /// What is in the way of a level on this process, if something is.
    pub(super) fn unkept(&self, level: Durability) -> Option<&NotKept> {
        self.unkept.iter().find(|one| one.level == level)
    }

    /// A script as this connection has it.
    fn text(identity: &Identity, script: Script) -> String {
        let text = script.text();
        if !identity.has_replicas || matches!(script, Script::Begin) {
            return text.to_owned();
        }
        let id = &identity.id;
        format!(
            "if not string.find(redis.call('INFO', 'replication'), 'master_replid:{id}', 1, true) \
             then return {{'EPOCH', {REPLACED}}} end\n{text}"
        )
    }

    fn identity(&self) -> Identity {
        Identity { id: self.identity.to_string(), has_replicas: self.has_replicas }
    }

    /// Runs a script; its answer is a list that begins with a word.
    pub(super) async fn run(
        self: &Arc<Self>,
        script: Script,
        keys: &[String],
        arguments: &[&[u8]],
    ) -> Result<Answer, LinkError> {
        let digest = self.digests.get(script.place()).ok_or(LinkError::Answer("no digest"))?;
        let mut command = Cmd::new();
        command.arg("EVALSHA").arg(digest).arg(keys.len()).arg(keys);
        for argument in arguments {
            command.arg(*argument);
        }
        let mut answer = self.ask(&command).await;
        // Somebody emptied the cache of scripts.
        if matches!(&answer, Err(LinkError::Driver(error)) if error.code() == Some("NOSCRIPT")) {
            let text = Self::text(&self.identity(), script);
            let load = redis::cmd("SCRIPT").arg("LOAD").arg(text).to_owned();
            self.ask(&load).await?;
            answer = self.ask(&command).await;
        }
        let Value::Array(words) = answer? else { return Err(LinkError::Answer("no list")) };
        let answer = Answer(words);
        if answer.word() == "EPOCH" && answer.number(1)? == REPLACED {
            self.forget();
        }
        Ok(answer)
    }

    /// Asks something else.
    pub(super) async fn ask(self: &Arc<Self>, command: &Cmd) -> Result<Value, LinkError> {
        let answer = self.say(command).await;
        answer.inspect_err(|error| self.blame(error))
    }

    /// The same, where an error may be an answer too: nothing follows from it.
    pub(super) async fn say(&self, command: &Cmd) -> Result<Value, LinkError> {
        let answer = self.connection.clone().send_packed_command(command).await;
        Ok(answer.and_then(Value::extract_error)?)
    }

    /// Draws the conclusion from an error. A connection that fell silent, or leads to a process
    /// that may not write any more, is not used again: its successor is asked who it is.
    pub(super) fn blame(self: &Arc<Self>, error: &LinkError) {
        match error {
            // Other shards of this node may be well.
            LinkError::Moved(_) | LinkError::Unplaced(_) => {
                if let Some(link) = self.link.upgrade() {
                    link.moved.notify_one();
                }
            }
            LinkError::Driver(error) if error.code() == Some("NOSCRIPT") => {}
            LinkError::Driver(_)
            | LinkError::Unfit(_)
            | LinkError::Lost
            | LinkError::Superseded
            | LinkError::Answer(_) => self.forget(),
        }
    }

    /// Finds out whether a connection still leads to the process that it was made to, as it was and
    /// with the settings that it had.
    pub(super) async fn look(self: &Arc<Self>) -> Result<(), LinkError> {
        let began = Instant::now();
        let said = self.ask(redis::cmd("INFO").arg("replication")).await?;
        let said = String::from_redis_value(said).map_err(|_| LinkError::Answer("no text"))?;
        let set = settings::settings(self.ask(&settings::question()).await?)?;
        let is_same = settings::identity(&said)
            .is_ok_and(|now| *now.id == *self.identity && (self.has_replicas || !now.has_replicas));
        if is_same && settings::unkept(&set) == self.unkept {
            *self.looked.lock().unwrap_or_else(PoisonError::into_inner) = began;
        } else {
            self.forget();
        }
        Ok(())
    }

    /// Gives a connection to a process up that is never believed again; nobody tries again for a
    /// moment, as it may still be where the URL leads. A node of a cluster may have other shards.
    pub(super) fn refuse(self: &Arc<Self>) -> LinkError {
        if !self.is_in_cluster {
            self.leave(State::Away(LinkError::Superseded));
        }
        LinkError::Superseded
    }

    /// Gives a connection up, for all callers.
    pub(super) fn forget(self: &Arc<Self>) {
        self.leave(State::Lost);
    }

    fn leave(self: &Arc<Self>, then: State) {
        let Some(link) = self.link.upgrade() else { return };
        link.state.send_if_modified(|state| {
            let is_this = matches!(state, State::Live(present) if Arc::ptr_eq(present, self));
            if is_this {
                *state = then;
            }
            is_this
        });
    }
}

/// Whether there is a connection.
#[derive(Clone)]
enum State {
    Live(Arc<Live>),
    /// There was one, or will be, until the first attempt to make another one has failed.
    Lost,
    /// It could not be made, or must not be used.
    Away(LinkError),
}

/// The link to one Redis.
pub(super) struct Link {
    /// Where a node of a cluster is.
    pub(super) node: Option<String>,
    client: Client,
    /// A process that does not keep it is not used.
    level: Durability,
    state: watch::Sender<State>,
    /// Whether somebody else connects than those who need it.
    is_kept: AtomicBool,
    /// Whether this server is the one that records the outboxes there.
    records: AtomicBool,
    /// Ends when no shard is there any more.
    pub(super) gone: CancellationToken,
    /// Tells that a shard is elsewhere.
    moved: Arc<Notify>,
    this: Weak<Self>,
}

impl Link {
    /// To the one Redis, or to a node of a cluster, which is told when a shard is not there.
    pub(super) fn new(
        client: Client,
        level: Durability,
        node: Option<(String, Arc<Notify>)>,
    ) -> Arc<Self> {
        let (node, moved) = node.unzip();
        Arc::new_cyclic(|this| Self {
            node,
            client,
            level,
            state: watch::Sender::new(State::Lost),
            is_kept: AtomicBool::new(false),
            records: AtomicBool::new(false),
            gone: CancellationToken::new(),
            moved: moved.unwrap_or_default(),
            this: Weak::clone(this),
        })
    }

    /// Whether this server is the one that records the outboxes there now.
    pub(super) fn records(&self) -> bool {
        self.records.load(Ordering::Relaxed)
    }

    pub(super) fn set_records(&self, records: bool) {
        self.records.store(records, Ordering::Relaxed);
    }

    /// The connection. If there is none, whoever keeps the link makes one, and without anybody who
    /// does it is made now.
    pub(super) async fn live(&self) -> Result<Arc<Live>, LinkError> {
        if let Some(live) = self.present() {
            return Ok(live);
        }
        if !self.is_kept.load(Ordering::Relaxed) {
            return self.renew().await;
        }
        let mut state = self.state.subscribe();
        let known = state.wait_for(|state| !matches!(state, State::Lost));
        let known = timeout(HOLD, known).await;
        match known.ok().and_then(|known| known.ok().map(|state| state.clone())) {
            Some(State::Live(live)) => Ok(live),
            Some(State::Away(error)) => Err(error),
            Some(State::Lost) | None => Err(LinkError::Lost),
        }
    }

    /// Keeps the link connected, for as long as this is awaited: an attempt must not end with the
    /// patience of the call that needs it.
    pub(super) async fn keep(&self) {
        self.is_kept.store(true, Ordering::Relaxed);
        let mut state = self.state.subscribe();
        while state.wait_for(|state| !matches!(state, State::Live(_))).await.is_ok() {
            if matches!(*state.borrow(), State::Away(_)) {
                sleep(PAUSE).await;
            }
            // Whoever needs it is told why there is none.
            drop(self.renew().await);
        }
    }

    async fn renew(&self) -> Result<Arc<Live>, LinkError> {
        let made = self.connect().await.map(Arc::new);
        match &made {
            Ok(live) => {
                self.state.send_replace(State::Live(Arc::clone(live)));
            }
            Err(error) => {
                self.state.send_replace(State::Away(error.clone()));
                tracing::warn!(%error, node = self.node.as_deref(), "redis cannot be used now");
            }
        }
        made
    }

    /// A connection of one's own, for calls that wait.
    pub(super) async fn connect(&self) -> Result<Live, LinkError> {
        let is_in_cluster = self.node.is_some();
        let looked = Mutex::new(Instant::now());
        let mut connection = connected(&self.client).await?;
        let (identity, unkept) =
            settings::check(&mut connection, self.level, is_in_cluster).await?;
        let mut digests = Vec::with_capacity(SCRIPTS.len());
        for script in SCRIPTS {
            let text = Live::text(&identity, script);
            let load = redis::cmd("SCRIPT").arg("LOAD").arg(text).to_owned();
            digests.push(load.query_async::<String>(&mut connection).await?);
        }
        let Identity { id, has_replicas } = identity;
        let (identity, link) = (id.into(), Weak::clone(&self.this));
        Ok(Live {
            connection,
            identity,
            has_replicas,
            looked,
            is_in_cluster,
            unkept,
            digests,
            link,
        })
    }

    /// The connection that there is, if there is one.
    pub(super) fn present(&self) -> Option<Arc<Live>> {
        match &*self.state.borrow() {
            State::Live(live) => Some(Arc::clone(live)),
            State::Lost | State::Away(_) => None,
        }
    }
}

/// A connection of which nothing is known yet.
pub(super) async fn connected(client: &Client) -> Result<MultiplexedConnection, LinkError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIME))
        .set_response_timeout(Some(ANSWER_TIME));
    Ok(client.get_multiplexed_async_connection_with_config(&config).await?)
}
