//! Strings, bitmaps and HyperLogLogs on real servers.

use std::time::{Duration, SystemTime};

use respire::{Bytes, Pipeline, commands::*};
use respire_tests::servers::everywhere;

#[tokio::test]
async fn values_are_set_and_read() {
    everywhere(async |client, _| {
        client.set("k", "hello").await.unwrap();
        assert_eq!(client.get("k").await.unwrap(), Some("hello".to_owned()));
        assert_eq!(client.get::<Bytes>("none").await.unwrap(), None);
        assert_eq!(client.append("k", " world").await.unwrap(), 11);
        assert_eq!(client.strlen("k").await.unwrap(), 11);
        assert_eq!(client.getrange::<String>("k", -5, -1).await.unwrap(), "world");
        assert_eq!(client.setrange("k", 6, "there").await.unwrap(), 11);
        assert_eq!(client.getdel("k").await.unwrap(), Some("hello there".to_owned()));
        assert_eq!(client.exists(["k"]).await.unwrap(), 0);
        client.mset([("a", 1), ("b", 2)]).await.unwrap();
        assert!(!client.msetnx([("b", 3), ("c", 3)]).await.unwrap());
        assert!(client.msetnx([("c", 3), ("d", 4)]).await.unwrap());
        let values: Vec<Option<i64>> = client.mget(["a", "b", "c", "none"]).await.unwrap();
        assert_eq!(values, [Some(1), Some(2), Some(3), None]);
        assert!(!client.setnx("a", 5).await.unwrap());
        assert!(client.setnx("e", 5).await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn numbers_are_counted() {
    everywhere(async |client, _| {
        assert_eq!(client.incr("n").await.unwrap(), 1);
        assert_eq!(client.incrby("n", 9).await.unwrap(), 10);
        assert_eq!(client.decr("n").await.unwrap(), 9);
        assert_eq!(client.decrby("n", 10).await.unwrap(), -1);
        assert_eq!(client.incrbyfloat("n", 1.5).await.unwrap(), 0.5);
        let error = client.incr("n").await.expect_err("it is no integer any more");
        assert_eq!(error.server_error().unwrap().code(), "ERR");
    })
    .await;
}

#[tokio::test]
async fn set_takes_conditions_and_times() {
    everywhere(async |client, _| {
        let options = SetOptions::new();
        assert!(!client.set_options("k", 1, options.if_present()).await.unwrap());
        assert!(client.set_options("k", 1, options.if_absent()).await.unwrap());
        assert!(!client.set_options("k", 2, options.if_absent()).await.unwrap());
        let hour = Duration::from_secs(3600);
        assert!(client.set_options("k", 2, options.if_present().expire_in(hour)).await.unwrap());
        let Ttl::In(left) = client.ttl("k").await.unwrap() else { panic!("it has a time to live") };
        assert!(left <= hour && left > hour / 2, "{left:?}");
        assert!(client.set_options("k", 3, options.keep_ttl()).await.unwrap());
        assert!(matches!(client.ttl("k").await.unwrap(), Ttl::In(_)));
        assert!(client.set_options("k", 4, options).await.unwrap());
        assert_eq!(client.ttl("k").await.unwrap(), Ttl::Forever);
        let at = SystemTime::now() + hour;
        assert!(client.set_options("k", 5, options.expire_at(at)).await.unwrap());
        let expires = client.expiretime("k").await.unwrap().expect("it ceases to be");
        assert!(
            expires.duration_since(at).unwrap() < Duration::from_millis(2),
            "to the millisecond"
        );
        let before: Option<i64> = client.set_get("k", 6, options).await.unwrap();
        assert_eq!(before, Some(5));
        assert_eq!(client.set_get::<i64>("new", 1, options.if_absent()).await.unwrap(), None);
        client.setex("k", 7, hour).await.unwrap();
        assert_eq!(client.getex("k", None).await.unwrap(), Some(7));
        assert_eq!(client.ttl("k").await.unwrap(), Ttl::Forever);
        assert_eq!(client.getex("k", Some(Expiry::In(hour))).await.unwrap(), Some(7));
        assert!(matches!(client.ttl("k").await.unwrap(), Ttl::In(_)));
        assert_eq!(client.getex("k", Some(Expiry::At(at))).await.unwrap(), Some(7));
        // Less than a millisecond is not nothing, which would be an error.
        client.setex("k", 8, Duration::from_nanos(1)).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_common_subsequence_is_found() {
    everywhere(async |client, _| {
        client.mset([("a", "ohmytext"), ("b", "mynewtext")]).await.unwrap();
        assert_eq!(client.lcs::<String>("a", "b").await.unwrap(), "mytext");
        assert_eq!(client.lcs_len("a", "b").await.unwrap(), 6);
        let lcs = client.lcs_matches("a", "b", 0).await.unwrap();
        assert_eq!(lcs.len, 6);
        let part = |first, second, len| LcsMatch { first, second, len };
        assert_eq!(lcs.matches, [part((4, 7), (5, 8), 4), part((2, 3), (0, 1), 2)]);
        assert_eq!(client.lcs_matches("a", "b", 4).await.unwrap().matches.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn bits_are_counted_found_and_combined() {
    everywhere(async |client, _| {
        assert!(!client.setbit("k", 7, true).await.unwrap());
        assert!(client.setbit("k", 7, true).await.unwrap());
        assert!(client.getbit("k", 7).await.unwrap() && !client.getbit("k", 1000).await.unwrap());
        client.set("k", [0xff, 0xf0, 0x00]).await.unwrap();
        assert_eq!(client.bitcount("k").await.unwrap(), 12);
        assert_eq!(client.bitcount_range("k", BitRange::Bytes(1, -1)).await.unwrap(), 4);
        assert_eq!(client.bitcount_range("k", BitRange::Bits(6, 9)).await.unwrap(), 4);
        assert_eq!(client.bitpos("k", false).await.unwrap(), Some(12));
        assert_eq!(client.bitpos_range("k", true, BitRange::Bytes(2, 2)).await.unwrap(), None);
        assert_eq!(client.bitpos_range("k", true, BitRange::Bits(9, 20)).await.unwrap(), Some(9));
        client.set("l", [0x0f, 0x0f]).await.unwrap();
        for (operation, expected) in [
            (BitwiseOperation::And, [0x0f, 0x00, 0x00]),
            (BitwiseOperation::Or, [0xff, 0xff, 0x00]),
            (BitwiseOperation::Xor, [0xf0, 0xff, 0x00]),
        ] {
            assert_eq!(client.bitop(operation, "to", ["k", "l"]).await.unwrap(), 3);
            assert_eq!(client.get::<Vec<u8>>("to").await.unwrap().unwrap(), expected);
        }
        assert_eq!(client.bitop(BitwiseOperation::Not, "to", ["l"]).await.unwrap(), 2);
        assert_eq!(client.get::<Vec<u8>>("to").await.unwrap().unwrap(), [0xf0, 0xf0]);
    })
    .await;
}

#[tokio::test]
async fn integers_of_any_width_are_kept_in_bits() {
    everywhere(async |client, _| {
        let (u4, i8) = (BitInteger::unsigned(4), BitInteger::signed(8));
        let operations = Bitfield::new()
            .set(u4, 0, 9)
            .set(i8, 4, -3)
            .get(u4, 0)
            .get(i8, 4)
            .incrby(u4, 0, 7)
            .overflow(Overflow::Saturate)
            .incrby(u4, 0, 100)
            .overflow(Overflow::Fail)
            .incrby(u4, 0, 1)
            .overflow(Overflow::Wrap)
            .incrby(u4, 0, 2);
        let answers = client.bitfield("k", operations).await.unwrap();
        let expected = [0, 0, 9, -3, 0, 15].map(Some);
        assert_eq!(answers[..6], expected);
        assert_eq!(answers[6..], [None, Some(1)]);
    })
    .await;
}

#[tokio::test]
async fn what_is_different_is_counted() {
    everywhere(async |client, _| {
        assert!(client.pfadd("a", ["x", "y"]).await.unwrap());
        assert!(!client.pfadd("a", ["x"]).await.unwrap());
        client.pfadd("b", ["y", "z"]).await.unwrap();
        assert_eq!(client.pfcount(["a"]).await.unwrap(), 2);
        assert_eq!(client.pfcount(["a", "b"]).await.unwrap(), 3);
        client.pfmerge("c", ["a", "b"]).await.unwrap();
        assert_eq!(client.pfcount(["c"]).await.unwrap(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_pipeline_takes_the_same_commands_and_reads_each_reply_by_its_type() {
    everywhere(async |client, _| {
        let mut pipeline = Pipeline::new();
        let set = pipeline.set("n", 5);
        let sum = pipeline.incrby("n", 10);
        let wrong = pipeline.hget::<String>("n", "field");
        pipeline.command(&["PING"]);
        let text = pipeline.get::<String>("n");
        assert_eq!((sum.position(), text.position()), (1, 4));
        let replies = client.pipeline(pipeline).await.unwrap();
        set.read(&replies).unwrap();
        assert_eq!(sum.read(&replies).unwrap(), 15);
        assert_eq!(wrong.read(&replies).unwrap_err().server_error().unwrap().code(), "WRONGTYPE");
        assert_eq!(text.read(&replies).unwrap().as_deref(), Some("15"));
        assert!(text.read(&replies[..2]).unwrap_err().is_usage());
        let reply = client.execute(Cmd.get::<i64>("n").into_command()).await.unwrap();
        assert_eq!(Cmd.get::<i64>("n").read(&reply).unwrap(), Some(15));
        assert_eq!(client.run(Cmd.get::<i64>("n")).await.unwrap(), Some(15));
        let error = client.get::<i64>("n").await.and(client.getrange::<i64>("none", 0, 1).await);
        assert!(error.unwrap_err().is_value(), "an empty string is no number");
    })
    .await;
}

#[tokio::test]
async fn large_values_come_back_as_they_went_however_they_are_handed_over() {
    everywhere(async |client, _| {
        let value: Vec<u8> = (0..3_000_000_u32).map(|at| (at * 7) as u8).collect();
        let shared = Bytes::from(value.clone());
        client.mset([("a", &value[..]), ("small", b"x")]).await.unwrap();
        client.set("b", &shared).await.unwrap();
        client.set("c", value).await.unwrap();
        let mut pipeline = Pipeline::new();
        for at in 0..50 {
            pipeline.set(format!("p{at}"), shared.slice(at..at + 16 * 1024 + at));
            pipeline.set(format!("s{at}"), at);
        }
        let replies = client.pipeline(pipeline).await.unwrap();
        assert!(replies.iter().all(|reply| reply.parse::<&str>().unwrap() == "OK"));
        for key in ["a", "b", "c"] {
            assert!(client.get::<Bytes>(key).await.unwrap().unwrap() == shared, "{key}");
        }
        for at in 0..50 {
            let value: Bytes = client.get(format!("p{at}")).await.unwrap().unwrap();
            assert!(value == shared.slice(at..at + 16 * 1024 + at), "{at}");
            assert_eq!(client.get(format!("s{at}")).await.unwrap(), Some(at));
        }
    })
    .await;
}
