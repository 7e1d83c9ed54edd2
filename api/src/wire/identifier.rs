//! Identifiers that a client chooses (SKUs, users, references, payment ids, idempotency keys), as requests may name new ones.
//!
//! Two identifiers that people take for the same must not be two: so nothing that cannot be seen is part of one, and a letter has one
//! spelling. What is stored, and what answers carry, may be older than these rules, and is read without them. Read next: `text`.

use serde::{Deserializer, Serializer};
use unicode_normalization::{UnicodeNormalization, is_nfc};

use super::text::{self, WireText};

/// Checks the text of an identifier. Its length is the domain's to check.
///
/// # Errors
/// Describes the fault as the end of a sentence that begins with the name of the field; a character is named, with its position
/// from 1.
pub(crate) fn check(text: &str) -> Result<(), String> {
    // Nearly all identifiers are of this form, and a request may have thousands.
    let plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if plain && !text.starts_with([' ', '.']) && !text.ends_with(' ') {
        return Ok(());
    }
    checked(text)
}

fn checked(text: &str) -> Result<(), String> {
    if matches!(text, "." | "..") {
        return Err("must not be `.` or `..`".to_owned());
    }
    for (at, one) in (1..).zip(text.chars()) {
        if one.is_control() || is_format(one) {
            return Err(format!("has {} as character {at}: control and format characters are not allowed", named(one)));
        }
    }
    let ends = [("begins", text.chars().next()), ("ends", text.chars().next_back())];
    for (what, one) in ends {
        if let Some(one) = one.filter(|one| one.is_whitespace()) {
            let at = if what == "begins" { 1 } else { text.chars().count() };
            return Err(format!("{what} with {} as character {at}: white space is allowed inside only", named(one)));
        }
    }
    if is_nfc(text) {
        return Ok(());
    }
    let differs = |(_, (is, normal)): &(usize, (char, char))| is != normal;
    let first = (1..).zip(text.chars().zip(text.nfc())).find(differs);
    let at = first.map_or_else(|| text.nfc().count() + 1, |(at, _)| at);
    Err(format!("is not in the normal form NFC: from character {at} on it has another spelling there"))
}

/// Whether a character is of the category Cf, Zl or Zp of Unicode 16: it has no form of its own, or ends a line.
fn is_format(one: char) -> bool {
    if one.is_ascii() {
        return false;
    }
    matches!(
        u32::from(one),
        0xad | 0x600..=0x605
            | 0x61c
            | 0x6dd
            | 0x70f
            | 0x890..=0x891
            | 0x8e2
            | 0x180e
            | 0x200b..=0x200f
            | 0x2028..=0x202e
            | 0x2060..=0x2064
            | 0x2066..=0x206f
            | 0xfeff
            | 0xfff9..=0xfffb
            | 0x110bd
            | 0x110cd
            | 0x13430..=0x1343f
            | 0x1bca0..=0x1bca3
            | 0x1d173..=0x1d17a
            | 0xe0001
            | 0xe0020..=0xe007f
    )
}

/// A character that is refused: its code point, and its name if it is one that people meet.
fn named(one: char) -> String {
    let name = match one {
        '\0' => "NULL",
        '\t' => "CHARACTER TABULATION",
        '\n' => "LINE FEED",
        '\r' => "CARRIAGE RETURN",
        ' ' => "SPACE",
        '\u{7f}' => "DELETE",
        '\u{85}' => "NEXT LINE",
        '\u{a0}' => "NO-BREAK SPACE",
        '\u{ad}' => "SOFT HYPHEN",
        '\u{61c}' => "ARABIC LETTER MARK",
        '\u{1680}' => "OGHAM SPACE MARK",
        '\u{180e}' => "MONGOLIAN VOWEL SEPARATOR",
        '\u{2002}' => "EN SPACE",
        '\u{2003}' => "EM SPACE",
        '\u{2007}' => "FIGURE SPACE",
        '\u{2009}' => "THIN SPACE",
        '\u{200a}' => "HAIR SPACE",
        '\u{200b}' => "ZERO WIDTH SPACE",
        '\u{200c}' => "ZERO WIDTH NON-JOINER",
        '\u{200d}' => "ZERO WIDTH JOINER",
        '\u{200e}' => "LEFT-TO-RIGHT MARK",
        '\u{200f}' => "RIGHT-TO-LEFT MARK",
        '\u{2028}' => "LINE SEPARATOR",
        '\u{2029}' => "PARAGRAPH SEPARATOR",
        '\u{202a}' => "LEFT-TO-RIGHT EMBEDDING",
        '\u{202b}' => "RIGHT-TO-LEFT EMBEDDING",
        '\u{202c}' => "POP DIRECTIONAL FORMATTING",
        '\u{202d}' => "LEFT-TO-RIGHT OVERRIDE",
        '\u{202e}' => "RIGHT-TO-LEFT OVERRIDE",
        '\u{202f}' => "NARROW NO-BREAK SPACE",
        '\u{205f}' => "MEDIUM MATHEMATICAL SPACE",
        '\u{2060}' => "WORD JOINER",
        '\u{2066}' => "LEFT-TO-RIGHT ISOLATE",
        '\u{2067}' => "RIGHT-TO-LEFT ISOLATE",
        '\u{2068}' => "FIRST STRONG ISOLATE",
        '\u{2069}' => "POP DIRECTIONAL ISOLATE",
        '\u{3000}' => "IDEOGRAPHIC SPACE",
        '\u{feff}' => "ZERO WIDTH NO-BREAK SPACE",
        one if one.is_whitespace() => "(white space)",
        one if one.is_control() => "(control character)",
        _ => "(format character)",
    };
    format!("U+{:04X} {name}", u32::from(one))
}

