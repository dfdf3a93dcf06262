//! fred, with its defaults but for `TCP_NODELAY`.

use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use fred::clients::Client;
use fred::interfaces::{ClientLike, HashesInterface, KeysInterface};
use fred::types::Builder;
use fred::types::config::{Config, TcpConfig, TlsConnector};
use tokio_rustls::TlsConnector as Connector;

use crate::client::server::Endpoints;
use crate::client::workload::Transport;

pub(super) async fn connect(endpoints: &Endpoints, transport: Transport) -> Result<Client> {
    let mut config = Config::from_url(&endpoints.url(transport))?;
    if transport == Transport::Tls {
        let connector = Connector::from(Arc::clone(&endpoints.authority.config));
        config.tls = Some(TlsConnector::Rustls(connector).into());
    }
    let mut builder = Builder::from_config(config);
    builder.with_connection_config(|connection| {
        connection.tcp = TcpConfig { nodelay: Some(true), ..TcpConfig::default() };
    });
    let client = builder.build()?;
    client.init().await?;
    Ok(client)
}

impl super::Client for Client {
    type Value = Bytes;

    async fn get(&mut self, key: &str) -> Result<Bytes> {
        Ok(KeysInterface::get(self, key).await?)
    }

    async fn set(&mut self, key: &str, value: &Bytes) -> Result<()> {
        Ok(KeysInterface::set(self, key, value.clone(), None, None, false).await?)
    }

    async fn get_all<F: FnMut(&[u8]) + Send>(
        &mut self,
        keys: &[String],
        mut each: F,
    ) -> Result<()> {
        let pipeline = self.pipeline();
        for key in keys {
            let () = pipeline.get(key).await?;
        }
        let values: Vec<Bytes> = pipeline.all().await?;
        values.iter().for_each(|value| each(value));
        Ok(())
    }

    async fn hash_keys_all<F: FnMut(&[u8]) + Send>(
        &mut self,
        keys: &[String],
        mut each: F,
    ) -> Result<()> {
        let pipeline = self.pipeline();
        for key in keys {
            let () = pipeline.hkeys(key).await?;
        }
        let hashes: Vec<Vec<Bytes>> = pipeline.all().await?;
        hashes.iter().flatten().for_each(|field| each(field));
        Ok(())
    }
}
