use std::collections::HashMap;
use std::hint::black_box;
use std::marker::PhantomData;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use redis_protocol::codec::Resp3;
use redis_protocol::convert::FromResp3;
use redis_protocol::resp3::decode::complete;
use redis_protocol::resp3::encode::complete::extend_encode_borrowed;
use redis_protocol::resp3::types::{BorrowedFrame, BytesFrame, OwnedFrame, Resp3Frame as _};
use tokio_util::codec::Decoder as _;

use super::amount::{self, Amount};
use super::received::Received;
use super::{COMMAND, COMMANDS, Contestant, Side};
use crate::codec::buffers::Buffer;
use crate::codec::workload::{Target, Task, Workload};
use crate::pass::{Pass, Work};

pub(super) fn contestants(workload: &Workload) -> Vec<Contestant> {
    let buffer = &workload.buffer;
    let owned =
        Contestant::new(Side::RedisProtocolOwned, Owned { source: Arc::clone(&workload.buffer) });
    let pass: Box<dyn Pass> = match workload.task {
        // The frames that the codec makes have handles; there is nothing
        // cheaper that the public API takes a stream apart with.
        Task::Framing | Task::Handles => Box::new(Typed::<BytesFrame>::new(buffer)),
        Task::Owned => {
            let codec = Contestant::new(Side::RedisProtocol, Typed::<BytesFrame>::new(buffer));
            return vec![codec, owned];
        }
        Task::Typed(Target::ByteStrings) => Box::new(Typed::<Vec<Bytes>>::new(buffer)),
        Task::Typed(Target::Integer) => Box::new(Typed::<i64>::new(buffer)),
        Task::Typed(Target::Integers) => Box::new(Typed::<Vec<i64>>::new(buffer)),
        Task::Typed(Target::ByteMap) => Box::new(Typed::<HashMap<Bytes, Bytes>>::new(buffer)),
        Task::Typed(Target::TextMap) => Box::new(Typed::<HashMap<String, String>>::new(buffer)),
        Task::Feed(chunk) => Box::new(Feed::new(buffer, chunk)),
        Task::Encode => Box::new(Encode::default()),
    };
    vec![Contestant { side: Side::RedisProtocol, pass }]
}

/// Reads every reply with the codec and turns it into a `T`, consuming it.
struct Typed<T> {
    received: Received,
    codec: Resp3,
    target: PhantomData<T>,
}

impl<T: FromResp3<BytesFrame> + Amount> Typed<T> {
    fn new(buffer: &Arc<Buffer>) -> Self {
        let (received, codec) = (Received::new(buffer), Resp3::default());
        Self { received, codec, target: PhantomData }
    }

    fn next(&mut self) -> Result<Option<T>> {
        let frame = self.codec.decode(&mut self.received.buffer)?;
        Ok(frame.map(BytesFrame::convert).transpose()?)
    }
}

impl<T: FromResp3<BytesFrame> + Amount> Work for Typed<T> {
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
macro_rules! count_values {
    ($($frame:ident)*) => {$(
        impl Amount for $frame {
            fn amount(&self) -> u64 {
                let mut count = 0;
                let mut open = vec![self];
                while let Some(frame) = open.pop() {
                    count += 1;
                    match frame {
                        $frame::Array { data, .. } | $frame::Push { data, .. } => open.extend(data),
                        $frame::Set { data, .. } => open.extend(data),
                        $frame::Map { data, .. } => {
                            open.extend(data.iter().flat_map(|(key, value)| [key, value]));
                        }
                        _ => {}
                    }
                }
                count
            }
        }
    )*};
}

count_values!(BytesFrame OwnedFrame);

/// Frames that own their strings, from a slice of bytes.
struct Owned {
    source: Arc<Buffer>,
}

impl Owned {
    fn each(&self, mut take: impl FnMut(OwnedFrame)) -> Result<u64> {
        let (mut rest, mut replies) = (&self.source.wire[..], 0);
        while !rest.is_empty() {
            let (frame, length) = complete::decode(rest)?.context("half a reply")?;
            take(frame);
            rest = rest.get(length..).context("more than there is")?;
            replies += 1;
        }
        Ok(replies)
    }
}

impl Work for Owned {
    fn run(&mut self) -> Result<u64> {
        self.each(|frame| {
            black_box(frame);
        })
    }

    fn digest(&mut self) -> Result<u64> {
        let mut values = 0;
        self.each(|frame| values += frame.amount())?;
        Ok(values)
    }
}

/// Frames from reads of a fixed size.
struct Feed {
    reader: Typed<BytesFrame>,
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
            while let Some(frame) = self.reader.next()? {
                black_box(frame);
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

/// A frame of borrowed arguments, written to a buffer.
#[derive(Default)]
struct Encode(BytesMut);

impl Work for Encode {
    fn run(&mut self) -> Result<u64> {
        for _ in 0..COMMANDS {
            let args =
                black_box(COMMAND).map(|data| BorrowedFrame::BlobString { data, attributes: None });
            let frame = BorrowedFrame::Array { data: &args, attributes: None };
            self.0.clear();
            extend_encode_borrowed(&mut self.0, &frame, false)?;
            black_box(&self.0);
        }
        Ok(COMMANDS)
    }

    fn digest(&mut self) -> Result<u64> {
        self.run()?;
        Ok(amount::bytes(&self.0))
    }
}
