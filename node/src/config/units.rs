//! Durations and sizes as an operator types them: `200ms`, `15m`, `64MiB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Units of time, largest first, in milliseconds.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size, largest first, in bytes.
const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A duration: a whole number with its unit, `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    pub(super) const fn ms(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    pub(super) const fn s(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

/// A number of bytes: a whole number, or one with its unit: `B`, `KiB`, `MiB` or `GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    pub(super) const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// Rounded up to whole MiB.
    pub(super) fn up(self) -> Self {
        Self(self.0.next_multiple_of(1 << 20))
    }

    /// The size as a `usize`; the largest one if it does not fit.
    pub(super) fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a span of time: a whole number with ms, s, m, h or d, such as \"30s\"");
        measure(text, &TIMES).map(Self::ms).ok_or_else(wrong)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a size: a whole number of bytes, or with KiB, MiB or GiB, such as \"64MiB\"");
        if let Ok(bytes) = text.parse() {
            return Ok(Self(bytes));
        }
        measure(text, &SIZES).map(Self).ok_or_else(wrong)
    }
}

/// The number times the unit that follows it.
fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Writes the amount in the largest unit that gives a whole number.
fn write_in(amount: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let smallest = units[units.len() - 1];
    let (unit, factor) = units.iter().find(|(_, factor)| amount > 0 && amount.is_multiple_of(*factor)).unwrap_or(&smallest);
    write!(f, "{}{unit}", amount / factor)
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_in(u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &TIMES, f)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_in(self.0, &SIZES, f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64MiB\"")
            }

            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|_| E::custom("a size cannot be negative"))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        let cases = [
            ("200ms", Some(200), "200ms"),
            ("1000ms", Some(1_000), "1s"),
            ("90s", Some(90_000), "90s"),
            ("15m", Some(900_000), "15m"),
            ("7 d", Some(604_800_000), "7d"),
            ("24h", Some(86_400_000), "1d"),
            ("0s", Some(0), "0ms"),
            ("30", None, ""),
            ("s", None, ""),
            ("-1s", None, ""),
            ("1.5s", None, ""),
            ("1S", None, ""),
            ("", None, ""),
            ("99999999999999999999d", None, ""),
            ("18446744073709551615d", None, ""),
        ];
        for (text, ms, written) in cases {
            let read = text.parse::<Span>();
            assert_eq!(read.clone().ok(), ms.map(Span::ms), "{text}");
            if let Ok(span) = read {
                assert_eq!(span.to_string(), written, "{text}");
            }
        }
    }

    #[test]
    fn sizes_are_read_and_written() {
        let cases = [
            ("4096", Some(4_096), "4KiB"),
            ("1B", Some(1), "1B"),
            ("64MiB", Some(64 << 20), "64MiB"),
            ("1024 MiB", Some(1 << 30), "1GiB"),
            ("0", Some(0), "0B"),
            ("64MB", None, ""),
            ("64mib", None, ""),
            ("MiB", None, ""),
            ("-1", None, ""),
            ("", None, ""),
            ("18446744073709551615GiB", None, ""),
        ];
        for (text, bytes, written) in cases {
            let read = text.parse::<Size>();
            assert_eq!(read.clone().ok(), bytes.map(Size), "{text}");
            if let Ok(size) = read {
                assert_eq!(size.to_string(), written, "{text}");
            }
        }
    }
}
