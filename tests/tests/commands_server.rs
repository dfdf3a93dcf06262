//! Scripts, functions, scans, pub/sub and the server itself on real servers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use futures_util::TryStreamExt;
use respire::{Client, Config, Pipeline, ScanOptions, Script, commands::*};
use respire_cli::local_server::{Flavour, LocalServer};
use respire_tests::{
    peer::ScriptedPeer,
    servers::{everywhere, flavours},
};

const NO_KEYS: [&str; 0] = [];

#[tokio::test]
async fn scripts_are_run_and_remembered() {
    everywhere(async |client, _| {
        let code = "return redis.call('INCRBY', KEYS[1], ARGV[1])";
        assert_eq!(client.eval::<i64>(code, ["n"], [5]).await.unwrap(), 5);
        let reads = "return redis.call('GET', KEYS[1])";
        assert_eq!(client.eval_ro::<i64>(reads, ["n"], NO_KEYS).await.unwrap(), 5);
        assert!(client.eval_ro::<i64>(code, ["n"], [1]).await.is_err(), "it writes");
        let digest = client.script_load(reads).await.unwrap();
        assert_eq!(digest, Script::new(reads).digest());
        assert_eq!(client.evalsha::<i64>(&digest, ["n"], NO_KEYS).await.unwrap(), 5);
        assert_eq!(client.evalsha_ro::<i64>(&digest, ["n"], NO_KEYS).await.unwrap(), 5);
        let known =
            client.script_exists([&digest, "0000000000000000000000000000000000000000"]).await;
        assert_eq!(known.unwrap(), [true, false]);
        client.script_flush().await.unwrap();
        assert_eq!(client.script_exists([&digest]).await.unwrap(), [false]);
        let error = client.evalsha::<i64>(&digest, ["n"], NO_KEYS).await.unwrap_err();
        assert_eq!(error.server_error().unwrap().code(), "NOSCRIPT");
        let error = client.script_kill().await.unwrap_err();
        assert_eq!(error.server_error().unwrap().code(), "NOTBUSY");
        let error = client.function_kill().await.unwrap_err();
        assert_eq!(error.server_error().unwrap().code(), "NOTBUSY");
    })
    .await;
}

