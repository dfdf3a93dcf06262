use std::collections::HashMap;
use std::convert::Infallible;
use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use respire_codec::encode::{self, Prefix};
use respire_codec::{Batch, Decoder, Frame, FromValue, Kind, ValueRef, Visit, Visitor};

use super::amount::{self, Amount};
use super::received::Received;
use super::{COMMAND, COMMANDS, Contestant, Side};
use crate::codec::buffers::Buffer;
use crate::codec::workload::{Target, Task, Workload};
use crate::pass::Work;

pub(super) fn contestants(workload: &Workload) -> Vec<Contestant> {
    let buffer = &workload.buffer;
    let singly = Contestant::new(Side::RespireSingly, Singly(Reader::new(buffer)));
    match workload.task {
        Task::Framing => vec![Contestant::new(Side::Respire, Framing(Reader::new(buffer))), singly],
        Task::Handles => vec![Contestant::new(Side::Respire, Handles(Reader::new(buffer))), singly],
        Task::Owned => vec![Contestant::new(Side::Respire, Owned(Reader::new(buffer)))],
        Task::Typed(target) => typed(target, buffer),
        Task::Feed(chunk) => vec![Contestant::new(Side::Respire, Feed::new(buffer, chunk))],
        Task::Encode => vec![
            Contestant::new(Side::Respire, Encode::default()),
            Contestant::new(Side::RespirePrefix, EncodePrefix::default()),
        ],
    }
}

fn typed(target: Target, buffer: &Arc<Buffer>) -> Vec<Contestant> {
    fn typed<F: Family + 'static>(side: Side, buffer: &Arc<Buffer>) -> Contestant {
        Contestant::new(side, Typed::<F>(Reader::new(buffer), PhantomData))
    }
    let owned = match target {
        Target::ByteStrings => typed::<Is<Vec<Bytes>>>,
        Target::Integer => typed::<Is<i64>>,
        Target::Integers => typed::<Is<Vec<i64>>>,
        Target::ByteMap => typed::<Is<HashMap<Bytes, Bytes>>>,
        Target::TextMap => typed::<Is<HashMap<String, String>>>,
    };
    let borrowed = match target {
        Target::ByteStrings => Some(typed::<Slices> as fn(_, _) -> _),
        Target::ByteMap => Some(typed::<SliceMap> as fn(_, _) -> _),
        Target::TextMap => Some(typed::<StrMap> as fn(_, _) -> _),
        Target::Integer | Target::Integers => None,
    };
    let borrowed = borrowed.map(|typed| typed(Side::RespireBorrowed, buffer));
    [owned(Side::Respire, buffer)].into_iter().chain(borrowed).collect()
}

/// A decoder and what it reads from.
struct Reader {
    received: Received,
    decoder: Decoder,
}

impl Reader {
    fn new(buffer: &Arc<Buffer>) -> Self {
        Self { received: Received::new(buffer), decoder: Decoder::default() }
    }

    fn batch(&mut self) -> Result<Batch> {
        Ok(self.decoder.decode_batch(&mut self.received.buffer)?)
    }

    fn frame(&mut self) -> Result<Option<Frame>> {
        Ok(self.decoder.decode(&mut self.received.buffer)?)
    }

    /// How many values are in all the frames.
    fn values(&mut self) -> Result<u64> {
        let mut values = Values(0);
        for frame in self.batch()?.iter() {
            match frame.value().visit(&mut values) {
                Ok(()) => {}
                Err(never) => match never {},
            }
        }
        Ok(values.0)
    }
}

/// Counts values at every depth.
struct Values(u64);

impl<'a> Visitor<'a> for Values {
    type Error = Infallible;

    fn scalar(&mut self, _: ValueRef<'a>) -> Result<(), Infallible> {
        self.0 += 1;
        Ok(())
    }

    fn begin(&mut self, _: Kind, _: usize) -> Result<Visit, Infallible> {
        self.0 += 1;
        Ok(Visit::Enter)
    }
}

/// All frames of the input at once, which split off the input once.
struct Framing(Reader);

impl Work for Framing {
    fn refill(&mut self) -> Result<()> {
        self.0.received.refill();
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let batch = self.0.batch()?;
        Ok(black_box(&batch).len() as u64)
    }

    fn digest(&mut self) -> Result<u64> {
        self.0.values()
    }
}

/// One frame after the other, each with a handle of its own.
struct Singly(Reader);

impl Work for Singly {
    fn refill(&mut self) -> Result<()> {
        self.0.received.refill();
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let mut frames = 0;
        while let Some(frame) = self.0.frame()? {
            black_box(&frame);
            frames += 1;
        }
        Ok(frames)
    }