/// An identifier as a request names it.
struct Chosen<T>(T);

impl<T: WireText> WireText for Chosen<T> {
    fn read(text: &str) -> Result<Self, String> {
        check(text)?;
        T::read(text).map(Self)
    }

    fn write<R>(&self, then: impl FnOnce(&str) -> R) -> R {
        self.0.write(then)
    }
}

/// For `#[serde(with = "identifier")]`.
pub(crate) fn serialize<T: WireText, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    text::serialize(value, serializer)
}

/// For `#[serde(with = "identifier")]`.
pub(crate) fn deserialize<'de, T: WireText, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    text::deserialize::<Chosen<T>, D>(deserializer).map(|chosen| chosen.0)
}

/// For optional identifiers.
pub(crate) mod option {
    use serde::{Deserializer, Serializer};

    use super::{Chosen, WireText, text};

    pub(crate) fn serialize<T: WireText, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
        text::option::serialize(value, serializer)
    }

    pub(crate) fn deserialize<'de, T: WireText, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
        Ok(text::option::deserialize::<Chosen<T>, D>(deserializer)?.map(|chosen| chosen.0))
    }
}

#[cfg(test)]
mod tests {
    use ordergrid_domain::{IdError, SkuId};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_cannot_be_seen_is_no_part_of_an_identifier() {
        #[rustfmt::skip]
        let cases = [
            ("85123A",            None),
            ("BANK CHARGES",      None),
            ("INV/2024-00042 7",  None),
            (".5",                None),
            ("...",               None),
            ("Café",              None),
            ("日本",              None),
            ("a\u{a0}b",          None),
            (".",                 Some("must not be `.` or `..`")),
            ("..",                Some("must not be `.` or `..`")),
            (" a",                Some("begins with U+0020 SPACE as character 1: white space is allowed inside only")),
            ("ab ",               Some("ends with U+0020 SPACE as character 3: white space is allowed inside only")),
            ("   ",               Some("begins with U+0020 SPACE as character 1: white space is allowed inside only")),
            ("é\u{a0}",           Some("ends with U+00A0 NO-BREAK SPACE as character 2: white space is allowed inside only")),
            ("\u{3000}é",         Some("begins with U+3000 IDEOGRAPHIC SPACE as character 1: white space is allowed inside only")),
            ("é\u{2001}",         Some("ends with U+2001 (white space) as character 2: white space is allowed inside only")),
            ("a\tb",              Some("has U+0009 CHARACTER TABULATION as character 2: control and format characters are not allowed")),
            ("a\u{7}b",           Some("has U+0007 (control character) as character 2: control and format characters are not allowed")),
            ("éa\u{200b}",        Some("has U+200B ZERO WIDTH SPACE as character 3: control and format characters are not allowed")),
            ("\u{feff}a",         Some("has U+FEFF ZERO WIDTH NO-BREAK SPACE as character 1: control and format characters are not allowed")),
            ("a\u{2028}b",        Some("has U+2028 LINE SEPARATOR as character 2: control and format characters are not allowed")),
            ("a\u{e0041}",        Some("has U+E0041 (format character) as character 2: control and format characters are not allowed")),
            ("xCafe\u{301}",      Some("is not in the normal form NFC: from character 5 on it has another spelling there")),
            ("\u{212b}",          Some("is not in the normal form NFC: from character 1 on it has another spelling there")),
        ];
        for (text, fault) in cases {
            assert_eq!(check(text).err().as_deref(), fault, "{text:?}");
        }
    }

    #[test]
    fn length_is_what_the_domain_says() {
        let read = |text: &str| Chosen::<SkuId>::read(text).map(|chosen| chosen.0);
        assert_eq!(read(""), Err(IdError::Empty.to_string()));
        assert!(read(&"x".repeat(255)).is_ok());
        assert_eq!(read(&"é".repeat(128)), Err(IdError::TooLong { length: 256, limit: 255 }.to_string()));
    }

    proptest! {
        /// The short way, for what is plain ASCII, says the same as the long one.
        #[test]
        fn the_short_way_refuses_nothing_less(text in "[ -~\\t\\u{7f}é.]{0,6}") {
            prop_assert_eq!(check(&text), checked(&text));
        }

        #[test]
        fn what_is_allowed_is_its_own_normal_form_without_ends(text in "\\PC{0,8}|[e\\u{301}\\u{200b}  ]{0,4}") {
            if check(&text).is_ok() {
                prop_assert_eq!(text.nfc().collect::<String>(), text.as_str());
                prop_assert_eq!(text.trim(), text.as_str());
                let unseen = text.chars().any(|one| one.is_control() || one == '\u{200b}');
                prop_assert!(!unseen);
            }
        }
    }
}
