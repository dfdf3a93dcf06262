//! The resumable framing state machine: where does the next frame end, and
//! which values are in it?
//!
//! The scanner is fed the same bytes again with more behind them until a frame
//! is complete. Between two calls it keeps the position of the first unit that
//! was not complete (a value that fits in itself, or the header of an
//! aggregate), the aggregates that are open around it, and how far a long line
//! has been searched. Nothing before that position is looked at again, and
//! what is looked at again is at most one header, so the work is linear in the
//! bytes however they are cut.
//!
//! Errors do not depend on the cuts either: of two things that are wrong, the
//! one that comes first on the wire is reported.

use alloc::vec::Vec;

use memchr::memchr2;

use crate::decode::{Mode, Protocol};
use crate::error::Reason;
use crate::limits::Limits;
use crate::number::{
    bytes_before_control, bytes_before_cr_like, digits_before_other, load_word, parse_integer,
};
use crate::tape::{self, Entry, Node, Tape};

/// Counts bytes and nodes that were looked at, for the tests that hold the work
/// to be linear. Nothing in any other build.
#[cfg(not(test))]
#[inline(always)]
fn tally(_: usize) {}

#[cfg(test)]
use tests::tally;

const CR: u8 = b'\r';
const LF: u8 = b'\n';

/// No attribute waits for its value.
const NONE: u32 = u32::MAX;

/// Why a scan came to a stop before the end of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At least this many bytes are missing.
    More(usize),
    Fault(Fault),
}

/// What is wrong, and where, counted from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) offset: usize,
    pub(crate) type_byte: u8,
    pub(crate) reason: Reason,
}

/// What an open aggregate does when its last child is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Not an aggregate: the frame itself, which is one value.
    Root,
    Counted,
    /// Describes the value that follows and is none itself.
    Attribute,
    /// A push in the wrong place, which leaves the tape again.
    NestedPush,
    /// Ends at a `.`; its `remaining` counts down from the limit.
    StreamedSequence,
    /// As above, and complete only after an even number of children.
    StreamedMap,
    /// A streamed string. Its children are chunks, not values.
    StreamedString,
}

/// An open aggregate.
#[derive(Clone, Copy, Debug)]
struct Level {
    kind: Kind,
    /// Index of its first node, from the frame's first.
    node: u32,
    /// Children still to come; never 0 while the level is open.
    remaining: u32,
    /// Of an attribute: the first attribute of the same value, or `NONE`.
    /// Of a streamed string: payload bytes so far.
    extra: u32,
}

const ROOT: Level = Level { kind: Kind::Root, node: 0, remaining: 1, extra: NONE };

/// One step of the grammar.
enum Unit {
    /// A value that has no children ends here.
    Scalar { end: usize },
    /// A header that announces this many children ends here.
    Open { kind: Kind, children: u32, end: usize },
    /// The innermost aggregate ends here.
    Close { end: usize },
}

#[derive(Debug)]
pub(crate) struct Scanner {
    limits: Limits,
    protocol: Protocol,
    mode: Mode,
    /// First byte that belongs to no complete unit, from the frame's first.
    pos: usize,
    /// The line that starts after `pos` has no end before this position.
    searched: usize,
    /// The innermost open aggregate, and the ones around it.
    level: Level,
    parents: Vec<Level>,
    /// First of the attributes that wait for their value, or `NONE`.
    pending: u32,
    /// Pushes found inside of the current frame, in the order in which they
    /// were complete. Positions count from the frame's first byte; offsets in
    /// the nodes, as always, from the push's own.
    hoisted: Tape,
}

impl Scanner {
    pub(crate) fn new(limits: Limits, protocol: Protocol, mode: Mode) -> Self {
        Self {
            limits: limits.clamped(),
            protocol,
            mode,
            pos: 0,
            searched: 0,
            level: ROOT,
            parents: Vec::new(),
            pending: NONE,
            hoisted: Tape::default(),
        }
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(crate) fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
    }

    /// Whether pushes were found inside of the frame that was just completed.
    #[inline]
    pub(crate) fn has_hoisted(&self) -> bool {
        !self.hoisted.entries.is_empty()
    }

    /// The pushes that were found there.
    pub(crate) fn take_hoisted(&mut self) -> Tape {
        core::mem::take(&mut self.hoisted)
    }

