//! The real binary as a child process: started on a free port, told signals, read by line.
//!
//! Not here: servers inside the test's process (`harness`).

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to say that it is ready, or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `quetra dev`; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
    /// What was read of its standard output.
    pub(crate) banner: String,
    /// Where it listens, for example `http://127.0.0.1:40123`.
    pub(crate) url: String,
}

/// The binary with arguments, and with nothing of this process's settings. `QUETRA_SERVER` names
/// one that was built in another way, for long runs.
pub(crate) fn quetra(arguments: &[&str]) -> Command {
    let built = std::env::var("QUETRA_SERVER");
    let built = built.unwrap_or_else(|_| env!("CARGO_BIN_EXE_quetra").to_owned());
    let mut command = Command::new(built);
    command.args(arguments).env_clear().stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// A started command, with the lines of its standard output; its errors go to a file.
pub(crate) fn spawn(mut command: Command, log: &Path) -> (Child, Receiver<String>) {
    let errors = File::options().create(true).append(true).open(log).unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
    let (tell, lines) = channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
    (child, lines)
}

impl Process {
    /// Starts a development server and waits until it is ready.
    pub(crate) fn start(data_dir: &Path) -> Self {
        Self::start_with(data_dir, None)
    }

    /// The same, with a library preloaded.
    pub(crate) fn start_with(data_dir: &Path, preload: Option<&Path>) -> Self {
        Self::run(Self::command(data_dir, preload), data_dir)
    }

    /// Starts a development server by a command of its own, and waits until it is ready.
    pub(crate) fn run(command: Command, folder: &Path) -> Self {
        let log = folder.join("stderr.log");
        let (child, lines) = spawn(command, &log);
        let (banner, url) = (String::new(), String::new());
        let mut process = Self { child, lines, log, banner, url };
        process.read_until("health ");
        let health = process.banner.lines().last().unwrap().split_whitespace().nth(1).unwrap();
        process.url = health.trim_end_matches("/healthz").to_owned();
        process
    }

    /// Starts a production server, which says in its log where it listens.
    pub(crate) fn serve(command: Command, log: &Path) -> Self {
        let began = fs::metadata(log).map_or(0, |log| log.len());
        let (child, lines) = spawn(command, log);
        let (banner, url, log) = (String::new(), String::new(), log.to_owned());
        let mut process = Self { child, lines, log, banner, url };
        let until = Instant::now() + PATIENCE;
        loop {
            // What a server before it has said is in front.
            let text = process.errors().split_off(usize::try_from(began).unwrap());
            if let Some((_, rest)) = text.split_once("listening")
                && let Some((_, rest)) = rest.split_once("127.0.0.1:")
                && let Some((port, _)) = rest.split_once(|letter: char| !letter.is_ascii_digit())
            {
                process.url = format!("http://127.0.0.1:{port}");
                return process;
            }
            let ended = process.ended();
            assert!(Instant::now() < until && ended.is_none(), "{ended:?}: {text}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn command(data_dir: &Path, preload: Option<&Path>) -> Command {
        let folder = data_dir.to_str().unwrap();
        let arguments = ["dev", "--data-dir", folder, "--listen", "127.0.0.1:0", "--log", "warn"];
        let mut command = quetra(&arguments);
        if let Some(library) = preload {
            command.env("LD_PRELOAD", library);
        }
        command
    }

    /// Starts a development server without waiting.
    pub(crate) fn launch(data_dir: &Path) -> (Child, Receiver<String>) {
        spawn(Self::command(data_dir, None), &data_dir.join("stderr.log"))
    }

    /// Reads what it prints until there is this text.
    pub(crate) fn read_until(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.banner.contains(text) {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no {text} in:\n{}\n{}", self.banner, self.errors());
            };
            self.banner.push_str(&line);
            self.banner.push('\n');
        }
    }

    /// Sends a signal by its name, for example `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let line = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success(), "{line}");
    }

    /// Kills it at once, and does not wait.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// Whether and how it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < until, "the server does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it wrote to its standard error.
    pub(crate) fn errors(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
