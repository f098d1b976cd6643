//! The codes of countries, as ISO 3166-1 assigns them.
//!
//! Not here: which country an address is in (`provider`), and rules about it (`rule`).

/// Every assigned code of two letters, in order, as of ISO 3166-1:2020; and `XK`, which is not
/// assigned, but stands for Kosovo in databases of addresses.
const ASSIGNED: &str = "\
AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT \
BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH \
ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT \
HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS \
LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI \
NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG \
SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG \
UM US UY UZ VA VC VE VG VI VN VU WF WS XK YE YT ZA ZM ZW";

/// Whether a country has this code.
pub(super) fn is_country(code: &str) -> bool {
    ASSIGNED.split(' ').any(|assigned| assigned == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_there_once_and_in_order() {
        let codes = ASSIGNED.split(' ').collect::<Vec<_>>();
        assert_eq!(codes.len(), 249 + 1);
        assert!(codes.is_sorted_by(|one, next| one < next));
        assert!(codes.iter().all(|code| code.len() == 2));
    }

    #[test]
    fn a_code_that_looks_like_one_is_none() {
        assert!(is_country("GB") && is_country("TW"));
        assert!(!["UK", "ZZ", "gb", "", "GB ", "G"].into_iter().any(is_country));
    }
}
