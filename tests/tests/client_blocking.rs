//! The client for programs without a runtime. One test, so that the process has no other client's threads.

use std::time::{Duration, Instant};

use respire::{Command, Error, Pipeline, blocking::Client, commands::*};
use respire_tests::{
    servers::{HUNG, flavours, half_the_ways},
    tls::TlsServer,
};

/// Threads of this process that drive clients.
fn drivers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("there is a /proc");
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    tasks.filter_map(name).filter(|name| name.trim() == "respire").count()
}

/// Waits until none is left: the kernel shows a thread for a moment beyond what waits for its end.
fn all_have_ended() -> bool {
    let started = Instant::now();
    while drivers() > 0 && started.elapsed() < HUNG {
        std::thread::sleep(Duration::from_millis(5));
    }
    drivers() == 0
}

fn commands_of_all_kinds(client: &Client) -> Result<(), Error> {
    client.set("greeting", "hello")?;
    assert_eq!(client.get::<String>("greeting")?.as_deref(), Some("hello"));
    let reply = client.execute(Command::new("INCR").arg("greeting"));
    assert!(reply.is_err_and(|error| error.server_error().is_some()));
    let mut pipeline = Pipeline::new();
    let first = pipeline.incrby("n", 5);
    let second = pipeline.incrby("n", 2);
    let replies = client.pipeline(pipeline)?;
    assert_eq!((first.read(&replies)?, second.read(&replies)?), (5, 7));
    let doubled = client.run(async |client| {
        client
            .transaction(["n"], |mut transaction| async move {
                let n: Option<i64> = transaction.get("n").await?;
                let mut commands = Pipeline::new();
                commands.incrby("n", n.unwrap_or_default());
                transaction.commit::<(i64,)>(commands).await
            })
            .await
    });
    assert_eq!(doubled??, (14,));
    Ok(())
}

fn many_threads(client: &Client) {
    std::thread::scope(|scope| {
        for thread in 0..8_u32 {
            let client = client.clone();
            scope.spawn(move || {
                for round in 0..200_u32 {
                    let nonce = format!("{thread}.{round}");
                    let echoed: String =
                        client.query(Command::new("ECHO").arg(&nonce)).expect("an answer");
                    assert_eq!(echoed, nonce);
                }
            });
        }
        // One that waits on the server holds up none of them.
        let popped: Option<(String, String)> =
            client.query(Command::new("BLPOP").arg("none").arg("0.05")).expect("an answer");
        assert_eq!(popped, None);
    });
}

#[test]
fn a_blocking_client_does_what_the_other_one_does_and_ends_with_its_thread() {
    for flavour in flavours() {
        let mut server = TlsServer::start(flavour, &["--enable-debug-command", "yes"]);
        for (way, config) in half_the_ways(flavour, &server) {
            let name = format!("{flavour:?} {way}");
            // Each leaves the server empty, since it is killed.
            let client = Client::with_config(config).unwrap();
            assert_eq!(drivers(), 1);
            commands_of_all_kinds(&client).unwrap();
            many_threads(&client);

            // Takes as long as it says however busy the machine is, which a script that counts does not.
            let slow = || Command::new("DEBUG").arg("SLEEP").arg("0.5");
            let hasty = client.with_command_timeout(Some(Duration::from_millis(20)));
            assert!(hasty.execute(slow()).unwrap_err().is_timeout());
            let bounded = client.with_deadline(Instant::now() + Duration::from_millis(20));
            let patient = client.with_command_timeout(Some(HUNG));
            assert!(bounded.execute(slow()).unwrap_err().is_timeout());
            patient.execute(Command::new("PING")).unwrap();

            // In asynchronous code it refuses to wait, and may be dropped.
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let clone = client.clone();
            runtime.block_on(async move {
                assert!(clone.execute(Command::new("PING")).unwrap_err().is_usage());
                assert!(Client::with_config(clone.config().clone()).unwrap_err().is_usage());
            });

            server.kill();
            assert!(client.execute(Command::new("PING")).is_err());
            server.restart().unwrap();
            let answered = (0..500).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                client.execute(Command::new("PING")).is_ok()
            });
            assert!(answered, "{name}: the server is found again");

            let clone = client.clone();
            drop((client, hasty, bounded));
            clone.execute(Command::new("PING")).unwrap();
            clone.close().unwrap();
            assert!(clone.execute(Command::new("PING")).unwrap_err().is_closed());
            drop((clone, patient));
            assert!(all_have_ended(), "{name}");
            let refused = Client::connect("redis://127.0.0.1:1").unwrap_err();
            assert!(refused.is_connect(), "{refused:?}");
            assert!(all_have_ended(), "{name}");
        }
    }
}
