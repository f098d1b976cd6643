//! Who may name whom: the one table of the layers, and the test that holds `src/` to it.
//!
//! Test code is free: `#[cfg(test)]` modules at the end of a file and files called `tests.rs`. Not
//! here: other crates, which `dependencies.rs` looks at.

use super::SourceFile;

/// Everything.
const ALL: &[&str] = &["*"];

/// A module, and the modules it may name beside itself. A folder's row is that of its file, unless
/// it has one of its own: an adapter is narrower or wider than the trait above it. `a::b` allows
/// only that module of `a`.
const LAYERS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("crypto", &[]),
    ("proto", &[]),
    ("config", &[]),
    ("terminal", &[]),
    ("telemetry", &["config", "terminal"]),
    ("clock", &["domain"]),
    // What a verifier elsewhere would need: pure functions of what was recorded.
    ("audit", &["domain", "crypto"]),
    ("store", &["domain"]),
    ("ledger", &["domain", "store::StoreError"]),
    // The lane shares the store's file, its turn to write, and the form of a row.
    ("ledger/sql", &["domain", "ledger", "clock", "store"]),
    // It decides beside the SQL ledger, on what Postgres leases, and records in its rows.
    ("ledger/redis", &["domain", "ledger", "clock", "store"]),
    ("journal", &["domain", "audit", "store"]),
    // It reads what the ledger wrote, and takes its turn in the same file.
    ("journal/sql", &["domain", "audit", "store"]),
    ("provider", &["domain"]),
    ("engine", &["domain", "audit", "store", "ledger", "provider", "clock", "crypto"]),
    // It delivers what the store has, by the one road out.
    ("webhook", &["domain", "store", "provider", "clock", "crypto"]),
    ("grpc", &["proto", "engine", "domain"]),
    ("forms", &["proto"]),
    ("rest", &["proto", "grpc::status", "grpc::codec", "grpc::trial", "forms"]),
    ("mcp", &["proto", "forms", "terminal"]),
    ("connect", &["proto", "grpc::status", "grpc::codec", "grpc::trial"]),
    ("serve", &["proto", "grpc", "connect"]),
    ("cli", &["app", "audit", "config", "proto", "forms", "mcp", "telemetry", "terminal"]),
    ("app", ALL),
    ("main", ALL),
    ("lib", ALL),
];

/// Traits whose homes below them only `app` may name: everyone else names the trait.
const ADAPTED: [&str; 2] = ["store", "ledger"];

/// The top-level module a file belongs to: `src/engine/budget.rs` is `engine`.
fn module(path: &str) -> Option<&str> {
    path.strip_prefix("src/")?.split(['/', '.']).next()
}

/// The code of a file without comments and without its tests.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let next_is_module =
            lines.peek().is_some_and(|next| next.starts_with("mod ") && next.ends_with('{'));
        if line == "#[cfg(test)]" && next_is_module {
            break;
        }
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

/// The paths below the crate that a piece of code names, two segments deep: `store::sqlite`.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for marker in ["crate::", "quetra::"] {
        for (start, _) in code.match_indices(marker) {
            let before = code[..start].chars().next_back();
            // `$crate` is a macro's; `other_crate::` is not ours.
            if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.') {
                expand("", &code[start + marker.len()..], 2, &mut found);
            }
        }
    }
    found
}

/// Follows `a::{b, c::d}` to `depth` segments and returns how many bytes it read.
fn expand(prefix: &str, rest: &str, depth: usize, found: &mut Vec<String>) -> usize {
    let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
    let (name, after) = rest.split_at(length);
    if !name.is_empty() {
        let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
        return match after.strip_prefix("::") {
            Some(deeper) if depth > 1 => length + 2 + expand(&path, deeper, depth - 1, found),
            _ => {
                found.push(path);
                length
            }
        };
    }
    if !after.starts_with('{') {
        return 0;
    }
    let mut read = 1;
    let mut nested = 0_usize;
    let mut begins = true;
    while let Some(next) = after[read..].chars().next() {
        match next {
            '}' if nested == 0 => return read + 1,
            '}' => nested -= 1,
            '{' => nested += 1,
            ',' if nested == 0 => begins = true,
            _ if begins && !next.is_whitespace() => {
                begins = false;
                read += expand(prefix, &after[read..], depth, found).max(1);
                continue;
            }
            _ => {}
        }
        read += next.len_utf8();
    }
    read
}

