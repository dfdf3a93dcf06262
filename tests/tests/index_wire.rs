//! What the index leaves on a server, byte for byte, and what it makes of what others have left there.
//!
//! The raw side is a plain socket: arguments go out as they stand here, and replies are compared as bytes.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers included")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    time::Duration,
};

use respire::{Client, Config, Protocol};
use respire_cli::local_server::{Flavour, LocalServer};
use respire_kvblock::{
    BlockHash, ClearBy, FieldFormat, Index, KeyType, NearCacheConfig, PodEntry, PodSet, ServerIndex,
};
use respire_tests::{
    index_suite::{cpu, gpu, hashes, holders, mapped},
    peer::{PeerConnection, ScriptedPeer},
};

/// The field of `10.0.0.1:8000` in the tier `gpu`, as llm-d writes it.
const FIELD: &str = r#"{"PodIdentifier":"10.0.0.1:8000","DeviceTier":"gpu","Speculative":false,"HasGroup":false,"GroupIdx":0}"#;

const POD: &str = "10.0.0.1:8000";

/// A connection that knows no more of the protocol than how to send a command.
struct Raw {
    stream: BufReader<UnixStream>,
}

impl Raw {
    fn connect(server: &LocalServer) -> Self {
        let stream = UnixStream::connect(server.socket_path()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    fn send(&mut self, args: &[&str]) {
        let mut command = format!("*{}\r\n", args.len());
        for arg in args {
            command += &format!("${}\r\n{arg}\r\n", arg.len());
        }
        self.stream.get_mut().write_all(command.as_bytes()).unwrap();
    }

    /// Sends a command and compares the reply, which is on one line.
    fn expect(&mut self, args: &[&str], reply: &str) {
        self.send(args);
        assert_eq!(self.line(), reply, "{args:?}");
    }

    /// Sends a command and compares the reply, which is an array of strings, in RESP2.
    fn expect_strings(&mut self, args: &[&str], strings: &[&str]) {
        self.send(args);
        let mut expected = format!("*{}\r\n", strings.len());
        for string in strings {
            expected += &format!("${}\r\n{string}\r\n", string.len());
        }
        let mut found = vec![0; expected.len()];
        self.stream.read_exact(&mut found).unwrap();
        assert_eq!(String::from_utf8_lossy(&found), expected, "{args:?}");
    }

    /// Like [`expect_strings`](Self::expect_strings) for a reply in any order.
    fn expect_set(&mut self, args: &[&str], strings: &[&str]) {
        self.send(args);
        let mut found: Vec<String> = (0..self.count('*')).map(|_| self.string()).collect();
        found.sort();
        let mut expected = strings.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "{args:?}");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end_matches("\r\n").to_owned()
    }

    fn count(&mut self, kind: char) -> usize {
        let line = self.line();
        line.strip_prefix(kind).unwrap_or_else(|| panic!("{line}")).parse().unwrap()
    }

    fn string(&mut self) -> String {
        let mut text = vec![0; self.count('$') + 2];
        self.stream.read_exact(&mut text).unwrap();
        text.truncate(text.len() - 2);
        String::from_utf8(text).unwrap()
    }

    /// How often each command has been called, from the server's own count.
    fn calls(&mut self, command: &str) -> usize {
        self.send(&["INFO", "commandstats"]);
        let stats = self.string();
        let prefix = format!("cmdstat_{command}:calls=");
        let calls = stats.lines().find_map(|line| line.strip_prefix(&prefix));
        calls.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }
}

/// Runs a case on both servers, in both protocols, each time on an empty server.
macro_rules! on_servers {
    ($($(#[$doc:meta])* async fn $case:ident($index:ident, $raw:ident) $body:block)*) => {$(
        $(#[$doc])*
        #[test]
        fn $case() {
            on_servers(async |$index: ServerIndex, mut $raw: Raw| { $body; let _ = &mut $raw; });
        }
    )*};
}

fn on_servers(case: impl AsyncFn(ServerIndex, Raw)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for flavour in Flavour::ALL {
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let server = LocalServer::start(flavour).unwrap();
            runtime.block_on(async {
                let config: Config = server.url().parse().unwrap();
                let client = Client::with_config(config.with_protocol(protocol)).await.unwrap();
                assert_eq!(client.protocol(), Some(protocol));
                case(ServerIndex::new(client), Raw::connect(&server)).await;
            });
        }
    }
}

/// The numbers of blocks that each pod holds from the first of these keys on.
async fn prefix(index: &ServerIndex, keys: &[u64], pod: &str) -> usize {
    let keys = hashes(keys.iter().copied());
    let found = index.lookup(&keys, &PodSet::all()).await.unwrap();
    found.prefix_lengths().get(pod).copied().unwrap_or(0)
}

async fn evict(index: &ServerIndex, engine: &[u64], entries: &[PodEntry]) {
    let engine = hashes(engine.iter().copied());
    index.evict(&engine, KeyType::Engine, entries).await.unwrap();
}

on_servers! {
    async fn an_add_leaves_llm_ds_bytes(index, raw) {
        let (engine, request) = (hashes([55_269_488]), hashes([9_540_012_594_951_042_066]));
        index.add(Some(&engine), &request, &[gpu(POD)]).await.unwrap();
        raw.expect(&["DBSIZE"], ":2");
        raw.expect(&["TYPE", "9540012594951042066"], "+hash");
        raw.expect_strings(&["HGETALL", "9540012594951042066"], &[FIELD, ""]);
        raw.expect(&["TYPE", "engine:55269488"], "+zset");
        raw.expect_strings(
            &["ZRANGE", "engine:55269488", "0", "-1", "WITHSCORES"],
            &["9540012594951042066", "0"],
        );
        raw.expect(&["TTL", "9540012594951042066"], ":-1");
        raw.expect(&["TTL", "engine:55269488"], ":-1");
    }

    async fn every_entry_is_a_field_in_gos_escaping(index, raw) {
        let entries = [
            gpu("10.0.0.1:8000"),
            cpu("a<b>&\"c\"\\/").with_speculative(),
            PodEntry::new("line\u{2028}\u{2029}\n\u{7}\u{8}\u{c}\u{7f}é", "gpu").with_group(0),
            gpu("10.0.0.1:8000").with_group(-7),
        ];
        index.add(None, &hashes([1]), &entries).await.unwrap();
        raw.expect_set(
            &["HKEYS", "1"],
            &[
                FIELD,
                r#"{"PodIdentifier":"a\u003cb\u003e\u0026\"c\"\\/","DeviceTier":"cpu","Speculative":true,"HasGroup":false,"GroupIdx":0}"#,
                concat!(
                    r#"{"PodIdentifier":"line\u2028\u2029\n\u0007\b\f"#, "\u{7f}é",
                    r#"","DeviceTier":"gpu","Speculative":false,"HasGroup":true,"GroupIdx":0}"#
                ),
                r#"{"PodIdentifier":"10.0.0.1:8000","DeviceTier":"gpu","Speculative":false,"HasGroup":true,"GroupIdx":-7}"#,
            ],
        );
        raw.expect_strings(&["HVALS", "1"], &["", "", "", ""]);
        raw.expect(&["DBSIZE"], ":1");
    }

    async fn scores_are_positions_within_an_engine_key(index, raw) {
        let scores = ["ZRANGE", "engine:1", "0", "-1", "WITHSCORES"];
        index.add(Some(&hashes([0, 1])), &hashes([10, 11, 12, 13, 14, 15]), &[gpu(POD)]).await.unwrap();
        raw.expect_strings(&scores, &["13", "0", "14", "1", "15", "2"]);
        index.add(Some(&hashes([2, 3, 4, 5])), &hashes([20, 21]), &[gpu(POD)]).await.unwrap();
        for (engine, request) in [("2", "20"), ("3", "20"), ("4", "21"), ("5", "21")] {
            let key = format!("engine:{engine}");
            raw.expect_strings(&["ZRANGE", &key, "0", "-1", "WITHSCORES"], &[request, "0"]);
        }
    }

    async fn an_eviction_leaves_nothing(index, raw) {
        index.add(Some(&hashes([1, 2])), &hashes([11, 12]), &[gpu(POD), cpu(POD)]).await.unwrap();
        evict(&index, &[1, 2], &[gpu(POD)]).await;
        raw.expect(&["DBSIZE"], ":4");
        raw.expect(&["HLEN", "11"], ":1");
        evict(&index, &[2, 1], &[cpu(POD)]).await;
        raw.expect(&["DBSIZE"], ":0");
    }

    /// Written apart, an eviction in between could drop the mapping of an entry that is about to come.
    async fn entries_and_their_mappings_are_one_transaction(index, raw) {
        raw.expect(&["MONITOR"], "+OK");
        index.add(Some(&hashes([1, 2])), &hashes([11, 12]), &[gpu("a"), gpu("b")]).await.unwrap();
        let mut commands = Vec::new();
        while commands.last().is_none_or(|last| last != "EXEC") {
            let line = raw.line();
            let quoted: Vec<_> = line.split('"').collect();
            match quoted[1] {
                name @ ("HSET" | "ZADD") => commands.push(format!("{name} {}", quoted[3])),
                name @ ("MULTI" | "EXEC") => commands.push(name.to_owned()),
                _ => {}
            }
        }
        let expected = ["MULTI", "HSET 11", "ZADD engine:1", "HSET 12", "ZADD engine:2", "EXEC"];
        assert_eq!(commands, expected);
    }

    /// A server that runs out of memory in the middle of an event has, for every block, both the entry and the mapping or
    /// neither.
    async fn an_add_that_is_refused_half_way_leaves_no_entry_without_its_mapping(index, raw) {
        raw.send(&["INFO", "memory"]);
        let used = raw.string().lines().find_map(|line| line.strip_prefix("used_memory:")?.parse::<usize>().ok());
        raw.expect(&["CONFIG", "SET", "maxmemory", &(used.unwrap() + (6 << 20)).to_string()], "+OK");
        let (engine, request) = (hashes(0..20_000), hashes(100_000..120_000));
        let error = index.add(Some(&engine), &request, &[gpu("a"), cpu("a")]).await.unwrap_err();
        let refused = error.client_error().unwrap().server_error().unwrap();
        assert!(refused.text().contains("OOM") || refused.code() == "EXECABORT", "{error:?}");
        raw.expect(&["CONFIG", "SET", "maxmemory", "0"], "+OK");
        let mut kept = 0;
        for (engine, request) in engine.iter().zip(&request) {
            raw.send(&["EXISTS", &request.to_string()]);
            let entry = raw.line();
            raw.expect(&["EXISTS", &format!("engine:{engine}")], &entry);
            kept += usize::from(entry == ":1");
        }
        assert!((1..20_000).contains(&kept), "{kept}");
        // Repeated as it stands it is complete, and can be undone.
        index.add(Some(&engine), &request, &[gpu("a"), cpu("a")]).await.unwrap();
        index.evict(&engine, KeyType::Engine, &[gpu("a"), cpu("a")]).await.unwrap();
        raw.expect(&["DBSIZE"], ":0");
    }

    async fn an_engine_key_that_is_named_twice_has_one_growing_list(index, raw) {
        index.add(Some(&hashes([7, 7])), &hashes([99, 100]), &[gpu(POD)]).await.unwrap();
        raw.expect_strings(&["ZRANGE", "engine:7", "0", "-1", "WITHSCORES"], &["99", "0", "100", "1"]);
        assert_eq!(mapped(&index, 7).await, Some(100));
    }

    async fn a_lookup_stops_asking_soon_after_the_first_miss(index, raw) {
        let index = index.with_round_trip(Some(Duration::from_micros(100)));
        let keys = hashes(0..8000);
        index.lookup(&keys, &PodSet::all()).await.unwrap();
        assert_eq!(raw.calls("hkeys"), 80);
        index.add(None, &keys[..100], &[gpu(POD)]).await.unwrap();
        assert_eq!(index.lookup(&keys, &PodSet::all()).await.unwrap().len(), 100);
        // The chunk with the end of the prefix, and what was under way behind it.
        assert!(raw.calls("hkeys") <= 80 + 80 + 4 * 80, "{}", raw.calls("hkeys"));
        index.add(None, &keys, &[gpu(POD)]).await.unwrap();
        let before = raw.calls("hkeys");
        assert_eq!(index.lookup(&keys, &PodSet::all()).await.unwrap().len(), 8000);
        assert_eq!(raw.calls("hkeys") - before, 8000);
    }

    /// Whatever is measured, a lookup that finds nothing asks for no more than the first keys may be.
    async fn a_lookup_is_right_and_bounded_whatever_round_trip_is_measured(index, raw) {
        let keys = hashes(0..8000);
        for _ in 0..20 {
            let before = raw.calls("hkeys");
            assert!(index.lookup(&keys, &PodSet::all()).await.unwrap().is_empty());
            assert!((16..=2048).contains(&(raw.calls("hkeys") - before)));
        }
        for held in [1, 15, 100, 2500, 8000] {
            index.add(None, &keys[..held], &[gpu(POD)]).await.unwrap();
            let found = index.lookup(&keys, &PodSet::all()).await.unwrap();
            assert_eq!((found.keys(), found.is_complete()), (&keys[..held], true));
        }
    }

    async fn an_event_takes_few_commands(index, raw) {
        let (engine, request) = (hashes(0..64), hashes(100..164));
        index.add(Some(&engine), &request, &[gpu("a"), gpu("b"), cpu("a")]).await.unwrap();
        assert_eq!((raw.calls("hset"), raw.calls("zadd")), (64, 64));
        assert_eq!((raw.calls("multi"), raw.calls("exec")), (1, 1));
        index.evict(&engine, KeyType::Engine, &[gpu("a"), cpu("a")]).await.unwrap();
        // What this index has written itself is compared by the script, and not asked for before.
        assert_eq!((raw.calls("zrange"), raw.calls("hdel")), (64, 64));
        // Once in vain, because the server has not met the script, and once with it.
        assert_eq!((raw.calls("evalsha"), raw.calls("eval")), (1, 1));
        index.evict(&engine, KeyType::Engine, &[gpu("b")]).await.unwrap();
        assert_eq!((raw.calls("evalsha"), raw.calls("eval")), (2, 1));
        assert_eq!((raw.calls("zrange"), raw.calls("hdel")), (128, 128));
        raw.expect(&["DBSIZE"], ":0");
        // What is no longer remembered is asked for.
        index.evict(&engine, KeyType::Engine, &[gpu("b")]).await.unwrap();
        assert_eq!((raw.calls("zrange"), raw.calls("hdel"), raw.calls("evalsha")), (192, 128, 2));
    }

    async fn an_index_without_a_memory_asks_for_mappings(index, raw) {
        let index = index.with_mappings_max(0);
        let (engine, request) = (hashes(0..64), hashes(100..164));
        index.add(Some(&engine), &request, &[gpu("a"), gpu("b")]).await.unwrap();
        index.evict(&engine, KeyType::Engine, &[gpu("a")]).await.unwrap();
        assert_eq!((raw.calls("zrange"), raw.calls("hdel")), (64, 64));
        assert_eq!((raw.calls("evalsha"), raw.calls("eval")), (1, 1));
        index.evict(&engine, KeyType::Engine, &[gpu("b")]).await.unwrap();
        raw.expect(&["DBSIZE"], ":0");
        assert_eq!(index.remembered_request_key(engine[0]), None);
    }

    /// What is remembered is compared on the server before anything is touched.
    async fn a_mapping_that_others_have_changed_is_evicted_through_as_it_is(index, raw) {
        let pod = [gpu(POD)];
        index.add(Some(&hashes([1, 2, 3, 4])), &hashes([11, 12, 13, 14]), &pod).await.unwrap();
        assert_eq!(index.remembered_request_key(BlockHash(1)), Some(BlockHash(11)));
        // More request keys, other ones, none any more, and a string of old.
        raw.expect(&["ZADD", "engine:1", "1", "21"], ":1");
        raw.expect(&["DEL", "engine:2", "engine:3", "engine:4"], ":3");
        raw.expect(&["ZADD", "engine:2", "0", "22"], ":1");
        raw.expect(&["SET", "engine:4", "24"], "+OK");
        for key in ["21", "22", "23", "24"] {
            raw.expect(&["HSET", key, FIELD, ""], ":1");
        }
        evict(&index, &[1, 2, 3, 4], &pod).await;
        raw.expect(&["EXISTS", "11", "21", "22", "24"], ":0");
        raw.expect(&["EXISTS", "engine:1", "engine:2", "engine:3", "engine:4"], ":0");
        // These are mapped no longer: that they hold the block is for their own engine keys to end.
        raw.expect(&["EXISTS", "12", "13", "14", "23"], ":4");
    }

    async fn several_engine_keys_of_one_request_key_are_evicted_together(index, raw) {
        index.add(Some(&hashes([1, 2, 3, 4])), &hashes([11]), &[gpu("a"), gpu("b")]).await.unwrap();
        evict(&index, &[1, 2, 3], &[gpu("a")]).await;
        raw.expect(&["EXISTS", "engine:1", "engine:2", "engine:3", "engine:4"], ":4");
        // Deleted once, as it should be: nothing has to be searched for.
        assert_eq!(raw.calls("hkeys"), 0);
        evict(&index, &[1, 2, 3, 4], &[gpu("b")]).await;
        raw.expect(&["DBSIZE"], ":0");
        assert_eq!(raw.calls("hkeys"), 0);
    }

    async fn an_entry_of_a_later_version_is_found_through_a_remembered_mapping(index, raw) {
        let spanned = FIELD.replace('}', r#","retrievalSpan":4}"#);
        index.add(Some(&hashes([1, 2])), &hashes([11, 12]), &[gpu(POD)]).await.unwrap();
        raw.expect(&["HDEL", "11", FIELD], ":1");
        raw.expect(&["HSET", "11", &spanned, ""], ":1");
        raw.expect(&["DEL", "12"], ":1");
        raw.expect(&["LPUSH", "12", "x"], ":1");
        evict(&index, &[1, 2], &[gpu(POD)]).await;
        raw.expect(&["EXISTS", "11", "engine:1", "engine:2"], ":0");
        raw.expect(&["EXISTS", "12"], ":1");
        assert_eq!(index.stats().wrong_type_keys, 1);
    }

    async fn the_older_form_is_written_where_it_is_asked_for(index, raw) {
        let index = index.with_field_format(FieldFormat::Text);
        let entries = [gpu(POD), cpu(POD).with_speculative()];
        index.add(Some(&hashes([1])), &hashes([11]), &entries).await.unwrap();
        raw.expect_set(&["HKEYS", "11"], &["10.0.0.1:8000@gpu", "10.0.0.1:8000@cpu[speculative]"]);
        assert_eq!(holders(&index, 11).await.len(), 2);
        // What v0.8 could not read, it cannot be given either.
        for entry in [gpu(POD).with_group(0), gpu("a@b"), PodEntry::new("a", "b[c")] {
            let error = index.add(None, &hashes([12]), &[gpu(POD), entry]).await.unwrap_err();
            assert!(error.is_invalid_input(), "{error:?}");
        }
        raw.expect(&["EXISTS", "12"], ":0");
        // Both forms are one entry to an eviction.
        raw.expect(&["HSET", "11", FIELD, ""], ":1");
        evict(&index, &[1], &entries).await;
        raw.expect(&["DBSIZE"], ":0");
    }

    async fn a_prefix_stands_before_every_name(index, raw) {
        let other = ServerIndex::new(index.client().clone());
        let index = index.with_key_prefix("tenant-7*:").unwrap();
        let pods = [gpu(POD), gpu("other")];
        index.add(Some(&hashes([1, 2])), &hashes([11, 12]), &pods).await.unwrap();
        raw.expect_set(
            &["KEYS", "*"],
            &["tenant-7*:11", "tenant-7*:12", "engine:tenant-7*:1", "engine:tenant-7*:2"],
        );
        // A member is a number as ever.
        raw.expect_strings(&["ZRANGE", "engine:tenant-7*:1", "0", "-1"], &["11"]);
        assert_eq!(mapped(&index, 2).await, Some(12));
        assert_eq!(prefix(&index, &[11, 12], POD).await, 2);
        // Neither sees or touches what is the other's.
        assert_eq!(prefix(&other, &[11, 12], POD).await, 0);
        other.add(Some(&hashes([1])), &hashes([11]), &pods).await.unwrap();
        raw.expect(&["HSET", "tenant-7x:11", FIELD, ""], ":1");
        index.clear(POD).await.unwrap();
        assert_eq!(prefix(&index, &[11, 12], POD).await, 0);
        assert_eq!(prefix(&index, &[11, 12], "other").await, 2);
        assert_eq!(prefix(&other, &[11], POD).await, 1);
        raw.expect(&["EXISTS", "tenant-7x:11"], ":1");
        // By a mapping that is remembered, by one that is asked for, and by one of old.
        evict(&index, &[1], &[gpu("other")]).await;
        raw.expect(&["DEL", "engine:tenant-7*:2"], ":1");
        raw.expect(&["SET", "engine:tenant-7*:2", "12"], "+OK");
        assert_eq!(mapped(&index, 2).await, Some(12));
        evict(&index.with_mappings_max(0), &[2], &[gpu("other")]).await;
        raw.expect_set(&["KEYS", "*"], &["11", "engine:1", "tenant-7x:11"]);
    }

    async fn a_server_that_has_forgotten_the_scripts_is_told_again(index, raw) {
        for _ in 0..3 {
            index.add(Some(&hashes([1])), &hashes([11]), &[gpu(POD)]).await.unwrap();
            evict(&index, &[1], &[gpu(POD)]).await;
            raw.expect(&["DBSIZE"], ":0");
            raw.expect(&["SCRIPT", "FLUSH"], "+OK");
        }
    }

    async fn entries_of_every_version_are_read(index, raw) {
        for (key, field) in [
            ("1", FIELD),
            ("2", "10.0.0.1:8000@gpu"),
            ("3", "10.0.0.1:8000@gpu[speculative]"),
            ("4", r#"{"PodIdentifier":"10.0.0.1:8000","DeviceTier":"gpu","Speculative":false,"HasGroup":false,"GroupIdx":0,"retrievalSpan":4}"#),
            ("5", r#"{"PodIdentifier":"10.0.0.1:8000","DeviceTier":"gpu","Speculative":false,"HasGroup":true,"GroupIdx":2,"DataParallelRank":-1}"#),
            ("6", r#"{ "podidentifier": "10.0.0.1:8000" }"#),
        ] {
            raw.expect(&["HSET", key, field, ""], ":1");
        }
        let found = index.lookup(&hashes(1..=6), &PodSet::all()).await.unwrap();
        let entries: Vec<_> = found.iter().flat_map(|(_, entries)| entries).map(|e| (**e).clone()).collect();
        let expected = [
            gpu(POD),
            gpu(POD),
            gpu(POD).with_speculative(),
            gpu(POD),
            gpu(POD).with_group(2),
            PodEntry::new(POD, ""),
        ];
        assert_eq!(entries, expected);
        // The same entry in several spellings is one, and what is no entry is passed over.
        raw.expect(&["HSET", "1", "10.0.0.1:8000@gpu", "", "garbage", "", r#"{"GroupIdx":1.0}"#, ""], ":3");
        assert_eq!(holders(&index, 1).await, [gpu(POD)]);
        raw.expect(&["HSET", "7", "garbage", ""], ":1");
        assert_eq!(holders(&index, 7).await, []);
    }

    async fn engine_keys_of_every_version_are_read(index, raw) {
        raw.expect(&["SET", "engine:1", "11"], "+OK");
        raw.expect(&["ZADD", "engine:2", "0", "21", "1", "22"], ":2");
        // Scores that count through the whole call, as up to v0.9.
        raw.expect(&["ZADD", "engine:3", "6", "33", "7", "31", "8", "32"], ":3");
        // Equal scores, after a key was mapped anew.
        raw.expect(&["ZADD", "engine:4", "0", "5", "0", "41"], ":2");
        for (engine, request) in [(1, 11), (2, 22), (3, 32), (4, 5)] {
            assert_eq!(mapped(&index, engine).await, Some(request));
        }
        assert_eq!(mapped(&index, 5).await, None);
        for (engine, value) in [(6, "model@77"), (7, "-1"), (8, "")] {
            raw.expect(&["SET", &format!("engine:{engine}"), value], "+OK");
            let error = index.request_key(BlockHash(engine)).await.unwrap_err();
            assert!(error.is_foreign_data());
            assert_eq!(error.to_string(), format!("invalid hash format: {value}"));
        }
        raw.expect(&["ZADD", "engine:9", "0", "x9"], ":1");
        let error = index.request_key(BlockHash(9)).await.unwrap_err();
        assert_eq!(error.to_string(), "invalid hash format: x9");
    }

    async fn an_eviction_deletes_every_spelling(index, raw) {
        let spanned = FIELD.replace('}', r#","retrievalSpan":4}"#);
        let speculative = "10.0.0.1:8000@gpu[speculative]";
        let odd = r#"{"DeviceTier":"gpu","PodIdentifier":"10.0.0.1:8000"}"#;
        for key in ["11", "12"] {
            raw.expect(
                &["HSET", key, FIELD, "", "10.0.0.1:8000@gpu", "", &spanned, "", odd, "", speculative, "", "garbage 10.0.0.1:8000", ""],
                ":6",
            );
        }
        raw.expect(&["ZADD", "engine:1", "0", "11"], ":1");
        evict(&index, &[1], &[gpu(POD)]).await;
        index.evict(&hashes([12]), KeyType::Request, &[gpu(POD)]).await.unwrap();
        for key in ["11", "12"] {
            raw.expect_set(&["HKEYS", key], &[speculative, "garbage 10.0.0.1:8000"]);
        }
        raw.expect(&["EXISTS", "engine:1"], ":1");
        // Only what is left of a spelling of a later version keeps a key from being empty.
        raw.expect(&["HSET", "13", &spanned, ""], ":1");
        raw.expect(&["ZADD", "engine:3", "0", "13"], ":1");
        evict(&index, &[3], &[gpu(POD)]).await;
        raw.expect(&["EXISTS", "13", "engine:3"], ":0");
    }

    /// What is not known beforehand is looked for only where something is amiss, because a search costs the server more
    /// than the deletion.
    async fn an_eviction_reads_only_keys_where_the_known_spellings_do_not_add_up(index, raw) {
        let spanned = FIELD.replace('}', r#","retrievalSpan":4}"#);
        index.add(None, &hashes(1..=100), &[gpu(POD), cpu(POD), gpu("other")]).await.unwrap();
        raw.expect(&["HSET", "7", &spanned, ""], ":1");
        raw.expect(&["HDEL", "7", FIELD], ":1");
        let keys = hashes(1..=100);
        // The same entry twice is one.
        index.evict(&keys, KeyType::Request, &[gpu(POD), cpu(POD), gpu(POD)]).await.unwrap();
        assert_eq!((raw.calls("hkeys"), raw.calls("hscan")), (1, 0));
        assert_eq!(prefix(&index, &(1..=100).collect::<Vec<_>>(), POD).await, 0);
        // A spelling beside a known one is not seen, until the entry is evicted once more.
        index.add(None, &hashes([8]), &[gpu(POD)]).await.unwrap();
        raw.expect(&["HSET", "8", &spanned, ""], ":1");
        for left in [1, 0] {
            index.evict(&hashes([8]), KeyType::Request, &[gpu(POD)]).await.unwrap();
            assert_eq!(prefix(&index, &[8], POD).await, left);
        }
    }

    async fn an_eviction_searches_large_hashes_to_their_end(index, raw) {
        let mut fill = vec!["HSET".to_owned(), "11".to_owned()];
        for pod in 0..9000 {
            fill.extend([format!("10.0.0.1:8000-{pod}@gpu"), String::new()]);
        }
        raw.expect(&fill.iter().map(String::as_str).collect::<Vec<_>>(), ":9000");
        let odd = r#"{"DeviceTier":"gpu","PodIdentifier":"10.0.0.1:8000"}"#;
        raw.expect(&["HSET", "11", odd, ""], ":1");
        index.evict(&hashes([11]), KeyType::Request, &[gpu(POD)]).await.unwrap();
        raw.expect(&["HEXISTS", "11", odd], ":0");
        raw.expect(&["HLEN", "11"], ":9000");
    }

    async fn an_older_engine_key_is_evicted_through(index, raw) {
        raw.expect(&["HSET", "11", "10.0.0.1:8000@gpu", "", "other@gpu", ""], ":2");
        raw.expect(&["SET", "engine:1", "11"], "+OK");
        evict(&index, &[1], &[gpu(POD)]).await;
        raw.expect_strings(&["HKEYS", "11"], &["other@gpu"]);
        raw.expect(&["GET", "engine:1"], "$2");
        assert_eq!(raw.line(), "11");
        evict(&index, &[1], &[gpu("other")]).await;
        raw.expect(&["DBSIZE"], ":0");
    }

    async fn an_older_engine_key_becomes_a_sorted_set_when_it_is_added_again(index, raw) {
        let scores = |key| ["ZRANGE", key, "0", "-1", "WITHSCORES"];
        raw.expect(&["SET", "engine:1", "11"], "+OK");
        raw.expect(&["SET", "engine:2", "12"], "+OK");
        index.add(Some(&hashes([1, 2, 3])), &hashes([11, 22, 33]), &[gpu(POD)]).await.unwrap();
        raw.expect_strings(&scores("engine:1"), &["11", "0"]);
        // The request key of old stays mapped, and does not come last.
        raw.expect_strings(&scores("engine:2"), &["12", "-1", "22", "0"]);
        raw.expect_strings(&scores("engine:3"), &["33", "0"]);
        assert_eq!(mapped(&index, 2).await, Some(22));
        // And once more, when the server knows the script and the key is new already.
        raw.expect(&["SET", "engine:4", "44"], "+OK");
        index.add(Some(&hashes([1, 4])), &hashes([11, 44]), &[gpu(POD)]).await.unwrap();
        raw.expect_strings(&scores("engine:1"), &["11", "0"]);
        raw.expect_strings(&scores("engine:4"), &["44", "0"]);
    }

    async fn foreign_engine_keys_are_left_alone(index, raw) {
        raw.expect(&["LPUSH", "engine:1", "x"], ":1");
        raw.expect(&["SET", "engine:2", "not a hash"], "+OK");
        for engine in [1, 2] {
            let added = index.add(Some(&hashes([engine, 3])), &hashes([11, 33]), &[gpu(POD)]).await;
            let error = added.unwrap_err();
            assert!(error.is_foreign_data(), "{error:?}");
            assert!(error.to_string().contains(&format!("engine:{engine}")), "{error}");
            // The rest of the call was carried out.
            assert_eq!(mapped(&index, 3).await, Some(33));
            evict(&index, &[engine], &[gpu(POD)]).await;
        }
        raw.expect_strings(&["LRANGE", "engine:1", "0", "-1"], &["x"]);
        raw.expect(&["STRLEN", "engine:2"], ":10");
        assert!(index.request_key(BlockHash(1)).await.unwrap_err().is_foreign_data());
        // A member that is no request key keeps its mapping, because nobody knows what it is for.
        raw.expect(&["ZADD", "engine:4", "0", "44", "1", "x"], ":2");
        index.add(None, &hashes([44]), &[gpu(POD)]).await.unwrap();
        evict(&index, &[4], &[gpu(POD)]).await;
        raw.expect(&["EXISTS", "44", "engine:4"], ":1");
    }

    async fn keys_of_a_wrong_type_are_counted_whoever_meets_them(index, raw) {
        raw.expect(&["LPUSH", "11", "x"], ":1");
        raw.expect(&["LPUSH", "engine:1", "x"], ":1");
        // A string of old is none, not even one that says something else.
        raw.expect(&["SET", "engine:2", "12"], "+OK");
        raw.expect(&["SET", "engine:3", "not a hash"], "+OK");
        let counted = |expected| assert_eq!(index.stats().wrong_type_keys, expected);
        let pod = [gpu(POD)];
        assert!(index.add(None, &hashes([11]), &pod).await.unwrap_err().is_foreign_data());
        counted(1);
        assert!(index.add(Some(&hashes([1])), &hashes([14]), &pod).await.unwrap_err().is_foreign_data());
        counted(2);
        evict(&index, &[1], &pod).await;
        counted(3);
        index.evict(&hashes([11]), KeyType::Request, &pod).await.unwrap();
        counted(4);
        assert!(index.request_key(BlockHash(1)).await.unwrap_err().is_foreign_data());
        counted(5);
        assert_eq!(prefix(&index, &[11], POD).await, 0);
        counted(6);
        assert_eq!(mapped(&index, 2).await, Some(12));
        evict(&index, &[2, 3], &pod).await;
        index.add(Some(&hashes([2])), &hashes([13]), &pod).await.unwrap();
        assert!(index.add(Some(&hashes([3])), &hashes([13]), &pod).await.unwrap_err().is_foreign_data());
        counted(6);
    }

    async fn a_bad_request_key_is_a_miss_at_its_place_and_counted(index, raw) {
        index.add(None, &hashes([1, 2, 3, 5]), &[gpu(POD)]).await.unwrap();
        raw.expect(&["SET", "4", "x"], "+OK");
        assert_eq!(prefix(&index, &[1, 2, 3, 4, 5], POD).await, 3);
        assert_eq!(index.stats().wrong_type_keys, 1);
        assert_eq!(prefix(&index, &[4, 1], POD).await, 0);
        assert_eq!(index.stats().wrong_type_keys, 2);
        raw.expect(&["LPUSH", "6", "x"], ":1");
        assert_eq!(prefix(&index, &[6, 4], POD).await, 0);
    }

    async fn bad_request_keys_are_left_alone(index, raw) {
        raw.expect(&["SET", "11", "x"], "+OK");
        let added = index.add(Some(&hashes([1, 2])), &hashes([11, 12]), &[gpu(POD)]).await;
        let error = added.unwrap_err();
        assert!(error.is_foreign_data());
        assert_eq!(
            error.to_string(),
            r#"the key "11" is taken by something that is not the index's"#
        );
        assert_eq!(holders(&index, 12).await, [gpu(POD)]);
        evict(&index, &[1, 2], &[gpu(POD)]).await;
        index.evict(&hashes([11]), KeyType::Request, &[gpu(POD)]).await.unwrap();
        index.clear(POD).await.unwrap();
        raw.expect(&["STRLEN", "11"], ":1");
        // It holds no entry, so that the mapping to it is done with.
        raw.expect(&["EXISTS", "engine:1", "engine:2", "12"], ":0");
    }

    async fn clear_deletes_every_spelling_and_nothing_else(index, raw) {
        let keys = hashes(1000..4000);
        index.add(Some(&keys), &keys, &[gpu(POD), cpu("other")]).await.unwrap();
        let spanned = FIELD.replace('}', r#","retrievalSpan":4}"#);
        raw.expect(&["HSET", "1", "10.0.0.1:8000@cpu[speculative]", "", &spanned, "", "garbage", ""], ":3");
        raw.expect(&["HSET", "session", FIELD, ""], ":1");
        raw.expect(&["HSET", "007", FIELD, ""], ":1");
        raw.expect(&["HSET", "engine:~pods", FIELD, ""], ":1");
        raw.expect(&["SET", "2", "x"], "+OK");
        raw.expect(&["LPUSH", "3", "x"], ":1");
        index.clear(POD).await.unwrap();
        raw.expect_strings(&["HKEYS", "1"], &["garbage"]);
        for key in ["1000", "1511", "1512", "3999"] {
            raw.expect(&["HLEN", key], ":1");
        }
        for foreign in ["session", "007", "engine:~pods"] {
            raw.expect_strings(&["HKEYS", foreign], &[FIELD]);
        }
        // 3,000 hashes, as many mappings, and six keys of others.
        raw.expect(&["DBSIZE"], ":6006");
        assert_eq!(prefix(&index, &(1000..4000).collect::<Vec<_>>(), "other").await, 3000);
        index.clear("other").await.unwrap();
        raw.expect(&["DBSIZE"], ":3006");
    }

    async fn a_reverse_index_leads_a_clear_to_its_keys(index, raw) {
        let own = index.with_clear_by(ClearBy::ReverseIndex);
        let (engine, request) = (hashes(0..600), hashes((0..600).map(|key| u64::MAX - key)));
        own.add(Some(&engine), &request, &[gpu(POD), cpu(POD), gpu("other")]).await.unwrap();
        // Not by an index that keeps one: only a scan finds it.
        raw.expect(&["HSET", "5000", FIELD, ""], ":1");
        own.clear(POD).await.unwrap();
        assert_eq!(raw.calls("scan"), 0);
        let found = own.lookup(&request, &PodSet::all()).await.unwrap();
        assert_eq!(found.prefix_lengths(), [("other", 600)].into());
        raw.expect_set(&["KEYS", "engine:~*8000*"], &[]);
        raw.expect(&["EXISTS", "5000"], ":1");
        // A pod that has no blocks, and one that nobody knows.
        own.clear(POD).await.unwrap();
        own.clear("nobody").await.unwrap();
        own.add(None, &request[..1], &[gpu(POD)]).await.unwrap();
        let both = own.with_clear_by(ClearBy::ReverseIndexThenScan);
        both.clear(POD).await.unwrap();
        raw.expect(&["EXISTS", "5000"], ":0");
        assert_eq!(prefix(&both, &[u64::MAX], POD).await, 0);
        both.clear("other").await.unwrap();
        raw.expect_set(&["KEYS", "engine:~*"], &[]);
        // The mappings, as ever.
        raw.expect(&["DBSIZE"], ":600");
    }

    /// Whichever way an entry goes, its request key leaves the reverse index with it, and not before.
    async fn a_reverse_index_names_what_is_held(index, raw) {
        let index = index.with_clear_by(ClearBy::ReverseIndex);
        let key_of = |field: &str| format!("engine:~keys:~00~{field}");
        index.add(Some(&hashes([1, 2])), &hashes([0]), &[gpu(POD), cpu(POD)]).await.unwrap();
        raw.expect_strings(&["SMEMBERS", &key_of(FIELD)], &["0"]);
        raw.expect(&["OBJECT", "ENCODING", &key_of(FIELD)], "$6");
        assert_eq!(raw.line(), "intset");
        raw.expect_set(
            &["SMEMBERS", "engine:~fields:~10.0.0.1:8000"],
            &[FIELD, &FIELD.replace("gpu", "cpu")],
        );
        evict(&index, &[1], &[gpu(POD)]).await;
        raw.expect(&["EXISTS", &key_of(FIELD)], ":0");
        raw.expect(&["EXISTS", &key_of(&FIELD.replace("gpu", "cpu"))], ":1");
        // By request key, through a mapping that has to be asked for, and by a clear of another tier.
        index.add(Some(&hashes([1])), &hashes([0]), &[gpu(POD)]).await.unwrap();
        index.evict(&hashes([0]), KeyType::Request, &[gpu(POD)]).await.unwrap();
        raw.expect(&["EXISTS", &key_of(FIELD)], ":0");
        let index = index.with_mappings_max(0);
        index.add(Some(&hashes([1])), &hashes([0]), &[gpu(POD)]).await.unwrap();
        evict(&index, &[1], &[gpu(POD)]).await;
        raw.expect(&["EXISTS", &key_of(FIELD)], ":0");
        index.clear(POD).await.unwrap();
        raw.expect_set(&["KEYS", "*"], &["engine:1", "engine:2"]);
    }

    async fn a_reverse_index_follows_where_the_server_knows_only_some_of_the_scripts(index, raw) {
        let index = index.with_clear_by(ClearBy::ReverseIndex);
        raw.expect(&["SCRIPT", "FLUSH"], "+OK");
        // This lets the server know what takes keys out of the sets, and not what evicts by engine keys.
        index.add(None, &hashes([0]), &[gpu(POD)]).await.unwrap();
        index.evict(&hashes([0]), KeyType::Request, &[gpu(POD)]).await.unwrap();
        index.add(Some(&hashes([1])), &hashes([0]), &[gpu(POD)]).await.unwrap();
        evict(&index, &[1], &[gpu(POD)]).await;
        raw.expect(&["EXISTS", &format!("engine:~keys:~00~{FIELD}")], ":0");
    }

    /// llm-d's clear: every key whose name does not start with `engine:` is read as a hash, and it gives up at the first
    /// that is none.
    async fn llm_ds_own_clear_passes_by_what_is_not_its_own(index, raw) {
        let index = index.with_clear_by(ClearBy::ReverseIndex);
        index.add(Some(&hashes([1, 2])), &hashes([11, 12]), &[gpu(POD)]).await.unwrap();
        let index = index.with_key_prefix("tenant:").unwrap();
        index.add(Some(&hashes([1, 2])), &hashes([11, 12]), &[gpu(POD)]).await.unwrap();
        raw.send(&["SCAN", "0", "MATCH", "*", "COUNT", "1024"]);
        assert_eq!(raw.count('*'), 2);
        assert_eq!(raw.string(), "0");
        let names: Vec<String> = (0..raw.count('*')).map(|_| raw.string()).collect();
        assert!(names.len() > 10, "{names:?}");
        let read = names.iter().filter(|name| !name.starts_with("engine:"));
        for name in read {
            raw.expect_strings(&["HKEYS", name], &[FIELD]);
            raw.expect(&["HDEL", name, FIELD], ":1");
        }
        // What it has removed is gone for us, although the reverse index still says so.
        assert_eq!(prefix(&index, &[11], POD).await, 0);
        index.clear(POD).await.unwrap();
        raw.expect(&["EXISTS", "tenant:11", "tenant:12", "11", "12"], ":0");
    }

    async fn a_server_is_told_apart_and_checked(index, raw) {
        let report = async || respire_kvblock::check_server(index.client()).await.unwrap();
        let settings = async || -> Vec<&'static str> {
            report().await.findings.iter().map(|finding| finding.setting).collect()
        };
        let server = report().await.server;
        assert!(["valkey 8.", "redis 7."].iter().any(|name| server.starts_with(name)), "{server}");
        for (name, value) in [
            ("maxmemory", "1gb"),
            ("maxmemory-policy", "noeviction"),
            ("hash-max-listpack-value", "256"),
            ("appendonly", "yes"),
            ("appendfsync", "always"),
        ] {
            raw.expect(&["CONFIG", "SET", name, value], "+OK");
        }
        assert_eq!(settings().await, [""; 0]);
        raw.expect(&["CONFIG", "SET", "appendfsync", "everysec"], "+OK");
        raw.expect(&["CONFIG", "SET", "hash-max-listpack-value", "64"], "+OK");
        raw.expect(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"], "+OK");
        assert_eq!(
            settings().await,
            ["maxmemory-policy", "appendfsync", "hash-max-listpack-value"]
        );
        assert!(report().await.has_warnings());
        raw.expect(&["CONFIG", "SET", "appendonly", "no"], "+OK");
        raw.expect(&["CONFIG", "SET", "save", "3600 1"], "+OK");
        assert!(settings().await.contains(&"save"));
        raw.expect(&["CONFIG", "SET", "save", ""], "+OK");
        assert!(settings().await.contains(&"appendonly"));
        // A server that forbids CONFIG is checked for what it tells.
        raw.expect(&["ACL", "SETUSER", "default", "-config"], "+OK");
        assert_eq!(settings().await, ["maxmemory-policy"]);
        raw.expect(&["ACL", "SETUSER", "default", "-info"], "+OK");
        assert!(respire_kvblock::check_server(index.client()).await.is_err());
    }

    async fn pods_whose_names_are_not_utf8_are_read_with_replacements(index, raw) {
        // What Go writes for the byte FF, and the byte itself.
        let escaped = r#"{"PodIdentifier":"a\ufffdb","DeviceTier":"gpu","Speculative":false,"HasGroup":false,"GroupIdx":0}"#;
        raw.expect(&["HSET", "1", escaped, ""], ":1");
        raw.expect(&["EVAL", r"return redis.call('HSET', '1', 'a\255b@gpu', '')", "0"], ":1");
        assert_eq!(holders(&index, 1).await, [gpu("a\u{fffd}b")]);
        evict(&index, &[1], &[gpu("a\u{fffd}b")]).await;
        index.evict(&hashes([1]), KeyType::Request, &[gpu("a\u{fffd}b")]).await.unwrap();
        raw.expect(&["EXISTS", "1"], ":0");
    }

    /// A user without the permission to read is refused by the server: an error, not an empty answer.
    async fn a_refusal_is_an_error_and_not_an_empty_answer(index, raw) {
        index.add(Some(&hashes([1])), &hashes([11]), &[gpu(POD)]).await.unwrap();
        raw.expect(&["ACL", "SETUSER", "default", "-hkeys", "-hdel", "-zrange", "-hset", "-scan"], "+OK");
        let keys = hashes([11]);
        let refusals = [
            index.lookup(&keys, &PodSet::all()).await.err(),
            index.add(None, &keys, &[gpu(POD)]).await.err(),
            index.evict(&keys, KeyType::Request, &[gpu(POD)]).await.err(),
            index.evict(&hashes([1]), KeyType::Engine, &[gpu(POD)]).await.err(),
            index.request_key(BlockHash(1)).await.err(),
            index.clear(POD).await.err(),
        ];
        for refusal in refusals {
            let error = refusal.expect("the server has refused");
            let refused = error.client_error().unwrap().server_error().unwrap();
            // Each version has its own words where a script is refused a command.
            let text = refused.text();
            assert!(text.starts_with("NOPERM ") || text.contains("script"), "{error:?}");
        }
        raw.expect(&["HLEN", "11"], ":1");
    }
}

/// Runs a case with an index that has a near cache, and one of another router without.
fn with_near_cache(case: &impl AsyncFn(&ServerIndex, &ServerIndex, Raw)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for flavour in Flavour::ALL {
        let server = LocalServer::start(flavour).unwrap();
        runtime.block_on(async {
            let index = ServerIndex::new(Client::connect(&server.url()).await.unwrap());
            let mut config = NearCacheConfig::default();
            // Slow machines are slow to prove that announcements arrive.
            config.staleness_max = Duration::from_secs(20);
            let index = index.with_near_cache(config).await.unwrap();
            let other = ServerIndex::new(Client::connect(&server.url()).await.unwrap());
            case(&index, &other, Raw::connect(&server)).await;
        });
    }
}

#[test]
fn what_is_looked_up_again_comes_from_the_near_cache() {
    with_near_cache(&async |index, _, mut raw| {
        let keys = hashes(1..=40);
        index.add(None, &keys[..30], &[gpu(POD), gpu("other")]).await.unwrap();
        for lookups in 0..5 {
            let found = index.lookup(&keys, &PodSet::all()).await.unwrap();
            assert_eq!((found.len(), found.is_complete()), (30, true));
            assert_eq!(found.prefix_lengths(), [(POD, 30), ("other", 30)].into());
            // Nothing is hot at first.
            let stale = (lookups > 0).then_some(Duration::from_secs(20));
            assert_eq!(found.staleness(), stale);
        }
        let asked = raw.calls("hkeys");
        for _ in 0..10 {
            assert_eq!(prefix(index, &(1..=40).collect::<Vec<_>>(), "other").await, 30);
        }
        assert_eq!(raw.calls("hkeys"), asked);
        let stats = index.near_cache_stats().unwrap();
        assert!(stats.hits >= 300, "{stats:?}");
        // Behind the blocks that are shared, every prompt has its own.
        let own: Vec<u64> = (1..=20).chain(1000..1500).collect();
        assert_eq!(prefix(index, &own, POD).await, 20);
        assert_eq!(index.near_cache_stats().unwrap().misses, stats.misses);
    });
}

#[test]
fn ones_own_writes_are_seen_at_once_through_a_near_cache() {
    with_near_cache(&async |index, _, mut raw| {
        let keys: Vec<u64> = (1..=8).collect();
        let (engine, request) = (hashes(101..=108), hashes(1..=8));
        for round in 0..20 {
            index.add(Some(&engine), &request, &[gpu(POD)]).await.unwrap();
            assert_eq!(prefix(index, &keys, POD).await, 8, "{round}");
            match round % 4 {
                0 => evict(index, &[103], &[gpu(POD)]).await,
                1 => {
                    let third = hashes([3]);
                    index.evict(&third, KeyType::Request, &[gpu(POD)]).await.unwrap();
                }
                2 => {
                    // By a mapping that has to be asked for.
                    raw.expect(&["ZADD", "engine:103", "1", "99"], ":1");
                    evict(index, &[103], &[gpu(POD)]).await;
                }
                _ => index.clear(POD).await.unwrap(),
            }
            let left = if round % 4 == 3 { 0 } else { 2 };
            assert_eq!(prefix(index, &keys, POD).await, left, "{round}");
        }
    });
}

#[test]
fn what_others_write_is_seen_soon_through_a_near_cache() {
    with_near_cache(&async |index, other, mut raw| {
        let keys: Vec<u64> = (1..=8).collect();
        let seen = async |expected: usize| {
            for _ in 0..1000 {
                let keys = hashes(keys.iter().copied());
                // While a connection is being made anew, a lookup may fail.
                let found = index.lookup(&keys, &PodSet::all()).await;
                if found.is_ok_and(|found| found.len() == expected) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("{expected} blocks are never seen");
        };
        for round in 0..5 {
            other.add(None, &hashes(1..=8), &[gpu(POD)]).await.unwrap();
            seen(8).await;
            other.evict(&hashes([5]), KeyType::Request, &[gpu(POD)]).await.unwrap();
            seen(4).await;
            // A connection that is lost takes everything with it.
            raw.send(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
            assert!(raw.count(':') >= 1, "{round}");
            raw.expect(&["DEL", "2"], ":1");
            let mut tries = 0;
            while other.lookup(&hashes([1]), &PodSet::all()).await.is_err() {
                tries += 1;
                assert!(tries < 100);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            seen(1).await;
        }
        // And a key of somebody else ends a prefix as ever.
        raw.expect(&["DEL", "1"], ":1");
        raw.expect(&["SET", "1", "x"], "+OK");
        seen(0).await;
        prefix(index, &keys, POD).await;
        assert!(index.stats().wrong_type_keys >= 1);
    });
}

#[tokio::test]
async fn a_near_cache_needs_a_server_that_announces_changes() {
    let server = LocalServer::start(Flavour::Valkey).unwrap();
    let config: Config = server.url().parse().unwrap();
    let client = Client::with_config(config.with_protocol(Protocol::Resp2)).await.unwrap();
    let refused = ServerIndex::new(client).with_near_cache(NearCacheConfig::default()).await;
    assert!(refused.unwrap_err().client_error().is_some());
}

/// A server of version 5: it knows neither RESP3 nor how to scan by type, and has one entry.
async fn old_server(mut peer: PeerConnection, deleted: Arc<Mutex<Vec<String>>>) {
    while let Some(command) = peer.command().await {
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let reply = match words[..] {
            ["PING"] => "+PONG\r\n".to_owned(),
            ["SCAN", _, .., "TYPE", "hash"] => "-ERR syntax error\r\n".to_owned(),
            ["SCAN", "0", ..] => {
                "*2\r\n$1\r\n7\r\n*2\r\n$8\r\nengine:1\r\n$7\r\nsession\r\n".to_owned()
            }
            ["SCAN", "7", ..] => "*2\r\n$1\r\n0\r\n*2\r\n$2\r\n11\r\n$2\r\n12\r\n".to_owned(),
            ["HKEYS", "11"] => format!("*2\r\n${}\r\n{FIELD}\r\n$3\r\na@b\r\n", FIELD.len()),
            ["HKEYS", _] => "-WRONGTYPE Operation against a key\r\n".to_owned(),
            ["HDEL", ..] => {
                deleted.lock().unwrap().extend(command[1..].iter().cloned());
                ":1\r\n".to_owned()
            }
            _ => "-ERR unknown command\r\n".to_owned(),
        };
        peer.send(reply).await;
    }
}

#[tokio::test]
async fn clear_works_on_servers_that_cannot_scan_by_type() {
    let deleted = Arc::new(Mutex::new(Vec::new()));
    let peer = {
        let deleted = Arc::clone(&deleted);
        ScriptedPeer::start(move |peer, _| old_server(peer, Arc::clone(&deleted))).await
    };
    let client = Client::connect(&peer.url()).await.unwrap();
    assert_eq!(client.protocol(), Some(Protocol::Resp2));
    let index = ServerIndex::new(client);
    index.clear(POD).await.unwrap();
    assert_eq!(*deleted.lock().unwrap(), ["11", FIELD]);
    assert_eq!(index.stats().wrong_type_keys, 1);
}

/// Answers the handshake of a client, and its questions whether the peer is there. `None` for anything else.
fn courtesies(command: &[String]) -> Option<&'static str> {
    match command[0].as_str() {
        "PING" => Some("+PONG\r\n"),
        "HELLO" | "CLIENT" => Some("-ERR unknown command\r\n"),
        _ => None,
    }
}

/// A server on which another writer makes `engine:1` a sorted set right after the first ZRANGE has found a string there.
async fn migrating_server(mut peer: PeerConnection, log: Arc<Mutex<Vec<String>>>) {
    let mut asked = 0;
    while let Some(command) = peer.command().await {
        if let Some(reply) = courtesies(&command) {
            peer.send(reply).await;
            continue;
        }
        log.lock().unwrap().push(command.join(" "));
        let reply = match command[0].as_str() {
            "ZRANGE" => {
                asked += 1;
                match asked % 2 {
                    1 => "-WRONGTYPE Operation against a key\r\n",
                    _ => "*1\r\n$2\r\n11\r\n",
                }
            }
            "GET" => "-WRONGTYPE Operation against a key\r\n",
            "HDEL" | "EVALSHA" => ":1\r\n",
            _ => "-ERR unknown command\r\n",
        };
        peer.send(reply).await;
    }
}

#[tokio::test]
async fn an_engine_key_that_becomes_a_sorted_set_meanwhile_is_asked_for_once_more() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let peer = {
        let log = Arc::clone(&log);
        ScriptedPeer::start(move |peer, _| migrating_server(peer, Arc::clone(&log))).await
    };
    let index = ServerIndex::new(Client::connect(&peer.url()).await.unwrap());
    index.evict(&hashes([1]), KeyType::Engine, &[gpu("a")]).await.unwrap();
    assert!(log.lock().unwrap().iter().any(|command| command.starts_with("HDEL 11 ")), "{log:?}");
    assert_eq!(mapped(&index, 1).await, Some(11));
    // The key was healthy all along.
    assert_eq!(index.stats().wrong_type_keys, 0);
}

/// A server with an entry in a spelling of a later version, to which another writer adds the common one while an eviction
/// is at work.
async fn server_with_another_writer(mut peer: PeerConnection, deleted: Arc<Mutex<Vec<String>>>) {
    let spanned = FIELD.replace('}', r#","retrievalSpan":4}"#);
    while let Some(command) = peer.command().await {
        if let Some(reply) = courtesies(&command) {
            peer.send(reply).await;
            continue;
        }
        let reply = match command[0].as_str() {
            "HKEYS" => {
                format!("*2\r\n${}\r\n{FIELD}\r\n${}\r\n{spanned}\r\n", FIELD.len(), spanned.len())
            }
            "HDEL" => {
                let mut deleted = deleted.lock().unwrap();
                deleted.push(command[2..].join(" "));
                format!(":{}\r\n", deleted.len() - 1)
            }
            _ => "-ERR unknown command\r\n".to_owned(),
        };
        peer.send(reply).await;
    }
}

#[tokio::test]
async fn what_is_added_after_its_deletion_stays() {
    let deleted = Arc::new(Mutex::new(Vec::new()));
    let peer = {
        let deleted = Arc::clone(&deleted);
        ScriptedPeer::start(move |peer, _| server_with_another_writer(peer, Arc::clone(&deleted)))
            .await
    };
    let index = ServerIndex::new(Client::connect(&peer.url()).await.unwrap());
    index.evict(&hashes([11]), KeyType::Request, &[gpu(POD)]).await.unwrap();
    let deleted = deleted.lock().unwrap();
    assert_eq!(deleted.len(), 2, "{deleted:?}");
    assert!(deleted[0].starts_with(FIELD));
    assert_eq!(deleted[1], FIELD.replace('}', r#","retrievalSpan":4}"#));
}

/// A server that takes its time for each request.
async fn slow_server(mut peer: PeerConnection, pause: Duration) {
    let mut answered = 0;
    while let Some(command) = peer.command().await {
        if let Some(reply) = courtesies(&command) {
            peer.send(reply).await;
            continue;
        }
        // Four pauses for a full chunk, of which two are under way at once, and eighty for all.
        if answered % 256 == 0 {
            tokio::time::sleep(pause).await;
        }
        answered += 1;
        peer.send(format!("*1\r\n${}\r\n{FIELD}\r\n", FIELD.len())).await;
    }
}

/// Each chunk is answered within the time for one request, all of them together are not.
#[tokio::test]
async fn at_its_deadline_a_lookup_answers_with_what_it_has() {
    let pause = Duration::from_millis(50);
    let peer = ScriptedPeer::start(move |peer, _| slow_server(peer, pause)).await;
    let config: Config = peer.url().parse().unwrap();
    let timeout = Some(Duration::from_millis(900));
    let client = Client::with_config(config).await.unwrap().with_command_timeout(timeout);
    let index = ServerIndex::new(client);
    let keys = hashes(0..20_000);
    let found = index.lookup(&keys, &PodSet::all()).await.unwrap();
    assert!(!found.is_complete());
    assert_eq!(found.keys(), &keys[..found.len()]);
    // The first chunk at least, and not all that take four seconds.
    assert!((64..20_000).contains(&found.len()), "{}", found.len());
    assert_eq!(found.prefix_lengths()[POD], found.len());
    assert_eq!(index.stats().incomplete_lookups, 1);
    // With as much time as it takes it gets to the end.
    let patient = index.with_lookup_timeout(Some(Duration::from_secs(60)));
    let found = patient.lookup(&keys[..600], &PodSet::all()).await.unwrap();
    assert_eq!((found.len(), found.is_complete()), (600, true));
}

/// Without any answer nothing is known, not even that nobody holds the first block.
#[tokio::test]
async fn a_lookup_of_which_nothing_is_answered_in_time_is_an_error() {
    let pause = Duration::from_secs(30);
    let peer = ScriptedPeer::start(move |peer, _| slow_server(peer, pause)).await;
    let client = Client::connect(&peer.url()).await.unwrap();
    let index = ServerIndex::new(client).with_lookup_timeout(Some(Duration::from_millis(50)));
    let error = index.lookup(&hashes(0..100), &PodSet::all()).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(index.stats().incomplete_lookups, 0);
}

/// A server that answers so many questions and then hangs up, or refuses all others.
async fn dying_server(mut peer: PeerConnection, answers: usize, refuses: bool) {
    let mut answered = 0;
    while let Some(command) = peer.command().await {
        if let Some(reply) = courtesies(&command) {
            peer.send(reply).await;
            continue;
        }
        if answered == answers && !refuses {
            return;
        }
        if answered == answers {
            peer.send("-NOPERM no more\r\n").await;
            continue;
        }
        answered += 1;
        peer.send(format!("*1\r\n${}\r\n{FIELD}\r\n", FIELD.len())).await;
    }
}

#[tokio::test]
async fn a_lookup_that_is_refused_on_the_way_answers_with_what_it_has() {
    for (answers, keys) in [(64, 200), (10, 20)] {
        let peer = ScriptedPeer::start(move |peer, _| dying_server(peer, answers, true)).await;
        let index = ServerIndex::new(Client::connect(&peer.url()).await.unwrap());
        let keys = hashes(0..keys);
        let found = index.lookup(&keys, &PodSet::all()).await.unwrap();
        assert_eq!((found.keys(), found.is_complete()), (&keys[..answers], false));
        assert_eq!(index.stats().incomplete_lookups, 1);
        // Without any answer nothing is known.
        let refused = index.lookup(&keys, &PodSet::all()).await.unwrap_err();
        assert_eq!(refused.client_error().unwrap().server_error().unwrap().code(), "NOPERM");
    }
}

#[tokio::test]
async fn a_lookup_whose_server_is_lost_on_the_way_answers_with_what_it_has() {
    let peer = ScriptedPeer::start(move |peer, _| dying_server(peer, 64, false)).await;
    let config: Config = peer.url().parse().unwrap();
    let client = Client::with_config(config).await.unwrap();
    let index = ServerIndex::new(client.with_retry(respire::RetryPolicy::never()));
    let keys = hashes(0..200);
    let found = index.lookup(&keys, &PodSet::all()).await.unwrap();
    assert_eq!((found.keys(), found.is_complete()), (&keys[..64], false));
    assert_eq!(index.stats().incomplete_lookups, 1);
}

/// A scan meets many fields that no lookup will meet again: what lookups remember is not pushed out by it.
#[test]
fn a_clear_leaves_what_lookups_remember() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = LocalServer::start(Flavour::Valkey).unwrap();
    let mut raw = Raw::connect(&server);
    runtime.block_on(async {
        let index = ServerIndex::new(Client::connect(&server.url()).await.unwrap());
        index.add(None, &hashes([1]), &[gpu(POD)]).await.unwrap();
        let entry = async || {
            let found = index.lookup(&hashes([1]), &PodSet::all()).await.unwrap();
            Arc::clone(found.entries(0).next().unwrap())
        };
        let before = entry().await;
        // More distinct fields than are remembered.
        let fill = "for i = 1, 70000 do redis.call('HSET', 1000 + i % 100, 'pod-' .. i .. '@gpu', '') end return 1";
        raw.expect(&["EVAL", fill, "0"], ":1");
        index.clear("pod-5").await.unwrap();
        assert!(Arc::ptr_eq(&before, &entry().await));
        raw.expect(&["HEXISTS", "1005", "pod-5@gpu"], ":0");
        raw.expect(&["HLEN", "1005"], ":699");
    });
}
