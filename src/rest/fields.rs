//! The names of fields: as the contract writes them, as REST writes them.
//!
//! Not here: checking any field.

use crate::forms::{RuleKind, Word};

/// The fields of a spend, which the nested shape of the evaluate body holds one level down.
const SPEND: [&str; 7] =
    ["amount", "currency", "vendor", "category", "description", "protocol", "metadata"];

/// `budget.perTransaction` for `budget.per_transaction`, `rules[0].allowed` for
/// `rules[0].vendor_allowlist.vendors`.
pub(super) fn rest_name(field: &str) -> String {
    match field {
        "page.page_size" => return "limit".to_owned(),
        "page.page_token" => return "pageToken".to_owned(),
        "skip" => return "offset".to_owned(),
        "update_mask" => return "body".to_owned(),
        "budget.reset" => return "budget.resetInterval.period".to_owned(),
        _ => {}
    }
    let mut named: Vec<String> = Vec::new();
    let mut kind = None;
    for segment in segments(field) {
        let (name, index) = segment.split_at(segment.find('[').unwrap_or(segment.len()));
        let inside_rule = named.last().is_some_and(|last| last.starts_with("rules["));
        if inside_rule && kind.is_none() && name == "kind" {
            named.push("type".to_owned());
        } else if inside_rule && kind.is_none() && Word::<RuleKind>::parse(name).is_some() {
            kind = Some(name.to_owned());
        } else {
            let published = published_name(kind.as_deref().unwrap_or_default(), name);
            named.push(format!("{published}{index}"));
        }
    }
    named.join(".")
}

/// The same, for the nested shape of the evaluate body.
pub(super) fn nested_rest_name(field: &str) -> String {
    let name = rest_name(field);
    if SPEND.iter().any(|known| name.split(['.', '[']).next() == Some(known)) {
        format!("paymentRequest.{name}")
    } else {
        name
    }
}

/// What the published form of a rule calls the field.
fn published_name(kind: &str, name: &str) -> String {
    let published = match (kind, name) {
        ("vendor_allowlist", "vendors") | ("geo", "allowed_countries") => "allowed",
        ("vendor_blocklist", "vendors") | ("geo", "blocked_countries") => "blocked",
        ("approval", "approver_roles") => "approverIds",
        _ => return camel(name),
    };
    published.to_owned()
}

/// `perTransaction` for `per_transaction`.
fn camel(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for letter in name.chars() {
        if letter == '_' {
            upper = true;
        } else if upper {
            camel.extend(letter.to_uppercase());
            upper = false;
        } else {
            camel.push(letter);
        }
    }
    camel
}

/// The parts between dots; a dot inside brackets belongs to a map's key.
fn segments(field: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    let parts = field.split(|letter: char| {
        match letter {
            '[' => depth = depth.saturating_add(1),
            ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == '.' && depth == 0
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_contract_get_their_published_names() {
        let cases = [
            ("amount", "amount"),
            ("agent_id", "agentId"),
            ("budget.per_transaction", "budget.perTransaction"),
            ("budget.reset", "budget.resetInterval.period"),
            ("page.page_size", "limit"),
            ("skip", "offset"),
            ("update_mask", "body"),
            ("rules[0]", "rules[0]"),
            ("rules[0].kind", "rules[0].type"),
            ("rules[12].vendor_allowlist.vendors[3]", "rules[12].allowed[3]"),
            ("rules[0].vendor_blocklist.vendors", "rules[0].blocked"),
            ("rules[0].geo.allowed_countries[1]", "rules[0].allowed[1]"),
            ("rules[0].approval.approver_roles", "rules[0].approverIds"),
            ("rules[0].category.allowed", "rules[0].allowed"),
            ("rules[0].category_cap.category", "rules[0].category"),
            ("rules[0].max_amount.amount", "rules[0].amount"),
            ("rules[0].spend_rate.max_amount", "rules[0].maxAmount"),
            ("metadata[\"a.b_c\"]", "metadata[\"a.b_c\"]"),
            ("", ""),
        ];
        for (contract, rest) in cases {
            assert_eq!(rest_name(contract), rest, "{contract}");
        }
        assert_eq!(nested_rest_name("amount"), "paymentRequest.amount");
        assert_eq!(nested_rest_name("metadata[x]"), "paymentRequest.metadata[x]");
        assert_eq!(nested_rest_name("mandate_id"), "mandateId");
    }
}
