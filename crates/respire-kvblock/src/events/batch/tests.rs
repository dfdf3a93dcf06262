use proptest::{collection::vec, option, prelude::*};

use super::{
    super::{
        ExtraKey,
        testing::{Tree, ints, message, t},
    },
    *,
};

use Tree::{Bin, Float, Int, List, Map, Nil, WideInt};

fn decode_all(engine: Engine, message: &[u8]) -> Vec<Result<KvEvent, DecodeError>> {
    let batch = EventBatch::parse(engine, message).unwrap();
    let events: Vec<_> = batch.events().collect();
    assert_eq!(events.len(), batch.len());
    events
}

fn decode_one(engine: Engine, event: Tree) -> Result<KvEvent, DecodeError> {
    decode_all(engine, &message(vec![event])).remove(0)
}

fn stored(event: Tree) -> BlockStored {
    match decode_one(Engine::Vllm, event) {
        Ok(KvEvent::BlockStored(stored)) => stored,
        other => panic!("{other:?}"),
    }
}

fn refused(event: Tree) -> String {
    decode_one(Engine::Vllm, event).unwrap_err().to_string()
}

/// A stored event with this in place of one of its fields, counted behind the tag.
fn stored_with(position: usize, value: Tree) -> Tree {
    let mut fields = vec![
        t("BlockStored"),
        ints(&[100, 101]),
        Int(99),
        ints(&[1, 2, 3]),
        Int(16),
        Nil,
        t("gpu"),
        Nil,
        Nil,
        Nil,
        Nil,
        Nil,
    ];
    fields[position + 1] = value;
    List(fields)
}

fn hashes(numbers: &[u64]) -> Vec<BlockHash> {
    numbers.iter().copied().map(BlockHash).collect()
}

/// What each block has besides tokens, as values.
fn extra(stored: &BlockStored) -> Vec<Vec<ExtraKey>> {
    stored.extra_keys.iter().map(Iterator::collect).collect()
}

#[test]
fn a_stored_event_is_read_field_by_field() {
    // llm-d's own example, which leaves out what its version of vLLM did not have yet.
    let event = List(vec![
        t("BlockStored"),
        ints(&[100, 101]),
        Int(99),
        ints(&[1, 2, 3]),
        Int(16),
        Nil,
        t("gpu"),
        Nil,
        Nil,
    ]);
    let expected = BlockStored {
        block_hashes: hashes(&[100, 101]),
        parent: Some(BlockHash(99)),
        token_ids: vec![1, 2, 3],
        block_size: 16,
        medium: Some("gpu".to_owned()),
        ..Default::default()
    };
    assert_eq!(stored(event.clone()), expected);
    let sglang = decode_one(Engine::Sglang, event).unwrap();
    assert_eq!(sglang, KvEvent::BlockStored(expected));
}

#[test]
fn every_field_has_its_place() {
    let event = List(vec![
        t("BlockStored"),
        ints(&[1, 2]),
        Nil,
        ints(&[7, 8]),
        Int(1),
        Int(3),
        t("CPU"),
        t("adapter"),
        List(vec![List(vec![t("image")]), Nil]),
        Int(2),
        t("full_attention"),
        Int(4096),
        t("a field of a later version"),
        List(vec![Map(vec![(Int(1), ints(&[1]))])]),
    ]);
    let stored = stored(event);
    assert_eq!(stored.parent, None);
    assert_eq!(stored.lora_id, Some(3));
    assert_eq!(stored.lora_name.as_deref(), Some("adapter"));
    assert_eq!(extra(&stored), [vec![ExtraKey::Text("image".to_owned())], vec![]]);
    assert_eq!(stored.group, Some(2));
    assert_eq!(stored.group_kind.as_deref(), Some("full_attention"));
    assert_eq!(stored.sliding_window, Some(4096));
}

