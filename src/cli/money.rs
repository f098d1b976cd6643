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

/// Reads what was really spent.
///
/// # Errors
///
/// What was expected.
pub(super) fn parse_settled(text: &str) -> Result<i64, String> {
    let why = "what cost nothing is not settled: `quetra transactions void` gives all of it back";
    above_zero(text, why)
}

/// Reads what is given back.
///
/// # Errors
///
/// What was expected.
pub(super) fn parse_refunded(text: &str) -> Result<i64, String> {
    above_zero(text, "nothing to give back; leave --amount out to give back all of it")
}

fn above_zero(text: &str, why: &str) -> Result<i64, String> {
    match parse(text)? {
        0 => Err(why.to_owned()),
        amount => Ok(amount),
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
        assert_eq!((parse_settled("1"), parse_refunded("1")), (Ok(1), Ok(1)));
        assert!(parse_settled("0").unwrap_err().contains("transactions void"));
        assert!(parse_refunded("0").unwrap_err().contains("leave --amount out"));
        assert_eq!(parse_currency("usd"), Ok("USD".to_owned()));
        assert!(parse_currency("$").is_err());
    }
}
