//! What the bitmap layout leaves on a server, byte for byte, what it costs there, and in how many round trips.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers included")]

use std::collections::BTreeMap;

use respire::{Client, Command, commands::*};
use respire_cli::local_server::Flavour;
use respire_kvblock::{
    BitmapIndex, BitmapOptions, BlockHash, Index, IndexConfig, IndexError, KeyType,
    LongestPrefixScorer, PodEntry, PodSet, ServerIndex,
};
use respire_tests::{
    index_suite::{gpu, hashes, holders, mapped},
    servers::{in_time, on_each_server},
};

const POD: &str = "10.0.0.1:8000";

/// The entry of [`POD`] in the tier `gpu`, as llm-d writes it.
const FIELD: &str = r#"{"PodIdentifier":"10.0.0.1:8000","DeviceTier":"gpu","Speculative":false,"HasGroup":false,"GroupIdx":0}"#;

const REGISTRY: &str = "kvb:r";

fn index(client: &Client) -> BitmapIndex {
    BitmapIndex::new(client.clone(), BitmapOptions::default())
}

async fn registry(client: &Client) -> BTreeMap<String, Vec<u8>> {
    let fields: Vec<Vec<u8>> = client
        .query(
            Command::new("EVAL").arg("return redis.call('HGETALL', KEYS[1])").arg(1).arg(REGISTRY),
        )
        .await
        .unwrap();
    let pairs = fields.chunks(2);
    pairs.map(|pair| (String::from_utf8(pair[0].clone()).unwrap(), pair[1].clone())).collect()
}

/// The name of a block (`b`) or an engine key (`e`).
async fn name(client: &Client, kind: u8, hash: u64) -> Vec<u8> {
    let epoch = registry(client).await["epoch"].clone();
    [b"kvb:".as_slice(), &[kind], &epoch, &hash.to_be_bytes()].concat()
}