#[test]
fn a_hash_is_any_number_of_64_bits_or_the_end_of_bytes() {
    let all = List(vec![
        Int(0),
        Int(127),
        Int(300),
        Int(70_000),
        Int(u64::MAX.into()),
        Int(-1),
        Int(-100),
        Int(i64::MIN.into()),
        WideInt(5),
        WideInt(-5),
        Bin(vec![1]),
        Bin(vec![0, 0, 0, 0, 0, 0, 1, 2]),
        Bin((1..=32).collect()),
    ]);
    let removed = decode_one(Engine::Vllm, List(vec![t("BlockRemoved"), all])).unwrap();
    let KvEvent::BlockRemoved(removed) = removed else { panic!("{removed:?}") };
    assert_eq!(
        removed.block_hashes,
        hashes(&[
            0,
            127,
            300,
            70_000,
            u64::MAX,
            u64::MAX,
            u64::MAX - 99,
            1 << 63,
            5,
            u64::MAX - 4,
            1,
            258,
            0x191a_1b1c_1d1e_1f20,
        ])
    );
    let expected = "block_hashes: expected a hash, as a number or as bytes";
    for bad in [Bin(vec![]), t("100"), Float(1.0), Nil, ints(&[1])] {
        let error = refused(List(vec![t("BlockRemoved"), List(vec![Int(1), bad])]));
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn no_parent_is_nothing_or_zero() {
    assert_eq!(stored(stored_with(1, Nil)).parent, None);
    assert_eq!(stored(stored_with(1, Int(0))).parent, None);
    assert_eq!(stored(stored_with(1, Int(-2))).parent, Some(BlockHash(u64::MAX - 1)));
    let error = refused(stored_with(1, t("x")));
    assert!(error.contains("parent_block_hash: expected a hash"), "{error}");
}

#[test]
fn an_event_says_in_which_field_and_where_it_is_wrong() {
    let tokens = refused(stored_with(2, ints(&[1_i64, 1 << 32])));
    assert!(tokens.contains("token_ids: a number out of 0 to 2^32-1"), "{tokens}");
    let negative = refused(stored_with(2, ints(&[-1])));
    assert!(negative.contains("token_ids: a number out of"), "{negative}");
    let group = refused(stored_with(8, Int(-1)));
    assert!(group.contains("group_idx: a number out of 0 to 2^63-1"), "{group}");
    let medium = refused(stored_with(5, Int(1)));
    assert!(medium.contains("medium: expected a text"), "{medium}");
    let short = refused(List(vec![t("BlockStored"), ints(&[1]), Nil, List(vec![])]));
    assert!(short.ends_with("4 fields, where at least 5 are needed"), "{short}");
    let short = refused(List(vec![t("BlockRemoved")]));
    assert!(short.ends_with("1 fields, where at least 2 are needed"), "{short}");
    let missing = refused(stored_with(0, Nil));
    assert!(missing.ends_with("block_hashes: missing"), "{missing}");
    let none = refused(List(vec![]));
    assert!(none.ends_with("0 fields, where at least 1 are needed"), "{none}");

    let bytes = message(vec![stored_with(5, Int(1))]);
    let error = decode_all(Engine::Vllm, &bytes).remove(0).unwrap_err();
    assert_eq!((bytes[error.position()], error.field()), (1, Some("medium")));
}

#[test]
fn what_says_nothing_to_an_index_may_be_anything() {
    for value in [Nil, t("x"), Float(1.0), ints(&[1, 2]), Int(u64::MAX.into()), Tree::Bool(true)] {
        assert_eq!(stored(stored_with(4, value.clone())).lora_id, None);
        // A window may be as long as any number.
        let expected = matches!(value, Int(_)).then_some(u64::MAX);
        assert_eq!(stored(stored_with(10, value)).sliding_window, expected);
    }
}

#[test]
fn extra_keys_are_texts_and_arrays_that_begin_with_one() {
    let of_one_block = List(vec![
        t("adapter"),
        List(vec![t("image"), Int(12)]),
        List(vec![Int(1), t("no")]),
        List(vec![]),
        Int(5),
        Nil,
        Map(vec![(t("Hash"), t("x"))]),
    ]);
    let stored = stored(stored_with(7, List(vec![of_one_block, Nil, List(vec![])])));
    assert_eq!(
        extra(&stored),
        [
            vec![
                ExtraKey::Text("adapter".to_owned()),
                ExtraKey::Array(Some("image".to_owned())),
                ExtraKey::Array(None),
                ExtraKey::Array(None),
                ExtraKey::Other,
                ExtraKey::Other,
                ExtraKey::Other,
            ],
            vec![],
            vec![]
        ]
    );
}

#[test]
fn extra_keys_are_equal_that_say_the_same() {
    let of = |list: Tree| stored(stored_with(7, list)).extra_keys;
    let one = of(List(vec![List(vec![List(vec![t("image"), Int(12)])]), Nil]));
    assert_eq!(one, of(List(vec![List(vec![List(vec![t("image")])]), List(vec![])])));
    for other in [
        List(vec![List(vec![t("image")]), Nil]),
        List(vec![List(vec![List(vec![t("images")])]), Nil]),
        List(vec![List(vec![List(vec![t("image")])])]),
        List(vec![List(vec![List(vec![t("image")]), Nil]), Nil]),
        Nil,
    ] {
        assert_ne!(one, of(other.clone()), "{other:?}");
    }
    assert_eq!(format!("{one:?}"), r#"[[Array(Some("image"))], []]"#);
    for wrong in [Int(1), List(vec![Int(1)]), List(vec![Nil, t("image")])] {
        let error = refused(stored_with(7, wrong.clone()));
        assert!(error.contains("extra_keys: expected an array"), "{wrong:?}: {error}");
    }
}

#[test]
fn a_medium_is_a_word_and_not_a_book() {
    let medium = |len: usize| t(&"m".repeat(len));
    assert_eq!(stored(stored_with(5, medium(256))).medium.unwrap().len(), 256);
    let error = refused(stored_with(5, medium(257)));
    assert!(error.contains("medium: a text of more than 256 bytes"), "{error}");
}

/// Messages of about this many bytes that are to grow as much as they can while they are read.
fn dense_messages(bytes: usize) -> Vec<(&'static str, Vec<u8>)> {
    let with = |position: usize, value: Tree| message(vec![stored_with(position, value)]);
    let fill = |value: Tree| List(vec![value; bytes]);
    let twice = |name: &str, value: Tree| {
        let half = List(vec![value; bytes / 2]);
        let entries = vec![
            (t("type"), t("BlockStored")),
            (t(name), half.clone()),
            (t(name), half),
            (t("block_hashes"), ints(&[1])),
            (t("token_ids"), ints(&[1])),
        ];
        message(vec![Map(entries)])
    };
    let texts = List(vec![t("a"); bytes / 2]);
    vec![
        ("hashes", with(0, fill(Int(1)))),
        ("hashes, the last of them none", {
            let mut hashes = vec![Int(1); bytes];
            hashes.push(Nil);
            with(0, List(hashes))
        }),
        ("tokens", with(2, fill(Int(1)))),
        ("blocks with nothing", with(7, fill(Nil))),
        ("blocks with an empty list", with(7, fill(List(vec![])))),
        ("one block with empty lists", with(7, List(vec![fill(List(vec![]))]))),
        ("one block with texts", with(7, List(vec![texts.clone()]))),
        ("one block with a list of texts", with(7, List(vec![List(vec![texts])]))),
        ("an adapter's name that is no text", with(6, Tree::Raw(raw_text(bytes)))),
        ("hashes twice", twice("block_hashes", Int(1))),
        ("extra keys twice", twice("extra_keys", Nil)),
        ("events", message(vec![List(vec![t("AllBlocksCleared")]); bytes / 18])),
        ("no events", message(vec![Nil; bytes])),
    ]
}

/// Text of so many bytes, none of which is UTF-8.
fn raw_text(bytes: usize) -> Vec<u8> {
    let mut text = vec![0xdb];
    text.extend_from_slice(&(bytes as u32).to_be_bytes());
    text.resize(bytes + 5, 0xff);
    text
}

#[test]
fn no_event_takes_more_than_eight_times_its_bytes() {
    for (name, message) in dense_messages(100_000) {
        let read = || {
            for event in EventBatch::parse(Engine::Vllm, &message).unwrap().events() {
                let Ok(KvEvent::BlockStored(stored)) = event else { continue };
                stored.extra_keys.iter().flatten().for_each(drop);
            }
        };
        let measured = allocation_counter::measure(read);
        let most = message.len() as u64 * 8;
        assert!(measured.bytes_max <= most, "{name}: {} of {most}", measured.bytes_max);
    }
}

/// The capture that llm-d carries: 117 blocks of 16 tokens with two images, in vLLM's older spelling of extra keys.
#[test]
fn a_long_event_with_images_is_read_whole() {
    let image = |block: i128| match block {
        0..=60 => List(vec![List(vec![t("image-a"), Int(-16 * block)])]),
        62..=115 => List(vec![List(vec![t("image-b"), Int(992 - 16 * block)])]),
        _ => Nil,
    };
    let event = List(vec![
        t("BlockStored"),
        List((0..117).map(|block| Int(0x8000_0000_0000_0000 + block)).collect()),
        Nil,
        List((0..1872).map(|token| Int(token % 151_936)).collect()),
        Int(16),
        Nil,
        t("GPU"),
        Nil,
        List((0..117).map(image).collect()),
    ]);
    let stored = stored(event);
    assert_eq!((stored.block_hashes.len(), stored.token_ids.len()), (117, 1872));
    let with_image: Vec<bool> = stored.extra_keys.iter().map(|keys| keys.len() > 0).collect();
    assert_eq!(with_image.iter().filter(|&&image| image).count(), 115);
    assert_eq!((with_image[61], with_image[116]), (false, false));
    assert_eq!(extra(&stored)[62], [ExtraKey::Array(Some("image-b".to_owned()))]);
}

#[test]
fn maps_are_read_like_arrays_wherever_their_type_stands() {
    let event = Map(vec![
        (t("block_hashes"), ints(&[100])),
        (t("later"), List(vec![Nil])),
        (t("parent_block_hash"), Bin(vec![9])),
        (List(vec![Int(1)]), Int(1)),
        (t("token_ids"), ints(&[1, 2])),
        (t("medium"), t("GPU")),
        (t("group_idx"), Int(1)),
        (t("type"), t("BlockStored")),
    ]);
    let stored = stored(event);
    assert_eq!(stored.block_hashes, hashes(&[100]));
    assert_eq!((stored.parent, stored.group), (Some(BlockHash(9)), Some(1)));
    assert_eq!((stored.token_ids, stored.block_size), (vec![1, 2], 0));

    let removed = Map(vec![(t("type"), t("BlockRemoved")), (t("block_hashes"), ints(&[4]))]);
    let removed = decode_one(Engine::Vllm, removed).unwrap();
    let expected = BlockRemoved { block_hashes: hashes(&[4]), ..Default::default() };
    assert_eq!(removed, KvEvent::BlockRemoved(expected));

    let cleared = Map(vec![(t("type"), t("AllBlocksCleared"))]);
    assert_eq!(decode_one(Engine::Vllm, cleared), Ok(KvEvent::AllBlocksCleared));
    let error = refused(Map(vec![(t("block_hashes"), ints(&[4]))]));
    assert!(error.ends_with("type: missing"), "{error}");
    let error = refused(Map(vec![(t("type"), t("BlockRemoved"))]));
    assert!(error.ends_with("block_hashes: missing"), "{error}");
}

#[test]
fn sglang_may_leave_out_what_is_at_the_end_and_has_no_groups() {
    let one = |event| decode_one(Engine::Sglang, event);
    let empty = KvEvent::BlockStored(BlockStored::default());
    assert_eq!(one(List(vec![t("BlockStored")])), Ok(empty));
    let removed = List(vec![t("BlockRemoved"), ints(&[-3]), t("GPU"), Int(-1)]);
    let expected = BlockRemoved {
        block_hashes: hashes(&[u64::MAX - 2]),
        medium: Some("GPU".to_owned()),
        group: None,
    };
    assert_eq!(one(removed), Ok(KvEvent::BlockRemoved(expected)));
    let Ok(KvEvent::BlockStored(stored)) = one(stored_with(8, Int(-1))) else { panic!() };
    assert_eq!((stored.group, stored.block_hashes.len()), (None, 2));
}

#[test]
fn an_event_that_cannot_be_read_leaves_the_others() {
    let events = decode_all(
        Engine::Vllm,
        &message(vec![
            List(vec![t("BlockMigrated"), ints(&[1]), Map(vec![(Nil, List(vec![Nil]))])]),
            stored_with(2, t("no tokens")),
            Nil,
            List(vec![t("AllBlocksCleared"), Int(1), List(vec![Int(2)])]),
        ]),
    );
    assert!(events[0].as_ref().unwrap_err().is_unknown_event());
    assert!(!events[1].as_ref().unwrap_err().is_unknown_event());
    assert!(events[2].as_ref().unwrap_err().to_string().ends_with("expected an event"));
    assert_eq!(events[3], Ok(KvEvent::AllBlocksCleared));
}

#[test]
fn a_batch_has_a_time_and_events_and_may_have_more() {
    let parse = |tree: Tree| {
        let bytes = tree.bytes();
        EventBatch::parse(Engine::Vllm, &bytes)
            .map(|batch| (batch.timestamp(), batch.len()))
            .map_err(|error| error.to_string())
    };
    assert_eq!(parse(List(vec![Float(2.5), List(vec![])])), Ok((2.5, 0)));
    assert_eq!(parse(List(vec![Int(2), List(vec![Nil]), Nil, t("more")])), Ok((2.0, 1)));
    let map = Map(vec![
        (t("data_parallel_rank"), Int(3)),
        (t("events"), List(vec![Nil, Nil])),
        (t("ts"), Float(1.0)),
    ]);
    assert_eq!(parse(map), Ok((1.0, 2)));
    for (tree, expected) in [
        (Nil, "byte 0: expected a batch of events"),
        (List(vec![Float(1.0)]), "byte 0: 1 fields, where at least 2 are needed"),
        (List(vec![Nil, List(vec![])]), "byte 1: ts: expected a number"),
        (List(vec![Int(1), Nil]), "byte 2: events: expected an array"),
        (Map(vec![]), "byte 0: ts: missing"),
    ] {
        assert_eq!(parse(tree), Err(expected.to_owned()));
    }
}

#[test]
fn nesting_of_any_depth_takes_no_stack() {
    let mut deep = vec![0x91; 1 << 20];
    deep.push(0xc0);
    let mut message = vec![0x93, 0x00, 0x91];
    message.extend_from_slice(&deep);
    message.push(0xc0);
    let events = decode_all(Engine::Vllm, &message);
    assert!(events[0].as_ref().unwrap_err().to_string().contains("expected the kind"));

    // The same in an extra key, which is passed over.
    let mut message = vec![0x92, 0x00, 0x91, 0x99];
    for field in [t("BlockStored"), List(vec![]), Nil, List(vec![]), Int(1), Nil, Nil, Nil] {
        field.write(&mut message);
    }
    message.extend_from_slice(&[0x91, 0x91]);
    message.extend_from_slice(&deep);
    assert!(decode_all(Engine::Vllm, &message)[0].is_ok());
}

#[test]
fn lengths_that_are_only_announced_are_errors() {
    for head in [
        &[0xdd, 0xff, 0xff, 0xff, 0xff][..],
        &[0x92, 0x00, 0xdd, 0xff, 0xff, 0xff, 0xff],
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0x92, 0x00, 0x91, 0xc6, 0xff, 0xff, 0xff, 0xff],
        &[0x92, 0x00, 0x91, 0xc9, 0xff, 0xff, 0xff, 0xff, 0x01],
        &[0x92, 0x00, 0x91, 0x92, 0xdb, 0xff, 0xff, 0xff, 0xff],
    ] {
        let error = EventBatch::parse(Engine::Vllm, head).unwrap_err();
        assert!(!error.to_string().is_empty(), "{error}");
    }
    let error = EventBatch::parse(Engine::Vllm, &[0x92, 0x00, 0xc1]).unwrap_err();
    assert_eq!(error.to_string(), "byte 2: no value of MessagePack begins with 0xc1");
}

#[test]
fn engines_have_llm_ds_names() {
    for engine in [Engine::Vllm, Engine::Sglang] {
        assert_eq!(engine.to_string().parse(), Ok(engine));
    }
    assert_eq!("vLLM".parse::<Engine>(), Err(UnknownEngine));
}

fn a_hash() -> impl Strategy<Value = (Tree, BlockHash)> {
    let of_number =
        |number: u64, write: fn(i128) -> Tree| (write(number.into()), BlockHash(number));
    prop_oneof![
        any::<u64>().prop_map(move |number| of_number(number, Int)),
        any::<u64>().prop_map(move |number| of_number(number, WideInt)),
        (0u64..300).prop_map(move |number| of_number(number, Int)),
        any::<i64>().prop_map(|number| (Int(number.into()), BlockHash(number as u64))),
        (vec(any::<u8>(), 0..24), any::<u64>()).prop_map(|(mut bytes, number)| {
            bytes.extend_from_slice(&number.to_be_bytes());
            (Bin(bytes), BlockHash(number))
        }),
    ]
}

/// A stored event as it is to be read, and the values of its fields as they are written.
fn a_stored_event() -> impl Strategy<Value = (BlockStored, Vec<Tree>)> {
    let texts = || option::of("[a-zA-Z@/é]{0,8}");
    let extra = vec(vec("[a-z]{0,3}", 0..3), 0..4);
    let numbers = (any::<u32>(), option::of(any::<i64>()), option::of(0..i64::MAX));
    (
        vec(a_hash(), 0..6),
        option::of(a_hash()),
        vec(any::<u32>(), 0..40),
        numbers,
        (texts(), texts(), texts()),
        extra,
    )
        .prop_map(|(hashes, parent, tokens, (size, lora_id, group), texts, extra)| {
            let (medium, lora_name, group_kind) = texts;
            let of_text = |text: &Option<String>| text.as_deref().map_or(Nil, t);
            let of_block = |keys: &Vec<String>| List(keys.iter().map(|key| t(key)).collect());
            let extra_keys = List(extra.iter().map(of_block).collect());
            let extra_bytes = extra_keys.bytes();
            let fields = vec![
                List(hashes.iter().map(|(tree, _)| tree.clone()).collect()),
                parent.as_ref().map_or(Nil, |(tree, _)| tree.clone()),
                List(tokens.iter().map(|&token| Int(token.into())).collect()),
                Int(size.into()),
                lora_id.map_or(Nil, |id| Int(id.into())),
                of_text(&medium),
                of_text(&lora_name),
                extra_keys,
                group.map_or(Nil, |group| WideInt(group.into())),
                of_text(&group_kind),
                Nil,
            ];
            let stored = BlockStored {
                block_hashes: hashes.into_iter().map(|(_, hash)| hash).collect(),
                parent: parent.map(|(_, hash)| hash).filter(|hash| hash.0 != 0),
                token_ids: tokens,
                block_size: size,
                lora_id,
                medium,
                lora_name,
                extra_keys: ExtraKeys::read(&mut Reader::new(&extra_bytes)).unwrap(),
                group,
                group_kind,
                sliding_window: None,
            };
            (stored, fields)
        })
}

fn any_tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Nil),
        any::<bool>().prop_map(Tree::Bool),
        any::<i64>().prop_map(|number| Int(number.into())),
        any::<f64>().prop_map(Float),
        "[a-zA-Z_]{0,12}".prop_map(Tree::Text),
        prop_oneof![Just("BlockStored"), Just("BlockRemoved"), Just("type"), Just("block_hashes")]
            .prop_map(t),
        vec(any::<u8>(), 0..20).prop_map(Bin),
        vec(any::<u8>(), 0..20).prop_map(Tree::Ext),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..13).prop_map(List),
            vec((inner.clone(), inner), 0..6).prop_map(Map),
        ]
    })
}

