use alloc::string::String;
use alloc::vec::Vec;
use std::cell::Cell;

use super::*;

std::thread_local! {
    static TALLY: Cell<usize> = const { Cell::new(0) };
}

/// Adds to the work of this thread's test.
pub(super) fn tally(work: usize) {
    TALLY.with(|tally| tally.set(tally.get() + work));
}

/// Work done for one frame that arrives `piece` bytes at a time.
fn work(wire: &[u8], piece: usize) -> usize {
    let mut scanner = Scanner::new(Limits::default(), Protocol::Resp3, Mode::Lenient);
    let mut nodes = Vec::new();
    TALLY.with(|tally| tally.set(0));
    let mut arrived = 0;
    loop {
        arrived = wire.len().min(arrived + piece);
        match scanner.scan(&wire[..arrived], &mut nodes, 0) {
            Ok(length) => {
                assert_eq!(length, wire.len());
                return TALLY.with(Cell::get);
            }
            Err(stop) => assert!(matches!(stop, Stop::More(_)) && arrived < wire.len()),
        }
    }
}

fn repeated(head: &str, part: &str, count: usize, tail: &str) -> Vec<u8> {
    [head, &part.repeat(count), tail].concat().into_bytes()
}

/// Each kind of frame that can be long, in a size that grows with `count`.
fn long_frames(count: usize) -> Vec<(&'static str, Vec<u8>)> {
    let text = "x".repeat(4 * count);
    let header = |tag: &str, count: usize| alloc::format!("{tag}{count}\r\n");
    let branch = "*1\r\n".repeat(1_000) + ":1\r\n";
    Vec::from([
        ("line", repeated("+", &text, 1, "\r\n")),
        ("line with other controls", repeated("-", "\t\x01\x02\x0b", count, "\r\n")),
        ("big number", repeated("(", "1234", count, "\r\n")),
        ("bulk", repeated(&header("$", 4 * count), &text, 1, "\r\n")),
        ("verbatim", repeated(&header("=", 4 * count + 4), "txt:", 1, &(text.clone() + "\r\n"))),
        ("integers", repeated(&header("*", count), ":1\r\n", count, "")),
        ("long integers", repeated(&header("*", count), ":+000000000000000000001\r\n", count, "")),
        (
            "long headers",
            repeated(&header("*", count), "$0000000000000000000001\r\nx\r\n", count, ""),
        ),
        ("bulks", repeated(&header("~", count), "$3\r\nabc\r\n", count, "")),
        ("arrays", repeated(&header("*", count), "*1\r\n:1\r\n", count, "")),
        ("map", repeated(&header("%", count), "+k\r\n_\r\n", count, "")),
        ("attributes", repeated("", "|1\r\n+a\r\n:1\r\n", count, ":1\r\n")),
        (
            "attributed elements",
            repeated(&header("*", count), "|1\r\n+a\r\n:1\r\n:1\r\n", count, ""),
        ),
        ("pushes inside", repeated("*1\r\n", ">2\r\n+a\r\n:1\r\n", count, ":1\r\n")),
        ("streamed string", repeated("$?\r\n", ";3\r\nabc\r\n", count, ";0\r\n")),
        ("streamed array", repeated("*?\r\n", "#t\r\n", count, ".\r\n")),
        ("nested", repeated(&header("*", count / 1_000), &branch, count / 1_000, "")),
    ])
}

#[test]
fn work_is_linear_in_the_bytes_however_they_are_cut() {
    for (short, long) in long_frames(3_000).into_iter().zip(long_frames(30_000)) {
        let (name, short) = short;
        let (_, long) = long;
        // The pieces are primes, so that they meet the repetitions at every phase.
        for piece in [1, 13, 1459] {
            let (few, many) = (work(&short, piece), work(&long, piece));
            let grown = long.len() as f64 / short.len() as f64;
            // A header is read again for each piece that arrives of it and of its
            // payload, and ten times the count is one digit more.
            assert!(many as f64 <= 1.25 * grown * few as f64, "{name}: {few} to {many}");
            assert!(many <= 14 * long.len(), "{name}: {many} for {} bytes", long.len());
        }
    }
}

#[test]
fn a_frame_in_one_piece_is_looked_at_once() {
    for (name, wire) in long_frames(3_000) {
        let work = work(&wire, wire.len());
        assert!(work <= wire.len(), "{name}: {work} for {} bytes", wire.len());
    }
}

/// A frame whose work would grow with the square of its length.
#[test]
fn the_tally_can_tell() {
    let wire = repeated("+", "x", 3_000, "\r\n");
    let mut scanner = Scanner::new(Limits::default(), Protocol::Resp3, Mode::Lenient);
    TALLY.with(|tally| tally.set(0));
    for arrived in 0..wire.len() {
        // What a scanner without a memory would do.
        scanner.searched = 0;
        let _ = scanner.scan(&wire[..arrived], &mut Vec::new(), 0);
    }
    assert!(TALLY.with(Cell::get) > 1_000 * wire.len());
}

#[test]
fn the_hint_is_what_is_missing() {
    let mut scanner = Scanner::new(Limits::default(), Protocol::Resp3, Mode::Lenient);
    let mut missing = |wire: &str| {
        let Err(Stop::More(missing)) = scanner.scan(wire.as_bytes(), &mut Vec::new(), 0) else {
            return 0;
        };
        missing
    };
    assert_eq!(missing(""), 1);
    assert_eq!(missing("$"), 2);
    assert_eq!(missing("$100\r\n"), 102);
    assert_eq!(missing("$100\r\nabc"), 99);
    assert_eq!(missing(&("$100\r\n".to_owned() + &"x".repeat(100))), 2);
    assert_eq!(missing(&("$100\r\n".to_owned() + &"x".repeat(100) + "\r")), 1);
    assert_eq!(missing(&("$100\r\n".to_owned() + &"x".repeat(100) + "\r\n")), 0);
}

#[test]
fn nodes_lie_as_the_drawing_says() {
    let mut scanner = Scanner::new(Limits::default(), Protocol::Resp3, Mode::Lenient);
    let mut nodes = Vec::new();
    let wire = String::from("*2\r\n:7\r\n*1\r\n+a\r\n");
    assert_eq!(scanner.scan(wire.as_bytes(), &mut nodes, 0), Ok(16));
    let flat: Vec<(u32, u32)> = nodes.iter().map(|node| (node.off, node.aux)).collect();
    assert_eq!(flat, [(0, 2), (6, 16), (4, 4), (8, 1), (3, 8), (12, 4)]);
}
