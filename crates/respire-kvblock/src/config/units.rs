//! Durations and sizes as Go programs write them.

use std::time::Duration;

/// Reads a duration as Go's `time.ParseDuration` does, such as `1m0s`, `1.5h` or `300ms`. Not below zero.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut nanoseconds = 0_u128;
    while !rest.is_empty() {
        let (number, after) = split_number(rest)?;
        let unit_end = after.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        nanoseconds = nanoseconds.checked_add(scaled(number, unit_nanoseconds(unit)?)?)?;
        rest = after;
    }
    let read = !text.is_empty();
    let nanoseconds = i64::try_from(nanoseconds).ok().filter(|_| read)?;
    Some(Duration::from_nanos(nanoseconds.unsigned_abs()))
}

fn unit_nanoseconds(unit: &str) -> Option<u64> {
    Some(match unit {
        "ns" => 1,
        // With the micro sign and with the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// Reads a size as go-humanize's `ParseBytes` does: `42`, `42 MB`, `42M`, `1,000 KiB`, `1.5g`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let plain: String = text.chars().filter(|&c| c != ',').collect();
    let (number, unit) = split_number(&plain)?;
    let bytes = scaled(number, unit_bytes(&unit.trim().to_ascii_lowercase())?)?;
    u64::try_from(bytes).ok()
}

fn unit_bytes(unit: &str) -> Option<u64> {
    let stem = unit.strip_suffix('b').unwrap_or(unit);
    let (prefix, base) = match stem.strip_suffix('i') {
        Some("") => return None,
        Some(prefix) => (prefix, 1024_u64),
        None => (stem, 1000),
    };
    let power = match prefix {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        "e" => 6,
        _ => return None,
    };
    Some(base.pow(power))
}

/// A number without a sign, in its digits before and after the point.
#[derive(Clone, Copy)]
struct Decimal<'a> {
    whole: &'a str,
    fraction: &'a str,
}

/// Splits a number off the front: digits, with or without a point among them.
fn split_number(text: &str) -> Option<(Decimal<'_>, &str)> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, rest) = text.split_at(digits(text));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let number = Decimal { whole, fraction };
    (!whole.is_empty() || !fraction.is_empty()).then_some((number, rest))
}

/// The number times `unit`, rounded down.
fn scaled(number: Decimal<'_>, unit: u64) -> Option<u128> {
    let whole = if number.whole.is_empty() { 0 } else { number.whole.parse::<u64>().ok()? };
    let mut scaled = u128::from(whole) * u128::from(unit);
    // Eighteen digits behind the point are finer than one part of the largest unit.
    let fraction = &number.fraction[..number.fraction.len().min(18)];
    if !fraction.is_empty() {
        let parts = u128::from(fraction.parse::<u64>().ok()?) * u128::from(unit);
        scaled += parts / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    }
    Some(scaled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        let cases = [
            ("0", 0),
            ("0s", 0),
            ("1m0s", 60_000_000_000),
            ("30s", 30_000_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("+5s", 5_000_000_000),
            ("1s1s", 2_000_000_000),
            ("2\u{b5}s", 2_000),
            ("2\u{3bc}s", 2_000),
            ("0.1ns", 0),
            ("9223372036854775807ns", i64::MAX.unsigned_abs()),
        ];
        for (text, nanoseconds) in cases {
            assert_eq!(duration(text), Some(Duration::from_nanos(nanoseconds)), "{text}");
        }
    }

    #[test]
    fn what_go_refuses_as_a_duration_is_refused() {
        for text in [
            "",
            "+",
            "1",
            "1 s",
            "s",
            ".s",
            "1x",
            "1d",
            "-1s",
            "1m 0s",
            "1S",
            "é",
            "9223372036854775808ns",
        ] {
            assert_eq!(duration(text), None, "{text:?}");
        }
    }

    #[test]
    fn sizes_read_as_in_go_humanize() {
        let cases = [
            ("42 MB", 42_000_000),
            ("42M", 42_000_000),
            ("42Mi", 42 << 20),
            ("42", 42),
            ("42 MiB", 42 << 20),
            ("42mb", 42_000_000),
            ("42.5MB", 42_500_000),
            ("42B", 42),
            ("2GiB", 2 << 30),
            ("1,005.03 MB", 1_005_030_000),
            ("12.5 EB", 12_500_000_000_000_000_000),
            ("1 PiB", 1 << 50),
            ("0", 0),
        ];
        for (text, size) in cases {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "MB", ".", "84 JB", "-84 MB", "84 iB", "84 Bi", "20 EB", "1 2", "1e3", "é"]
        {
            assert_eq!(bytes(text), None, "{text:?}");
        }
    }
}
