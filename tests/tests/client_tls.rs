//! TLS against real servers, and against what is none. The suite of all transports is in `client.rs`.

use std::{fs, sync::Arc, time::Duration};

use respire::{
    Address, Client, Command, Config, Error, TlsConfig, TlsVersion,
    transport::{self, ConnectFuture, Connector},
};
use respire_cli::local_server::{Flavour, LocalServer};
use respire_tests::{
    lending::LendingConnector,
    peer::ScriptedPeer,
    socks::SocksProxy,
    tls::{Authority, Signed, TlsServer, authority, client_files, client_tls, server_files},
};

#[allow(dead_code, reason = "its `main` is not run here")]
#[path = "../../crates/respire/examples/socks_proxy.rs"]
mod socks_proxy;

/// Beyond this, a future counts as hung.
const HUNG: Duration = Duration::from_secs(30);

async fn dial(url: &str, tls: TlsConfig) -> Result<Client, Error> {
    let config: Config = url.parse().expect("a URL of ours");
    tokio::time::timeout(HUNG, Client::with_config(config.with_tls(tls))).await.expect("it hangs")
}

async fn refused(url: &str, tls: TlsConfig) -> String {
    let error = dial(url, tls).await.expect_err("it is refused");
    assert!(error.is_connect(), "{error:?}");
    format!("{error:#}")
}

