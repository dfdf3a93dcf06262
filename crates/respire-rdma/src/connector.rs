//! What dials for a client.

use std::{io, sync::Arc};

use respire::{
    Address,
    transport::{self, ConnectFuture, Connector},
};

use crate::connect::Dial;

/// Connects over RDMA, in place of a client's own way of dialling.
#[derive(Debug)]
pub(crate) struct Rdma {
    dial: Dial,
}

impl Rdma {
    pub(crate) fn new(dial: Dial) -> Self {
        Self { dial }
    }
}

impl Connector for Rdma {
    fn connect<'a>(&'a self, address: &'a Address) -> ConnectFuture<'a> {
        Box::pin(async move {
            let Address::Tcp { host, port } = address else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "RDMA needs a host and a port",
                ));
            };
            let link = self.dial.connect(host, *port).await?;
            Ok(link.into_transport())
        })
    }
}

/// Has all URLs that begin with `valkey+rdma://` or `redis+rdma://` dialled over RDMA, in this process and from the next
/// dial on. Nothing is looked for on this machine before a connection is made.
///
/// # Errors
///
/// When something was registered by that name before.
///
/// # Example
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), respire::Error> {
/// respire_rdma::register()?;
/// let client = respire::Client::connect("valkey+rdma://10.0.0.7:6379").await?;
/// let value: Option<String> = client.query(respire::Command::new("GET").arg("k")).await?;
/// # let _ = value;
/// # Ok(())
/// # }
/// ```
pub fn register() -> Result<(), respire::Error> {
    transport::register("rdma", Arc::new(Rdma::new(Dial::default())))
}