/// Whether `segment` looks like a module: modules are lower case, items of a trait file are not,
/// and its functions are named as values, which no rule of layers forbids.
fn is_home(owner: &str, segment: &str, homes: &[String]) -> bool {
    homes.iter().any(|home| home == &format!("{owner}::{segment}"))
}

/// The adapters of `ADAPTED` that exist: `src/store/sqlite.rs` is `store::sqlite`.
fn homes(files: &[SourceFile]) -> Vec<String> {
    let below = files.iter().filter_map(|file| {
        let (owner, rest) = file.path.strip_prefix("src/")?.split_once('/')?;
        let home = rest.split(['/', '.']).next()?;
        ADAPTED.contains(&owner).then(|| format!("{owner}::{home}"))
    });
    below.collect()
}

fn layering(file: &SourceFile, homes: &[String]) -> Vec<String> {
    let Some(own) = module(&file.path).filter(|_| file.path.ends_with(".rs")) else {
        return Vec::new();
    };
    let below = |name: &str| {
        let rest = file.path.strip_prefix("src/").and_then(|path| path.strip_prefix(name));
        rest.is_some_and(|rest| rest.starts_with(['/', '.']))
    };
    let rows = LAYERS.iter().filter(|(name, _)| below(name));
    let Some((row, allowed)) = rows.max_by_key(|(name, _)| name.len()) else {
        return vec![format!("{}: `{own}` has no row in tests/it/tidy/layers.rs", file.path)];
    };
    if allowed == &ALL || file.path.ends_with("/tests.rs") {
        return Vec::new();
    }
    let code = code(&file.text);
    let mut complaints = Vec::new();
    for path in paths(&code) {
        let (first, second) = path.split_once("::").unwrap_or((&path, ""));
        let is_module = LAYERS.iter().any(|(name, _)| *name == first);
        let named = first == own || allowed.contains(&first) || allowed.contains(&path.as_str());
        if is_module && !named {
            complaints.push(format!("{}: `{own}` may not name `{path}`", file.path));
        } else if first != own && !row.contains('/') && is_home(first, second, homes) {
            complaints.push(format!("{}: name the trait, not its home `{path}`", file.path));
        }
    }
    if code.contains("super::super::super") {
        complaints.push(format!("{}: name far modules by `crate::`", file.path));
    }
    complaints
}

#[test]
fn modules_name_only_what_their_layer_allows() {
    let files = super::files();
    let homes = homes(&files);
    super::tidy(|file| layering(file, &homes));
}

#[test]
fn the_layering_rule_can_complain() {
    let check = |path: &str, text: &str| {
        layering(&SourceFile::new(path, text), &["store::sqlite".to_owned()]).len()
    };
    assert_eq!(check("src/domain/money.rs", "use crate::domain::id::OrgId;"), 0);
    assert_eq!(check("src/domain/money.rs", "use crate::clock::Clock;"), 1);
    assert_eq!(check("src/domain.rs", "// crate::clock is not here\n"), 0);
    assert_eq!(check("src/domain.rs", "#[cfg(test)]\nmod tests {\n use crate::clock;\n}"), 0);
    assert_eq!(check("src/engine/budget.rs", "use crate::{domain::id, clock::Clock};"), 0);
    assert_eq!(check("src/engine/budget.rs", "use crate::{\n  grpc,\n  config::{A, b::C},\n};"), 3);
    assert_eq!(check("src/engine/budget.rs", "use crate::store::{AgentStore, StoreError};"), 0);
    assert_eq!(check("src/engine/budget.rs", "use crate::store::sqlite::SqliteStore;"), 1);
    assert_eq!(check("src/engine/budget.rs", "use crate::store::{self, sqlite};"), 1);
    assert_eq!(check("src/store/sqlite.rs", "use crate::store::sqlite::row;"), 0);
    assert_eq!(check("src/rest.rs", "let x = crate::grpc::status::reason(1);"), 0);
    assert_eq!(check("src/rest.rs", "let x = crate::grpc::auth::check(1);"), 1);
    assert_eq!(check("src/app.rs", "use crate::store::sqlite::SqliteStore;"), 0);
    assert_eq!(check("src/newcomer.rs", ""), 1);
}
