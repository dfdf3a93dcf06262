//! What must hold for any input. The tests of this crate and the fuzz targets
//! share these functions; a panic is a finding.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]
#![allow(dead_code, reason = "no single test or fuzz target uses all of it")]

pub(crate) mod generate;
pub(crate) mod oracle;
pub(crate) mod vectors;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::convert::Infallible;

use bytes::{Buf, Bytes, BytesMut};
use respire_codec::{
    Decoder, DecoderConfig, Frame, Kind, Limits, Mode, OwnedValue, Protocol, Reason, Value,
    ValueRef, Visit, Visitor, encode,
};

/// How decoding an input ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// At the end of a frame.
    Clean,
    /// Inside of a frame.
    Wait,
    /// At this position.
    Error(Reason, u64),
}

/// Everything that decoding an input showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The frames, printed.
    pub(crate) frames: Vec<String>,
    pub(crate) end: End,
}

/// Feeds the pieces one after the other and collects what comes out.
pub(crate) fn outcome<'a>(
    config: DecoderConfig,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    take: impl Fn(&mut Decoder, &mut BytesMut, &mut Vec<Frame>) -> Result<(), End>,
) -> Outcome {
    let mut decoder = Decoder::new(config);
    let mut src = BytesMut::new();
    let mut frames = Vec::new();
    let mut end = End::Clean;
    for piece in pieces {
        src.extend_from_slice(piece);
        if let Err(error) = take(&mut decoder, &mut src, &mut frames) {
            end = error;
            break;
        }
        let reserve = decoder.bytes_needed();
        assert!(reserve > 0 && reserve <= src.len().max(64 * 1024));
        end = if src.is_empty() { End::Clean } else { End::Wait };
    }
    if matches!(end, End::Error(..)) {
        assert_poisoned(&mut decoder, &mut src, &end);
    }
    Outcome { frames: frames.iter().map(|frame| format!("{frame:?}")).collect(), end }
}

/// An error repeats itself, whatever comes after it.
fn assert_poisoned(decoder: &mut Decoder, src: &mut BytesMut, end: &End) {
    let mut frames = Vec::new();
    assert_eq!(take_each(decoder, src, &mut frames).unwrap_err(), *end);
    src.extend_from_slice(b"+OK\r\n");
    assert_eq!(take_batches(decoder, src, &mut frames).unwrap_err(), *end);
    *src = BytesMut::from("+OK\r\n");
    assert_eq!(take_each(decoder, src, &mut frames).unwrap_err(), *end);
    assert!(frames.is_empty());
}

/// Takes the frames one by one.
pub(crate) fn take_each(
    decoder: &mut Decoder,
    src: &mut BytesMut,
    frames: &mut Vec<Frame>,
) -> Result<(), End> {
    loop {
        match decoder.decode(src) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return Ok(()),
            Err(error) => return Err(End::Error(error.reason(), error.offset())),
        }
    }
}

/// Takes all frames at once.
pub(crate) fn take_batches(
    decoder: &mut Decoder,
    src: &mut BytesMut,
    frames: &mut Vec<Frame>,
) -> Result<(), End> {
    loop {
        match decoder.decode_batch(src) {
            Ok(batch) if batch.is_empty() => return Ok(()),
            Ok(batch) => {
                let lent: Vec<String> = batch.iter().map(|frame| format!("{frame:?}")).collect();
                let first = frames.len();
                frames.extend(batch);
                let owned: Vec<String> =
                    frames[first..].iter().map(|frame| format!("{frame:?}")).collect();
                assert_eq!(lent, owned);
            }
            Err(error) => return Err(End::Error(error.reason(), error.offset())),
        }
    }
}

/// Takes all frames at once out of memory that is not theirs, which is overwritten afterwards.
pub(crate) fn take_lent(
    decoder: &mut Decoder,
    src: &mut BytesMut,
    frames: &mut Vec<Frame>,
) -> Result<(), End> {
    loop {
        let mut lent = src.to_vec();
        let outcome = decoder.decode_lent(&lent);
        lent.fill(b'?');
        match outcome {
            Ok((batch, taken)) => {
                src.advance(taken);
                if batch.is_empty() {
                    assert_eq!(taken, 0, "nothing is taken for nothing");
                    return Ok(());
                }
                frames.extend(batch);
            }
            Err(error) => return Err(End::Error(error.reason(), error.offset())),
        }
    }
}

/// What the whole input in one piece gives.
pub(crate) fn whole(config: DecoderConfig, input: &[u8]) -> Outcome {
    outcome(config, [input], take_each)
}

/// Limits that small inputs reach.
pub(crate) fn tight() -> Limits {
    Limits {
        depth: 6,
        bulk_bytes: 60,
        line_bytes: 40,
        elements: 20,
        header_digits: 20,
        frame_bytes: 220,
        tape_nodes: 40,
    }
}

/// The configurations that are worth telling apart. `selector` may be any byte.
pub(crate) fn config(selector: u8) -> DecoderConfig {
    DecoderConfig {
        protocol: if selector & 1 == 0 { Protocol::Resp3 } else { Protocol::Resp2 },
        mode: if selector & 2 == 0 { Mode::Lenient } else { Mode::Strict },
        limits: if selector & 4 == 0 { Limits::default() } else { tight() },
    }
}

