//! What may be called and what may not, as a table; and calls to peers that misbehave.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// URLs that nobody may call, with the beginning of what is said about each.
const REFUSED: &[(&str, &str)] = &[
    // Not to be parsed, or not of the web.
    ("", "must be a URL"),
    ("x", "must be a URL"),
    ("//example.com", "must be a URL"),
    ("https:", "must be a URL"),
    ("https://", "must be a URL"),
    ("https:///hooks", "must be a URL"),
    ("https://exa mple.com", "must be a URL"),
    ("https://example.com/a b", "must be a URL"),
    ("https://example.com/\n", "must be a URL"),
    ("https://exam\tple.com/", "must be a URL"),
    ("https://example.com\\@127.0.0.1/", "must be a URL"),
    ("https:\\\\example.com", "must be a URL"),
    ("https://example.com:99999/", "must be a URL"),
    ("file:///etc/passwd", "must begin with https"),
    ("ftp://example.com/", "must begin with https"),
    ("gopher://example.com/", "must begin with https"),
    ("javascript:alert(1)", "must begin with https"),
    ("data:text/plain,x", "must begin with https"),
    ("unix:/var/run/docker.sock", "must begin with https"),
    ("ws://example.com/", "must begin with https"),
    ("http://example.com/", "must begin with https://; http is refused"),
    ("HTTP://example.com/", "must begin with https://; http is refused"),
    // Who, and where in the page.
    ("https://user@example.com/", "must not have a user"),
    ("https://user:pass@example.com/", "must not have a user"),
    ("https://:pass@example.com/", "must not have a user"),
    ("https://@example.com/", "must not have a user"),
    ("https://example.com@127.0.0.1/", "must not have a user"),
    ("https://127.0.0.1@example.com/", "must not have a user"),
    ("https://example.com/#part", "must not have a fragment"),
    // Ports of others.
    ("https://example.com:1/", "must not name a port"),
    ("https://example.com:22/", "must not name a port"),
    ("https://example.com:25/", "must not name a port"),
    ("https://example.com:80/", "must not name a port"),
    ("https://example.com:0/", "must not name a port"),
    ("https://example.com:465/", "must not name a port"),
    ("https://example.com:2375/", "must not name a port"),
    ("https://example.com:5432/", "must not name a port"),
    ("https://example.com:6379/", "must not name a port"),
    ("https://example.com:9200/", "must not name a port"),
    ("https://example.com:11211/", "must not name a port"),
    ("https://example.com:27017/", "must not name a port"),
    // Addresses of version 4, plainly.
    ("https://0.0.0.0/", "must not name an address"),
    ("https://0.1.2.3/", "must not name an address"),
    ("https://10.0.0.1/", "must not name an address"),
    ("https://10.255.255.255/", "must not name an address"),
    ("https://100.64.0.1/", "must not name an address"),
    ("https://100.100.100.200/", "must not name an address"),
    ("https://100.127.255.255/", "must not name an address"),
    ("https://127.0.0.1/", "must not name an address"),
    ("https://127.0.0.1:8443/", "must not name an address"),
    ("https://127.1.2.3/", "must not name an address"),
    ("https://127.255.255.254/", "must not name an address"),
    ("https://168.63.129.16/", "must not name an address"),
    ("https://169.254.169.254/latest/meta-data/", "must not name an address"),
    ("https://169.254.170.2/v2/credentials", "must not name an address"),
    ("https://169.254.0.1/", "must not name an address"),
    ("https://172.16.0.1/", "must not name an address"),
    ("https://172.31.255.255/", "must not name an address"),
    ("https://192.0.0.192/", "must not name an address"),
    ("https://192.0.2.1/", "must not name an address"),
    ("https://192.88.99.1/", "must not name an address"),
    ("https://192.168.0.1/", "must not name an address"),
    ("https://192.168.255.255/", "must not name an address"),
    ("https://198.18.0.1/", "must not name an address"),
    ("https://198.19.255.255/", "must not name an address"),
    ("https://198.51.100.7/", "must not name an address"),
    ("https://203.0.113.9/", "must not name an address"),
    ("https://224.0.0.1/", "must not name an address"),
    ("https://239.255.255.255/", "must not name an address"),
    ("https://240.0.0.1/", "must not name an address"),
    ("https://255.255.255.255/", "must not name an address"),
    // The same in other words.
    ("https://2130706433/", "must have its host written plainly"),
    ("https://017700000001/", "must have its host written plainly"),
    ("https://0x7f000001/", "must have its host written plainly"),
    ("https://0X7F000001/", "must have its host written plainly"),
    ("https://0x7f.0.0.1/", "must have its host written plainly"),
    ("https://0177.0.0.1/", "must have its host written plainly"),
    ("https://0177.0.0.01/", "must have its host written plainly"),
    ("https://127.1/", "must have its host written plainly"),
    ("https://127.0.1/", "must have its host written plainly"),
    ("https://127.0.0.1./", "must have its host written plainly"),
    ("https://127.000.000.001/", "must have its host written plainly"),
    ("https://0/", "must have its host written plainly"),
    ("https://00/", "must have its host written plainly"),
    ("https://0x0/", "must have its host written plainly"),
    ("https://1.1/", "must have its host written plainly"),
    ("https://8.8.2056/", "must have its host written plainly"),
    ("https://134744072/", "must have its host written plainly"),
    ("https://2852039166/", "must have its host written plainly"),
    ("https://0xa9fea9fe/", "must have its host written plainly"),
    ("https://0251.0376.0251.0376/", "must have its host written plainly"),
    ("https://256.256.256.256/", "must have its host written plainly"),
    ("https://1.2.3.4.5/", "must have its host written plainly"),
    ("https://127.0.0.0x1/", "must have its host written plainly"),
    ("https://127.0.0.1%2f/", "must be a URL"),
    ("https://%31%32%37.0.0.1/", "must have its host written plainly"),
    ("https://１２７.０.０.１/", "must have its host written plainly"),
    ("https://①②⑦.⓪.⓪.①/", "must have its host written plainly"),
    ("https://127。0。0。1/", "must have its host written plainly"),
    // Version 6.
    ("https://[::]/", "must not name an address"),
    ("https://[::1]/", "must not name an address"),
    ("https://[0:0:0:0:0:0:0:1]/", "must not name an address"),
    ("https://[0000::0001]/", "must not name an address"),
    ("https://[::2]/", "must not name an address"),
    ("https://[::127.0.0.1]/", "must have its host written plainly"),
    ("https://[::7f00:1]/", "must not name an address"),
    ("https://[::ffff:127.0.0.1]/", "must have its host written plainly"),
    ("https://[::ffff:7f00:1]/", "must have its host written plainly"),
    ("https://[::ffff:8.8.8.8]/", "must have its host written plainly"),
    ("https://[::FFFF:a9fe:a9fe]/", "must have its host written plainly"),
    ("https://[64:ff9b::7f00:1]/", "must not name an address"),
    ("https://[64:ff9b::808:808]/", "must not name an address"),
    ("https://[64:ff9b::169.254.169.254]/", "must have its host written plainly"),
    ("https://[64:ff9b:1::1]/", "must not name an address"),
    ("https://[100::1]/", "must not name an address"),
    ("https://[2001::1]/", "must not name an address"),
    ("https://[2001:0:7f00:1::]/", "must not name an address"),
    ("https://[2001:2::1]/", "must not name an address"),
    ("https://[2001:10::1]/", "must not name an address"),
    ("https://[2001:db8::1]/", "must not name an address"),
    ("https://[2002:7f00:1::]/", "must not name an address"),
    ("https://[2002:a9fe:a9fe::1]/", "must not name an address"),
    ("https://[3fff::1]/", "must not name an address"),
    ("https://[5f00::1]/", "must not name an address"),
    ("https://[fc00::1]/", "must not name an address"),
    ("https://[fd00:ec2::254]/", "must not name an address"),
    ("https://[fdff::1]/", "must not name an address"),
    ("https://[fe80::1]/", "must not name an address"),
    ("https://[febf::1]/", "must not name an address"),
    ("https://[fec0::1]/", "must not name an address"),
    ("https://[ff02::1]/", "must not name an address"),
    ("https://[4000::1]/", "must not name an address"),
    ("https://[fe80::1%25eth0]/", "must have its host written plainly"),
    ("https://[fe80::1%eth0]/", "must have its host written plainly"),
    ("https://[::1/", "must have its host written plainly"),
    ("https://[]/", "must have its host written plainly"),
    // Names that lead inside.
    ("https://localhost/", "must not name a host inside"),
    ("https://LOCALHOST/", "must not name a host inside"),
    ("https://localhost./", "must not name a host inside"),
    ("https://a.localhost/", "must not name a host inside"),
    ("https://localhost.localdomain/", "must not name a host inside"),
    ("https://printer.local/", "must not name a host inside"),
    ("https://metadata.google.internal/", "must not name a host inside"),
    ("https://metadata.google.internal./", "must not name a host inside"),
    ("https://kubernetes.default.svc.cluster.local/", "must not name a host inside"),
    ("https://router.home.arpa/", "must not name a host inside"),
    ("https://metadata/", "must have a full host name"),
    ("https://redis:8443/", "must have a full host name"),
    ("https://ｌｏｃａｌｈｏｓｔ/", "must not name a host inside"),
    ("https://loc%61lhost/", "must not name a host inside"),
    ("https://-a.example.com/", "must have its host written plainly"),
    ("https://a..example.com/", "must have its host written plainly"),
    ("https://example.com../", "must have its host written plainly"),
    ("https://example.0x7f/", "must have its host written plainly"),
];

