//! Building owned values without recursion.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::owned::{Attributed, OwnedValue, Pairs, Values};
use crate::value::{Kind, Value, ValueRef};

/// What an open branch becomes when its last child is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Branch {
    Kind(Kind),
    Attributes,
}

/// A branch of a tree that is being built.
#[derive(Debug)]
struct Growing {
    branch: Branch,
    /// Children still to come; never 0.
    missing: usize,
    children: Vec<OwnedValue>,
    /// What describes this branch; of attributes, those in front of them.
    attributes: Vec<OwnedValue>,
}

/// Builds a tree from its values in wire order.
#[derive(Debug, Default)]
pub(crate) struct Builder {
    open: Vec<Growing>,
    /// What describes the next value: keys and values in turn.
    attributes: Vec<OwnedValue>,
    /// The root, when it is complete.
    pub(crate) done: Option<OwnedValue>,
}

impl Builder {
    /// Opens a branch that will have so many children, or appends it at once
    /// when it has none.
    pub(crate) fn begin(&mut self, branch: Branch, children: usize) {
        match branch {
            Branch::Attributes if children == 0 => {}
            Branch::Kind(kind) if children == 0 => {
                self.value(OwnedValue::aggregate(kind, Values::default()));
            }
            _ => self.open.push(Growing {
                branch,
                missing: children,
                children: Vec::with_capacity(children),
                attributes: core::mem::take(&mut self.attributes),
            }),
        }
    }

    /// Appends a value, and completes every branch that it is the last child of.
    pub(crate) fn value(&mut self, mut value: OwnedValue) {
        if !self.attributes.is_empty() {
            value = described(core::mem::take(&mut self.attributes), value);
        }
        while let Some(branch) = self.open.last_mut() {
            branch.children.push(value);
            branch.missing -= 1;
            if branch.missing > 0 {
                return;
            }
            match self.close() {
                Some(closed) => value = closed,
                None => return,
            }
        }
        self.done = Some(value);
    }

    /// Appends scalars to the innermost branch for as long as nothing else has to
    /// be looked at: up to its last child, which completes it. Returns what is
    /// behind them.
    fn scalars<'a>(&mut self, first: ValueRef<'a>) -> ValueRef<'a> {
        match self.open.last_mut() {
            Some(Growing { missing, children, .. }) if self.attributes.is_empty() => {
                let had = children.len();
                let rest = scalars(first, *missing - 1, children);
                *missing -= children.len() - had;
                rest
            }
            _ => first,
        }
    }

    /// Takes the innermost branch, which is complete, off the stack. Attributes
    /// are kept for the value that they describe.
    fn close(&mut self) -> Option<OwnedValue> {
        let Growing { branch, children, mut attributes, .. } = self.open.pop()?;
        match branch {
            Branch::Attributes => {
                attributes.extend(children);
                self.attributes = attributes;
                None
            }
            Branch::Kind(kind) => {
                let value = OwnedValue::aggregate(kind, children.into());
                Some(if attributes.is_empty() { value } else { described(attributes, value) })
            }
        }
    }
}

fn described(attributes: Vec<OwnedValue>, value: OwnedValue) -> OwnedValue {
    OwnedValue::Attributed(Attributed::new(Pairs::flat(attributes.into()), value))
}

impl ValueRef<'_> {
    /// What is opened by the first node of this value, if it is no scalar.
    #[inline]
    fn branch(self) -> Option<Branch> {
        match self.tag() {
            b'|' => Some(Branch::Attributes),
            b'$' => None,
            _ if self.width() == 1 => None,
            b'~' => Some(Branch::Kind(Kind::Set)),
            b'%' => Some(Branch::Kind(Kind::Map)),
            b'>' => Some(Branch::Kind(Kind::Push)),
            _ => Some(Branch::Kind(Kind::Array)),
        }
    }
}