/// Everything that can be done with a frame works, and agrees with itself.
pub(crate) fn decodes_whole(input: &[u8]) {
    for selector in [0, 1, 2, 4] {
        let mut decoder = Decoder::new(config(selector));
        let mut src = BytesMut::from(input);
        let mut frames = Vec::new();
        let _ = take_each(&mut decoder, &mut src, &mut frames);
        for frame in &frames {
            inspect(frame);
        }
        let consumed: usize = frames.iter().map(|frame| frame.bytes().len()).sum();
        // A push that was hoisted is part of the reply's bytes and has its own.
        assert!(consumed >= input.len() - src.len());
    }
}

fn inspect(frame: &Frame) {
    let value = frame.value();
    let copy = frame.detach();
    assert_eq!(copy, *frame);
    assert_eq!(copy.bytes(), frame.bytes());
    for part in frame.parse::<Vec<ValueRef<'_>>>().unwrap_or_default() {
        assert_eq!(part.detach().value(), part);
        assert_eq!(part.detach().bytes(), part.to_frame().bytes());
    }
    let owned = frame.to_value();
    assert_eq!(value, owned);
    assert_eq!(owned.clone(), owned);
    assert_eq!(format!("{owned:?}"), format!("{frame:?}"));
    let mut count = Count::default();
    let Ok(()) = value.visit(&mut count);
    assert_eq!(count.begun, count.ended);
    assert_eq!(frame.is_push(), value.kind() == Kind::Push);
    assert_eq!(value.is_null(), matches!(value.get(), Value::Null));
    assert!(value.offset() < frame.bytes().len());
}

/// Counts what a visit shows, and skips every second aggregate.
#[derive(Default)]
struct Count {
    scalars: usize,
    begun: usize,
    ended: usize,
}

impl Count {
    fn wish(&mut self) -> Visit {
        self.begun += 1;
        if self.begun.is_multiple_of(2) { Visit::Skip } else { Visit::Enter }
    }
}

impl Visitor<'_> for Count {
    type Error = Infallible;

    fn scalar(&mut self, value: ValueRef<'_>) -> Result<(), Infallible> {
        assert!(!matches!(value.kind(), Kind::Array | Kind::Set | Kind::Map | Kind::Push));
        self.scalars += 1;
        Ok(())
    }

    fn begin(&mut self, _: Kind, _: usize) -> Result<Visit, Infallible> {
        Ok(self.wish())
    }

    fn end(&mut self, _: Kind) -> Result<(), Infallible> {
        self.ended += 1;
        Ok(())
    }

    fn begin_attributes(&mut self) -> Result<Visit, Infallible> {
        Ok(self.wish())
    }

    fn end_attributes(&mut self) -> Result<(), Infallible> {
        self.ended += 1;
        Ok(())
    }
}

/// However the input is cut, the outcome is the same. The first bytes of
/// `data` say how.
pub(crate) fn splits_do_not_matter(data: &[u8]) {
    let Some((&[selector, step], input)) = data.split_first_chunk::<2>() else { return };
    let config = config(selector);
    let expected = whole(config, input);
    let mut sizes = Sizes { state: u32::from(step), rest: input };
    assert_eq!(outcome(config, &mut sizes, take_each), expected);
    let mut sizes = Sizes { state: u32::from(step), rest: input };
    assert_eq!(outcome(config, &mut sizes, take_batches), expected);
    assert_eq!(outcome(config, [input], take_batches), expected);
    let mut sizes = Sizes { state: u32::from(step), rest: input };
    assert_eq!(outcome(config, &mut sizes, take_lent), expected);
}

/// Pieces of an input whose sizes follow from a seed; mostly short ones.
struct Sizes<'a> {
    state: u32,
    rest: &'a [u8],
}

impl<'a> Iterator for &mut Sizes<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let longest = match self.state >> 30 {
            0 => 1,
            1 => 3,
            2 => 17,
            // Quadratic work in the tests themselves is not what is tested.
            _ => self.rest.len() / 2 + 1,
        };
        let size = ((self.state >> 8) as usize % longest + 1).min(self.rest.len());
        let (piece, rest) = self.rest.split_at(size);
        self.rest = rest;
        Some(piece)
    }
}

/// What was decoded can be encoded, and means the same afterwards.
pub(crate) fn round_trips(input: &[u8]) {
    let mut src = BytesMut::from(input);
    let mut frames = Vec::new();
    let _ = take_each(&mut Decoder::default(), &mut src, &mut frames);
    for frame in frames {
        let value = frame.to_value();
        round_trip(&value, Protocol::Resp3, |back| assert_eq!(back, &value));
        // RESP2 has no form for most types, but what it has is stable.
        round_trip(&value, Protocol::Resp2, |once| {
            round_trip(once, Protocol::Resp2, |twice| assert_eq!(once, twice));
        });
    }
}

