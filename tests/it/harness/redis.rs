//! Private Redis servers: one that most tests share, each in a logical database of its own, and
//! more for tests that kill, empty or replace one.
//!
//! All listen on ports of their own and keep their files in folders of their own. A test that needs
//! one fails when it cannot be had. Not here: what is kept there (`ledger_check`).

use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to answer after its start.
const START_TIME: Duration = Duration::from_secs(20);

/// Logical databases of the shared server: more than a run of the tests needs.
const DATABASES: u64 = 16_384;

static BINARY: LazyLock<String> = LazyLock::new(|| {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/services");
    let output = Command::new(script).arg("redis").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "this test needs Redis, and there is none: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
});

/// Starts processes that end with this one: the kernel kills them when the thread that started
/// them ends, and this one never does.
static SPAWNER: LazyLock<Sender<(Command, Sender<Child>)>> = LazyLock::new(|| {
    let (ask, asked) = mpsc::channel::<(Command, Sender<Child>)>();
    std::thread::spawn(move || {
        for (mut command, reply) in asked {
            drop(reply.send(command.spawn().unwrap()));
        }
    });
    ask
});

static SHARED: LazyLock<Redis> = LazyLock::new(|| Redis::start("everysec"));

/// A server of one's own.
pub(crate) struct Redis {
    folder: TempDir,
    port: u16,
    settings: Vec<String>,
    /// What is loaded before anything else, if something is.
    preloaded: Option<PathBuf>,
    child: Option<Child>,
}

/// The URL of an empty logical database on the shared server.
pub(crate) fn fresh_redis() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(number < DATABASES, "the shared Redis has no database left");
    format!("redis://127.0.0.1:{}/{number}", SHARED.port)
}

/// What a server needs for what it promises, with this `appendfsync`.
pub(crate) fn settings(fsync: &str) -> Vec<String> {
    let settings = ["--save", "", "--appendonly", "yes", "--appendfsync", fsync];
    // A replica gets what there is at once, without waiting for others that may want it too.
    let settings = settings.into_iter().chain(["--repl-diskless-sync-delay", "0"]);
    settings.map(str::to_owned).collect()
}

/// Asks whoever has the key, one Redis or a node of its cluster.
pub(crate) struct Asker {
    first: String,
    nodes: HashMap<String, redis::Connection>,
}

impl Asker {
    /// By way of the first node of a URL that is there.
    pub(crate) fn new(url: &str) -> Self {
        let is_there = |url: &&str| {
            redis::Client::open(*url).is_ok_and(|client| client.get_connection().is_ok())
        };
        let first = url.split(',').find(is_there).unwrap().to_owned();
        Self { first, nodes: HashMap::new() }
    }

    pub(crate) fn ask(&mut self, command: &redis::Cmd) -> redis::Value {
        let mut at = self.first.clone();
        loop {
            let open = || redis::Client::open(&*at).unwrap().get_connection().unwrap();
            let node = self.nodes.entry(at.clone()).or_insert_with(open);
            match command.query(node) {
                Ok(said) => return said,
                Err(error) => match error.redirect_node() {
                    Some((node, _)) => at = format!("redis://{node}"),
                    None => panic!("{error}"),
                },
            }
        }
    }
}

impl Redis {
    /// A new and empty one, with this `appendfsync`.
    pub(crate) fn start(fsync: &str) -> Self {
        let mut settings = settings(fsync);
        settings.extend(["--databases".to_owned(), DATABASES.to_string()]);
        Self::start_with(&settings)
    }

    /// A new and empty one, with these settings.
    pub(crate) fn start_with(settings: &[String]) -> Self {
        Self::start_as(settings, None)
    }

    /// The same, with a library in front of all others, each time it runs.
    pub(crate) fn start_as(settings: &[String], preloaded: Option<&Path>) -> Self {
        let folder = tempfile::Builder::new().prefix("quetra-redis-").tempdir().unwrap();
        let (settings, preloaded) = (settings.to_owned(), preloaded.map(Path::to_owned));
        let mut redis = Self { folder, port: free_port(), settings, preloaded, child: None };
        redis.again();
        redis
    }

    /// The files that it appends what is written to.
    pub(crate) fn logs(&self) -> Vec<PathBuf> {
        let logs = fs::read_dir(self.folder.path().join("appendonlydir")).unwrap();
        let logs = logs.map(|entry| entry.unwrap().path());
        logs.filter(|path| path.to_str().unwrap().ends_with(".incr.aof")).collect()
    }

    /// A replica of another one, that runs in the same way and has everything it has.
    pub(crate) fn replica_of(master: &Self) -> Self {
        let replica = Self::start_as(&master.settings, master.preloaded.as_deref());
        replica.follow(master);
        replica
    }

    /// Becomes a replica, and gets everything that the other one has.
    pub(crate) fn follow(&self, master: &Self) {
        self.ask(&format!("REPLICAOF 127.0.0.1 {}", master.port));
        let since = Instant::now();
        while !self.info("replication").contains("master_link_status:up") {
            assert!(since.elapsed() < START_TIME, "it does not get what its master has");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A replica becomes a master; the other one goes on.
    pub(crate) fn promote(&self) {
        self.ask("REPLICAOF NO ONE");
    }

    pub(crate) fn info(&self, section: &str) -> String {
        let said = self.ask(&format!("INFO {section}"));
        redis::from_redis_value(said).unwrap()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Where it listens, each time it runs.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Copies what it has on its disk, while it does not run.
    pub(crate) fn copy_to(&self, dump: &Path) {
        assert!(self.child.is_none(), "it runs");
        copy(self.folder.path(), dump);
    }

    /// Copies what it has on its disk at a moment while it runs.
    pub(crate) fn copy_as_it_is_to(&self, dump: &Path) {
        self.signal("STOP");
        copy(self.folder.path(), dump);
        self.signal("CONT");
    }

    /// Puts such a copy back in place of what it has.
    pub(crate) fn put_back(&self, dump: &Path) {
        self.empty();
        copy(dump, self.folder.path());
    }

    /// Starts it again on what its folder has.
    pub(crate) fn again(&mut self) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", &BINARY]);
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--dir", self.folder.path().to_str().unwrap(), "--daemonize", "no"]);
        command.args(&self.settings);
        if let Some(library) = &self.preloaded {
            command.env("LD_PRELOAD", library);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let (reply, started) = mpsc::channel();
        SPAWNER.send((command, reply)).unwrap();
        self.child = Some(started.recv().unwrap());
        let since = Instant::now();
        while self.try_ask("PING").is_none() {
            assert!(since.elapsed() < START_TIME, "Redis does not answer");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Sends it a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &id]).status().unwrap();
        assert!(sent.success(), "it does not run");
    }

    /// Forgets everything that it had on its disk, while it does not run.
    pub(crate) fn empty(&self) {
        assert!(self.child.is_none(), "it runs");
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                fs::remove_dir_all(path).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
    }

    /// A command of one word or more, which must succeed.
    pub(crate) fn ask(&self, command: &str) -> redis::Value {
        self.try_ask(command).unwrap_or_else(|| panic!("`{command}` failed"))
    }

    fn try_ask(&self, command: &str) -> Option<redis::Value> {
        let mut words = command.split(' ');
        let mut ask = redis::cmd(words.next()?);
        words.for_each(|word| {
            ask.arg(word);
        });
        let mut connection = redis::Client::open(self.url()).ok()?.get_connection().ok()?;
        ask.query(&mut connection).ok()
    }
}

/// A port that nobody has now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Copies a folder of files and of folders of files.
fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}
