//! Request traces: one JSON object a line, read as a stream.
//!
//! ```json
//! {"timestamp": 3000, "input_length": 1090, "output_length": 40, "hash_ids": [0, 14, 15]}
//! ```
//!
//! The format is that of the Mooncake traces (kvcache-ai/Mooncake, FAST25-release/traces). Fields
//! that are not listed in [`Request`] are ignored. Lines of white space alone may follow the last
//! request, as editors and pipes leave them, and stand nowhere else.

use std::io::{self, BufRead, Read};

use serde::Deserialize;

/// Tokens in one block of a trace.
pub const BLOCK_TOKENS: u64 = 512;

/// The largest block id that a trace may hold. It leaves room for two keys an id, see
/// [`Keys`](crate::keys::Keys).
pub const BLOCK_ID_MAX: u64 = (1 << 63) - 2;

/// The largest timestamp and the most tokens that a request may have. Up to here a double holds
/// every whole number, and no figure of a replay can overflow.
pub const NUMBER_MAX: u64 = 1 << 53;

/// What a file begins with that an editor has marked as UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a file begins with that is compressed with gzip.
const GZIP_MAGIC: &[u8] = b"\x1f\x8b";

/// The longest line that is read, in bytes; a request of a million tokens takes some 20 kB.
const LINE_BYTES_MAX: usize = 16 << 20;

/// One request of a trace.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(expecting = "an object")]
pub struct Request {
    /// When it arrives, in milliseconds from the trace's start; from 0 to [`NUMBER_MAX`].
    #[serde(rename = "timestamp")]
    pub timestamp_ms: f64,
    /// Tokens in the prompt; at most [`NUMBER_MAX`]. What the blocks do not hold is computed by
    /// whichever pod is chosen.
    pub input_length: u64,
    /// Tokens in the answer; at most [`NUMBER_MAX`].
    pub output_length: u64,
    /// The ids of the prompt's blocks, first block first. Never empty, none above
    /// [`BLOCK_ID_MAX`]. The last block may be partly filled.
    pub hash_ids: Vec<u64>,
}

/// What is wrong with a trace, and where.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct TraceError {
    line: u64,
    kind: TraceErrorKind,
}

impl TraceError {
    /// The line that could not be used; the first line is 1.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    /// What is wrong with it.
    #[must_use]
    pub fn kind(&self) -> &TraceErrorKind {
        &self.kind
    }
}

/// What is wrong with a line of a trace.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceErrorKind {
    /// Not a JSON object with the four fields in their ranges.
    #[error("{reason} (column {column})")]
    Malformed {
        /// The parser's reason.
        reason: String,
        /// Where in the line the parser gave up, in bytes: the first is 1, and the number of the
        /// line's last byte where more was expected.
        column: usize,
    },
    /// White space alone, and other lines follow.
    #[error("the line is blank")]
    Blank,
    /// The first line begins with U+FEFF.
    #[error("the trace begins with a byte order mark: save it as UTF-8 without one")]
    ByteOrderMark,
    /// The trace is compressed.
    #[error(
        "the trace is compressed with gzip: unpack it first, as in \
         `gzip -dc FILE | respire replay --trace -`"
    )]
    Gzip,
    /// Longer than any sensible request.
    #[error("longer than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// The timestamp is negative.
    #[error("the timestamp {0} is negative")]
    NegativeTimestamp(f64),
    /// A number is larger than any sensible request's.
    #[error("`{field}` is greater than {NUMBER_MAX}")]
    TooLarge {
        /// Its name in the trace.
        field: &'static str,
    },
    /// The timestamp is smaller than that of the line before.
    #[error("the timestamp goes backwards, from {previous} to {timestamp}")]
    BackwardsTimestamp {
        /// Of the line before, in milliseconds.
        previous: f64,
        /// Of this line, in milliseconds.
        timestamp: f64,
    },
    /// A request without blocks.
    #[error("`hash_ids` is empty")]
    NoBlocks,
    /// A block id is too large.
    #[error("the block id {0} is greater than {BLOCK_ID_MAX}")]
    BlockIdTooLarge(u64),
    /// The input could not be read.
    #[error("the trace cannot be read: {0}")]
    Io(io::Error),
}

/// The requests of a trace, one after the other; ends after the first error.
#[derive(Debug)]
pub struct TraceReader<R> {
    input: R,
    /// The number of the line last read.
    line: u64,
    /// The line last read, with its end. Kept for its memory.
    buffer: Vec<u8>,
    previous_ms: f64,
    ended: bool,
}

