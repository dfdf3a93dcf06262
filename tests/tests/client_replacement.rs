//! Connections that are replaced before they are missed.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use respire::{
    Client, Command, Config, Credentials, CredentialsError, CredentialsFuture, CredentialsProvider,
    Pipeline, WhenDown,
};
use respire_cli::local_server::Flavour;
use respire_tests::peer::ScriptedPeer;
use respire_tests::servers::{self, HUNG, Ways, in_time, server};
use respire_tests::tls::TlsServer;
use tokio::sync::Notify;

fn config(url: &str) -> Config {
    url.parse::<Config>().expect("the URL is one of ours").with_command_timeout(Some(HUNG))
}

/// Runs a test in each way to each server, with one of its own.
async fn everywhere<F: AsyncFn(Config, &str)>(test: F) {
    servers::each_way(Ways::All, &[], async |_server: TlsServer, config: Config, name: &str| {
        test(config, name).await;
    })
    .await;
}

fn command(words: &[&str]) -> Command {
    Command::new(words[0]).args(&words[1..])
}

async fn id(client: &Client) -> i64 {
    in_time(client.query(command(&["CLIENT", "ID"]))).await.expect("the server answers")
}

/// Waits until the server has so many clients.
async fn connections(client: &Client, expected: usize) {
    let mut count = 0;
    for _ in 0..500 {
        let list = command(&["CLIENT", "LIST", "TYPE", "normal"]);
        let list: String = in_time(client.query(list)).await.expect("the server answers");
        count = list.lines().count();
        if count == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{expected} connections were expected, there are {count}");
}

/// Waits until the client is on another connection than this one.
async fn moved(client: &Client, from: i64) -> i64 {
    for _ in 0..1000 {
        let now = id(client).await;
        if now != from {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the connection is not replaced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_of_age_is_replaced_without_a_request_failing() {
    everywhere(async |config, _| {
        let aging = config.clone().with_connection_age_max(Some(Duration::from_millis(100)));
        let client = in_time(Client::with_config(aging)).await.unwrap();
        let first = id(&client).await;
        let stop = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..20_u32)
            .map(|task| {
                let client = client.clone();
                let stop = Arc::clone(&stop);
                tokio::spawn(async move {
                    for round in 0_u32.. {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        let nonce = format!("{task}.{round}");
                        let echoed: String =
                            client.query(Command::new("ECHO").arg(&nonce)).await.unwrap();
                        assert_eq!(echoed, nonce);
                        let incremented = client.execute(command(&["INCR", "n"])).await;
                        assert!(incremented.is_ok(), "{incremented:?}");
                    }
                })
            })
            .collect();
        let second = moved(&client, first).await;
        let third = moved(&client, second).await;
        moved(&client, third).await;
        stop.store(true, Ordering::SeqCst);
        for task in tasks {
            in_time(task).await.unwrap();
        }
        // Those that were replaced are gone; a replacement may be on its way.
        let calm = in_time(Client::with_config(config.clone())).await.unwrap();
        in_time(client.close()).await;
        connections(&calm, 1).await;
    })
    .await;
}

#[tokio::test]
async fn the_old_connection_serves_until_the_new_one_is_there_and_answers_what_it_has() {
    let switched = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&switched);
    let peer = ScriptedPeer::start(move |mut connection, number| {
        let seen = Arc::clone(&seen);
        async move {
            if number > 0 {
                // The old one serves meanwhile.
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            connection.shake_hands().await;
            let mut held = None;
            while let Some(command) = connection.command().await {
                if command[1] == "hold" {
                    held = Some(command);
                    break;
                }
                if number > 0 {
                    seen.store(true, Ordering::SeqCst);
                }
                connection.send(format!("+{number}\r\n")).await;
            }
            if held.is_some() {
                // Answered when requests go elsewhere already.
                while !seen.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                connection.send("+held\r\n").await;
                connection.swallow().await;
            }
        }
    })
    .await;
    let aging = config(&peer.url()).with_connection_age_max(Some(Duration::from_millis(200)));
    let client = in_time(Client::with_config(aging)).await.unwrap();
    let get = |key: &'static str| {
        let client = client.clone();
        async move { in_time(client.query::<String>(Command::new("GET").arg(key))).await }
    };
    assert_eq!(get("a").await.unwrap(), "0");
    tokio::time::sleep(Duration::from_millis(250)).await;
    // The new one is being dialled.
    let held = tokio::spawn(get("hold"));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_ne!(get("b").await.unwrap(), "0");
    assert_eq!(held.await.unwrap().unwrap(), "held");
}

#[tokio::test]
async fn a_spare_connection_takes_over_and_is_followed_by_another() {
    everywhere(async |config, name| {
        let with_spare = config.clone().with_warm_spare(true);
        let client = in_time(Client::with_config(with_spare)).await.unwrap();
        let mut present = id(&client).await;
        for _ in 0..3 {
            connections(&client, 2).await;
            let admin = in_time(Client::with_config(config.clone())).await.unwrap();
            let kill = Command::new("CLIENT").arg("KILL").arg("ID").arg(present);
            assert_eq!(in_time(admin.query::<u32>(kill)).await.unwrap(), 1);
            in_time(admin.close()).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            let next = id(&client).await;
            assert_ne!(next, present, "{name}");
            present = next;
        }
        connections(&client, 2).await;
        drop(client);
        let admin = in_time(Client::with_config(config.clone())).await.unwrap();
        connections(&admin, 1).await;
    })
    .await;
}

/// A password that a test changes.
#[derive(Default)]
struct Rotating {
    password: Mutex<String>,
    changed: Notify,
    asked: AtomicUsize,
}

impl CredentialsProvider for Rotating {
    fn credentials(&self) -> CredentialsFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(async {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let password = self.password.lock().expect("no test panics with it").clone();
            if password.is_empty() {
                return Err("the vault is sealed".into());
            }
            Ok(Credentials::new(Some("app"), password))
        })
    }

    fn changed(&self) -> CredentialsFuture<'_, ()> {
        Box::pin(self.changed.notified())
    }
}

