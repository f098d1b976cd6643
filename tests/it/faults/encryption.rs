//! TLS to Postgres with an authority of the test's own: what each `sslmode` accepts, and that what
//! it does not accept is never fallen back from.
//!
//! Not here: which modes a configuration may ask for (unit tests of `config`).

use std::fs;
use std::path::Path;
use std::process::Command;

use super::cluster::{Cluster, Site};
use crate::harness::unique;

/// An authority in a folder, and a certificate by it for a name such as `IP:127.0.0.1`.
fn certify(folder: &Path, authority: &str, name: &str) {
    certify_for(folder, authority, name, 2);
}

/// The same, for so many days; one for none is over within a second.
pub(crate) fn certify_for(folder: &Path, authority: &str, name: &str, days: u32) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    let lines = [
        format!(
            "test -e {authority}.pem || openssl req -x509 {key} -days 2 \
            -subj /CN={authority} -keyout {authority}.key -out {authority}.pem"
        ),
        format!("openssl req -new {key} -subj /CN=server -keyout server.key -out server.csr"),
        format!("echo subjectAltName={name} > names"),
        format!(
            "openssl x509 -req -in server.csr -CA {authority}.pem -CAkey {authority}.key \
            -CAcreateserial -days {days} -extfile names -out server.crt"
        ),
    ];
    for line in lines {
        let output = Command::new("sh").args(["-c", &line]).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Makes Postgres show the certificate that is in a folder.
async fn install(cluster: &Cluster, folder: &Path) {
    for file in ["server.crt", "server.key"] {
        let (from, to) = (folder.join(file), cluster.data.join(file));
        fs::copy(&from, &to).unwrap();
        let owner = cluster.data.join("PG_VERSION");
        let (owner, to) = (owner.display(), to.display());
        let line = format!("chown --reference={owner} {to} && chmod 600 {to}");
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success(), "{line}");
    }
    cluster.run(&cluster.url, "ALTER SYSTEM SET ssl = on").await;
    // A session that has this has begun after the certificate was read with it.
    let mark = format!("{}ms", 1_001 + unique() % 900);
    cluster.run(&cluster.url, &format!("ALTER SYSTEM SET deadlock_timeout = '{mark}'")).await;
    cluster.run(&cluster.url, "SELECT pg_reload_conf()").await;
    while cluster.ask("SHOW deadlock_timeout").await != mark {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_accepts_what_it_says_and_nothing_falls_back() {
    let cluster = Cluster::new().await;
    let mut site = Site::new(&cluster.url);
    let plain = site.database.clone();
    site.database = format!("{plain}?sslmode=require");
    let said = site.refused();
    assert!(said.contains("does not support TLS"), "{said}");

    let folder = site.folder.path().to_owned();
    certify(&folder, "ours", "IP:127.0.0.1");
    install(&cluster, &folder).await;
    let ours = format!("sslrootcert={}", folder.join("ours.pem").display());
    site.database = format!("{plain}?sslmode=verify-full&{ours}");
    let mut server = site.serve("encrypted.log");
    let encrypted = "SELECT (count(*) > 0 AND bool_and(ssl))::text FROM pg_stat_ssl
        JOIN pg_stat_activity USING (pid) WHERE application_name = 'quetra'";
    assert_eq!(cluster.ask(encrypted).await, "true");
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "{}", server.errors());

    // Of an authority that nobody named, and of one that did not sign it.
    certify(&folder, "theirs", "IP:127.0.0.1");
    let theirs = format!("sslrootcert={}", folder.join("theirs.pem").display());
    let wrong = format!("sslmode=verify-ca&{theirs}");
    for asked in ["sslmode=verify-full", "sslmode=verify-ca", &wrong] {
        site.database = format!("{plain}?{asked}");
        let said = site.refused();
        assert!(said.contains("certificate"), "{asked}: {said}");
    }

    certify(&folder, "ours", "DNS:elsewhere.example");
    install(&cluster, &folder).await;
    site.database = format!("{plain}?sslmode=verify-full&{ours}");
    let said = site.refused();
    assert!(said.contains("certificate"), "{said}");
    for asked in [format!("sslmode=verify-ca&{ours}"), "sslmode=require".to_owned()] {
        site.database = format!("{plain}?{asked}");
        let mut server = site.serve("other.log");
        server.signal("TERM");
        assert_eq!(server.wait().code(), Some(0), "{asked}: {}", server.errors());
    }
}
