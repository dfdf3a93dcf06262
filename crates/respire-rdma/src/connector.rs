//! What dials for a client.

use std::{io, sync::Arc};

use respire::{
    Address,
    transport::{self, ConnectFuture, Connector, Parameters, Transport, connect_tcp},
};

use crate::{RdmaConfig, Requirement};

/// Connects over RDMA, in place of a client's own way of dialling.
#[derive(Debug)]
struct Rdma {
    config: RdmaConfig,
}

impl Connector for Rdma {
    fn connect<'a>(&'a self, address: &'a Address) -> ConnectFuture<'a> {
        Box::pin(connect(&self.config, address))
    }

    /// Valkey speaks no TLS over RDMA.
    fn carries_tls(&self) -> bool {
        false
    }

    fn connect_with<'a>(
        &'a self,
        address: &'a Address,
        parameters: &'a Parameters,
    ) -> ConnectFuture<'a> {
        Box::pin(async move { connect(&self.config.with_parameters(parameters)?, address).await })
    }
}

async fn connect(config: &RdmaConfig, address: &Address) -> io::Result<Transport> {
    let Address::Tcp { host, port } = address else {
        let text = "RDMA needs a host and a port";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    };
    match config.requirement() {
        Requirement::Required => dial(config, host, *port).await,
        Requirement::Preferred => {
            let attempt = tokio::time::timeout(config.attempt_max(), dial(config, host, *port));
            let error = match attempt.await {
                Ok(Ok(transport)) => return Ok(transport),
                Ok(Err(error)) => error,
                Err(_) => io::Error::new(io::ErrorKind::TimedOut, "it took too long"),
            };
            tracing::warn!(%address, %error, "no connection over RDMA, which is preferred: TCP is used");
            connect_tcp(host, *port, config.tcp()).await
        }
    }
}

#[cfg(target_os = "linux")]
async fn dial(config: &RdmaConfig, host: &str, port: u16) -> io::Result<Transport> {
    crate::connect::connect(config, host, port).await.map(crate::driver::Link::into_transport)
}

#[cfg(not(target_os = "linux"))]
async fn dial(_: &RdmaConfig, _: &str, _: u16) -> io::Result<Transport> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "RDMA is used on Linux only"))
}

impl RdmaConfig {
    /// What dials in this way, for [`Config::with_connector`](respire::Config::with_connector).
    pub fn connector(self) -> Arc<dyn Connector> {
        Arc::new(Rdma { config: self })
    }

    /// Has all URLs that begin with `valkey+rdma://` or `redis+rdma://` dialled in this way, in this process and from the
    /// next dial on.
    ///
    /// # Errors
    ///
    /// When something was registered by that name before.
    pub fn register(self) -> Result<(), respire::Error> {
        transport::register("rdma", self.connector())
    }
}

/// [`RdmaConfig::register`] with the defaults. Nothing is looked for on this machine before a connection is made.
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
    RdmaConfig::new().register()
}

#[cfg(test)]
mod tests;
