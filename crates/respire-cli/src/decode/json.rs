//! Frames as JSON, one object a line.

use std::io::{self, Write};

use data_encoding::HEXLOWER;
use respire_codec::{Chunks, Kind, Value, ValueRef, Verbatim, Visit, Visitor};
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::Level;

/// Writes one value as one line.
pub(super) struct Printer<'w, W> {
    output: &'w mut W,
    /// What is open, the innermost last.
    levels: Vec<Level>,
}

impl<'w, W: Write> Printer<'w, W> {
    pub(super) fn new(output: &'w mut W) -> Self {
        Self { output, levels: Vec::new() }
    }

    /// Writes what stands between the value before and the one that comes.
    fn begin_value(&mut self) -> io::Result<()> {
        let between: &[u8] = match self.levels.last_mut() {
            None | Some(Level::Described) => b"",
            Some(Level::Items(count)) => {
                *count += 1;
                if *count == 1 { b"" } else { b"," }
            }
            Some(Level::Pairs(count)) => {
                *count += 1;
                match *count {
                    1 => b"[",
                    key if key % 2 == 1 => b",[",
                    _ => b",",
                }
            }
        };
        self.output.write_all(between)
    }

    /// Writes what ends with the value that was written last.
    fn end_value(&mut self) -> io::Result<()> {
        while self.levels.last() == Some(&Level::Described) {
            self.levels.pop();
            self.output.write_all(b"}")?;
        }
        match self.levels.last() {
            Some(Level::Pairs(count)) if count % 2 == 0 => self.output.write_all(b"]"),
            None => self.output.write_all(b"\n"),
            _ => Ok(()),
        }
    }

    fn write_scalar(&mut self, value: &Value<'_>) -> io::Result<()> {
        let output = &mut *self.output;
        match value {
            Value::SimpleString(text) => write_data(output, r#""type":"simple""#, text),
            Value::SimpleError(text) => {
                write_data(output, r#""type":"error","kind":"simple""#, text)
            }
            Value::BulkError(text) => write_data(output, r#""type":"error","kind":"bulk""#, text),
            Value::BulkString(text) => write_data(output, r#""type":"bulk""#, text),
            Value::StreamedString(chunks) => write_chunks(output, chunks.clone()),
            Value::VerbatimString(text) => write_verbatim(output, text),
            Value::Integer(number) => write!(output, r#"{{"type":"int","value":"{number}"}}"#),
            Value::Boolean(truth) => write!(output, r#"{{"type":"bool","value":{truth}}}"#),
            Value::Double(number) => write_number(output, "double", number.as_bytes()),
            Value::BigNumber(number) => write_number(output, "bignum", number.as_bytes()),
            Value::Null => output.write_all(br#"{"type":"null"}"#),
            Value::Array(_) | Value::Set(_) | Value::Map(_) | Value::Push(_) => {
                unreachable!("a visitor is shown the beginning of an aggregate, not the whole")
            }
        }
    }
}

impl<'a, W: Write> Visitor<'a> for Printer<'_, W> {
    type Error = io::Error;

    fn scalar(&mut self, value: ValueRef<'a>) -> io::Result<()> {
        self.begin_value()?;
        self.write_scalar(&value.get())?;
        self.end_value()
    }

    fn begin(&mut self, kind: Kind, _entries: usize) -> io::Result<Visit> {
        self.begin_value()?;
        self.levels.push(Level::of(kind));
        self.output.write_all(match kind {
            Kind::Map => br#"{"type":"map","pairs":["#,
            Kind::Set => br#"{"type":"set","items":["#,
            Kind::Push => br#"{"type":"push","items":["#,
            _ => br#"{"type":"array","items":["#,
        })?;
        Ok(Visit::Enter)
    }

    fn end(&mut self, _kind: Kind) -> io::Result<()> {
        self.levels.pop();
        self.output.write_all(b"]}")?;
        self.end_value()
    }

    fn begin_attributes(&mut self) -> io::Result<Visit> {
        self.begin_value()?;
        self.levels.push(Level::Pairs(0));
        self.output.write_all(br#"{"type":"attribute","attrs":["#)?;
        Ok(Visit::Enter)
    }

    fn end_attributes(&mut self) -> io::Result<()> {
        self.levels.pop();
        self.levels.push(Level::Described);
        self.output.write_all(br#"],"value":"#)
    }
}

/// `members` are the ones in front of the data, as JSON.
fn write_data(output: &mut impl Write, members: &str, data: &[u8]) -> io::Result<()> {
    write!(output, r#"{{{members},"data_hex":"{}"}}"#, HEXLOWER.encode_display(data))
}

fn write_chunks(output: &mut impl Write, chunks: Chunks<'_>) -> io::Result<()> {
    output.write_all(br#"{"type":"bulk","data_hex":""#)?;
    for chunk in chunks {
        write!(output, "{}", HEXLOWER.encode_display(chunk))?;
    }
    output.write_all(br#""}"#)
}

fn write_verbatim(output: &mut impl Write, text: &Verbatim<&[u8]>) -> io::Result<()> {
    output.write_all(br#"{"type":"verbatim","format":"#)?;
    write_text(output, text.format())?;
    write!(output, r#","data_hex":"{}"}}"#, HEXLOWER.encode_display(text.text()))
}

fn write_number(output: &mut impl Write, kind: &str, text: &[u8]) -> io::Result<()> {
    write!(output, r#"{{"type":"{kind}","value":"#)?;
    write_text(output, text)?;
    output.write_all(b"}")
}

/// Writes bytes that are meant to be text as a JSON string. What is not UTF-8 in them is replaced
/// by U+FFFD, because JSON has no other way.
fn write_text(output: &mut impl Write, text: &[u8]) -> io::Result<()> {
    let text = String::from_utf8_lossy(text);
    text.serialize(&mut Serializer::with_formatter(output, Ascii))?;
    Ok(())
}

/// Escapes all but printable ASCII: what a peer sent as text is shown on a terminal, and is neither
/// to control it nor to look like the end of a line to whoever reads lines.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()>
    where
        W: ?Sized + Write,
    {
        for character in fragment.chars() {
            if let ' '..='~' = character {
                write!(writer, "{character}")?;
                continue;
            }
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
        }
        Ok(())
    }
}
