use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;

fn entry(pod: &str, tier: &str, speculative: bool, group: Option<i64>) -> PodEntry {
    PodEntry { pod_identifier: pod.into(), device_tier: tier.into(), speculative, group }
}

fn field_of_pod(pod: &str) -> String {
    String::from_utf8(PodEntry::new(pod, "gpu").to_field()).unwrap()
}

/// The field that Go writes around the given encoding of a pod's name.
fn go_field(pod_json: &str) -> String {
    format!(
        r#"{{"PodIdentifier":"{pod_json}","DeviceTier":"gpu","Speculative":false,"HasGroup":false,"GroupIdx":0}}"#
    )
}

#[test]
fn the_common_entry_takes_102_bytes() {
    let field = PodEntry::new("10.0.0.1:8000", "gpu").to_field();
    assert_eq!(field, go_field("10.0.0.1:8000").as_bytes());
    assert_eq!(field.len(), 102);
}

#[test]
fn every_member_has_its_place() {
    let field = entry("pod-1", "cpu", true, Some(-3)).to_field();
    assert_eq!(
        std::str::from_utf8(&field).unwrap(),
        r#"{"PodIdentifier":"pod-1","DeviceTier":"cpu","Speculative":true,"HasGroup":true,"GroupIdx":-3}"#
    );
    let field = entry("p", "", false, Some(0)).to_field();
    assert_eq!(
        std::str::from_utf8(&field).unwrap(),
        r#"{"PodIdentifier":"p","DeviceTier":"","Speculative":false,"HasGroup":true,"GroupIdx":0}"#
    );
}

#[test]
fn strings_are_escaped_as_go_escapes_them() {
    let cases = [
        ("a\"b", r#"a\"b"#),
        ("a\\b", r"a\\b"),
        ("<b>&", r"\u003cb\u003e\u0026"),
        ("\u{2028}\u{2029}", r"\u2028\u2029"),
        ("\n\r\t\u{8}\u{c}", r"\n\r\t\b\f"),
        ("\0\u{1}\u{1f}", r"\u0000\u0001\u001f"),
        ("\u{7f}/", "\u{7f}/"),
        (
            "\u{80}é漢\u{1f600}\u{fffd}\u{2027}\u{202a}",
            "\u{80}é漢\u{1f600}\u{fffd}\u{2027}\u{202a}",
        ),
        ("'", "'"),
    ];
    for (pod, json) in cases {
        assert_eq!(field_of_pod(pod), go_field(json));
        assert_eq!(
            PodEntry::from_field(go_field(json).as_bytes()),
            Some(PodEntry::new(pod, "gpu"))
        );
    }
}

#[test]
fn names_match_in_any_case_and_unknown_members_are_ignored() {
    let expected = Some(entry("p", "gpu", true, Some(2)));
    for field in [
        r#"{"podidentifier":"p","DEVICETIER":"gpu","speculative":true,"hasGroup":true,"GROUPIDX":2}"#,
        r#" { "PodIdentifier" : "p" , "DeviceTier" : "gpu", "Speculative":true,
            "HasGroup":true, "GroupIdx":2 } "#,
        r#"{"GroupIdx":2,"HasGroup":true,"Speculative":true,"DeviceTier":"gpu","PodIdentifier":"p"}"#,
        r#"{"PodIdentifier":"p","DeviceTier":"gpu","Speculative":true,"HasGroup":true,"GroupIdx":2,"retrievalSpan":4}"#,
        r#"{"DataParallelRank":-1,"PodIdentifier":"p","DeviceTier":"gpu","Speculative":true,"HasGroup":true,"GroupIdx":2}"#,
        r#"{"x":{"a":[1,-2.5e-3,"\u00e9",{},[],null,true,{"b":[[]]}]},"PodIdentifier":"p","DeviceTier":"gpu","Speculative":true,"HasGroup":true,"GroupIdx":2}"#,
        r#"{"\u0050odIdentifier":"\u0070","Device\u0054ier":"gpu","Speculative":true,"HasGroup":true,"GroupIdx":2}"#,
        "{\"PodIdentifier\":\"p\",\"DeviceTier\":\"gpu\",\"\u{17f}peculative\":true,\"Ha\u{17f}Group\":true,\"GroupIdx\":2}",
    ] {
        assert_eq!(PodEntry::from_field(field.as_bytes()), expected, "{field}");
    }
}

