//! The one canonical form of a vendor, for what agents claim and for what rules list.
//!
//! A vendor is a host (`api.openai.com`) or a plain name (`Acme Travel`). Parsing is total and
//! pure, and the canonical form of a canonical form is itself. A host keeps no trace of its
//! spelling: scheme, case, port, path, trailing dot and Unicode form are gone.
//!
//! Deliberately not here: name resolution, addresses, wildcards, geography, the allow and block
//! rules themselves. An ip address is refused in any spelling because nobody can say whose it is.

use std::borrow::Cow;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use thiserror::Error;
use unicode_normalization::UnicodeNormalization;

#[cfg(test)]
mod tests;

/// Longest vendor text that is looked at, in bytes; a URL with path and query fits.
pub const VENDOR_RAW_BYTES_MAX: usize = 2048;

/// Longest canonical plain name, in bytes.
pub const VENDOR_NAME_BYTES_MAX: usize = 128;

// RFC 1035: 255 octets on the wire are 253 characters of text, and 63 in each label.
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

// Two-letter domains are found in the public suffix list. These are the longer ones that nobody
// means as a name; brand domains (`gmail`, `aws`, `uber` are all top-level) stay usable as names.
const GENERIC_TLDS: [&str; 26] = [
    "aero", "app", "arpa", "asia", "biz", "cat", "com", "coop", "dev", "edu", "gov", "info", "int",
    "jobs", "mil", "mobi", "museum", "name", "net", "org", "post", "pro", "tel", "travel", "xxx",
    "xyz",
];

/// A vendor in canonical form: equal values mean the same vendor.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vendor {
    canonical: String,
    kind: VendorKind,
}

/// What a vendor's canonical form is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VendorKind {
    /// A lower-case ASCII host with at least two labels; international names are in punycode.
    Host,
    /// A lower-case name without dots, in Unicode form NFKC, words separated by one space.
    Name,
}

/// Why a text is not a vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum VendorError {
    /// Nothing but white space, or a URL without a host.
    #[error("is empty; send a host such as `api.example.com` or a plain name")]
    Empty,
    /// The text, the host, one of its labels or the name is over its bound.
    #[error(
        "is too long; a host has at most 253 bytes and 63 in each label, a name has at \
         most 128 bytes"
    )]
    TooLong,
    /// Control, zero-width, directional or otherwise invisible characters.
    #[error("contains control or invisible characters; remove them")]
    HiddenCharacter,
    /// A user or password before the host, the classic way to disguise one.
    #[error("contains `@`; send the host without user and password")]
    UserInfo,
    /// A scheme other than http and https.
    #[error("has a scheme other than `http` and `https`; send the host alone")]
    Scheme,
    /// A colon that is not followed by a port number.
    #[error("has a port that is not a number from 1 to 65535; send the host alone")]
    Port,
    /// An asterisk; matching subdomains needs none.
    #[error("contains `*`; list the host itself, it covers its subdomains")]
    Wildcard,
    /// An address, IPv4 or IPv6, in any spelling.
    #[error("is an ip address; send the host name instead")]
    IpAddress,
    /// `localhost` or a URL whose host has a single label.
    #[error("is a local host; send a full host such as `api.example.com`")]
    LocalHost,
    /// A domain under which anybody may register, `co.uk` for example.
    #[error("is a public suffix such as `com`; send the full host")]
    PublicSuffix,
    /// Not a valid host although it is written like one.
    #[error(
        "is not a valid host; send one such as `api.example.com`, or a plain name without \
         `.`, `/`, `\\` and `:`"
    )]
    MalformedHost,
    /// A plain name that would read as a host once it is normalised.
    #[error("contains a disguised `.`, `/`, `\\` or `:`; remove it")]
    MalformedName,
}

impl Vendor {
    /// Reads a host, a URL or a plain name and keeps its canonical form.
    ///
    /// Anything with a dot, slash, backslash or colon is a host. Parsing a canonical form
    /// returns it unchanged.
    ///
    /// # Errors
    ///
    /// Any [`VendorError`]; the text is never echoed.
    pub fn parse(raw: &str) -> Result<Self, VendorError> {
        if raw.len() > VENDOR_RAW_BYTES_MAX {
            return Err(VendorError::TooLong);
        }
        if raw.chars().any(is_hidden) {
            return Err(VendorError::HiddenCharacter);
        }
        let text = raw.trim();
        if text.is_empty() {
            return Err(VendorError::Empty);
        }
        if text.contains(marks_host) { parse_host(text) } else { parse_name(text) }
    }

    /// The canonical text, ready to be stored, compared and shown.
    #[must_use]
    pub fn canonical(&self) -> &str {
        &self.canonical
    }

    /// Whether this is a host or a plain name.
    #[must_use]
    pub fn kind(&self) -> VendorKind {
        self.kind
    }

