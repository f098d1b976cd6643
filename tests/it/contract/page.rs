//! `docs/ERRORS.md`, written from the contract's own comments and options.
//!
//! Not here: the checks that those comments are complete; see the parent.

use std::fmt::Write;

use prost_reflect::DescriptorPool;

use super::{EVERYWHERE, comment, declared, effect, methods, reason, sendable};

const HEAD: &str = "\
# Errors and rejections

<!-- Generated from proto/quetra/v1 by `just gen`; a test compares it. Do not edit. -->

Two things can happen instead of an approval, and they are not the same.

- **A rejection is a decision.** The call succeeds (gRPC `OK`; REST answers 403 with the whole
  decision), the transaction is recorded, every rule's result is there. Dispatch on the
  [rejection reason](#rejection-reasons).
- **An error means that nothing could be decided, or that you may not ask.** Nothing is approved.
  Dispatch on the [error reason](#error-reasons), never on the message text.

In gRPC, gRPC-Web and the Connect protocol an error is a canonical code with `google.rpc.ErrorInfo`
(`domain` is `quetra`, `reason` is the word below, `metadata` has the keys below), with
`google.rpc.BadRequest` when fields are wrong (all of them at once) and `google.rpc.RetryInfo` when
waiting helps. In REST it is `{error, reason, details}` with the same word.
";

/// Text for one cell of a table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// Words as code spans, or a dash.
fn spans(words: &[String]) -> String {
    if words.is_empty() {
        return "–".to_owned();
    }
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ")
}

fn error_reasons(page: &mut String, pool: &DescriptorPool) {
    page.push_str("\n## Error reasons\n\n");
    page.push_str("| reason | code | when | what to do | metadata |\n|---|---|---|---|---|\n");
    for (name, text) in sendable(pool, "ErrorReason") {
        let reason = reason(&name, &text).unwrap_or_else(|complaint| panic!("{complaint}"));
        let (when, remedy) = (cell(&reason.when), cell(&reason.remedy));
        let (word, code, metadata) = (reason.word, reason.code, reason.metadata);
        let metadata = if metadata == "none" { "–".to_owned() } else { metadata };
        writeln!(page, "| `{word}` | `{code}` | {when} | {remedy} | {metadata} |").unwrap();
    }
}

fn rpcs(page: &mut String, pool: &DescriptorPool) {
    page.push_str("\n## What each RPC can answer with\n\n");
    let everywhere = EVERYWHERE.map(str::to_owned);
    writeln!(page, "Every RPC: {}.\n", spans(&everywhere)).unwrap();
    page.push_str("Beside these:\n");
    let mut service = String::new();
    for method in methods(pool) {
        if service != method.parent_service().name() {
            method.parent_service().name().clone_into(&mut service);
            writeln!(page, "\n### {service}\n").unwrap();
            page.push_str("| RPC | roles | writes | retry | reasons |\n|---|---|---|---|---|\n");
        }
        let roles = spans(&declared(&method, "roles").unwrap_or_default()).to_lowercase();
        let reasons = spans(&declared(&method, "reasons").unwrap_or_default());
        let writes = cell(&effect(&method, "Writes:").unwrap_or_default());
        let retry = cell(&effect(&method, "Retry:").unwrap_or_default());
        writeln!(page, "| {} | {roles} | {writes} | {retry} | {reasons} |", method.name()).unwrap();
    }
}

fn rejection_reasons(page: &mut String, pool: &DescriptorPool) {
    page.push_str("\n## Rejection reasons\n\n");
    page.push_str("The `reason` of a rule result and of the decision's `reasons`.\n\n");
    page.push_str("| reason | when |\n|---|---|\n");
    for (name, text) in sendable(pool, "RejectionReason") {
        writeln!(page, "| `{}` | {} |", super::word(&name), cell(&text)).unwrap();
    }
}

/// The whole page.
pub(super) fn errors(pool: &DescriptorPool) -> String {
    assert!(!comment_is_lost(pool), "the descriptors carry no comments: see build.rs");
    let mut page = HEAD.to_owned();
    error_reasons(&mut page, pool);
    rpcs(&mut page, pool);
    rejection_reasons(&mut page, pool);
    page
}

fn comment_is_lost(pool: &DescriptorPool) -> bool {
    methods(pool).iter().all(|method| comment(&method.parent_file(), method.path()).is_empty())
}
