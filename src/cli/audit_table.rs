//! The journal as a table: for a list on a screen, and as CSV that is safe in a spreadsheet.
//!
//! A cell that a spreadsheet would take for a formula begins with an apostrophe, so that nothing an
//! agent wrote is ever computed. Such a table cannot be verified. Not here: the form that can
//! (`audit::file`).

use crate::proto::v1;
use crate::proto::v1::audit_entry::Content;

/// The columns of the table.
const COLUMNS: [&str; 22] = [
    "sequence",
    "at_micros",
    "kind",
    "source",
    "source_sequence",
    "chain",
    "transaction_id",
    "agent_id",
    "mandate_id",
    "verdict",
    "amount",
    "currency",
    "vendor",
    "category",
    "idempotency_key",
    "request_hash",
    "evidence",
    "subject",
    "actor_key_id",
    "actor_role",
    "document",
    "derived",
];

/// What an entry is about, and who did it, in a word each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Row<'a> {
    pub(super) about: String,
    pub(super) by: &'a str,
}

/// The short form of an entry.
pub(super) fn row_of(entry: &v1::AuditEntry) -> Row<'_> {
    match &entry.content {
        Some(Content::Decision(decision)) => {
            Row { about: decision.transaction_id.clone(), by: &decision.agent_id }
        }
        Some(Content::Act(act)) => {
            let by = match act.actor_key_id.as_str() {
                "" => act.actor_role.as_str(),
                key => key,
            };
            Row { about: id_of(&act.kind, &act.subject), by }
        }
        Some(Content::Derived(body)) => Row { about: mandate_in(body), by: "" },
        None => Row::default(),
    }
}

/// The id that other commands take of what an act of this kind was done to. The journal has its
/// digits alone.
fn id_of(kind: &str, digits: &str) -> String {
    let prefix = match kind.split('.').next().unwrap_or_default() {
        "transaction" => "tx_",
        "organization" => "org_",
        "mandate" => "mdt_",
        "key" => "key_",
        "webhook" => "whe_",
        "agent" => return uuid(digits).unwrap_or_else(|| digits.to_owned()),
        _ => "",
    };
    format!("{prefix}{digits}")
}

fn uuid(digits: &str) -> Option<String> {
    let part = |from, to| digits.get(from..to);
    let parts = [part(0, 8)?, part(8, 12)?, part(12, 16)?, part(16, 20)?, digits.get(20..)?];
    Some(parts.join("-"))
}

/// The mandate that something that follows from decisions is about.
fn mandate_in(body: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Derived {
        mandate: Option<String>,
    }
    let derived: Option<Derived> = serde_json::from_str(body).ok();
    derived.and_then(|derived| derived.mandate).unwrap_or_default()
}

/// Appends the names of the columns.
pub(super) fn head(out: &mut Vec<u8>) {
    write(out, &COLUMNS);
}

/// Appends an entry.
pub(super) fn row(out: &mut Vec<u8>, entry: &v1::AuditEntry) {
    let decision = match &entry.content {
        Some(Content::Decision(decision)) => Some(decision),
        Some(Content::Act(_) | Content::Derived(_)) | None => None,
    };
    let act = match &entry.content {
        Some(Content::Act(act)) => Some(act),
        Some(Content::Decision(_) | Content::Derived(_)) | None => None,
    };
    let derived = match &entry.content {
        Some(Content::Derived(body)) => body.as_str(),
        Some(Content::Decision(_) | Content::Act(_)) | None => "",
    };
    let of_decision = |value: fn(&v1::AuditDecision) -> &str| decision.map_or("", value);
    let of_act = |value: fn(&v1::AuditAct) -> &str| act.map_or("", value);
    let amount = decision.map(|decision| decision.amount.to_string()).unwrap_or_default();
    let [sequence, at, source_sequence] =
        [entry.sequence, entry.at_micros, entry.source_sequence].map(|number| number.to_string());
    let source = entry.source.to_string();
    let cells: [&str; 22] = [
        &sequence,
        &at,
        &entry.kind,
        &source,
        &source_sequence,
        &entry.chain,
        of_decision(|decision| &decision.transaction_id),
        of_decision(|decision| &decision.agent_id),
        of_decision(|decision| &decision.mandate_id),
        of_decision(|decision| &decision.verdict),
        &amount,
        of_decision(|decision| &decision.currency),
        of_decision(|decision| &decision.vendor),
        of_decision(|decision| decision.category.as_deref().unwrap_or_default()),
        of_decision(|decision| &decision.idempotency_key),
        of_decision(|decision| &decision.request_hash),
        of_decision(|decision| &decision.evidence),
        of_act(|act| &act.subject),
        of_act(|act| &act.actor_key_id),
        of_act(|act| &act.actor_role),
        of_act(|act| &act.document),
        derived,
    ];
    write(out, &cells);
}

/// Appends a line of cells (RFC 4180).
fn write(out: &mut Vec<u8>, cells: &[&str]) {
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
        let is_quoted = is_formula || cell.contains(['"', ',', '\n', '\r']);
        if !is_quoted {
            out.extend_from_slice(cell.as_bytes());
            continue;
        }
        out.push(b'"');
        if is_formula {
            out.push(b'\'');
        }
        for byte in cell.bytes() {
            if byte == b'"' {
                out.push(b'"');
            }
            out.push(byte);
        }
        out.push(b'"');
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(cells: &[&str]) -> String {
        let mut out = Vec::new();
        write(&mut out, cells);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_that_an_agent_wrote_is_a_formula() {
        for cell in ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "=cmd|' /C calc'!A0"] {
            let text = written(&[cell]);
            assert!(text.starts_with("\"'"), "{text}");
        }
        assert_eq!(written(&["a.com", "1", ""]), "a.com,1,\r\n");
        assert_eq!(
            written(&["a,b", "say \"hi\"", "two\nlines"]),
            "\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\"\r\n"
        );
    }

    #[test]
    fn what_an_act_was_done_to_has_the_id_that_other_commands_take() {
        let digits = "0190f3a45b6c7d8e9fa0b1c2d3e4f506";
        for (kind, prefix) in [
            ("transaction.settled", "tx_"),
            ("organization.frozen", "org_"),
            ("mandate.paused", "mdt_"),
            ("key.revoked", "key_"),
            ("webhook.sent", "whe_"),
            ("something.else", ""),
        ] {
            assert_eq!(id_of(kind, digits), format!("{prefix}{digits}"), "{kind}");
        }
        let agent = "0190f3a4-5b6c-7d8e-9fa0-b1c2d3e4f506";
        assert_eq!(id_of("agent.keys_revoked", digits), agent);
        assert_eq!(id_of("agent.updated", "é"), "é");
        let derived = Content::Derived("{\"mandate\":\"mdt_1\",\"percent\":80}".to_owned());
        let entry = v1::AuditEntry { content: Some(derived), ..Default::default() };
        assert_eq!(row_of(&entry), Row { about: "mdt_1".to_owned(), by: "" });
    }

    #[test]
    fn an_entry_has_a_cell_for_every_column() {
        let decision = v1::AuditDecision {
            vendor: "=HYPERLINK(\"https://a.com\")".to_owned(),
            ..Default::default()
        };
        for content in [
            None,
            Some(Content::Derived("{}".to_owned())),
            Some(Content::Act(v1::AuditAct::default())),
            Some(Content::Decision(decision)),
        ] {
            let mut out = Vec::new();
            row(&mut out, &v1::AuditEntry { content, ..Default::default() });
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.matches(',').count(), COLUMNS.len() - 1, "{text}");
            assert!(!text.contains(",="), "{text}");
        }
    }
}
