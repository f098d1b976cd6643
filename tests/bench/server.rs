//! The product as a child process: `quetra dev` on a folder and a free port of its own.
//!
//! The binary is the one cargo built with the profile of the benchmark. It is killed when the
//! handle goes, which the product has to survive anyway. Not here: what is asked of it.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::loader::{self, Calls, Target, WrongDecision};

/// How long a start may take before the benchmark gives up; no target.
const START_MAX: Duration = Duration::from_secs(60);
/// How often a starting server is asked.
const ASK_EVERY: Duration = Duration::from_millis(1);
/// How much of its log is shown when it did not start, in bytes.
const LOG_SHOWN: usize = 4096;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    data: PathBuf,
    key: String,
}

/// The part of `credentials.toml` that is needed here.
#[derive(Deserialize)]
struct Credentials {
    admin_key: String,
}

impl Server {
    /// Starts a server and waits until it is healthy.
    ///
    /// # Errors
    /// It ends, or is not healthy in time; the error shows the end of its log.
    pub(crate) async fn start(data: &Path) -> anyhow::Result<Self> {
        let mut server = Self::spawn(data)?;
        server.wait_for(&Calls::Echo).await?;
        let path = data.join("credentials.toml");
        let text = fs::read_to_string(&path).context("the server wrote no credentials.toml")?;
        server.key = toml::from_str::<Credentials>(&text)?.admin_key;
        Ok(server)
    }

    /// Starts a server on a folder that was in use before, and measures from before the process
    /// exists to its first decision.
    ///
    /// # Errors
    /// As `start`; or the decision is wrong.
    pub(crate) async fn start_cold(
        data: &Path,
        key: &str,
        calls: &Calls,
    ) -> anyhow::Result<(Self, Duration)> {
        let started = Instant::now();
        let mut server = Self::spawn(data)?;
        server.key = key.to_owned();
        server.wait_for(calls).await?;
        Ok((server, started.elapsed()))
    }

    /// Starts a production server on an empty Postgres database, with an organization.
    ///
    /// # Errors
    /// As `start`.
    pub(crate) async fn serve(folder: &Path, database: &str) -> anyhow::Result<Self> {
        Self::serve_with(folder, database, &[]).await
    }

    /// The same with more settings, as variables.
    ///
    /// # Errors
    /// As `start`.
    pub(crate) async fn serve_with(
        folder: &Path,
        database: &str,
        settings: &[(&str, String)],
    ) -> anyhow::Result<Self> {
        let key = crate::postgres::master_key(folder)?;
        let command = |name: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_quetra"));
            command.args([name, "--database-url", database, "--master-key-file"]).arg(&key);
            command.envs(settings.iter().map(|(variable, value)| (variable, value)));
            command
        };
        let made = command("init").args(["--org", "Bench", "--output", "json"]).output()?;
        if !made.status.success() {
            bail!("quetra init failed: {}", String::from_utf8_lossy(&made.stderr));
        }
        let made: serde_json::Value = serde_json::from_slice(&made.stdout)?;
        let admin = made["key"].as_str().context("quetra init printed no key")?;
        let mut server = Self::run(command("serve"), &folder.join("data"))?;
        server.wait_for(&Calls::Echo).await?;
        admin.clone_into(&mut server.key);
        Ok(server)
    }

    /// Where the loader sends its calls.
    pub(crate) fn target(&self) -> Target {
        Target { address: self.address, key: self.key.clone(), process: Some(self.process()) }
    }

    /// Its process id.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn spawn(data: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quetra"));
        command.arg("dev").arg("--data-dir").arg(data);
        Self::run(command, data)
    }

    /// Runs a command on an address of its own.
    fn run(mut command: Command, data: &Path) -> anyhow::Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = File::create(log_path(data))?;
        let child = command
            .arg("--listen")
            .arg(address.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("the server binary does not start")?;
        Ok(Self { child, address, data: data.to_owned(), key: String::new() })
    }

    /// Repeats a call until it succeeds; a wrong decision is not asked for again.
    async fn wait_for(&mut self, calls: &Calls) -> anyhow::Result<()> {
        let target = self.target();
        let started = Instant::now();
        loop {
            let Err(failure) = loader::call_once(&target, calls).await else {
                return Ok(());
            };
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended with {status}:\n{}", log_end(&self.data));
            }
            if failure.is::<WrongDecision>() || started.elapsed() > START_MAX {
                return Err(failure
                    .context(log_end(&self.data))
                    .context("the server did not start well"));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails only if the process is gone already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Beside the data folder, not in it: its size is measured.
fn log_path(data: &Path) -> PathBuf {
    data.with_extension("log")
}

fn log_end(data: &Path) -> String {
    let log = fs::read(log_path(data)).unwrap_or_default();
    String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_SHOWN)..]).into_owned()
}
