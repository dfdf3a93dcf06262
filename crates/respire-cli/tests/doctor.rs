//! `respire doctor` as a person or a script runs it, against real servers.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

use std::process::{Command, Output};

use respire_cli::local_server::{Flavour, LocalServer};
use serde_json::Value;

const FINE: Option<i32> = Some(0);
const WARNINGS: Option<i32> = Some(1);
const WRONG_COMMAND_LINE: Option<i32> = Some(2);
const NOT_EXAMINED: Option<i32> = Some(3);

fn doctor(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_respire"));
    command.arg("doctor").args(args).output().unwrap()
}

fn server(flavour: Flavour, args: &[&str]) -> LocalServer {
    LocalServer::builder(flavour).tcp().args(args.iter().copied()).start().unwrap()
}

/// The exit status and the levels of the findings by their checks.
fn levels(server: &LocalServer) -> (Option<i32>, Vec<(String, String)>) {
    let output = doctor(&[server.tcp_url().unwrap().as_str(), "--json"]);
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = object["findings"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let levels = findings.iter().map(|one| (text(&one["check"]), text(&one["level"])));
    (output.status.code(), levels.collect())
}

fn of(levels: &[(String, String)], level: &str) -> Vec<String> {
    let of_level = levels.iter().filter(|(_, other)| other == level);
    of_level.map(|(check, _)| check.clone()).collect()
}

#[test]
fn a_server_as_it_is_installed_serves_and_could_be_cheaper() {
    for flavour in Flavour::ALL {
        let server = server(flavour, &[]);
        let (code, levels) = levels(&server);
        assert_eq!((code, of(&levels, "warning").len()), (FINE, 0), "{levels:?}");
        assert!(of(&levels, "note").contains(&"hash-max-listpack-value".to_owned()), "{levels:?}");
        for check in ["version", "protocol", "round trip"] {
            assert!(of(&levels, "ok").contains(&check.to_owned()), "{levels:?}");
        }
        let output = doctor(&[server.tcp_url().unwrap().as_str()]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(" 8.0.") || text.contains(" 7.0."), "{text}");
        assert!(text.contains("\nnote     hash-max-listpack-value  64\n"), "{text}");
        assert_eq!(output.status.code(), FINE);
    }
}

#[test]
fn what_has_been_changed_is_not_complained_of_any_more() {
    for flavour in Flavour::ALL {
        let args = [
            "--hash-max-listpack-value",
            "256",
            "--maxmemory",
            "100mb",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ];
        let (code, levels) = levels(&server(flavour, &args));
        // What this machine has for RDMA is not the server's.
        let notes = of(&levels, "note").into_iter().filter(|check| check != "RDMA here");
        assert_eq!((code, notes.count()), (FINE, 0), "{levels:?}");
        assert!(of(&levels, "warning").is_empty(), "{levels:?}");
    }
}

#[test]
fn a_server_that_drops_keys_and_one_of_a_cluster_are_warned_of() {
    let args = ["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"];
    let (code, found) = levels(&server(Flavour::Valkey, &args));
    assert_eq!((code, of(&found, "warning")), (WARNINGS, vec!["maxmemory-policy".to_owned()]));
    let (code, found) = levels(&server(Flavour::Valkey, &["--cluster-enabled", "yes"]));
    assert_eq!((code, of(&found, "warning")), (WARNINGS, vec!["cluster-enabled".to_owned()]));
}

#[cfg(all(feature = "rdma", target_os = "linux"))]
#[test]
fn what_this_machine_has_for_rdma_is_said_with_what_is_missing() {
    let server = server(Flavour::Valkey, &[]);
    let output = doctor(&[server.tcp_url().unwrap().as_str(), "--json"]);
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut findings = object["findings"].as_array().unwrap().iter();
    let rdma = findings.find(|finding| finding["check"] == "RDMA here").unwrap();
    let probe = respire_rdma::probe();
    for device in &probe.devices {
        assert!(rdma["found"].as_str().unwrap().contains(&device.name), "{rdma}");
    }
    if probe.problems.is_empty() {
        assert_eq!((&rdma["level"], &rdma["advice"]), (&"ok".into(), &Value::Null));
    } else {
        assert_eq!(rdma["level"], "note");
        for problem in &probe.problems {
            assert!(rdma["advice"].as_str().unwrap().contains(problem), "{rdma}");
        }
    }
}

#[test]
fn settings_that_are_kept_secret_are_passed_over() {
    let (code, found) = levels(&server(Flavour::Valkey, &["--rename-command", "CONFIG", ""]));
    assert_eq!(code, FINE, "{found:?}");
    assert!(found.iter().all(|(check, _)| check != "hash-max-listpack-value"), "{found:?}");
}

#[test]
fn a_server_that_is_not_there_and_a_wrong_address_are_told_apart() {
    // Port 1 of the loopback interface: nothing listens there.
    let output = doctor(&["valkey://user:hunter2@127.0.0.1:1"]);
    assert_eq!((output.status.code(), &*output.stdout), (NOT_EXAMINED, &b""[..]));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("respire: 127.0.0.1:1 cannot be examined: "), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
    for args in [&[][..], &["http://user:hunter2@h"]] {
        let output = doctor(args);
        assert_eq!(output.status.code(), WRONG_COMMAND_LINE);
        assert!(!String::from_utf8(output.stderr).unwrap().contains("hunter2"));
    }
}
