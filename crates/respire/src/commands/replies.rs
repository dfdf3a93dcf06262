//! Reading replies that are of no plain type.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use respire_codec::{Kind, Value, ValueError, ValueRef};

use super::FromReply;

/// Whether something was done: a null says no.
pub(super) fn done(value: ValueRef<'_>) -> Result<bool, ValueError> {
    if value.is_null() { Ok(false) } else { value.parse::<()>().map(|()| true) }
}

/// What a null stands for is nothing.
pub(super) fn or_empty<T: FromReply + Default>(value: ValueRef<'_>) -> Result<T, ValueError> {
    Ok(value.parse::<Option<T>>()?.unwrap_or_default())
}

/// A number of seconds, with or without a fraction.
pub(super) fn seconds(value: ValueRef<'_>) -> Result<Duration, ValueError> {
    let seconds: f64 = value.parse()?;
    Duration::try_from_secs_f64(seconds).map_err(|_| ValueError::other_form("a time", value.kind()))
}

/// The instant that is so long after the start of 1970. A server may say more than there are.
pub(super) fn instant(since: Duration, value: ValueRef<'_>) -> Result<SystemTime, ValueError> {
    let instant = UNIX_EPOCH.checked_add(since);
    instant.ok_or_else(|| ValueError::other_form("an instant", value.kind()))
}

/// The value behind a key in a reply that is a map, or an array of keys and values in turn.
pub(super) struct Fields<'a> {
    pairs: Vec<(&'a str, ValueRef<'a>)>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let flat: Vec<ValueRef<'a>> = value.parse()?;
        let pairs = flat.chunks_exact(2).map(|pair| Ok((pair[0].parse()?, pair[1])));
        Ok(Self { pairs: pairs.collect::<Result<_, ValueError>>()? })
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, ValueRef<'a>)> {
        self.pairs.iter().copied()
    }

    /// What is there, if it is.
    pub(super) fn find(&self, name: &str) -> Option<ValueRef<'a>> {
        self.pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    /// What must be there.
    pub(super) fn field(&self, name: &'static str) -> Result<ValueRef<'a>, ValueError> {
        self.find(name).ok_or_else(|| ValueError::other_form(name, Kind::Map))
    }

    pub(super) fn parse<T: FromReply>(&self, name: &'static str) -> Result<T, ValueError> {
        self.field(name)?.parse()
    }

    /// What an older server may leave out.
    pub(super) fn parse_or_none<T: FromReply>(&self, name: &str) -> Result<Option<T>, ValueError> {
        self.find(name).map_or(Ok(None), ValueRef::parse)
    }
}

/// The elements of an array, which are read one after the other.
pub(super) fn elements<'a>(
    value: ValueRef<'a>,
    expected: &'static str,
) -> Result<impl ExactSizeIterator<Item = ValueRef<'a>>, ValueError> {
    match value.get() {
        Value::Array(items) | Value::Set(items) | Value::Push(items) => Ok(items),
        _ => Err(ValueError::other_form(expected, value.kind())),
    }
}

/// The next of the elements.
pub(super) fn next<'a>(
    items: &mut impl Iterator<Item = ValueRef<'a>>,
    expected: &'static str,
) -> Result<ValueRef<'a>, ValueError> {
    items.next().ok_or_else(|| ValueError::other_form(expected, Kind::Array))
}
