//! Reading numbers, and the sixteen-bytes-at-a-time searches of the scanner.

use core::ops::Neg;

/// The sixteen bytes at `at`, the first one in the lowest place.
#[inline(always)]
pub(crate) fn load_word(buf: &[u8], at: usize) -> Option<u128> {
    let word = buf.get(at..)?.first_chunk::<16>()?;
    Some(u128::from_le_bytes(*word))
}

const LOW: u128 = u128::from_le_bytes([1; 16]);
const HIGH: u128 = LOW << 7;

/// How many bytes of `word` come before one below 0x0E, where CR and LF are; 16
/// if none is.
#[inline(always)]
pub(crate) fn bytes_before_control(word: u128) -> usize {
    // Subtracting sets the high bit of each byte below 0x0E. A borrow reaches
    // only bytes above one that is marked already, so the lowest mark is exact.
    let below = word.wrapping_sub(LOW * 0x0E) & !word & HIGH;
    (below.trailing_zeros() / 8) as usize
}

/// How many bytes of `word` come before one that, unlike all digits and like CR,
/// has the bit 0x10 clear; 16 if none does.
#[inline(always)]
pub(crate) fn bytes_before_cr_like(word: u128) -> usize {
    ((!word & (LOW * 0x10)).trailing_zeros() / 8) as usize
}

/// How many bytes of `word` come before one that is no decimal digit; 16 if all
/// are digits.
#[inline(always)]
pub(crate) fn digits_before_other(word: u128) -> usize {
    let value = word ^ (LOW * 0x30);
    // No byte carries into the next: 0x7F + 0x76 is less than 0x100.
    let other = (((value & !HIGH) + LOW * 0x76) | value) & HIGH;
    (other.trailing_zeros() / 8) as usize
}

/// The integer in `buf[start..start + length]`, which has the form of one and
/// fits; 0 if it does not.
#[inline]
pub(crate) fn number_at(buf: &[u8], start: usize, length: usize) -> i64 {
    let text = buf.get(start..start + length).unwrap_or_default();
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let digits_at = start + length - digits.len();
    match load_word(buf, digits_at) {
        Some(word) if (1..=16).contains(&digits.len()) => {
            let magnitude = decimal(word, digits.len()) as i64;
            if negative { -magnitude } else { magnitude }
        }
        _ => parse_integer(text).unwrap_or_default(),
    }
}

/// The number in the first `digits` bytes of `word`, 1 to 16 decimal digits.
#[inline]
fn decimal(word: u128, digits: usize) -> u64 {
    // Shifted so that the last digit is in the highest place, with zeros in
    // front of the first one.
    let aligned = (word & (LOW * 0x0F)) << (128 - 8 * digits);
    // Both halves, always: a few multiplications are cheaper than a branch that
    // lengths of all kinds make unpredictable.
    eight_digits(aligned as u64) * 100_000_000 + eight_digits((aligned >> 64) as u64)
}

/// The number in eight digits, the most significant in the lowest byte, each as
/// its value. Neighbours are joined three times: to pairs, to fours, to one.
#[inline]
fn eight_digits(digits: u64) -> u64 {
    const PAIRS: u64 = 0x00FF_00FF_00FF_00FF;
    const FOURS: u64 = 0x0000_FFFF_0000_FFFF;
    let pairs = (digits * 10 + (digits >> 8)) & PAIRS;
    let fours = (pairs * 100 + (pairs >> 16)) & FOURS;
    (fours * 10_000 + (fours >> 32)) & 0xFFFF_FFFF
}

/// Integer types that decimal text can be read into.
pub(crate) trait Integer: Sized + Copy {
    /// `value * 10 + digit`, or minus the digit, if that fits.
    fn append(self, digit: u8, negative: bool) -> Option<Self>;
    const ZERO: Self;
}

macro_rules! integer {
    ($($type:ty)*) => {$(
        impl Integer for $type {
            const ZERO: Self = 0;

            #[inline]
            fn append(self, digit: u8, negative: bool) -> Option<Self> {
                // A digit fits in the narrowest of the types.
                let digit = digit as $type;
                let tens = self.checked_mul(10)?;
                if negative { tens.checked_sub(digit) } else { tens.checked_add(digit) }
            }
        }
    )*};
}

integer!(i8 i16 i32 i64 i128 isize u8 u16 u32 u64 u128 usize);

/// An optional sign and at least one digit; leading zeros are allowed.
pub(crate) fn parse_integer<T: Integer>(text: &[u8]) -> Option<T> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(T::ZERO, |value, byte| match byte.wrapping_sub(b'0') {
        digit @ 0..=9 => value.append(digit, negative),
        _ => None,
    })
}

/// A number as the grammar of RESP3 writes doubles: decimal with an optional
/// fraction and exponent, or `inf`, `-inf`, `nan`, `-nan`.
pub(crate) fn parse_double(text: &[u8]) -> Option<f64> {
    match text {
        b"inf" => return Some(f64::INFINITY),
        b"-inf" => return Some(f64::NEG_INFINITY),
        b"nan" => return Some(f64::NAN),
        b"-nan" => return Some(f64::NAN.neg()),
        _ => {}
    }
    let rest = after_digits(unsigned(text))?;
    let rest = match rest {
        [b'.', fraction @ ..] => after_digits(fraction)?,
        rest => rest,
    };
    let rest = match rest {
        [b'e' | b'E', exponent @ ..] => after_digits(unsigned(exponent))?,
        rest => rest,
    };
    if !rest.is_empty() {
        return None;
    }
    core::str::from_utf8(text).ok()?.parse().ok()
}

/// An optional sign and at least one digit, of any length.
pub(crate) fn is_big_number(text: &[u8]) -> bool {
    after_digits(unsigned(text)).is_some_and(<[u8]>::is_empty)
}

fn unsigned(text: &[u8]) -> &[u8] {
    match text {
        [b'+' | b'-', rest @ ..] => rest,
        rest => rest,
    }
}

/// What follows the digits that `text` must start with.
fn after_digits(text: &[u8]) -> Option<&[u8]> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 { None } else { text.get(digits..) }
}

#[cfg(test)]
mod tests;
