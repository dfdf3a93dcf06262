//! The replies that the sides read.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use respire_codec::Decoder;

/// Replies as a server sends them, one after the other.
#[derive(Debug)]
pub struct Buffer {
    /// The name in tables: `a`, `COMMAND`.
    pub name: String,
    /// What is in it, in words.
    pub contents: String,
    /// The bytes.
    pub wire: Bytes,
    /// Where each reply lies.
    pub replies: Vec<Range<usize>>,
}

impl Buffer {
    /// # Errors
    ///
    /// When `wire` is anything but whole replies.
    pub fn new(
        name: impl Into<String>,
        contents: impl Into<String>,
        wire: Vec<u8>,
    ) -> Result<Arc<Self>> {
        let name = name.into();
        let replies = replies(&wire).with_context(|| format!("buffer {name}"))?;
        Ok(Arc::new(Self { name, contents: contents.into(), wire: Bytes::from(wire), replies }))
    }

    /// Each reply by itself.
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.replies.iter().map(|range| self.wire.get(range.clone()).unwrap_or_default())
    }
}

fn replies(wire: &[u8]) -> Result<Vec<Range<usize>>> {
    let mut received = BytesMut::from(wire);
    let batch = Decoder::default().decode_batch(&mut received)?;
    let mut start = 0;
    let ranges = batch.iter().map(|frame| {
        let range = start..start + frame.bytes().len();
        start = range.end;
        range
    });
    let ranges: Vec<_> = ranges.collect();
    ensure!(received.is_empty() && start == wire.len(), "ends in the middle of a reply");
    Ok(ranges)
}

/// The buffers (a) to (f) and the map that is read into maps.
///
/// # Errors
///
/// When one of them is no RESP.
pub fn made() -> Result<Vec<Arc<Buffer>>> {
    let integers = integers(100_000);
    let lines: String = integers.iter().fold(String::new(), |mut lines, integer| {
        let _ = write!(lines, ":{integer}\r\n");
        lines
    });
    Ok(vec![
        Buffer::new("a", "10,000 bulk strings of 32 bytes", bulks(10_000, 32))?,
        Buffer::new("b", "10,000 times `+OK`", b"+OK\r\n".repeat(10_000))?,
        Buffer::new("c", "1,000 arrays of 5 bulk strings of 86 to 94 bytes", arrays(1000))?,
        Buffer::new("d", "one bulk string of 64 MiB", bulks(1, 64 << 20))?,
        Buffer::new("e", "100,000 integers of 1 to 12 digits", lines.clone().into_bytes())?,
        Buffer::new("e2", "one array of the integers of (e)", {
            format!("*{}\r\n{lines}", integers.len()).into_bytes()
        })?,
        Buffer::new("f", "1,000 nested maps of 46 values of all kinds", NESTED.repeat(1000))?,
        Buffer::new("m", "1,000 maps of 10 fields, as HGETALL answers", maps(1000))?,
        Buffer::new("s", "one array of 250 bulk strings of 32 bytes", array_of_bulks(250))?,
        Buffer::new("t", "one array of 2,500 bulk strings of 32 bytes", array_of_bulks(2500))?,
    ])
}

/// Payloads differ, so that no branch predictor learns them by heart; the seed
/// does not, so that all runs measure the same bytes.
fn rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(1)
}

fn push_bulk(wire: &mut Vec<u8>, payload: &[u8]) {
    wire.extend_from_slice(format!("${}\r\n", payload.len()).as_bytes());
    wire.extend_from_slice(payload);
    wire.extend_from_slice(b"\r\n");
}

/// Random up to the length of a page, and then the same again.
fn text(rng: &mut ChaCha8Rng, length: usize) -> Vec<u8> {
    let page: Vec<u8> = (0..length.min(4096)).map(|_| rng.random_range(b'a'..=b'z')).collect();
    page.into_iter().cycle().take(length).collect()
}

fn bulks(count: usize, length: usize) -> Vec<u8> {
    let (mut rng, mut wire) = (rng(), Vec::new());
    for _ in 0..count {
        push_bulk(&mut wire, &text(&mut rng, length));
    }
    wire
}

fn array_of_bulks(count: usize) -> Vec<u8> {
    [format!("*{count}\r\n").into_bytes(), bulks(count, 32)].concat()
}

fn arrays(count: usize) -> Vec<u8> {
    let (mut rng, mut wire) = (rng(), Vec::new());
    for _ in 0..count {
        wire.extend_from_slice(b"*5\r\n");
        for _ in 0..5 {
            let length = rng.random_range(86..=94);
            push_bulk(&mut wire, &text(&mut rng, length));
        }
    }
    wire
}

/// Every width is as likely as any other.
fn integers(count: usize) -> Vec<u64> {
    let mut rng = rng();
    let mut integer = || {
        let digits = rng.random_range(1..=12u32);
        rng.random_range(0..10u64.pow(digits))
    };
    (0..count).map(|_| integer()).collect()
}

