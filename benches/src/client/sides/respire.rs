//! respire.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use respire::{Client, Command, Config, Pipeline, TlsConfig};

use crate::client::server::Endpoints;
use crate::client::workload::Transport;

/// Connects with the defaults.
pub(super) async fn connect(endpoints: &Endpoints, transport: Transport) -> Result<Client> {
    Ok(Client::with_config(config(endpoints, transport)?).await?)
}

/// For how long a reply is asked for without sleeping: several times as long as one takes.
const BUSY_POLL: Duration = Duration::from_micros(200);

/// Connects, to ask busily.
pub(super) async fn connect_busy(endpoints: &Endpoints, transport: Transport) -> Result<Client> {
    let config = config(endpoints, transport)?;
    Ok(Client::with_config(config.with_busy_poll(BUSY_POLL)).await?)
}

/// The defaults, and whom to trust.
fn config(endpoints: &Endpoints, transport: Transport) -> Result<Config> {
    let config: Config = endpoints.url(transport).parse()?;
    Ok(match transport {
        Transport::Tcp | Transport::Unix => config,
        Transport::Tls => config.with_tls(TlsConfig::new().with_ca_pem(&endpoints.authority.pem)),
    })
}

impl super::Client for Client {
    type Value = Bytes;

    async fn get(&mut self, key: &str) -> Result<Bytes> {
        Ok(self.query(Command::new("GET").arg(key)).await?)
    }

    async fn set(&mut self, key: &str, value: &Bytes) -> Result<()> {
        self.execute(Command::new("SET").arg(key).arg(value)).await?;
        Ok(())
    }

    async fn get_all<F: FnMut(&[u8]) + Send>(
        &mut self,
        keys: &[String],
        mut each: F,
    ) -> Result<()> {
        let mut pipeline = Pipeline::new();
        for key in keys {
            pipeline.command(&["GET", key]);
        }
        for reply in self.pipeline(pipeline).await? {
            each(reply.parse()?);
        }
        Ok(())
    }

    async fn hash_keys_all<F: FnMut(&[u8]) + Send>(
        &mut self,
        keys: &[String],
        mut each: F,
    ) -> Result<()> {
        let mut pipeline = Pipeline::new();
        for key in keys {
            pipeline.command(&["HKEYS", key]);
        }
        for reply in self.pipeline(pipeline).await? {
            let fields: Vec<&[u8]> = reply.parse()?;
            fields.into_iter().for_each(&mut each);
        }
        Ok(())
    }
}