    /// Whether it is written with letters outside ASCII, as every disguise but the crudest is.
    #[must_use]
    pub fn is_international(&self) -> bool {
        let name = self.canonical();
        !name.is_ascii() || name.split('.').any(|label| label.starts_with("xn--"))
    }

    /// The domain its owner registered: `openai.com` for `api.openai.com`.
    ///
    /// `None` for a plain name and for a multi-tenant host itself (`vercel.app`).
    #[must_use]
    pub fn registrable(&self) -> Option<&str> {
        match self.kind {
            VendorKind::Host => psl::domain_str(&self.canonical),
            VendorKind::Name => None,
        }
    }

    /// Whether a rule that lists `self` means `other` too: the same vendor or its subdomain.
    ///
    /// A host never covers another tenant: `vercel.app` covers only itself, and `amazonaws.com`
    /// does not cover the buckets below `s3.amazonaws.com`. A name covers only itself.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        // INVARIANT: an entry shorter than what `other`'s owner registered has another owner; a
        // name has no owner, and no dot to be below.
        let below = other.canonical.strip_suffix(self.canonical());
        below.is_some_and(|labels| labels.ends_with('.'))
            && other.registrable().is_some_and(|domain| domain.len() <= self.canonical.len())
    }

    /// Whether `self` looks like the listed `entry` to a human, but is another vendor.
    ///
    /// Compares Unicode confusable skeletons (UTS 39), without regard to case, of the whole
    /// vendor and of what its owner registered. It only ever explains a refusal: ask
    /// [`Vendor::covers`] of every entry first, as two honest entries may look alike.
    #[must_use]
    pub fn imitates(&self, entry: &Self) -> bool {
        looks_like(self.canonical(), entry.canonical()) || looks_like(self.owner(), entry.owner())
    }

    /// Whether `self` is written to pass for the listed `entry`: what a blocklist also fails.
    ///
    /// Any look-alike with letters outside ASCII is. In ASCII it must be the one of the two with
    /// more stand-ins (`0`, `1`, `|`, `rn`): `rnicrosoft.com` passes for `microsoft.com`, while a
    /// block on the forgery leaves the original alone. Hosts of one owner never are.
    #[must_use]
    pub fn passes_for(&self, entry: &Self) -> bool {
        self.imitates(entry)
            && (self.is_international()
                || (self.owner() != entry.owner()
                    && stand_ins(&self.canonical) > stand_ins(&entry.canonical)))
    }

    /// What a human sees: the confusable skeleton of the whole vendor, with its dots.
    ///
    /// For an index of many entries: look up this and its parents, then ask
    /// [`Vendor::imitates`], as an honest tenant shares its parent's skeleton.
    #[must_use]
    pub fn skeleton(&self) -> String {
        skeleton(&as_shown(&self.canonical)).collect()
    }

    fn owner(&self) -> &str {
        self.registrable().unwrap_or(&self.canonical)
    }
}

fn parse_host(text: &str) -> Result<Vendor, VendorError> {
    let mut canonical = ascii_host(host_of(authority_of(text)?)?)?.into_owned();
    if canonical.ends_with('.') {
        canonical.pop();
    }
    check_host(&canonical)?;
    Ok(Vendor { canonical, kind: VendorKind::Host })
}

fn authority_of(text: &str) -> Result<&str, VendorError> {
    const ENDS: [char; 3] = ['/', '?', '#'];
    let rest = match text.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(ENDS) => {
            if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
                return Err(VendorError::Scheme);
            }
            rest
        }
        Some(_) | None => text,
    };
    // A backslash stays in the host and fails there: URL parsers disagree on what it means.
    Ok(rest.split_once(ENDS).map_or(rest, |(authority, _)| authority))
}

fn host_of(authority: &str) -> Result<&str, VendorError> {
    if authority.is_empty() {
        return Err(VendorError::Empty);
    }
    if authority.contains('@') {
        return Err(VendorError::UserInfo);
    }
    if authority.contains('*') {
        return Err(VendorError::Wildcard);
    }
    if authority.starts_with('[') {
        return Err(VendorError::IpAddress);
    }
    let Some((host, port)) = authority.split_once(':') else {
        return Ok(authority);
    };
    if port.contains(':') {
        return Err(VendorError::IpAddress);
    }
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || !port.parse::<u16>().is_ok_and(|number| number > 0) {
        return Err(VendorError::Port);
    }
    if host.is_empty() { Err(VendorError::Empty) } else { Ok(host) }
}

fn ascii_host(host: &str) -> Result<Cow<'_, str>, VendorError> {
    let is_ldh = host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    // The third and fourth character `--` are reserved for punycode, which must be verified.
    if is_ldh && !host.split('.').any(|label| label.as_bytes().get(2..4) == Some(b"--")) {
        return Ok(Cow::Owned(host.to_ascii_lowercase()));
    }
    // Lengths are checked afterwards, together with those of the hosts that took the short way.
    Uts46::new()
        .to_ascii(host.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Ignore)
        .map_err(|_| VendorError::MalformedHost)
}

