//! Why a message of an engine could not be read.

use std::fmt;

/// Why a message, or one event of it, could not be read: what was wrong, and at which byte of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct DecodeError {
    at: usize,
    /// The field that was being read, where it was one.
    field: Option<&'static str>,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    Truncated,
    Reserved,
    Expected(&'static str),
    TooFewFields {
        fields: u32,
        least: u32,
    },
    Missing,
    OutOfRange(&'static str),
    /// A text of more bytes than these.
    TooLong(usize),
    UnknownTag,
}

impl DecodeError {
    pub(super) fn new(at: usize, problem: Problem) -> Self {
        Self { at, field: None, problem }
    }

    /// The same error, in this field.
    pub(super) fn in_field(self, field: &'static str) -> Self {
        Self { field: Some(field), ..self }
    }

    /// The byte of the message, counted from 0, at which the value begins that could not be read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The name of the field that could not be read, where it was one.
    pub fn field(&self) -> Option<&'static str> {
        self.field
    }

    /// Whether this is an event of a kind that is not known, and nothing worse.
    pub fn is_unknown_event(&self) -> bool {
        self.problem == Problem::UnknownTag
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: ", self.at)?;
        if let Some(field) = self.field {
            write!(f, "{field}: ")?;
        }
        match self.problem {
            Problem::Truncated => f.write_str("the message ends inside of a value"),
            Problem::Reserved => f.write_str("no value of MessagePack begins with 0xc1"),
            Problem::Expected(what) => write!(f, "expected {what}"),
            Problem::TooFewFields { fields, least } => {
                write!(f, "{fields} fields, where at least {least} are needed")
            }
            Problem::Missing => f.write_str("missing"),
            Problem::OutOfRange(range) => write!(f, "a number out of {range}"),
            Problem::TooLong(most) => write!(f, "a text of more than {most} bytes"),
            Problem::UnknownTag => f.write_str("an event of an unknown kind"),
        }
    }
}
