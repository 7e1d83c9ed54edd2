//! How much stock a replay receives: all that was sold, or an exact part of it.

use std::fmt;
use std::str::FromStr;

/// Decimals of a ratio that are read.
const DECIMALS: usize = 9;

/// Stock per SKU as a part of the units sold in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stock {
    /// As many as were sold.
    Full,
    /// A part of them, rounded down per SKU.
    Ratio(Ratio),
}

/// A decimal number without sign, kept exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// The number times ten to the power of [`DECIMALS`].
    scaled: u64,
}

impl Ratio {
    const ONE: u64 = 10_u64.pow(DECIMALS as u32);
}

impl Stock {
    /// Units to receive of a SKU that sold `units`.
    ///
    /// # Panics
    /// If the product does not fit into 64 bits; a ratio is at most 1,000.
    #[must_use]
    pub fn of(self, units: u64) -> u64 {
        match self {
            Self::Full => units,
            Self::Ratio(ratio) => {
                let part = u128::from(units) * u128::from(ratio.scaled) / u128::from(Ratio::ONE);
                u64::try_from(part).expect("units of a file and a ratio of at most 1,000 fit")
            }
        }
    }

    /// No order of the file can find too little.
    #[must_use]
    pub fn suffices(self) -> bool {
        match self {
            Self::Full => true,
            Self::Ratio(ratio) => ratio.scaled >= Ratio::ONE,
        }
    }
}

impl FromStr for Stock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "full" {
            return Ok(Self::Full);
        }
        let wrong = || format!("`{text}` is neither `full` nor a ratio such as 0.8 (0 to 1,000, at most {DECIMALS} decimals)");
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || whole.len() > 4 || decimals.len() > DECIMALS {
            return Err(wrong());
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let decimals: u64 = format!("{decimals:0<DECIMALS$}").parse().map_err(|_| wrong())?;
        let scaled = whole * Ratio::ONE + decimals;
        if scaled > 1_000 * Ratio::ONE {
            return Err(wrong());
        }
        Ok(Self::Ratio(Ratio { scaled }))
    }
}

impl fmt::Display for Stock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Ratio(ratio) => {
                let (whole, decimals) = (ratio.scaled / Ratio::ONE, ratio.scaled % Ratio::ONE);
                let text = format!("{whole}.{decimals:0DECIMALS$}");
                f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_part_is_exact() {
        for (ratio, units, part) in [
            ("full", 74_215, 74_215),
            ("0.8", 5, 4),
            ("0.8", 4, 3),
            ("0.8", 1, 0),
            ("0.8", 0, 0),
            // In floating point 0.7 x 10 x 1.. and 0.29 x 100 fall short: 0.29 * 100.0 = 28.999999999999996.
            ("0.29", 100, 29),
            ("0.57", 100, 57),
            ("1.1", 10, 11),
            ("1", 7, 7),
            ("0", 7, 0),
            ("0.999999999", 1_000_000_000, 999_999_999),
            ("1000", 1_000_000_000_000, 1_000_000_000_000_000),
        ] {
            let stock: Stock = ratio.parse().expect(ratio);
            assert_eq!(stock.of(units), part, "{ratio} of {units}");
        }
    }

    #[test]
    fn what_is_no_ratio_is_refused() {
        for text in ["", "Full", ".8", "0.", "-1", "+1", "0,8", "80%", "1e3", "0.1234567891", "1000.1", "10000", "NaN", " 1"] {
            assert!(text.parse::<Stock>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn ratios_are_shown_as_people_type_them() {
        for (typed, shown) in [("full", "full"), ("0.8", "0.8"), ("0.80", "0.8"), ("1.0", "1"), ("0.05", "0.05"), ("10", "10")]
        {
            assert_eq!(typed.parse::<Stock>().expect(typed).to_string(), shown);
        }
    }

    #[test]
    fn enough_begins_at_one() {
        for (text, suffices) in [("full", true), ("1", true), ("1.5", true), ("0.999999999", false), ("0", false)] {
            assert_eq!(text.parse::<Stock>().expect(text).suffices(), suffices, "{text}");
        }
    }

    proptest! {
        #[test]
        fn percentages_agree_with_integer_division(percent in 0_u64..=100, units in 0_u64..10_000_000) {
            let text = format!("{}.{:02}", percent / 100, percent % 100);
            prop_assert_eq!(text.parse::<Stock>().expect("a percentage").of(units), units * percent / 100);
        }
    }
}