/// Reads all there is, whatever it is.
fn read_through(bytes: &[u8]) {
    for engine in [Engine::Vllm, Engine::Sglang] {
        let Ok(batch) = EventBatch::parse(engine, bytes) else { continue };
        assert!(batch.len() <= bytes.len());
        for event in batch.events() {
            match event {
                Err(error) => assert!(error.position() < bytes.len(), "{error}"),
                Ok(KvEvent::BlockStored(stored)) => {
                    assert!(stored.block_hashes.len() + stored.token_ids.len() <= bytes.len());
                    let keys = stored.extra_keys.iter();
                    assert!(keys.map(|keys| keys.count() + 1).sum::<usize>() <= bytes.len());
                }
                Ok(_) => {}
            }
        }
    }
}

proptest! {
    #[test]
    fn an_event_reads_the_same_in_both_shapes((expected, fields) in a_stored_event(), order in any::<u64>()) {
        let list = [vec![t("BlockStored")], fields.clone()].concat();
        prop_assert_eq!(&stored(List(list)), &expected);

        let mut entries = vec![(t("type"), t("BlockStored"))];
        entries.extend(Field::ALL.iter().zip(fields).map(|(field, value)| (t(field.name()), value)));
        let count = entries.len();
        entries.rotate_left(order as usize % count);
        prop_assert_eq!(&stored(Map(entries)), &expected);
    }

    #[test]
    fn a_message_that_is_cut_short_is_an_error((_, fields) in a_stored_event()) {
        let event = List([vec![t("BlockStored")], fields].concat());
        let whole = message(vec![List(vec![t("AllBlocksCleared")]), event]);
        for end in 0..whole.len() {
            prop_assert!(EventBatch::parse(Engine::Vllm, &whole[..end]).is_err(), "{}", end);
        }
    }

    #[test]
    fn what_is_no_batch_of_events_is_an_error_or_none(tree in any_tree(), at in any::<usize>(), byte: u8) {
        let mut bytes = message(vec![tree.clone(), tree.clone()]);
        prop_assert_eq!(decode_all(Engine::Vllm, &bytes).len(), 2);
        read_through(&tree.bytes());
        let at = at % bytes.len();
        bytes[at] = byte;
        read_through(&bytes);
    }

    #[test]
    fn any_bytes_can_be_read_through(bytes in vec(any::<u8>(), 0..200)) {
        read_through(&bytes);
        let mut framed = vec![0x92, 0x00, 0x94];
        framed.extend_from_slice(&bytes);
        read_through(&framed);
    }
}
