//! What the machine is and what a process uses of it: cores, disk, processor time, memory.
//!
//! Processor time and memory come from `/proc`; elsewhere than on Linux they are left out of the
//! table. Not here: how the figures are shown (`table`).

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

/// How often a write is repeated to know the disk.
const DISK_WRITES: usize = 200;
/// What one of these writes appends, in bytes: a page of a database.
const DISK_PAGE: [u8; 4096] = [0x5a; 4096];
/// `/proc` counts processor time in ticks of this length, on every Linux architecture.
const PROCESSOR_TICK: Duration = Duration::from_millis(10);

/// How many threads can run at once.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// How long it takes to append a page and have it on the disk, in this folder; sorted.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn disk_writes(folder: &Path) -> anyhow::Result<Vec<Duration>> {
    let path = folder.join("disk.probe");
    let mut file = File::create(&path).context("the data folder cannot be written")?;
    let mut taken = Vec::with_capacity(DISK_WRITES);
    for _ in 0..DISK_WRITES {
        let started = Instant::now();
        file.write_all(&DISK_PAGE)?;
        file.sync_data()?;
        taken.push(started.elapsed());
    }
    fs::remove_file(&path)?;
    taken.sort_unstable();
    Ok(taken)
}

/// Processor time of the calling thread so far.
pub(crate) fn thread_cpu() -> Option<Duration> {
    let schedule = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    schedule.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// Processor time of a process so far, all threads together.
pub(crate) fn process_cpu(process: u32) -> Option<Duration> {
    let status = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name, in parentheses, may contain anything; user and system time are the 12th and 13th
    // words behind it.
    let behind = status.rsplit_once(')')?.1;
    let ticks: u32 = behind.split_whitespace().skip(11).take(2).flat_map(str::parse::<u32>).sum();
    Some(PROCESSOR_TICK * ticks)
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(process: u32) -> Option<u64> {
    memory(process, "VmRSS:")
}

/// The most resident memory that a process ever had, in bytes.
pub(crate) fn peak(process: u32) -> Option<u64> {
    memory(process, "VmHWM:")
}

fn memory(process: u32, what: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(what))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// Bytes of all files in a folder.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn folder_size(folder: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // A file may go while it is looked at: databases come and go with their journals.
        let Ok(about) = entry.metadata() else {
            continue;
        };
        sum += if about.is_dir() { folder_size(&entry.path())? } else { about.len() };
    }
    Ok(sum)
}
