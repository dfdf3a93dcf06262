use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::{
    config::{Credentials, CredentialsError, CredentialsFuture, CredentialsProvider},
    pubsub::PushHub,
};

/// Nobody listens there.
fn config() -> Config {
    Config::new(Address::Tcp { host: "127.0.0.1".to_owned(), port: 1 })
}

fn link(config: Config) -> Arc<Link> {
    let config = Arc::new(config);
    let rotation = Rotation::new(&config);
    let sink = Arc::new(PushHub::new(config.push_queue_max()));
    Link::new(config, sink, Arc::default(), rotation)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_replacement_that_cannot_be_started_is_told_from_one_that_is_not_needed() {
    let link = link(config());
    let runtime = runtime();
    let start = |link: &Arc<Link>| link.connection(WhenDown::Wait).unwrap();
    let old = runtime.block_on(async { start(&link) });
    // There is no runtime here to dial in, as there may be no thread to be had elsewhere.
    let refused = link.start_replacement(&old, None).expect("it is the present one");
    assert!(refused.unwrap_err().is_usage());
    assert!(link.spare().expect("the link is there").unwrap_err().is_usage());
    runtime.block_on(async {
        let next = link.start_replacement(&old, None).expect("it still is").unwrap();
        assert!(!Arc::ptr_eq(&old, &next));
        assert!(link.start_replacement(&next, None).is_none(), "it is not the present one yet");
        assert!(link.start_replacement(&old, None).is_none(), "one is being dialled");
    });
}

/// Asks for a connection of the client's own before it waits for changes.
#[derive(Default)]
struct Asks {
    link: OnceLock<Weak<Link>>,
    times: AtomicUsize,
}

impl CredentialsProvider for Asks {
    fn credentials(&self) -> CredentialsFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(std::future::ready(Ok(Credentials::new(None, "secret"))))
    }

    fn changed(&self) -> CredentialsFuture<'_, ()> {
        Box::pin(async {
            self.times.fetch_add(1, Ordering::Relaxed);
            let link = self.link.get().and_then(Weak::upgrade).expect("the test has it");
            link.connection(WhenDown::Wait).expect("a connection is begun");
            drop(link);
            std::future::pending::<()>().await;
        })
    }
}

#[test]
fn a_provider_may_use_the_client_to_learn_of_changes() {
    let provider = Arc::new(Asks::default());
    let link = link(config().with_credentials_provider(Arc::clone(&provider)));
    provider.link.set(Arc::downgrade(&link)).unwrap();
    runtime().block_on(async {
        let first = link.connection(WhenDown::Wait).unwrap();
        assert!(Arc::ptr_eq(&first, &link.present().unwrap()), "there is one connection");
    });
    assert_eq!(provider.times.load(Ordering::Relaxed), 1);
    // It was made before anybody waited for changes, so it counts as made before the last one.
    assert_eq!(link.rotation.number(), 1);
}
