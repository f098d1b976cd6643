//! The connection to Redis: one for all calls of a server, made again when it is lost. A call waits
//! a moment for that and no longer; it can be decided without Redis.
//!
//! A connection belongs to one process of Redis: its replication id is read when it is made, with
//! the settings that must hold (`settings`), and a process that restarts, is replaced or promoted
//! has another. Where there are replicas each script looks at it as well: a process may be demoted
//! and promoted again while its connections last. Not here: what is asked (`scripts`), who may be
//! believed (`shards`), and who finds out that it is another now (`watch`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, Value};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

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

/// The epoch that scripts name when the process is not the one that the connection was made to.
const REPLACED: i64 = -1;

/// Why Redis gave no answer that can be used; it may have done what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The driver, or Redis itself, says so.
    #[error("redis does not answer: {0}")]
    Driver(#[from] redis::RedisError),
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

/// A connection, and whom it leads to.
#[derive(Clone)]
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    /// The replication id of the process.
    pub(super) identity: Arc<str>,
    /// Whether a replica may be promoted in its place.
    pub(super) has_replicas: bool,
    unkept: Arc<[NotKept]>,
    digests: Arc<[String]>,
}

impl Live {
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

/// The link.
pub(super) struct Link {
    client: Client,
    /// A process that does not keep it is not used.
    level: Durability,
    state: watch::Sender<State>,
    /// Whether somebody else connects than those who need it.
    is_kept: AtomicBool,
}

impl Link {
    pub(super) fn new(url: &str, level: Durability) -> Result<Self, LinkError> {
        let (client, is_kept) = (Client::open(url)?, AtomicBool::new(false));
        Ok(Self { client, level, state: watch::Sender::new(State::Lost), is_kept })
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
                metrics::gauge!("quetra_redis_connected").set(1.0);
            }
            Err(error) => {
                self.state.send_replace(State::Away(error.clone()));
                metrics::gauge!("quetra_redis_connected").set(0.0);
                tracing::warn!(%error, "redis cannot be used now");
            }
        }
        made
    }

    /// A connection of one's own, for calls that wait.
    pub(super) async fn connect(&self) -> Result<Live, LinkError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIME))
            .set_response_timeout(Some(ANSWER_TIME));
        let mut connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let (identity, unkept) = settings::check(&mut connection, self.level).await?;
        let mut digests = Vec::with_capacity(SCRIPTS.len());
        for script in SCRIPTS {
            let text = Live::text(&identity, script);
            let load = redis::cmd("SCRIPT").arg("LOAD").arg(text).to_owned();
            digests.push(load.query_async::<String>(&mut connection).await?);
        }
        let Identity { id, has_replicas } = identity;
        let (identity, unkept) = (id.into(), unkept.into());
        Ok(Live { connection, identity, has_replicas, unkept, digests: digests.into() })
    }

    /// Runs a script; its answer is a list that begins with a word.
    pub(super) async fn run(
        &self,
        live: &Arc<Live>,
        script: Script,
        keys: &[String],
        arguments: &[&[u8]],
    ) -> Result<Answer, LinkError> {
        let digest = live.digests.get(script.place()).ok_or(LinkError::Answer("no digest"))?;
        let mut command = Cmd::new();
        command.arg("EVALSHA").arg(digest).arg(keys.len()).arg(keys);
        for argument in arguments {
            command.arg(*argument);
        }
        let mut answer = self.ask(live, &command).await;
        // Somebody emptied the cache of scripts.
        if matches!(&answer, Err(LinkError::Driver(error)) if error.code() == Some("NOSCRIPT")) {
            let text = Live::text(&live.identity(), script);
            let load = redis::cmd("SCRIPT").arg("LOAD").arg(text).to_owned();
            self.ask(live, &load).await?;
            answer = self.ask(live, &command).await;
        }
        let Value::Array(words) = answer? else { return Err(LinkError::Answer("no list")) };
        let answer = Answer(words);
        if answer.word() == "EPOCH" && answer.number(1)? == REPLACED {
            self.forget(live);
        }
        Ok(answer)
    }

    /// Finds out whether a connection still leads to the process that it was made to, as it was.
    pub(super) async fn look(&self, live: &Arc<Live>) -> Result<(), LinkError> {
        let said = self.ask(live, redis::cmd("INFO").arg("replication")).await?;
        let said = String::from_redis_value(said).map_err(|_| LinkError::Answer("no text"))?;
        let is_same = settings::identity(&said)
            .is_ok_and(|now| *now.id == *live.identity && (live.has_replicas || !now.has_replicas));
        if !is_same {
            self.forget(live);
        }
        Ok(())
    }

    /// Gives a connection to a process up that is never believed again; nobody tries again for a
    /// moment, as it may still be where the URL leads.
    pub(super) fn refuse(&self, live: &Arc<Live>) -> LinkError {
        self.leave(live, State::Away(LinkError::Superseded));
        LinkError::Superseded
    }

    /// The connection that there is, if there is one.
    pub(super) fn present(&self) -> Option<Arc<Live>> {
        match &*self.state.borrow() {
            State::Live(live) => Some(Arc::clone(live)),
            State::Lost | State::Away(_) => None,
        }
    }

    /// Asks something else.
    pub(super) async fn ask(&self, live: &Arc<Live>, command: &Cmd) -> Result<Value, LinkError> {
        let answer = live.connection.clone().send_packed_command(command).await;
        let answer = answer.and_then(Value::extract_error);
        answer.map_err(|error| {
            // A connection that fell silent, or leads to a process that may not write any more, is
            // not used again: its successor is asked who it is.
            let is_of_the_script = error.code() == Some("NOSCRIPT");
            if !is_of_the_script {
                self.forget(live);
            }
            LinkError::Driver(error)
        })
    }

    /// Gives a connection up, for all callers.
    pub(super) fn forget(&self, live: &Arc<Live>) {
        self.leave(live, State::Lost);
    }

    fn leave(&self, live: &Arc<Live>, then: State) {
        self.state.send_if_modified(|state| {
            let is_this = matches!(state, State::Live(present) if Arc::ptr_eq(present, live));
            if is_this {
                *state = then;
            }
            is_this
        });
    }
}
