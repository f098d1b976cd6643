//! Killing, stopping and ending the real binary under load: no answered decision is lost, none is
//! invented, and every promise holds afterwards.
//!
//! `QUETRA_KILLS` says how often the server is killed. The clients are in `crash/load`, the judge
//! is `checker`, power failures in `crash/power`. Not here: faults inside one process.

pub(crate) mod load;
#[cfg(target_os = "linux")]
pub(crate) mod power;

use std::fs;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use self::load::{Client, Shared};
use crate::checker;
use crate::checker::books::Books;
use crate::checker::history::{Call, Outcome, Request};
use crate::checker::read::check_file;
use crate::dice::{Dice, setting};
use crate::harness::Folder;
use crate::process::Process;

const CLIENTS: u64 = 24;
const KILLS: u64 = 8;
/// How many calls must be answered between two faults.
const CALLS: usize = 600;
/// How long they may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server under load.
struct Scene {
    folder: Folder,
    preload: Option<PathBuf>,
    process: Arc<Mutex<Process>>,
    address: watch::Sender<Vec<String>>,
    shared: Arc<Shared>,
    spenders: JoinSet<Client>,
    administrators: JoinSet<()>,
}

fn admin_key(folder: &Folder) -> String {
    let text = fs::read_to_string(folder.path().join("credentials.toml")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("admin_key = \"")).unwrap();
    line.trim_end_matches('"').to_owned()
}

impl Scene {
    async fn new() -> Self {
        Self::with(|_| None).await
    }

    /// With a library preloaded into the server.
    async fn with(preload: impl FnOnce(&Folder) -> Option<PathBuf>) -> Self {
        let folder = Folder::new();
        let preload = preload(&folder);
        let process = Process::start_with(folder.path(), preload.as_deref());
        let (address, url) = watch::channel(vec![process.url.clone()]);
        let shared = Shared::new(url, &admin_key(&folder), &[]).await;
        let mut spenders = JoinSet::new();
        for name in 0..CLIENTS {
            spenders.spawn(Client::new(&shared, name).spend());
        }
        let mut administrators = JoinSet::new();
        administrators.spawn(Client::new(&shared, CLIENTS).administer());
        administrators.spawn(Client::new(&shared, CLIENTS + 1).control());
        let process = Arc::new(Mutex::new(process));
        Self { folder, preload, process, address, shared, spenders, administrators }
    }