#[test]
fn the_last_of_several_members_wins_and_null_changes_nothing() {
    let decode = |field: &str| PodEntry::from_field(field.as_bytes());
    assert_eq!(
        decode(r#"{"PodIdentifier":"a","podIdentifier":"b","DeviceTier":"x","DeviceTier":null}"#),
        Some(entry("b", "x", false, None))
    );
    assert_eq!(
        decode(r#"{"HasGroup":true,"GroupIdx":7,"GroupIdx":null,"HasGroup":null}"#),
        Some(entry("", "", false, Some(7)))
    );
}

#[test]
fn a_missing_member_is_zero() {
    assert_eq!(PodEntry::from_field(b"{}"), Some(PodEntry::default()));
    assert_eq!(PodEntry::from_field(b" null\n"), Some(PodEntry::default()));
    assert_eq!(
        PodEntry::from_field(br#"{"DeviceTier":"cpu"}"#),
        Some(entry("", "cpu", false, None))
    );
    // An index without a group says nothing.
    assert_eq!(PodEntry::from_field(br#"{"GroupIdx":5}"#), Some(PodEntry::default()));
}

#[test]
fn what_go_cannot_read_is_no_entry() {
    for field in [
        "",
        " ",
        "[]",
        "[{}]",
        "1",
        "true",
        "\"x\"",
        "nul",
        "null null",
        "{",
        "{}x",
        "{} {}",
        "{,}",
        r#"{"PodIdentifier"}"#,
        r#"{"PodIdentifier":}"#,
        r#"{"PodIdentifier":"p",}"#,
        r#"{"PodIdentifier":"p""DeviceTier":"gpu"}"#,
        r#"{PodIdentifier:"p"}"#,
        r#"{"PodIdentifier":1}"#,
        r#"{"PodIdentifier":["p"]}"#,
        r#"{"PodIdentifier":true}"#,
        r#"{"Speculative":"true"}"#,
        r#"{"Speculative":0}"#,
        r#"{"Speculative":tru}"#,
        r#"{"Speculative":TRUE}"#,
        r#"{"HasGroup":1}"#,
        r#"{"GroupIdx":1.0}"#,
        r#"{"GroupIdx":1e2}"#,
        r#"{"GroupIdx":"1"}"#,
        r#"{"GroupIdx":+1}"#,
        r#"{"GroupIdx":01}"#,
        r#"{"GroupIdx":-}"#,
        r#"{"GroupIdx":9223372036854775808}"#,
        r#"{"PodIdentifier":"p\x"}"#,
        r#"{"PodIdentifier":"p\'"}"#,
        r#"{"PodIdentifier":"\u12"}"#,
        r#"{"PodIdentifier":"\u+123"}"#,
        r#"{"PodIdentifier":"open}"#,
        "{\"PodIdentifier\":\"a\nb\"}",
        "{\"PodIdentifier\":\"a\0b\"}",
        r#"{"x":[1,]}"#,
        r#"{"x":[1 2]}"#,
        r#"{"x":{"a":1,}}"#,
        r#"{"x":{"a"}}"#,
        r#"{"x":[}}"#,
        r#"{"x":[1}]}"#,
        r#"{"x":1.}"#,
        r#"{"x":.5}"#,
        r#"{"x":1e}"#,
        r#"{"x":nul}"#,
        r#"{"x":[[[["#,
    ] {
        assert_eq!(PodEntry::from_field(field.as_bytes()), None, "{field}");
    }
}

#[test]
fn the_range_of_a_group_is_that_of_a_go_int() {
    for group in [i64::MIN, -1, 0, 1, i64::MAX] {
        let field = format!(r#"{{"HasGroup":true,"GroupIdx":{group}}}"#);
        assert_eq!(PodEntry::from_field(field.as_bytes()), Some(entry("", "", false, Some(group))));
    }
    let negative_zero = br#"{"HasGroup":true,"GroupIdx":-0}"#;
    assert_eq!(PodEntry::from_field(negative_zero), Some(entry("", "", false, Some(0))));
}

#[test]
fn bytes_that_are_not_utf8_are_replaced_one_by_one() {
    let decode = |pod: &[u8]| {
        let field = [br#"{"PodIdentifier":""#, pod, br#""}"#].concat();
        PodEntry::from_field(&field).map(|entry| entry.pod_identifier)
    };
    assert_eq!(decode(b"a\xffb").as_deref(), Some("a\u{fffd}b"));
    // A truncated character of three bytes, and a surrogate in UTF-8's dress.
    assert_eq!(decode(b"\xe2\x82x").as_deref(), Some("\u{fffd}\u{fffd}x"));
    assert_eq!(decode(b"\xed\xa0\x80").as_deref(), Some("\u{fffd}\u{fffd}\u{fffd}"));
    // Go writes an invalid byte as this escape; it reads as the same name.
    assert_eq!(decode(br"a\ufffdb").as_deref(), Some("a\u{fffd}b"));
    assert_eq!(
        PodEntry::from_field(b"a\xff@g\xfe").unwrap(),
        PodEntry::new("a\u{fffd}", "g\u{fffd}")
    );
}

#[test]
fn surrogate_pairs_are_joined_and_lone_halves_replaced() {
    let decode = |pod: &str| PodEntry::from_field(go_field(pod).as_bytes()).unwrap().pod_identifier;
    assert_eq!(decode(r"\ud83d\ude00"), "\u{1f600}");
    assert_eq!(decode(r"\uD83D\uDE00"), "\u{1f600}");
    assert_eq!(decode(r"\ud83dx"), "\u{fffd}x");
    assert_eq!(decode(r"\ude00"), "\u{fffd}");
    assert_eq!(decode(r"\ud83d\ud83d\ude00"), "\u{fffd}\u{1f600}");
    assert_eq!(decode(r"\ud83d\u0041"), "\u{fffd}A");
    assert_eq!(decode(r"\ud83d\n"), "\u{fffd}\n");
}

#[test]
fn nesting_is_bounded_as_in_go_and_needs_no_stack() {
    let nested = |depth: usize| {
        let field = format!(r#"{{"x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        PodEntry::from_field(field.as_bytes())
    };
    assert_eq!(nested(9_999), Some(PodEntry::default()));
    assert_eq!(nested(10_000), None);
    assert_eq!(PodEntry::from_field("{\"x\":[".repeat(1_000_000).as_bytes()), None);
}

#[test]
fn the_older_form_is_read_up_to_its_first_signs() {
    let decode = |field: &str| PodEntry::from_field(field.as_bytes());
    assert_eq!(decode("10.0.0.1:8000@gpu"), Some(PodEntry::new("10.0.0.1:8000", "gpu")));
    assert_eq!(
        decode("pod@gpu[speculative]"),
        Some(PodEntry::new("pod", "gpu").with_speculative())
    );
    // A mark that no version has written is none.
    assert_eq!(decode("pod@gpu[speculative][group=4]"), Some(entry("pod", "gpu", true, None)));
    assert_eq!(decode("pod@gpu[other]"), Some(PodEntry::new("pod", "gpu")));
    assert_eq!(decode("a@b@gpu"), Some(PodEntry::new("a", "b@gpu")));
    assert_eq!(decode("@"), Some(PodEntry::default()));
    assert_eq!(decode("no tier"), None);
}

#[test]
fn an_entry_is_spelled_in_the_older_form_only_where_that_says_the_same() {
    let spellings = |entry: &PodEntry| {
        entry.spellings().map(|field| String::from_utf8(field).unwrap()).collect::<Vec<_>>()
    };
    let plain = PodEntry::new("pod", "gpu");
    assert_eq!(spellings(&plain)[1..], ["pod@gpu"]);
    assert_eq!(spellings(&plain.clone().with_speculative())[1..], ["pod@gpu[speculative]"]);
    for odd in [
        plain.with_group(1),
        PodEntry::new("a@b", "gpu"),
        PodEntry::new("pod", "gpu[x]"),
        PodEntry::new("{pod", "gpu"),
    ] {
        assert_eq!(spellings(&odd).len(), 1, "{odd}");
    }
}

fn any_entry() -> impl Strategy<Value = PodEntry> {
    (any::<String>(), any::<String>(), any::<bool>(), any::<Option<i64>>())
        .prop_map(|(pod, tier, speculative, group)| entry(&pod, &tier, speculative, group))
}

/// The entry that a strict JSON library finds in a document that both can read.
fn read_by_serde(document: &Map<String, Value>) -> PodEntry {
    let has_group = document["HasGroup"].as_bool().unwrap();
    entry(
        document["PodIdentifier"].as_str().unwrap(),
        document["DeviceTier"].as_str().unwrap(),
        document["Speculative"].as_bool().unwrap(),
        has_group.then(|| document["GroupIdx"].as_i64().unwrap()),
    )
}

proptest! {
    #[test]
    fn every_spelling_reads_back(entry in any_entry()) {
        for field in entry.spellings() {
            prop_assert_eq!(PodEntry::from_field(&field), Some(entry.clone()));
        }
    }

    #[test]
    fn what_we_write_is_json_of_the_same_meaning(entry in any_entry()) {
        let document = serde_json::from_slice(&entry.to_field()).unwrap();
        prop_assert_eq!(read_by_serde(&document), entry);
    }

    #[test]
    fn what_a_strict_library_writes_reads_as_the_same(entry in any_entry(), extra in any_json()) {
        let mut document = Map::new();
        document.insert("PodIdentifier".into(), entry.pod_identifier.clone().into());
        document.insert("DeviceTier".into(), entry.device_tier.clone().into());
        document.insert("Speculative".into(), entry.speculative.into());
        document.insert("HasGroup".into(), entry.group.is_some().into());
        document.insert("GroupIdx".into(), entry.group.unwrap_or(0).into());
        document.insert("extra".into(), extra);
        for field in [serde_json::to_vec(&document), serde_json::to_vec_pretty(&document)] {
            prop_assert_eq!(PodEntry::from_field(&field.unwrap()), Some(entry.clone()));
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(field in proptest::collection::vec(any::<u8>(), 0..64)) {
        PodEntry::from_field(&field);
        PodEntry::from_field(&[b"{".as_slice(), &field].concat());
        PodEntry::from_field(&[br#"{"x":"#.as_slice(), &field].concat());
    }

    /// Cut or changed in one byte, our reader and a strict library agree on which documents are well-formed.
    #[test]
    fn damaged_documents_are_judged_like_a_strict_library(
        entry in any_ascii_entry(), extra in any_json(), at in any::<prop::sample::Index>(), byte in 0x20_u8..0x7f,
    ) {
        let mut field = entry.to_field();
        field.truncate(field.len() - 1);
        field.extend_from_slice(format!(r#","extra":{extra}}}"#).as_bytes());
        let at = at.index(field.len());
        for damaged in [field[..at].to_vec(), {
            let mut changed = field.clone();
            changed[at] = byte;
            changed
        }] {
            let strict: Result<Map<String, Value>, _> = serde_json::from_slice(&damaged);
            let ours = PodEntry::from_field(&damaged);
            let refusal = match strict {
                Ok(document) => {
                    prop_assert_eq!(ours, entry_of(&document));
                    continue;
                }
                Err(refusal) => refusal,
            };
            // What we read on purpose and the library refuses: broken characters, broken pairs of surrogates, numbers
            // too large for it, the older form.
            let on_purpose = std::str::from_utf8(&damaged).is_err()
                || damaged.windows(2).any(|pair| pair == b"\\u")
                || refusal.to_string().contains("out of range")
                || !damaged.starts_with(b"{");
            prop_assert!(on_purpose || ours.is_none());
        }
    }
}

/// What a document with at most one member of each name says, worked out from the library's tree.
fn entry_of(document: &Map<String, Value>) -> Option<PodEntry> {
    let mut read = PodEntry::default();
    let (mut has_group, mut group) = (false, 0);
    for (name, value) in document.iter().filter(|(_, value)| !value.is_null()) {
        match name.to_ascii_lowercase().as_str() {
            "podidentifier" => read.pod_identifier = value.as_str()?.to_owned(),
            "devicetier" => read.device_tier = value.as_str()?.to_owned(),
            "speculative" => read.speculative = value.as_bool()?,
            "hasgroup" => has_group = value.as_bool()?,
            // The library takes -0 for a fraction.
            "groupidx" if value.as_f64().map(f64::to_bits) == Some((-0.0_f64).to_bits()) => {
                group = 0;
            }
            "groupidx" => group = value.as_i64()?,
            _ => {}
        }
    }
    read.group = has_group.then_some(group);
    Some(read)
}

fn any_ascii_entry() -> impl Strategy<Value = PodEntry> {
    ("[ -~]{0,12}", "[a-z]{0,4}", any::<bool>(), any::<Option<i64>>())
        .prop_map(|(pod, tier, speculative, group)| entry(&pod, &tier, speculative, group))
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::from(Map::from_iter(members))),
        ]
    })
}
