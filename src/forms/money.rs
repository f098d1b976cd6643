//! How amounts are shown to people and to models: the only place that knows decimal places.
//!
//! Not here: arithmetic, and reading. On the wire an amount is always an integer of minor units.

use iso_currency::Currency;

/// Minor units as people write them: `$1,234.50`, `¥1,235`, `12.345 KWD`, `2.00 USDC`.
#[must_use]
pub fn money_text(minor: i64, currency: &str) -> String {
    let places = decimal_places(currency);
    let digits = format!("{:0>width$}", minor.unsigned_abs(), width = places.saturating_add(1));
    let split = digits.len().saturating_sub(places);
    let (whole, fraction) = digits.split_at_checked(split).unwrap_or((&digits, ""));
    let sign = if minor < 0 { "-" } else { "" };
    let point = if places == 0 { "" } else { "." };
    let number = format!("{}{point}{fraction}", grouped(whole));
    match symbol(currency) {
        Some(symbol) => format!("{sign}{symbol}{number}"),
        None if currency.is_empty() => format!("{sign}{number}"),
        None => format!("{sign}{number} {currency}"),
    }
}

/// USDC has six places on a chain; here its minor unit is the cent, like the dollar's.
fn decimal_places(currency: &str) -> usize {
    Currency::from_code(currency).and_then(Currency::exponent).map_or(2, usize::from)
}

fn symbol(currency: &str) -> Option<&'static str> {
    match currency {
        "USD" => Some("$"),
        "EUR" => Some("€"),
        "GBP" => Some("£"),
        "JPY" => Some("¥"),
        _ => None,
    }
}

fn grouped(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len());
    let mut left = digits.len();
    for digit in digits.chars() {
        if left < digits.len() && left.is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
        left = left.saturating_sub(1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_currency_has_its_own_decimal_places() {
        let table = [
            (0, "USD", "$0.00"),
            (5, "USD", "$0.05"),
            (1234, "USD", "$12.34"),
            (123_456_789, "USD", "$1,234,567.89"),
            (-200, "USD", "-$2.00"),
            (1234, "JPY", "¥1,234"),
            (1234, "KWD", "1.234 KWD"),
            (200, "USDC", "2.00 USDC"),
            (100_000, "CHF", "1,000.00 CHF"),
            (i64::MIN, "EUR", "-€92,233,720,368,547,758.08"),
            (200, "", "2.00"),
        ];
        for (minor, currency, expected) in table {
            assert_eq!(money_text(minor, currency), expected);
        }
    }
}
