//! The connection to Redis: one for all calls of a server, made again when it is lost.
//!
//! A connection belongs to one process of Redis: its replication id is read when it is made, with
//! the settings that must hold (`settings`), and a process that restarts or is replaced has
//! another. Not here: what is asked (`scripts`), and who may be believed (`shards`).

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::scripts::{Answer, SCRIPTS, Script};
use super::settings::{self, Unfit};
use crate::ledger::Durability;

/// How long a connection may take to be made.
const CONNECT_TIME: Duration = Duration::from_millis(500);

/// How long Redis may take to answer. What it did meanwhile, the key finds out.
const ANSWER_TIME: Duration = Duration::from_millis(900);

/// How long nobody tries again after a connection could not be made.
const PAUSE: Duration = Duration::from_millis(50);

/// Why Redis gave no answer that can be used; it may have done what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The driver, or Redis itself, says so.
    #[error("redis does not answer: {0}")]
    Driver(#[from] redis::RedisError),
    /// It runs with settings under which the level cannot be kept.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// It could not be reached a moment ago.
    #[error("redis could not be reached a moment ago")]
    Paused,
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
    digests: Arc<[String]>,
}

/// The link; it connects when it is needed.
pub(super) struct Link {
    client: Client,
    level: Durability,
    live: RwLock<Option<Arc<Live>>>,
    failed_at: Mutex<Option<Instant>>,
}

impl Link {
    pub(super) fn new(url: &str, level: Durability) -> Result<Self, LinkError> {
        let client = Client::open(url)?;
        Ok(Self { client, level, live: RwLock::new(None), failed_at: Mutex::new(None) })
    }

    fn present(&self) -> Option<Arc<Live>> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection, made now if there is none.
    pub(super) async fn live(&self) -> Result<Arc<Live>, LinkError> {
        if let Some(live) = self.present() {
            return Ok(live);
        }
        // One tries; the others wait for what comes of it.
        let mut failed_at = self.failed_at.lock().await;
        if let Some(live) = self.present() {
            return Ok(live);
        }
        if failed_at.is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(LinkError::Paused);
        }
        match self.connect().await {
            Ok(live) => {
                *failed_at = None;
                let live = Arc::new(live);
                *self.live.write().unwrap_or_else(PoisonError::into_inner) =
                    Some(Arc::clone(&live));
                metrics::gauge!("quetra_redis_connected").set(1.0);
                Ok(live)
            }
            Err(error) => {
                *failed_at = Some(Instant::now());
                metrics::gauge!("quetra_redis_connected").set(0.0);
                tracing::warn!(%error, "redis cannot be used now");
                Err(error)
            }
        }
    }

    /// A connection of one's own, for calls that wait.
    pub(super) async fn connect(&self) -> Result<Live, LinkError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIME))
            .set_response_timeout(Some(ANSWER_TIME));
        let mut connection =
            self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let identity = settings::check(&mut connection, self.level).await?;
        let mut digests = Vec::with_capacity(SCRIPTS.len());
        for script in SCRIPTS {
            let load = redis::cmd("SCRIPT").arg("LOAD").arg(script.text()).to_owned();
            digests.push(load.query_async::<String>(&mut connection).await?);
        }
        Ok(Live { connection, identity: identity.into(), digests: digests.into() })
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
            let load = redis::cmd("SCRIPT").arg("LOAD").arg(script.text()).to_owned();
            self.ask(live, &load).await?;
            answer = self.ask(live, &command).await;
        }
        let Value::Array(words) = answer? else { return Err(LinkError::Answer("no list")) };
        Ok(Answer(words))
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
        let mut present = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if present.as_ref().is_some_and(|present| Arc::ptr_eq(present, live)) {
            *present = None;
        }
    }
}
