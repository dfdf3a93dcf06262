//! Keys, hashes, lists, sets, sorted sets and places on real servers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use respire::commands::*;
use respire_cli::local_server::Flavour;
use respire_tests::servers::everywhere;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn keys_are_renamed_copied_and_deleted() {
    everywhere(async |client, _| {
        client.mset([("a", 1), ("b", 2)]).await.unwrap();
        assert!(!client.copy("a", "b", false).await.unwrap());
        assert!(client.copy("a", "b", true).await.unwrap());
        assert_eq!(client.get("b").await.unwrap(), Some(1));
        client.rename("b", "c").await.unwrap();
        assert!(!client.renamenx("c", "a").await.unwrap());
        assert!(client.renamenx("c", "d").await.unwrap());
        assert!(client.rename("none", "x").await.is_err());
        assert_eq!(client.exists(["a", "d", "d", "none"]).await.unwrap(), 3);
        assert_eq!(client.touch(["a", "none"]).await.unwrap(), 1);
        let mut keys: Vec<String> = client.keys("*").await.unwrap();
        keys.sort();
        assert_eq!(keys, ["a", "d"]);
        let any: String = client.randomkey().await.unwrap().unwrap();
        assert!(keys.contains(&any));
        assert_eq!(client.key_type("a").await.unwrap().as_deref(), Some("string"));
        assert_eq!(client.key_type("none").await.unwrap(), None);
        let dump = client.dump("a").await.unwrap().unwrap();
        assert_eq!(client.dump("none").await.unwrap(), None);
        client.restore("e", &dump, None, false).await.unwrap();
        assert!(client.restore("e", &dump, None, false).await.is_err());
        client.restore("e", &dump, Some(HOUR), true).await.unwrap();
        assert!(matches!(client.ttl("e").await.unwrap(), Ttl::In(_)));
        assert!(client.move_to_database("e", 1).await.unwrap());
        assert!(!client.move_to_database("e", 1).await.unwrap());
        assert_eq!(client.del(["a", "none"]).await.unwrap(), 1);
        assert_eq!(client.unlink(["d", "none"]).await.unwrap(), 1);
        assert_eq!(client.randomkey::<String>().await.unwrap(), None);
        client.swapdb(0, 1).await.unwrap();
        assert_eq!(client.get("e").await.unwrap(), Some(1));
    })
    .await;
}

#[tokio::test]
async fn keys_live_for_a_time() {
    everywhere(async |client, _| {
        assert_eq!(client.ttl("k").await.unwrap(), Ttl::Missing);
        assert!(!client.expire("k", HOUR).await.unwrap());
        client.set("k", 1).await.unwrap();
        assert_eq!(client.ttl("k").await.unwrap(), Ttl::Forever);
        assert_eq!(client.expiretime("k").await.unwrap(), None);
        assert!(!client.expire_if("k", HOUR, Condition::HasOne).await.unwrap());
        assert!(client.expire_if("k", HOUR, Condition::HasNone).await.unwrap());
        assert!(client.expire_if("k", 2 * HOUR, Condition::Longer).await.unwrap());
        assert!(!client.expire_if("k", 3 * HOUR, Condition::Shorter).await.unwrap());
        assert!(client.persist("k").await.unwrap());
        assert!(!client.persist("k").await.unwrap());
        let at = SystemTime::now() + HOUR;
        assert!(client.expireat("k", at).await.unwrap());
        assert!(!client.expireat_if("k", at + HOUR, Condition::HasNone).await.unwrap());
        let expires = client.expiretime("k").await.unwrap().unwrap();
        assert!(expires.duration_since(at).unwrap() < Duration::from_millis(2));
        assert!(client.expireat("k", SystemTime::UNIX_EPOCH).await.unwrap());
        assert_eq!(client.ttl("k").await.unwrap(), Ttl::Missing);
    })
    .await;
}