async fn value(client: &Client, kind: u8, hash: u64) -> Option<Vec<u8>> {
    let name = name(client, kind, hash).await;
    client.query(Command::new("GET").arg(name)).await.unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn is_token(bytes: &[u8]) -> bool {
    bytes.len() == 16 && bytes.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[tokio::test]
async fn an_event_leaves_a_registry_a_block_and_a_mapping() {
    on_each_server(async |client, _| {
        let index = index(&client);
        index.add(Some(&hashes([7])), &hashes([258]), &[gpu(POD)]).await.unwrap();
        // A bitmap of the one column that there is takes less than a list.
        assert_eq!(value(&client, b'b', 258).await.unwrap(), [0, 0x80]);
        assert_eq!(value(&client, b'e', 7).await.unwrap(), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(client.query::<i64>(Command::new("DBSIZE")).await.unwrap(), 3);

        let fields = registry(&client).await;
        let id = &fields["p10.0.0.1:8000"];
        let (generation, writer) = (&fields["gen"], &fields[&format!("j{}", text(id))]);
        for token in [id, generation, writer, &fields["nonce"]] {
            assert!(is_token(token), "{token:?}");
        }
        let id = text(id);
        let own = [
            (format!("i{id}"), format!("{} {POD}", text(generation))),
            (format!("k{id}"), "0,".to_owned()),
            (format!("n{id}"), "1".to_owned()),
            (format!("s{id}{}", text(writer)), "1".to_owned()),
            ("c0".to_owned(), format!("{id} {FIELD}")),
            ("next".to_owned(), "1".to_owned()),
            ("free".to_owned(), String::new()),
            ("version".to_owned(), "2".to_owned()),
        ];
        for (field, value) in own {
            assert_eq!(text(&fields[&field]), value, "{field}");
        }
        assert_eq!(fields["epoch"].len(), 6);
        let run_id: String =
            client.query::<String>(Command::new("INFO").arg("server")).await.unwrap();
        let run_id =
            run_id.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap().to_owned();
        assert_eq!(text(&fields["server"]), format!("{run_id} 0"));
        let (last_seen, at) = text(&fields["writers"]).split_once(':').unwrap();
        assert_eq!(last_seen, text(writer));
        assert!(at.strip_suffix(',').unwrap().parse::<u64>().unwrap() > 1_600_000_000_000);
        assert_eq!(fields.len(), 15);

        // What is cleared leaves its columns retired.
        index.clear(POD).await.unwrap();
        let fields = registry(&client).await;
        let names: Vec<_> = fields.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "d10.0.0.1:8000",
                "epoch",
                "free",
                "gen",
                "next",
                "nonce",
                "r0",
                "server",
                "version",
                "writers"
            ]
        );
        let (lives, since) = text(&fields["d10.0.0.1:8000"]).split_once(' ').unwrap();
        assert_eq!(lives, "1");
        // The script asks for the time for each of them.
        let [since, retired] =
            [since, text(&fields["r0"])].map(|millis| millis.parse::<u64>().unwrap());
        assert!(since.min(retired) > 1_600_000_000_000, "{since} {retired}");
        assert!(since.abs_diff(retired) < 60_000, "{since} {retired}");
    })
    .await;
}

/// Pods with one block each, so that the n-th has column n.
async fn with_pods(index: &BitmapIndex, pods: u64) -> Vec<PodEntry> {
    let entries: Vec<_> = (0..pods).map(|number| gpu(&format!("10.0.0.{number}:8000"))).collect();
    for (entry, key) in entries.iter().zip(1000..) {
        index.add(None, &[BlockHash(key)], std::slice::from_ref(entry)).await.unwrap();
    }
    entries
}

#[tokio::test]
async fn a_block_is_a_list_while_that_is_shorter_and_else_a_bitmap() {
    on_each_server(async |client, _| {
        let index = index(&client);
        let pods = with_pods(&index, 128).await;
        let block = hashes([7]);
        for number in (0..8).rev() {
            index.add(None, &block, &pods[number..=number]).await.unwrap();
        }
        let list: Vec<u8> = (0..8).rev().flat_map(|column| [0, column]).collect();
        assert_eq!(value(&client, b'b', 7).await.unwrap(), [[1].as_slice(), &list].concat());
        index.add(None, &block, &pods[8..10]).await.unwrap();
        assert_eq!(value(&client, b'b', 7).await.unwrap(), [0, 0xff, 0xc0]);
        index.add(None, &block, &pods[127..]).await.unwrap();
        let mut bitmap = vec![0, 0xff, 0xc0];
        bitmap.resize(17, 0);
        bitmap[16] = 1;
        assert_eq!(value(&client, b'b', 7).await.unwrap(), bitmap);
        assert_eq!(holders(&index, 7).await.len(), 11);
        // Zeros at the end go, and with the last bit the key.
        index.evict(&block, KeyType::Request, &pods[1..]).await.unwrap();
        assert_eq!(value(&client, b'b', 7).await.unwrap(), [0, 0x80]);
        index.evict(&block, KeyType::Request, &pods[..1]).await.unwrap();
        assert_eq!(value(&client, b'b', 7).await, None);
    })
    .await;
}

#[tokio::test]
async fn a_large_bitmap_is_changed_in_place_and_becomes_a_list_again() {
    on_each_server(async |client, _| {
        let index = index(&client);
        let entries: Vec<_> = (0..2500).map(|group| gpu(POD).with_group(group)).collect();
        let (engine, block) = (hashes([1]), hashes([7]));
        index.add(Some(&engine), &block, &entries).await.unwrap();
        // The columns were given out in order: 312 bytes of ones, and half a byte.
        let bitmap = [[0].as_slice(), &[0xff; 312], &[0xf0]].concat();
        assert_eq!(value(&client, b'b', 7).await.unwrap(), bitmap);
        assert_eq!(holders(&index, 7).await.len(), 2500);
        index.evict(&engine, KeyType::Engine, &entries[100..]).await.unwrap();
        assert_eq!(holders(&index, 7).await, entries[..100]);
        assert_eq!(mapped(&index, 1).await, Some(7));
        index.evict(&engine, KeyType::Engine, &entries[1..100]).await.unwrap();
        assert_eq!(value(&client, b'b', 7).await.unwrap(), [1, 0, 0]);
        assert_eq!(mapped(&index, 1).await, Some(7));
        index.evict(&engine, KeyType::Engine, &entries[..1]).await.unwrap();
        assert_eq!(value(&client, b'b', 7).await, None);
        assert_eq!(mapped(&index, 1).await, None);
    })
    .await;
}

async fn calls(client: &Client, command: &str) -> u64 {
    let stats: String = client.query(Command::new("INFO").arg("commandstats")).await.unwrap();
    let prefix = format!("cmdstat_{command}:calls=");
    let calls = stats.lines().find_map(|line| line.strip_prefix(&prefix));
    calls.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn an_event_is_one_script_and_an_engine_key_of_others_one_question_more() {
    on_each_server(async |client, _| {
        let (index, other) = (index(&client), index(&client));
        let (engine, request) = (hashes(100..164), hashes(200..264));
        let pod = [gpu(POD)];
        index.add(Some(&engine[..1]), &request[..1], &pod).await.unwrap();
        let counts = async || (calls(&client, "evalsha").await, calls(&client, "mget").await);
        let before = counts().await;
        index.add(Some(&engine), &request, &pod).await.unwrap();
        assert_eq!(counts().await, (before.0 + 1, before.1));
        index.evict(&engine[..32], KeyType::Engine, &pod).await.unwrap();
        assert_eq!(counts().await, (before.0 + 2, before.1));
        let found = index.lookup(&request[32..], &PodSet::all()).await.unwrap();
        assert_eq!(found.len(), 32);
        assert_eq!(counts().await, (before.0 + 3, before.1 + 1));
        // Another client has to join, and to ask.
        other.evict(&engine[32..33], KeyType::Engine, &pod).await.unwrap();
        let before = counts().await;
        other.evict(&engine[33..], KeyType::Engine, &pod).await.unwrap();
        assert_eq!(counts().await, (before.0 + 2, before.1 + 1));
        assert!(index.lookup(&request[63..], &PodSet::all()).await.unwrap().is_empty());
        assert!(value(&client, b'e', 163).await.is_none());
    })
    .await;
}

#[tokio::test]
async fn lookups_that_find_another_registry_together_have_it_read_once() {
    on_each_server(async |client, _| {
        let (index, other) = (index(&client), index(&client));
        let (keys, all) = (hashes(0..300), PodSet::all());
        index.add(None, &keys, &[gpu(POD)]).await.unwrap();
        assert_eq!(holders(&index, 0).await, [gpu(POD)]);
        // A second pod changes the registry behind the first one's back.
        other.add(None, &keys, &[gpu("b")]).await.unwrap();
        let before = calls(&client, "hgetall").await;
        let lookups = (0..100).map(|_| index.lookup(&keys, &all));
        for found in futures_util::future::join_all(lookups).await {
            assert_eq!(found.unwrap().prefix_lengths()["b"], 300);
        }
        assert_eq!(calls(&client, "hgetall").await - before, 1);
        // As many that know nothing yet: once before the scripts are loaded, and once with them.
        let third = self::index(&client);
        let before = calls(&client, "hgetall").await;
        let lookups = (0..100).map(|_| third.lookup(&keys, &all));
        futures_util::future::join_all(lookups)
            .await
            .into_iter()
            .for_each(|found| drop(found.unwrap()));
        assert_eq!(calls(&client, "hgetall").await - before, 2);
    })
    .await;
}

#[tokio::test]
async fn prefixes_are_the_scores_of_a_lookup() {
    on_each_server(async |client, _| {
        let index = index(&client);
        let keys = hashes(0..3000);
        for (pod, tier, held) in [
            ("a", "gpu", 3000),
            ("b", "cpu", 2500),
            ("b", "gpu", 100),
            ("c", "disk", 1),
            ("d", "gpu", 300),
        ] {
            index.add(None, &keys[..held], &[PodEntry::new(pod, tier)]).await.unwrap();
        }
        index.evict(&keys[200..201], KeyType::Request, &[gpu("d")]).await.unwrap();
        index.add(None, &keys[1..], &[gpu("late")]).await.unwrap();
        let scorer = LongestPrefixScorer::new([("gpu", 1.0), ("cpu", 0.7), ("disk", -1.0)]);
        for pods in
            [PodSet::all(), ["b", "d"].into_iter().collect(), ["nobody"].into_iter().collect()]
        {
            let found = index.lookup(&keys, &pods).await.unwrap();
            let (scores, lengths) = (scorer.score(&keys, &found), found.prefix_lengths());
            let prefixes = index.prefixes(&keys, &pods, &scorer).await.unwrap();
            assert_eq!(prefixes.len(), scores.len(), "{pods:?}");
            for prefix in prefixes {
                assert_eq!(prefix.blocks, lengths[&*prefix.pod], "{}", prefix.pod);
                assert_eq!(prefix.score, scores[&*prefix.pod], "{}", prefix.pod);
            }
        }
    })
    .await;
}

/// With its mapping 1,848 bytes against 176 on Valkey, and against 192 on Redis. The first block of a script is left out: a server may
/// keep its value in the piece of memory, 16 bytes larger, in which an argument of the command before was.
#[tokio::test]
async fn ten_holders_of_128_columns_take_a_tenth_of_the_memory() {
    on_each_server(async |client, flavour| {
        let usage = async |name: Vec<u8>| -> u64 {
            client.query(Command::new("MEMORY").arg("USAGE").arg(name)).await.unwrap()
        };
        let bitmaps = index(&client);
        let pods = with_pods(&bitmaps, 128).await;
        bitmaps.add(Some(&hashes([0, 1])), &hashes([6, 7]), &pods[118..]).await.unwrap();
        let ours = usage(name(&client, b'b', 7).await).await;
        let our_mapping = usage(name(&client, b'e', 1).await).await;
        let fields = ServerIndex::new(client.clone());
        let (engine, request) = (hashes([u64::MAX - 1]), hashes([u64::MAX]));
        fields.add(Some(&engine), &request, &pods[118..]).await.unwrap();
        let theirs = usage(request[0].to_string().into_bytes()).await;
        let their_mapping = usage(format!("engine:{}", engine[0]).into_bytes()).await;
        let (all, of) = (ours + our_mapping, theirs + their_mapping);
        assert!(theirs >= 16 * ours, "{theirs} against {ours}");
        let with_mapping = match flavour {
            Flavour::Valkey => 10,
            Flavour::Redis => 9,
        };
        assert!(of >= with_mapping * all, "{of} against {all}");
    })
    .await;
}

#[tokio::test]
async fn what_others_have_stored_is_left_alone() {
    on_each_server(async |client, _| {
        let index = index(&client);
        index.add(Some(&hashes([1, 2])), &hashes([11, 12]), &[gpu(POD)]).await.unwrap();
        let foreign = name(&client, b'b', 13).await;
        client.query::<i64>(Command::new("HSET").arg(&foreign).arg("a").arg("b")).await.unwrap();
        assert_eq!(index.lookup(&hashes([11, 13]), &PodSet::all()).await.unwrap().len(), 1);
        let refused =
            index.add(Some(&hashes([4, 3])), &hashes([14, 13]), &[gpu(POD)]).await.unwrap_err();
        assert!(refused.is_foreign_data(), "{refused:?}");
        assert!(refused.to_string().contains("kvb:b"), "{refused}");
        // Nothing of the call was carried out.
        assert_eq!(holders(&index, 14).await, []);
        assert_eq!(mapped(&index, 4).await, None);
        index.evict(&hashes([13, 11]), KeyType::Request, &[gpu(POD)]).await.unwrap();
        assert_eq!(
            client.query::<String>(Command::new("TYPE").arg(&foreign)).await.unwrap(),
            "hash"
        );
        // A text under a block's name names nobody, and is not written over either.
        let text_key = name(&client, b'b', 15).await;
        client.set(&text_key, "some text").await.unwrap();
        assert_eq!(holders(&index, 15).await, []);
        assert!(index.add(None, &hashes([15]), &[gpu(POD)]).await.unwrap_err().is_foreign_data());
        // The registry's own name.
        let other = BitmapIndex::new(
            client.clone(),
            BitmapOptions::default().with_key_prefix("x:").unwrap(),
        );
        client.set("x:r", "mine").await.unwrap();
        assert!(other.lookup(&hashes([1]), &PodSet::all()).await.is_err());
        assert!(other.add(None, &hashes([1]), &[gpu(POD)]).await.is_err());
        assert_eq!(client.get::<String>("x:r").await.unwrap().unwrap(), "mine");
    })
    .await;
}

#[tokio::test]
async fn indexes_with_different_prefixes_share_a_database() {
    on_each_server(async |client, _| {
        let with_prefix = |prefix: &str| {
            let options = BitmapOptions::default()
                .with_key_prefix(prefix)
                .unwrap()
                .with_quarantine(std::time::Duration::ZERO);
            BitmapIndex::new(client.clone(), options)
        };
        let (a, b) = (with_prefix("a*[x]:"), with_prefix("a*[x]:b"));
        a.add(Some(&hashes([1])), &hashes([11]), &[gpu("in a")]).await.unwrap();
        b.add(Some(&hashes([1])), &hashes([11]), &[gpu("in b")]).await.unwrap();
        assert_eq!(holders(&a, 11).await, [gpu("in a")]);
        assert_eq!(holders(&b, 11).await, [gpu("in b")]);
        b.clear("in b").await.unwrap();
        for index in [&a, &b] {
            while !index.sweep(1).await.unwrap().is_done {}
        }
        assert_eq!(holders(&a, 11).await, [gpu("in a")]);
        assert_eq!(mapped(&a, 1).await, Some(11));
        assert_eq!(mapped(&b, 1).await, None);
        // llm-d's own clear passes over names that begin with `engine:`; a registry, a block and a mapping of a, a
        // registry of b.
        assert_eq!(client.query::<i64>(Command::new("DBSIZE")).await.unwrap(), 4);
    })
    .await;
}

#[test]
fn a_prefix_that_names_every_key_is_refused() {
    for prefix in ["", &"x".repeat(129)] {
        let refused = BitmapOptions::default().with_key_prefix(prefix).unwrap_err();
        assert_eq!(refused.config_error().unwrap().setting(), Some("keyPrefix"), "{refused:?}");
    }
    for prefix in ["x", "engine:kvb:", "{llama}:", &"x".repeat(128)] {
        let options = BitmapOptions::default().with_key_prefix(prefix).unwrap();
        assert_eq!(options.key_prefix(), prefix);
    }
}

#[tokio::test]
async fn a_sweep_removes_what_an_earlier_registry_left_and_nothing_that_looks_like_it() {
    on_each_server(async |client, _| {
        let index = index(&client);
        index.add(None, &hashes([1]), &[gpu(POD)]).await.unwrap();
        // The name of its registry is as long as that of a block of the first one, and goes on as such a name does.
        let options = BitmapOptions::default().with_key_prefix("kvb:bge-large-1.5:").unwrap();
        let other = BitmapIndex::new(client.clone(), options);
        other.add(None, &hashes([2]), &[gpu(POD)]).await.unwrap();
        let set = async |name: &str, value: &[u8]| {
            client.query::<()>(Command::new("SET").arg(name).arg(value)).await.unwrap();
        };
        let left =
            [("kvb:bbefore12345678", b"\0\x80".as_slice()), ("kvb:ebefore12345678", b"11111111")];
        let of_others =
            [("kvb:bbefore12345679", b"text".as_slice()), ("kvb:ebefore12345679", b"text")];
        for (name, value) in left.into_iter().chain(of_others) {
            set(name, value).await;
        }
        let mut removed = 0;
        loop {
            let swept = index.sweep(1).await.unwrap();
            removed += swept.removed;
            if swept.is_done {
                break;
            }
        }
        assert_eq!(removed, left.len());
        assert_eq!(holders(&index, 1).await, [gpu(POD)]);
        assert_eq!(holders(&other, 2).await, [gpu(POD)]);
        // Two registries with a block each, and what is somebody else's.
        assert_eq!(client.query::<i64>(Command::new("DBSIZE")).await.unwrap(), 4 + 2);
    })
    .await;
}

#[tokio::test]
async fn a_sweep_does_not_push_out_which_mappings_are_remembered() {
    on_each_server(async |client, _| {
        let options = BitmapOptions::default().with_mappings_max(std::num::NonZeroUsize::MIN);
        let own = BitmapIndex::new(client.clone(), options);
        own.add(Some(&hashes([1])), &hashes([11]), &[gpu(POD)]).await.unwrap();
        let engine = hashes(2..20);
        index(&client).add(Some(&engine), &hashes(12..30), &[gpu("other")]).await.unwrap();
        while !own.sweep(1).await.unwrap().is_done {}
        let questions = calls(&client, "mget").await;
        own.evict(&hashes([1]), KeyType::Engine, &[gpu(POD)]).await.unwrap();
        assert_eq!(calls(&client, "mget").await, questions);
        assert_eq!(mapped(&own, 1).await, None);
    })
    .await;
}

#[tokio::test]
async fn an_index_sweeps_in_the_background_where_that_is_configured_and_as_long_as_it_lives() {
    for flavour in Flavour::ALL {
        let server = respire_cli::local_server::LocalServer::start(flavour).unwrap();
        let config = |more: &str| -> IndexConfig {
            let url = server.url();
            format!(
                r#"{{"redisConfig":{{"address":"{url}","layout":"bitmap","quarantine":0,{more}}}}}"#
            )
            .parse()
            .unwrap()
        };
        let client = Client::connect(&server.url()).await.unwrap();
        // Its pod is renewed by nobody.
        let leased = config(r#""lease":"1ms""#).open().await.unwrap();
        leased.add(Some(&hashes([1])), &hashes([11]), &[gpu("leased")]).await.unwrap();
        let index = config(r#""sweepInterval":"5ms""#).open().await.unwrap();
        index.add(Some(&hashes([2])), &hashes([12]), &[gpu("cleared")]).await.unwrap();
        index.clear("cleared").await.unwrap();
        in_time(async {
            // Until there is nothing but the registry, in which all columns are free.
            while client.query::<i64>(Command::new("DBSIZE")).await.unwrap() > 1
                || text(&registry(&client).await["free"]) != "0,1,"
            {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        leased.add(None, &hashes([13]), &[gpu("leased")]).await.unwrap();
        assert_eq!(holders(&leased, 13).await, []);
        let named: Vec<_> = leased
            .resyncs()
            .await
            .unwrap()
            .into_iter()
            .map(|resync| resync.pod_identifier)
            .collect();
        assert_eq!(named, ["leased"]);
        drop(index);
        in_time(async {
            let mut scans = calls(&client, "scan").await;
            loop {
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                match calls(&client, "scan").await {
                    now if now == scans => break,
                    now => scans = now,
                }
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_lookup_has_to_be_done_in_its_time_when_it_needs_the_registry_too() {
    on_each_server(async |client, _| {
        // On a connection of its own: what waits there holds up what is asked behind it.
        let patient = Client::with_config(client.config().clone()).await.unwrap();
        let patient = patient.with_command_timeout(None);
        let limit = Some(std::time::Duration::from_millis(100));
        let index = BitmapIndex::new(patient, BitmapOptions::default()).with_lookup_timeout(limit);
        // Whoever writes waits, and what reads the registry may write.
        client
            .query::<()>(Command::new("CLIENT").arg("PAUSE").arg(60_000).arg("WRITE"))
            .await
            .unwrap();
        let asked = std::time::Instant::now();
        let error = index.lookup(&hashes([1]), &PodSet::all()).await.unwrap_err();
        assert!(error.client_error().unwrap().is_timeout(), "{error}");
        assert!(asked.elapsed() < std::time::Duration::from_secs(30));
        client.query::<()>(Command::new("CLIENT").arg("UNPAUSE")).await.unwrap();
        let index = index.with_lookup_timeout(None);
        assert!(index.lookup(&hashes([1]), &PodSet::all()).await.unwrap().is_empty());
    })
    .await;
}

/// Number, time, duration, arguments, client and its name.
type LoggedCommand = (i64, i64, i64, Vec<Vec<u8>>, Vec<u8>, Vec<u8>);

/// The calls of scripts by digest that something consists of, as the server has written them down.
async fn calls_of<T>(
    client: &Client,
    what: impl Future<Output = Result<T, IndexError>>,
) -> Vec<Vec<Vec<u8>>> {
    let set = async |setting: &str, value: i64| {
        let set = Command::new("CONFIG").arg("SET").arg(setting).arg(value);
        client.query::<String>(set).await.unwrap();
    };
    set("slowlog-max-len", 100).await;
    set("slowlog-log-slower-than", 0).await;
    client.query::<String>(Command::new("SLOWLOG").arg("RESET")).await.unwrap();
    what.await.unwrap();
    let log: Vec<LoggedCommand> =
        client.query(Command::new("SLOWLOG").arg("GET").arg(100)).await.unwrap();
    set("slowlog-log-slower-than", -1).await;
    // The latest comes first.
    let calls = log.into_iter().rev().map(|entry| entry.3);
    calls.filter(|arguments| arguments[0] == b"EVALSHA").collect()
}

/// Sends a call once more.
async fn again(client: &Client, call: &[Vec<u8>]) -> i64 {
    client.query(Command::new(&call[0]).args(&call[1..])).await.unwrap()
}

#[tokio::test]
async fn a_write_that_comes_late_is_not_carried_out() {
    on_each_server(async |client, _| {
        let index = index(&client);
        let pod = [gpu(POD)];
        index.add(None, &hashes([10]), &pod).await.unwrap();
        let calls = calls_of(&client, index.add(None, &hashes([11]), &pod)).await;
        let late = async || again(&client, &calls[0]).await;

        // The same write again, and behind a later one.
        assert_eq!(late().await, -1);
        index.evict(&hashes([11]), KeyType::Request, &pod).await.unwrap();
        assert_eq!(late().await, -1);
        assert_eq!(holders(&index, 11).await, []);
        // In another life of the pod.
        index.clear(POD).await.unwrap();
        assert_eq!(late().await, 0);
        index.add(None, &hashes([12]), &pod).await.unwrap();
        assert_eq!(late().await, 0);
        assert_eq!(holders(&index, 11).await, []);
        // In another epoch.
        client.query::<String>(Command::new("FLUSHALL")).await.unwrap();
        assert_eq!(late().await, 0);
        index.add(None, &hashes([12]), &pod).await.unwrap();
        assert_eq!(late().await, 0);
        assert_eq!(holders(&index, 11).await, []);
        assert_eq!(holders(&index, 12).await, pod);
    })
    .await;
}

#[tokio::test]
async fn a_writer_that_was_taken_off_joins_again_and_nothing_of_before_follows() {
    on_each_server(async |client, _| {
        // Whoever is not the caller is silent.
        let options = BitmapOptions::default().with_writer_timeout(std::time::Duration::ZERO);
        let slow = BitmapIndex::new(client.clone(), options.clone());
        let other = BitmapIndex::new(client.clone(), options);
        let pod = [gpu(POD)];
        let joining = calls_of(&client, slow.add(None, &hashes([10]), &pod)).await;
        let join = &joining[0];
        let add = calls_of(&client, slow.add(None, &hashes([11]), &pod)).await.pop().unwrap();
        slow.evict(&hashes([11]), KeyType::Request, &pod).await.unwrap();

        other.add(None, &hashes([12]), &pod).await.unwrap();
        let fields = registry(&client).await;
        let id = text(&fields[&format!("p{POD}")]);
        let writers = async || text(&registry(&client).await[&format!("j{id}")]).len() / 16;
        assert_eq!((writers().await, text(&fields[&format!("t{id}")])), (1, "1"));
        // Neither a write nor a join of before counts.
        assert_eq!(again(&client, &add).await, 0);
        assert_eq!(again(&client, join).await, 0);
        assert_eq!(writers().await, 1);

        // It goes on and nothing is missed, while the other is the one that is taken off.
        slow.add(None, &hashes([13]), &pod).await.unwrap();
        assert_eq!(writers().await, 1);
        assert_eq!(again(&client, &add).await, -1);
        for (block, holds) in [(10, true), (11, false), (12, true), (13, true)] {
            let expected = if holds { &pod[..] } else { &[] };
            assert_eq!(holders(&slow, block).await, expected, "{block}");
        }
        other.evict(&hashes([10, 13]), KeyType::Request, &pod).await.unwrap();
        assert_eq!(holders(&slow, 10).await, []);
        assert_eq!(holders(&other, 12).await, pod);
        assert!(slow.resyncs().is_empty() && other.resyncs().is_empty());
        // Nor does a join count that knew of one taking off and not of the next.
        let rejoin = calls_of(&client, slow.add(None, &hashes([14]), &pod)).await;
        let rejoin = rejoin.iter().find(|call| call[1] == join[1]).unwrap();
        other.add(None, &hashes([15]), &pod).await.unwrap();
        assert_eq!(again(&client, rejoin).await, 0);
        assert_eq!(again(&client, &add).await, 0);
    })
    .await;
}

#[tokio::test]
async fn routers_that_are_started_again_and_again_leave_nothing_with_the_registry() {
    on_each_server(async |client, _| {
        let mut sizes = Vec::new();
        for number in 0..60 {
            // One half leaves in good order, of the other half the next one finds that it is silent.
            let options = BitmapOptions::default().with_writer_timeout(std::time::Duration::ZERO);
            let router = BitmapIndex::new(client.clone(), options);
            for pod in ["a", "b", "c"] {
                router.add(None, &hashes([number]), &[gpu(pod)]).await.unwrap();
            }
            if number % 2 == 0 {
                router.leave().await.unwrap();
            }
            let fields = registry(&client).await;
            sizes.push((fields.len(), fields["writers"].len()));
        }
        assert!(sizes[2..].iter().all(|size| *size <= sizes[1]), "{sizes:?}");
        let reader = index(&client);
        for number in 0..60 {
            assert_eq!(holders(&reader, number).await, [gpu("a"), gpu("b"), gpu("c")]);
        }
    })
    .await;
}

#[tokio::test]
async fn pods_that_never_come_back_leave_nothing_with_the_registry() {
    on_each_server(async |client, _| {
        let options = BitmapOptions::default()
            .with_quarantine(std::time::Duration::ZERO)
            .with_lives_kept(std::time::Duration::ZERO);
        let index = BitmapIndex::new(client.clone(), options);
        for round in 0..3 {
            for number in 0..40 {
                let pod = format!("10.{round}.{number}.1:8000");
                index.add(Some(&hashes([1])), &hashes([11]), &[gpu(&pod)]).await.unwrap();
                index.clear(&pod).await.unwrap();
            }
            let mut forgotten = 0;
            loop {
                let step = index.sweep(1000).await.unwrap();
                forgotten += step.forgotten;
                if step.is_done {
                    break;
                }
            }
            assert_eq!(forgotten, 40);
            let fields = registry(&client).await;
            let names: Vec<_> = fields.keys().map(String::as_str).collect();
            let expected = [
                "epoch",
                "forgotten",
                "free",
                "gen",
                "next",
                "nonce",
                "server",
                "version",
                "writers",
            ];
            assert_eq!((names, text(&fields["next"])), (expected.to_vec(), "40"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_comes_back_when_it_is_forgotten_has_a_life_that_it_never_had() {
    on_each_server(async |client, _| {
        let options = BitmapOptions::default().with_lives_kept(std::time::Duration::ZERO);
        let index = BitmapIndex::new(client.clone(), options);
        let other = self::index(&client);
        let pod = [gpu(POD)];
        for writer in [&index, &other] {
            writer.add(None, &hashes([1]), &pod).await.unwrap();
        }
        for writer in [&index, &other] {
            writer.clear(POD).await.unwrap();
        }
        for _ in 0..3 {
            index.add(None, &hashes([2]), &[gpu("short-lived")]).await.unwrap();
            index.clear("short-lived").await.unwrap();
        }
        while !index.sweep(1000).await.unwrap().is_done {}
        let life = async || {
            let fields = registry(&client).await;
            text(&fields[&format!("n{}", text(&fields[&format!("p{POD}")]))]).to_owned()
        };
        // Who has forgotten it as well goes on; who counts from before is told that it is behind.
        index.add(None, &hashes([3]), &pod).await.unwrap();
        assert_eq!(life().await, "4");
        other.add(None, &hashes([4]), &pod).await.unwrap();
        assert_eq!(holders(&index, 3).await, pod);
        assert_eq!(holders(&index, 4).await, []);
        let named: Vec<_> =
            other.resyncs().into_iter().map(|resync| resync.pod_identifier).collect();
        assert_eq!(named, [POD]);
        for writer in [&other, &index] {
            writer.clear(POD).await.unwrap();
        }
        for (writer, block) in [(&other, 5), (&index, 6)] {
            writer.add(None, &hashes([block]), &pod).await.unwrap();
            assert_eq!(holders(&other, block).await, pod);
        }
        assert_eq!(life().await, "5");
        assert!(index.resyncs().is_empty() && other.resyncs().is_empty());
    })
    .await;
}

#[tokio::test]
async fn an_engine_key_keeps_a_bounded_number_of_request_keys_the_latest_last() {
    on_each_server(async |client, _| {
        let index = index(&client);
        for start in [0, 700] {
            let keys = hashes(start..start + 700);
            index.add(Some(&hashes([7])), &keys, &[gpu(POD)]).await.unwrap();
        }
        let mapped_to = value(&client, b'e', 7).await.unwrap();
        let expected: Vec<u8> = (1400 - 1024..1400_u64).flat_map(u64::to_be_bytes).collect();
        assert_eq!(mapped_to, expected);
        assert_eq!(mapped(&index, 7).await, Some(1399));
        // What has fallen off could not be evicted by it any more, and nobody is believed to hold it.
        assert_eq!(value(&client, b'b', 375).await, None);
        assert_eq!(holders(&index, 376).await.len(), 1);
        index.evict(&hashes([7]), KeyType::Engine, &[gpu(POD)]).await.unwrap();
        assert_eq!(value(&client, b'e', 7).await, None);
        for key in [0, 375, 376, 1399] {
            assert_eq!(holders(&index, key).await, [], "{key}");
        }
        assert_eq!(client.query::<i64>(Command::new("DBSIZE")).await.unwrap(), 1);
    })
    .await;
}
