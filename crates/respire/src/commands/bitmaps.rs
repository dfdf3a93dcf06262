//! Strings as arrays of bits.

use super::Executor;
use crate::command::{Args, Command, ToArg};

/// Commands on [bitmaps](https://valkey.io/commands/#bitmap). Bit 0 is the highest of the first byte. Each takes constant time
/// unless it says otherwise.
pub trait BitmapCommands: Executor {
    /// `BITCOUNT`: how many bits are set. O(length)
    fn bitcount(self, key: impl ToArg) -> Self::Answer<u64> {
        self.run(Command::new("BITCOUNT").arg(key).typed())
    }

    /// `BITCOUNT`: how many bits of a range are set. O(length)
    fn bitcount_range(self, key: impl ToArg, range: BitRange) -> Self::Answer<u64> {
        self.run(Command::new("BITCOUNT").arg(key).arg(range).typed())
    }

    /// `BITFIELD`: reads and writes integers of any width. The answer to each operation; `None` where a write would have
    /// overflown and is to fail then. O(operations)
    fn bitfield(self, key: impl ToArg, operations: Bitfield) -> Self::Answer<Vec<Option<i64>>> {
        self.run(Command::new("BITFIELD").arg(key).arg(operations).typed())
    }

    /// `BITOP`: combines values bit by bit into another one. Its length in bytes. `Not` takes one key. O(length)
    fn bitop(
        self,
        operation: BitwiseOperation,
        to: impl ToArg,
        keys: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<u64> {
        self.run(Command::new("BITOP").arg(operation).arg(to).args(keys).typed())
    }

    /// `BITPOS`: the first bit that is set, or the first that is not. Of a value whose bits are all set, the first bit not set is
    /// the one behind its end. O(length)
    fn bitpos(self, key: impl ToArg, bit: bool) -> Self::Answer<Option<u64>> {
        self.run(position(Command::new("BITPOS").arg(key).arg(bit)))
    }

    /// `BITPOS`: the first bit of a range that is set, or the first that is not. O(length)
    fn bitpos_range(
        self,
        key: impl ToArg,
        bit: bool,
        range: BitRange,
    ) -> Self::Answer<Option<u64>> {
        self.run(position(Command::new("BITPOS").arg(key).arg(bit).arg(range)))
    }

    /// `GETBIT`: one bit, which is not set behind the end.
    fn getbit(self, key: impl ToArg, offset: u64) -> Self::Answer<bool> {
        self.run(Command::new("GETBIT").arg(key).arg(offset).typed())
    }

    /// `SETBIT`: sets one bit. What it was before.
    fn setbit(self, key: impl ToArg, offset: u64, bit: bool) -> Self::Answer<bool> {
        self.run(Command::new("SETBIT").arg(key).arg(offset).arg(bit).typed())
    }
}

impl<E: Executor> BitmapCommands for E {}

/// -1 says that there is none.
fn position(command: Command) -> super::TypedCommand<Option<u64>> {
    super::TypedCommand::new(command, |reply| Ok(u64::try_from(reply.parse::<i64>()?).ok()))
}

/// A part of a bitmap; both ends are included, and negative ones count from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitRange {
    /// From one byte to another.
    Bytes(i64, i64),
    /// From one bit to another. Since 7.0.
    Bits(i64, i64),
}

impl ToArg for BitRange {
    fn add_to(&self, args: &mut Args) {
        match *self {
            Self::Bytes(start, end) => (start, end).add_to(args),
            Self::Bits(start, end) => ((start, end), "BIT").add_to(args),
        }
    }
}

/// How [`bitop`](BitmapCommands::bitop) combines bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitwiseOperation {
    /// Set where all are.
    And,
    /// Set where one is.
    Or,
    /// Set where an odd number is.
    Xor,
    /// Set where the only one is not.
    Not,
}

impl ToArg for BitwiseOperation {
    fn add_to(&self, args: &mut Args) {
        match self {
            Self::And => args.push(b"AND"),
            Self::Or => args.push(b"OR"),
            Self::Xor => args.push(b"XOR"),
            Self::Not => args.push(b"NOT"),
        }
    }
}

/// Operations on integers of any width in a bitmap, carried out in this order.
///
/// ```no_run
/// use respire::commands::*;
///
/// # async fn example(client: &respire::Client) -> Result<(), respire::Error> {
/// let (u4, i8) = (BitInteger::unsigned(4), BitInteger::signed(8));
/// let operations = Bitfield::new().set(u4, 0, 9).get(i8, 4).overflow(Overflow::Saturate).incrby(u4, 0, 100);
/// let answers = client.bitfield("bits", operations).await?;
/// assert_eq!(answers, [Some(0), Some(0), Some(15)]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Bitfield {
    args: Args,
}

impl Bitfield {
    /// No operation.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the integer that starts at a bit.
    pub fn get(self, integer: BitInteger, offset: u64) -> Self {
        self.with(("GET", (integer, offset)))
    }

    /// Writes the integer that starts at a bit. Answered with what it was.
    pub fn set(self, integer: BitInteger, offset: u64, value: i64) -> Self {
        self.with((("SET", integer), (offset, value)))
    }

    /// Adds to the integer that starts at a bit. Answered with what it is then.
    pub fn incrby(self, integer: BitInteger, offset: u64, by: i64) -> Self {
        self.with((("INCRBY", integer), (offset, by)))
    }

    /// What the writes that follow do when they overflow; before, they wrap.
    pub fn overflow(self, overflow: Overflow) -> Self {
        self.with(("OVERFLOW", overflow))
    }

    fn with(mut self, operation: impl ToArg) -> Self {
        operation.add_to(&mut self.args);
        self
    }
}

impl ToArg for Bitfield {
    fn add_to(&self, args: &mut Args) {
        args.append(&self.args);
    }
}

/// The width of an integer, and whether it has a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitInteger {
    signed: bool,
    bits: u8,
}

impl BitInteger {
    /// With a sign; 1 to 64 bits.
    pub const fn signed(bits: u8) -> Self {
        Self { signed: true, bits }
    }

    /// Without a sign; 1 to 63 bits.
    pub const fn unsigned(bits: u8) -> Self {
        Self { signed: false, bits }
    }
}

impl ToArg for BitInteger {
    fn add_to(&self, args: &mut Args) {
        let sign = if self.signed { 'i' } else { 'u' };
        args.push(format!("{sign}{}", self.bits).as_bytes());
    }
}

/// What becomes of a number that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Its lower bits.
    Wrap,
    /// The nearest number that fits.
    Saturate,
    /// Nothing: the write is not carried out.
    Fail,
}

impl ToArg for Overflow {
    fn add_to(&self, args: &mut Args) {
        match self {
            Self::Wrap => args.push(b"WRAP"),
            Self::Saturate => args.push(b"SAT"),
            Self::Fail => args.push(b"FAIL"),
        }
    }
}
