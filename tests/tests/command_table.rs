//! The table of commands against the servers that it was made from.

use respire::{Client, Command, CommandInfo};
use respire_cli::local_server::{Flavour, LocalServer};
use respire_tests::command_table::{PATH, generate};

#[tokio::test]
async fn the_table_is_what_the_servers_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let committed =
        std::fs::read_to_string(format!("{path}/{PATH}")).expect("it is part of the client");
    let generated = generate().await;
    for (committed, generated) in committed.lines().zip(generated.lines()) {
        assert_eq!(
            committed, generated,
            "run `cargo run -p respire-tests --bin command-table > {PATH}`"
        );
    }
    assert_eq!(committed.lines().count(), generated.lines().count());
}

/// Commands whose keys depend on the arguments.
const MOVABLE: &[&str] = &[
    "EVAL return 2 k1 k2 a1",
    "EVALSHA sha 0 a1",
    "FCALL_RO f 1 k1",
    "BLMPOP 0 2 k1 k2 LEFT COUNT 2",
    "BZMPOP 0 1 k1 MIN",
    "LMPOP 1 k1 LEFT",
    "ZMPOP 2 k1 k2 MAX",
    "SINTERCARD 2 k1 k2 LIMIT 1",
    "ZDIFF 2 k1 k2 WITHSCORES",
    "ZUNIONSTORE d 2 k1 k2 WEIGHTS 1 2",
    "ZINTERSTORE d 1 k1",
    "ZDIFFSTORE d 1 k1",
    "XREAD STREAMS k1 k2 0 0",
    "XREAD COUNT 2 BLOCK 5 streams k1 0",
    "XREADGROUP GROUP streams STREAMS COUNT 2 STREAMS k1 k2 > >",
    "SORT k1",
    "SORT k1 BY store GET store LIMIT 0 5 DESC ALPHA STORE d",
    "SORT k1 STORE d1 STORE d2",
    "SORT_RO k1 BY w_* GET x_*",
    "GEORADIUS k1 1 2 3 m STORE d",
    "GEORADIUS k1 1 2 3 m STOREDIST d",
    "GEORADIUS k1 1 2 3 m WITHDIST",
    "GEORADIUSBYMEMBER k1 store 3 m STORE d",
    "MIGRATE host 6379 k1 0 100 COPY",
    "MIGRATE host 6379  0 100 COPY KEYS k1 k2",
    "MIGRATE host 6379  0 100 AUTH keys KEYS k1 k2 k3",
    "BITFIELD k1 GET u8 0",
    "SET k1 v EX 5 GET",
    "MSET k1 v1 k2 v2",
    "OBJECT ENCODING k1",
    "XGROUP CREATE k1 g $ MKSTREAM",
    "MEMORY USAGE k1 SAMPLES 5",
    "LCS k1 k2 LEN",
    "PFMERGE d k1 k2",
    "BITOP AND d k1 k2",
];

#[tokio::test]
async fn keys_are_where_servers_find_them() {
    for flavour in Flavour::ALL {
        let server = LocalServer::start(flavour).expect("the test needs a server");
        let client = Client::connect(&server.url()).await.expect("the server is up");
        let mut compared = 0;
        for words in MOVABLE {
            let words: Vec<&str> = words.split(' ').collect();
            assert!(agree_on_keys(&client, &words).await, "{flavour:?}: {words:?} has keys");
        }
        for info in CommandInfo::all().filter(|info| !info.has_movable_keys()) {
            let known = match flavour {
                Flavour::Valkey => info.is_in_valkey_8_0(),
                Flavour::Redis => info.is_in_redis_7_0(),
            };
            if info.has_subcommands() || info.arity() == 1 {
                // The word behind it would have to be a subcommand; or there is none, which Redis 7.0 does not take.
                continue;
            }
            // The least number of words, and where there may be more, keys and values for another round.
            let least = info.arity().unsigned_abs() as usize;
            let count = if info.arity() < 0 { least + 2 } else { least };
            let mut words: Vec<String> = info.name().split('|').map(str::to_owned).collect();
            (words.len()..count).for_each(|at| words.push(format!("w{at}")));
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            if known && agree_on_keys(&client, &words).await {
                compared += 1;
            }
        }
        assert!(compared > 150, "{flavour:?}: {compared} commands with keys");
    }
}

/// Whether there are keys, on which the server and we must agree.
async fn agree_on_keys(client: &Client, words: &[&str]) -> bool {
    let command = Command::new(words[0]).args(&words[1..]);
    let ours: Vec<&[u8]> = command.keys().collect();
    let asked = Command::new("COMMAND").arg("GETKEYS").args(words);
    match client.query::<Vec<String>>(asked).await {
        Ok(keys) => {
            if command.sharded_channels().next().is_some() {
                return false;
            }
            let keys: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
            assert_eq!(ours, keys, "{words:?}");
            true
        }
        Err(error) => {
            let text = error.server_error().expect("the server answers").text().to_owned();
            if text.contains("Invalid number") && matches!(words[0], "zrank" | "zrevrank") {
                // Redis 7.0 does not take the option that Valkey does.
                return false;
            }
            assert!(text.contains("no key arguments"), "{words:?}: {text}");
            assert!(ours.is_empty(), "{words:?}: {ours:?}");
            false
        }
    }
}
