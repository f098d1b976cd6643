//! Power failures, staged: what a killed server had written and never synced is taken back.
//!
//! The server, or a Redis, runs with `power.c` preloaded, which notes what each write replaces
//! until the next fsync. Not here: disks that lie about an fsync.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::dice::Dice;
use crate::harness::redis::{self, Redis};

/// Builds what is to be preloaded; a C compiler is there, because SQLite needed one.
pub(crate) fn build(folder: &Path) -> PathBuf {
    let library = folder.join("power.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/crash/power.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
    let built = compiler.arg(&library).arg(&source).args(["-ldl", "-lpthread"]).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

/// What one write replaced.
struct Replaced {
    offset: u64,
    before: Vec<u8>,
    size: u64,
}

fn replaced(undo: &[u8]) -> Vec<Replaced> {
    let mut entries = Vec::new();
    let mut rest = undo;
    // A torn last entry belongs to a write that never happened.
    while let Some((head, tail)) = rest.split_first_chunk::<24>() {
        let number = |at: usize| u64::from_ne_bytes(head[at..at + 8].try_into().unwrap());
        let length = usize::try_from(number(8)).unwrap();
        let Some((before, tail)) = tail.split_at_checked(length) else {
            break;
        };
        entries.push(Replaced { offset: number(0), before: before.to_vec(), size: number(16) });
        rest = tail;
    }
    entries
}

/// A new and empty Redis, with this `appendfsync`, of which it is noted what is not synced.
pub(crate) fn noted(fsync: &str) -> Redis {
    static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
        // Not in a folder of a Redis, which may be emptied; in one that outlives each.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(std::process::id().to_string());
        fs::create_dir_all(&folder).unwrap();
        let (built, library) = (build(&folder), folder.with_file_name("power.so"));
        // Whoever has it loaded keeps the one it has.
        fs::rename(built, &library).unwrap();
        fs::remove_dir(folder).unwrap();
        library
    });
    Redis::start_as(&redis::settings(fsync), Some(&LIBRARY))
}

/// Its machine loses power, and it starts again; how many writes were not synced.
pub(crate) fn fail_redis(redis: &mut Redis, dice: &mut Dice) -> usize {
    redis.kill();
    let unsynced = redis.logs().iter().map(|log| fail_file(log, dice)).sum();
    redis.again();
    unsynced
}

/// Whether something was written to one of the database's files that is not synced yet.
pub(crate) fn is_due(database: &Path, name: &str) -> bool {
    let undo = database.with_file_name(format!("{name}.undo"));
    fs::metadata(undo).is_ok_and(|undo| undo.len() > 0)
}

/// Takes back what was not synced of a database that no process has open: all of it, or all but
/// some first writes, which reached the disk in time. Returns how many writes were not synced.
pub(crate) fn fail(database: &Path, dice: &mut Dice) -> usize {
    let files = ["quetra.db", "quetra.db-wal"].map(|name| database.with_file_name(name));
    files.iter().map(|file| fail_file(file, dice)).sum()
}

/// The same of one file.
fn fail_file(path: &Path, dice: &mut Dice) -> usize {
    let name = path.file_name().unwrap().to_str().unwrap();
    let undo = path.with_file_name(format!("{name}.undo"));
    let Ok(bytes) = fs::read(&undo) else { return 0 };
    let entries = replaced(&bytes);
    let kept = if dice.chance(50) { 0 } else { dice.below(entries.len() + 1) };
    let file = OpenOptions::new().write(true).open(path).unwrap();
    for entry in entries.iter().skip(kept).rev() {
        file.write_all_at(&entry.before, entry.offset).unwrap();
        file.set_len(entry.size).unwrap();
    }
    fs::remove_file(&undo).unwrap();
    entries.len()
}
