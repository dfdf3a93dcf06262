//! Writing commands and replies into a buffer of the caller's.

mod reply;
mod segments;

use bytes::{BufMut, Bytes, BytesMut};

pub use reply::reply;
pub use segments::Segments;

/// Writes the header of an array: `*N\r\n`.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::encode;
///
/// let mut out = BytesMut::new();
/// encode::array_header(&mut out, 2);
/// encode::bulk_string(&mut out, b"DEL");
/// encode::bulk_string(&mut out, b"key");
/// assert_eq!(&out[..], b"*2\r\n$3\r\nDEL\r\n$3\r\nkey\r\n");
/// ```
#[inline]
pub fn array_header(dst: &mut BytesMut, elements: usize) {
    header(dst, b'*', elements);
}

/// Writes a bulk string, which is what every argument of a command is.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::encode;
///
/// let mut out = BytesMut::new();
/// encode::bulk_string(&mut out, b"any\r\nbytes");
/// assert_eq!(&out[..], b"$10\r\nany\r\nbytes\r\n");
/// ```
pub fn bulk_string(dst: &mut BytesMut, data: &[u8]) {
    blob(dst, b'$', data);
}

/// Writes a command with its name as the first of `args`.
///
/// Arguments are bytes, all of one type: names and values that are not text go together as `&[u8]`, and numbers are to be
/// written as text first. Without any argument this writes `*0`, which servers pass over without an answer.
///
/// `dst` is given room once, for an upper bound of the bytes: at most 25 an argument more than there will be, and 23 for all.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::encode;
///
/// let mut out = BytesMut::new();
/// encode::command(&mut out, &["GET", "key"]);
/// assert_eq!(&out[..], b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n");
///
/// out.clear();
/// let value: &[u8] = &[0xff, 0x00];
/// encode::command(&mut out, &[b"SET", &b"key"[..], value, b"EX", 60.to_string().as_bytes()]);
/// assert_eq!(&out[..], b"*5\r\n$3\r\nSET\r\n$3\r\nkey\r\n$2\r\n\xff\0\r\n$2\r\nEX\r\n$2\r\n60\r\n");
/// ```
pub fn command<A: AsRef<[u8]>>(dst: &mut BytesMut, args: &[A]) {
    dst.reserve(HEADER_MAX + args_max(args));
    array_header(dst, args.len());
    put_args(dst, args);
}

/// The first arguments of a command, encoded once and used often.
///
/// # Example
///
/// ```
/// use bytes::BytesMut;
/// use respire_codec::encode::Prefix;
///
/// let lookup = Prefix::new(&["HMGET", "blocks"]);
/// let mut out = BytesMut::new();
/// lookup.command(&mut out, &["7", "8"]);
/// assert_eq!(&out[..], b"*4\r\n$5\r\nHMGET\r\n$6\r\nblocks\r\n$1\r\n7\r\n$1\r\n8\r\n");
/// ```
#[derive(Clone, Debug)]
pub struct Prefix {
    args: usize,
    /// The arguments without a header in front of them.
    bytes: Bytes,
}

impl Prefix {
    /// A prefix of these arguments, the command's name first.
    pub fn new<A: AsRef<[u8]>>(args: &[A]) -> Self {
        let mut bytes = BytesMut::with_capacity(args_len(args));
        put_args(&mut bytes, args);
        Self { args: args.len(), bytes: bytes.freeze() }
    }

    /// Writes a command that starts with the prefix and ends with `args`.
    pub fn command<A: AsRef<[u8]>>(&self, dst: &mut BytesMut, args: &[A]) {
        let count = self.args + args.len();
        dst.reserve(HEADER_MAX + self.bytes.len() + args_max(args));
        array_header(dst, count);
        dst.put_slice(&self.bytes);
        put_args(dst, args);
    }
}

/// Bytes that [`command`] writes.
///
/// # Example
///
/// ```
/// use respire_codec::encode;
///
/// assert_eq!(encode::command_len(&["PING"]), "*1\r\n$4\r\nPING\r\n".len());
/// ```
pub fn command_len<A: AsRef<[u8]>>(args: &[A]) -> usize {
    header_len(args.len()) + args_len(args)
}

fn args_len<A: AsRef<[u8]>>(args: &[A]) -> usize {
    args.iter().map(|arg| bulk_string_len(arg.as_ref().len())).sum()
}

/// Bytes of a header at most: a type byte, 20 digits, a CRLF.
const HEADER_MAX: usize = 23;

/// An upper bound of [`args_len`]. It takes no counting of digits.
#[inline]
fn args_max<A: AsRef<[u8]>>(args: &[A]) -> usize {
    args.iter().map(|arg| arg.as_ref().len() + HEADER_MAX + 2).sum()
}

#[inline]
fn put_args<A: AsRef<[u8]>>(dst: &mut BytesMut, args: &[A]) {
    for arg in args {
        put_blob(dst, b'$', arg.as_ref());
    }
}

/// A string with its length in front, into space that is there already or is
/// made on the way.
#[inline]
fn put_blob(dst: &mut BytesMut, tag: u8, data: &[u8]) {
    header(dst, tag, data.len());
    // Names of commands and options are short, and a write of constant size is
    // a move, where others are a call.
    match *data {
        [a] => dst.put_slice(&[a]),
        [a, b] => dst.put_slice(&[a, b]),
        [a, b, c] => dst.put_slice(&[a, b, c]),
        [a, b, c, d] => dst.put_slice(&[a, b, c, d]),
        _ => dst.put_slice(data),
    }
    dst.put_slice(b"\r\n");
}

fn blob(dst: &mut BytesMut, tag: u8, data: &[u8]) {
    dst.reserve(bulk_string_len(data.len()));
    put_blob(dst, tag, data);
}

/// Bytes of a type byte, a number and a CRLF.
fn header_len(number: usize) -> usize {
    3 + digits(number)
}

fn bulk_string_len(length: usize) -> usize {
    header_len(length) + length + 2
}

fn digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// A type byte, a number and a CRLF.
#[inline]
fn header(dst: &mut BytesMut, tag: u8, number: usize) {
    // Nearly all counts and lengths have one or two digits.
    let digit = |place: usize| b'0' + (number / place % 10) as u8;
    match number {
        0..=9 => dst.put_slice(&[tag, digit(1), b'\r', b'\n']),
        10..=99 => dst.put_slice(&[tag, digit(10), digit(1), b'\r', b'\n']),
        _ => long_header(dst, tag, number),
    }
}

#[inline(never)]
fn long_header(dst: &mut BytesMut, tag: u8, number: usize) {
    dst.put_u8(tag);
    dst.put_slice(itoa::Buffer::new().format(number).as_bytes());
    dst.put_slice(b"\r\n");
}