fn check_host(host: &str) -> Result<(), VendorError> {
    if host.is_empty() {
        return Err(VendorError::Empty);
    }
    if host.len() > HOST_BYTES_MAX {
        return Err(VendorError::TooLong);
    }
    for label in host.split('.') {
        if label.len() > LABEL_BYTES_MAX {
            return Err(VendorError::TooLong);
        }
        if label.is_empty() || label.starts_with('-') || label.ends_with('-') {
            return Err(VendorError::MalformedHost);
        }
    }
    let last = host.rsplit_once('.').map_or(host, |(_, last)| last);
    if is_number(last) {
        return Err(VendorError::IpAddress);
    }
    if last == "localhost" || last.len() == host.len() {
        return Err(VendorError::LocalHost);
    }
    if is_icann_suffix(host) { Err(VendorError::PublicSuffix) } else { Ok(()) }
}

fn parse_name(text: &str) -> Result<Vendor, VendorError> {
    let canonical = if text.is_ascii() {
        join_words(&text.to_ascii_lowercase())
    } else {
        // Lower-casing can leave a composed character decomposed, hence the second round.
        let lower = text.nfkc().collect::<String>().to_lowercase();
        join_words(&lower.nfkc().collect::<String>())
    };
    check_name(&canonical)?;
    Ok(Vendor { canonical, kind: VendorKind::Name })
}

fn join_words(text: &str) -> String {
    let mut joined = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str(word);
    }
    joined
}

fn check_name(name: &str) -> Result<(), VendorError> {
    if name.is_empty() {
        return Err(VendorError::Empty);
    }
    if name.len() > VENDOR_NAME_BYTES_MAX {
        return Err(VendorError::TooLong);
    }
    if name.contains(marks_host) {
        return Err(VendorError::MalformedName);
    }
    if name.contains('@') {
        return Err(VendorError::UserInfo);
    }
    if name.contains('*') {
        return Err(VendorError::Wildcard);
    }
    if is_number(name) {
        return Err(VendorError::IpAddress);
    }
    if name == "localhost" {
        return Err(VendorError::LocalHost);
    }
    let is_country = name.len() == 2 && is_icann_suffix(name);
    if is_country || GENERIC_TLDS.contains(&name) {
        return Err(VendorError::PublicSuffix);
    }
    Ok(())
}

// What UTS 46 reads as a dot, and what separates the parts of a URL.
fn marks_host(c: char) -> bool {
    matches!(c, '.' | '\u{3002}' | '\u{FF0E}' | '\u{FF61}' | '/' | '\\' | ':')
}

// Control characters, Unicode's default ignorable ones, line separators, invisible operators and
// the braille blank: nothing that a reader of an approval or of an audit record could see.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{AD}'
                | '\u{34F}'
                | '\u{61C}'
                | '\u{115F}'..='\u{1160}'
                | '\u{17B4}'..='\u{17B5}'
                | '\u{180B}'..='\u{180F}'
                | '\u{200B}'..='\u{200F}'
                | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{206F}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{FE00}'..='\u{FE0F}'
                | '\u{FEFF}'
                | '\u{FFA0}'
                | '\u{FFF0}'..='\u{FFFB}'
                | '\u{1BCA0}'..='\u{1BCA3}'
                | '\u{1D173}'..='\u{1D17A}'
                | '\u{E0000}'..='\u{E0FFF}'
        )
}

// The last label of any IPv4 spelling: decimal, octal or hexadecimal. No real domain ends so.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x") {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

fn is_icann_suffix(host: &str) -> bool {
    psl::suffix(host.as_bytes()).is_some_and(|suffix| {
        suffix.typ() == Some(psl::Type::Icann) && suffix.as_bytes().len() == host.len()
    })
}

fn looks_like(left: &str, right: &str) -> bool {
    left != right && skeleton(&as_shown(left)).eq(skeleton(&as_shown(right)))
}

// How many letters are written with something else of ASCII that looks like them.
fn stand_ins(name: &str) -> usize {
    let signs = name.bytes().filter(|byte| matches!(byte, b'0' | b'1' | b'|')).count();
    signs.saturating_add(name.matches("rn").count())
}

// Lower-cased once more because the prototype of a digit zero is a capital O.
fn skeleton(shown: &str) -> impl Iterator<Item = char> {
    unicode_security::skeleton(shown).flat_map(char::to_lowercase)
}

fn as_shown(canonical: &str) -> Cow<'_, str> {
    if !canonical.contains("xn--") {
        return Cow::Borrowed(canonical);
    }
    let bytes = canonical.as_bytes();
    // Errors become replacement characters, which resemble nothing that anybody lists.
    Uts46::new().to_unicode(bytes, AsciiDenyList::STD3, Hyphens::Allow).0
}
