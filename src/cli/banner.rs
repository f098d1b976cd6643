//! What `quetra dev` says when it is ready: on the first start everything needed for a first call.
//!
//! Not here: making the demo organization (`app`). The keys are shown once; later starts name the
//! file they were written to.

use std::fmt::Write as _;
use std::path::Path;

use super::credentials::{Credentials, FILE};
use super::output::Output;
use crate::app::{FirstStart, Started};

/// Prints the banner and keeps the credentials file current. Nothing here stops the server: a
/// failure is told instead.
pub(super) fn greet(started: &Started, data_dir: &Path, output: &mut Output) {
    let url = format!("http://{}", started.addr);
    let path = data_dir.join(FILE);
    let text = match &started.first_start {
        Some(first) => {
            let credentials = Credentials {
                url: url.clone(),
                admin_key: first.admin_key.clone(),
                agent_key: first.agent_key.clone(),
                agent_id: first.agent_id.clone(),
            };
            let kept = credentials.write(&path).is_ok();
            first_banner(&url, first, &kept_at(&path, kept), &commands(&path, output))
        }
        None => {
            let known = Credentials::read(&path).ok().flatten();
            let kept = known.is_some_and(|credentials| {
                credentials.url == url
                    || Credentials { url: url.clone(), ..credentials }.write(&path).is_ok()
            });
            later_banner(&url, &path, kept.then(|| commands(&path, output)))
        }
    };
    if output.raw(&text).is_err() {
        output.error_line("the greeting could not be written; the server runs");
    }
}

fn addresses(url: &str) -> String {
    let host = url.trim_start_matches("http://");
    format!(
        "Quetra is ready.\n\n\
         \x20 gRPC, gRPC-Web   {host}  (plaintext; reflection is on)\n\
         \x20 JSON             {url}/quetra.v1.EvaluateService/Evaluate  (and every other RPC)\n\
         \x20 REST             {url}/api/v1  (described at {url}/openapi.json)\n\
         \x20 MCP              {url}/mcp  (with an agent key; see docs/MCP.md)\n\
         \x20 health           {url}/healthz  {url}/readyz  {url}/metrics\n\n"
    )
}

fn kept_at(path: &Path, kept: bool) -> String {
    if kept {
        format!("Both keys are in {} (mode 600).", path.display())
    } else {
        format!("{} cannot be written: copy both keys now.", path.display())
    }
}

fn first_banner(url: &str, first: &FirstStart, written: &str, commands: &str) -> String {
    let mut out = addresses(url);
    let FirstStart { org_name, agent_id, agent_name, mandate_id, admin_key, agent_key } = first;
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "\
Organization {org_name}: one agent with an active mandate.

  admin key   {admin_key}
  agent key   {agent_key}
  agent       {agent_id}  ({agent_name})
  mandate     {mandate_id}

{written}

Approved: $2.00 for research at firecrawl.dev

{approved}

Rejected: $500.00 for entertainment at netflix.com, with every rule's result

{rejected}

The same by REST, and by gRPC through reflection

{rest}

{grpc}

For Claude Code, Cursor and other MCP clients: this address, or this .mcp.json

{url}/{agent_key}/mcp

{mcp}

What is left, and what was decided

{commands}
",
        approved = connect_line(url, first, 200, "firecrawl.dev", "research"),
        rejected = connect_line(url, first, 50_000, "netflix.com", "entertainment"),
        rest = rest_line(url, first),
        grpc = grpc_line(url, first),
        mcp = mcp_settings(url, first),
    );
    out
}

fn later_banner(url: &str, path: &Path, commands: Option<String>) -> String {
    let path = path.display();
    let keys = match commands {
        Some(commands) => format!("The keys are in {path}.\n\n{commands}"),
        None => format!(
            "{path} is missing or unusable, and keys are never shown twice: use a key you stored, \
             or remove the directory to begin anew."
        ),
    };
    format!("{}{keys}\n", addresses(url))
}

fn connect_line(
    url: &str,
    first: &FirstStart,
    amount: i64,
    vendor: &str,
    category: &str,
) -> String {
    let FirstStart { agent_id, agent_key, .. } = first;
    format!(
        "curl -sS {url}/quetra.v1.EvaluateService/Evaluate \\\n\
         \x20 -H 'authorization: Bearer {agent_key}' -H 'content-type: application/json' \\\n\
         \x20 -d '{{\"agentId\":\"{agent_id}\",\"amount\":{amount},\"currency\":\"USD\",\
         \"vendor\":\"{vendor}\",\"category\":\"{category}\",\
         \"idempotencyKey\":\"{category}-'$(date +%s)'\"}}'"
    )
}

fn rest_line(url: &str, first: &FirstStart) -> String {
    let FirstStart { agent_id, agent_key, .. } = first;
    format!(
        "curl -sS {url}/api/v1/gateway/evaluate \\\n\
         \x20 -H 'authorization: Bearer {agent_key}' -H 'content-type: application/json' \\\n\
         \x20 -d '{{\"agentId\":\"{agent_id}\",\"amount\":200,\"vendor\":\"firecrawl.dev\",\
         \"category\":\"research\",\"idempotencyKey\":\"rest-'$(date +%s)'\"}}'"
    )
}

