use std::collections::HashMap;
use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::Arc;

use anyhow::Result;
use bytes::BytesMut;
use rustis::resp::bench_support::{
    BenchDecoder, BenchTape, bench_decode_to, bench_encode_command, bench_parse_only,
    bench_tape_footprint,
};
use rustis::resp::{BulkString, Command, RefBulkString, Value, cmd};
use serde::de::{DeserializeOwned, IgnoredAny};

use super::amount::{self, Amount};
use super::{COMMAND, COMMANDS, Contestant, Side};
use crate::codec::buffers::Buffer;
use crate::codec::workload::{Target, Task, Workload};
use crate::pass::{Difference, Pass, Work};

pub(super) fn contestants(workload: &Workload) -> Vec<Contestant> {
    let buffer = &workload.buffer;
    let one = |pass: Box<dyn Pass>| vec![Contestant { side: Side::Rustis, pass }];
    match workload.task {
        Task::Framing => one(Box::new(Framing::new(buffer))),
        Task::Handles => one(Box::new(Split::new(buffer))),
        Task::Owned => deserialized::<Value>(buffer),
        Task::Typed(Target::ByteStrings) => deserialized::<Vec<BulkString>>(buffer),
        Task::Typed(Target::Integer) => deserialized::<i64>(buffer),
        Task::Typed(Target::Integers) => deserialized::<Vec<i64>>(buffer),
        Task::Typed(Target::ByteMap) => deserialized::<HashMap<BulkString, BulkString>>(buffer),
        Task::Typed(Target::TextMap) => deserialized::<HashMap<String, String>>(buffer),
        Task::Feed(chunk) => one(Box::new(Feed::new(buffer, chunk))),
        Task::Encode => one(Box::<Encode>::default()),
    }
}

/// What the client pays to read a reply as `T`.
///
/// The only way in from outside copies the reply and allocates a tape for it
/// first. Reading the reply as something that is ignored costs the same copy
/// and tape and takes a constant time beyond; the difference is what `T` costs.
/// To it comes the frame that the client's connection would have split off.
fn deserialized<T: DeserializeOwned + Amount + 'static>(buffer: &Arc<Buffer>) -> Vec<Contestant> {
    let with = || Box::new(Shim::<T>(Arc::clone(buffer), PhantomData));
    let without = Box::new(Shim::<IgnoredAny>(Arc::clone(buffer), PhantomData));
    let real = Difference { base: Box::new(Split::new(buffer)), with: with(), without };
    vec![Contestant::new(Side::Rustis, real), Contestant { side: Side::RustisShim, pass: with() }]
}

/// Parses frame after frame with one tape for all. Where a frame ends is known
/// in advance, because the shim does not tell; that is in this side's favour.
struct Framing {
    source: Arc<Buffer>,
    tape: BenchTape,
}

impl Framing {
    fn new(source: &Arc<Buffer>) -> Self {
        Self { source: Arc::clone(source), tape: BenchTape::new() }
    }
}

impl Work for Framing {
    fn run(&mut self) -> Result<u64> {
        let mut frames = 0;
        for slice in self.source.slices() {
            bench_parse_only(slice, &mut self.tape);
            frames += 1;
        }
        Ok(frames)
    }

    fn digest(&mut self) -> Result<u64> {
        let mut values = 0;
        for slice in self.source.slices() {
            let (_, tape_bytes) = bench_tape_footprint(slice);
            let value = bench_decode_to::<Value>(slice)?.amount();
            anyhow::ensure!(tape_bytes == 0 || tape_bytes as u64 >= 8 * value, "a short tape");
            values += value;
        }
        Ok(values)
    }
}

/// Takes frame after frame off the receive buffer, each with a handle of its
/// own, as the client's connection does.
struct Split {
    source: Arc<Buffer>,
    /// The input with one more frame in front. Feeding decodes a frame at once,
    /// so the first one is gone before the clock starts.
    fed: Vec<u8>,
    decoder: BenchDecoder,
}

impl Split {
    fn new(source: &Arc<Buffer>) -> Self {
        let fed = [b"+OK\r\n", &source.wire[..]].concat();
        Self { source: Arc::clone(source), fed, decoder: BenchDecoder::new() }
    }
}

impl Work for Split {
    fn refill(&mut self) -> Result<()> {
        self.decoder.feed(&self.fed)?;
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let mut frames = 0;
        for _ in 0..self.source.replies.len() {
            black_box(self.decoder.feed(&[])?);
            frames += 1;
        }
        Ok(frames)
    }

    fn digest(&mut self) -> Result<u64> {
        self.run()?;
        Framing::new(&self.source).digest()
    }
}

/// Reads every reply as a `T`, with a copy and a tape of its own.
struct Shim<T>(Arc<Buffer>, PhantomData<T>);

impl<T: DeserializeOwned + Amount> Work for Shim<T> {
    fn run(&mut self) -> Result<u64> {
        let mut replies = 0;
        for slice in self.0.slices() {
            black_box(bench_decode_to::<T>(slice)?);
            replies += 1;
        }
        Ok(replies)
    }

    fn digest(&mut self) -> Result<u64> {
        let mut slices = self.0.slices();
        slices.try_fold(0u64, |sum, slice| {
            Ok(sum.wrapping_add(bench_decode_to::<T>(slice)?.amount()))
        })
    }
}

impl Amount for IgnoredAny {
    fn amount(&self) -> u64 {
        0
    }
}

/// How many values there are, at every depth.
impl Amount for Value {
    fn amount(&self) -> u64 {
        let mut count = 0;
        let mut open = vec![self];
        while let Some(value) = open.pop() {
            count += 1;
            match value {
                Value::Array(items) | Value::Set(items) | Value::Push(items) => open.extend(items),
                Value::Map(pairs) => {
                    open.extend(pairs.iter().flat_map(|(key, value)| [key, value]));
                }
                _ => {}
            }
        }
        count
    }
}

/// Frames from reads of a fixed size.
struct Feed {
    source: Arc<Buffer>,
    chunk: usize,
    decoder: BenchDecoder,
}

impl Feed {
    fn new(source: &Arc<Buffer>, chunk: usize) -> Self {
        Self { source: Arc::clone(source), chunk, decoder: BenchDecoder::new() }
    }
}

impl Work for Feed {
    fn run(&mut self) -> Result<u64> {
        let mut frames = 0;
        for chunk in self.source.wire.chunks(self.chunk) {
            // An error says that the frame is not complete.
            frames += u64::from(self.decoder.feed(chunk).is_ok());
        }
        Ok(frames)
    }

    fn digest(&mut self) -> Result<u64> {
        Framing::new(&self.source).digest()
    }
}

/// Builds a command and copies it to a write buffer, as the client does.
#[derive(Default)]
struct Encode(BytesMut);

impl Work for Encode {
    fn run(&mut self) -> Result<u64> {
        for _ in 0..COMMANDS {
            let [_, key, value, option, seconds] = *black_box(&COMMAND);
            let command: Command = cmd("SET")
                .key(RefBulkString::new(key))
                .arg(RefBulkString::new(value))
                .arg(RefBulkString::new(option))
                .arg(RefBulkString::new(seconds))
                .into();
            bench_encode_command(&command, &mut self.0);
        }
        Ok(COMMANDS)
    }

    fn digest(&mut self) -> Result<u64> {
        self.run()?;
        Ok(amount::bytes(&self.0))
    }
}
