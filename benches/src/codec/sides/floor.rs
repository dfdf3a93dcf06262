use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use respire_codec::{Decoder, FrameRef};

use super::amount::Amount;
use super::{Contestant, Side};
use crate::codec::buffers::Buffer;
use crate::codec::workload::{Target, Task, Workload};
use crate::pass::Work;

pub(super) fn contestants(workload: &Workload) -> Result<Option<Contestant>> {
    let source = &workload.buffer;
    Ok(match workload.task {
        Task::Framing => Some(Contestant::new(
            Side::Memcpy,
            Copy { target: vec![0; source.wire.len()], source: Arc::clone(source) },
        )),
        Task::Typed(Target::ByteMap) => Some(Contestant::new(Side::Std, ByteMaps(parsed(source)?))),
        Task::Typed(Target::TextMap) => Some(Contestant::new(Side::Std, TextMaps(parsed(source)?))),
        _ => None,
    })
}

/// Copies the input and looks at nothing.
struct Copy {
    source: Arc<Buffer>,
    target: Vec<u8>,
}

impl Work for Copy {
    /// It knows nothing of replies and takes the word of others for them.
    fn run(&mut self) -> Result<u64> {
        self.target.copy_from_slice(black_box(&self.source.wire));
        black_box(&mut self.target);
        Ok(self.source.replies.len() as u64)
    }

    fn digest(&mut self) -> Result<u64> {
        Ok(0)
    }
}

/// The strings of one map, keys and values apart, in wire order.
type Strings = Vec<(Bytes, Bytes)>;

/// The strings of every map in the input, found before any clock starts.
fn parsed(source: &Buffer) -> Result<Vec<Strings>> {
    let batch = Decoder::default().decode_batch(&mut BytesMut::from(&source.wire[..]))?;
    Ok(batch.iter().map(FrameRef::parse).collect::<Result<_, _>>()?)
}

/// Maps of handles, from handles that are there already: what is left is to count
/// references, to hash, and to fill and drop the map.
struct ByteMaps(Vec<Strings>);

impl ByteMaps {
    fn maps(&self) -> impl Iterator<Item = HashMap<Bytes, Bytes>> {
        self.0.iter().map(|strings| {
            let mut map = HashMap::with_capacity(strings.len());
            for (key, value) in strings {
                map.insert(key.clone(), value.clone());
            }
            map
        })
    }
}

impl Work for ByteMaps {
    fn run(&mut self) -> Result<u64> {
        self.maps().for_each(|map| {
            black_box(map);
        });
        Ok(self.0.len() as u64)
    }

    fn digest(&mut self) -> Result<u64> {
        Ok(self.maps().fold(0, |sum, map| sum.wrapping_add(map.amount())))
    }
}

/// Maps of text, from slices that are there already: what is left is to check that
/// they are UTF-8, to copy them, to hash, and to fill and drop the map.
struct TextMaps(Vec<Strings>);

impl TextMaps {
    fn maps(&self) -> impl Iterator<Item = Result<HashMap<String, String>>> {
        self.0.iter().map(|strings| {
            let mut map = HashMap::with_capacity(strings.len());
            for (key, value) in strings {
                map.insert(std::str::from_utf8(key)?.into(), std::str::from_utf8(value)?.into());
            }
            Ok(map)
        })
    }
}

impl Work for TextMaps {
    fn run(&mut self) -> Result<u64> {
        for map in self.maps() {
            black_box(map?);
        }
        Ok(self.0.len() as u64)
    }

    fn digest(&mut self) -> Result<u64> {
        self.maps().try_fold(0u64, |sum, map| Ok(sum.wrapping_add(map?.amount())))
    }
}
