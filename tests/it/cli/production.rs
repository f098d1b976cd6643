//! The way into production: a master key, `quetra init`, `quetra serve`; and every unsafe start is
//! refused with the setting that has to change.
//!
//! Not here: the table of all settings (unit tests of `config`).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use super::{Ran, ran};
use crate::harness::Folder;
use crate::harness::postgres::{APPLICATION, as_application, fresh_database};
use crate::process::{quetra, spawn};

/// A folder with a master key, as an operator makes it.
struct Site(Folder);

impl Site {
    fn new() -> Self {
        let site = Self(Folder::new());
        site.key("master.key", "0f1e2d3c4b5a69788796a5b4c3d2e1f0");
        site
    }

    /// Writes half a key twice.
    fn key(&self, name: &str, half: &str) {
        let path = self.path(name);
        fs::write(&path, format!("{half}{half}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// Flags that every command here takes.
    fn flags(&self, key: &str) -> [String; 4] {
        let database = format!("sqlite://{}", self.path("quetra.db"));
        ["--database-url".into(), database, "--master-key-file".into(), self.path(key)]
    }

    fn run(&self, command: &str, key: &str, more: &[&str]) -> Ran {
        let flags = self.flags(key);
        let flags = flags.iter().map(String::as_str);
        let arguments = [command].into_iter().chain(flags).chain(more.iter().copied());
        ran(&mut quetra(&arguments.collect::<Vec<_>>()))
    }
}

/// Where a server says that it listens.
fn listening(child: &mut Child, log: &Path) -> String {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let text = fs::read_to_string(log).unwrap();
        if let Some((_, rest)) = text.split_once("127.0.0.1:")
            && let Some((port, _)) = rest.split_once(|letter: char| !letter.is_ascii_digit())
        {
            return format!("http://127.0.0.1:{port}");
        }
        assert!(Instant::now() < until && child.try_wait().unwrap().is_none(), "{text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_serve_one_postgres_and_no_password_is_printed() {
    let site = Site::new();
    let owner = fresh_database().await;
    // Servers work as a role that owns nothing.
    let database = as_application(&owner);
    let passwords = [&owner, &database].map(|url| url.split(['/', '@']).nth(2).unwrap());
    let flags = ["--database-url", &database, "--master-key-file", &site.path("master.key")];
    let run = |command: &[&str]| ran(&mut quetra(&[command, &flags].concat()));
    let serve = ["serve", "--listen", "127.0.0.1:0", "--log", "debug"];
    run(&serve).fails(1, "0001_create_schema");
    run(&["migrate"]).fails(1, "as the owner");
    let migrate = ["migrate", "--database-url", &owner, "--application-role"];
    let migrate = |role: &str| ran(quetra(&migrate).arg(role));
    migrate("nobody").fails(1, "CREATE ROLE");
    let applied = migrate(APPLICATION).ok();
    assert!(applied.contains("servers may work as quetra_application"), "{applied}");
    assert!(run(&["migrate"]).ok().contains("up to date"));
    let made = run(&["init", "--org", "Acme", "--output", "json"]).json();
    let key = made["key"].as_str().unwrap();
    let mut texts = vec![run(&["config"]).ok()];
    let mut servers = Vec::new();
    for name in ["one.log", "other.log"] {
        let log = site.0.path().join(name);
        let (mut child, _) = spawn(quetra(&[&serve[..], &flags].concat()), &log);
        let url = listening(&mut child, &log);
        servers.push((child, log, url));
    }
    for (number, (_, _, url)) in servers.iter().enumerate() {
        let mut command = quetra(&["agents", "register", &format!("buyer-{number}")]);
        command.env("QUETRA_API_KEY", key).env("QUETRA_GATEWAY_URL", url);
        ran(&mut command).ok();
        let mut command = quetra(&["agents", "list"]);
        command.env("QUETRA_API_KEY", key).env("QUETRA_GATEWAY_URL", &servers[0].2);
        assert!(ran(&mut command).ok().contains(&format!("buyer-{number}")));
    }
    for (mut child, log, _) in servers {
        let stop = format!("kill -TERM {}", child.id());
        assert!(std::process::Command::new("sh").args(["-c", &stop]).status().unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(0));
        texts.push(fs::read_to_string(log).unwrap());
    }
    for text in texts {
        assert!(!text.contains("row-level security"), "the role is not bound: {text}");
        for secret in passwords.into_iter().chain([key]) {
            assert!(!text.contains(secret), "a secret is in: {text}");
        }
    }
}

#[test]
fn init_makes_the_first_key_and_serve_takes_it() {
    let site = Site::new();
    let made = site.run("init", "master.key", &["--org", "Acme", "--output", "json"]).json();
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("sk_admin_"), "{made}");
    site.run("init", "master.key", &["--org", "Acme"]).fails(1, "has an organization already");

    let flags = site.flags("master.key");
    let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--log", "info"];
    arguments.extend(flags.iter().map(String::as_str));
    let log = site.0.path().join("stderr.log");
    let (mut child, _lines) = spawn(quetra(&arguments), &log);
    let url = listening(&mut child, &log);
    let mut command = quetra(&["agents", "register", "buyer"]);
    command.env("QUETRA_API_KEY", key).env("QUETRA_GATEWAY_URL", &url);
    assert!(ran(&mut command).ok().contains("buyer"));

    // A second server on the same file would break the first one's batches.
    site.run("serve", "master.key", &["--listen", "127.0.0.1:0"]).fails(1, "quetra.db");
    let stop = format!("kill -TERM {}", child.id());
    assert!(std::process::Command::new("sh").args(["-c", &stop]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let text = fs::read_to_string(&log).unwrap();
    assert!(!text.contains(key), "the key is in the log");
}

#[test]
fn serve_refuses_what_is_not_migrated_and_migrate_mends_it() {
    let site = Site::new();
    let serve = ["--listen", "127.0.0.1:0"];
    site.run("serve", "master.key", &serve).fails(1, "0001_create_schema");
    let database = format!("sqlite://{}", site.path("quetra.db"));
    let migrate = || ran(&mut quetra(&["migrate", "--database-url", &database]));
    assert!(migrate().ok().contains("applied 0001_create_schema"));
    assert!(migrate().ok().contains("up to date"));
    site.run("init", "master.key", &["--org", "Acme"]).ok();
}

#[test]
fn serve_refuses_an_unsafe_start_and_names_the_setting() {
    let site = Site::new();
    site.run("init", "master.key", &["--org", "Acme"]).ok();
    site.key("other.key", "ffeeddccbbaa99887766554433221100");
    site.key("open.key", "0f1e2d3c4b5a69788796a5b4c3d2e1f0");
    let readable = fs::Permissions::from_mode(0o644);
    fs::set_permissions(site.path("open.key"), readable).unwrap();
    let here = ["--listen", "127.0.0.1:0"];
    site.run("serve", "other.key", &here).fails(1, "master_key_file");
    site.run("serve", "open.key", &here).fails(1, "chmod 600");
    site.run("serve", "none.key", &here).fails(1, "`master_key_file`");
    let everywhere = site.run("serve", "master.key", &["--listen", "0.0.0.0:0"]);
    everywhere.fails(1, "`listen`");
    everywhere.fails(1, "behind_tls_proxy");
    let bare = ran(&mut quetra(&["serve"]));
    bare.fails(1, "`database_url`");
    bare.fails(1, "`master_key_file`");
    let dev = ran(&mut quetra(&["dev", "--listen", "0.0.0.0:0"]));
    dev.fails(1, "loopback only");
}
