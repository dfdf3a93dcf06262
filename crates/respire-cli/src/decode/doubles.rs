//! Finds the doubles of a stream without decoding it.
//!
//! The decoder takes the text of a double as it is, for whoever reads the value to check, and shows
//! nothing of a frame before that is whole. Here every double is to be checked, in frames that are cut
//! off as well, and of two errors the one that comes first is to be reported.
//!
//! It takes little, because every line of RESP says by itself where the next one starts. What is
//! wrong with a stream otherwise is left to the decoder to say.

use std::mem;

use respire_codec::Double;

/// Goes through a stream as it arrives.
#[derive(Debug, Default)]
pub(super) struct Doubles {
    /// Where the first line starts that has not ended yet, from the start of the stream; after a
    /// payload that has not arrived yet, this is ahead of what is there.
    next: u64,
    /// Bytes of that line, from its start, that are known not to end it.
    searched: usize,
    /// Something is wrong with the stream, and where the next line starts is not known.
    lost: bool,
}

impl Doubles {
    /// The first malformed double of what has arrived since the last call: where it starts in
    /// `received`, which starts `consumed` bytes into the stream.
    ///
    /// Of `received`, everything has to be there from the first line that had not ended then.
    pub(super) fn first_malformed(&mut self, consumed: u64, received: &[u8]) -> Option<usize> {
        while !self.lost {
            let start = usize::try_from(self.next.saturating_sub(consumed)).unwrap_or(usize::MAX);
            let rest = received.get(start..)?;
            let end = self.line_end(rest)?;
            let line = rest.get(..end).unwrap_or_default();
            if let [b',', text @ ..] = line
                && Double::new(text).to_f64().is_err()
            {
                return Some(start);
            }
            self.next += (end + CRLF.len()) as u64;
            match payload(line) {
                Some(length) => self.next = self.next.saturating_add(length),
                None => self.lost = true,
            }
        }
        None
    }

    /// Where the line ends that `rest` starts with, without its CRLF, if that is there.
    fn line_end(&mut self, rest: &[u8]) -> Option<usize> {
        let unsearched = rest.get(self.searched..).unwrap_or_default();
        let found = unsearched.iter().position(|byte| CRLF.contains(byte));
        self.searched += found.unwrap_or(unsearched.len());
        if rest.get(self.searched..self.searched + CRLF.len())? != CRLF {
            self.lost = true;
            return None;
        }
        Some(mem::take(&mut self.searched))
    }
}

const CRLF: &[u8] = b"\r\n";

/// Bytes between the end of `line` and the next line; `None` if the line has no meaning.
fn payload(line: &[u8]) -> Option<u64> {
    match line {
        [b'$', b'-' | b'?', ..] | b";0" => Some(0),
        [b'$' | b'!' | b'=' | b';', length @ ..] => {
            let length: u64 = std::str::from_utf8(length).ok()?.parse().ok()?;
            length.checked_add(CRLF.len() as u64)
        }
        [] => None,
        _ => Some(0),
    }
}

#[cfg(test)]
mod tests;
