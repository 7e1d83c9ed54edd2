//! The text form of ids, enums and times: always JSON strings, parsed with the same checks everywhere.

use std::fmt::{self, Display, Write};
use std::marker::PhantomData;

use ordergrid_domain::{
    Currency, FulfilmentId, GroupId, IdError, Key, OrderId, Provider, ProviderPaymentId, Reference, RefundId, SkuId, Text,
    Timestamp, UserId, WarehouseId,
};
use serde::de::{self, Visitor};
use serde::{Deserializer, Serialize, Serializer};

/// A value that JSON, URLs and headers carry as text.
pub trait WireText: Sized {
    /// Parses the text.
    ///
    /// # Errors
    /// Describes the fault as the end of a sentence that begins with the name of the field.
    fn read(text: &str) -> Result<Self, String>;

    /// Passes the text to `then` without allocating.
    fn write<R>(&self, then: impl FnOnce(&str) -> R) -> R;
}

/// A short text on the stack, for ids that are numbers.
struct Short {
    bytes: [u8; 48],
    length: usize,
}

impl Short {
    fn of(value: &impl Display) -> Self {
        let mut short = Self { bytes: [0; 48], length: 0 };
        write!(short, "{value}").expect("ids that are numbers fit into 48 bytes");
        short
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("only whole texts are written")
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

macro_rules! kept_text {
    ($($name:ty),*) => {$(
        impl WireText for $name {
            fn read(text: &str) -> Result<Self, String> {
                Self::new(text).map_err(|error| error.to_string())
            }

            fn write<R>(&self, then: impl FnOnce(&str) -> R) -> R {
                then(self.as_str())
            }
        }
    )*};
}
kept_text!(UserId, SkuId, WarehouseId, Reference, Provider, ProviderPaymentId, Text);

/// Numbers, and ids made of them, have one spelling: no sign, no leading zero.
macro_rules! numbered_text {
    ($($name:ty),*) => {$(
        impl WireText for $name {
            fn read(text: &str) -> Result<Self, String> {
                let malformed = || IdError::Malformed.to_string();
                let id: Self = text.parse().map_err(|_| malformed())?;
                if Short::of(&id).as_str() == text { Ok(id) } else { Err(malformed()) }
            }

            fn write<R>(&self, then: impl FnOnce(&str) -> R) -> R {
                then(Short::of(self).as_str())
            }
        }
    )*};
}
numbered_text!(OrderId, FulfilmentId, RefundId, u64, u32);

impl WireText for GroupId {
    fn read(text: &str) -> Result<Self, String> {
        u32::read(text).map(Self)
    }

    fn write<R>(&self, then: impl FnOnce(&str) -> R) -> R {
        self.0.write(then)
    }
}

impl WireText for Key {
    /// Stricter than the domain: 1 to 255 visible ASCII characters, so that every key fits into a header.
    fn read(text: &str) -> Result<Self, String> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must be visible ASCII characters only".to_owned());
        }
        Self::new(text).map_err(|error| error.to_string())
    }

    fn write<R>(&self, then: impl FnOnce(&str) -> R) -> R {
        then(self.as_str())
    }
}

impl WireText for Currency {
    fn read(text: &str) -> Result<Self, String> {
        Self::new(text).ok_or_else(|| "must be an ISO 4217 code of three capital letters".to_owned())
    }

    fn write<R>(&self, then: impl FnOnce(&str) -> R) -> R {
        then(self.as_str())
    }
}

/// Times are RFC 3339 in UTC with milliseconds: `2026-11-20T14:05:06.007Z`.
impl WireText for Timestamp {
    fn read(text: &str) -> Result<Self, String> {
        let wrong = || "must be an RFC 3339 time in UTC".to_owned();
        let parsed = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).map_err(|_| wrong())?;
        let ms = parsed.unix_timestamp_nanos() / 1_000_000;
        u64::try_from(ms).map(Self::from_ms).map_err(|_| wrong())
    }

    fn write<R>(&self, then: impl FnOnce(&str) -> R) -> R {
        then(std::str::from_utf8(&rfc3339(*self)).expect("only ASCII is written"))
    }
}

/// Days from 0000-03-01 to 1970-01-01. Years that begin in March end with the leap day.
const DAYS_TO_1970: u64 = 719_468;
/// The last millisecond of the year 9999.
const LAST_MS: u64 = 253_402_300_799_999;

