//! Resumed TLS sessions. One test, so that nothing else of the process decides whether the client's events are recorded.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use respire::{Client, Command, Config};
use respire_cli::local_server::Flavour;
use respire_tests::tls::{TlsServer, client_tls};

async fn pong(client: &Client) {
    let pong: String = client.query(Command::new("PING")).await.expect("the server answers");
    assert_eq!(pong, "PONG");
}

/// Notes of each handshake whether it resumed a session.
#[derive(Clone, Default)]
struct Handshakes(Arc<Mutex<Vec<bool>>>);

impl tracing::Subscriber for Handshakes {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut self.clone());
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

impl tracing::field::Visit for Handshakes {
    fn record_debug(&mut self, _: &tracing::field::Field, _: &dyn std::fmt::Debug) {}

    fn record_bool(&mut self, field: &tracing::field::Field, value: bool) {
        if field.name() == "resumed" {
            self.0.lock().expect("nobody panics with it").push(value);
        }
    }
}

#[tokio::test]
async fn a_connection_after_the_first_resumes_its_session() {
    let handshakes = Handshakes::default();
    let _guard = tracing::subscriber::set_default(handshakes.clone());
    for flavour in Flavour::ALL {
        for version in ["TLSv1.2", "TLSv1.3"] {
            let server = TlsServer::start(flavour, &["--tls-protocols", version]);
            let admin = Client::connect(&server.url()).await.unwrap();
            let config = server.tls_url().parse::<Config>().unwrap().with_tls(client_tls());
            let client = Client::with_config(config).await.unwrap();
            for _ in 0..2 {
                let id: i64 = client.query(Command::new("CLIENT").arg("ID")).await.unwrap();
                let kill = Command::new("CLIENT").arg("KILL").arg("ID").arg(id);
                admin.execute(kill).await.unwrap();
                // For a moment it may not be known yet that the connection is gone.
                tokio::time::sleep(Duration::from_millis(50)).await;
                pong(&client).await;
            }
            let seen = std::mem::take(&mut *handshakes.0.lock().unwrap());
            assert_eq!(seen, [false, true, true], "{flavour:?} {version}");
            // Another client of the same settings shares the sessions.
            let again = Client::with_config(client.config().clone()).await.unwrap();
            pong(&again).await;
            assert_eq!(std::mem::take(&mut *handshakes.0.lock().unwrap()), [true]);
        }
    }
    assert!(
        rustls::crypto::CryptoProvider::get_default().is_none(),
        "nothing was installed for the process, and nothing was needed"
    );
}
