use std::collections::HashMap;
use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use redis::{Cmd, FromRedisValue, Value, ValueCodec};
use tokio_util::codec::Decoder as _;

use super::amount::{self, Amount};
use super::received::Received;
use super::{COMMAND, COMMANDS, Contestant, Side};
use crate::codec::buffers::Buffer;
use crate::codec::workload::{Target, Task, Workload};
use crate::pass::{Pass, Work};

pub(super) fn contestants(workload: &Workload) -> Vec<Contestant> {
    let buffer = &workload.buffer;
    let pass: Box<dyn Pass> = match workload.task {
        // It has nothing cheaper than a tree of values.
        Task::Framing | Task::Owned => Box::new(Typed::<Value>::new(buffer)),
        Task::Handles => return Vec::new(),
        Task::Typed(Target::ByteStrings) => Box::new(Typed::<Vec<Bytes>>::new(buffer)),
        Task::Typed(Target::Integer) => Box::new(Typed::<i64>::new(buffer)),
        Task::Typed(Target::Integers) => Box::new(Typed::<Vec<i64>>::new(buffer)),
        Task::Typed(Target::ByteMap) => Box::new(Typed::<HashMap<Bytes, Bytes>>::new(buffer)),
        Task::Typed(Target::TextMap) => Box::new(Typed::<HashMap<String, String>>::new(buffer)),
        Task::Feed(chunk) => Box::new(Feed::new(buffer, chunk)),
        Task::Encode => {
            return vec![
                Contestant::new(Side::Redis, Encode::default()),
                Contestant::new(Side::RedisFresh, EncodeFresh::default()),
            ];
        }
    };
    vec![Contestant { side: Side::Redis, pass }]
}

/// Reads every reply with the codec of its asynchronous connections and turns
/// it into a `T`, consuming it.
struct Typed<T> {
    received: Received,
    codec: ValueCodec,
    target: PhantomData<T>,
}

impl<T: FromRedisValue + Amount> Typed<T> {
    fn new(buffer: &Arc<Buffer>) -> Self {
        let (received, codec) = (Received::new(buffer), ValueCodec::default());
        Self { received, codec, target: PhantomData }
    }

    fn next(&mut self) -> Result<Option<T>> {
        let value = self.codec.decode(&mut self.received.buffer)?;
        Ok(value.map(T::from_redis_value).transpose()?)
    }
}

impl<T: FromRedisValue + Amount> Work for Typed<T> {
    fn refill(&mut self) -> Result<()> {
        self.received.refill();
        Ok(())
    }

    fn run(&mut self) -> Result<u64> {
        let mut replies = 0;
        while let Some(value) = self.next()? {
            black_box(value);
            replies += 1;
        }
        Ok(replies)
    }

    fn digest(&mut self) -> Result<u64> {
        let mut sum = 0u64;
        while let Some(value) = self.next()? {
            sum = sum.wrapping_add(value.amount());
        }
        Ok(sum)
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
                Value::Array(items) | Value::Set(items) => open.extend(items),
                Value::Map(pairs) => {
                    open.extend(pairs.iter().flat_map(|(key, value)| [key, value]));
                }
                _ => {}
            }
        }
        count
    }
}

/// Values from reads of a fixed size.
struct Feed {
    reader: Typed<Value>,
    source: Arc<Buffer>,
    chunk: usize,
}

impl Feed {
    fn new(source: &Arc<Buffer>, chunk: usize) -> Self {
        Self { reader: Typed::new(source), source: Arc::clone(source), chunk }
    }
}

impl Work for Feed {
    fn run(&mut self) -> Result<u64> {
        let mut replies = 0;
        for chunk in self.source.wire.chunks(self.chunk) {
            self.reader.received.buffer.extend_from_slice(chunk);
            while let Some(value) = self.reader.next()? {
                black_box(value);
                replies += 1;
            }
        }
        Ok(replies)
    }

    fn digest(&mut self) -> Result<u64> {
        self.reader.received.refill();
        self.reader.digest()
    }
}

/// A command object that is cleared and filled again, which spares it its
/// allocations, and written to a buffer.
#[derive(Default)]
struct Encode {
    command: Cmd,
    out: Vec<u8>,
}

impl Work for Encode {
    fn run(&mut self) -> Result<u64> {
        for _ in 0..COMMANDS {
            self.command.clear();
            for arg in black_box(&COMMAND) {
                self.command.arg(*arg);
            }
            self.out.clear();
            self.command.write_packed_command(&mut self.out);
            black_box(&self.out);
        }
        Ok(COMMANDS)
    }

    fn digest(&mut self) -> Result<u64> {
        self.run()?;
        Ok(amount::bytes(&self.out))
    }
}

/// A new command object each time, as its documentation builds commands.
#[derive(Default)]
struct EncodeFresh(Vec<u8>);

impl Work for EncodeFresh {
    fn run(&mut self) -> Result<u64> {
        for _ in 0..COMMANDS {
            let mut command = Cmd::new();
            for arg in black_box(&COMMAND) {
                command.arg(*arg);
            }
            self.0.clear();
            command.write_packed_command(&mut self.0);
            black_box(&self.0);
        }
        Ok(COMMANDS)
    }

    fn digest(&mut self) -> Result<u64> {
        self.run()?;
        Ok(amount::bytes(&self.0))
    }
}
