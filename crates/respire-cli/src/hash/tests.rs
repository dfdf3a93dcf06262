use respire_kvblock::{BlockExtra, TokenProcessorConfig};

use super::*;

fn processor() -> TokenProcessor {
    let config = TokenProcessorConfig { block_size_tokens: 2, ..TokenProcessorConfig::default() };
    TokenProcessor::new(&config).unwrap()
}

fn computed(text: &str) -> Vec<u64> {
    keys(text.as_bytes(), &processor(), "model").unwrap().keys().to_vec()
}

fn complaint(text: impl AsRef<[u8]>) -> String {
    keys(text.as_ref(), &processor(), "model").unwrap_err().to_string()
}

fn expected(parent: u64, tokens: &[u32], extra: &[BlockExtra]) -> Vec<u64> {
    let keys = processor().block_keys_with_extra(BlockHash(parent), tokens, "model", extra);
    keys.unwrap().into_iter().map(|key| key.0).collect()
}

#[test]
fn an_array_and_an_object_with_its_tokens_are_the_same() {
    let keys = expected(0, &[1, 2, 3, 4], &[]);
    for text in [
        "[1,2,3,4]",
        " [1, 2, 3, 4, 5]\n",
        r#"{"tokens":[1,2,3,4]}"#,
        r#"{"parent":null,"tokens":[1,2,3,4],"extra":null}"#,
        r#"{"parent":0,"tokens":[1,2,3,4],"extra":[]}"#,
        r#"{"tokens":[1,2,3,4],"extra":[null,[]]}"#,
    ] {
        assert_eq!(computed(text), keys, "{text}");
    }
}

#[test]
fn a_chain_is_continued_from_its_parent_as_a_number_or_a_text() {
    let parent = u64::MAX - 1;
    let keys = expected(parent, &[1, 2], &[]);
    assert_eq!(computed(&format!(r#"{{"tokens":[1,2],"parent":{parent}}}"#)), keys);
    assert_eq!(computed(&format!(r#"{{"tokens":[1,2],"parent":"{parent}"}}"#)), keys);
}

#[test]
fn extras_are_what_engines_announce() {
    let texts = |texts: &[&str]| texts.iter().copied().collect::<BlockExtra>();
    let keys = expected(0, &[1, 2, 3, 4], &[texts(&["a", "b"]), texts(&[])]);
    let text = r#"{"tokens":[1,2,3,4],"extra":[["a",7,null,true,-1,0.5,[],[1],["b",-3]],null]}"#;
    assert_eq!(computed(text), keys);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, says) in [
        ("", "line 1, column 0: nothing was given: expected a JSON array of token ids"),
        (" \n", "nothing was given"),
        ("[1,2", "line 1, column 4: EOF while parsing a list"),
        ("[1,2] 3", "line 1, column 7: trailing characters"),
        ("7", "line 1, column 1: invalid type: integer `7`, expected an array of token ids"),
        ("[1,\n -2]", "line 2, column 3: invalid type: integer `-2`, expected a whole number"),
        ("[1,\n -2]", "from 0 to 4294967295 as token 1"),
        ("[4294967296]", "expected a whole number from 0 to 4294967295 as token 0"),
        ("[1.0]", "invalid type: floating point `1.0`"),
        (r#"["1"]"#, "invalid type: string \"1\""),
        ("{}", "missing field `tokens`"),
        (r#"{"token":[]}"#, "unknown field `token`, expected one of `tokens`, `parent`, `extra`"),
        (r#"{"tokens":[],"tokens":[]}"#, "`tokens` stands there twice"),
        (r#"{"tokens":[],"parent":-1}"#, "expected a block key as `parent`"),
        (r#"{"tokens":[],"parent":"1x"}"#, "expected a block key as `parent`"),
        (r#"{"tokens":[],"extra":[{}]}"#, "invalid type: map, expected a sequence"),
        (r#"{"tokens":[],"extra":[[{}]]}"#, "expected a text, an array or a number in `extra`"),
    ] {
        let complaint = complaint(text);
        assert!(complaint.starts_with("line "), "{complaint}");
        assert!(complaint.contains(says), "{text}: {complaint}");
    }
    assert!(complaint(b"[1,\xff]").starts_with("line 1, column 4"));
    // Nesting that a reader could not follow is refused, and does not end the process.
    let deep = format!(r#"{{"tokens":[],"extra":[[{}"#, "[".repeat(1_000_000));
    assert!(complaint(deep).contains("recursion limit"));
}

#[test]
fn another_number_of_extras_than_of_blocks_is_refused() {
    let error = keys(br#"{"tokens":[1,2,3,4],"extra":[null]}"#, &processor(), "m").unwrap_err();
    assert!(matches!(error, HashError::Extra(_)), "{error:?}");
}

#[test]
fn keys_are_printed_one_a_line_or_as_one_object() {
    let printed = |format| {
        let keys = keys(b"[1,2,3,4,5]", &processor(), "a \"model\"").unwrap();
        let mut output = Vec::new();
        print(&keys, format, &mut output).unwrap();
        (keys, String::from_utf8(output).unwrap())
    };
    let (keys, lines) = printed(Format::Lines);
    let [first, second] = keys.keys() else { panic!("{keys:?}") };
    assert_eq!(lines, format!("{first}\n{second}\n"));
    let root = processor().root("a \"model\"").0;
    assert_eq!(
        printed(Format::Json).1,
        format!(
            r#"{{"model":"a \"model\"","algorithm":"cbor-fnv","block_size":2,"root":{root},"tokens":5,"keys":[{first},{second}]}}"#
        ) + "\n"
    );
}