    /// Lets the clients make this many calls more.
    async fn work(&self, calls: usize) {
        let (wanted, until) = (self.shared.answered() + calls, Instant::now() + PATIENCE);
        while self.shared.answered() < wanted {
            let made = self.shared.answered();
            assert!(
                Instant::now() < until,
                "{made} of {wanted} calls: {}",
                self.process().errors()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap()
    }

    /// Waits until the server has ended, by whatever hand.
    async fn end(&self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            let ended = self.process().ended();
            if let Some(status) = ended {
                return status;
            }
            assert!(Instant::now() < until, "the server does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills the server, under load, as soon as something is so.
    #[cfg(target_os = "linux")]
    async fn kill_when(&self, is_so: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            let answered = self.shared.answered();
            assert!(Instant::now() < until, "{answered} calls: {}", self.process().errors());
            tokio::task::yield_now().await;
        }
        self.process().kill();
    }

    fn restart(&self) {
        let started = Process::start_with(self.folder.path(), self.preload.as_deref());
        self.address.send_replace(vec![started.url.clone()]);
        *self.process() = started;
    }

    /// Ends the load, asks some questions again, ends the server and judges.
    async fn judge(mut self) -> Vec<Call> {
        self.shared.stop();
        while self.administrators.join_next().await.transpose().unwrap().is_some() {}
        for client in std::mem::take(&mut self.spenders).join_all().await {
            client.repeat(10).await;
        }
        self.process().signal("TERM");
        let status = self.end().await;
        assert_eq!(status.code(), Some(0), "{}", self.process().errors());
        let books = Books::of_file(&self.folder.database()).await;
        let history = self.shared.history();
        checker::acquit(&checker::violations(&history, &books));
        history
    }
}

/// That the test has tested something.
pub(crate) fn assert_rich(history: &[Call]) {
    let count = |wanted: &dyn Fn(&Call) -> bool| history.iter().filter(|call| wanted(call)).count();
    let is_approved =
        |call: &Call| call.outcome.decided().map(|decided| decided.verdict == "approved");
    let numbers = [
        ("approved", count(&|call| is_approved(call) == Some(true))),
        ("rejected", count(&|call| is_approved(call) == Some(false))),
        ("resolved", count(&|call| call.outcome == Outcome::Resolved)),
        ("changes", count(&|call| matches!(call.outcome, Outcome::Changed { .. }))),
        ("unknown", count(&|call| call.outcome == Outcome::Unknown)),
    ];
    println!("{} calls: {numbers:?}", history.len());
    for (what, number) in numbers {
        assert!(number >= 10, "only {number} were {what}");
    }
    for call in history {
        // A spender asks for nothing that could be refused as wrong.
        if let (Request::Evaluate { .. }, Outcome::Failed(error)) = (&call.request, &call.outcome) {
            let is_lost_race = error.contains("CONCURRENT_CHANGE") || error.contains("changed");
            let is_revoked = error.contains("Unauthenticated");
            assert!(is_lost_race || is_revoked, "{call:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_again_and_again_keeps_every_promise() {
    let scene = Scene::new().await;
    let mut dice = Dice::new(setting("QUETRA_SEED", 1));
    for kill in 0..setting("QUETRA_KILLS", KILLS) {
        scene.work(CALLS).await;
        if kill % 2 == 0 {
            // Where an answer that came too early would show.
            scene.shared.kill_on_decision(&scene.process);
        } else {
            // At no particular point of anything.
            tokio::time::sleep(Duration::from_micros(dice.next() % 20_000)).await;
            scene.process().kill();
        }
        assert_eq!(scene.end().await.code(), None, "it ended by itself");
        if kill % 3 == 2 {
            // And once more while it starts.
            let (mut child, _lines) = Process::launch(scene.folder.path());
            tokio::time::sleep(Duration::from_micros(dice.next() % 150_000)).await;
            child.kill().unwrap();
            child.wait().unwrap();
        }
        scene.restart();
    }
    scene.work(CALLS).await;
    assert_rich(&scene.judge().await);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_power_failure_takes_nothing_that_anybody_was_told() {
    let scene = Scene::with(|folder| Some(power::build(folder.path()))).await;
    let mut dice = Dice::new(setting("QUETRA_SEED", 2));
    let database = scene.folder.database();
    let mut unsynced = 0;
    for kill in 0..setting("QUETRA_KILLS", KILLS) {
        match kill % 4 {
            // While a commit waits for the disk.
            0 => {
                scene.work(CALLS / 2).await;
                scene.kill_when(|| power::is_due(&database, "quetra.db-wal")).await;
            }
            // While the log is being moved into the database.
            1 => scene.kill_when(|| power::is_due(&database, "quetra.db")).await,
            _ => {
                scene.work(CALLS / 2).await;
                scene.shared.kill_on_decision(&scene.process);
            }
        }
        scene.end().await;
        unsynced += power::fail(&database, &mut dice);
        scene.restart();
    }
    scene.work(CALLS / 2).await;
    assert_rich(&scene.judge().await);
    assert!(unsynced > 0, "nothing was ever lost: this was no test");
    println!("{unsynced} writes were not synced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_end_under_load_ends_well_and_loses_nothing() {
    let scene = Scene::new().await;
    for _ in 0..2 {
        scene.work(CALLS).await;
        scene.process().signal("TERM");
        let status = scene.end().await;
        assert_eq!(status.code(), Some(0), "{}", scene.process().errors());
        // The file alone is the whole database.
        let log = scene.folder.database().with_extension("db-wal");
        assert!(fs::metadata(&log).is_ok_and(|log| log.len() == 0) || !log.exists());
        check_file(&scene.folder.database()).await;
        scene.restart();
    }
    scene.work(CALLS).await;
    assert_rich(&scene.judge().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_frozen_for_a_while_goes_on_as_if_nothing_had_been() {
    let scene = Scene::new().await;
    for _ in 0..3 {
        scene.work(CALLS / 2).await;
        scene.process().signal("STOP");
        // Longer than a call may take, so that every client has given up on one.
        tokio::time::sleep(Duration::from_millis(1_000)).await;
        scene.process().signal("CONT");
    }
    scene.work(CALLS / 2).await;
    assert_rich(&scene.judge().await);
}

#[test]
fn a_first_start_that_was_killed_can_be_repeated() {
    let mut dice = Dice::new(7);
    for _ in 0..4 {
        let folder = Folder::new();
        for _ in 0..3 {
            let (mut child, _lines) = Process::launch(folder.path());
            std::thread::sleep(Duration::from_micros(dice.next() % 120_000));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let mut process = Process::start(folder.path());
        process.signal("TERM");
        assert_eq!(process.wait().code(), Some(0), "{}", process.errors());
    }
}
