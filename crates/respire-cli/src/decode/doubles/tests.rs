use super::*;

/// A double in front of which everything else may stand, and what looks like one in most of it.
const WIRE: &[u8] = b"+,x\r\n-,x\r\n:1\r\n_\r\n#t\r\n(,x\r\n,1.5\r\n,-inf\r\n$5\r\n,x\r\n\r\r\n!4\r\n,x\r\n\r\n\
    =8\r\ntxt:,x\r\n\r\n$03\r\n,x\r\r\n$0\r\n\r\n$-1\r\n*-1\r\n*1\r\n~1\r\n%1\r\n|1\r\n>1\r\n*?\r\n~?\r\n%?\r\n.\r\n\
    $?\r\n;4\r\n,x\r\n\r\n;1\r\n,\r\n;0\r\n,x\r\n,1\r\n,y\r\n";
const FIRST: usize = WIRE.len() - 12;

#[test]
fn only_what_is_a_double_is_taken_for_one() {
    assert_eq!(&WIRE[FIRST..FIRST + 4], b",x\r\n");
    assert_eq!(Doubles::default().first_malformed(0, WIRE), Some(FIRST));
}

#[test]
fn it_is_found_when_its_line_ends_however_it_arrives() {
    for cut in 0..WIRE.len() {
        let mut doubles = Doubles::default();
        let found = doubles.first_malformed(0, &WIRE[..cut]);
        assert_eq!(found, (cut >= FIRST + 4).then_some(FIRST), "{cut}");
        if found.is_none() {
            assert_eq!(doubles.first_malformed(0, WIRE), Some(FIRST), "{cut}");
        }
    }
    let mut doubles = Doubles::default();
    // What was taken off the front is not counted.
    let found = (0..=WIRE.len()).find_map(|end| {
        let consumed = doubles.next.min(end as u64);
        let at = doubles.first_malformed(consumed, &WIRE[consumed as usize..end])?;
        Some((consumed as usize + at, end))
    });
    assert_eq!(found, Some((FIRST, FIRST + 4)));
}

#[test]
fn a_line_is_searched_once() {
    let wire = [&b","[..], &[b'1'; 1000], b"\r\n"].concat();
    let mut doubles = Doubles::default();
    for end in 0..=1001 {
        assert_eq!(doubles.first_malformed(0, &wire[..end]), None);
        assert_eq!(doubles.searched, end);
    }
    assert_eq!(doubles.first_malformed(0, &wire), None);
    assert_eq!((doubles.next, doubles.searched), (wire.len() as u64, 0));
}

#[test]
fn behind_what_is_no_resp_nothing_is_found() {
    for wire in [
        "+a\rb\r\n,x\r\n",
        "+a\n,x\r\n",
        "\r\n,x\r\n",
        "$x\r\n,x\r\n",
        "$-\r\r\n,x\r\n",
        "$\r\n,x\r\n",
        "$18446744073709551615\r\n,x\r\n",
        "$9999999999999999999999\r\n,x\r\n",
    ] {
        let mut doubles = Doubles::default();
        assert_eq!(doubles.first_malformed(0, wire.as_bytes()), None, "{wire:?}");
        assert!(doubles.lost, "{wire:?}");
    }
}