fn round_trip(value: &OwnedValue, protocol: Protocol, check: impl FnOnce(&OwnedValue)) {
    let mut wire = BytesMut::new();
    if encode::reply(&mut wire, value, protocol).is_err() {
        // Only a bulk error with a line break has no form, and only in RESP2.
        assert_eq!(protocol, Protocol::Resp2);
        assert!(wire.is_empty());
        return;
    }
    let config = DecoderConfig { protocol, ..DecoderConfig::default() };
    let back = Decoder::new(config).decode(&mut wire).unwrap().unwrap();
    assert!(wire.is_empty());
    check(&back.to_value());
}

/// Every type can be asked of every value, and the answers agree.
pub(crate) fn extracts(input: &[u8]) {
    let mut src = BytesMut::from(input);
    let mut frames = Vec::new();
    let _ = take_each(&mut Decoder::default(), &mut src, &mut frames);
    for frame in &frames {
        extract_scalars(frame.value());
        extract_aggregates(frame.value());
        if let Ok(items) = frame.parse::<Vec<ValueRef<'_>>>() {
            items.into_iter().take(100).for_each(extract_scalars);
        }
    }
}

fn extract_scalars(value: ValueRef<'_>) {
    let wide = value.parse::<i128>();
    assert_eq!(value.parse::<i64>().ok(), wide.ok().and_then(|n| n.try_into().ok()));
    assert_eq!(value.parse::<u8>().ok(), wide.ok().and_then(|n| n.try_into().ok()));
    assert_eq!(value.parse::<u64>().ok(), wide.ok().and_then(|n| n.try_into().ok()));
    let text = value.parse::<Bytes>();
    assert_eq!(value.parse::<Cow<'_, [u8]>>().as_deref().ok(), text.as_deref().ok());
    if let Ok(part) = value.parse::<&[u8]>() {
        assert_eq!(Some(part), text.as_deref().ok());
    }
    let string = text.as_ref().ok().and_then(|text| std::str::from_utf8(text).ok());
    assert_eq!(value.parse::<String>().ok().as_deref(), string);
    if let Value::Double(number) = value.get() {
        assert_eq!(value.parse::<f64>().is_ok(), number.to_f64().is_ok());
    }
    if value.error().is_some() {
        assert!(value.parse::<()>().is_err() && value.parse::<Option<bool>>().is_err());
        assert!(text.is_err() && wide.is_err());
    }
    if value.is_null() {
        assert_eq!(value.parse::<Option<Vec<u8>>>(), Ok(None));
    }
}

fn extract_aggregates(value: ValueRef<'_>) {
    let entries = match value.get() {
        Value::Array(items) | Value::Set(items) | Value::Push(items) => Some(items.len()),
        Value::Map(entries) => Some(entries.len() * 2),
        _ => None,
    };
    let items = value.parse::<Vec<ValueRef<'_>>>();
    assert_eq!(items.as_ref().map(Vec::len).ok(), entries);
    assert_eq!(value.parse::<Vec<OwnedValue>>().map(|items| items.len()).ok(), entries);
    if let (Value::Map(entries), Ok(pairs)) =
        (value.get(), value.parse::<Vec<(OwnedValue, OwnedValue)>>())
    {
        assert_eq!(entries.len(), pairs.len());
    }
    let text = value.parse::<Vec<Bytes>>();
    if let Ok(set) = value.parse::<BTreeSet<Bytes>>() {
        let expected: BTreeSet<Bytes> = text.clone().unwrap().into_iter().collect();
        assert_eq!(set, expected);
        assert_eq!(value.parse::<HashSet<Bytes>>().map(|set| set.len()), Ok(set.len()));
    }
    let sorted = value.parse::<BTreeMap<Bytes, Bytes>>();
    let hashed = value.parse::<HashMap<Bytes, Bytes>>();
    assert_eq!(sorted.as_ref().map(BTreeMap::len), hashed.as_ref().map(HashMap::len));
    let _ = value.parse::<(i64, ValueRef<'_>)>();
    let _ = value.parse::<Vec<Vec<Option<f64>>>>();
    let _ = value.parse::<(String, Option<u8>, Vec<u8>)>();
}

/// The decoder sees what a naive one sees. The first byte of `data` chooses the
/// configuration, and the second one nothing, so that the input is of the same
/// form as for [`splits_do_not_matter`].
pub(crate) fn agrees_with_the_oracle(data: &[u8]) {
    let Some((&[selector, _], input)) = data.split_first_chunk::<2>() else { return };
    let mut config = config(selector);
    // The oracle recurses.
    config.limits.depth = config.limits.depth.min(64);
    assert_eq!(whole(config, input), oracle::outcome(config, input));
}

/// All of the above, on input that is nearly always RESP.
pub(crate) fn generated_streams_hold(data: &[u8]) {
    let Some((&control, entropy)) = data.split_first_chunk::<2>() else { return };
    let wire = generate::stream(entropy);
    decodes_whole(&wire);
    round_trips(&wire);
    extracts(&wire);
    for wire in [wire, generate::broken_stream(entropy)] {
        let controlled = [&control, &wire[..]].concat();
        splits_do_not_matter(&controlled);
        agrees_with_the_oracle(&controlled);
    }
}