/// Writes a time without a general formatter, because every answer has several.
fn rfc3339(at: Timestamp) -> [u8; 24] {
    let ms = at.as_ms().min(LAST_MS);
    let (days, in_day) = (ms / 86_400_000 + DAYS_TO_1970, ms % 86_400_000);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);

    let mut text = *b"0000-00-00T00:00:00.000Z";
    put(&mut text[0..4], year);
    put(&mut text[5..7], month);
    put(&mut text[8..10], day);
    put(&mut text[11..13], in_day / 3_600_000);
    put(&mut text[14..16], in_day / 60_000 % 60);
    put(&mut text[17..19], in_day / 1_000 % 60);
    put(&mut text[20..23], in_day % 1_000);
    text
}

fn put(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: WireText> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        T::read(text).map_err(E::custom)
    }
}

struct Shown<'a, T>(&'a T);

impl<T: WireText> Serialize for Shown<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(|text| serializer.serialize_str(text))
    }
}

struct Seen<T>(T);

impl<'de, T: WireText> serde::Deserialize<'de> for Seen<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Self)
    }
}

/// Writes a value as a string: for `#[serde(with = "text")]`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<T: WireText, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    Shown(value).serialize(serializer)
}

/// Reads a value from a string: for `#[serde(with = "text")]`.
///
/// # Errors
/// Those of the deserializer, and what [`WireText::read`] says of the text.
pub fn deserialize<'de, T: WireText, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_str(TextVisitor(PhantomData))
}

/// For optional texts.
pub(crate) mod option {
    use super::{Seen, Shown, WireText};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: WireText, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Shown).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: WireText, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        Ok(Option::<Seen<T>>::deserialize(deserializer)?.map(|seen| seen.0))
    }
}

/// For lists of texts.
pub(crate) mod list {
    use super::{Seen, Shown, WireText};
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<T: WireText, S: Serializer>(values: &[T], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(Shown))
    }

    pub(crate) fn deserialize<'de, T: WireText, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
        Ok(Vec::<Seen<T>>::deserialize(deserializer)?.into_iter().map(|seen| seen.0).collect())
    }
}

/// For pairs of texts: a JSON object, kept in the order of its names.
pub(crate) mod pairs {
    use super::{Seen, Shown};
    use ordergrid_domain::Text;
    use serde::de::{self, MapAccess, Visitor};
    use serde::{Deserializer, Serializer};
    use std::fmt;

    pub(crate) fn serialize<S: Serializer>(pairs: &[(Text, Text)], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(pairs.iter().map(|(name, value)| (Shown(name), Shown(value))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(Text, Text)>, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }

    struct PairsVisitor;

    impl<'de> Visitor<'de> for PairsVisitor {
        type Value = Vec<(Text, Text)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object of strings")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some((name, value)) = map.next_entry::<Seen<Text>, Seen<Text>>()? {
                pairs.push((name.0, value.0));
            }
            pairs.sort();
            match pairs.windows(2).find(|two| two[0].0 == two[1].0) {
                Some(two) => Err(de::Error::custom(format_args!("duplicate field `{}`", two[0].0.as_str()))),
                None => Ok(pairs),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: &impl WireText) -> String {
        value.write(str::to_owned)
    }

    #[test]
    fn times_are_rfc_3339_with_milliseconds() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (1_795_183_506_007, "2026-11-20T14:05:06.007Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(written(&Timestamp::from_ms(ms)), text);
        }
    }

    #[test]
    fn times_are_read_as_they_were_written() {
        for day in 0..80_000_u64 {
            let at = Timestamp::from_ms(day * 86_400_000 + day * 1_017 % 86_400_000);
            assert_eq!(Timestamp::read(&written(&at)), Ok(at));
        }
    }

    #[test]
    fn numbers_have_one_spelling() {
        assert_eq!(OrderId::read("123"), Ok(OrderId(123)));
        for text in ["", "0123", "+123", "-1", " 1", "1.0", "18446744073709551616", "x"] {
            assert!(OrderId::read(text).is_err(), "{text:?} was read as an order id");
        }
        assert_eq!(FulfilmentId::read("9-f2"), Ok(FulfilmentId { order: OrderId(9), number: 2 }));
        for text in ["9-f02", "9-r2", "9", "9-f", "-f1"] {
            assert!(FulfilmentId::read(text).is_err(), "{text:?} was read as a fulfilment id");
        }
        assert_eq!(written(&OrderId(u64::MAX)), "18446744073709551615");
        let longest = RefundId { order: OrderId(u64::MAX), number: u32::MAX };
        assert_eq!(written(&longest), "18446744073709551615-r4294967295");
    }

    #[test]
    fn keys_are_visible_ascii() {
        assert!(Key::read("order-17:é").is_err());
        assert!(Key::read("two words").is_err());
        assert!(Key::read(&"k".repeat(256)).is_err());
        assert_eq!(Key::read("k-1").map(|key| written(&key)), Ok("k-1".to_owned()));
    }
}
