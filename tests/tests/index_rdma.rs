//! What `enableRDMA` does once a process has a transport for it. The transport here is one of TCP under that name, so that
//! it is seen who was dialled and how.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use respire::{
    Address,
    transport::{self, ConnectFuture, Connector, Transport},
};
use respire_cli::local_server::{Flavour, LocalServer};
use respire_kvblock::{BlockHash, Index, IndexConfig, PodEntry, PodSet, Rdma, ServerConfig};

/// Dials TCP, and counts how often; port 1 it does not know.
#[derive(Debug)]
struct Counting;

static DIALLED: AtomicUsize = AtomicUsize::new(0);

impl Connector for Counting {
    fn connect<'a>(&'a self, address: &'a Address) -> ConnectFuture<'a> {
        Box::pin(async move {
            DIALLED.fetch_add(1, Ordering::Relaxed);
            let (host, port) = match address {
                Address::Tcp { host, port } if *port != 1 => (host.clone(), *port),
                _ => return Err(io::Error::other("no such card")),
            };
            let stream = tokio::net::TcpStream::connect((host.as_str(), port)).await?;
            let (receive, send) = stream.into_split();
            Ok(Transport::of_streams(receive, send))
        })
    }
}

#[tokio::test]
async fn an_index_is_opened_by_the_registered_transport_and_falls_back_only_where_it_may() {
    transport::register("rdma", Arc::new(Counting)).unwrap();
    let dialled = || DIALLED.swap(0, Ordering::Relaxed);
    for flavour in Flavour::ALL {
        let server = LocalServer::builder(flavour).tcp().start().unwrap();
        let address = server.tcp_address().unwrap().to_string();
        for scheme in ["", "valkey://", "redis://", "valkey+rdma://"] {
            let config = ServerConfig {
                enable_rdma: true,
                ..ServerConfig::valkey(format!("{scheme}{address}"))
            };
            let index = IndexConfig::valkey(config).open().await.unwrap();
            assert!(dialled() > 0, "{scheme}");
            index.add(None, &[BlockHash(1)], &[PodEntry::new("a", "gpu")]).await.unwrap();
            assert_eq!(index.lookup(&[BlockHash(1)], &PodSet::all()).await.unwrap().len(), 1);
        }
        // Without it nobody asks the transport, unless the address does.
        IndexConfig::valkey(ServerConfig::valkey(&*address)).open().await.unwrap();
        assert_eq!(dialled(), 0);
        let by_scheme = ServerConfig::valkey(format!("valkey+rdma://{address}"));
        IndexConfig::valkey(by_scheme).open().await.unwrap();
        assert!(dialled() > 0);
    }

    // A transport that is there and fails: the index is not opened, whichever is wanted, as nothing listens there for TCP.
    for rdma in [Rdma::Required, Rdma::Preferred] {
        let config = ServerConfig {
            enable_rdma: true,
            rdma,
            ..ServerConfig::valkey("valkey://127.0.0.1:1")
        };
        let error = IndexConfig::valkey(config).open().await.unwrap_err();
        let error = format!("{:#}", error.client_error().unwrap());
        assert_eq!(error.contains("no such card"), rdma == Rdma::Required, "{error}");
        assert!(dialled() > 0);
    }
}
