//! The contract's promises about itself, read from the descriptors the server is built with.
//!
//! Everything is commented, every RPC declares its roles, effects and reasons, and `docs/ERRORS.md`
//! is what the contract says (`contract/page.rs` writes it). Not here: whether the server keeps the
//! promises; the tests of each service do that.

mod page;

use std::collections::BTreeSet;
use std::fs;

use prost_reflect::{
    DescriptorPool, EnumDescriptor, FileDescriptor, MessageDescriptor, MethodDescriptor, Value,
};

/// The package of the product.
const PACKAGE: &str = "quetra.v1";

/// Reasons that any RPC can answer with, so that none declares them.
const EVERYWHERE: [&str; 14] = [
    "INVALID_FIELDS",
    "UNKNOWN_FIELDS",
    "MALFORMED_REQUEST",
    "CREDENTIAL_INVALID",
    "ROLE_NOT_ALLOWED",
    "OVERLOADED",
    "REQUEST_RATE_EXCEEDED",
    "MESSAGE_TOO_LARGE",
    "STORE_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "UNKNOWN_METHOD",
    "COMPRESSION_NOT_SUPPORTED",
    "INTERNAL",
    "RECORD_CORRUPT",
];

/// The canonical codes a reason can have.
const CODES: [&str; 13] = [
    "ABORTED",
    "ALREADY_EXISTS",
    "DATA_LOSS",
    "DEADLINE_EXCEEDED",
    "FAILED_PRECONDITION",
    "INTERNAL",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
    "UNIMPLEMENTED",
];

/// The contract, with options and comments.
pub(super) fn pool() -> DescriptorPool {
    DescriptorPool::decode(quetra::proto::DESCRIPTORS).unwrap()
}

/// Every RPC of the product, by service and then in the order of the file.
pub(super) fn methods(pool: &DescriptorPool) -> Vec<MethodDescriptor> {
    let ours = pool.services().filter(|service| service.package_name() == PACKAGE);
    let mut methods: Vec<_> =
        ours.flat_map(|service| service.methods().collect::<Vec<_>>()).collect();
    methods.sort_by_key(|method| method.parent_service().name().to_owned());
    methods
}

/// The comment above a declaration, one space stripped from each line; empty if there is none.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let Some(source) = &file.file_descriptor_proto().source_code_info else {
        return String::new();
    };
    let location = source.location.iter().find(|location| location.path == path);
    let text = location.and_then(|location| location.leading_comments.clone()).unwrap_or_default();
    let lines = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// What an RPC's comment says after `Writes:` or `Retry:`, up to the next of them or a blank line.
fn effect(method: &MethodDescriptor, label: &str) -> Option<String> {
    let text = comment(&method.parent_file(), method.path());
    let mut lines = text.lines().skip_while(|line| !line.starts_with(label));
    let mut found = lines.next()?.strip_prefix(label)?.trim().to_owned();
    let labels = ["Writes:", "Retry:"];
    for line in lines.take_while(|line| !line.is_empty()) {
        if labels.iter().any(|label| line.starts_with(label)) {
            break;
        }
        found = format!("{found} {line}");
    }
    Some(found).filter(|found| !found.is_empty())
}

/// A list in an RPC's contract option, as words without their prefix; `None` without the option.
pub(super) fn declared(method: &MethodDescriptor, list: &str) -> Option<Vec<String>> {
    let extension = method.parent_pool().get_extension_by_name("quetra.v1.contract").unwrap();
    let options = method.options();
    if !options.has_extension(&extension) {
        return None;
    }
    let contract = options.get_extension(&extension);
    let contract = contract.as_message().unwrap();
    let words = (if list == "roles" { "Role" } else { "ErrorReason" }, list);
    let words = method.parent_pool().get_enum_by_name(&format!("{PACKAGE}.{}", words.0)).unwrap();
    let values = contract.get_field_by_name(list).unwrap();
    let numbers = values.as_list().unwrap().iter().filter_map(Value::as_enum_number);
    Some(numbers.map(|number| word(words.get_value(number).unwrap().name())).collect())
}

/// A value's name without the prefix of its enum.
fn word(name: &str) -> String {
    let prefixes = ["ERROR_REASON_", "REJECTION_REASON_", "ROLE_"];
    let bare = prefixes.iter().find_map(|prefix| name.strip_prefix(prefix));
    bare.unwrap_or(name).to_owned()
}

/// One reason as its comment describes it.
struct Reason {
    word: String,
    when: String,
    code: String,
    remedy: String,
    metadata: String,
}

/// Reads `When. Code X. What to do. Metadata: keys.`
fn reason(name: &str, comment: &str) -> Result<Reason, String> {
    let text = comment.split_whitespace().collect::<Vec<_>>().join(" ");
    let parts = |text: &str, marker: &str| -> Result<(String, String), String> {
        let (before, after) =
            text.split_once(marker).ok_or_else(|| format!("{name}: no `{}`", marker.trim()))?;
        Ok((before.trim().to_owned(), after.trim().to_owned()))
    };
    let (when, rest) = parts(&text, " Code ")?;
    let (code, rest) = parts(&rest, ".")?;
    let (remedy, metadata) = parts(&format!(" {rest}"), " Metadata: ")?;
    if !CODES.contains(&code.as_str()) {
        return Err(format!("{name}: `{code}` is no canonical code"));
    }
    for (part, text) in [("when it happens", &when), ("what to do", &remedy)] {
        if !text.ends_with('.') {
            return Err(format!("{name}: does not say {part}, as a sentence"));
        }
    }
    let metadata = metadata.trim_end_matches('.').to_owned();
    let is_key = |key: &str| key.len() > 2 && key.starts_with('`') && key.ends_with('`');
    if metadata != "none" && !metadata.split(", ").all(is_key) {
        return Err(format!("{name}: metadata is `none` or keys in backticks"));
    }
    Ok(Reason { word: word(name), when, code, remedy, metadata })
}