    /// Looks for the end of the frame that starts at `bytes[0]` and appends its
    /// nodes to `nodes`, where they start at index `first`. Returns the length
    /// of the frame.
    pub(crate) fn scan(
        &mut self,
        bytes: &[u8],
        nodes: &mut Vec<Node>,
        first: usize,
    ) -> Result<usize, Stop> {
        // Never looking further than the limit is the whole check of it.
        let window = bytes.get(..self.limits.frame_bytes).unwrap_or(bytes);
        if self.pos == 0 && self.limits.tape_nodes > 0 {
            // Nothing but the first value was looked at yet, and in most frames
            // there is no other.
            if let Some(end) = self.usual_scalar(window, 0) {
                tally(1);
                self.searched = 0;
                nodes.push(Node { off: 0, aux: end as u32 });
                return Ok(end);
            }
        }
        match self.run(window, nodes, first) {
            Err(Stop::More(_)) if bytes.len() >= self.limits.frame_bytes => {
                let type_byte = bytes.get(self.pos).copied().unwrap_or_default();
                let offset = self.pos;
                Err(Stop::Fault(Fault { offset, type_byte, reason: Reason::FrameTooLong }))
            }
            outcome => outcome,
        }
    }

    fn run(&mut self, buf: &[u8], nodes: &mut Vec<Node>, first: usize) -> Result<usize, Stop> {
        let mut pos = self.pos;
        let mut level = self.level;
        let mut pending = self.pending;
        let stop = loop {
            if level.kind != Kind::StreamedString {
                let nodes_free = self.nodes_max(first).saturating_sub(nodes.len());
                let end = self.usual_scalars(buf, pos, nodes_free, &mut level, nodes);
                if end > pos {
                    (pos, pending) = (end, NONE);
                }
            }
            if level.remaining > 0 {
                match self.step(buf, &mut pos, &mut level, pending, nodes, first) {
                    Ok(false) => {
                        pending = NONE;
                        continue;
                    }
                    Ok(true) => {}
                    Err(stop) => break stop,
                }
            }
            match self.close(buf, pos, level, nodes, first) {
                Ok((parent, _)) if parent.remaining == 0 => {
                    self.rewind();
                    return Ok(pos);
                }
                Ok((parent, group)) => (level, pending) = (parent, group),
                Err(stop) => break stop,
            }
        };
        if let Stop::More(_) = stop {
            (self.pos, self.level, self.pending) = (pos, level, pending);
        }
        Err(stop)
    }

    /// Takes as many of `level`'s children as are scalars in their usual form.
    /// Returns where they end. The inner loop of everything.
    #[inline(always)]
    fn usual_scalars(
        &self,
        buf: &[u8],
        mut pos: usize,
        nodes_free: usize,
        level: &mut Level,
        nodes: &mut Vec<Node>,
    ) -> usize {
        let most = nodes_free.min(level.remaining as usize);
        let mut left = most;
        while left > 0 {
            let Some(end) = self.usual_scalar(buf, pos) else { break };
            nodes.push(Node { off: pos as u32, aux: (end - pos) as u32 });
            pos = end;
            left -= 1;
        }
        tally(most - left);
        level.remaining -= (most - left) as u32;
        pos
    }

    /// Takes one value, header, chunk or end marker of any form. Returns whether
    /// it completes `level`.
    #[inline(always)]
    fn step(
        &mut self,
        buf: &[u8],
        pos: &mut usize,
        level: &mut Level,
        pending: u32,
        nodes: &mut Vec<Node>,
        first: usize,
    ) -> Result<bool, Stop> {
        tally(1);
        let start = *pos;
        let nodes_free = self.nodes_max(first).saturating_sub(nodes.len());
        let unit = match self.usual_aggregate(buf, start) {
            Some(unit) if level.kind != Kind::StreamedString => unit,
            _ => self.unit(buf, start, level, pending)?,
        };
        match unit {
            Unit::Scalar { end } => {
                if nodes_free < 1 {
                    return Err(fault(buf, start, start, Reason::TooManyNodes));
                }
                nodes.push(Node { off: start as u32, aux: (end - start) as u32 });
                level.remaining -= 1;
                *pos = end;
                Ok(level.remaining == 0)
            }
            Unit::Open { kind, children, end } => {
                if nodes_free < 2 {
                    return Err(fault(buf, start, start, Reason::TooManyNodes));
                }
                if self.parents.len() >= self.limits.depth && kind != Kind::StreamedString {
                    return Err(fault(buf, start, start, Reason::TooDeep));
                }
                self.parents.push(*level);
                *level = Level::open(kind, nodes.len() - first, children, pending);
                nodes.push(Node { off: start as u32, aux: children });
                nodes.push(Node { off: 0, aux: 0 });
                *pos = end;
                Ok(children == 0)
            }
            Unit::Close { end } => {
                *pos = end;
                Ok(true)
            }
        }
    }

    /// Length that the tape may reach. Pushes that left it count as well.
    fn nodes_max(&self, first: usize) -> usize {
        (first + self.limits.tape_nodes).saturating_sub(self.hoisted.nodes.len())
    }

