//! One step of the grammar: a value, a header, a chunk or an end marker.
//!
//! Each is read twice. The usual form of the usual types has a short path, which
//! says where it ends or nothing at all. The full path knows every form, every
//! limit and every error. The short path decides nothing that the full one would
//! decide otherwise.

use memchr::memchr2;

use super::{Fault, Kind, Level, NONE, Scanner, Stop, tally};
use crate::decode::{Mode, Protocol};
use crate::error::Reason;
use crate::number::{
    bytes_before_control, bytes_before_cr_like, digits_before_other, load_word, parse_integer,
};

const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// One step of the grammar.
pub(super) enum Unit {
    /// A value that has no children ends here.
    Scalar { end: usize },
    /// A header that announces this many children ends here.
    Open { kind: Kind, children: u32, end: usize },
    /// The innermost aggregate ends here.
    Close { end: usize },
}

impl Scanner {
    /// End of the scalar at `pos`, if it is of one of the usual types, complete,
    /// right, and short where its length decides how it is read. Anything else
    /// takes the full path, which finds out what it is.
    #[inline(always)]
    pub(super) fn usual_scalar(&self, buf: &[u8], pos: usize) -> Option<usize> {
        match *buf.get(pos)? {
            b'$' => {
                let (length, start) = short_header(buf, pos + 1)?;
                let end = start + length as usize;
                let right = buf.get(end..end + 2)? == b"\r\n";
                (right && length <= self.limits.bulk_bytes as u64).then_some(end + 2)
            }
            b':' => short_integer(buf, pos),
            b'+' if buf.get(pos + 1..pos + 5) == Some(b"OK\r\n") && self.limits.line_bytes > 1 => {
                Some(pos + 5)
            }
            b'+' | b'-' => self.short_line(buf, pos),
            b',' | b'(' if self.protocol == Protocol::Resp3 => self.short_line(buf, pos),
            b'_' if self.protocol == Protocol::Resp3 => {
                (buf.get(pos + 1..pos + 3)? == b"\r\n").then_some(pos + 3)
            }
            b'#' if self.protocol == Protocol::Resp3 => {
                matches!(buf.get(pos + 1..pos + 4)?, b"t\r\n" | b"f\r\n").then_some(pos + 4)
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn short_line(&self, buf: &[u8], pos: usize) -> Option<usize> {
        let length = bytes_before_control(load_word(buf, pos)?);
        let end = pos + length;
        let right = length < 16 && buf.get(end..end + 2)? == b"\r\n";
        (right && length <= self.limits.line_bytes).then_some(end + 2)
    }

    /// The header at `pos`, if it is of one of the usual aggregates and right.
    #[inline(always)]
    pub(super) fn usual_aggregate(&self, buf: &[u8], pos: usize) -> Option<Unit> {
        let per_entry = match *buf.get(pos)? {
            b'*' => 1,
            b'%' if self.protocol == Protocol::Resp3 => 2,
            b'~' if self.protocol == Protocol::Resp3 => 1,
            _ => return None,
        };
        let (count, end) = short_header(buf, pos + 1)?;
        let children = count * per_entry;
        let children = u32::try_from(children).ok().filter(|n| *n <= self.limits.elements)?;
        Some(Unit::Open { kind: Kind::Counted, children, end })
    }

    /// Reads the value, header, chunk or end marker at `pos`.
    #[inline(never)]
    pub(super) fn unit(
        &mut self,
        buf: &[u8],
        pos: usize,
        level: &mut Level,
        pending: u32,
    ) -> Result<Unit, Stop> {
        let Some(&tag) = buf.get(pos) else { return Err(Stop::More(1)) };
        if level.kind == Kind::StreamedString {
            return self.chunk(buf, pos, level);
        }
        match tag {
            b'*' => self.aggregate(buf, pos, tag),
            b'$' => self.blob(buf, pos, tag),
            b':' => integer(buf, pos, self.limits.header_digits),
            b'+' | b'-' => self.line(buf, pos),
            _ => self.unit_resp3(buf, pos, tag, *level, pending),
        }
    }

    /// The types that RESP3 added.
    fn unit_resp3(
        &mut self,
        buf: &[u8],
        pos: usize,
        tag: u8,
        level: Level,
        pending: u32,
    ) -> Result<Unit, Stop> {
        if self.protocol == Protocol::Resp2 {
            let known = b"_#,(!=~%|>;.".contains(&tag);
            let reason = if known { Reason::NotInProtocol } else { Reason::UnknownType };
            return Err(fault(buf, pos, pos, reason));
        }
        match tag {
            b'%' | b'~' | b'|' => self.aggregate(buf, pos, tag),
            b'_' => scalar(fixed(buf, pos, pos + 1, b"\r\n", Reason::MissingCrlf)?),
            b'#' => boolean(buf, pos),
            b',' | b'(' => self.line(buf, pos),
            b'!' | b'=' => self.blob(buf, pos, tag),
            b'>' => self.push(buf, pos, level, pending),
            b'.' => end_of_stream(buf, pos, level, pending, self.limits.elements),
            b';' => Err(fault(buf, pos, pos, Reason::MisplacedChunk)),
            _ => Err(fault(buf, pos, pos, Reason::UnknownType)),
        }
    }

    /// A line: any bytes up to a CRLF, without CR and LF among them.
    fn line(&mut self, buf: &[u8], pos: usize) -> Result<Unit, Stop> {
        let start = pos + 1;
        // The window holds the longest line that is allowed and its CR.
        let limit = start.saturating_add(self.limits.line_bytes).saturating_add(1);
        let window = buf.len().min(limit);
        let from = start.max(self.searched);
        let unsearched = buf.get(from..window).unwrap_or_default();
        tally(unsearched.len());
        let Some(found) = memchr2(CR, LF, unsearched) else {
            if window == limit {
                return Err(fault(buf, pos, pos, Reason::LineTooLong));
            }
            self.searched = window;
            return Err(Stop::More(2));
        };
        let end = from + found;
        self.searched = end;
        scalar(fixed(buf, pos, end, b"\r\n", Reason::StrayLineBreak)?)
    }

    /// A length, that many bytes, and a CRLF; or one of the other forms that
    /// start like it.
    fn blob(&mut self, buf: &[u8], pos: usize, tag: u8) -> Result<Unit, Stop> {
        match (tag, buf.get(pos + 1)) {
            (b'$', Some(b'-')) => return null(buf, pos),
            (b'$', Some(b'?')) => return self.streamed(buf, pos, Kind::StreamedString),
            _ => {}
        }
        let (length, start) = header(buf, pos, self.limits.header_digits)?;
        let end = self.payload_end(buf, pos, length, start)?;
        if tag == b'=' {
            verbatim_format(buf, pos, length, start)?;
        }
        terminated(buf, pos, end)
    }

    /// Where a payload ends that has `length` bytes and starts at `start`,
    /// checked against the limits while no more than its header has to be there.
    #[inline(always)]
    fn payload_end(
        &self,
        buf: &[u8],
        pos: usize,
        length: u64,
        start: usize,
    ) -> Result<usize, Stop> {
        if length > self.limits.bulk_bytes as u64 {
            return Err(fault(buf, pos, pos, Reason::BulkTooLong));
        }
        let end = start as u64 + length;
        if end + 2 > self.limits.frame_bytes as u64 {
            return Err(fault(buf, pos, pos, Reason::FrameTooLong));
        }
        Ok(end as usize)
    }

    /// A count of children and a CRLF; or one of the other forms.
    fn aggregate(&mut self, buf: &[u8], pos: usize, tag: u8) -> Result<Unit, Stop> {
        match (tag, buf.get(pos + 1)) {
            (b'*', Some(b'-')) => null(buf, pos),
            (b'*' | b'~', Some(b'?')) => self.streamed(buf, pos, Kind::StreamedSequence),
            (b'%', Some(b'?')) => self.streamed(buf, pos, Kind::StreamedMap),
            _ => {
                let (count, end) = header(buf, pos, self.limits.header_digits)?;
                self.counted(buf, pos, tag, count, end)
            }
        }
    }

    fn counted(
        &self,
        buf: &[u8],
        pos: usize,
        tag: u8,
        count: u64,
        end: usize,
    ) -> Result<Unit, Stop> {
        let (kind, per_entry) = match tag {
            b'|' => (Kind::Attribute, 2),
            b'%' => (Kind::Counted, 2),
            _ => (Kind::Counted, 1),
        };
        // A count that does not fit in 32 bits was cut to one that is too large
        // for any limit, so the product stays far below 2^64.
        let children = count * per_entry;
        if children > u64::from(self.limits.elements) {
            return Err(fault(buf, pos, pos, Reason::TooManyElements));
        }
        Ok(Unit::Open { kind, children: children as u32, end })
    }

    /// `$?`, `*?`, `~?` or `%?`.
    fn streamed(&self, buf: &[u8], pos: usize, kind: Kind) -> Result<Unit, Stop> {
        if self.protocol == Protocol::Resp2 {
            return Err(fault(buf, pos, pos, Reason::NotInProtocol));
        }
        let end = fixed(buf, pos, pos + 2, b"\r\n", Reason::MalformedLength)?;
        Ok(Unit::Open { kind, children: self.limits.elements + 1, end })
    }

    fn push(&self, buf: &[u8], pos: usize, level: Level, pending: u32) -> Result<Unit, Stop> {
        if pending != NONE {
            return Err(fault(buf, pos, pos, Reason::AttributedPush));
        }
        let kind = match (level.kind, self.mode) {
            (Kind::Root, _) => Kind::Counted,
            (_, Mode::Lenient) => Kind::NestedPush,
            (_, Mode::Strict) => return Err(fault(buf, pos, pos, Reason::NestedPush)),
        };
        let (count, end) = header(buf, pos, self.limits.header_digits)?;
        match self.counted(buf, pos, b'>', count, end)? {
            Unit::Open { children, end, .. } => Ok(Unit::Open { kind, children, end }),
            unit => Ok(unit),
        }
    }

    /// A chunk of a streamed string, or its end.
    #[inline(never)]
    fn chunk(&self, buf: &[u8], pos: usize, string: &mut Level) -> Result<Unit, Stop> {
        if buf.get(pos) != Some(&b';') {
            return Err(fault(buf, pos, pos, Reason::MisplacedChunk));
        }
        let (length, start) = header(buf, pos, self.limits.header_digits)?;
        if length == 0 {
            // The end is `;0` and nothing else; an empty chunk does not exist.
            let marker = start - pos == 4;
            return if marker {
                Ok(Unit::Close { end: start })
            } else {
                Err(fault(buf, pos, pos, Reason::MisplacedChunk))
            };
        }
        let total = u64::from(string.extra) + length;
        if total > self.limits.bulk_bytes as u64 {
            return Err(fault(buf, pos, pos, Reason::BulkTooLong));
        }
        let end = self.payload_end(buf, pos, length, start)?;
        let unit = terminated(buf, pos, end)?;
        string.extra = total as u32;
        Ok(unit)
    }
}

#[inline(always)]
fn scalar(end: usize) -> Result<Unit, Stop> {
    Ok(Unit::Scalar { end })
}

#[cold]
pub(super) fn fault(buf: &[u8], pos: usize, offset: usize, reason: Reason) -> Stop {
    let type_byte = buf.get(pos).copied().unwrap_or_default();
    Stop::Fault(Fault { offset, type_byte, reason })
}

/// `expected` at `at`, byte by byte, so that the first wrong byte is reported
/// as soon as it is there. Returns the position behind it.
#[inline(never)]
fn fixed(
    buf: &[u8],
    pos: usize,
    at: usize,
    expected: &[u8],
    reason: Reason,
) -> Result<usize, Stop> {
    for (ahead, byte) in expected.iter().enumerate() {
        match buf.get(at + ahead) {
            None => return Err(Stop::More(at + expected.len() - buf.len())),
            Some(found) if found == byte => {}
            Some(_) => return Err(fault(buf, pos, at + ahead, reason)),
        }
    }
    Ok(at + expected.len())
}

/// The CRLF behind a payload that ends at `end`.
fn terminated(buf: &[u8], pos: usize, end: usize) -> Result<Unit, Stop> {
    scalar(fixed(buf, pos, end, b"\r\n", Reason::MissingCrlf)?)
}

/// A header of at most nine digits, as nearly all are and every limit allows:
/// its value and the position behind its CRLF.
#[inline(always)]
fn short_header(buf: &[u8], start: usize) -> Option<(u64, usize)> {
    let first = buf.get(start)?.wrapping_sub(b'0');
    if first > 9 {
        return None;
    }
    let mut value = u64::from(first);
    let mut at = start + 1;
    while at < start + 10 {
        let byte = *buf.get(at)?;
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let whole = byte == CR && *buf.get(at + 1)? == LF;
            return whole.then_some((value, at + 2));
        }
        value = value * 10 + u64::from(digit);
        at += 1;
    }
    None
}

/// A header of any length, with everything that can be wrong with it. Values
/// above 2^32 come back as some value above 2^32.
#[inline(never)]
fn header(buf: &[u8], pos: usize, digits_max: u8) -> Result<(u64, usize), Stop> {
    let start = pos + 1;
    let mut value = 0u64;
    let mut at = start;
    while let Some(digit) = buf.get(at).map(|byte| byte.wrapping_sub(b'0')) {
        if digit > 9 {
            break;
        }
        if at - start == usize::from(digits_max) {
            return Err(fault(buf, pos, pos, Reason::HeaderTooLong));
        }
        if value <= u64::from(u32::MAX) {
            value = value * 10 + u64::from(digit);
        }
        at += 1;
    }
    if at == start && at < buf.len() {
        return Err(fault(buf, pos, at, Reason::MalformedLength));
    }
    tally(at - start);
    Ok((value, fixed(buf, pos, at, b"\r\n", Reason::MalformedLength)?))
}

/// `$-1` or `*-1`: the nulls of RESP2.
fn null(buf: &[u8], pos: usize) -> Result<Unit, Stop> {
    scalar(fixed(buf, pos, pos + 2, b"1\r\n", Reason::MalformedLength)?)
}

fn boolean(buf: &[u8], pos: usize) -> Result<Unit, Stop> {
    match buf.get(pos + 1) {
        None => Err(Stop::More(3)),
        Some(b't' | b'f') => scalar(fixed(buf, pos, pos + 2, b"\r\n", Reason::MissingCrlf)?),
        Some(_) => Err(fault(buf, pos, pos + 1, Reason::MalformedBoolean)),
    }
}

/// The `txt:` in front of a verbatim string, as far as it has arrived.
fn verbatim_format(buf: &[u8], pos: usize, length: u64, start: usize) -> Result<(), Stop> {
    if length < 4 {
        return Err(fault(buf, pos, pos, Reason::MalformedVerbatim));
    }
    match buf.get(start + 3) {
        None | Some(b':') => Ok(()),
        Some(_) => Err(fault(buf, pos, start + 3, Reason::MalformedVerbatim)),
    }
}

fn end_of_stream(
    buf: &[u8],
    pos: usize,
    level: Level,
    pending: u32,
    elements_max: u32,
) -> Result<Unit, Stop> {
    let complete = match level.kind {
        Kind::StreamedSequence => true,
        Kind::StreamedMap => (elements_max + 1 - level.remaining).is_multiple_of(2),
        _ => false,
    };
    if !complete || pending != NONE {
        return Err(fault(buf, pos, pos, Reason::MisplacedEnd));
    }
    Ok(Unit::Close { end: fixed(buf, pos, pos + 1, b"\r\n", Reason::MisplacedEnd)? })
}

/// End of an integer of 1 to 15 digits, which fits in the type and in the least
/// limit.
///
/// Its digits are looked at to find its end, so that they are checked costs
/// nothing; its value is computed when somebody asks for it.
#[inline(always)]
fn short_integer(buf: &[u8], pos: usize) -> Option<usize> {
    let word = load_word(buf, pos)?;
    // What ends the digits is found in fewer steps than they are checked, and
    // the next value waits for the first of the two only. The type byte passes
    // for a digit here, and a minus sign does not.
    let length = bytes_before_cr_like(word);
    if length == 1 {
        return short_negative(buf, pos + 1);
    }
    let end = pos + length;
    let right = length < 16 && buf.get(end..end + 2)? == b"\r\n";
    (right && digits_before_other(word >> 8) == length - 1).then_some(end + 2)
}

#[inline(always)]
fn short_negative(buf: &[u8], sign: usize) -> Option<usize> {
    let digits = digits_before_other(load_word(buf, sign + 1)?);
    let end = sign + 1 + digits;
    let right = buf.get(sign)? == &b'-' && (1..16).contains(&digits);
    (right && buf.get(end..end + 2)? == b"\r\n").then_some(end + 2)
}

/// An integer of any form: an optional sign and at least one digit.
fn integer(buf: &[u8], pos: usize, digits_max: u8) -> Result<Unit, Stop> {
    let start = pos + 1;
    let signed = matches!(buf.get(start), Some(b'+' | b'-'));
    let digits = start + usize::from(signed);
    let mut at = digits;
    while buf.get(at).is_some_and(u8::is_ascii_digit) {
        if at - digits == usize::from(digits_max) {
            return Err(fault(buf, pos, pos, Reason::HeaderTooLong));
        }
        at += 1;
    }
    tally(at - start);
    if at == digits && at < buf.len() {
        return Err(fault(buf, pos, at, Reason::MalformedInteger));
    }
    let end = fixed(buf, pos, at, b"\r\n", Reason::MalformedInteger)?;
    let text = buf.get(start..at).unwrap_or_default();
    if parse_integer::<i64>(text).is_none() {
        return Err(fault(buf, pos, pos, Reason::IntegerOutOfRange));
    }
    scalar(end)
}
