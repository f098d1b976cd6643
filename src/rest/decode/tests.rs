//! The reader against bytes nobody planned.
//!
//! Not here: the forms' own rules (`crate::forms`).

use proptest::prelude::*;

use super::*;
use crate::domain::samples::config;
use crate::forms::{AgentPatch, ApiKeyForm, MandateForm, SpendForm};
use crate::rest::tree::parse;

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let names = prop_oneof![
        Just("type".to_owned()),
        Just("rules".to_owned()),
        Just("budget".to_owned()),
        Just("name".to_owned()),
        Just("amount".to_owned()),
        Just("allowed".to_owned()),
        Just("paymentRequest".to_owned()),
        "[a-z]{0,3}",
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        Just("category".into()),
        ".{0,5}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 40, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            prop::collection::btree_map(names.clone(), inner, 0..8)
                .prop_map(|fields| serde_json::Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Whatever serde would read from the plain JSON, this reader reads too, and nothing else.
fn agrees<T: DeserializeOwned + PartialEq + std::fmt::Debug>(json: &serde_json::Value) {
    let ours =
        parse(json.to_string().as_bytes()).and_then(|tree| decode::<T>(tree, |_| Vec::new()));
    let plain = serde_json::from_str::<T>(&json.to_string());
    match (ours, plain) {
        (Ok(ours), Ok(plain)) => assert_eq!(ours, plain),
        (Err(_), Err(_)) => {}
        // serde_json reads a struct from a list; we do not.
        (Err(_), Ok(_)) => assert!(json.is_array() || json.to_string().contains('[')),
        (Ok(ours), Err(plain)) => panic!("{ours:?} against {plain}"),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes).and_then(|tree| decode::<MandateForm>(tree, |_| Vec::new()));
    }

    #[test]
    fn any_json_is_read_as_serde_reads_it(json in any_json()) {
        agrees::<MandateForm>(&json);
        agrees::<SpendForm>(&json);
        agrees::<AgentPatch>(&json);
        agrees::<ApiKeyForm>(&json);
    }
}
