//! Which requests are of the Connect protocol, and what the others are told.

use super::*;

fn headers(media: &str) -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_str(media).unwrap())])
}

#[test]
fn a_content_type_is_read_without_regard_to_case_and_parameters() {
    let json = Some(Media { is_json: true, is_stream: false });
    assert_eq!(Media::of(&headers("application/json")), json);
    assert_eq!(Media::of(&headers("Application/JSON; charset=utf-8")), json);
    let stream = Some(Media { is_json: false, is_stream: true });
    assert_eq!(Media::of(&headers("application/connect+proto")), stream);
    for other in ["", "text/plain", "application/jsonx", "application/grpc"] {
        assert_eq!(Media::of(&headers(other)), None, "{other}");
    }
    assert_eq!(Media::of(&HeaderMap::new()), None);
}

#[test]
fn a_timeout_becomes_a_grpc_timeout() {
    let read = |text: &str| {
        let value = HeaderValue::from_str(text).unwrap();
        timeout(&HeaderMap::from_iter([(TIMEOUT, value)]))
    };
    assert_eq!(read("250").unwrap().unwrap(), "250m");
    assert_eq!(read("9999999999").unwrap().unwrap(), "99999999m");
    for wrong in ["-1", "1.5", "1s", "12345678901", ""] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
    assert!(timeout(&HeaderMap::new()).unwrap().is_none());
}

#[test]
fn every_method_of_every_service_can_be_called() {
    let limits = Limits { request_bytes: 1, reply_bytes: 1, arrival: Duration::from_secs(1) };
    let connect = Connect::new(&[crate::proto::DESCRIPTORS], limits).unwrap();
    let pool = DescriptorPool::decode(crate::proto::DESCRIPTORS).unwrap();
    let methods: usize = pool.services().map(|service| service.methods().len()).sum();
    assert_eq!(connect.methods.len(), methods);
    assert!(connect.methods.contains_key("/quetra.v1.EvaluateService/Evaluate"));
}
