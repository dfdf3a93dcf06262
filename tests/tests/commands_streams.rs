//! Streams on real servers.

use std::collections::HashMap;
use std::time::Duration;

use respire::commands::*;
use respire_cli::local_server::Flavour;
use respire_tests::servers::everywhere;

type Fields = Vec<(String, String)>;

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect()
}

fn id(milliseconds: u64) -> StreamId {
    StreamId::new(milliseconds, 0)
}

/// A stream of five entries with the identifiers 1-0 to 5-0.
async fn fill(client: &respire::Client) {
    for at in 1..=5 {
        let options = AddOptions::new().id(id(at));
        let added =
            client.xadd_options("s", options, [("n", at)]).await.expect("it comes after the last");
        assert_eq!(added, Some(id(at)));
    }
}

#[tokio::test]
async fn entries_are_added_and_ranged_over() {
    everywhere(async |client, _| {
        let first =
            client.xadd("s", [("kind", "login"), ("user", "7"), ("user", "8")]).await.unwrap();
        let second = client.xadd("s", [("kind", "logout")]).await.unwrap();
        assert!(first < second && first.milliseconds > 1_600_000_000_000);
        let all: Vec<StreamEntry<Fields>> = client.xrange("s", "-", "+", None).await.unwrap();
        assert_eq!(all[0].id, first);
        assert_eq!(all[0].fields, fields(&[("kind", "login"), ("user", "7"), ("user", "8")]));
        let from: Vec<StreamEntry<HashMap<String, String>>> =
            client.xrange("s", first.next(), "+", Some(9)).await.unwrap();
        assert_eq!((from.len(), &*from[0].fields["kind"]), (1, "logout"));
        let last: Vec<StreamEntry<Fields>> =
            client.xrevrange("s", "+", "-", Some(1)).await.unwrap();
        assert_eq!(last[0].id, second);
        assert_eq!(client.xlen("s").await.unwrap(), 2);
        assert_eq!(client.xdel("s", [first, id(1)]).await.unwrap(), 1);
        assert_eq!(client.xlen("s").await.unwrap(), 1);
        let lower = AddOptions::new().id(id(1));
        assert!(client.xadd_options("s", lower, [("f", "v")]).await.is_err(), "it is too small");
        let nowhere = AddOptions::new().no_make_stream();
        assert_eq!(client.xadd_options("none", nowhere, [("f", "v")]).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn streams_are_trimmed() {
    everywhere(async |client, _| {
        fill(&client).await;
        assert_eq!(client.xtrim("s", StreamTrim::max_len(4, Trim::Exactly)).await.unwrap(), 1);
        assert_eq!(client.xtrim("s", StreamTrim::min_id(id(3), Trim::Exactly)).await.unwrap(), 1);
        let nearly = StreamTrim::max_len(1, Trim::Nearly).limit(100);
        assert_eq!(client.xtrim("s", nearly).await.unwrap(), 0, "less than a node is kept");
        let options = AddOptions::new().id(id(6)).trim(StreamTrim::max_len(2, Trim::Exactly));
        client.xadd_options("s", options, [("n", 6)]).await.unwrap();
        let left: Vec<StreamEntry<()>> = client.xrange("s", "-", "+", None).await.unwrap();
        assert_eq!(left.iter().map(|entry| entry.id).collect::<Vec<_>>(), [id(5), id(6)]);
    })
    .await;
}

#[tokio::test]
async fn several_streams_are_read_at_once() {
    everywhere(async |client, _| {
        fill(&client).await;
        client.xadd_options("t", AddOptions::new().id(id(9)), [("x", "y")]).await.unwrap();
        let options = ReadOptions::new().count(2);
        let read = client
            .xread::<String, Fields>([("s", "3-0"), ("none", "0"), ("t", "0")], options)
            .await
            .unwrap();
        let shape: Vec<_> = read
            .iter()
            .map(|stream| (&*stream.key, stream.entries.iter().map(|e| e.id).collect::<Vec<_>>()))
            .collect();
        assert_eq!(shape, [("s", vec![id(4), id(5)]), ("t", vec![id(9)])]);
        assert_eq!(read[1].entries[0].fields, fields(&[("x", "y")]));
        let nothing =
            client.xread::<String, Fields>([("s", "$")], ReadOptions::new()).await.unwrap();
        assert!(nothing.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_read_waits_for_an_entry_aside_of_the_shared_connection() {
    everywhere(async |client, _| {
        let options = ReadOptions::new().block(Some(Duration::from_millis(20)));
        assert!(client.xread::<String, Fields>([("s", "$")], options).await.unwrap().is_empty());
        let options = ReadOptions::new().block(Some(Duration::from_secs(20)));
        let reader = client.clone();
        let waiting =
            tokio::spawn(
                async move { reader.xread::<String, Fields>([("s", "0")], options).await },
            );
        client.xadd_options("s", AddOptions::new().id(id(1)), [("f", "v")]).await.unwrap();
        let read = waiting.await.unwrap().unwrap();
        assert_eq!((read[0].entries[0].id, &*read[0].key), (id(1), "s"));
    })
    .await;
}

#[tokio::test]
async fn groups_share_entries_among_consumers() {
    everywhere(async |client, flavour| {
        client.xgroup_create("s", "g", "$", true).await.unwrap();
        let again = client.xgroup_create("s", "g", "$", false).await.unwrap_err();
        assert_eq!(again.server_error().unwrap().code(), "BUSYGROUP");
        fill(&client).await;
        let options = ReadOptions::new().count(3);
        let read =
            client.xreadgroup::<String, Fields>("g", "alice", [("s", ">")], options).await.unwrap();
        assert_eq!(read[0].entries.len(), 3);
        let rest =
            client.xreadgroup::<String, Fields>("g", "bob", [("s", ">")], options).await.unwrap();
        assert_eq!(rest[0].entries[0].id, id(4));
        let none =
            client.xreadgroup::<String, Fields>("g", "bob", [("s", ">")], options).await.unwrap();
        assert!(none.is_empty());
        assert_eq!(client.xack("s", "g", [id(1), id(9)]).await.unwrap(), 1);
        client.xdel("s", [id(2)]).await.unwrap();
        // What is pending of alice's, of which one was deleted.
        let pending = client
            .xreadgroup::<String, Option<Fields>>("g", "alice", [("s", "0")], ReadOptions::new())
            .await
            .unwrap();
        let shape: Vec<_> = pending[0].entries.iter().map(|e| (e.id, e.fields.is_some())).collect();
        assert_eq!(shape, [(id(2), false), (id(3), true)]);

        let summary = client.xpending("s", "g").await.unwrap();
        assert_eq!((summary.count, summary.range), (4, Some((id(2), id(5)))));
        assert_eq!(summary.consumers, [("alice".to_owned(), 2), ("bob".to_owned(), 2)]);
        let entries = client
            .xpending_entries("s", "g", Duration::ZERO, "-", "+", 10, Some("bob"))
            .await
            .unwrap();
        assert_eq!(
            entries.iter().map(|e| (e.id, e.deliveries)).collect::<Vec<_>>(),
            [(id(4), 1), (id(5), 1)]
        );
        assert!(entries[0].consumer == "bob" && entries[0].idle < Duration::from_secs(60));
        let hour = Duration::from_secs(3600);
        assert!(
            client.xpending_entries("s", "g", hour, "-", "+", 10, None).await.unwrap().is_empty()
        );

        let group = &client.xinfo_groups("s").await.unwrap()[0];
        assert_eq!((&*group.name, group.consumers, group.pending), ("g", 2, 4));
        assert_eq!((group.last_delivered_id, group.entries_read), (id(5), Some(5)));
        let consumers = client.xinfo_consumers("s", "g").await.unwrap();
        assert_eq!(
            consumers.iter().map(|c| (&*c.name, c.pending)).collect::<Vec<_>>(),
            [("alice", 2), ("bob", 2)]
        );
        assert_eq!(consumers[0].inactive.is_some(), flavour == Flavour::Valkey);
        let info = client.xinfo_stream("s").await.unwrap();
        assert_eq!((info.length, info.groups, info.entries_added), (4, 1, Some(5)));
        assert_eq!((info.first_entry, info.last_entry), (Some(id(1)), Some(id(5))));
        assert_eq!((info.last_generated_id, info.max_deleted_entry_id), (id(5), Some(id(2))));

        assert!(client.xgroup_createconsumer("s", "g", "carol").await.unwrap());
        assert!(!client.xgroup_createconsumer("s", "g", "carol").await.unwrap());
        assert_eq!(client.xgroup_delconsumer("s", "g", "bob").await.unwrap(), 2);
        client.xgroup_setid("s", "g", "0").await.unwrap();
        let no_ack = ReadOptions::new().no_ack().count(1);
        let read =
            client.xreadgroup::<String, Fields>("g", "carol", [("s", ">")], no_ack).await.unwrap();
        assert_eq!(read[0].entries[0].id, id(1));
        assert!(client.xgroup_destroy("s", "g").await.unwrap());
        assert!(!client.xgroup_destroy("s", "g").await.unwrap());
        let empty = client.xgroup_create("s", "new", "$", false).await;
        empty.unwrap();
        assert_eq!(client.xpending("s", "new").await.unwrap(), PendingSummary::default());
    })
    .await;
}

#[tokio::test]
async fn pending_entries_are_claimed() {
    everywhere(async |client, _| {
        client.xgroup_create("s", "g", "0", true).await.unwrap();
        fill(&client).await;
        client
            .xreadgroup::<String, Fields>("g", "alice", [("s", ">")], ReadOptions::new())
            .await
            .unwrap();
        let (now, options) = (Duration::ZERO, ClaimOptions::new());
        let claimed: Vec<StreamEntry<Fields>> =
            client.xclaim("s", "g", "bob", now, [id(1)], options.retry_count(7)).await.unwrap();
        assert_eq!((claimed[0].id, &*claimed[0].fields), (id(1), &fields(&[("n", "1")])[..]));
        let entries =
            client.xpending_entries("s", "g", now, "-", "+", 1, Some("bob")).await.unwrap();
        assert_eq!(entries[0].deliveries, 7);
        let hour = Duration::from_secs(3600);
        let ids = client.xclaim_ids("s", "g", "bob", hour, [id(2)], options).await.unwrap();
        assert!(ids.is_empty(), "it is not pending for so long");
        let ids =
            client.xclaim_ids("s", "g", "bob", now, [id(2)], options.idle(hour)).await.unwrap();
        assert_eq!(ids, [id(2)]);
        client.xack("s", "g", [id(3)]).await.unwrap();
        let forced =
            client.xclaim_ids("s", "g", "bob", now, [id(3)], options.force()).await.unwrap();
        assert_eq!(forced, [id(3)]);
        client.xdel("s", [id(4)]).await.unwrap();
        let claimed: AutoClaimed<Fields> =
            client.xautoclaim("s", "g", "carol", now, "0", 2).await.unwrap();
        assert_eq!(claimed.entries.iter().map(|e| e.id).collect::<Vec<_>>(), [id(1), id(2)]);
        assert!(claimed.next > id(2) && claimed.deleted.is_empty());
        let claimed: AutoClaimed<Fields> =
            client.xautoclaim("s", "g", "carol", now, claimed.next, 100).await.unwrap();
        assert_eq!(claimed.entries.iter().map(|e| e.id).collect::<Vec<_>>(), [id(3), id(5)]);
        assert_eq!((claimed.next, &claimed.deleted[..]), (StreamId::default(), &[id(4)][..]));
    })
    .await;
}