impl<R: BufRead> TraceReader<R> {
    /// Reads a trace from `input`.
    pub fn new(input: R) -> Self {
        Self { input, line: 0, buffer: Vec::new(), previous_ms: 0.0, ended: false }
    }

    /// Reads the next request's line into the buffer; `false` when no more follows. Blank lines at
    /// the end are passed over, any others are an error with the number of their first.
    fn read_line(&mut self) -> Result<bool, TraceErrorKind> {
        let mut blanks = 0;
        loop {
            self.buffer.clear();
            let limit = LINE_BYTES_MAX as u64 + 1;
            let read = self.input.by_ref().take(limit).read_until(b'\n', &mut self.buffer);
            self.line += 1;
            match read.map_err(TraceErrorKind::Io)? {
                0 => return Ok(false),
                n if n > LINE_BYTES_MAX => return Err(TraceErrorKind::TooLong),
                _ if self.buffer.trim_ascii().is_empty() => blanks += 1,
                _ if blanks == 0 => return Ok(true),
                _ => {
                    self.line -= blanks;
                    return Err(TraceErrorKind::Blank);
                }
            }
        }
    }

    fn request(&mut self) -> Result<Request, TraceErrorKind> {
        // Without its end, so that the parser sees one line and counts its columns.
        let line = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        if self.line == 1 {
            check_start(line)?;
        }
        let request = parse(line)?;
        check_ranges(&request)?;
        let timestamp = request.timestamp_ms;
        if timestamp < self.previous_ms {
            let previous = self.previous_ms;
            return Err(TraceErrorKind::BackwardsTimestamp { previous, timestamp });
        }
        self.previous_ms = timestamp;
        Ok(request)
    }
}

impl<R: BufRead> Iterator for TraceReader<R> {
    type Item = Result<Request, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let result = match self.read_line() {
            Ok(true) => self.request(),
            Ok(false) => {
                self.ended = true;
                return None;
            }
            Err(kind) => Err(kind),
        };
        self.ended = result.is_err();
        Some(result.map_err(|kind| TraceError { line: self.line, kind }))
    }
}

/// Recognises what people hand over in place of plain text.
fn check_start(line: &[u8]) -> Result<(), TraceErrorKind> {
    if line.starts_with(BYTE_ORDER_MARK) {
        return Err(TraceErrorKind::ByteOrderMark);
    }
    if line.starts_with(GZIP_MAGIC) {
        return Err(TraceErrorKind::Gzip);
    }
    Ok(())
}

fn parse(line: &[u8]) -> Result<Request, TraceErrorKind> {
    // The parser would also take an array for the fields in their order.
    let first = line.iter().position(|byte| !byte.is_ascii_whitespace());
    if let Some(first) = first.filter(|first| line[*first] == b'[') {
        let reason = "an array, and a request is an object".to_owned();
        return Err(TraceErrorKind::Malformed { reason, column: first + 1 });
    }
    serde_json::from_slice(line).map_err(|error| malformed(&error))
}

/// Checks what holds for each request by itself.
fn check_ranges(request: &Request) -> Result<(), TraceErrorKind> {
    let timestamp = request.timestamp_ms;
    if timestamp < 0.0 {
        return Err(TraceErrorKind::NegativeTimestamp(timestamp));
    }
    for (field, too_large) in [
        ("timestamp", timestamp > NUMBER_MAX as f64),
        ("input_length", request.input_length > NUMBER_MAX),
        ("output_length", request.output_length > NUMBER_MAX),
    ] {
        if too_large {
            return Err(TraceErrorKind::TooLarge { field });
        }
    }
    if request.hash_ids.is_empty() {
        return Err(TraceErrorKind::NoBlocks);
    }
    match request.hash_ids.iter().find(|&&id| id > BLOCK_ID_MAX) {
        Some(&id) => Err(TraceErrorKind::BlockIdTooLarge(id)),
        None => Ok(()),
    }
}

/// The parser counts lines within what it was given, which is one line: its count is left out.
fn malformed(error: &serde_json::Error) -> TraceErrorKind {
    let column = error.column();
    let text = error.to_string();
    let suffix = format!(" at line {} column {column}", error.line());
    let reason = text.strip_suffix(&suffix).unwrap_or(&text).to_owned();
    TraceErrorKind::Malformed { reason, column }
}

#[cfg(test)]
mod tests;