/// Copies a value out of its frame. Strings share the frame's memory.
#[inline]
pub(crate) fn build(value: ValueRef<'_>) -> OwnedValue {
    match value.branch() {
        None => scalar(value),
        Some(branch) => tree(value, branch),
    }
}

/// As [`build`], for what opens a branch. An aggregate of scalars needs no stack.
#[inline(never)]
fn tree(value: ValueRef<'_>, branch: Branch) -> OwnedValue {
    let count = value.count() as usize;
    // All children are there, so their number may be trusted.
    let mut children = Vec::with_capacity(count);
    let mut rest = scalars(value.skip(2), count, &mut children);
    let missing = count - children.len();
    let mut builder = Builder::default();
    match branch {
        Branch::Kind(kind) if missing == 0 => return OwnedValue::aggregate(kind, children.into()),
        Branch::Attributes if missing == 0 => builder.attributes = children,
        _ => builder.open.push(Growing { branch, missing, children, attributes: Vec::new() }),
    }
    loop {
        rest = match rest.branch() {
            None => {
                builder.value(scalar(rest));
                rest.after()
            }
            Some(branch) => {
                builder.begin(branch, rest.count() as usize);
                builder.scalars(rest.skip(2))
            }
        };
        if let Some(done) = builder.done {
            return done;
        }
    }
}

/// Appends up to `count` scalars that follow one another, as far as there is room,
/// and returns what is behind them.
#[inline]
fn scalars<'a>(
    mut rest: ValueRef<'a>,
    count: usize,
    children: &mut Vec<OwnedValue>,
) -> ValueRef<'a> {
    for _ in 0..count {
        // Callers reserve room for all. Where the vector might grow, each value is
        // made elsewhere first and copied, before its parts have even left the
        // store buffer.
        if children.len() == children.capacity() {
            break;
        }
        if let Some(number) = rest.plain_integer() {
            children.push(OwnedValue::Integer(number));
            rest = rest.skip(1);
        } else if let Some(text) = rest.plain_bulk().map(|range| rest.slice(range)) {
            // Asked again, because a handle is made by a call that the compiler
            // does not see into.
            if children.len() == children.capacity() {
                break;
            }
            children.push(OwnedValue::BulkString(text));
            rest = rest.skip(1);
        } else if rest.branch().is_none() {
            children.push(other_scalar(rest));
            rest = rest.after();
        } else {
            break;
        }
    }
    rest
}

#[inline(always)]
fn scalar(value: ValueRef<'_>) -> OwnedValue {
    if let Some(number) = value.plain_integer() {
        return OwnedValue::Integer(number);
    }
    if let Some(range) = value.plain_bulk() {
        return OwnedValue::BulkString(value.slice(range));
    }
    if value.is_ok() {
        return OwnedValue::SimpleString(Bytes::from_static(b"OK"));
    }
    other_scalar(value)
}

/// As [`scalar`], for what is no integer, and no bulk string in one piece. Apart
/// from it, so that the usual scalars do without a stack frame.
#[inline(never)]
fn other_scalar(value: ValueRef<'_>) -> OwnedValue {
    let share = |part| value.share(part);
    match value.get() {
        Value::SimpleString(text) => OwnedValue::SimpleString(share(text)),
        Value::SimpleError(text) => OwnedValue::SimpleError(share(text)),
        Value::BulkString(text) => OwnedValue::BulkString(share(text)),
        Value::BulkError(text) => OwnedValue::BulkError(share(text)),
        Value::StreamedString(chunks) => OwnedValue::BulkString(value.join(chunks)),
        Value::Integer(number) => OwnedValue::Integer(number),
        Value::Boolean(truth) => OwnedValue::Boolean(truth),
        Value::Double(number) => OwnedValue::Double(number.map(share)),
        Value::BigNumber(number) => OwnedValue::BigNumber(number.map(share)),
        Value::VerbatimString(text) => OwnedValue::VerbatimString(text.map(share)),
        _ => OwnedValue::Null,
    }
}