fn maps(count: usize) -> Vec<u8> {
    const FIELDS: [&str; 10] = [
        "id", "name", "email", "created", "updated", "country", "language", "visits", "session",
        "referrer",
    ];
    let (mut rng, mut wire) = (rng(), Vec::new());
    for _ in 0..count {
        wire.extend_from_slice(b"%10\r\n");
        for field in FIELDS {
            push_bulk(&mut wire, field.as_bytes());
            let length = rng.random_range(4..=40);
            push_bulk(&mut wire, &text(&mut rng, length));
        }
    }
    wire
}

/// Keys are all different and no set holds an aggregate: one of the peers keeps
/// maps and sets in hash tables.
const NESTED: &[u8] = b"%6\r\n\
    $6\r\nserver\r\n%4\r\n\
        $7\r\nversion\r\n$5\r\n8.0.1\r\n\
        $4\r\nmode\r\n+standalone\r\n\
        $6\r\nuptime\r\n:1234567\r\n\
        $4\r\nload\r\n,0.25\r\n\
    $7\r\nclients\r\n*2\r\n\
        %3\r\n$2\r\nid\r\n:17\r\n$4\r\nname\r\n$8\r\nworker-1\r\n$7\r\nblocked\r\n#f\r\n\
        %3\r\n$2\r\nid\r\n:18\r\n$4\r\nname\r\n$8\r\nworker-2\r\n$7\r\nblocked\r\n#t\r\n\
    $5\r\nflags\r\n~3\r\n+readonly\r\n+fast\r\n+loading\r\n\
    $6\r\nmaster\r\n_\r\n\
    $5\r\nslots\r\n*2\r\n\
        *3\r\n:0\r\n:8191\r\n$9\r\n127.0.0.1\r\n\
        *3\r\n:8192\r\n:16383\r\n$9\r\n127.0.0.2\r\n\
    $4\r\nnote\r\n=15\r\ntxt:Some string\r\n";

/// Sizes in bytes of the inputs that are fed byte by byte.
pub const FLAT_SIZES: [usize; 3] = [30_000, 300_000, 3_000_000];

/// One reply of about `size` bytes of each shape that a decoder may be tempted
/// to read more than once.
///
/// # Errors
///
/// When one of them is no RESP.
pub fn flat(size: usize) -> Result<Vec<Arc<Buffer>>> {
    let pair = || [bulks(1, 16), bulks(1, 16)].concat();
    let many = |unit: &[u8]| (size / unit.len(), unit.repeat(size / unit.len()));
    let (bulk_count, bulk_units) = many(&bulks(1, 32));
    let (nest_count, nest_units) = many(b"*2\r\n:12345\r\n$5\r\nvalue\r\n");
    let (pair_count, pair_units) = many(&pair());
    let (_, chunk_units) = many(&[b";32\r\n".to_vec(), vec![b'x'; 32], b"\r\n".to_vec()].concat());
    let shapes = [
        ("line", [b"+".to_vec(), vec![b'x'; size], b"\r\n".to_vec()].concat()),
        ("bulk string", bulks(1, size)),
        ("array", [format!("*{bulk_count}\r\n").into_bytes(), bulk_units.clone()].concat()),
        ("array of arrays", [format!("*{nest_count}\r\n").into_bytes(), nest_units].concat()),
        (
            "attribute",
            [format!("|{pair_count}\r\n").into_bytes(), pair_units, b"+OK\r\n".to_vec()].concat(),
        ),
        ("streamed string", [b"$?\r\n".to_vec(), chunk_units, b";0\r\n".to_vec()].concat()),
        ("streamed array", [b"*?\r\n".to_vec(), bulk_units, b".\r\n".to_vec()].concat()),
    ];
    shapes
        .into_iter()
        .map(|(shape, wire)| Buffer::new(shape, format!("one {shape} of {size} bytes"), wire))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use respire_codec::{Kind, ValueRef, Visit, Visitor};

    use super::*;

    #[test]
    fn buffers_hold_as_many_replies_as_they_say() {
        let counts: Vec<_> = made()
            .unwrap()
            .iter()
            .map(|buffer| (buffer.name.clone(), buffer.replies.len()))
            .collect();
        let expected = [
            ("a", 10_000),
            ("b", 10_000),
            ("c", 1000),
            ("d", 1),
            ("e", 100_000),
            ("e2", 1),
            ("f", 1000),
            ("m", 1000),
            ("s", 1),
            ("t", 1),
        ];
        assert_eq!(counts, expected.map(|(name, count)| (name.to_owned(), count)));
    }

    #[test]
    fn flat_buffers_are_one_reply_of_about_their_size() {
        for buffer in flat(30_000).unwrap() {
            assert_eq!(buffer.replies.len(), 1, "{}", buffer.name);
            assert!((29_900..30_100).contains(&buffer.wire.len()), "{}", buffer.name);
        }
    }

    #[test]
    fn the_nested_map_has_as_many_values_as_its_description_says() {
        struct Count(usize);
        impl<'a> Visitor<'a> for Count {
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
        let mut count = Count(0);
        let frame = Decoder::default().decode(&mut BytesMut::from(NESTED)).unwrap().unwrap();
        frame.value().visit(&mut count).unwrap();
        assert_eq!(count.0, 46);
    }

    #[test]
    fn half_a_reply_makes_no_buffer() {
        assert!(Buffer::new("x", "half a reply", b"$5\r\nhal".to_vec()).is_err());
    }
}
