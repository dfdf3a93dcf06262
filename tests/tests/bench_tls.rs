//! The load tool over TLS, with a relay on the way.

use std::{
    num::{NonZeroU16, NonZeroU32, NonZeroUsize},
    time::Duration,
};

use respire::{Config, TlsConfig};
use respire_cli::{
    bench::{Arrivals, Bench, BenchError, Delay, Load, Mix, Options},
    local_server::Flavour,
};
use respire_tests::{
    servers::in_time,
    tls::{TlsServer, client_tls},
};
use tokio_util::sync::CancellationToken;

fn options(server: Config) -> Options {
    let delay = Duration::from_millis(2);
    Options {
        server,
        load: Load::Open(Arrivals::Constant(200.0)),
        duration: Duration::from_millis(500),
        warm_up: Duration::ZERO,
        connections: NonZeroU16::MIN,
        callers: NonZeroU32::new(32).expect("it is not zero"),
        threads: NonZeroU16::MIN,
        mix: Mix::GetSet { gets: 1, sets: 1 },
        pipeline: NonZeroUsize::MIN,
        keys: NonZeroU32::new(10).expect("it is not zero"),
        key_prefix: "respire-bench:".to_owned(),
        value_bytes: 16,
        delay: Some(Delay { min: delay, max: delay }),
        seed: 1,
        phases: false,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_encrypted_is_delayed_and_the_certificate_is_still_the_servers() {
    for flavour in Flavour::ALL {
        let server = TlsServer::start(flavour, &[]);
        let config: Config = server.tls_url().parse().unwrap();
        let stop = CancellationToken::new();
        // By the address, and by a name that is given.
        for tls in [client_tls(), client_tls().with_server_name("cache.test")] {
            let options = options(config.clone().with_tls(tls));
            let mut bench = in_time(Bench::open(options, 1)).await.unwrap();
            let report = in_time(bench.run(|_| {}, &stop)).await.unwrap();
            let run = &report.runs[0];
            assert!(run.answered > 0 && run.errors.is_empty(), "{flavour:?}: {run:?}");
            in_time(bench.close()).await.unwrap();
        }
        // A relay makes no other server out of one that is not trusted.
        let other = options(config.with_tls(TlsConfig::new().with_server_name("other.test")));
        let refused = in_time(Bench::open(other, 1)).await.err();
        assert!(matches!(refused, Some(BenchError::Server { .. })), "{flavour:?}");
    }
}
