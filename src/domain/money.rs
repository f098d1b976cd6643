//! Money: whole minor units and an explicit currency, never a float.
//!
//! Not here: exchange rates (there are none) and parsing of decimal text (every input is already
//! in minor units).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The largest amount of one transaction, in minor units.
pub const AMOUNT_MAX: i64 = 1_000_000_000_000;

/// The largest limit of a budget, cap or window, in minor units. A limit plus an amount stays far
/// below 2^53, so that even a ledger that counts in doubles is exact.
pub const LIMIT_MAX: i64 = 90_000_000_000_000;

/// A number of minor units (cents).
pub type Minor = i64;

/// A currency: an ISO 4217 code, or USDC.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Currency {
    /// A currency of ISO 4217.
    Iso(iso_currency::Currency),
    /// The stablecoin, counted in hundredths like the dollar it stands for.
    Usdc,
}

/// A text that is not a currency code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an ISO 4217 code such as USD, or USDC, in upper case")]
pub struct CurrencyError;

impl Currency {
    /// Parses an exact, upper-case code.
    ///
    /// # Errors
    /// When it is not one; codes that ISO 4217 reserves for tests or for no currency are not.
    pub fn parse(code: &str) -> Result<Self, CurrencyError> {
        if code == "USDC" {
            return Ok(Self::Usdc);
        }
        iso_currency::Currency::from_code(code)
            .filter(|currency| currency.code() == code && !matches!(code, "XXX" | "XTS"))
            .map(Self::Iso)
            .ok_or(CurrencyError)
    }

    /// The code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Iso(currency) => currency.code(),
            Self::Usdc => "USDC",
        }
    }

    /// How many decimal digits the major unit has.
    #[must_use]
    pub fn exponent(self) -> usize {
        match self {
            Self::Iso(currency) => currency.exponent().map_or(0, usize::from),
            Self::Usdc => 2,
        }
    }

    /// An amount for people, for example `12.34 USD`.
    #[must_use]
    pub fn format(self, amount: Minor) -> Formatted {
        Formatted { amount, currency: self }
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::parse(&code).map_err(serde::de::Error::custom)
    }
}

/// An amount that displays itself with its currency.
#[derive(Clone, Copy, Debug)]
pub struct Formatted {
    amount: Minor,
    currency: Currency,
}

impl fmt::Display for Formatted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exponent = self.currency.exponent();
        let sign = if self.amount < 0 { "-" } else { "" };
        let digits =
            format!("{:0width$}", self.amount.unsigned_abs(), width = exponent.saturating_add(1));
        let (major, minor) = digits.split_at(digits.len().saturating_sub(exponent));
        let point = if exponent == 0 { "" } else { "." };
        write!(f, "{sign}{major}{point}{minor} {}", self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_with_the_digits_of_their_currency() {
        let show = |code: &str, amount| Currency::parse(code).unwrap().format(amount).to_string();
        assert_eq!(show("USD", 200), "2.00 USD");
        assert_eq!(show("USD", 5), "0.05 USD");
        assert_eq!(show("JPY", 5), "5 JPY");
        assert_eq!(show("KWD", 1_234), "1.234 KWD");
        assert_eq!(show("USDC", 1_234), "12.34 USDC");
        assert_eq!(show("USD", -5), "-0.05 USD");
        assert_eq!(show("USD", i64::MIN), "-92233720368547758.08 USD");
    }

    #[test]
    fn only_exact_codes_are_currencies() {
        for code in ["usd", "US$", "USDX", "", "XXX", "XTS", "ABC", "USD ", "ＵＳＤ"] {
            assert_eq!(Currency::parse(code), Err(CurrencyError), "{code}");
        }
    }

    #[test]
    fn every_code_of_three_letters_is_itself_or_none() {
        let letters = || ('A'..='Z').map(String::from);
        let mut known = 0;
        for first in letters() {
            for second in letters() {
                for third in letters() {
                    let code = format!("{first}{second}{third}");
                    let Ok(currency) = Currency::parse(&code) else { continue };
                    assert_eq!(currency.code(), code);
                    assert!(currency.exponent() <= 4, "{code}");
                    let stored = serde_json::to_string(&currency).unwrap();
                    assert_eq!(stored, format!("\"{code}\""));
                    assert_eq!(serde_json::from_str::<Currency>(&stored).unwrap(), currency);
                    known += 1;
                }
            }
        }
        assert!((150..250).contains(&known), "{known} currencies");
    }

    #[test]
    fn the_largest_sums_are_exact_where_numbers_are_doubles() {
        let most = LIMIT_MAX + AMOUNT_MAX;
        assert!(most < 1 << 53);
        let shown = Currency::parse("USD").unwrap().format(most).to_string();
        assert_eq!(shown, "910000000000.00 USD");
    }
}