#[tokio::test]
async fn a_script_loads_itself_where_it_is_not_known() {
    everywhere(async |client, _| {
        client.script_flush().await.unwrap();
        let add = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
        for expected in [2, 4] {
            assert_eq!(add.key("n").arg(2).run::<i64>(&client).await.unwrap(), expected);
        }
        assert_eq!(client.script_exists([add.digest()]).await.unwrap(), [true]);
        client.script_flush().await.unwrap();
        assert_eq!(
            add.key("n").arg(2).run::<i64>(&client).await.unwrap(),
            6,
            "forgotten meanwhile"
        );
        assert_eq!(add.key("n").arg(1).eval::<i64, _>(&client).await.unwrap(), 7);
        let reads = Script::read_only("return redis.call('GET', KEYS[1])");
        assert_eq!(reads.key("n").run::<i64>(&client).await.unwrap(), 7);
        let writes = Script::read_only("return redis.call('SET', KEYS[1], 1)");
        assert!(writes.key("n").run::<()>(&client).await.is_err(), "it said that it only reads");
        let raises = Script::new("return redis.error_reply('MINE it is')");
        let error = raises.call().run::<()>(&client).await.unwrap_err();
        assert_eq!(error.server_error().unwrap().code(), "MINE");
        let broken = Script::new("this is no Lua");
        let error = broken.call().run::<()>(&client).await.unwrap_err();
        let error = error.server_error().unwrap();
        assert!(error.message().contains("compiling"), "why it cannot be loaded: {error}");
        Script::new("return 1").load(&client).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn scripts_in_pipelines_are_loaded_before_they_are_called_by_digest() {
    everywhere(async |client, _| {
        client.script_flush().await.unwrap();
        let double = Script::new("return ARGV[1] * 2");
        let mut pipeline = Pipeline::new();
        let answers: Vec<_> = (0..100).map(|n| double.arg(n).queue::<i64>(&mut pipeline)).collect();
        let replies = client.pipeline(pipeline).await.unwrap();
        for (n, answer) in (0..).zip(answers) {
            assert_eq!(answer.read(&replies).unwrap(), n * 2);
        }
        // A transaction that comes to nothing makes no script known to what follows.
        client.script_flush().await.unwrap();
        let mut pipeline = Pipeline::new();
        pipeline.command(&["MULTI"]).command(&["NO.SUCH"]);
        double.arg(1).queue::<i64>(&mut pipeline);
        pipeline.command(&["EXEC"]);
        let after = double.arg(21).queue::<i64>(&mut pipeline);
        let replies = client.pipeline(pipeline).await.unwrap();
        assert_eq!(replies[3].server_error().unwrap().code(), "EXECABORT");
        assert_eq!(after.read(&replies).unwrap(), 42);
        client.script_flush().await.unwrap();
        let mut pipeline = Pipeline::atomic();
        let first = double.arg(3).queue::<i64>(&mut pipeline);
        let second = double.arg(4).queue::<i64>(&mut pipeline);
        let replies = client.pipeline(pipeline).await.unwrap();
        assert_eq!((first.read(&replies).unwrap(), second.read(&replies).unwrap()), (6, 8));
    })
    .await;
}

const LIBRARY: &str = "#!lua name=mylib
redis.register_function('put', function(keys, args) return redis.call('SET', keys[1], args[1]) end)
redis.register_function{function_name='take', callback=function(keys) return redis.call('GET', keys[1]) end, flags={'no-writes'}}";

#[tokio::test]
async fn functions_are_loaded_called_and_moved() {
    everywhere(async |client, _| {
        assert_eq!(client.function_load(LIBRARY, false).await.unwrap(), "mylib");
        assert!(client.function_load(LIBRARY, false).await.is_err(), "it exists");
        assert_eq!(client.function_load(LIBRARY, true).await.unwrap(), "mylib");
        client.fcall::<()>("put", ["k"], ["v"]).await.unwrap();
        assert_eq!(client.fcall_ro::<String>("take", ["k"], NO_KEYS).await.unwrap(), "v");
        assert!(client.fcall_ro::<()>("put", ["k"], ["v"]).await.is_err(), "it writes");
        let libraries = client.function_list(Some("my*"), true).await.unwrap();
        assert_eq!((&*libraries[0].name, &*libraries[0].engine), ("mylib", "LUA"));
        assert_eq!(libraries[0].code.as_deref(), Some(LIBRARY));
        let flags: BTreeMap<_, _> = libraries[0].functions.iter().cloned().collect();
        assert_eq!(flags["take"], ["no-writes"]);
        assert!(flags["put"].is_empty());
        let dump = client.function_dump().await.unwrap();
        client.function_delete("mylib").await.unwrap();
        assert!(client.function_list(None, false).await.unwrap().is_empty());
        client.function_restore(&dump, false).await.unwrap();
        assert!(client.function_restore(&dump, false).await.is_err(), "it exists");
        client.function_restore(&dump, true).await.unwrap();
        assert_eq!(client.function_list(None, false).await.unwrap()[0].code, None);
        client.function_flush().await.unwrap();
        assert!(client.function_list(None, false).await.unwrap().is_empty());
    })
    .await;
}

#[tokio::test]
async fn scans_go_through_everything_page_by_page() {
    everywhere(async |client, flavour| {
        let mut pipeline = Pipeline::new();
        for at in 0..1000_u32 {
            pipeline.set(format!("k{at}"), at);
            pipeline.hset("h", [(format!("f{at}"), at)]);
            pipeline.sadd("s", [at]);
            pipeline.zadd("z", [(f64::from(at) / 2.0, at)]);
        }
        client.pipeline(pipeline).await.unwrap();
        let options = ScanOptions::new().count(50);
        let keys: BTreeSet<String> =
            client.scan::<String>(options.clone()).try_collect().await.unwrap();
        assert_eq!(keys.len(), 1003);
        let hashes = options.clone().key_type("hash");
        let hashes: Vec<String> = client.scan::<String>(hashes).try_collect().await.unwrap();
        assert_eq!(hashes, ["h"]);
        let some = options.clone().pattern("k99?");
        let some: BTreeSet<String> = client.scan::<String>(some).try_collect().await.unwrap();
        assert_eq!(some.len(), 10);
        let fields: BTreeMap<String, u32> =
            client.hscan::<String, u32>("h", options.clone()).try_collect().await.unwrap();
        assert!(fields.len() == 1000 && fields["f7"] == 7);
        let names =
            client.hscan_fields::<String>("h", options.clone()).try_collect::<BTreeSet<_>>().await;
        match flavour {
            Flavour::Valkey => assert_eq!(names.unwrap().len(), 1000),
            Flavour::Redis => assert!(names.unwrap_err().server_error().is_some()),
        }
        let members: BTreeSet<u32> =
            client.sscan::<u32>("s", options.clone()).try_collect().await.unwrap();
        assert_eq!(members, (0..1000).collect());
        let scored: Vec<Scored<u32>> =
            client.zscan::<u32>("z", options.clone()).try_collect().await.unwrap();
        assert!(
            scored.len() >= 1000 && scored.iter().all(|s| s.score == f64::from(s.member) / 2.0)
        );
        // Page by page, on whatever commands can be given to.
        let mut own = client.dedicated().await.unwrap();
        let (next, page) = own.scan_page::<String>(options.clone()).await.unwrap();
        assert!(next != 0 && page.len() >= 10, "{next} {page:?}");
        let rest = options.clone().from_cursor(next);
        let (_, page) = own.scan_page::<String>(rest).await.unwrap();
        assert!(!page.is_empty());
        let mut pipeline = Pipeline::new();
        let fields = pipeline.hscan_page::<String, u32>("h", options.clone());
        let members = pipeline.sscan_page::<u32>("s", options.clone());
        let scored = pipeline.zscan_page::<u32>("z", options.clone());
        let replies = client.pipeline(pipeline).await.unwrap();
        let (_, fields) = fields.read(&replies).unwrap();
        assert!(!fields.is_empty() && fields.iter().all(|(f, n)| *f == format!("f{n}")));
        assert!(members.read(&replies).unwrap().1.iter().all(|member| *member < 1000));
        let (_, scored) = scored.read(&replies).unwrap();
        assert!(!scored.is_empty() && scored.iter().all(|s| s.score == f64::from(s.member) / 2.0));
        let nothing: Vec<u32> = client.sscan::<u32>("none", options).try_collect().await.unwrap();
        assert!(nothing.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_scan_holds_one_page_loses_nothing_and_goes_on_elsewhere() {
    everywhere(async |client, _| {
        for at in 0..500_u32 {
            client.set(format!("k{at}"), at).await.unwrap();
        }
        let mut seen = BTreeSet::new();
        let mut scan = client.scan::<String>(ScanOptions::new().count(10));
        let mut dropped = 0;
        while seen.len() < 100 {
            // The future is dropped again and again before its page has come.
            let patience = Duration::from_micros(dropped % 50);
            match tokio::time::timeout(patience, scan.try_next()).await {
                Ok(key) => _ = seen.insert(key.unwrap().expect("there are 500")),
                Err(_) => dropped += 1,
            }
        }
        let rest = ScanOptions::new().from_cursor(scan.cursor().expect("it has not seen all"));
        let rest: Vec<String> = client.scan(rest).try_collect().await.unwrap();
        seen.extend(rest);
        assert_eq!(seen.len(), 500);
        client.set("text", "x").await.unwrap();
        let mut wrong = client.sscan::<String>("text", ScanOptions::new());
        assert_eq!(wrong.try_next().await.unwrap_err().server_error().unwrap().code(), "WRONGTYPE");
        assert_eq!(wrong.try_next().await.unwrap(), None, "it ends after an error");
    })
    .await;
}

#[tokio::test]
async fn who_listens_is_told() {
    everywhere(async |client, _| {
        let mut listener = client.subscribe(["news"]).await.unwrap();
        assert_eq!(client.publish("news", "hello").await.unwrap(), 1);
        assert_eq!(client.publish("nobody", "hello").await.unwrap(), 0);
        assert_eq!(client.spublish("nobody", "hello").await.unwrap(), 0);
        assert_eq!(client.pubsub_channels::<String>(None).await.unwrap(), ["news"]);
        assert!(client.pubsub_channels::<String>(Some("x*")).await.unwrap().is_empty());
        let numbers = client.pubsub_numsub::<String>(["news", "nobody"]).await.unwrap();
        assert_eq!(numbers, [("news".to_owned(), 1), ("nobody".to_owned(), 0)]);
        assert_eq!(client.pubsub_numpat().await.unwrap(), 0);
        assert!(client.pubsub_shardchannels::<String>(None).await.unwrap().is_empty());
        let sharded = client.pubsub_shardnumsub::<String>(["a"]).await.unwrap();
        assert_eq!(sharded, [("a".to_owned(), 0)]);
        drop(listener.next().await);
    })
    .await;
}

#[tokio::test]
async fn the_server_is_asked_and_set() {
    everywhere(async |client, flavour| {
        client.ping().await.unwrap();
        assert_eq!(client.echo::<String>("hi").await.unwrap(), "hi");
        let off = client.time().await.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert!(off.abs_diff(ours) < Duration::from_secs(60));
        let info = client.info(["server", "clients"]).await.unwrap();
        assert!(info.field("redis_version").is_some_and(|version| version.starts_with("7.")));
        assert_eq!(info.parse::<u64>("connected_clients"), Some(1));
        assert_eq!((info.field("used_memory"), info.parse::<u64>("redis_version")), (None, None));
        assert!(client.info(NO_KEYS).await.unwrap().fields().count() > 100);
        client.config_set([("maxmemory", "100mb"), ("hz", "20")]).await.unwrap();
        let settings = client.config_get(["maxmemory", "h?"]).await.unwrap();
        assert_eq!((&*settings["maxmemory"], &*settings["hz"]), ("104857600", "20"));
        client.config_set([("maxmemory", "0")]).await.unwrap();
        client.config_resetstat().await.unwrap();
        assert!(client.config_rewrite().await.is_err(), "it has no file");
        client.set("k", "some text").await.unwrap();
        assert_eq!(client.dbsize().await.unwrap(), 1);
        let bytes = client.memory_usage("k", None).await.unwrap().unwrap();
        assert!((40..1000).contains(&bytes), "{bytes}");
        assert_eq!(client.memory_usage("none", Some(5)).await.unwrap(), None);
        assert!(!client.memory_doctor().await.unwrap().is_empty());
        client.memory_purge().await.unwrap();
        client.flushdb(Flush::Sync).await.unwrap();
        client.flushall(Flush::Async).await.unwrap();
        assert_eq!(client.dbsize().await.unwrap(), 0);
        assert!(client.command_count().await.unwrap() > 200);
        assert!(client.command_list().await.unwrap().iter().any(|name| name == "get"));
        let keys: Vec<String> = client.command_getkeys(["MSET", "a", "1", "b", "2"]).await.unwrap();
        assert_eq!(keys, ["a", "b"]);
        assert_eq!(client.acl_whoami().await.unwrap(), "default");
        assert_eq!(client.wait(0, Some(Duration::from_millis(1))).await.unwrap(), 0);
        let saved = client.waitaof(0, 0, Some(Duration::from_millis(1))).await;
        match flavour {
            Flavour::Valkey => assert_eq!(saved.unwrap(), (0, 0)),
            Flavour::Redis => assert!(saved.unwrap_err().server_error().is_some()),
        }
        let before = client.lastsave().await.unwrap();
        assert!(before > SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000));
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_is_begun() {
    for flavour in flavours() {
        let server = LocalServer::start(flavour).unwrap();
        let client = Client::connect(&server.url()).await.unwrap();
        assert_eq!(client.bgsave().await.unwrap(), "Background saving started");
    }
}

#[tokio::test]
async fn what_a_newer_server_says_besides_of_what_took_long_is_passed_over() {
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        connection.command().await;
        connection.send("*2\r\n*6\r\n$7\r\ncommand\r\n:9\r\n:5\r\n:7\r\n:12\r\n:2\r\n").await;
        connection.send("*4\r\n$4\r\nfork\r\n:8\r\n:1\r\n:3\r\n").await;
        connection.swallow().await;
    })
    .await;
    let client = Client::connect(&peer.url()).await.unwrap();
    let events = client.latency_latest().await.unwrap();
    let (names, longest): (Vec<_>, Vec<_>) =
        events.iter().map(|event| (&*event.name, event.longest.as_millis())).unzip();
    assert_eq!((names, longest), (vec!["command", "fork"], vec![7, 3]));
}

#[tokio::test]
async fn an_instant_that_there_is_not_is_an_error() {
    const LAST: &str = "18446744073709551615";
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.shake_hands().await;
        let event = format!("*1\r\n*4\r\n$4\r\nfork\r\n$20\r\n{LAST}\r\n:1\r\n:3\r\n");
        let sample = format!("*1\r\n*2\r\n$20\r\n{LAST}\r\n:1\r\n");
        let time = format!("*2\r\n$20\r\n{LAST}\r\n$20\r\n{LAST}\r\n");
        for reply in [event, sample, time, format!("$20\r\n{LAST}\r\n")] {
            connection.command().await;
            connection.send(&reply).await;
        }
        connection.swallow().await;
    })
    .await;
    let client = Client::connect(&peer.url()).await.unwrap();
    let errors = [
        (client.latency_latest().await.unwrap_err(), "an instant"),
        (client.latency_history("fork").await.unwrap_err(), "an instant"),
        (client.time().await.unwrap_err(), "an instant"),
        (client.lastsave().await.unwrap_err(), "a time"), // read with a fraction, which ends earlier
    ];
    for (error, expected) in errors {
        assert!(format!("{error:#}").contains(expected), "{error:#}");
    }
}

#[tokio::test]
async fn what_took_long_is_remembered() {
    everywhere(async |client, _| {
        let settings = [("slowlog-log-slower-than", "0"), ("latency-monitor-threshold", "1")];
        client.config_set(settings).await.unwrap();
        client.slowlog_reset().await.unwrap();
        client.set("k", "v").await.unwrap();
        assert!(client.slowlog_len().await.unwrap() >= 1);
        let entries = client.slowlog_get(100).await.unwrap();
        let set = entries.iter().find(|entry| entry.words[0] == "SET").expect("it was logged");
        assert_eq!(set.words, ["SET", "k", "v"]);
        assert!(set.took < Duration::from_secs(5) && !set.client_address.is_empty());
        client.config_set([("slowlog-log-slower-than", "-1")]).await.unwrap();
        // A server's clock stands still for a script; this takes some ten milliseconds.
        let slow = Script::new("local n = 0 for i = 1, 3000000 do n = n + i end return 1");
        slow.call().run::<i64>(&client).await.unwrap();
        let events = client.latency_latest().await.unwrap();
        let event = events.iter().find(|event| event.name == "command").expect("it took long");
        assert!(event.longest >= event.latest && event.latest >= Duration::from_millis(1));
        let history = client.latency_history("command").await.unwrap();
        assert!(!history.is_empty() && history[0].1 >= Duration::from_millis(1));
        assert!(client.latency_doctor().await.unwrap().len() > 10);
        assert!(client.latency_reset(["command"]).await.unwrap() >= 1);
        client.latency_reset(NO_KEYS).await.unwrap();
        assert!(client.latency_history("command").await.unwrap().is_empty());
        client.config_set([("latency-monitor-threshold", "0")]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn connections_are_listed_paused_and_closed() {
    everywhere(async |client, _| {
        let id = client.client_id().await.unwrap();
        let own = client.client_info().await.unwrap();
        assert_eq!((own.id(), own.field("cmd")), (id, Some("client|info")));
        let other: Config = client.config().clone().with_client_name("other");
        let other = Client::with_config(other).await.unwrap();
        assert_eq!(other.client_getname().await.unwrap().as_deref(), Some("other"));
        assert_eq!(client.client_getname().await.unwrap(), None);
        let list = client.client_list().await.unwrap();
        let listed =
            list.iter().find(|one| one.field("name") == Some("other")).expect("it is connected");
        assert_eq!(listed.id(), other.client_id().await.unwrap());
        assert!(listed.parse::<u64>("age").is_some() && listed.fields().count() > 10);
        client.client_pause(Duration::from_millis(1), true).await.unwrap();
        client.client_unpause().await.unwrap();
        assert!(!client.client_unblock(id, false).await.unwrap());
        assert_eq!(client.client_kill(ClientKill::id(listed.id())).await.unwrap(), 1);
        assert_eq!(client.client_kill(ClientKill::address("1.2.3.4:5")).await.unwrap(), 0);
        assert_eq!(client.client_kill(ClientKill::user("default")).await.unwrap(), 0);
        assert_eq!(
            client.client_kill(ClientKill::client_type("pubsub").even_this()).await.unwrap(),
            0
        );
        assert_eq!(client.client_list().await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn blocking_commands_wait_and_are_answered() {
    everywhere(async |client, _| {
        let brief = Some(Duration::from_millis(10));
        assert_eq!(client.blpop::<String, i64>(["l"], brief).await.unwrap(), None);
        client.rpush("l", [1, 2, 3, 4]).await.unwrap();
        assert_eq!(client.blpop(["none", "l"], brief).await.unwrap(), Some(("l".to_owned(), 1)));
        assert_eq!(client.brpop(["l"], brief).await.unwrap(), Some(("l".to_owned(), 4)));
        let moved: Option<i64> =
            client.blmove("l", "m", End::Left, End::Left, brief).await.unwrap();
        assert_eq!(moved, Some(2));
        let popped = client.blmpop(["l", "m"], End::Left, 5, brief).await.unwrap();
        assert_eq!(popped, Some(("l".to_owned(), vec![3])));
        client.zadd("z", [(1.0, "a"), (2.0, "b"), (3.0, "c")]).await.unwrap();
        let (key, least) = client.bzpopmin::<String, String>(["z"], brief).await.unwrap().unwrap();
        assert_eq!((&*key, &*least.member, least.score), ("z", "a", 1.0));
        let (_, most) = client.bzpopmax::<String, String>(["z"], brief).await.unwrap().unwrap();
        assert_eq!((&*most.member, most.score), ("c", 3.0));
        let last =
            client.bzmpop::<String, String>(["z"], Extreme::Min, 9, brief).await.unwrap().unwrap();
        assert_eq!((&*last.key, last.members.len()), ("z", 1));
        assert_eq!(client.bzpopmin::<String, String>(["z"], brief).await.unwrap(), None);
        // One that waits does not hold up others, and is answered when there is something.
        let waiter = client.clone();
        let waiting = tokio::spawn(async move { waiter.blpop::<String, i64>(["q"], None).await });
        client.ping().await.unwrap();
        client.rpush("q", [7]).await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), Some(("q".to_owned(), 7)));
    })
    .await;
}

#[tokio::test]
async fn a_connection_of_ones_own_and_a_transaction_take_the_same_commands() {
    everywhere(async |client, _| {
        let mut own = client.dedicated().await.unwrap();
        own.set("stock", 3).await.unwrap();
        assert_eq!(own.get::<i64>("stock").await.unwrap(), Some(3));
        let left: (i64,) = client
            .transaction(["stock"], async |mut transaction| {
                let stock: i64 = transaction.get("stock").await?.unwrap_or(0);
                let mut commands = Pipeline::new();
                commands.decrby("stock", stock - 1);
                transaction.commit(commands).await
            })
            .await
            .unwrap();
        assert_eq!(left, (1,));
        let mut pipeline = Pipeline::atomic();
        let (first, second) = (pipeline.incr("stock"), pipeline.get::<i64>("stock"));
        let replies = client.pipeline(pipeline).await.unwrap();
        assert_eq!((first.read(&replies).unwrap(), second.read(&replies).unwrap()), (2, Some(2)));
    })
    .await;
}

#[tokio::test]
async fn users_are_made_asked_about_and_deleted() {
    everywhere(async |client, flavour| {
        let rules = ["on", ">secret", "~cache:*", "&news", "+@read", "+set"];
        client.acl_setuser("reader", rules).await.unwrap();
        assert_eq!(client.acl_users().await.unwrap(), ["default", "reader"]);
        let list = client.acl_list().await.unwrap();
        assert!(list.iter().any(|line| line.starts_with("user reader on")), "{flavour:?} {list:?}");
        let user = client.acl_getuser("reader").await.unwrap().expect("it was made");
        assert!(user.flags.iter().any(|flag| flag == "on"));
        assert_eq!((user.passwords.len(), &*user.keys, &*user.channels), (1, "~cache:*", "&news"));
        assert!(user.commands.contains("+@read") && user.commands.contains("+set"), "{user:?}");
        assert!(!format!("{user:?}").contains(&user.passwords[0]));
        assert_eq!(client.acl_getuser("nobody").await.unwrap(), None);
        let may = Cmd.set("cache:k", "v");
        assert_eq!(client.acl_dryrun("reader", may.command()).await.unwrap(), None);
        let may_not = Cmd.set("other", "v");
        let refused = client.acl_dryrun("reader", may_not.command()).await.unwrap();
        assert!(refused.is_some_and(|why| why.contains("other")), "{flavour:?}");
        assert!(client.acl_cat(None).await.unwrap().iter().any(|name| name == "read"));
        assert!(client.acl_cat(Some("read")).await.unwrap().iter().any(|name| name == "get"));
        assert_eq!(client.acl_genpass(None).await.unwrap().len(), 64);
        assert_eq!(client.acl_genpass(Some(32)).await.unwrap().len(), 8);
        client.acl_log_reset().await.unwrap();
        assert!(client.acl_save().await.unwrap_err().server_error().is_some(), "there is no file");
        assert!(client.acl_load().await.unwrap_err().server_error().is_some());
        assert_eq!(client.acl_deluser(["reader", "nobody"]).await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn memory_functions_and_streams_are_told_about_in_detail() {
    everywhere(async |client, flavour| {
        client.set("k", "v").await.unwrap();
        let memory = client.memory_stats().await.unwrap();
        assert_eq!(memory.keys, 1, "{flavour:?}");
        assert!(memory.total_allocated > memory.startup_allocated && memory.dataset > 0);
        assert!(memory.peak_allocated > 0 && memory.overhead > 0 && memory.fragmentation > 0.0);
        assert!(memory.dataset_percent > 0.0 && memory.bytes_per_key > 0, "{memory:?}");

        let code =
            "#!lua name=lib\nserver.register_function('loop', function() while true do end end)";
        let code = match flavour {
            Flavour::Valkey => code.to_owned(),
            Flavour::Redis => code.replace("server.", "redis."),
        };
        client.function_load(code, true).await.unwrap();
        let stats = client.function_stats().await.unwrap();
        assert_eq!(stats.running, None);
        assert_eq!(stats.engines.len(), 1);
        let engine = &stats.engines[0];
        assert_eq!((&*engine.engine, engine.libraries, engine.functions), ("LUA", 1, 1));
        client.config_set([("busy-reply-threshold", "1")]).await.unwrap();
        let busy = Client::with_config(client.config().clone()).await.unwrap();
        let running =
            tokio::spawn(async move { busy.fcall::<()>("loop", [""; 0], ["argument"]).await });
        let mut seen = None;
        for _ in 0..500 {
            seen = client.function_stats().await.unwrap().running;
            if seen.is_some() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let seen = seen.expect("it runs");
        assert_eq!(seen.name, "loop");
        assert!(seen.command.iter().any(|word| word == "argument"), "{flavour:?} {seen:?}");
        client.function_kill().await.unwrap();
        assert!(running.await.unwrap().is_err());

        for at in 1..=12_u64 {
            let id: StreamId = format!("{at}-0").parse().unwrap();
            client.xadd_options("x", AddOptions::new().id(id), [("n", at)]).await.unwrap();
        }
        client.xgroup_create("x", "g", "0", false).await.unwrap();
        let read = ReadOptions::new().count(2);
        client
            .xreadgroup::<String, Vec<(String, u64)>>("g", "c", [("x", ">")], read)
            .await
            .unwrap();
        let full = client.xinfo_stream_full::<Vec<(String, u64)>>("x", None).await.unwrap();
        assert_eq!((full.length, full.entries.len(), full.groups.len()), (12, 10, 1));
        assert_eq!(full.entries[9].fields, [("n".to_owned(), 10)]);
        let group = &full.groups[0];
        assert_eq!((&*group.name, group.pending_count, group.pending.len()), ("g", 2, 2));
        assert_eq!((&*group.pending[0].consumer, group.pending[0].deliveries), ("c", 1));
        let consumer = &group.consumers[0];
        assert_eq!((&*consumer.name, consumer.pending_count), ("c", 2));
        assert_eq!(consumer.pending, group.pending, "{flavour:?}");
        // The server's clocks for the two differ by a moment.
        let minute = std::time::Duration::from_secs(60);
        assert!(consumer.seen + minute > consumer.pending[0].time, "{consumer:?}");
        assert!(consumer.pending[0].time + minute > std::time::SystemTime::now());
        let all = client.xinfo_stream_full::<Vec<(String, u64)>>("x", Some(0)).await.unwrap();
        assert_eq!(all.entries.len(), 12);
    })
    .await;
}