#[tokio::test]
async fn objects_are_looked_into() {
    everywhere(async |client, _| {
        client.set("k", "some text").await.unwrap();
        assert_eq!(client.object_encoding("k").await.unwrap().as_deref(), Some("embstr"));
        assert_eq!(client.object_encoding("none").await.unwrap(), None);
        assert_eq!(client.object_refcount("k").await.unwrap(), Some(1));
        let idle = client.object_idletime("k").await.unwrap().unwrap();
        assert!(idle < Duration::from_secs(60), "{idle:?}");
        assert!(client.object_freq("k").await.is_err(), "the server does not count");
        client.config_set([("maxmemory-policy", "allkeys-lfu")]).await.unwrap();
        client.set("counted", 1).await.unwrap();
        assert!(client.object_freq("counted").await.unwrap().is_some());
        client.config_set([("maxmemory-policy", "noeviction")]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn elements_are_sorted() {
    everywhere(async |client, _| {
        client.rpush("l", [3, 1, 2]).await.unwrap();
        let sorted: Vec<i64> = client.sort("l", SortOptions::new()).await.unwrap();
        assert_eq!(sorted, [1, 2, 3]);
        client.mset([("w1", 30), ("w2", 20), ("w3", 10)]).await.unwrap();
        let options = SortOptions::new().by("w*").get("#").get("w*").limit(0, 2);
        let sorted: Vec<i64> = client.sort("l", options).await.unwrap();
        assert_eq!(sorted, [3, 10, 2, 20]);
        let options = SortOptions::new().order(Order::Descending).alphabetic();
        assert_eq!(client.sort_store("l", options, "to").await.unwrap(), 3);
        assert_eq!(client.lrange::<i64>("to", 0, -1).await.unwrap(), [3, 2, 1]);
    })
    .await;
}

#[tokio::test]
async fn hashes_hold_fields() {
    everywhere(async |client, _| {
        assert_eq!(client.hset("h", [("a", 1), ("b", 2)]).await.unwrap(), 2);
        assert_eq!(client.hset("h", HashMap::from([("b", 3), ("c", 4)])).await.unwrap(), 1);
        assert_eq!(client.hget("h", "b").await.unwrap(), Some(3));
        assert_eq!(client.hget::<i64>("h", "none").await.unwrap(), None);
        let all: BTreeMap<String, i64> = client.hgetall("h").await.unwrap();
        assert_eq!(all.into_values().collect::<Vec<_>>(), [1, 3, 4]);
        let pairs: Vec<(String, i64)> = client.hgetall("h").await.unwrap();
        assert_eq!(pairs.len(), 3);
        let empty: HashMap<String, String> = client.hgetall("none").await.unwrap();
        assert!(empty.is_empty());
        assert_eq!(client.hmget("h", ["a", "none"]).await.unwrap(), [Some(1), None]);
        let keys: BTreeSet<String> = client.hkeys("h").await.unwrap();
        assert_eq!(keys, BTreeSet::from(["a", "b", "c"].map(str::to_owned)));
        let mut values: Vec<i64> = client.hvals("h").await.unwrap();
        values.sort_unstable();
        assert_eq!(values, [1, 3, 4]);
        assert_eq!(client.hlen("h").await.unwrap(), 3);
        assert!(
            client.hexists("h", "a").await.unwrap() && !client.hexists("h", "x").await.unwrap()
        );
        assert_eq!(client.hincrby("h", "a", 9).await.unwrap(), 10);
        assert_eq!(client.hincrbyfloat("h", "a", 0.5).await.unwrap(), 10.5);
        assert_eq!(client.hstrlen("h", "a").await.unwrap(), 4);
        assert!(!client.hsetnx("h", "a", 0).await.unwrap());
        assert!(client.hsetnx("h", "d", 5).await.unwrap());
        let any: String = client.hrandfield("h").await.unwrap().unwrap();
        assert!(client.hexists("h", any).await.unwrap());
        assert_eq!(client.hrandfield::<String>("none").await.unwrap(), None);
        assert_eq!(client.hrandfield_count::<String>("h", -7).await.unwrap().len(), 7);
        let some: Vec<(String, f64)> = client.hrandfield_with_values("h", 2).await.unwrap();
        assert_eq!(some.len(), 2);
        for (field, value) in some {
            assert_eq!(client.hget("h", field).await.unwrap(), Some(value));
        }
        assert_eq!(client.hdel("h", ["a", "none"]).await.unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn lists_have_two_ends() {
    everywhere(async |client, _| {
        assert_eq!(client.rpush("l", ["c", "d"]).await.unwrap(), 2);
        assert_eq!(client.lpush("l", ["b", "a"]).await.unwrap(), 4);
        assert_eq!(client.lpushx("none", ["x"]).await.unwrap(), 0);
        assert_eq!(client.rpushx("l", ["e"]).await.unwrap(), 5);
        assert_eq!(client.llen("l").await.unwrap(), 5);
        assert_eq!(client.lindex("l", -1).await.unwrap(), Some("e".to_owned()));
        assert_eq!(client.lindex::<String>("l", 9).await.unwrap(), None);
        assert_eq!(client.linsert("l", Direction::Before, "c", "x").await.unwrap(), 6);
        assert_eq!(client.linsert("l", Direction::After, "none", "x").await.unwrap(), -1);
        assert_eq!(client.lrem("l", 0, "x").await.unwrap(), 1);
        client.lset("l", 0, "A").await.unwrap();
        assert!(client.lset("l", 99, "A").await.is_err());
        client.rpush("l", ["c", "c"]).await.unwrap();
        assert_eq!(client.lpos("l", "c").await.unwrap(), Some(2));
        assert_eq!(client.lpos("l", "none").await.unwrap(), None);
        let options = PosOptions::new().rank(-1).max_len(6);
        assert_eq!(client.lpos_count("l", "c", 0, options).await.unwrap(), [6, 5, 2]);
        client.ltrim("l", 0, 4).await.unwrap();
        let all: Vec<String> = client.lrange("l", 0, -1).await.unwrap();
        assert_eq!(all, ["A", "b", "c", "d", "e"]);
        assert_eq!(client.lpop("l").await.unwrap(), Some("A".to_owned()));
        assert_eq!(client.rpop("l").await.unwrap(), Some("e".to_owned()));
        assert_eq!(client.lpop::<String>("none").await.unwrap(), None);
        assert_eq!(client.rpop_count::<String>("l", 2).await.unwrap().unwrap(), ["d", "c"]);
        assert_eq!(client.lpop_count::<String>("l", 9).await.unwrap().unwrap(), ["b"]);
        assert_eq!(client.lpop_count::<String>("l", 9).await.unwrap(), None);
        client.rpush("l", [1, 2, 3]).await.unwrap();
        assert_eq!(client.lmove("l", "m", End::Left, End::Right).await.unwrap(), Some(1));
        assert_eq!(client.lmove::<i64>("none", "m", End::Left, End::Right).await.unwrap(), None);
        let popped = client.lmpop(["none", "l"], End::Right, 9).await.unwrap();
        assert_eq!(popped, Some(("l".to_owned(), vec![3, 2])));
        assert_eq!(client.lmpop::<String, i64>(["none"], End::Left, 1).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn sets_are_compared() {
    everywhere(async |client, _| {
        assert_eq!(client.sadd("a", [1, 2, 3, 3]).await.unwrap(), 3);
        assert_eq!(client.sadd("b", [3, 4]).await.unwrap(), 2);
        assert_eq!(client.scard("a").await.unwrap(), 3);
        let set = |numbers: &[i64]| numbers.iter().copied().collect::<BTreeSet<i64>>();
        assert_eq!(client.smembers::<BTreeSet<i64>>("a").await.unwrap(), set(&[1, 2, 3]));
        assert_eq!(client.sdiff::<BTreeSet<i64>>(["a", "b"]).await.unwrap(), set(&[1, 2]));
        assert_eq!(client.sinter::<BTreeSet<i64>>(["a", "b"]).await.unwrap(), set(&[3]));
        assert_eq!(client.sunion::<BTreeSet<i64>>(["a", "b"]).await.unwrap(), set(&[1, 2, 3, 4]));
        assert_eq!(client.sdiffstore("to", ["a", "b"]).await.unwrap(), 2);
        assert_eq!(client.sinterstore("to", ["a", "b"]).await.unwrap(), 1);
        assert_eq!(client.sunionstore("to", ["a", "b"]).await.unwrap(), 4);
        assert_eq!(client.sintercard(["a", "to"], None).await.unwrap(), 3);
        assert_eq!(client.sintercard(["a", "to"], Some(2)).await.unwrap(), 2);
        assert!(
            client.sismember("a", 1).await.unwrap() && !client.sismember("a", 9).await.unwrap()
        );
        assert_eq!(client.smismember("a", [9, 1]).await.unwrap(), [false, true]);
        assert!(client.smove("a", "b", 1).await.unwrap());
        assert!(!client.smove("a", "b", 1).await.unwrap());
        let any: i64 = client.srandmember("b").await.unwrap().unwrap();
        assert!([1, 3, 4].contains(&any));
        assert_eq!(client.srandmember_count::<Vec<i64>>("b", -5).await.unwrap().len(), 5);
        assert_eq!(client.srem("b", [any, 9]).await.unwrap(), 1);
        let popped: i64 = client.spop("b").await.unwrap().unwrap();
        assert!([1, 3, 4].contains(&popped) && popped != any);
        assert_eq!(client.spop_count::<BTreeSet<i64>>("b", 9).await.unwrap().len(), 1);
        assert_eq!(client.spop::<i64>("b").await.unwrap(), None);
    })
    .await;
}

fn scored<T>(member: T, score: f64) -> Scored<T> {
    Scored { member, score }
}

#[tokio::test]
async fn sorted_sets_are_ranged_over() {
    everywhere(async |client, flavour| {
        assert_eq!(client.zadd("z", [(1.0, "a"), (2.5, "b"), (3.0, "c")]).await.unwrap(), 3);
        assert_eq!(client.zcard("z").await.unwrap(), 3);
        assert_eq!(client.zcount("z", 2.5, ScoreBound::Max).await.unwrap(), 2);
        assert_eq!(client.zcount("z", ScoreBound::Above(2.5), 9.0).await.unwrap(), 1);
        assert_eq!(client.zscore("z", "b").await.unwrap(), Some(2.5));
        assert_eq!(client.zscore("z", "none").await.unwrap(), None);
        assert_eq!(client.zmscore("z", ["c", "none"]).await.unwrap(), [Some(3.0), None]);
        assert_eq!(client.zrank("z", "b").await.unwrap(), Some(1));
        assert_eq!(client.zrevrank("z", "a").await.unwrap(), Some(2));
        assert_eq!(client.zrank("z", "none").await.unwrap(), None);
        let ranked = client.zrank_with_score("z", "c").await;
        match flavour {
            Flavour::Valkey => assert_eq!(ranked.unwrap(), Some((2, 3.0))),
            Flavour::Redis => assert!(ranked.unwrap_err().server_error().is_some()),
        }
        assert_eq!(client.zrange::<String>("z", Zrange::all()).await.unwrap(), ["a", "b", "c"]);
        let top = client.zrange_with_scores::<String>("z", Zrange::by_rank(0, 1).reversed());
        assert_eq!(top.await.unwrap(), [scored("c".into(), 3.0), scored("b".into(), 2.5)]);
        let range =
            Zrange::by_score(ScoreBound::Min, ScoreBound::Below(3.0)).reversed().limit(1, 5);
        assert_eq!(client.zrange::<String>("z", range.clone()).await.unwrap(), ["a"]);
        assert_eq!(client.zrangestore("to", "z", range).await.unwrap(), 1);
        assert_eq!(client.zincrby("z", -2.0, "c").await.unwrap(), 1.0);
        assert_eq!(client.zrem("z", ["b", "none"]).await.unwrap(), 1);
        assert_eq!(client.zlexcount("z", LexBound::Min, LexBound::Max).await.unwrap(), 2);
        let lex = Zrange::by_lex(LexBound::beyond("a"), LexBound::at("c"));
        assert_eq!(client.zrange::<String>("z", lex).await.unwrap(), ["c"]);
        let removed = client.zremrangebylex("z", LexBound::at("c"), LexBound::Max).await.unwrap();
        assert_eq!(removed, 1);
        client.zadd("z", [(1.0, "a"), (2.0, "b"), (3.0, "c"), (4.0, "d")]).await.unwrap();
        assert_eq!(client.zremrangebyscore("z", ScoreBound::Above(3.0), 9.0).await.unwrap(), 1);
        assert_eq!(client.zremrangebyrank("z", 0, 0).await.unwrap(), 1);
        assert_eq!(client.zrange::<String>("z", Zrange::all()).await.unwrap(), ["b", "c"]);
        let any: String = client.zrandmember("z").await.unwrap().unwrap();
        assert!(["b", "c"].contains(&&*any));
        assert_eq!(client.zrandmember_count::<String>("z", -4).await.unwrap().len(), 4);
        let mut some: Vec<Scored<String>> = client.zrandmember_with_scores("z", 2).await.unwrap();
        some.sort_by(|a, b| a.member.cmp(&b.member));
        assert_eq!(some, [scored("b".to_owned(), 2.0), scored("c".to_owned(), 3.0)]);
    })
    .await;
}

#[tokio::test]
async fn scores_are_changed_on_conditions() {
    everywhere(async |client, _| {
        let options = ZaddOptions::new();
        let add =
            async |options, score| client.zadd_options("z", options, [(score, "m")]).await.unwrap();
        assert_eq!(add(options.if_present(), 1.0).await, 0);
        assert_eq!(add(options.if_absent(), 5.0).await, 1);
        assert_eq!(add(options.if_absent().count_changed(), 6.0).await, 0);
        assert_eq!(add(options.if_greater().count_changed(), 7.0).await, 1);
        assert_eq!(add(options.if_less().count_changed(), 8.0).await, 0);
        assert_eq!(client.zscore("z", "m").await.unwrap(), Some(7.0));
        assert_eq!(client.zadd_incr("z", options, 0.5, "m").await.unwrap(), Some(7.5));
        assert_eq!(client.zadd_incr("z", options.if_absent(), 1.0, "m").await.unwrap(), None);
        client.zadd("z", [(f64::INFINITY, "top"), (f64::NEG_INFINITY, "bottom")]).await.unwrap();
        assert_eq!(client.zscore("z", "top").await.unwrap(), Some(f64::INFINITY));
        assert_eq!(client.zscore("z", "bottom").await.unwrap(), Some(f64::NEG_INFINITY));
    })
    .await;
}

#[tokio::test]
async fn sorted_sets_are_combined_and_emptied() {
    everywhere(async |client, _| {
        let (a, b) = ([(1.0, "x"), (2.0, "y")], [(10.0, "y"), (20.0, "z")]);
        client.zadd("a", a).await.unwrap();
        client.zadd("b", b).await.unwrap();
        let (keys, sum) = (["a", "b"], Combine::new());
        assert_eq!(client.zdiff::<String>(keys).await.unwrap(), ["x"]);
        assert_eq!(client.zdiff_with_scores(keys).await.unwrap(), [scored("x".to_owned(), 1.0)]);
        assert_eq!(client.zinter::<String>(keys, sum.clone()).await.unwrap(), ["y"]);
        let weighted = Combine::new().weights([3.0, 1.0]).aggregate(Aggregate::Max);
        let inter = client.zinter_with_scores(keys, weighted).await.unwrap();
        assert_eq!(inter, [scored("y".to_owned(), 10.0)]);
        assert_eq!(client.zintercard(keys, None).await.unwrap(), 1);
        assert_eq!(client.zintercard(["a", "a"], Some(1)).await.unwrap(), 1);
        assert_eq!(client.zunion::<String>(keys, sum.clone()).await.unwrap(), ["x", "y", "z"]);
        let union =
            client.zunion_with_scores::<String>(keys, Combine::new().aggregate(Aggregate::Min));
        assert_eq!(union.await.unwrap()[1], scored("y".to_owned(), 2.0));
        assert_eq!(client.zdiffstore("to", keys).await.unwrap(), 1);
        assert_eq!(client.zinterstore("to", keys, sum.clone()).await.unwrap(), 1);
        assert_eq!(client.zscore("to", "y").await.unwrap(), Some(12.0));
        assert_eq!(client.zunionstore("to", keys, sum).await.unwrap(), 3);
        assert_eq!(client.zpopmin("to").await.unwrap(), Some(scored("x".to_owned(), 1.0)));
        assert_eq!(client.zpopmax("to").await.unwrap(), Some(scored("z".to_owned(), 20.0)));
        assert_eq!(client.zpopmax::<String>("none").await.unwrap(), None);
        let both = [scored("x".to_owned(), 1.0), scored("y".to_owned(), 2.0)];
        assert_eq!(client.zpopmin_count("a", 9).await.unwrap(), both);
        client.zadd("a", a).await.unwrap();
        assert_eq!(client.zpopmax_count("a", 1).await.unwrap(), [scored("y".to_owned(), 2.0)]);
        let popped = client.zmpop(["none", "b"], Extreme::Max, 1).await.unwrap();
        assert_eq!(
            popped,
            Some(Popped { key: "b".to_owned(), members: vec![scored("z".to_owned(), 20.0)] })
        );
        assert_eq!(client.zmpop::<String, String>(["none"], Extreme::Min, 1).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn places_are_found() {
    everywhere(async |client, _| {
        let (palermo, catania) =
            (GeoPosition::new(13.361389, 38.115556), GeoPosition::new(15.087269, 37.502669));
        assert_eq!(
            client.geoadd("g", [(palermo, "Palermo"), (catania, "Catania")]).await.unwrap(),
            2
        );
        let metres =
            client.geodist("g", "Palermo", "Catania", GeoUnit::Metres).await.unwrap().unwrap();
        assert!((metres - 166_274.0).abs() < 1.0, "{metres}");
        for (unit, factor) in
            [(GeoUnit::Kilometres, 1000.0), (GeoUnit::Feet, 0.3048), (GeoUnit::Miles, 1609.34)]
        {
            let distance = client.geodist("g", "Palermo", "Catania", unit).await.unwrap().unwrap();
            assert!((distance * factor - metres).abs() < 1.0, "{unit:?} {distance}");
        }
        assert_eq!(client.geodist("g", "Palermo", "none", GeoUnit::Metres).await.unwrap(), None);
        let hashes = client.geohash("g", ["Palermo", "none"]).await.unwrap();
        assert_eq!(hashes, [Some("sqc8b49rny0".to_owned()), None]);
        let found = client.geopos("g", ["Catania", "none"]).await.unwrap();
        let position = found[0].unwrap();
        assert!((position.longitude - 15.087269).abs() < 1e-4 && found[1].is_none());
        let around = GeoSearch::around(GeoPosition::new(15.0, 37.0));
        let near = around.clone().radius(200.0, GeoUnit::Kilometres).order(Order::Ascending);
        assert_eq!(
            client.geosearch::<String>("g", near.clone()).await.unwrap(),
            ["Catania", "Palermo"]
        );
        let hits = client.geosearch_hits::<String>("g", near.clone().nearest(1)).await.unwrap();
        assert_eq!(hits.len(), 1);
        assert_eq!(hits[0].member, "Catania");
        assert!(
            (hits[0].distance - 56.4).abs() < 0.1
                && (hits[0].position.latitude - 37.5).abs() < 0.01
        );
        let by_member =
            GeoSearch::around_member("Palermo").within_box(10.0, 10.0, GeoUnit::Kilometres);
        assert_eq!(client.geosearch::<String>("g", by_member.any(5)).await.unwrap(), ["Palermo"]);
        assert_eq!(client.geosearchstore("to", "g", near.clone()).await.unwrap(), 2);
        assert_eq!(client.geosearchstore_distances("to", "g", near).await.unwrap(), 2);
        let nearest = client.zpopmin::<String>("to").await.unwrap().unwrap();
        assert!(nearest.member == "Catania" && (nearest.score - 56.4).abs() < 0.1);
    })
    .await;
}
