//! How amounts and currencies are read from a command line.
//!
//! Not here: arithmetic, and how amounts are shown, which `forms` knows. On the wire an amount is
//! always an integer of minor units.

pub(super) use crate::forms::money_text as show;

/// Reads minor units; a fraction gets a sentence that says how amounts are written.
///
/// # Errors
///
/// What was expected.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(amount) if amount >= 0 => Ok(amount),
        Ok(_) => Err("an amount is never negative".to_owned()),
        Err(_) => {
            Err("amounts are whole minor units (cents): write 200 for $2.00, 1500 for $15.00"
                .to_owned())
        }
    }
}

/// Reads a currency code in either case.
///
/// # Errors
///
/// What was expected.
pub(super) fn parse_currency(text: &str) -> Result<String, String> {
    let code = text.to_ascii_uppercase();
    if code == "USDC" || (code.len() == 3 && code.chars().all(|letter| letter.is_ascii_uppercase()))
    {
        Ok(code)
    } else {
        Err("a currency is an ISO 4217 code such as USD, or USDC".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_is_refused_with_an_example() {
        assert_eq!(parse("200"), Ok(200));
        assert!(parse("2.00").unwrap_err().contains("200 for $2.00"));
        assert!(parse("-1").is_err());
        assert_eq!(parse_currency("usd"), Ok("USD".to_owned()));
        assert!(parse_currency("$").is_err());
    }
}