    /// Makes the scanner ready for the first byte of the next frame.
    fn rewind(&mut self) {
        (self.pos, self.searched) = (0, 0);
        (self.level, self.pending) = (ROOT, NONE);
    }

    /// Completes `level`, whose last byte is before `pos`, and every aggregate
    /// that this completes in turn. Returns the level that goes on and the
    /// attributes that now wait for their value. The root goes on with nothing
    /// remaining when the frame is complete.
    #[inline(always)]
    fn close(
        &mut self,
        buf: &[u8],
        pos: usize,
        mut level: Level,
        nodes: &mut Vec<Node>,
        first: usize,
    ) -> Result<(Level, u32), Stop> {
        let mut last_child = nodes.len().saturating_sub(1);
        loop {
            if level.remaining == 0 && level.is_streamed() {
                let start = nodes.get(last_child).map_or(0, |node| node.off as usize);
                return Err(fault(buf, start, start, Reason::TooManyElements));
            }
            if level.kind == Kind::Root {
                return Ok((level, NONE));
            }
            seal(level, pos, nodes, first, self.limits.elements);
            let mut parent = self.parents.pop().unwrap_or(ROOT);
            match level.kind {
                Kind::Attribute => return Ok((parent, join_group(level, nodes, first))),
                Kind::NestedPush => {
                    self.hoist(buf, level, pos, nodes, first);
                    return Ok((parent, NONE));
                }
                _ => parent.remaining -= 1,
            }
            if parent.remaining > 0 {
                return Ok((parent, NONE));
            }
            last_child = first + level.node as usize;
            level = parent;
        }
    }

    /// Takes a complete push off the tape again.
    #[cold]
    fn hoist(&mut self, buf: &[u8], push: Level, end: usize, nodes: &mut Vec<Node>, first: usize) {
        let index = first + push.node as usize;
        let start = nodes.get(index).map_or(0, |node| node.off);
        let node = self.hoisted.nodes.len();
        self.hoisted.entries.push(Entry::new(start as usize, end, node as u32));
        tally(nodes.len() - index);
        let mut lengths = false;
        for mut node in nodes.drain(index..) {
            // The second node of an aggregate holds lengths, which do not move.
            if lengths {
                lengths = false;
            } else {
                lengths = tape::width(buf, node.off as usize) == 2;
                node.off = node.off.saturating_sub(start);
            }
            self.hoisted.nodes.push(node);
        }
    }

    /// End of the scalar at `pos`, if it is of one of the usual types, complete,
    /// right, and short where its length decides how it is read. Anything else
    /// takes the full path, which finds out what it is.
    #[inline(always)]
    fn usual_scalar(&self, buf: &[u8], pos: usize) -> Option<usize> {
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
    fn usual_aggregate(&self, buf: &[u8], pos: usize) -> Option<Unit> {
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
    fn unit(
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

impl Level {
    fn open(kind: Kind, node: usize, children: u32, pending: u32) -> Self {
        let extra = if kind == Kind::StreamedString { 0 } else { pending };
        Self { kind, node: node as u32, remaining: children, extra }
    }

    fn is_streamed(&self) -> bool {
        matches!(self.kind, Kind::StreamedSequence | Kind::StreamedMap | Kind::StreamedString)
    }
}

/// Writes the lengths of a complete aggregate into its nodes.
#[inline(always)]
fn seal(level: Level, end: usize, nodes: &mut [Node], first: usize, elements_max: u32) {
    let index = first + level.node as usize;
    let span = (nodes.len() - index) as u32;
    if let Some([head, lengths]) = nodes.get_mut(index..index + 2) {
        *lengths = Node { off: span, aux: end as u32 - head.off };
        if level.is_streamed() {
            head.aux = elements_max + 1 - level.remaining;
        }
    }
}

/// Adds a complete attribute to the ones in front of it, so that the first of
/// them leads straight to the value. Returns the first.
fn join_group(attribute: Level, nodes: &mut [Node], first: usize) -> u32 {
    if attribute.extra == NONE {
        return attribute.node;
    }
    let index = first + attribute.extra as usize;
    let span = (nodes.len() - index) as u32;
    if let Some(lengths) = nodes.get_mut(index + 1) {
        lengths.off = span;
    }
    attribute.extra
}

#[inline(always)]
fn scalar(end: usize) -> Result<Unit, Stop> {
    Ok(Unit::Scalar { end })
}

#[cold]
fn fault(buf: &[u8], pos: usize, offset: usize, reason: Reason) -> Stop {
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

#[cfg(test)]
mod tests;