/// The values of one of the product's enums that can be sent, with their comments.
fn sendable(pool: &DescriptorPool, name: &str) -> Vec<(String, String)> {
    let kind = pool.get_enum_by_name(&format!("{PACKAGE}.{name}")).unwrap();
    let file = kind.parent_file();
    let values = kind.values().filter(|value| value.number() != 0);
    values.map(|value| (value.name().to_owned(), comment(&file, value.path()))).collect()
}

fn uncommented_enum(kind: &EnumDescriptor, missing: &mut Vec<String>) {
    let file = kind.parent_file();
    if comment(&file, kind.path()).is_empty() {
        missing.push(kind.full_name().to_owned());
    }
    for value in kind.values().filter(|value| comment(&file, value.path()).is_empty()) {
        missing.push(value.full_name().to_owned());
    }
}

fn uncommented_message(message: &MessageDescriptor, missing: &mut Vec<String>) {
    let file = message.parent_file();
    if comment(&file, message.path()).is_empty() {
        missing.push(message.full_name().to_owned());
    }
    for field in message.fields().filter(|field| comment(&file, field.path()).is_empty()) {
        missing.push(field.full_name().to_owned());
    }
}

#[test]
fn everything_in_the_contract_is_explained() {
    let pool = pool();
    let mut missing = Vec::new();
    for service in pool.services().filter(|service| service.package_name() == PACKAGE) {
        if comment(&service.parent_file(), service.path()).is_empty() {
            missing.push(service.full_name().to_owned());
        }
    }
    for method in methods(&pool) {
        if comment(&method.parent_file(), method.path()).is_empty() {
            missing.push(method.full_name().to_owned());
        }
    }
    let messages = pool.all_messages().filter(|message| message.package_name() == PACKAGE);
    for message in messages.filter(|message| !message.is_map_entry()) {
        uncommented_message(&message, &mut missing);
    }
    for kind in pool.all_enums().filter(|kind| kind.package_name() == PACKAGE) {
        uncommented_enum(&kind, &mut missing);
    }
    assert!(missing.is_empty(), "without a comment:\n{}", missing.join("\n"));
}

#[test]
fn every_rpc_declares_roles_and_effects() {
    let pool = pool();
    let methods = methods(&pool);
    assert!(methods.len() >= 30, "only {} RPCs found", methods.len());
    for method in methods {
        let name = method.full_name();
        let roles = declared(&method, "roles").unwrap_or_default();
        assert!(!roles.is_empty(), "{name}: no role may call it; give it a contract option");
        assert!(!roles.contains(&"UNSPECIFIED".to_owned()), "{name}: ROLE_UNSPECIFIED");
        for label in ["Writes:", "Retry:"] {
            assert!(effect(&method, label).is_some(), "{name}: no `{label}` line in its comment");
        }
        let mutates = effect(&method, "Writes:").unwrap();
        let reader = roles.contains(&"READER".to_owned());
        assert!(!reader || mutates.starts_with("nothing"), "{name}: a reader would write");
    }
}

#[test]
fn every_reason_has_a_code_a_remedy_and_a_place() {
    let pool = pool();
    let mut declared_somewhere = BTreeSet::new();
    for method in methods(&pool) {
        let reasons = declared(&method, "reasons").unwrap_or_default();
        let distinct: BTreeSet<_> = reasons.iter().cloned().collect();
        assert_eq!(distinct.len(), reasons.len(), "{}: a reason twice", method.full_name());
        declared_somewhere.extend(distinct);
    }
    for (name, text) in sendable(&pool, "ErrorReason") {
        let reason = reason(&name, &text).unwrap_or_else(|complaint| panic!("{complaint}"));
        let everywhere = EVERYWHERE.contains(&reason.word.as_str());
        let somewhere = declared_somewhere.contains(&reason.word);
        assert!(everywhere || somewhere, "{name}: no RPC declares it");
        assert!(!(everywhere && somewhere), "{name}: every RPC has it, so none declares it");
    }
}

#[test]
fn a_reason_without_code_remedy_or_metadata_is_refused() {
    let complaint = |text: &str| reason("ERROR_REASON_X", text).err().unwrap_or_default();
    assert_eq!(complaint("When. Code ABORTED. Do this. Metadata: `a`, `b`."), "");
    assert!(complaint("When. Do this. Metadata: none.").contains("Code"));
    assert!(complaint("When. Code 2001. Do this. Metadata: none.").contains("canonical"));
    assert!(complaint("When. Code ABORTED. Metadata: none.").contains("what to do"));
    assert!(complaint("When. Code ABORTED. Do this.").contains("Metadata"));
    assert!(complaint("When. Code ABORTED. Do this. Metadata: a.").contains("backticks"));
}

#[test]
fn the_errors_page_is_what_the_contract_says() {
    let path = super::tidy::root().join("docs/ERRORS.md");
    let wanted = page::errors(&pool());
    if fs::read_to_string(&path).unwrap_or_default() == wanted {
        return;
    }
    #[expect(clippy::disallowed_methods, reason = "only a person's own checkout is rewritten")]
    let ci = std::env::var_os("CI").is_some();
    assert!(!ci, "docs/ERRORS.md is stale: run `just gen` and commit it");
    fs::write(&path, wanted).unwrap();
    panic!("docs/ERRORS.md was stale and is rewritten: look at the change and run this again");
}