fn grpc_line(url: &str, first: &FirstStart) -> String {
    let FirstStart { agent_id, agent_key, .. } = first;
    format!(
        "buf curl --protocol grpc --http2-prior-knowledge \\\n\
         \x20 -H 'authorization: Bearer {agent_key}' \\\n\
         \x20 -d '{{\"agentId\":\"{agent_id}\"}}' \\\n\
         \x20 {url}/quetra.v1.BudgetService/GetBudget"
    )
}

/// What a client's settings file needs; the key is in a header, where fewer can see it.
fn mcp_settings(url: &str, first: &FirstStart) -> String {
    let FirstStart { agent_key, .. } = first;
    format!(
        "{{\"mcpServers\": {{\"quetra\": {{\"type\": \"http\", \"url\": \"{url}/mcp\",\n\
         \x20 \"headers\": {{\"Authorization\": \"Bearer {agent_key}\"}}}}}}}}"
    )
}

/// The commands that find the credentials by themselves, or are told where they are.
fn commands(path: &Path, output: &Output) -> String {
    let program = quoted(&output.program);
    let told = if path == Path::new(".quetra").join(FILE) {
        String::new()
    } else {
        format!(" --credentials {}", quoted(&path.display().to_string()))
    };
    format!(
        "{program} budget get{told}\n\
         {program} transactions list{told}\n\
         {program} evaluate --amount 200 --vendor firecrawl.dev --category research{told}"
    )
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+:@%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::Command;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn greeting(started: &Started, data_dir: &Path) -> String {
        let buffer = Buffer::default();
        let mut output = Output::new(Box::new(buffer.clone()), Box::new(std::io::sink()));
        output.program = "target/release/quetra".to_owned();
        greet(started, data_dir, &mut output);
        String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap()
    }

    fn first_start() -> Started {
        Started {
            addr: "127.0.0.1:7070".parse().unwrap(),
            first_start: Some(FirstStart {
                org_name: "Demo".to_owned(),
                agent_id: "0198c0de-0000-7000-8000-000000000001".to_owned(),
                agent_name: "demo".to_owned(),
                mandate_id: "mdt_1".to_owned(),
                admin_key: "sk_admin".to_owned(),
                agent_key: "sk_agent".to_owned(),
            }),
        }
    }

    #[test]
    fn keys_are_shown_on_the_first_start_only() {
        let directory = tempfile::tempdir().unwrap();
        let first = greeting(&first_start(), directory.path());
        assert!(first.contains("sk_admin") && first.contains("sk_agent"), "{first}");
        let command = format!(
            "target/release/quetra budget get --credentials {}",
            directory.path().join(FILE).display()
        );
        assert!(first.contains(&command), "{first}");

        let later = Started { addr: "127.0.0.1:7071".parse().unwrap(), first_start: None };
        let second = greeting(&later, directory.path());
        assert!(!second.contains("sk_"), "{second}");
        assert!(second.contains("credentials.toml"), "{second}");
        let kept = Credentials::read(&directory.path().join(FILE)).unwrap().unwrap();
        assert_eq!(kept.url, "http://127.0.0.1:7071");
        assert_eq!(kept.admin_key, "sk_admin");

        let elsewhere = greeting(&later, &directory.path().join("none"));
        assert!(elsewhere.contains("never shown twice"), "{elsewhere}");
    }

    #[test]
    fn what_is_pasted_into_a_shell_is_one_call_with_a_json_body() {
        let directory = tempfile::tempdir().unwrap();
        let text = greeting(&first_start(), directory.path());
        let lines: Vec<&str> = text
            .split("\n\n")
            .filter(|part| part.starts_with("curl") || part.starts_with("buf"))
            .collect();
        assert_eq!(lines.len(), 4, "{text}");
        for line in lines {
            // The shell itself says what it would run.
            let script = format!(
                "curl() {{ for word; do printf '%s\\0' \"$word\"; done; }}; \
                                  buf() {{ curl \"$@\"; }}; {line}"
            );
            let ran = Command::new("sh").arg("-c").arg(script).output().unwrap();
            let words = String::from_utf8(ran.stdout).unwrap();
            let words: Vec<&str> = words.split('\0').collect();
            let data = words.iter().position(|word| *word == "-d").unwrap();
            let body: serde_json::Value = serde_json::from_str(words[data + 1]).unwrap();
            assert_eq!(body["agentId"], "0198c0de-0000-7000-8000-000000000001");
            assert!(words.contains(&"authorization: Bearer sk_agent"), "{words:?}");
        }
    }

    #[test]
    fn the_settings_for_mcp_clients_are_json_with_the_key_in_a_header() {
        let directory = tempfile::tempdir().unwrap();
        let text = greeting(&first_start(), directory.path());
        assert!(text.contains("\n\nhttp://127.0.0.1:7070/sk_agent/mcp\n\n"), "{text}");
        let settings = text.split("\n\n").find(|part| part.starts_with('{')).unwrap();
        let settings: serde_json::Value = serde_json::from_str(settings).unwrap();
        let server = &settings["mcpServers"]["quetra"];
        assert_eq!(server["url"], "http://127.0.0.1:7070/mcp");
        assert_eq!(server["headers"]["Authorization"], "Bearer sk_agent");
    }

    #[test]
    fn a_path_with_a_space_is_one_word() {
        assert_eq!(quoted("a/b.toml"), "a/b.toml");
        assert_eq!(quoted("my dir/it's"), "'my dir/it'\\''s'");
    }
}
