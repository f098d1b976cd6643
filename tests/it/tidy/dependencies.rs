//! What the dependencies must satisfy: `deny.toml`, read and enforced without a network.
//!
//! Not here: advisories, which need a database from elsewhere and are cargo-deny's.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{VENDORED, read, root};

fn policy() -> toml::Table {
    read("deny.toml").parse().unwrap()
}

/// The strings of an array at `table.key`.
fn strings(policy: &toml::Table, table: &str, key: &str) -> BTreeSet<String> {
    let entries = policy[table][key].as_array().unwrap().iter();
    entries.map(|entry| entry.as_str().unwrap().to_owned()).collect()
}

fn locked() -> Vec<toml::Table> {
    let lock: toml::Table = read("Cargo.lock").parse().unwrap();
    let packages = lock["package"].as_array().unwrap().iter();
    packages.map(|package| package.as_table().unwrap().clone()).collect()
}

#[test]
fn every_dependency_comes_from_an_allowed_registry() {
    let allowed = strings(&policy(), "sources", "allow-registry");
    for package in locked() {
        let name = package["name"].as_str().unwrap();
        let source = package.get("source").and_then(toml::Value::as_str);
        let Some(source) = source else {
            assert_eq!(name, env!("CARGO_PKG_NAME"), "a dependency outside any registry");
            continue;
        };
        let registry = source.strip_prefix("registry+").unwrap_or(source);
        assert!(allowed.contains(registry), "{name} comes from {source}");
    }
}

#[test]
fn protocol_crates_exist_once() {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in locked() {
        let text = |key: &str| package[key].as_str().unwrap().to_owned();
        versions.entry(text("name")).or_default().push(text("version"));
    }
    let policy = policy();
    let single = policy["bans"]["deny"].as_array().unwrap();
    assert!(single.len() >= 5, "deny.toml lists the crates that may exist once");
    for entry in single {
        let name = entry["crate"].as_str().unwrap();
        let found = versions.get(name).map_or(0, Vec::len);
        assert_eq!(found, 1, "{name}: {:?}", versions.get(name));
    }
}

/// Whether an SPDX expression can be satisfied with the allowed licences. `/` is the old `OR`.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words = spaced.split_whitespace().peekable();
    let result = either(&mut words, allowed);
    result && words.peek().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn either(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut result = both(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        result |= both(words, allowed);
    }
    result
}

fn both(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    let mut result = licence(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        result &= licence(words, allowed);
    }
    result
}

fn licence(words: &mut Words<'_>, allowed: &BTreeSet<String>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        let result = either(words, allowed);
        return words.next_if_eq(&")").is_some() && result;
    }
    let mut name = words.next().unwrap_or_default().to_owned();
    if words.next_if_eq(&"WITH").is_some() {
        name = format!("{name} WITH {}", words.next().unwrap_or_default());
    }
    allowed.contains(&name)
}

/// Every package that is compiled on this machine, as cargo describes it.
fn packages() -> Vec<Value> {
    let rustc = Command::new("rustc").arg("-vV").output().unwrap();
    let rustc = String::from_utf8(rustc.stdout).unwrap();
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    // For other platforms' crates cargo would need the network; those are cargo-deny's.
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform"])
        .arg(host)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

#[test]
fn every_licence_is_on_the_list() {
    let allowed = strings(&policy(), "licenses", "allow");
    let packages = packages();
    assert!(packages.len() > 100, "cargo described only {} packages", packages.len());
    for package in packages {
        let expression = package["license"].as_str().unwrap_or("no licence field");
        assert!(satisfied(expression, &allowed), "{}: {expression}", package["name"]);
    }
}

#[test]
fn a_licence_expression_needs_all_of_and_and_one_of_or() {
    let allowed = ["MIT", "ISC"].map(str::to_owned).into_iter().collect();
    for (expression, wanted) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT/GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("ISC AND (Apache-2.0 OR MIT)", true),
        ("Apache-2.0 OR MIT AND GPL-3.0", false),
        ("MIT WITH some-exception", false),
        ("(MIT", false),
        ("", false),
    ] {
        assert_eq!(satisfied(expression, &allowed), wanted, "{expression}");
    }
}

#[test]
fn the_vendored_contract_files_are_the_ones_their_readmes_describe() {
    for path in VENDORED {
        let digest = hex::encode(Sha256::digest(read(path)));
        let (folder, _) = path.rsplit_once('/').unwrap();
        let readme = read(&format!("{folder}/README.md"));
        assert!(readme.contains(&digest), "{path} was edited, or its hash was not");
    }
}
