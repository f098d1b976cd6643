//! Every shape of field, on protos made for the purpose.

use proptest::prelude::*;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tonic::Status;

use super::described;
use crate::domain::samples::config;
use crate::grpc::codec::walk;
use crate::grpc::schema::Schema;
use crate::grpc::schema::tests::{compile, descriptors};

const TREE: &str = "message TreeRequest { Node node = 1; } \
    message Node { Node left = 1; string name = 2 [(buf.validate.field).string.max_bytes = 3]; \
    repeated sint32 numbers = 3 [(buf.validate.field).repeated = {min_items: 2 unique: true}]; \
    repeated fixed64 wide = 4; optional string note = 5 [(buf.validate.field).string.min_len = 2]; \
    int64 level = 6 [(buf.validate.field).required = true]; \
    map<string, Node> by_name = 7 [(buf.validate.field).map.min_pairs = 1]; }";

fn checked(body: &str, name: &str, bytes: &[u8]) -> Result<(), Status> {
    let schema = compile(body).unwrap();
    match walk::check(&schema, schema.request("test.v1", name).unwrap(), bytes) {
        Err(why) => Err(super::malformed(why)),
        Ok(found) if found.is_empty() => Ok(()),
        Ok(found) => Err(found.status()),
    }
}

fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..depth {
        let mut outer = vec![0x0a];
        prost::encode_length_delimiter(bytes.len(), &mut outer).unwrap();
        outer.extend(bytes);
        bytes = outer;
    }
    bytes
}

#[test]
fn messages_may_be_nested_64_deep_and_no_deeper() {
    let body = "message TreeRequest { Node node = 1; } message Node { Node left = 1; }";
    checked(body, "TreeRequest", &nested(63)).unwrap();
    let status = checked(body, "TreeRequest", &nested(64)).unwrap_err();
    assert_eq!(described(&status).0, "MALFORMED_REQUEST");
    let status = checked(body, "TreeRequest", &nested(10_000)).unwrap_err();
    assert_eq!(described(&status).0, "MALFORMED_REQUEST");
}

#[test]
fn every_shape_of_field_is_walked() {
    // node { numbers: [1, 1] packed, numbers: 2 alone, note: "x", by_name { "k": {name: "long"} } }
    let node = [
        &[0x1a, 0x02, 0x02, 0x02, 0x18, 0x04, 0x2a, 0x01, b'x'][..],
        &[0x3a, 0x0b, 0x0a, 0x01, b'k', 0x12, 0x06, 0x12, 0x04, b'l', b'o', b'n', b'g'],
        &[0x22, 0x08, 1, 2, 3, 4, 5, 6, 7, 8],
    ]
    .concat();
    let mut bytes = vec![0x0a, u8::try_from(node.len()).unwrap()];
    bytes.extend(node);
    let status = checked(TREE, "TreeRequest", &bytes).unwrap_err();
    assert_eq!(
        described(&status).1,
        [
            "node.numbers[1] repeats an earlier value of the list",
            "node.note must have at least 2 characters, has 1",
            "node.by_name[\"k\"].name must have at most 3 bytes, has 4",
            "node.by_name[\"k\"].numbers must have at least 2 values, has 0",
            "node.by_name[\"k\"].level is required",
            "node.by_name[\"k\"].by_name must have at least 1 value, has 0",
            "node.level is required",
        ]
    );
}

#[test]
fn an_explicit_zero_of_a_required_plain_field_counts_as_absent() {
    let body = "message ARequest { int64 level = 1 [(buf.validate.field).required = true]; }";
    let status = checked(body, "ARequest", &[0x08, 0x00]).unwrap_err();
    assert_eq!(described(&status).1, ["level is required"]);
    checked(body, "ARequest", &[0x08, 0x01]).unwrap();
}

/// What prost-reflect, another decoder, makes of the bytes.
fn reference(pool: &DescriptorPool, bytes: &[u8]) -> Result<DynamicMessage, prost::DecodeError> {
    DynamicMessage::decode(pool.get_message_by_name("test.v1.TreeRequest").unwrap(), bytes)
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn mutated_trees_never_panic_and_what_passes_decodes(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        static POOL: std::sync::LazyLock<(Schema, DescriptorPool)> =
            std::sync::LazyLock::new(|| (
                compile(TREE).unwrap(),
                DescriptorPool::decode(descriptors(TREE).as_slice()).unwrap(),
            ));
        let (schema, pool) = &*POOL;
        let mut bytes = vec![
            0x0a, 0x12, 0x1a, 0x02, 0x02, 0x04, 0x30, 0x01, 0x3a, 0x04, 0x0a, 0x02, b'a', b'b',
            0x2a, 0x02, b'x', b'y', 0x0a, 0x00,
        ];
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        let id = schema.request("test.v1", "TreeRequest").unwrap();
        if walk::check(schema, id, &bytes).is_ok_and(|found| found.is_empty()) {
            prop_assert!(reference(pool, &bytes).is_ok());
        }
    }
}
