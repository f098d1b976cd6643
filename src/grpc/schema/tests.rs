//! Every rule in the protos is one that is enforced.

use prost_reflect::DescriptorPool;

use super::*;

/// Compiles a proto body that may use `buf.validate`, and builds its schema.
pub(crate) fn compile(body: &str) -> Result<Schema, SchemaError> {
    Schema::build(&descriptors(body))
}

/// The descriptor set of a proto body that may use `buf.validate`.
pub(crate) fn descriptors(body: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let header = "syntax = \"proto3\"; package test.v1; import \"buf/validate/validate.proto\"; \
                  import \"google/protobuf/timestamp.proto\";";
    std::fs::write(folder.path().join("test.proto"), format!("{header}\n{body}")).unwrap();
    let includes = [folder.path(), std::path::Path::new("proto")];
    let mut compiler = protox::Compiler::new(includes).unwrap();
    compiler.include_imports(true);
    compiler.open_file("test.proto").unwrap();
    compiler.encode_file_descriptor_set()
}

#[test]
fn every_rule_of_our_protos_is_understood() {
    let schema = Schema::shared().unwrap();
    let pool = DescriptorPool::decode(crate::proto::DESCRIPTORS).unwrap();
    let inputs = pool
        .services()
        .flat_map(|service| service.methods().map(|method| method.input()).collect::<Vec<_>>());
    for input in inputs {
        assert!(
            schema.request(input.package_name(), input.name()).is_some(),
            "{} would not be validated: its name must end in Request",
            input.full_name()
        );
    }
}

#[test]
fn every_rule_of_any_message_is_reachable_from_a_request() {
    // A rule on a message that only replies use would be a promise nobody keeps.
    let pool = DescriptorPool::decode(crate::proto::DESCRIPTORS).unwrap();
    let option = pool.get_extension_by_name("buf.validate.field").unwrap();
    let mut reachable: Vec<_> =
        pool.all_messages().filter(|message| message.name().ends_with("Request")).collect();
    let mut position = 0;
    while let Some(message) = reachable.get(position).cloned() {
        for field in message.fields() {
            if let prost_reflect::Kind::Message(inner) = field.kind()
                && !reachable.contains(&inner)
            {
                reachable.push(inner);
            }
        }
        position += 1;
    }
    for message in pool.all_messages().filter(|m| m.package_name() == "quetra.v1") {
        for field in message.fields() {
            assert!(
                !field.options().has_extension(&option) || reachable.contains(&message),
                "{} has a rule, but no request contains it",
                field.full_name()
            );
        }
    }
}

#[test]
fn a_rule_that_is_not_understood_is_an_error() {
    let bodies = [
        "message ARequest { string a = 1 [(buf.validate.field).string.email = true]; }",
        "message ARequest { string a = 1 [(buf.validate.field).string.len = 3]; }",
        "message ARequest { string a = 1 [(buf.validate.field).ignore = IGNORE_ALWAYS]; }",
        "message ARequest { int64 a = 1 [(buf.validate.field).int64.const = 3]; }",
        "message ARequest { int64 a = 1 [(buf.validate.field).int64 = {gt: 5 lt: 2}]; }",
        "message ARequest { double a = 1 [(buf.validate.field).double.gt = 0]; }",
        "message ARequest { bytes a = 1 [(buf.validate.field).bytes.max_len = 1]; }",
        "message ARequest { bool a = 1 [(buf.validate.field).bool.const = true]; }",
        "message ARequest { string a = 1 [(buf.validate.field).string.pattern = \"(\"]; }",
        "message ARequest { B b = 1; } \
         message B { google.protobuf.Timestamp a = 1 \
         [(buf.validate.field).timestamp.lt_now = true]; }",
        "message ARequest { string a = 1 \
         [(buf.validate.field).cel = {id: \"x\" expression: \"true\"}]; }",
        "message ARequest { \
         option (buf.validate.message).cel = {id: \"x\" expression: \"true\"}; }",
        "message ARequest { repeated string a = 1 \
         [(buf.validate.field).repeated.items.string.uuid = true]; }",
        "message ARequest { map<string, string> a = 1 \
         [(buf.validate.field).map.values.string.uuid = true]; }",
    ];
    for body in bodies {
        assert!(compile(body).is_err(), "accepted: {body}");
    }
}

#[test]
fn rules_of_messages_outside_requests_do_not_matter() {
    let body = "message A { string a = 1 [(buf.validate.field).string.email = true]; } \
                message ARequest { string a = 1; }";
    assert!(compile(body).is_ok());
}

#[test]
fn a_recursive_message_can_be_described() {
    let body =
        "message ARequest { Node node = 1; } message Node { Node left = 1; Node right = 2; }";
    assert!(compile(body).is_ok());
}

#[test]
fn a_request_is_found_by_name_and_package() {
    let schema = compile("message ARequest {} message B {}").unwrap();
    assert!(schema.request("test.v1", "ARequest").is_some());
    assert!(schema.request("other.v1", "ARequest").is_none());
    assert!(schema.request("test.v1", "B").is_none());
}
