//! `respire hash` as a person or a script runs it.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::fs::File;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::{Value, json};

const PRINTED: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const WRONG_COMMAND_LINE: Option<i32> = Some(2);
const BAD_INPUT: Option<i32> = Some(3);

fn respire(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_respire"));
    command.arg("hash").args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn hash(args: &[&str], input: &str) -> Output {
    let mut child = respire(args).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // The command may stop listening before the end.
    let sender = thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    sender.join().unwrap();
    output
}

/// What is printed for good input, with nothing on standard error.
fn printed(args: &[&str], input: &str) -> String {
    let output = hash(args, input);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert_eq!(output.status.code(), PRINTED);
    String::from_utf8(output.stdout).unwrap()
}

/// The exit status and the complaint; nothing is printed.
fn refused(args: &[&str], input: &str) -> (Option<i32>, String) {
    let output = hash(args, input);
    assert_eq!(output.stdout, b"");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn tokens(count: u32) -> String {
    json!((1..=count).collect::<Vec<u32>>()).to_string()
}

const KEYS: [u64; 4] = [
    8_542_686_838_728_806_592,
    2_106_228_696_136_303_733,
    16_371_395_216_433_005_515,
    5_023_563_226_861_425_725,
];

fn lines(keys: &[u64]) -> String {
    keys.iter().map(|key| format!("{key}\n")).collect()
}

#[test]
fn llm_ds_own_vector_comes_out() {
    let args = ["--model", "ibm-granite/granite-3.1-8b-instruct", "--block-size", "4"];
    assert_eq!(printed(&args, "[8197,438,322,18926,432,45600,49]"), "1334984470577408192\n");
}

#[test]
fn keys_are_one_a_line() {
    let args = ["--model", "test-model", "--seed", "test"];
    assert_eq!(printed(&args, &tokens(79)), lines(&KEYS));
    let args = [&args[..], &["--algorithm", "cbor-fnv", "--block-size", "16"]].concat();
    assert_eq!(printed(&args, &tokens(64)), lines(&KEYS));
}

#[test]
fn json_is_one_object_from_which_the_chain_can_go_on() {
    let args = ["--model", "test-model", "--seed", "test", "--json"];
    let object: Value = serde_json::from_str(&printed(&args, &tokens(35))).unwrap();
    assert_eq!(object["keys"], json!(KEYS[..2]));
    assert_eq!((&object["tokens"], &object["block_size"]), (&json!(35), &json!(16)));
    assert_eq!(
        (&object["model"], &object["algorithm"]),
        (&json!("test-model"), &json!("cbor-fnv"))
    );

    let rest = json!({"tokens": (33..=64).collect::<Vec<u32>>(), "parent": object["keys"][1]});
    let object: Value = serde_json::from_str(&printed(&args, &rest.to_string())).unwrap();
    assert_eq!((&object["keys"], &object["root"]), (&json!(KEYS[2..]), &json!(KEYS[1])));
}

#[test]
fn every_option_and_member_has_a_say() {
    let plain = printed(&["--model", "m"], &tokens(16));
    let mut all = vec![plain];
    let salted = json!({"tokens": (1..=16).collect::<Vec<u32>>(), "extra": [["salt"]]});
    all.push(printed(&["--model", "m"], &salted.to_string()));
    all.push(printed(&["--model", "n"], &tokens(16)));
    all.push(printed(&["--model", "m", "--seed", "1"], &tokens(16)));
    all.push(printed(&["--model", "m", "--block-size", "8"], &tokens(16)));
    all.push(printed(&["--model", "m", "--algorithm", "xxh64"], &tokens(16)));
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6);
}

#[test]
fn a_prompt_shorter_than_a_block_has_no_keys_and_says_so() {
    let output = hash(&["--model", "m"], "[1,2,3]");
    assert_eq!((output.status.code(), &*output.stdout), (PRINTED, &b""[..]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said, "respire: 3 tokens fill no block: there are no keys\n");
}

#[test]
fn input_that_is_something_else_is_refused_with_its_place() {
    let (code, said) = refused(&["--model", "m"], "[1,\n 2,\n -3]");
    assert_eq!(code, BAD_INPUT);
    assert!(said.starts_with("respire: the input: line 3, column 3: "), "{said}");
    assert!(said.contains("as token 2"), "{said}");
    let extra = json!({"tokens": (1..=32).collect::<Vec<u32>>(), "extra": [["image"]]});
    let (code, said) = refused(&["--model", "m"], &extra.to_string());
    assert_eq!(code, BAD_INPUT);
    assert!(said.contains("length 1 does not match token chunk count 2"), "{said}");
}

#[test]
fn a_wrong_command_line_is_refused() {
    for args in [
        &[][..],
        &["--model", "m", "--block-size", "0"],
        &["--model", "m", "--block-size", "-1"],
        &["--model", "m", "--algorithm", "sha256"],
        &["--model", "m", "tokens.json"],
    ] {
        let (code, said) = refused(args, "[]");
        assert_eq!(code, WRONG_COMMAND_LINE, "{args:?}: {said}");
    }
}

#[test]
fn input_that_cannot_be_read_and_output_that_cannot_be_written_are_failures() {
    let folder = File::open(env!("CARGO_MANIFEST_DIR")).unwrap();
    let output = respire(&["--model", "m"]).stdin(folder).output().unwrap();
    assert_eq!(output.status.code(), FAILED);
    assert!(String::from_utf8(output.stderr).unwrap().contains("the input cannot be read"));

    let full = File::options().write(true).open("/dev/full").unwrap();
    let mut child = respire(&["--model", "m"]).stdout(full).spawn().unwrap();
    child.stdin.take().unwrap().write_all(tokens(16).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), FAILED);
    assert!(String::from_utf8(output.stderr).unwrap().contains("the keys cannot be written"));
}