#[tokio::test]
async fn credentials_that_change_are_used_on_a_new_connection() {
    everywhere(async |config, name| {
        let admin = in_time(Client::with_config(config.clone())).await.unwrap();
        let set = async |password: &str| {
            let user = command(&["ACL", "SETUSER", "app", "on", "resetpass", "~*", "+@all"]);
            in_time(admin.execute(user.arg(format!(">{password}")))).await.unwrap();
        };
        set("one").await;
        let rotating = Arc::new(Rotating::default());
        *rotating.password.lock().unwrap() = "one".to_owned();
        let with_provider = config.clone().with_credentials_provider(Arc::clone(&rotating));
        let client = in_time(Client::with_config(with_provider)).await.unwrap();
        let mut present = id(&client).await;
        for (round, password) in ["two", "three"].into_iter().enumerate() {
            set(password).await;
            *rotating.password.lock().unwrap() = password.to_owned();
            rotating.changed.notify_waiters();
            present = moved(&client, present).await;
            let user: String = in_time(client.query(command(&["ACL", "WHOAMI"]))).await.unwrap();
            assert_eq!(user, "app", "{name}");
            assert_eq!(rotating.asked.load(Ordering::SeqCst), round + 2);
        }
        // Where there are none, the connection that is there serves on.
        rotating.password.lock().unwrap().clear();
        rotating.changed.notify_waiters();
        asked(&rotating.asked, 4).await;
        assert_eq!(id(&client).await, present);
        *rotating.password.lock().unwrap() = "three".to_owned();
        moved(&client, present).await;
    })
    .await;
}

