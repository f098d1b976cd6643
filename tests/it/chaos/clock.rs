//! Clocks that are wrong: the time of day of a server that runs is shifted, by a library that is
//! preloaded into it (`clock.c`).
//!
//! Not here: clocks of servers inside the test's process (`quetra::clock`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The clock of one server.
pub(super) struct Shifted {
    file: PathBuf,
    library: PathBuf,
}

/// Builds the library.
pub(super) fn build(folder: &Path) -> PathBuf {
    let library = folder.join("clock.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/chaos/clock.c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]);
    let built = compiler.arg(&library).arg(&source).arg("-ldl").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    library
}

impl Shifted {
    /// Right, for now.
    pub(super) fn new(folder: &Path, name: &str, library: &Path) -> Self {
        let file = folder.join(format!("{name}.clock"));
        let clock = Self { file, library: library.to_owned() };
        fs::write(&clock.file, 0_i64.to_ne_bytes()).unwrap();
        clock
    }

    /// What a server needs in its environment to go by it.
    pub(super) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library.clone()), ("CLOCK_SHIFT", self.file.clone())]
    }

    /// From now on it is so far ahead, or behind.
    pub(super) fn set(&self, ahead_ms: i64) {
        // In its place, as it is mapped: a file that is cut short for a moment has no bytes.
        let file = fs::OpenOptions::new().write(true).open(&self.file).unwrap();
        let bytes = (ahead_ms * 1_000).to_ne_bytes();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    }
}
