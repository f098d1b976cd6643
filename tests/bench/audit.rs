//! How fast a journal is exported and verified, and in how much memory: `-- audit`.
//!
//! Decisions are made until the journal has so many entries; then the product's own commands
//! export it in both forms and verify it offline, each as a process of its own. Not here: whether
//! what they say is right, which the tests know.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rusqlite::{Connection, OpenFlags};

use crate::loader::{Calls, Keys};
use crate::machine;
use crate::prepare;
use crate::scale;
use crate::server::Server;
use crate::table::{Figures, Table, mebibytes, thousands};

/// Mandates that the decisions are spread over.
const MANDATES: usize = 100;
/// Each command is run as often as makes this many entries, and three times at most; the median
/// counts.
const ENTRIES: u64 = 1_000_000;
/// How long the journal may take to have what was decided.
const FOLLOW_MAX: Duration = Duration::from_secs(300);
/// How often the memory of a command is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Measures and prints the table.
pub(crate) async fn measure(events: u64) -> anyhow::Result<()> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let database = folder.path().join("quetra.db");
    let url = format!("sqlite://{}", database.display());
    let server = Server::serve_with(folder.path(), &url, &[]).await?;
    let agents = Arc::<[_]>::from(prepare::agents(&server.target(), 0..MANDATES).await?);
    eprintln!("deciding {} spends", thousands(events));
    scale::at_least(&server, &Calls::Evaluate(agents, Arc::new(Keys::new())), events)?;
    let entries = followed(&database, events).await?;
    // The last checkpoint is signed every ten seconds.
    tokio::time::sleep(Duration::from_secs(11)).await;

    let (export, csv) = (folder.path().join("journal.jsonl"), folder.path().join("journal.csv"));
    let (mut jsonl, mut table, mut verified) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..(ENTRIES / entries).clamp(1, 3) {
        eprintln!("round {}", round + 1);
        for (file, form, runs) in [(&export, "jsonl", &mut jsonl), (&csv, "csv", &mut table)] {
            // What is there already would be continued.
            drop(std::fs::remove_file(file));
            let mut command = Command::new(env!("CARGO_BIN_EXE_quetra"));
            command.args(["audit", "export", "--format", form, "--file"]).arg(file);
            command.args(["--url", &format!("http://{}", server.target().address)]);
            runs.push(timed(command.env("QUETRA_API_KEY", server.target().key))?);
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_quetra"));
        command.args(["audit", "verify", "--public-key", &key_of(&export)?]).arg(&export);
        verified.push(timed(&mut command)?);
    }

    let mut out = Table::new();
    out.note("machine", &format!("{} cores, shared by all", machine::cores()));
    let size = std::fs::metadata(&export)?.len();
    out.note("journal", &format!("{} entries, {} as JSON", thousands(entries), mebibytes(size)));
    let of_server = machine::peak(server.process()).map_or_else(String::new, mebibytes);
    let rows = [
        ("export, JSON Lines", jsonl, format!("; server {of_server}; target ≥ 100,000/s")),
        ("export, CSV", table, "; target ≥ 100,000/s".to_owned()),
        ("verify", verified, "; target ≥ 200,000/s".to_owned()),
    ];
    for (what, runs, target) in rows {
        let peak = runs.iter().filter_map(|(_, peak)| *peak).max();
        let peak = peak.map_or_else(String::new, mebibytes);
        let rates = runs.iter().map(|(time, _)| Figures {
            rate: Some(entries as f64 / time.as_secs_f64()),
            ..Figures::default()
        });
        let note = format!("entries; peak memory {peak}{target}");
        out.add(what, &Figures::median(&rates.collect::<Vec<_>>()), &note);
    }
    println!("{out}");
    server.stop()
}

/// Waits until the journal has so many entries; how many it has then.
async fn followed(database: &Path, wanted: u64) -> anyhow::Result<u64> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let connection = Connection::open_with_flags(database, flags)?;
    let (began, mut last) = (Instant::now(), 0);
    loop {
        let sql = "SELECT coalesce(max(seq), 0) FROM journal";
        let now = u64::try_from(connection.query_row(sql, (), |row| row.get::<_, i64>(0))?)?;
        if now >= wanted && now == last {
            return Ok(now);
        }
        last = now;
        ensure!(began.elapsed() < FOLLOW_MAX, "the journal has only {now} entries");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Runs a command to its end: how long it took, and the most memory it had.
fn timed(command: &mut Command) -> anyhow::Result<(Duration, Option<u64>)> {
    let began = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let mut peak = None;
    let status = loop {
        peak = peak.max(machine::peak(child.id()));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(LOOK);
    };
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok((began.elapsed(), peak))
}

/// The key that an export names. Somebody who verifies would bring it; here nobody is deceived.
fn key_of(export: &Path) -> anyhow::Result<String> {
    use std::io::{BufRead, BufReader};
    let mut first = String::new();
    BufReader::new(std::fs::File::open(export)?).read_line(&mut first)?;
    let first: serde_json::Value = serde_json::from_str(&first)?;
    Ok(first["keys"][0]["publicKey"].as_str().context("an export names no key")?.to_owned())
}
