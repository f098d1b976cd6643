//! Tables from the threat model and the bad-input catalogue, then properties over any text.
//!
//! Deliberately not here: the rules that use vendors, and timing, which a bench measures.

use proptest::prelude::*;

use super::*;
use crate::domain::samples::config;

fn vendor(raw: &str) -> Vendor {
    Vendor::parse(raw).unwrap_or_else(|error| panic!("{raw:?}: {error}"))
}

fn refused(raw: &str) -> VendorError {
    match Vendor::parse(raw) {
        Ok(vendor) => panic!("{raw:?} was read as {vendor:?}"),
        Err(error) => error,
    }
}

#[test]
fn every_spelling_of_a_host_has_one_canonical_form() {
    for (raw, canonical) in [
        ("api.openai.com", "api.openai.com"),
        ("https://api.openai.com:443/v1/x?y#z", "api.openai.com"),
        ("HTTP://API.OpenAI.com", "api.openai.com"),
        ("https://openai.com?next=https://evil.io", "openai.com"),
        ("openai.com/@evil.io", "openai.com"),
        ("openai.com#@evil.io", "openai.com"),
        ("openai.com/?u=http://evil.io", "openai.com"),
        ("OpenAI.COM", "openai.com"),
        ("openai.com.", "openai.com"),
        ("OPENAI.com:8443", "openai.com"),
        ("openai.com.:443", "openai.com"),
        ("  openai.com\u{3000}", "openai.com"),
        ("openai。com", "openai.com"),
        ("openai．com｡", "openai.com"),
        ("ｏｐｅｎａｉ.com", "openai.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("faß.de", "xn--fa-hia.de"),
        ("r3---sn.googlevideo.com", "r3---sn.googlevideo.com"),
        ("1.2.3.4.nip.io", "1.2.3.4.nip.io"),
        ("0x.org", "0x.org"),
        ("vercel.app", "vercel.app"),
        ("s3.amazonaws.com", "s3.amazonaws.com"),
    ] {
        assert_eq!(vendor(raw).canonical(), canonical, "{raw:?}");
        assert_eq!(vendor(raw).kind(), VendorKind::Host, "{raw:?}");
    }
}

#[test]
fn every_spelling_of_a_name_has_one_canonical_form() {
    for (raw, canonical) in [
        ("gmail", "gmail"),
        ("GMail", "gmail"),
        ("  Acme \u{A0}  Travel\u{2003}", "acme travel"),
        ("ＡＣＭＥ", "acme"),
        ("CAFE\u{301} Zo\u{308}e", "café zöe"),
        ("ΟΔΟΣ", "οδος"),
        ("AT&T (U.K)".replace('.', "").as_str(), "at&t (uk)"),
        ("37signals", "37signals"),
        ("aws", "aws"),
        ("HP", "hp"),
        ("株式会社 東京", "株式会社 東京"),
    ] {
        assert_eq!(vendor(raw).canonical(), canonical, "{raw:?}");
        assert_eq!(vendor(raw).kind(), VendorKind::Name, "{raw:?}");
    }
}

#[test]
fn text_that_is_no_vendor_says_why() {
    use VendorError as E;
    for (raw, why) in [
        ("", E::Empty),
        (" \u{3000} ", E::Empty),
        ("https://", E::Empty),
        (".", E::Empty),
        (":443", E::Empty),
        ("user@openai.com", E::UserInfo),
        ("https://user:pw@openai.com/", E::UserInfo),
        ("openai.com@evil", E::UserInfo),
        ("openai@evil", E::UserInfo),
        ("ftp://openai.com", E::Scheme),
        ("javascript://openai.com", E::Scheme),
        ("openai.com://x", E::Scheme),
        ("://openai.com", E::Scheme),
        ("openai.com:", E::Port),
        ("openai.com:0", E::Port),
        ("openai.com:+80", E::Port),
        ("openai.com:65536", E::Port),
        ("mailto:ann", E::Port),
        ("*", E::Wildcard),
        ("*.openai.com", E::Wildcard),
        ("https://*.com/", E::Wildcard),
        ("localhost", E::LocalHost),
        ("LOCALHOST.", E::LocalHost),
        ("http://localhost:3000/", E::LocalHost),
        ("app.localhost", E::LocalHost),
        ("https://gmail", E::LocalHost),
        ("gmail/inbox", E::LocalHost),
        ("com", E::PublicSuffix),
        ("COM", E::PublicSuffix),
        ("uk", E::PublicSuffix),
        ("co.uk", E::PublicSuffix),
        ("https://co.uk./", E::PublicSuffix),
        ("foo.ck", E::PublicSuffix),
        ("公司.cn", E::PublicSuffix),
        ("xn--55qx5d.cn", E::PublicSuffix),
        ("openai..com", E::MalformedHost),
        (".openai.com", E::MalformedHost),
        ("openai.com..", E::MalformedHost),
        ("open ai.com", E::MalformedHost),
        ("open\u{A0}ai.com", E::MalformedHost),
        ("open_ai.com", E::MalformedHost),
        ("-openai.com", E::MalformedHost),
        ("-bücher.example", E::MalformedHost),
        ("openai-.com", E::MalformedHost),
        ("openai%2ecom.io", E::MalformedHost),
        ("openai.com\\@evil.io".replace('@', "").as_str(), E::MalformedHost),
        ("openai.com／evil.io", E::MalformedHost),
        ("user＠openai.com", E::MalformedHost),
        ("xn--zzzzzzz99999.com", E::MalformedHost),
        ("xn--openai-.com", E::MalformedHost),
        ("St. Mary's", E::MalformedHost),
        ("acme\u{2024}travel", E::MalformedName),
        ("acme\u{2100}", E::MalformedName),
        ("acme\u{FE13}443", E::MalformedName),
    ] {
        assert_eq!(refused(raw), why, "{raw:?}");
    }
}

#[test]
fn an_ip_address_is_refused_in_any_spelling() {
    for raw in [
        "127.0.0.1",
        "127.0.0.1.",
        "http://127.0.0.1:8080/",
        "127.1",
        "2130706433",
        "http://2130706433/",
        "0x7f000001",
        "0X7F.0.0.1",
        "0x7f.1",
        "0177.0.0.01",
        "017700000001",
        "1.2.3.4.5",
        "１２７.０.０.１",
        "１２７",
        "①②⑦.⓪.⓪.①",
        "127。0。0。1",
        "::1",
        "[::1]",
        "https://[::1]:443/",
        "[::ffff:127.0.0.1]",
        "fe80::1%eth0",
        "[v1.x]",
    ] {
        assert!(
            matches!(refused(raw), VendorError::IpAddress | VendorError::MalformedHost),
            "{raw:?} {:?}",
            refused(raw)
        );
    }
    assert_eq!(refused("127.0.0.1"), VendorError::IpAddress);
    assert_eq!(refused("[::1]"), VendorError::IpAddress);
}

#[test]
fn invisible_characters_are_refused_wherever_they_are() {
    let hidden = "\0\r\n\t\u{7F}\u{85}\u{AD}\u{34F}\u{115F}\u{180E}\u{200B}\u{200D}\u{200E}\u{2028}\
        \u{202E}\u{2060}\u{2066}\u{2800}\u{3164}\u{FE0F}\u{FEFF}\u{FFA0}\u{FFF9}\u{E0041}";
    for c in hidden.chars() {
        for raw in [
            format!("openai.com{c}"),
            format!("{c}openai.com"),
            format!("https://openai.com/{c}"),
            format!("gm{c}ail"),
        ] {
            assert_eq!(refused(&raw), VendorError::HiddenCharacter, "{raw:?}");
        }
    }
}

#[test]
fn no_character_disappears_and_every_result_is_stable() {
    for c in '\0'..='\u{323AF}' {
        if let Ok(host) = Vendor::parse(&format!("open{c}ai.com")) {
            assert_ne!(host.canonical(), "openai.com", "{c:?}");
            assert_eq!(vendor(host.canonical()), host, "{c:?}");
        }
        if let Ok(name) = Vendor::parse(&format!("gm{c}ail{c}")) {
            assert_ne!(name.canonical(), "gmail", "{c:?}");
            assert_eq!(vendor(name.canonical()), name, "{c:?}");
        }
    }
}

#[test]
fn bounds_are_exact() {
    let label = "a".repeat(63);
    assert_eq!(vendor(&format!("{label}.com")).canonical().len(), 67);
    assert_eq!(refused(&format!("{label}a.com")), VendorError::TooLong);

    let host = format!("{label}.{label}.{label}.{}.com", "a".repeat(57));
    assert_eq!(vendor(&host).canonical().len(), 253);
    assert_eq!(vendor(&format!("{host}.")).canonical().len(), 253);
    assert_eq!(refused(&format!("a{host}").replacen("aa", "a.a", 1)), VendorError::TooLong);

    let name = "a".repeat(128);
    assert_eq!(vendor(&name).canonical(), name);
    assert_eq!(refused(&format!("{name}a")), VendorError::TooLong);
    assert_eq!(refused(&"\u{FDFA}".repeat(10)), VendorError::TooLong);

    let url = format!("https://openai.com/{}", "x".repeat(2048 - 19));
    assert_eq!(vendor(&url).canonical(), "openai.com");
    assert_eq!(refused(&format!("{url}x")), VendorError::TooLong);
}

#[test]
fn messages_are_lower_case_and_do_not_end_in_a_full_stop() {
    for raw in ["", "a@b", "x://y", "a.b:x", "*", "1", "localhost", "com", "a..b", "a\u{2024}b"] {
        let message = refused(raw).to_string();
        // It is shown after the path of the field, which is its subject.
        let verbs = ["is ", "has ", "contains "];
        assert!(verbs.iter().any(|verb| message.starts_with(verb)), "{message}");
        assert!(!message.ends_with('.') && !message.contains('\n'), "{message}");
    }
}

#[test]
fn an_entry_covers_itself_and_its_subdomains_at_a_label_boundary() {
    for (entry, spend, covered) in [
        ("openai.com", "openai.com", true),
        ("openai.com", "https://API.openai.com/v1", true),
        ("openai.com", "a.b.openai.com", true),
        ("api.openai.com", "v1.api.openai.com", true),
        ("api.openai.com", "openai.com", false),
        ("api.openai.com", "files.openai.com", false),
        ("openai.com", "evil-openai.com", false),
        ("api.openai.com", "evil-api.openai.com", false),
        ("openai.com", "openai.com.evil.io", false),
        ("openai.com", "openai.co", false),
        ("bücher.example", "shop.xn--bcher-kva.example", true),
        ("bbc.co.uk", "news.bbc.co.uk", true),
        ("intranet.corp", "pay.intranet.corp", true),
        ("gmail", "GMAIL", true),
        ("gmail", "gmail.com", false),
        ("acme", "acme travel", false),
        ("gmail", "mail.gmail", false),
        ("gmail.com", "gmail", false),
    ] {
        assert_eq!(vendor(entry).covers(&vendor(spend)), covered, "{entry} {spend}");
    }
}

#[test]
fn a_multi_tenant_host_never_covers_its_tenants() {
    for (entry, tenant) in [
        ("vercel.app", "shop.vercel.app"),
        ("github.io", "evil.github.io"),
        ("s3.amazonaws.com", "bucket.s3.amazonaws.com"),
        ("amazonaws.com", "bucket.s3.amazonaws.com"),
        ("compute.amazonaws.com", "host.us-west-1.compute.amazonaws.com"),
        ("myshopify.com", "evil.myshopify.com"),
        ("blogspot.com", "evil.blogspot.com"),
        ("uk.com", "evil.uk.com"),
    ] {
        assert!(!vendor(entry).covers(&vendor(tenant)), "{entry} {tenant}");
        assert!(vendor(entry).covers(&vendor(entry)), "{entry}");
        assert!(vendor(tenant).covers(&vendor(&format!("www.{tenant}"))), "{tenant}");
    }
}

#[test]
fn a_look_alike_of_an_entry_is_told_apart_from_a_stranger() {
    for (spend, entry, imitates) in [
        ("оpenai.com", "openai.com", true),
        ("api.оpenai.com", "openai.com", true),
        ("api2.оpenai.com", "api.openai.com", true),
        ("xn--penai-iye.com", "openai.com", true),
        ("аррӏе.com", "apple.com", true),
        ("rnicrosoft.com", "microsoft.com", true),
        ("paypa1.com", "paypal.com", true),
        ("g00gle.com", "google.com", true),
        ("shop1.vercel.app", "shopl.vercel.app", true),
        ("x.vеrcel.app", "vercel.app", true),
        ("shop.со.uk", "shop.co.uk", true),
        ("gmаil", "gmail", true),
        ("openai\u{A4F8}com", "openai.com", true),
        ("openai.com", "оpenai.com", true),
        ("openai.com", "openai.com", false),
        ("api.openai.com", "openai.com", false),
        ("files.openai.com", "api.openai.com", false),
        ("evil-openai.com", "openai.com", false),
        ("openai.com.evil.io", "openai.com", false),
        ("anthropic.com", "openai.com", false),
        ("openai", "openai.com", false),
        ("tenant.vercel.app", "vercel.app", false),
    ] {
        assert_eq!(vendor(spend).imitates(&vendor(entry)), imitates, "{spend} {entry}");
    }
}

#[test]
fn a_disguise_passes_for_the_original_and_never_the_other_way_round() {
    for (spend, entry, passes_for) in [
        ("rnicrosoft.com", "microsoft.com", true),
        ("login.rnicrosoft.com", "microsoft.com", true),
        ("paypa1.com", "paypal.com", true),
        ("g00gle.com", "google.com", true),
        ("shop1.vercel.app", "shopl.vercel.app", true),
        ("Gmai1", "gmail", true),
        ("оpenai.com", "openai.com", true),
        ("xn--penai-iye.com", "openai.com", true),
        ("gmаil", "gmail", true),
        // Who blocks a forgery still wants the original.
        ("microsoft.com", "rnicrosoft.com", false),
        ("paypal.com", "paypa1.com", false),
        ("google.com", "g00gle.com", false),
        ("openai.com", "оpenai.com", false),
        // Hosts of one owner are its own to name.
        ("api1.openai.com", "apil.openai.com", false),
        ("modern.openai.com", "modem.openai.com", false),
        // Names that resemble without being confusable.
        ("paypals.com", "paypal.com", false),
        ("micr0soft.com", "nnicrosoft.com", false),
        ("openai.org", "openai.com", false),
        ("openai.com", "openai.com", false),
        ("api.openai.com", "openai.com", false),
        ("tenant1.vercel.app", "vercel.app", false),
    ] {
        assert_eq!(vendor(spend).passes_for(&vendor(entry)), passes_for, "{spend} {entry}");
    }
}

#[test]
fn a_skeleton_keeps_its_labels_so_that_parents_can_be_looked_up() {
    for (raw, skeleton) in [
        ("api.оpenai.com", "api.openai.corn"),
        ("g00gle.com", "google.corn"),
        ("Micrоsoft", "rnicrosoft"),
    ] {
        assert_eq!(vendor(raw).skeleton(), skeleton, "{raw}");
    }
}

fn label() -> impl Strategy<Value = String> {
    "[a-z0-9]{1,2}([a-z0-9-]{0,8}[a-z0-9])?"
}

fn host() -> impl Strategy<Value = String> {
    let suffix = proptest::sample::select(vec![
        "com",
        "co.uk",
        "vercel.app",
        "s3.amazonaws.com",
        "corp",
        "openai.com",
        "xn--p1ai",
    ]);
    (prop::collection::vec(label(), 1..4), suffix)
        .prop_map(|(labels, suffix)| format!("{}.{suffix}", labels.join(".")))
        .prop_filter("a random label may start like punycode", |host| Vendor::parse(host).is_ok())
}

fn wild() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "http://",
            "https://",
            "://",
            "@",
            ":",
            "[",
            "]",
            "::",
            ".",
            "。",
            "/",
            "\\",
            "?",
            "#",
            "%",
            "xn--",
            "XN--",
            "com",
            "co.uk",
            "localhost",
            "0x",
            "127",
            "é",
            "ß",
            "İ",
            "Σ",
            " ",
            "\u{301}",
            "\u{200B}",
            "\u{2024}",
            "-",
            "--",
            "a",
            "Z",
            "_",
            "*",
            "中",
            "א",
            "٠",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
        label(),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_text_is_read_or_refused_and_the_result_is_stable(
        raw in prop_oneof![wild(), any::<String>()],
    ) {
        if let Ok(first) = Vendor::parse(&raw) {
            prop_assert_eq!(Vendor::parse(first.canonical()), Ok(first.clone()));
            prop_assert!(first.covers(&first) && !first.imitates(&first));
            prop_assert_eq!(first.kind() == VendorKind::Host, first.canonical().contains('.'));
        }
    }

    #[test]
    fn the_short_way_agrees_with_uts_46(raw in "[a-zA-Z0-9.-]{1,30}") {
        let deny = AsciiDenyList::STD3;
        let (hyphens, length) = (Hyphens::CheckFirstLast, DnsLength::VerifyAllowRootDot);
        let uts = Uts46::new().to_ascii(raw.as_bytes(), deny, hyphens, length);
        match Vendor::parse(&raw) {
            Ok(vendor) if vendor.kind() == VendorKind::Name => prop_assert!(!raw.contains('.')),
            Ok(vendor) => {
                let uts = uts.unwrap_or_default();
                prop_assert_eq!(vendor.canonical(), uts.trim_end_matches('.'));
            }
            Err(error) => prop_assert!(uts.is_err() || error != VendorError::MalformedHost),
        }
    }

    #[test]
    fn distinct_hosts_stay_distinct(left in host(), right in host()) {
        prop_assert_eq!(vendor(&left) == vendor(&right), left == right);
    }

    #[test]
    fn case_dot_port_and_scheme_do_not_matter(
        host in host(), upper in any::<u64>(), dot: bool, port in 1_u16.., scheme in 0..3_usize,
    ) {
        let mixed: String = host.chars().enumerate()
            .map(|(i, c)| if upper >> (i % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c })
            .collect();
        let scheme = ["", "https://", "HTTP://"][scheme];
        let dot = if dot { "." } else { "" };
        prop_assert_eq!(vendor(&format!("{scheme}{mixed}{dot}:{port}/p?q")), vendor(&host));
    }

    #[test]
    fn covering_implies_one_owner(host in host(), other in host(), below in label()) {
        let (entry, other) = (vendor(&host), vendor(&other));
        prop_assert!(!entry.covers(&other) || entry.registrable() == other.registrable());
        if let Ok(child) = Vendor::parse(&format!("{below}.{host}")) {
            let same_owner = entry.registrable() == child.registrable();
            prop_assert_eq!(entry.covers(&child), same_owner && entry.registrable().is_some());
            prop_assert!(!child.covers(&entry));
        }
    }

    #[test]
    fn whatever_is_covered_is_no_imitation(host in host(), other in host()) {
        let (entry, spend) = (vendor(&host), vendor(&other));
        prop_assert!(!(entry.covers(&spend) && spend.imitates(&entry)));
    }

    #[test]
    fn of_two_hosts_at_most_one_passes_for_the_other(
        pieces in prop::collection::vec((0..4_usize, any::<bool>(), any::<bool>()), 1..8),
    ) {
        let written = |of: fn(&(usize, bool, bool)) -> (usize, bool)| {
            let pairs = [["o", "0"], ["l", "1"], ["m", "rn"], ["a", "a"]];
            let name = pieces.iter().map(of).map(|(pair, forged)| pairs[pair][usize::from(forged)]);
            vendor(&format!("x{}.com", name.collect::<String>()))
        };
        let (left, right) = (written(|p| (p.0, p.1)), written(|p| (p.0, p.2)));
        prop_assert_eq!(left.imitates(&right), left != right);
        prop_assert!(!(left.passes_for(&right) && right.passes_for(&left)));
        let original = written(|p| (p.0, false));
        prop_assert_eq!(left.passes_for(&original), left != original);
    }
}
