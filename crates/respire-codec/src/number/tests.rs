use alloc::string::ToString;

use proptest::prelude::*;

use super::*;

/// The same question, asked one byte at a time.
fn before(word: [u8; 16], stops: impl Fn(u8) -> bool) -> usize {
    word.iter().position(|byte| stops(*byte)).unwrap_or(16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn searches_of_a_word_agree_with_a_loop(
        mut word: [u8; 16],
        low in prop::collection::vec(0u8..0x40, 0..16),
    ) {
        // Bytes near the two borders are the interesting ones.
        word[..low.len()].copy_from_slice(&low);
        let number = u128::from_le_bytes(word);
        prop_assert_eq!(bytes_before_control(number), before(word, |byte| byte < 0x0E));
        prop_assert_eq!(digits_before_other(number), before(word, |byte| !byte.is_ascii_digit()));
        prop_assert_eq!(bytes_before_cr_like(number), before(word, |byte| byte & 0x10 == 0));
    }

    #[test]
    fn integers_agree_with_the_standard_library(text in "[+-]?[0-9]{0,22}") {
        prop_assert_eq!(parse_integer::<i64>(text.as_bytes()), text.parse().ok());
        prop_assert_eq!(parse_integer::<i8>(text.as_bytes()), text.parse().ok());
        prop_assert_eq!(parse_integer::<i128>(text.as_bytes()), text.parse().ok());
    }

    #[test]
    fn every_integer_is_read(number: i64, narrow: i8, wide: u64) {
        prop_assert_eq!(parse_integer(number.to_string().as_bytes()), Some(number));
        prop_assert_eq!(parse_integer(narrow.to_string().as_bytes()), Some(narrow));
        prop_assert_eq!(parse_integer(wide.to_string().as_bytes()), Some(wide));
    }

    #[test]
    fn doubles_of_the_grammar_agree_with_the_standard_library(
        text in "[+-]?[0-9]{1,25}(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?",
    ) {
        let expected: f64 = text.parse().unwrap();
        prop_assert_eq!(parse_double(text.as_bytes()), Some(expected));
    }

    #[test]
    fn other_text_is_no_double(text in "[0-9.eE+ -]{0,6}") {
        let expected: Option<f64> = text.parse().ok();
        // The grammar is a part of what the standard library reads.
        if let Some(number) = parse_double(text.as_bytes()) {
            prop_assert_eq!(Some(number), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn numbers_in_a_buffer_agree_with_the_standard_library(
        before in "[x:0-9]{0,3}",
        number: i64,
        shift in 0u32..64,
        zeros in 0usize..20,
        sign in "[+-]?",
        after in "[x0-9\r]{0,20}",
    ) {
        let number = number >> shift;
        let zeros = "0".repeat(zeros);
        let text = if number < 0 {
            alloc::format!("-{zeros}{}", number.unsigned_abs())
        } else {
            alloc::format!("{sign}{zeros}{number}")
        };
        let expected: i64 = text.parse().unwrap();
        let buf = alloc::format!("{before}{text}{after}");
        prop_assert_eq!(number_at(buf.as_bytes(), before.len(), text.len()), expected);
    }
}

#[test]
fn a_number_of_every_length_is_read() {
    for length in 1..=18u32 {
        for digit in 1..=9u64 {
            let text = alloc::format!("{}\r\n", digit.to_string().repeat(length as usize));
            let expected: i64 = text.trim_end().parse().unwrap();
            let mut buf = text.into_bytes();
            assert_eq!(number_at(&buf, 0, length as usize), expected);
            buf.extend([b'9'; 16]);
            assert_eq!(number_at(&buf, 0, length as usize), expected);
        }
    }
    assert_eq!(number_at(b"", 5, 5), 0);
}

#[test]
fn zero_may_have_a_sign_in_any_type() {
    assert_eq!(parse_integer::<u8>(b"-0"), Some(0));
    assert_eq!(parse_integer::<u8>(b"-1"), None);
    assert_eq!(parse_integer::<u8>(b"+255"), Some(255));
    assert_eq!(parse_integer::<u8>(b"256"), None);
}

#[test]
fn every_pair_of_bytes_is_found() {
    for first in 0..=u8::MAX {
        for second in 0..=u8::MAX {
            let mut word = *b"0123456789012345";
            (word[7], word[9]) = (first, second);
            let number = u128::from_le_bytes(word);
            assert_eq!(bytes_before_control(number), before(word, |byte| byte < 0x0E));
            let digits = before(word, |byte| !byte.is_ascii_digit());
            assert_eq!(digits_before_other(number), digits);
        }
    }
}

#[test]
fn words_are_only_read_inside_of_the_buffer() {
    let text = b"123456789abcdef0";
    assert_eq!(load_word(text, 0), Some(0x3066_6564_6362_6139_3837_3635_3433_3231));
    assert_eq!(load_word(text, 1), None);
    assert_eq!(load_word(text, 17), None);
    assert_eq!(load_word(b"", usize::MAX), None);
}

#[test]
fn special_doubles_have_one_spelling_each() {
    assert_eq!(parse_double(b"inf"), Some(f64::INFINITY));
    assert_eq!(parse_double(b"-inf"), Some(f64::NEG_INFINITY));
    assert!(parse_double(b"nan").unwrap().is_nan());
    assert!(parse_double(b"-nan").unwrap().is_nan());
    assert_eq!(parse_double(b"1e400"), Some(f64::INFINITY));
    for text in
        ["", "INF", "+inf", "infinity", "NaN", ".5", "5.", "1e", "0x10", "1 ", "--1", "1..2"]
    {
        assert_eq!(parse_double(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn big_numbers_are_digits_of_any_length() {
    assert!(is_big_number(&[b'9'; 10_000]));
    assert!(is_big_number(b"-0") && is_big_number(b"+12"));
    assert!(!is_big_number(b"") && !is_big_number(b"-") && !is_big_number(b"1.5"));
}