    fn digest(&mut self) -> Result<u64> {
        self.0.values()
    }
}

/// All frames at once, and then a handle for each.
struct Handles(Reader);

impl Work for Handles {
    fn refill(&mut self) -> Result<()> {
        self.0.received.refill();
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let mut frames = 0;
        for frame in self.0.batch()? {
            black_box(&frame);
            frames += 1;
        }
        Ok(frames)
    }

    fn digest(&mut self) -> Result<u64> {
        self.0.values()
    }
}

/// A tree of every frame of a batch.
struct Owned(Reader);

impl Work for Owned {
    fn refill(&mut self) -> Result<()> {
        self.0.received.refill();
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let batch = self.0.batch()?;
        for frame in batch.iter() {
            black_box(frame.value().to_value());
        }
        Ok(batch.len() as u64)
    }

    fn digest(&mut self) -> Result<u64> {
        self.0.values()
    }
}

/// A type for every life that a frame can have.
trait Family {
    type Of<'a>: FromValue<'a> + Amount;
}

/// A type that borrows nothing.
struct Is<T>(PhantomData<T>);

impl<T: for<'a> FromValue<'a> + Amount> Family for Is<T> {
    type Of<'a> = T;
}

struct Slices;

impl Family for Slices {
    type Of<'a> = Vec<&'a [u8]>;
}

struct SliceMap;

impl Family for SliceMap {
    type Of<'a> = HashMap<&'a [u8], &'a [u8]>;
}

struct StrMap;

impl Family for StrMap {
    type Of<'a> = HashMap<&'a str, &'a str>;
}

/// Every frame of a batch as a value of a type.
struct Typed<F>(Reader, PhantomData<F>);

impl<F: Family> Work for Typed<F> {
    fn refill(&mut self) -> Result<()> {
        self.0.received.refill();
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let batch = self.0.batch()?;
        for frame in batch.iter() {
            black_box(frame.parse::<F::Of<'_>>()?);
        }
        Ok(batch.len() as u64)
    }

    fn digest(&mut self) -> Result<u64> {
        let batch = self.0.batch()?;
        let mut sum = 0u64;
        for frame in batch.iter() {
            sum = sum.wrapping_add(frame.parse::<F::Of<'_>>()?.amount());
        }
        Ok(sum)
    }
}

/// Frames from reads of a fixed size.
struct Feed {
    reader: Reader,
    source: Arc<Buffer>,
    chunk: usize,
}

impl Feed {
    fn new(source: &Arc<Buffer>, chunk: usize) -> Self {
        Self { reader: Reader::new(source), source: Arc::clone(source), chunk }
    }
}

impl Work for Feed {
    fn run(&mut self) -> Result<u64> {
        let mut frames = 0;
        for chunk in self.source.wire.chunks(self.chunk) {
            self.reader.received.buffer.extend_from_slice(chunk);
            while let Some(frame) = self.reader.frame()? {
                black_box(&frame);
                frames += 1;
            }
        }
        Ok(frames)
    }

    fn digest(&mut self) -> Result<u64> {
        self.reader.received.refill();
        self.reader.values()
    }
}

/// A command from slices into a write buffer.
#[derive(Default)]
struct Encode(BytesMut);

impl Work for Encode {
    fn run(&mut self) -> Result<u64> {
        for _ in 0..COMMANDS {
            self.0.clear();
            encode::command(&mut self.0, black_box(&COMMAND[..]));
            black_box(&self.0);
        }
        Ok(COMMANDS)
    }

    fn digest(&mut self) -> Result<u64> {
        self.run()?;
        Ok(amount::bytes(&self.0))
    }
}

/// As [`Encode`], with the command's name encoded once and for all.
struct EncodePrefix {
    prefix: Prefix,
    out: BytesMut,
}

impl Default for EncodePrefix {
    fn default() -> Self {
        Self { prefix: Prefix::new(&COMMAND[..1]), out: BytesMut::new() }
    }
}

impl Work for EncodePrefix {
    fn run(&mut self) -> Result<u64> {
        let args = COMMAND.get(1..).context("a command has arguments")?;
        for _ in 0..COMMANDS {
            self.out.clear();
            self.prefix.command(&mut self.out, black_box(args));
            black_box(&self.out);
        }
        Ok(COMMANDS)
    }

    fn digest(&mut self) -> Result<u64> {
        self.run()?;
        Ok(amount::bytes(&self.out))
    }
}
