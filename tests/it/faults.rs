//! Postgres stopped, frozen and its sessions ended under two servers at work; and the servers
//! killed: nothing answered is lost, nothing is spent twice, and nobody waits beyond the deadline.
//!
//! Clients go to either server and repeat each call with the same key until it is answered; their
//! histories and the database are judged together (`checker`). `QUETRA_KILLS` scales it. Not
//! here: what is refused, and with which words (`faults/refusals`).

pub(crate) mod cluster;
pub(crate) mod encryption;
mod refusals;

use std::process::ExitStatus;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::cluster::{Cluster, Site, assert_silent};
use crate::checker;
use crate::checker::books::Books;
use crate::crash::assert_rich;
use crate::crash::load::{Client, Shared};
use crate::dice::{Dice, setting};
use crate::process::Process;

const CLIENTS: u64 = 24;
/// How many calls must be answered between two faults.
const CALLS: usize = 150;
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends the session of a server, at whatever point it is; which one is random.
const END_ONE: &str = "SELECT count(pg_terminate_backend(pid)) FROM (
    SELECT pid FROM pg_stat_activity
    WHERE application_name = 'quetra' AND state <> 'idle' ORDER BY random() LIMIT 1) one";

/// Two servers at work on a Postgres of their own.
struct Scene {
    cluster: Cluster,
    site: Site,
    servers: [Arc<Mutex<Process>>; 2],
    addresses: watch::Sender<Vec<String>>,
    shared: Arc<Shared>,
    spenders: JoinSet<Client>,
    administrators: JoinSet<()>,
}

const LOGS: [&str; 2] = ["one.log", "other.log"];

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::new().await;
        let site = Site::new(&cluster.url);
        let servers = LOGS.map(|log| Arc::new(Mutex::new(site.serve(log))));
        let urls = servers.iter().map(|server| server.lock().unwrap().url.clone()).collect();
        let (addresses, urls) = watch::channel(urls);
        let shared = Shared::new(urls, &site.key, &[]).await;
        let mut spenders = JoinSet::new();
        for name in 0..CLIENTS {
            spenders.spawn(Client::new(&shared, name).spend());
        }
        let mut administrators = JoinSet::new();
        administrators.spawn(Client::new(&shared, CLIENTS).administer());
        administrators.spawn(Client::new(&shared, CLIENTS + 1).control());
        Self { cluster, site, servers, addresses, shared, spenders, administrators }
    }

    /// Lets the clients get this many answers more.
    async fn work(&self, calls: usize) {
        let (wanted, until) = (self.shared.answered() + calls, Instant::now() + PATIENCE);
        while self.shared.answered() < wanted {
            let errors = self.servers.each_ref().map(|server| server.lock().unwrap().errors());
            let made = self.shared.answered();
            assert!(Instant::now() < until, "{made} of {wanted} calls: {}", errors.join("\n"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a server has ended, by whatever hand.
    async fn end(&self, which: usize) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            let ended = self.servers[which].lock().unwrap().ended();
            if let Some(status) = ended {
                return status;
            }
            assert!(Instant::now() < until, "the server does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn restart(&self, which: usize) {
        let started = self.site.serve(LOGS[which]);
        self.addresses.send_modify(|urls| urls[which].clone_from(&started.url));
        *self.servers[which].lock().unwrap() = started;
    }

    /// Ends the load, asks some questions again, ends the servers and judges.
    async fn judge(mut self) {
        self.shared.stop();
        while self.administrators.join_next().await.transpose().unwrap().is_some() {}
        for client in std::mem::take(&mut self.spenders).join_all().await {
            client.repeat(5).await;
        }
        for (server, log) in self.servers.iter().zip(LOGS) {
            let mut server = server.lock().unwrap();
            server.signal("TERM");
            assert_eq!(server.wait().code(), Some(0), "{}", server.errors());
            assert_silent(&self.site.log(log), &self.site.database);
        }
        let books = Books::of_server(&self.site.database).await;
        let history = self.shared.history();
        checker::acquit(&checker::violations(&history, &books));
        assert_rich(&history);
    }
}

fn kills(usual: u64) -> u64 {
    setting("QUETRA_KILLS", usual)
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_may_be_gone_for_seconds_and_nothing_has_to_be_started_again() {
    let scene = Scene::new().await;
    for _ in 0..2 {
        scene.work(CALLS).await;
        scene.cluster.stop();
        // Longer than any call may take: everybody has been told something else than a decision.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        scene.cluster.start(&[]);
    }
    scene.work(CALLS).await;
    scene.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_may_hang_and_goes_on_as_if_nothing_had_been() {
    let scene = Scene::new().await;
    for _ in 0..2 {
        scene.work(CALLS).await;
        scene.cluster.signal("STOP");
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        scene.cluster.signal("CONT");
    }
    scene.work(CALLS).await;
    scene.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_end_anywhere_and_during_the_commit_lose_nothing() {
    let scene = Scene::new().await;
    let mut connection = PgConnection::connect(&scene.cluster.url).await.unwrap();
    let mut dice = Dice::new(setting("QUETRA_SEED", 3));
    let mut ended = 0;
    // First at any statement, then, as commits are made to take long, mostly in one.
    for slow in ["0", "20000"] {
        let slow = format!("ALTER SYSTEM SET commit_delay = {slow}");
        scene.cluster.run(&scene.cluster.url, &slow).await;
        let siblings = "ALTER SYSTEM SET commit_siblings = 0";
        scene.cluster.run(&scene.cluster.url, siblings).await;
        scene.cluster.run(&scene.cluster.url, "SELECT pg_reload_conf()").await;
        for _ in 0..kills(40) {
            ended +=
                sqlx::query_scalar::<_, i64>(END_ONE).fetch_one(&mut connection).await.unwrap();
            tokio::time::sleep(Duration::from_micros(dice.next() % 30_000)).await;
        }
        scene.work(CALLS).await;
    }
    assert!(ended > 20, "only {ended} sessions were ended");
    connection.close().await.unwrap();
    scene.judge().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_killed_in_turn_lose_nothing_that_the_other_is_asked_for() {
    let scene = Scene::new().await;
    let mut dice = Dice::new(setting("QUETRA_SEED", 4));
    for kill in 0..kills(8) {
        scene.work(CALLS).await;
        let which = dice.below(2);
        if kill % 2 == 0 {
            // Where an answer that came too early would show: whoever has it goes to the other.
            scene.shared.kill_on_decision(&scene.servers[which]);
        } else {
            tokio::time::sleep(Duration::from_micros(dice.next() % 20_000)).await;
            scene.servers[which].lock().unwrap().kill();
        }
        assert_eq!(scene.end(which).await.code(), None, "it ended by itself");
        // Meanwhile the other one has the work alone.
        scene.work(CALLS / 3).await;
        scene.restart(which);
    }
    scene.work(CALLS).await;
    scene.judge().await;
}