async fn pong(client: &Client) {
    let pong: String = client.query(Command::new("PING")).await.expect("the server answers");
    assert_eq!(pong, "PONG");
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_and_name_only() {
    for flavour in Flavour::ALL {
        let server = TlsServer::start(flavour, &[]);
        let url = server.tls_url();
        pong(&dial(&url, client_tls()).await.unwrap()).await;
        pong(&dial(&url, client_tls().with_server_name("cache.test")).await.unwrap()).await;
        let pem = TlsConfig::new().with_ca_pem(authority().pem()).with_client_pem(
            fs::read(&client_files().certificate).unwrap(),
            fs::read(&client_files().key).unwrap(),
        );
        pong(&dial(&url, pem).await.unwrap()).await;

        let text = refused(&url, client_tls().with_server_name("other.test")).await;
        assert!(text.contains("not valid for name \"other.test\""), "{text}");
        let stranger = Authority::new("a stranger");
        let text = refused(&url, TlsConfig::new().with_ca_file(stranger.file())).await;
        assert!(text.contains("not accepted") && text.contains("UnknownIssuer"), "{text}");
        // The system's roots, if it has any, did not sign it either.
        let text = refused(&url, TlsConfig::new()).await;
        assert!(text.contains("certificate"), "{text}");
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_told_so() {
    for flavour in Flavour::ALL {
        let server = TlsServer::start(flavour, &[]);
        for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
            let tls = TlsConfig::new().with_ca_file(authority().file()).with_version_min(version);
            let text = refused(&server.tls_url(), tls).await;
            assert!(text.contains("CertificateRequired"), "{text}");
        }
        let stranger = Authority::new("a stranger");
        let Signed { certificate, key } = stranger.sign(&["client.test"]);
        let tls =
            TlsConfig::new().with_ca_file(authority().file()).with_client_files(&certificate, &key);
        let text = refused(&server.tls_url(), tls).await;
        assert!(text.contains("alert"), "{text}");
    }
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_refused_as_that() {
    let expired = authority().sign_with(&["127.0.0.1"], |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let (certificate, key) = (expired.certificate.to_str(), expired.key.to_str());
    let args = ["--tls-cert-file", certificate.unwrap(), "--tls-key-file", key.unwrap()];
    for flavour in Flavour::ALL {
        let server = TlsServer::start(flavour, &args);
        let text = refused(&server.tls_url(), client_tls()).await;
        assert!(text.contains("certificate expired"), "{text}");
    }
}

#[tokio::test]
async fn the_oldest_version_is_kept_to() {
    for flavour in Flavour::ALL {
        let server = TlsServer::start(flavour, &["--tls-protocols", "TLSv1.2"]);
        let client = dial(&server.tls_url(), client_tls()).await.unwrap();
        let value = vec![b'v'; 1 << 20];
        client.execute(Command::new("SET").arg("k").arg(&value)).await.unwrap();
        let got: Vec<u8> = client.query(Command::new("GET").arg("k")).await.unwrap();
        assert!(got == value);
        let newer = client_tls().with_version_min(TlsVersion::V1_3);
        let text = refused(&server.tls_url(), newer).await;
        assert!(text.contains("TLS handshake failed") && text.contains("rotocol"), "{text}");
    }
}

#[tokio::test]
async fn one_end_that_speaks_tls_alone_is_named() {
    for flavour in Flavour::ALL {
        let server = TlsServer::start(flavour, &[]);
        let plain = format!("redis://127.0.0.1:{}?connect_timeout=5s", server.tls_port());
        let error = Client::connect(&plain).await.unwrap_err();
        let text = format!("{error:#}");
        // These close without a word, or reset the connection.
        assert!(["speaks TLS", "closed", "reset"].iter().any(|what| text.contains(what)), "{text}");
    }
    // Unlike a real server, which may wait for more of what it takes for a command, this one answers.
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.send("-ERR Protocol error: unauthenticated multibulk length\r\n").await;
        connection.freeze().await;
    })
    .await;
    let url = peer.url().replace("redis://", "rediss://");
    let text = refused(&url, client_tls()).await;
    assert!(text.contains("does not speak TLS"), "{text}");
    let peer = ScriptedPeer::start(|mut connection, _| async move {
        connection.send(b"\x15\x03\x01\x00\x02\x02\x46").await;
        connection.freeze().await;
    })
    .await;
    let error = Client::connect(&peer.url()).await.unwrap_err();
    assert!(format!("{error:#}").contains("speaks TLS"), "{error:#}");
    let peer = ScriptedPeer::start(|_, _| async {}).await;
    let url = peer.url().replace("redis://", "rediss://");
    let text = refused(&url, client_tls()).await;
    assert!(text.contains("the server closed") || text.contains("reset"), "{text}");
}

#[tokio::test]
async fn a_real_server_without_tls_ends_within_the_time_to_connect() {
    for flavour in Flavour::ALL {
        let server = LocalServer::builder(flavour).tcp().start().expect("the test needs a server");
        let url = server.tcp_url().unwrap().replace("redis://", "rediss://");
        let text = refused(&format!("{url}?connect_timeout=300ms"), client_tls()).await;
        assert!(text.contains("TLS"), "{text}");
    }
}

#[tokio::test]
async fn a_peer_that_is_silent_in_the_tls_handshake_is_a_connect_timeout() {
    let peer = ScriptedPeer::start(|connection, _| connection.freeze()).await;
    let url = peer.url().replace("redis://", "rediss://");
    let url = format!("{url}?connect_timeout=100ms");
    let error = dial(&url, client_tls()).await.unwrap_err();
    assert!(error.is_timeout() && error.is_connect(), "{error:?}");
    assert!(format!("{error:#}").contains("the TLS handshake"), "{error:#}");
}

#[tokio::test]
async fn a_server_that_restarts_is_found_again_over_tls() {
    for flavour in Flavour::ALL {
        let mut server = TlsServer::start(flavour, &[]);
        let client = dial(&server.tls_url(), client_tls()).await.unwrap();
        for _ in 0..3 {
            pong(&client).await;
            server.kill();
            server.restart().unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        pong(&client).await;
    }
}

#[tokio::test]
async fn a_url_has_parameters_for_all_of_it() {
    let server = TlsServer::start(Flavour::Valkey, &[]);
    let Signed { certificate, key } = client_files();
    let url = format!(
        "valkeys://localhost:{}/3?tls_ca={}&tls_cert={}&tls_key={}&tls_server_name=cache.test&tls_version_min=1.3",
        server.tls_port(),
        authority().file().display(),
        certificate.display(),
        key.display(),
    );
    let client = Client::connect(&url).await.unwrap();
    let info: String = client.query(Command::new("CLIENT").arg("INFO")).await.unwrap();
    assert!(info.contains(" db=3 "), "{info}");
}

#[tokio::test]
async fn settings_that_cannot_be_used_name_the_file_and_what_is_wrong_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let empty = file("empty.pem", "");
    let broken = file("broken.pem", "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n");
    let cut = file("cut.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let bogus = file("bogus.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let (client, server) = (client_files(), server_files());
    let with_ca = |path: &std::path::Path| TlsConfig::new().with_ca_file(path);
    let ours = || with_ca(&authority().file());
    for (tls, file, what) in [
        (with_ca("/nonexistent/ca.pem".as_ref()), "/nonexistent/ca.pem", "No such file"),
        (with_ca(&empty), "empty.pem", "no certificate"),
        (with_ca(&broken), "broken.pem", "base64"),
        (with_ca(&cut), "cut.pem", "no end"),
        (with_ca(&bogus), "bogus.pem", "cannot be trusted in"),
        (ours().with_client_files("/nonexistent/c.pem", &client.key), "c.pem", "No such file"),
        (ours().with_client_files(&client.certificate, &empty), "empty.pem", "no private key"),
        (
            ours().with_client_files(&client.certificate, &server.key),
            "used together",
            "KeyMismatch",
        ),
        (ours().with_server_name("not a name"), "\"not a name\"", "host name"),
    ] {
        let error = dial("rediss://127.0.0.1:1", tls).await.unwrap_err();
        assert!(error.is_config() && error.fault() == respire::Fault::Caller, "{error:?}");
        let text = format!("{error:#}");
        assert!(text.contains(file) && text.contains(what), "{text}");
    }
}

#[tokio::test]
async fn a_key_is_shown_nowhere() {
    let key = fs::read_to_string(&client_files().key).unwrap();
    let secret = key.lines().nth(1).unwrap();
    let tls = client_tls().with_client_pem(fs::read(&client_files().certificate).unwrap(), &key);
    let config: Config = "rediss://127.0.0.1:1".parse().unwrap();
    let shown = format!("{:?}", config.with_tls(tls));
    assert!(!shown.contains(secret) && shown.contains("TlsConfig"), "{shown}");
    // A key where a certificate belongs, and a broken one.
    let broken = key.replace("-----END", "-----");
    let tls = TlsConfig::new().with_ca_pem(&key).with_client_pem(&key, &broken);
    let text = refused("rediss://127.0.0.1:1", tls).await;
    assert!(!text.contains(secret), "{text}");
}

#[tokio::test]
async fn files_that_were_renewed_are_read_again_and_broken_ones_are_not_used() {
    let server = TlsServer::start(Flavour::Valkey, &[]);
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    fs::write(&ca, Authority::new("a stranger").pem()).unwrap();
    let Signed { certificate, key } = client_files();
    let tls = TlsConfig::new().with_ca_file(&ca).with_client_files(certificate, key);
    let config = server.tls_url().parse::<Config>().unwrap().with_tls(tls);
    let error = Client::with_config(config.clone()).await.unwrap_err();
    assert!(format!("{error:#}").contains("UnknownIssuer"), "{error:#}");
    fs::write(&ca, authority().pem() + "\n").unwrap();
    pong(&Client::with_config(config.clone()).await.unwrap()).await;
    fs::write(&ca, "being written").unwrap();
    pong(&Client::with_config(config).await.unwrap()).await;
}

#[tokio::test]
async fn what_is_to_be_encrypted_is_never_sent_in_the_clear() {
    let server = TlsServer::start(Flavour::Valkey, &[]);
    let text = refused(&server.url(), client_tls()).await;
    assert!(text.contains("Unix socket"), "{text}");
    let config = server.tls_url().parse::<Config>().unwrap();
    let config = config.with_connector(Arc::new(Encrypts));
    let error = Client::with_config(config).await.unwrap_err();
    assert!(error.is_config() && format!("{error:#}").contains("takes no TLS"), "{error:#}");
    // A path is no name: without one, there is nothing to check a certificate for.
    let config = server.url().parse::<Config>().unwrap().with_tls(client_tls());
    let config = config.with_connector(Arc::new(LendingConnector::new(100)));
    let error = Client::with_config(config).await.unwrap_err();
    assert!(error.is_config() && format!("{error:#}").contains("with_server_name"), "{error:#}");
}

/// Would encrypt by itself.
#[derive(Debug)]
struct Encrypts;

impl Connector for Encrypts {
    fn connect<'a>(&'a self, _: &'a Address) -> ConnectFuture<'a> {
        unreachable!("it is not asked to dial")
    }

    fn carries_tls(&self) -> bool {
        false
    }
}

/// A URL for which only the proxy can find the server.
fn far_url(scheme: &str, server: &TlsServer) -> String {
    let Signed { certificate, key } = client_files();
    format!(
        "{scheme}://cache.test:{}?tls_ca={}&tls_cert={}&tls_key={}",
        server.tls_port(),
        authority().file().display(),
        certificate.display(),
        key.display(),
    )
}

#[tokio::test]
async fn tls_is_spoken_over_what_a_connector_dials() {
    for flavour in Flavour::ALL {
        let mut server = TlsServer::start(flavour, &[]);
        let proxy = SocksProxy::start().await;
        let url = far_url("valkeys", &server);
        tokio::time::timeout(HUNG, socks_proxy::run(&url, &proxy.address()))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(proxy.connections(), 1);

        let dialler = Arc::new(socks_proxy::Socks5 { proxy: proxy.address() });
        let config = url.parse::<Config>().unwrap().with_connector(dialler);
        let client = Client::with_config(config.clone()).await.unwrap();
        pong(&client).await;
        server.kill();
        server.restart().unwrap();
        let found = async {
            while client.execute(Command::new("PING")).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(HUNG, found).await.expect("the server is found again");
        assert!(proxy.connections() >= 3, "through the proxy again");

        // The name that was asked for is the one that the certificate must have.
        let other = client_tls().with_server_name("other.test");
        let error = Client::with_config(config.clone().with_tls(other)).await.unwrap_err();
        assert!(format!("{error:#}").contains("not valid for name \"other.test\""), "{error:#}");
        // And who is not there is not trusted.
        let stranger = TlsConfig::new().with_ca_pem(Authority::new("a stranger").pem());
        let error = Client::with_config(config.with_tls(stranger)).await.unwrap_err();
        assert!(format!("{error:#}").contains("UnknownIssuer"), "{error:#}");
    }
}

#[tokio::test]
async fn a_scheme_of_ones_own_may_ask_for_tls() {
    let server = TlsServer::start(Flavour::Valkey, &[]);
    let proxy = SocksProxy::start().await;
    transport::register("socks", Arc::new(socks_proxy::Socks5 { proxy: proxy.address() })).unwrap();
    pong(&Client::connect(&far_url("valkeys+socks", &server)).await.unwrap()).await;
    pong(&Client::connect(&far_url("rediss+socks", &server)).await.unwrap()).await;
    assert_eq!(proxy.connections(), 2);
    // In the clear the server hangs up, or waits for TLS in vain.
    let plain = format!("valkey+socks://cache.test:{}?connect_timeout=2s", server.tls_port());
    assert!(Client::connect(&plain).await.unwrap_err().is_connect());
    let nobody = Client::connect("valkeys+socks://cache.test:1").await.unwrap_err();
    assert!(format!("{nobody:#}").contains("code 5"), "{nobody:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values_go_both_ways_at_once() {
    for flavour in Flavour::ALL {
        let server = TlsServer::start(flavour, &[]);
        let client = dial(&server.tls_url(), client_tls()).await.unwrap();
        let client = client.with_command_timeout(Some(Duration::from_secs(60)));
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..8_u8 {
            let client = client.clone();
            tasks.spawn(async move {
                let value = vec![b'a' + task; (usize::from(task) + 1) * 700_001];
                for _ in 0..5 {
                    client.execute(Command::new("SET").arg(task).arg(&value)).await.unwrap();
                    let got: Vec<u8> = client.query(Command::new("GET").arg(task)).await.unwrap();
                    assert!(got == value);
                }
            });
        }
        while let Some(outcome) = tasks.join_next().await {
            outcome.unwrap();
        }
    }
}
