//! The thread that attempts are made on: one beside those of the calls, and behind them.
//!
//! Signing, connections, TLS and waiting for answers happen here, so that delivering takes one
//! processor at most, and on Linux next to nothing of it while decisions need them all: what waits
//! then is told as soon as they need less. Not here: what is sent (`attempt`), and how much at a
//! time (`lane`).

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How far behind the threads of the calls it is where processors are short. The system gives a
/// thread that is so nice about 2 % of a processor that others want all of, never nothing.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 16;

/// The thread; it ends, with the attempts on it, when this is dropped.
pub(super) struct Sender {
    handle: Handle,
    _ended: Option<DropGuard>,
}

impl Sender {
    /// Starts the thread. If the system has none to give, attempts are made among the calls.
    pub(super) fn start() -> Self {
        match Self::apart() {
            Ok(sender) => sender,
            Err(error) => {
                tracing::warn!(%error, "webhooks have no thread of their own");
                Self { handle: Handle::current(), _ended: None }
            }
        }
    }

    fn apart() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let (handle, ended) = (runtime.handle().clone(), CancellationToken::new());
        let end = ended.clone();
        std::thread::Builder::new().name("webhooks".to_owned()).spawn(move || {
            give_way();
            runtime.block_on(end.cancelled());
        })?;
        Ok(Self { handle, _ended: Some(ended.drop_guard()) })
    }

    pub(super) const fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// Puts this thread behind the others of the process.
fn give_way() {
    // Elsewhere than on Linux the whole process would be meant.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "webhooks take processor time from decisions");
    }
}
