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

mod unit;

use alloc::vec::Vec;

use crate::decode::{Mode, Protocol};
use crate::error::Reason;
use crate::limits::Limits;
use crate::tape::{self, Entry, Node, Tape};
use unit::{Unit, fault};

/// Counts bytes and nodes that were looked at, for the tests that hold the work
/// to be linear. Nothing in any other build.
#[cfg(not(test))]
#[inline(always)]
fn tally(_: usize) {}

#[cfg(test)]
use tests::tally;

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

#[cfg(test)]
mod tests;
