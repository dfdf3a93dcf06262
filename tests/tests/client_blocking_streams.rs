//! Streams for programs without a runtime.

use respire::{blocking::Client, commands::*};
use respire_cli::local_server::LocalServer;
use respire_tests::servers::{config, flavours};

#[test]
fn streams_are_iterators_for_those_who_wait() {
    use respire::{ScanOptions, pubsub::Event};
    for flavour in flavours() {
        let server = LocalServer::start(flavour).expect("the test needs a server");
        let client = Client::with_config(config(&server.url())).unwrap();
        for at in 0..100 {
            client.set(format!("k{at}"), at).unwrap();
        }
        let keys = client.run(async |client| client.scan::<String>(ScanOptions::new())).unwrap();
        let keys: std::collections::BTreeSet<String> =
            client.iter(keys).map(|key| key.unwrap().unwrap()).collect();
        assert_eq!(keys.len(), 100, "{flavour:?}");
        let news = client.run(async |client| client.subscribe(["news"]).await).unwrap().unwrap();
        assert_eq!(client.publish("news", "hello").unwrap(), 1);
        let mut news = client.iter(news);
        let Some(Ok(Event::Message(message))) = news.next() else { panic!("no message") };
        assert_eq!(&message.payload()[..], b"hello");
        assert_eq!(client.stats().subscriptions.messages, 1);
        client.close().unwrap();
        assert!(news.next().is_none(), "{flavour:?}");
    }
}
