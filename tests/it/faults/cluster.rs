//! A Postgres cluster that one test has alone, to stop, freeze, hurt and start again; and servers
//! on it, as real processes.
//!
//! `tests/services own` makes it and starts it; its port stays the same. Not here: what is done to
//! it, and what must come of that (`faults`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Executor};

use crate::harness::Folder;
use crate::process::{Process, quetra};

/// How long Postgres may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Postgres of its own; stopped and removed when it is dropped.
pub(crate) struct Cluster {
    name: String,
    /// Of its first database, as its owner.
    pub(crate) url: String,
    pub(crate) data: PathBuf,
}

fn services(arguments: &[&str]) -> Output {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services");
    Command::new(script).args(arguments).output().unwrap()
}

fn shell(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

impl Cluster {
    /// One with usual settings.
    pub(crate) async fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("faults-{}-{number}", std::process::id());
        let mut cluster = Self { name, url: String::new(), data: PathBuf::new() };
        cluster.url = cluster.start(&[]);
        let data: String = cluster.ask("SHOW data_directory").await;
        cluster.data = data.into();
        cluster
    }

    /// Starts it, if it does not run, with settings such as `fsync=off`.
    pub(crate) fn start(&self, settings: &[&str]) -> String {
        let settings = settings.iter().flat_map(|setting| ["-c", setting]);
        let arguments = ["own", &self.name].into_iter().chain(settings);
        let output = services(&arguments.collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "Postgres did not start: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn pid(&self) -> String {
        let file = fs::read_to_string(self.data.join("postmaster.pid")).unwrap();
        file.lines().next().unwrap().to_owned()
    }

    /// Ends it at once, as `pg_ctl stop -m immediate` does: no session is told why.
    pub(crate) fn stop(&self) {
        let (pid, until) = (self.pid(), Instant::now() + PATIENCE);
        shell(&format!("kill -QUIT {pid}"));
        while shell(&format!("kill -0 {pid} 2>/dev/null && echo alive")).contains("alive") {
            assert!(Instant::now() < until, "Postgres does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal to it and to all its sessions.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid();
        shell(&format!("kill -{name} {pid}; pkill -{name} -P {pid}"));
    }

    /// Runs a statement in a database, as its owner.
    pub(crate) async fn run(&self, url: &str, sql: &str) {
        let mut connection = PgConnection::connect(url).await.unwrap();
        connection.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
        connection.close().await.unwrap();
    }

    pub(crate) async fn ask(&self, sql: &str) -> String {
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        let sql = AssertSqlSafe(sql.to_owned());
        let answer = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        answer
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        services(&["disown", &self.name]);
    }
}

/// A folder with what servers on one database need.
pub(crate) struct Site {
    pub(crate) folder: Folder,
    pub(crate) database: String,
    /// Of the admin of its organization.
    pub(crate) key: String,
}

impl Site {
    /// A migrated database with an organization.
    pub(crate) fn new(database: &str) -> Self {
        let folder = Folder::new();
        let path = folder.path().join("master.key");
        fs::write(&path, "0f1e2d3c4b5a6978".repeat(4)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut site = Self { folder, database: database.to_owned(), key: String::new() };
        let made = site.command("init").args(["--org", "Acme", "-o", "json"]).output().unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        made["key"].as_str().unwrap().clone_into(&mut site.key);
        site
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, command: &str) -> Command {
        self.command_by(command, &self.database)
    }

    fn command_by(&self, command: &str, database: &str) -> Command {
        let mut command = quetra(&[command, "--database-url", database]);
        command.arg("--master-key-file").arg(self.log("master.key"));
        command
    }

    fn serving(&self, database: &str) -> Command {
        let mut command = self.command_by("serve", database);
        command.args(["--listen", "127.0.0.1:0", "--log", "info"]);
        command.args(["--request-timeout-ms", "2000"]);
        command
    }

    /// Starts a server; its name is that of its log.
    pub(crate) fn serve(&self, name: &str) -> Process {
        self.serve_by(name, &self.database, &[])
    }

    /// The same, of a server that reaches the database by another way and has more arguments.
    pub(crate) fn serve_by(&self, name: &str, database: &str, arguments: &[String]) -> Process {
        self.serve_in(name, database, arguments, &[])
    }

    /// The same, with more in its environment.
    pub(crate) fn serve_in(
        &self,
        name: &str,
        database: &str,
        arguments: &[String],
        environment: &[(&'static str, PathBuf)],
    ) -> Process {
        let mut command = self.serving(database);
        command.args(arguments).envs(environment.iter().cloned());
        Process::serve(command, &self.log(name))
    }

    /// What a server says that does not start; how long that takes is bounded too.
    pub(crate) fn refused(&self) -> String {
        let began = Instant::now();
        let output = self.serving(&self.database).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "it did not refuse to start");
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        String::from_utf8(output.stderr).unwrap()
    }
}

/// That a server's log shows no password.
pub(crate) fn assert_silent(log: &Path, database: &str) {
    let text = fs::read_to_string(log).unwrap();
    let password = database.split([':', '@']).nth(2).unwrap();
    assert!(!text.contains(password), "the password is in {text}");
}
