//! `respire index` as a person or a script runs it.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use respire_cli::local_server::{Flavour, LocalServer};
use serde_json::{Value, json};

fn index(args: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_respire"));
    command.arg("index").args(args).env_remove("VALKEY_ADDR").env_remove("VALKEY_ENABLE_RDMA");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that reads nothing may be gone before it is written to.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What a command prints that succeeds.
fn done(args: &[&str], input: &str) -> String {
    let output = index(args, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command says that fails with this exit status.
fn refused(args: &[&str], status: i32) -> String {
    let output = index(args, "");
    assert_eq!(output.status.code(), Some(status), "{args:?}");
    assert!(output.stdout.is_empty(), "{args:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn start(flavour: Flavour) -> LocalServer {
    LocalServer::builder(flavour).tcp().start().expect("both servers are needed for the tests")
}

#[test]
fn blocks_are_added_found_evicted_and_cleared_in_every_layout_on_both_servers() {
    for flavour in Flavour::ALL {
        let server = start(flavour);
        let url = server.url();
        for layout in ["llm-d", "bitmap"] {
            let run = |args: &[&str], input: &str| {
                done(&[&["--url", &url, "--layout", layout], args].concat(), input)
            };
            let engine = ["--engine-key", "901", "--engine-key", "902", "--engine-key", "903"];
            let add = ["add", "11", "12", "13", "--entry", "10.0.0.1:8000@gpu"];
            assert_eq!(run(&[&add[..], &engine].concat(), ""), "");
            run(&["add", "--entry", "b@cpu", "--entry", "b@gpu[speculative]"], "11\n12\n");
            assert_eq!(
                run(&["lookup", "11", "12", "13", "14"], ""),
                "11  10.0.0.1:8000@gpu b@cpu b@gpu[speculative]\n\
                 12  10.0.0.1:8000@gpu b@cpu b@gpu[speculative]\n\
                 13  10.0.0.1:8000@gpu\n\
                 3 of 4 blocks: 10.0.0.1:8000 3, b 2\n",
                "{flavour:?} {layout}"
            );
            let found = run(&["lookup", "--json", "--pod", "b"], "11 12 13");
            let found: Value = serde_json::from_str(&found).unwrap();
            assert_eq!(found["pods"], json!({"b": 2}));
            assert_eq!((&found["asked"], &found["complete"]), (&json!(3), &json!(true)));
            assert_eq!(found["blocks"][1]["key"], json!(12));
            run(&["evict", "--engine", "902", "--entry", "10.0.0.1:8000@gpu"], "");
            run(&["evict", "12", "--entry", "b@gpu[speculative]"], "");
            let found = run(&["lookup", "11", "12", "13"], "");
            assert!(found.contains("\n12  b@cpu\n"), "{found}");
            assert!(found.ends_with("3 of 3 blocks: 10.0.0.1:8000 1, b 2\n"), "{found}");
            assert_eq!(run(&["--json", "clear", "b"], ""), "{\"done\":true}\n");
            assert_eq!(run(&["lookup", "12"], ""), "0 of 1 blocks\n");
            run(&["clear", "10.0.0.1:8000"], "");
            assert_eq!(run(&["lookup", "11"], ""), "0 of 1 blocks\n");
        }
        server.stop().unwrap();
    }
}

#[test]
fn a_sweep_gives_back_what_gone_pods_have_left() {
    let server = start(Flavour::Valkey);
    let url = server.url();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("index.json");
    let index = json!({"address": url, "layout": "bitmap", "quarantine": 0});
    let document = json!({"kvBlockIndexConfig": {"valkeyConfig": index}});
    std::fs::write(&file, document.to_string()).unwrap();
    let config = file.to_str().unwrap();
    let run = |args: &[&str]| done(&[&["--config", config], args].concat(), "");
    run(&["add", "11", "12", "--entry", "a@gpu", "--engine-key", "901", "--engine-key", "902"]);
    run(&["add", "12", "--entry", "b@gpu"]);
    run(&["clear", "a"]);
    let swept: Value = serde_json::from_str(&run(&["sweep", "--json"])).unwrap();
    let expected = json!({"keys": 4, "changed": 2, "removed": 0, "freed": 1, "forgotten": 0});
    assert_eq!(swept, expected);
    assert_eq!(run(&["lookup", "12"]), "12  b@gpu\n1 of 1 blocks: b 1\n");
    let nothing = "blocks changed, 0 keys removed, 0 columns freed, 0 pods forgotten\n";
    let swept = run(&["sweep"]);
    assert!(swept.ends_with(&format!("keys: 0 {nothing}")), "{swept}");
    // The layout that the file names is that of every command.
    let stat: Value = serde_json::from_str(&run(&["stat", "--json"])).unwrap();
    assert_eq!((&stat["block_keys"], &stat["other_keys"]), (&json!(3), &json!(0)));
    let error = refused(&["--url", &url, "sweep"], 1);
    assert!(error.contains("only an index in the bitmap layout is swept"), "{error}");
}

#[test]
fn what_there_is_is_counted_by_kind_and_pod() {
    let server = start(Flavour::Valkey);
    let url = server.url();
    let on = |args: &[&str]| done(&[&["--url", &url], args].concat(), "");
    on(&["add", "11", "12", "--entry", "a@gpu", "--entry", "b@gpu", "--engine-key", "901"]);
    on(&["add", "13", "--entry", "a@cpu"]);
    on(&["--layout", "bitmap", "add", "11", "--entry", "a@gpu"]);
    let stat: Value = serde_json::from_str(&on(&["stat", "--entries", "--json"])).unwrap();
    assert_eq!(stat["block_keys"], json!(3));
    assert_eq!(stat["engine_keys"], json!(1));
    assert_eq!(stat["entries"], json!({"a": 3, "b": 2}));
    assert!(stat["server"].as_str().unwrap().starts_with("valkey"), "{stat}");
    assert!(stat["other_keys"].as_u64().unwrap() >= 1, "those of the bitmap layout: {stat}");
    let bitmap: Value =
        serde_json::from_str(&on(&["--layout", "bitmap", "stat", "--json"])).unwrap();
    assert_eq!(bitmap["other_keys"].as_u64(), Some(4), "those of llm-d's layout: {bitmap}");
    assert!(bitmap["block_keys"].as_u64().unwrap() >= 1, "{bitmap}");
    assert_eq!(bitmap.get("engine_keys"), None);
    let text = on(&["stat", "--entries"]);
    assert!(text.contains("\nblock keys   3\nengine keys  1\n"), "{text}");
    assert!(text.contains("\na  3 entries\nb  2 entries\n"), "{text}");
    server.stop().unwrap();
}

#[test]
fn a_configuration_or_the_environment_names_the_server_as_well() {
    let server = start(Flavour::Redis);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("indexer.json");
    let path = path.to_str().unwrap();
    let config = json!({"kvBlockIndexConfig": {
        "redisConfig": {"address": server.url(), "keyPrefix": "mine:"},
    }});
    std::fs::write(path, config.to_string()).unwrap();
    done(&["--config", path, "add", "5", "--entry", "a@gpu"], "");
    let found = done(&["--url", &server.url(), "--key-prefix", "mine:", "lookup", "5"], "");
    assert!(found.starts_with("5  a@gpu\n"), "{found}");
    assert_eq!(done(&["--url", &server.url(), "lookup", "5"], ""), "0 of 1 blocks\n");

    // The layout that it says is the one that is asked and changed.
    let config = json!({"kvBlockIndexConfig": {
        "redisConfig": {"address": server.url(), "layout": "bitmap"},
    }});
    std::fs::write(path, config.to_string()).unwrap();
    done(&["--config", path, "add", "6", "--entry", "b@cpu"], "");
    let found = done(&["--url", &server.url(), "--layout", "bitmap", "lookup", "6"], "");
    assert!(found.starts_with("6  b@cpu\n"), "{found}");
    assert_eq!(done(&["--url", &server.url(), "lookup", "6"], ""), "0 of 1 blocks\n");
    assert!(done(&["--config", path, "stat"], "").contains("index keys   "));
    let message = refused(&["--config", path, "stat", "--entries"], 2);
    assert!(message.contains("--entries counts in llm-d's layout only"), "{message}");

    std::fs::write(path, "{}").unwrap();
    let message = refused(&["--config", path, "lookup", "5"], 1);
    assert!(message.contains("configures no server"), "{message}");
    std::fs::write(path, r#"{"kvBlockIndexConfig": {"redisConfg": {}}}"#).unwrap();
    let message = refused(&["--config", path, "lookup", "5"], 1);
    assert!(message.contains("redisConfg"), "{message}");
    let message = refused(&["lookup", "5"], 1);
    assert!(message.contains("name a server by --url, --config or VALKEY_ADDR"), "{message}");
    server.stop().unwrap();
}

#[test]
fn a_wrong_command_line_is_refused_before_anything_is_asked() {
    for (args, expected) in [
        (&["lookup", "x"][..], "not an unsigned decimal number of 64 bits"),
        (&["add", "5"], "--entry"),
        (&["add", "5", "--entry", "gpu"], "expected POD@TIER"),
        (&["clear"], "POD"),
        (&["--url", "redis://localhost", "--config", "x", "stat"], "cannot be used with"),
        (&["--layout", "bitmap", "--config", "x", "stat"], "cannot be used with"),
    ] {
        let message = refused(args, 2);
        assert!(message.contains(expected), "{args:?}: {message}");
    }
    // What is wrong on standard input has the status that it has for `respire hash`.
    let output = index(&["--url", "redis://127.0.0.1:1", "lookup"], "5 abc");
    assert_eq!(output.status.code(), Some(3));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("abc: not an unsigned decimal number"), "{message}");
    for (url, name) in [("redis://127.0.0.1:1", "Redis"), ("valkey://127.0.0.1:1", "Valkey")] {
        let message = refused(&["--url", url, "lookup", "5"], 1);
        assert!(message.contains(&format!("failed to create {name} index")), "{message}");
    }
}