/// URLs that anybody may call.
const ACCEPTED: &[&str] = &[
    "https://example.com",
    "https://example.com/",
    "https://EXAMPLE.com/Hooks?a=1&b=%20",
    "https://example.com./hooks",
    "https://example.com:443/",
    "https://example.com:8443/",
    "https://example.com:1024/",
    "https://example.com:65535/",
    "https://a-b.c_d.example.co.uk/x/y",
    "https://bücher.example/",
    "https://xn--bcher-kva.example/",
    "https://8.8.8.8/",
    "https://172.15.255.255/",
    "https://172.32.0.1/",
    "https://100.63.255.255/",
    "https://100.128.0.1/",
    "https://169.253.255.255/",
    "https://[2606:4700:4700::1111]/",
    "https://[2a00:1450::1]:8443/",
    "https://localhost.example.com/",
    "https://internal.example.com/",
    "https://1.example.com/",
    "https://10.0.0.1.example.com/",
];

#[test]
fn the_table_of_urls_holds() {
    let rules = EgressRules::default();
    assert!(REFUSED.len() + ACCEPTED.len() >= 150, "{}", REFUSED.len() + ACCEPTED.len());
    let mut wrong = Vec::new();
    for (url, why) in REFUSED {
        let refused = rules.destination(url);
        let said = refused.map(|_| String::new()).unwrap_or_else(|refusal| refusal.to_string());
        if !said.starts_with(why) {
            wrong.push(format!("{url}: `{said}`"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    let long = format!("https://example.com/{}", "a".repeat(2_048));
    assert_eq!(rules.destination(&long), Err(UrlRefusal::TooLong));
    for url in ACCEPTED {
        let accepted = rules.destination(url);
        assert!(accepted.is_ok(), "{url}: {accepted:?}");
    }
}

#[test]
fn a_setting_allows_http_and_ranges_and_nothing_else() {
    let allowed = vec!["127.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
    let rules = EgressRules::new(true, allowed);
    for url in [
        "http://127.0.0.1:3000/hooks",
        "http://example.com/",
        "http://example.com:80/",
        "https://localhost:8443/",
        "http://receiver:8080/",
        "https://[fd12::1]/",
    ] {
        assert!(rules.destination(url).is_ok(), "{url}: {:?}", rules.destination(url));
    }
    for url in [
        "http://10.0.0.1/",
        "http://169.254.169.254/",
        "http://2130706433/",
        "http://127.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://example.com:443x/",
        "http://127.0.0.1:6379/",
        "ftp://127.0.0.1/",
    ] {
        assert!(rules.destination(url).is_err(), "{url}");
    }
    // A mapped form of an allowed address is still another spelling.
    assert!(rules.address("::ffff:127.0.0.1".parse().unwrap()).is_err());
}

/// Says something else at each question; the last answer stays.
struct Scripted(Mutex<Vec<Vec<IpAddr>>>);

impl Scripted {
    fn says(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |text: &&str| text.parse().unwrap();
        let answers = answers.iter().map(|answer| answer.iter().map(parse).collect());
        Arc::new(Self(Mutex::new(answers.rev().collect())))
    }
}

#[async_trait::async_trait]
impl Resolver for Scripted {
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let mut answers = self.0.lock().unwrap();
        Ok(if answers.len() > 1 { answers.pop().unwrap() } else { answers[0].clone() })
    }
}

fn quick() -> EgressLimits {
    EgressLimits {
        connect_time: Duration::from_secs(2),
        answer_time: Duration::from_millis(400),
        body_time: Duration::from_millis(200),
        body_bytes: 1_024,
    }
}

fn loopback(resolver: Arc<dyn Resolver>) -> Egress {
    let rules = EgressRules::new(true, vec!["127.0.0.0/8".parse().unwrap()]);
    Egress::new(Arc::new(rules), quick(), Vec::new(), resolver).unwrap()
}

async fn post(egress: &Egress, url: &str) -> Result<Reply, EgressError> {
    egress.post(url, HeaderMap::new(), Bytes::from_static(b"{}")).await
}

#[tokio::test]
async fn every_special_address_of_a_name_is_refused_when_it_is_connected() {
    let addresses = [
        "127.0.0.1",
        "10.1.2.3",
        "172.20.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.1.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.251",
        "198.18.0.1",
        "192.0.2.1",
        "203.0.113.1",
        "168.63.129.16",
        "::1",
        "::",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b::808:808",
        "2002:7f00:1::",
        "2001::1",
        "2001:db8::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "ff02::1",
        "fec0::1",
        "5f00::1",
    ];
    for address in addresses {
        for answer in [vec![address], vec!["8.8.8.8", address], vec![address, "8.8.8.8"]] {
            let (rules, resolver) = (Arc::default(), Scripted::says(&[&answer]));
            let egress = Egress::new(rules, quick(), Vec::new(), resolver).unwrap();
            let refused = post(&egress, "https://rebind.example.com/").await.unwrap_err();
            assert!(matches!(refused, EgressError::Address(_)), "{answer:?}: {refused:?}");
        }
    }
}

#[tokio::test]
async fn a_name_without_or_with_too_many_addresses_is_not_called() {
    let many = ["8.8.8.8"; 17];
    for answer in [&[][..], &many] {
        let (rules, resolver) = (Arc::default(), Scripted::says(&[answer]));
        let egress = Egress::new(rules, quick(), Vec::new(), resolver).unwrap();
        let refused = post(&egress, "https://example.com/").await.unwrap_err();
        assert_eq!(refused, EgressError::Unresolved);
    }
}

/// Serves each connection with these bytes, a pause after each; then closes it or, if told so,
/// never does. Returns the port.
async fn serve(parts: &'static [&'static str], stays: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    #[expect(clippy::disallowed_methods, reason = "a peer of one test")]
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = [0; 4_096];
                let _ = stream.read(&mut read).await;
                for part in parts {
                    if stream.write_all(part.as_bytes()).await.is_err() {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
                if stays {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_name_that_changes_its_mind_is_judged_again_for_each_connection() {
    let port = serve(&["HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"], false).await;
    let resolver = Scripted::says(&[&["127.0.0.1"], &["10.0.0.1"]]);
    let egress = loopback(resolver);
    let url = format!("http://rebind.example.com:{port}/");
    assert_eq!(post(&egress, &url).await.unwrap().status, 204);
    assert_eq!(post(&egress, &url).await.unwrap_err(), EgressError::Address("private"));
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    for status in ["301", "302", "303", "307", "308"] {
        let inside = serve(&["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"], false).await;
        let head = format!(
            "HTTP/1.1 {status} Moved\r\nlocation: http://127.0.0.1:{inside}/\r\n\
             content-length: 0\r\n\r\n"
        );
        let port = serve(Box::leak(Box::new([&*Box::leak(head.into_boxed_str())])), false).await;
        let egress = loopback(Arc::new(SystemResolver));
        let reply = post(&egress, &format!("http://127.0.0.1:{port}/")).await.unwrap();
        assert_eq!(reply.status.as_str(), status);
    }
}

#[tokio::test]
async fn a_peer_that_lies_costs_bounded_time_and_memory() {
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n";
    let endless: &[&str] = Box::leak(
        [&["HTTP/1.1 200 OK\r\n\r\n"][..], &["0123456789abcdef"; 10_000][..]]
            .concat()
            .into_boxed_slice(),
    );
    let table: [(&'static [&'static str], bool, Result<usize, EgressError>); 9] = [
        // The head is the answer, whatever becomes of the body.
        (&[OK, "begins"], true, Ok(6)),
        (&[OK, "begins"], false, Ok(6)),
        (endless, true, Ok(1_024)),
        (&["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"], false, Ok(0)),
        // No head, no answer.
        (&[], true, Err(EgressError::AnswerTime)),
        (&["HTTP/1.1 200"], true, Err(EgressError::AnswerTime)),
        (&[], false, Err(EgressError::Protocol)),
        (&["HTTP/1.1 200"], false, Err(EgressError::Protocol)),
        (&["SSH-2.0-OpenSSH_9\r\n"], false, Err(EgressError::Protocol)),
    ];
    for (parts, stays, expected) in table {
        let port = serve(parts, stays).await;
        let egress = loopback(Arc::new(SystemResolver));
        #[expect(clippy::disallowed_methods, reason = "how long it really takes is the test")]
        let began = Instant::now();
        let answer = post(&egress, &format!("http://127.0.0.1:{port}/")).await;
        let answer = answer.map(|reply| reply.body.len());
        assert_eq!(answer, expected, "{:?} {stays}", parts.first());
        assert!(began.elapsed() < Duration::from_secs(3), "{:?} {stays}", parts.first());
    }
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let lines = Box::leak(
        vec!["x-filler: 0123456789012345678901234567890123456789\r\n"; 4_000].into_boxed_slice(),
    );
    let parts: &'static [&'static str] =
        Box::leak([&["HTTP/1.1 200 OK\r\n"][..], lines].concat().into_boxed_slice());
    let port = serve(parts, false).await;
    let egress = loopback(Arc::new(SystemResolver));
    let answer = post(&egress, &format!("http://127.0.0.1:{port}/")).await;
    assert_eq!(answer.unwrap_err(), EgressError::Protocol);
}

#[tokio::test]
async fn plain_text_where_tls_should_be_is_no_answer() {
    let port = serve(&["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"], false).await;
    let egress = loopback(Arc::new(SystemResolver));
    let answer = post(&egress, &format!("https://127.0.0.1:{port}/")).await;
    assert_eq!(answer.unwrap_err(), EgressError::Tls(TlsFault::Other));
}

#[tokio::test]
async fn nobody_listening_is_a_failed_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let egress = loopback(Arc::new(SystemResolver));
    let answer = post(&egress, &format!("http://127.0.0.1:{port}/")).await;
    assert_eq!(answer.unwrap_err(), EgressError::Connect(io::ErrorKind::ConnectionRefused));
}
