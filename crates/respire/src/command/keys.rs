//! Where the keys of a command are.

/// Where some of a command's keys are. Positions count words from the command's name, which is at 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeySpec {
    place: Place,
    /// Whether the words are channels of sharded pub/sub, which have slots in a cluster as keys do.
    is_channel: bool,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Each `step`th word from `first` to `last`, which is counted from `first`, or from the end if negative: -1 is the last
    /// word.
    Range { first: u8, last: i8, step: u8 },
    /// A number at this position, and so many keys behind it.
    Counted { at: u8 },
    /// One key behind the first `word` at or after `from`.
    OneAfter { word: &'static str, from: u8 },
    /// What follows the first `word` at or after `from`: the first half of it are keys.
    HalfAfter { word: &'static str, from: u8 },
    /// All that follows the last `word`.
    AllAfterLast { word: &'static str },
    /// The destination of `SORT`: behind the last `STORE` that is not an argument of another option.
    SortStore,
}

pub(super) const fn key(at: u8) -> KeySpec {
    keys(at, 0, 1)
}

pub(super) const fn keys(first: u8, last: i8, step: u8) -> KeySpec {
    KeySpec { place: Place::Range { first, last, step }, is_channel: false }
}

pub(super) const fn channels(first: u8, last: i8) -> KeySpec {
    KeySpec { place: Place::Range { first, last, step: 1 }, is_channel: true }
}

pub(super) const fn counted(at: u8) -> KeySpec {
    KeySpec { place: Place::Counted { at }, is_channel: false }
}

pub(super) const fn key_after(word: &'static str, from: u8) -> KeySpec {
    KeySpec { place: Place::OneAfter { word, from }, is_channel: false }
}

pub(super) const fn half_after(word: &'static str, from: u8) -> KeySpec {
    KeySpec { place: Place::HalfAfter { word, from }, is_channel: false }
}

pub(super) const fn all_after_last(word: &'static str) -> KeySpec {
    KeySpec { place: Place::AllAfterLast { word }, is_channel: false }
}

pub(super) const SORT_STORE: KeySpec = KeySpec { place: Place::SortStore, is_channel: false };

/// Words that are keys, or none.
#[derive(Clone, Copy, Default)]
struct Span {
    first: usize,
    end: usize,
    step: usize,
}

/// The keys among the `count` words of a command, or its channels.
pub(super) fn select<'a, I>(
    specs: &'static [KeySpec],
    channels: bool,
    words: I,
    count: usize,
) -> impl Iterator<Item = &'a [u8]>
where
    I: Iterator<Item = &'a [u8]> + Clone,
{
    specs.iter().filter(move |spec| spec.is_channel == channels).flat_map(move |spec| {
        let Span { first, end, step } = spec.span(words.clone(), count);
        let len = end.saturating_sub(first);
        words.clone().skip(first).take(len).step_by(step.max(1))
    })
}

impl KeySpec {
    fn span<'a>(&self, words: impl Iterator<Item = &'a [u8]>, count: usize) -> Span {
        match self.place {
            Place::Range { first, last, step } => {
                let first = usize::from(first);
                let last = match usize::try_from(last) {
                    Ok(last) => first + last,
                    Err(_) => count.saturating_sub(usize::from(last.unsigned_abs())),
                };
                Span { first, end: last + 1, step: step.into() }
            }
            Place::Counted { at } => {
                let first = usize::from(at) + 1;
                let number = { words }.nth(at.into()).and_then(number).unwrap_or(0);
                Span { first, end: first.saturating_add(number), step: 1 }
            }
            Place::OneAfter { word, from } => match find(words, word, from) {
                Some(at) => Span { first: at + 1, end: at + 2, step: 1 },
                None => Span::default(),
            },
            Place::HalfAfter { word, from } => match find(words, word, from) {
                Some(at) => {
                    let rest = count.saturating_sub(at + 1);
                    Span { first: at + 1, end: at + 1 + rest / 2, step: 1 }
                }
                None => Span::default(),
            },
            Place::AllAfterLast { word } => {
                let is_word =
                    |(_, found): &(usize, &[u8])| found.eq_ignore_ascii_case(word.as_bytes());
                match words.enumerate().filter(is_word).last() {
                    Some((at, _)) if at > 0 => Span { first: at + 1, end: count, step: 1 },
                    _ => Span::default(),
                }
            }
            Place::SortStore => match sort_destination(words) {
                Some(at) => Span { first: at, end: at + 1, step: 1 },
                None => Span::default(),
            },
        }
    }
}

fn find<'a>(words: impl Iterator<Item = &'a [u8]>, word: &str, from: u8) -> Option<usize> {
    words
        .enumerate()
        .skip(from.into())
        .find(|(_, found)| found.eq_ignore_ascii_case(word.as_bytes()))
        .map(|(at, _)| at)
}

fn number(word: &[u8]) -> Option<usize> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn sort_destination<'a>(words: impl Iterator<Item = &'a [u8]>) -> Option<usize> {
    let mut words = words.enumerate().skip(2);
    let mut destination = None;
    while let Some((at, word)) = words.next() {
        if word.eq_ignore_ascii_case(b"STORE") {
            destination = words.next().map(|_| at + 1).or(destination);
        } else if word.eq_ignore_ascii_case(b"BY") || word.eq_ignore_ascii_case(b"GET") {
            words.next();
        } else if word.eq_ignore_ascii_case(b"LIMIT") {
            words.nth(1);
        }
    }
    destination
}