#[tokio::test]
async fn without_credentials_there_is_no_connection_and_the_error_says_why() {
    let server = server(Flavour::Valkey, &[]);
    let rotating = Arc::new(Rotating::default());
    let with_provider = config(&server.url()).with_credentials_provider(Arc::clone(&rotating));
    let error = in_time(Client::with_config(with_provider)).await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
    assert!(format!("{error:#}").contains("the vault is sealed"), "{error:#}");
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_dialled_anew_and_not_in_a_storm() {
    everywhere(async |config, name| {
        let client = in_time(Client::with_config(config.clone())).await.unwrap();
        let first = id(&client).await;
        in_time(client.execute(command(&["REPLICAOF", "127.0.0.1", "1"]))).await.unwrap();
        let set = || command(&["SET", "k", "v"]);
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(500) {
            let error = in_time(client.execute(set())).await.unwrap_err();
            assert_eq!(error.server_error().unwrap().code(), "READONLY", "{name}");
        }
        let second = moved(&client, first).await;
        // Ids count the connections: one a second, and some room for a slow machine.
        let seconds = i64::try_from(start.elapsed().as_secs()).unwrap();
        assert!(second - first <= seconds + 2, "{name}: {first}, {second}");
        let patient = client.with_when_down(WhenDown::Wait);
        let write = tokio::spawn(async move { patient.execute(set()).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!write.is_finished());
        in_time(client.execute(command(&["REPLICAOF", "NO", "ONE"]))).await.unwrap();
        in_time(write).await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_library_is_shown_to_the_server_unless_that_is_switched_off() {
    let server = server(Flavour::Valkey, &[]);
    for shown in [true, false] {
        let client = Client::with_config(config(&server.url()).with_client_info(shown));
        let client = in_time(client).await.unwrap();
        let info: String = in_time(client.query(command(&["CLIENT", "INFO"]))).await.unwrap();
        assert_eq!(info.contains("lib-name=respire"), shown, "{info}");
    }
}

/// Waits until a provider was asked so often.
async fn asked(count: &AtomicUsize, times: usize) {
    in_time(async {
        while count.load(Ordering::SeqCst) < times {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(count.load(Ordering::SeqCst), times);
}

/// Gives a user of its own to each version of the credentials, once it is let.
struct Versions {
    version: AtomicUsize,
    asked: AtomicUsize,
    changed: Notify,
    /// Who asks waits for one of these.
    gate: tokio::sync::Semaphore,
}

impl CredentialsProvider for Versions {
    fn credentials(&self) -> CredentialsFuture<'_, Result<Credentials, CredentialsError>> {
        Box::pin(async {
            let user = format!("u{}", self.version.load(Ordering::SeqCst));
            self.asked.fetch_add(1, Ordering::SeqCst);
            self.gate.acquire().await?.forget();
            Ok(Credentials::new(Some(&user), "secret"))
        })
    }

    fn changed(&self) -> CredentialsFuture<'_, ()> {
        Box::pin(self.changed.notified())
    }
}

impl Versions {
    fn change(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.changed.notify_waiters();
    }
}

/// A client of a server that knows the users `u0` to `u9`.
async fn with_versions(config: &Config) -> (Client, Arc<Versions>) {
    let admin = in_time(Client::with_config(config.clone())).await.expect("the server is up");
    for user in 0..10 {
        let user =
            command(&["ACL", "SETUSER", &format!("u{user}"), "on", ">secret", "~*", "+@all"]);
        in_time(admin.execute(user)).await.expect("the server is up");
    }
    let versions = Arc::new(Versions {
        version: AtomicUsize::new(0),
        asked: AtomicUsize::new(0),
        changed: Notify::new(),
        gate: tokio::sync::Semaphore::new(1),
    });
    let with_provider = config.clone().with_credentials_provider(Arc::clone(&versions));
    let client = in_time(Client::with_config(with_provider)).await.expect("the server is up");
    (client, versions)
}

async fn whoami(client: &Client) -> String {
    in_time(client.query(command(&["ACL", "WHOAMI"]))).await.expect("the server answers")
}

/// Waits until the client is this user.
async fn becomes(client: &Client, user: &str) {
    for _ in 0..1000 {
        if whoami(client).await == user {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the client is {} and does not become {user}", whoami(client).await);
}

#[tokio::test]
async fn credentials_that_change_while_the_last_change_is_acted_on_are_used_too() {
    everywhere(async |config, _| {
        let (client, versions) = with_versions(&config).await;
        assert_eq!(whoami(&client).await, "u0");
        versions.change();
        // The replacement has its credentials, which are outdated before it is there.
        asked(&versions.asked, 2).await;
        versions.change();
        versions.gate.add_permits(1);
        becomes(&client, "u1").await;
        versions.gate.add_permits(1);
        becomes(&client, "u2").await;
    })
    .await;
}

#[tokio::test]
async fn dedicated_connections_do_not_outlive_their_credentials() {
    everywhere(async |config, name| {
        let (client, versions) = with_versions(&config).await;
        versions.gate.add_permits(2);
        let (mut kept, idle) = (client.dedicated().await.unwrap(), client.dedicated().await);
        let mut idle = idle.unwrap();
        for own in [&mut kept, &mut idle] {
            let user: String = in_time(own.query(command(&["ACL", "WHOAMI"]))).await.unwrap();
            assert_eq!(user, "u0", "{name}");
        }
        drop(idle);
        connections(&client, 3).await;
        versions.gate.add_permits(1);
        versions.change();
        becomes(&client, "u1").await;
        // The idle one is gone at once, that in use when it is given back.
        connections(&client, 2).await;
        let user: String = in_time(kept.query(command(&["ACL", "WHOAMI"]))).await.unwrap();
        assert_eq!(user, "u0", "{name}");
        drop(kept);
        connections(&client, 1).await;
        versions.gate.add_permits(1);
        let mut own = client.dedicated().await.unwrap();
        let user: String = in_time(own.query(command(&["ACL", "WHOAMI"]))).await.unwrap();
        assert_eq!(user, "u1", "{name}");
    })
    .await;
}

#[tokio::test]
async fn pipelines_notice_that_a_server_became_a_replica() {
    everywhere(async |config, _| {
        let client = in_time(Client::with_config(config.clone())).await.unwrap();
        for atomic in [false, true] {
            // Not sooner than connections are replaced again.
            tokio::time::sleep(Duration::from_millis(1100)).await;
            let first = id(&client).await;
            in_time(client.execute(command(&["REPLICAOF", "127.0.0.1", "1"]))).await.unwrap();
            let mut writes = if atomic { Pipeline::atomic() } else { Pipeline::new() };
            writes.command(&["PING"]).command(&["SET", "k", "v"]);
            match in_time(client.pipeline(&mut writes)).await {
                Ok(replies) => {
                    assert_eq!(replies[1].server_error().unwrap().code(), "READONLY");
                }
                Err(error) => assert_eq!(error.server_error().unwrap().code(), "READONLY"),
            }
            moved(&client, first).await;
            in_time(client.execute(command(&["REPLICAOF", "NO", "ONE"]))).await.unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_dedicated_connection_to_what_became_a_replica_is_not_used_again() {
    everywhere(async |config, name| {
        let client = in_time(Client::with_config(config.clone())).await.unwrap();
        let own_id = async || -> i64 {
            let mut own = client.dedicated().await.unwrap();
            in_time(own.query(command(&["CLIENT", "ID"]))).await.unwrap()
        };
        let first = own_id().await;
        assert_eq!(own_id().await, first, "{name}: it is kept");
        in_time(client.execute(command(&["REPLICAOF", "127.0.0.1", "1"]))).await.unwrap();
        let pop = command(&["BLPOP", "k", "1"]);
        let error = in_time(client.execute(pop)).await.unwrap_err();
        assert_eq!(error.server_error().unwrap().code(), "READONLY", "{name}");
        assert_ne!(own_id().await, first, "{name}");
        let second = own_id().await;
        let mut own = client.dedicated().await.unwrap();
        in_time(own.execute(command(&["SET", "k", "v"]))).await.unwrap_err();
        drop(own);
        assert_ne!(own_id().await, second, "{name}");
    })
    .await;
}

/// What a peer does that answers commands with its name, and announces a move when it is told to by `GET go`.
async fn announcing(
    mut connection: respire_tests::peer::PeerConnection,
    name: String,
    announcement: String,
) {
    connection.shake_hands().await;
    let mut held = false;
    while let Some(command) = connection.command().await {
        match &*command[1] {
            "go" => connection.send(format!("+{name}\r\n{announcement}")).await,
            "hold" => held = true,
            _ if held => connection.send(format!("+held by {name}\r\n+{name}\r\n")).await,
            _ => connection.send(format!("+{name}\r\n")).await,
        }
    }
}

#[tokio::test]
async fn a_server_that_announces_that_it_will_go_is_left_before_it_does() {
    let other = ScriptedPeer::start(|connection, _| {
        announcing(connection, "other".to_owned(), String::new())
    })
    .await;
    let address = other.url().replace("redis://", "");
    for (address, expected) in [
        ("_".to_owned(), "first 1"),
        (format!("+{address}"), "other"),
        // Nobody listens there: the address that was connected to has to do.
        ("+127.0.0.1:1".to_owned(), "first 1"),
    ] {
        let announcement = format!(">4\r\n+MOVING\r\n:1\r\n:1\r\n{address}\r\n");
        let first = ScriptedPeer::start(move |connection, number| {
            announcing(connection, format!("first {number}"), announcement.clone())
        })
        .await;
        let client = in_time(Client::with_config(config(&first.url()))).await.unwrap();
        let get = async |key: &str| -> String {
            in_time(client.query(Command::new("GET").arg(key))).await.expect("a peer answers")
        };
        assert_eq!(get("go").await, "first 0");
        let held = {
            let client = client.clone();
            tokio::spawn(
                async move { client.query::<String>(Command::new("GET").arg("hold")).await },
            )
        };
        tokio::time::sleep(Duration::from_millis(20)).await;
        for _ in 0..1000 {
            if get("k").await == expected {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(get("k").await, expected, "{address}");
        // A request may have been sent and held before the replacement.
        if let Ok(held) = tokio::time::timeout(Duration::from_millis(100), held).await {
            assert_eq!(held.unwrap().unwrap(), "held by first 0");
        }
    }
}

#[tokio::test]
async fn after_a_move_announced_to_a_drivers_thread_the_new_connection_is_looked_after() {
    let announcement = ">4\r\n+MOVING\r\n:1\r\n:0\r\n_\r\n".to_owned();
    let peer = ScriptedPeer::start(move |connection, number| {
        announcing(connection, format!("connection {number}"), announcement.clone())
    })
    .await;
    let rotating = Arc::new(Rotating::default());
    *rotating.password.lock().unwrap() = "one".to_owned();
    let with_provider = config(&peer.url()).with_credentials_provider(Arc::clone(&rotating));
    let client =
        in_time(Client::with_config(with_provider.with_driver_thread(true))).await.unwrap();
    let is_on = async |expected: &str| {
        for _ in 0..1000 {
            let name: String =
                in_time(client.query(command(&["GET", "k"]))).await.expect("a peer answers");
            if name == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it is not on {expected}");
    };
    let first: String = in_time(client.query(command(&["GET", "go"]))).await.unwrap();
    assert_eq!(first, "connection 0");
    is_on("connection 1").await;
    // The first connection ends, and its driver's thread with it.
    tokio::time::sleep(Duration::from_millis(100)).await;
    rotating.changed.notify_waiters();
    is_on("connection 2").await;
}
