//! Prints the frames in a stream of raw reply bytes, for whoever debugs a capture.
//!
//! The input is decoded as it arrives. What is held of it is the frame that is not complete yet
//! and one piece of input; the output of a frame is written while the frame is walked, so that
//! neither its size nor its nesting costs more.
//!
//! # Example
//!
//! ```
//! use respire_cli::decode::{self, Format, Options, Outcome};
//!
//! let options = Options { format: Format::Json, ..Options::default() };
//! let mut printed = Vec::new();
//! let outcome = decode::run(&b"*1\r\n:7\r\n$5\r\nhe"[..], &mut printed, &options)?;
//! assert_eq!(outcome, Outcome::Incomplete);
//! assert_eq!(
//!     String::from_utf8(printed)?,
//!     r#"{"type":"array","items":[{"type":"int","value":"7"}]}
//! {"incomplete":true,"pending_bytes":6}
//! "#
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod doubles;
mod json;
mod pretty;

use std::io::{self, BufRead, BufWriter, Write};
use std::num::NonZeroUsize;

use bytes::BytesMut;
use respire_codec::{Decoder, DecoderConfig, Kind};
use serde::Serialize;
use thiserror::Error;

use doubles::Doubles;

/// Output is handed on in pieces of this many bytes, and whenever the input has to be waited for.
const OUTPUT_BYTES: usize = 64 * 1024;

/// How frames are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// One line a value, indented by its depth.
    #[default]
    Pretty,
    /// One JSON object a frame, each on a line of its own.
    Json,
}

/// How a stream is read and printed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Protocol, mode and limits.
    pub decoder: DecoderConfig,
    /// Bytes that the decoder is given at a time; `None` for what is there.
    pub chunk: Option<NonZeroUsize>,
    /// How frames are printed.
    pub format: Format,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it was frames.
    Complete,
    /// It is not RESP, or more than the limits allow.
    ProtocolError,
    /// Its last frame is not whole.
    Incomplete,
}

/// A stream could not be read, or what is in it not be printed.
#[derive(Debug, Error)]
pub enum StreamError {
    /// The input failed.
    #[error("the input cannot be read")]
    Read(#[source] io::Error),
    /// The output failed. A reader that went away is an error here as well.
    #[error("the frames cannot be written")]
    Write(#[source] io::Error),
}

/// Prints all frames of `input`, and a last line when not all of it was frames.
///
/// A frame is printed as soon as it is complete. A double is checked like an integer, when its line
/// ends: one that is malformed is a protocol error. Of a frame with something wrong in it, or of one
/// that is not whole, nothing is printed, and neither are pushes inside of it.
///
/// # Errors
///
/// When the input cannot be read or the output not be written.
pub fn run(
    mut input: impl BufRead,
    output: impl Write,
    options: &Options,
) -> Result<Outcome, StreamError> {
    let mut output = BufWriter::with_capacity(OUTPUT_BYTES, output);
    let mut stream = Stream::new(options.decoder);
    while feed(&mut input, options.chunk, &mut stream.received).map_err(StreamError::Read)? {
        let error = stream.print(options.format, &mut output).map_err(StreamError::Write)?;
        if let Some(error) = error {
            last_line(&error, &mut output).map_err(StreamError::Write)?;
            return Ok(Outcome::ProtocolError);
        }
        output.flush().map_err(StreamError::Write)?;
    }
    if stream.received.is_empty() {
        return Ok(Outcome::Complete);
    }
    let rest = Rest { incomplete: true, pending_bytes: stream.received.len() };
    last_line(&rest, &mut output).map_err(StreamError::Write)?;
    Ok(Outcome::Incomplete)
}

/// Appends the next piece of `input`, and tells whether there was one. A piece of a given size is
/// waited for, and is shorter only at the end.
fn feed(
    input: &mut impl BufRead,
    size: Option<NonZeroUsize>,
    received: &mut BytesMut,
) -> io::Result<bool> {
    let mut wanted = size.map_or(usize::MAX, NonZeroUsize::get);
    let mut any = false;
    while wanted > 0 {
        let available = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            available => available?,
        };
        let piece = available.get(..wanted).unwrap_or(available);
        let length = piece.len();
        received.extend_from_slice(piece);
        input.consume(length);
        any |= length > 0;
        wanted -= length;
        if length == 0 || size.is_none() {
            break;
        }
    }
    Ok(any)
}

/// The last line of a stream that is not RESP.
#[derive(Debug, Serialize)]
struct ProtocolError {
    protocol_error: String,
    /// From the first byte of the stream.
    offset: u64,
}

/// The last line of a stream that stops inside of a frame.
#[derive(Debug, Serialize)]
struct Rest {
    incomplete: bool,
    pending_bytes: usize,
}

/// The same in both formats.
fn last_line(line: &impl Serialize, output: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *output, line)?;
    output.write_all(b"\n")?;
    output.flush()
}

/// What has arrived and was not printed.
struct Stream {
    decoder: Decoder,
    doubles: Doubles,
    received: BytesMut,
    /// Bytes of `received` that the decoder has seen.
    seen: usize,
    /// Bytes of the stream in front of `received`.
    consumed: u64,
}

impl Stream {
    fn new(config: DecoderConfig) -> Self {
        Self {
            decoder: Decoder::new(config),
            doubles: Doubles::default(),
            received: BytesMut::new(),
            seen: 0,
            consumed: 0,
        }
    }

    /// Prints the frames that are complete, up to the first thing that is wrong.
    fn print(
        &mut self,
        format: Format,
        output: &mut impl Write,
    ) -> io::Result<Option<ProtocolError>> {
        let malformed = self.doubles.first_malformed(self.consumed, &self.received);
        let error = malformed.map(|at| ProtocolError {
            protocol_error: "malformed double".to_owned(),
            offset: self.consumed + at as u64,
        });
        if let Some(at) = malformed {
            // The decoder does not see the end of it. Whatever is found wrong then comes first, and
            // the frame that the double is in does not become complete.
            self.received.truncate(self.seen.max(at + 1));
        }
        loop {
            let before = self.received.len();
            let batch = match self.decoder.decode_batch(&mut self.received) {
                Ok(batch) => batch,
                Err(error) => {
                    let protocol_error = error.reason().to_string();
                    return Ok(Some(ProtocolError { protocol_error, offset: error.offset() }));
                }
            };
            self.consumed += (before - self.received.len()) as u64;
            if batch.is_empty() {
                break;
            }
            for frame in batch.iter() {
                match format {
                    Format::Pretty => frame.value().visit(&mut pretty::Printer::new(output))?,
                    Format::Json => frame.value().visit(&mut json::Printer::new(output))?,
                }
            }
        }
        self.seen = self.received.len();
        Ok(error)
    }
}

/// What a value that is being printed is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// An array, a set or a push, with this many elements so far.
    Items(usize),
    /// A map or attributes, with this many keys and values so far.
    Pairs(usize),
    /// Attributes that are complete and wait for the value that they describe.
    Described,
}

impl Level {
    fn of(kind: Kind) -> Self {
        if kind == Kind::Map { Self::Pairs(0) } else { Self::Items(0) }
    }
}

#[cfg(test)]
mod tests;
