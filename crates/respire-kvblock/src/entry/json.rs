//! An entry as Go's `encoding/json` writes and reads it.
//!
//! The reader is our own because Go's rules are not those of a strict JSON library: bytes that are not UTF-8 and halves
//! of surrogate pairs are replaced rather than refused, names match in any case, and `null` leaves a member as it is.
//! It holds nested values that it skips in a stack of one byte a level, never in calls.

use super::{PodEntry, push_bytes};

/// How deep Go lets values nest before it refuses the document.
const DEPTH_MAX: usize = 10_000;

/// Encodes the five members in their order, without blanks.
pub(super) fn encode(entry: &PodEntry) -> Vec<u8> {
    // The names, the punctuation and both strings, with room for a group and a few escapes.
    let mut out = Vec::with_capacity(96 + entry.pod_identifier.len() + entry.device_tier.len());
    out.extend_from_slice(br#"{"PodIdentifier":"#);
    push_string(&mut out, &entry.pod_identifier);
    out.extend_from_slice(br#","DeviceTier":"#);
    push_string(&mut out, &entry.device_tier);
    out.extend_from_slice(br#","Speculative":"#);
    push_bool(&mut out, entry.speculative);
    out.extend_from_slice(br#","HasGroup":"#);
    push_bool(&mut out, entry.group.is_some());
    out.extend_from_slice(br#","GroupIdx":"#);
    out.extend_from_slice(itoa::Buffer::new().format(entry.group.unwrap_or(0)).as_bytes());
    out.push(b'}');
    out
}

fn push_bool(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// A string in Go's default mode, which also escapes what would be dangerous inside HTML or JavaScript.
fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                push_unicode_escape(out, character);
            }
            other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// `\u` and four lower-case hexadecimal digits, for a character of the basic plane.
fn push_unicode_escape(out: &mut Vec<u8>, character: char) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        out.push(DIGITS[(character as usize >> shift) & 0xf]);
    }
}

/// Reads an object. `None` where Go's `json.Unmarshal` returns an error.
pub(super) fn decode(field: &[u8]) -> Option<PodEntry> {
    let mut scanner = Scanner { bytes: field, at: 0 };
    let entry = scanner.entry()?;
    scanner.end().then_some(entry)
}

/// Reads the document `null`, which Go decodes into the zero entry without an error.
pub(super) fn decode_null(field: &[u8]) -> Option<PodEntry> {
    let mut scanner = Scanner { bytes: field, at: 0 };
    (scanner.take_word(b"null") && scanner.end()).then(PodEntry::default)
}

/// What JSON allows between tokens.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Which member a name in the document means.
#[derive(Clone, Copy)]
enum Member {
    PodIdentifier,
    DeviceTier,
    Speculative,
    HasGroup,
    GroupIdx,
    /// Any other, `retrievalSpan` among them: an annotation that identity ignores.
    Unknown,
}

impl Member {
    fn named(name: &str) -> Self {
        let folded = fold(name);
        match folded.as_str() {
            "podidentifier" => Self::PodIdentifier,
            "devicetier" => Self::DeviceTier,
            "speculative" => Self::Speculative,
            "hasgroup" => Self::HasGroup,
            "groupidx" => Self::GroupIdx,
            _ => Self::Unknown,
        }
    }
}

/// A name without its case, under Unicode's simple folding as far as it reaches ASCII letters: besides the capitals,
/// the long s and the Kelvin sign fold to one.
pub(crate) fn fold(name: &str) -> String {
    name.chars()
        .map(|character| match character {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

struct Scanner<'a> {
    bytes: &'a [u8],
    /// At most `bytes.len()`.
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_blanks(&mut self) {
        while self.peek().is_some_and(is_blank) {
            self.at += 1;
        }
    }

    /// Takes `byte` if it comes next, after blanks.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &[u8]) -> bool {
        self.skip_blanks();
        let found = self.bytes[self.at..].starts_with(word);
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn end(&mut self) -> bool {
        self.skip_blanks();
        self.at == self.bytes.len()
    }

    fn entry(&mut self) -> Option<PodEntry> {
        let mut entry = PodEntry::default();
        let (mut has_group, mut group) = (false, 0);
        if !self.take(b'{') {
            return None;
        }
        if self.take(b'}') {
            return Some(entry);
        }
        loop {
            let member = Member::named(&self.string()?);
            if !self.take(b':') {
                return None;
            }
            // `null` leaves a member as it is, whatever its type.
            if !self.take_word(b"null") {
                match member {
                    Member::PodIdentifier => entry.pod_identifier = self.string()?,
                    Member::DeviceTier => entry.device_tier = self.string()?,
                    Member::Speculative => entry.speculative = self.boolean()?,
                    Member::HasGroup => has_group = self.boolean()?,
                    Member::GroupIdx => group = self.integer()?,
                    Member::Unknown => self.skip_value()?,
                }
            }
            if self.take(b'}') {
                entry.group = has_group.then_some(group);
                return Some(entry);
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    fn boolean(&mut self) -> Option<bool> {
        if self.take_word(b"true") {
            return Some(true);
        }
        self.take_word(b"false").then_some(false)
    }

    /// A number that is written as an integer and fits: `1.0` and `1e2` are not integers to Go.
    fn integer(&mut self) -> Option<i64> {
        let number = self.number()?;
        std::str::from_utf8(number).ok()?.parse().ok()
    }

    /// The bytes of a number in JSON's grammar.
    fn number(&mut self) -> Option<&[u8]> {
        self.skip_blanks();
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        match self.peek()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits()?,
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Some(&self.bytes[start..self.at])
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn string(&mut self) -> Option<String> {
        if !self.take(b'"') {
            return None;
        }
        let mut text = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek()?, b'"' | b'\\' | 0..=0x1f) {
                self.at += 1;
            }
            push_bytes(&mut text, &self.bytes[start..self.at]);
            let sign = self.peek()?;
            self.at += 1;
            match sign {
                b'"' => return Some(text),
                b'\\' => text.push(self.escape()?),
                // A control character has to be escaped.
                _ => return None,
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Option<char> {
        let sign = self.peek()?;
        self.at += 1;
        Some(match sign {
            b'"' | b'\\' | b'/' => char::from(sign),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unicode_escape()?,
            _ => return None,
        })
    }

    /// What follows `\u`: four digits, or a pair of surrogates. Half of a pair is replaced, not refused.
    fn unicode_escape(&mut self) -> Option<char> {
        let first = self.hex_digits()?;
        if let Some(character) = char::from_u32(first) {
            return Some(character);
        }
        let after_first = self.at;
        if self.bytes[self.at..].starts_with(b"\\u") {
            self.at += 2;
            let second = self.hex_digits()?;
            if let Some(character) = pair(first, second) {
                return Some(character);
            }
            // The second escape stands for itself.
            self.at = after_first;
        }
        Some(char::REPLACEMENT_CHARACTER)
    }

    fn hex_digits(&mut self) -> Option<u32> {
        let digits = self.bytes.get(self.at..self.at + 4)?;
        self.at += 4;
        digits
            .iter()
            .try_fold(0, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
    }

    /// Skips one value of any type, however deep, if it is well-formed.
    fn skip_value(&mut self) -> Option<()> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            self.skip_blanks();
            match self.peek()? {
                bracket @ (b'{' | b'[') => {
                    self.at += 1;
                    // The entry itself is one level.
                    if open.len() + 2 > DEPTH_MAX {
                        return None;
                    }
                    open.push(bracket);
                    if !self.take(closing(bracket)) {
                        self.skip_name(bracket)?;
                        continue;
                    }
                    open.pop();
                }
                b'"' => drop(self.string()?),
                b't' | b'f' => drop(self.boolean()?),
                b'n' => self.take_word(b"null").then_some(())?,
                _ => drop(self.number()?),
            }
            // A value has ended: so may have those around it.
            loop {
                let Some(&bracket) = open.last() else { return Some(()) };
                if self.take(b',') {
                    self.skip_name(bracket)?;
                    break;
                }
                if !self.take(closing(bracket)) {
                    return None;
                }
                open.pop();
            }
        }
    }

    /// Skips the name and the colon before a value, if it is the value of an object.
    fn skip_name(&mut self, bracket: u8) -> Option<()> {
        if bracket == b'{' {
            self.string()?;
            return self.take(b':').then_some(());
        }
        Some(())
    }
}

fn closing(bracket: u8) -> u8 {
    if bracket == b'{' { b'}' } else { b']' }
}

/// The character of a surrogate pair, if the two halves are one.
fn pair(first: u32, second: u32) -> Option<char> {
    let units = [u16::try_from(first).ok()?, u16::try_from(second).ok()?];
    char::decode_utf16(units).next()?.ok().filter(|character| character.len_utf16() == 2)
}
