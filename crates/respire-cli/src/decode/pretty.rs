//! Frames for people, one line a value.

use std::io::{self, Write};

use respire_codec::{Kind, Value, ValueRef, Visit, Visitor};

use super::Level;

/// Levels that are indented, by two spaces each. Deeper values stand no further to the right and
/// say how deep they are, so that the output grows with the input and not with its square.
const INDENTED_LEVELS_MAX: usize = 32;

/// Writes one value, and a line for everything in it.
pub(super) struct Printer<'w, W> {
    output: &'w mut W,
    /// What is open, the innermost last.
    levels: Vec<Level>,
}

impl<'w, W: Write> Printer<'w, W> {
    pub(super) fn new(output: &'w mut W) -> Self {
        Self { output, levels: Vec::new() }
    }

    /// Writes what stands on a line in front of the value.
    fn begin_line(&mut self) -> io::Result<()> {
        let depth = self.levels.len();
        let width = 2 * depth.min(INDENTED_LEVELS_MAX);
        write!(self.output, "{:width$}", "")?;
        if depth > INDENTED_LEVELS_MAX {
            write!(self.output, "[{depth}] ")?;
        }
        let label: &[u8] = match self.levels.last_mut() {
            None | Some(Level::Items(_)) => b"",
            Some(Level::Pairs(count)) => {
                *count += 1;
                if *count % 2 == 1 { b"key: " } else { b"value: " }
            }
            Some(Level::Described) => b"of: ",
        };
        self.output.write_all(label)
    }

    /// Leaves what ends with the value that was written last.
    fn end_value(&mut self) {
        while self.levels.last() == Some(&Level::Described) {
            self.levels.pop();
        }
    }

    fn write_scalar(&mut self, value: &Value<'_>) -> io::Result<()> {
        let output = &mut *self.output;
        match value {
            Value::SimpleString(text) => write!(output, "simple \"{}\"", text.escape_ascii()),
            Value::SimpleError(text) => write!(output, "error \"{}\"", text.escape_ascii()),
            Value::BulkError(text) => write!(output, "bulk error \"{}\"", text.escape_ascii()),
            Value::BulkString(text) => write!(output, "bulk \"{}\"", text.escape_ascii()),
            Value::StreamedString(chunks) => {
                output.write_all(b"bulk \"")?;
                for chunk in chunks.clone() {
                    write!(output, "{}", chunk.escape_ascii())?;
                }
                output.write_all(b"\"")
            }
            Value::VerbatimString(text) => {
                let (format, text) = (text.format().escape_ascii(), text.text().escape_ascii());
                write!(output, "verbatim \"{format}\" \"{text}\"")
            }
            Value::Integer(number) => write!(output, "int {number}"),
            Value::Boolean(truth) => write!(output, "bool {truth}"),
            Value::Double(number) => write!(output, "double {}", number.as_bytes().escape_ascii()),
            Value::BigNumber(number) => {
                write!(output, "bignum {}", number.as_bytes().escape_ascii())
            }
            Value::Null => output.write_all(b"null"),
            Value::Array(_) | Value::Set(_) | Value::Map(_) | Value::Push(_) => {
                unreachable!("a visitor is shown the beginning of an aggregate, not the whole")
            }
        }
    }
}

impl<'a, W: Write> Visitor<'a> for Printer<'_, W> {
    type Error = io::Error;

    fn scalar(&mut self, value: ValueRef<'a>) -> io::Result<()> {
        self.begin_line()?;
        self.write_scalar(&value.get())?;
        self.end_value();
        self.output.write_all(b"\n")
    }

    fn begin(&mut self, kind: Kind, entries: usize) -> io::Result<Visit> {
        self.begin_line()?;
        self.levels.push(Level::of(kind));
        let name = match kind {
            Kind::Map => "map",
            Kind::Set => "set",
            Kind::Push => "push",
            _ => "array",
        };
        writeln!(self.output, "{name} of {entries}")?;
        Ok(Visit::Enter)
    }

    fn end(&mut self, _kind: Kind) -> io::Result<()> {
        self.levels.pop();
        self.end_value();
        Ok(())
    }

    fn begin_attributes(&mut self) -> io::Result<Visit> {
        self.begin_line()?;
        self.levels.push(Level::Pairs(0));
        self.output.write_all(b"attribute\n")?;
        Ok(Visit::Enter)
    }

    fn end_attributes(&mut self) -> io::Result<()> {
        self.levels.pop();
        self.levels.push(Level::Described);
        Ok(())
    }
}
