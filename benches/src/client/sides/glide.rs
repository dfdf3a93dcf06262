//! valkey-glide's native client, with its defaults.

use anyhow::{Result, bail};
use bytes::Bytes;
use glide::{AsyncCommands, GlideClient, GlideClientConfiguration, PipelineExt, TlsConfig, pipe};

use crate::client::server::Endpoints;
use crate::client::workload::Transport;

pub(super) async fn connect(endpoints: &Endpoints, transport: Transport) -> Result<GlideClient> {
    let at = |address: std::net::SocketAddr| {
        GlideClientConfiguration::with_address(address.ip().to_string(), address.port())
    };
    let config = match transport {
        Transport::Tcp => at(endpoints.tcp),
        Transport::Tls => at(endpoints.tls)
            .tls(TlsConfig::SecureTls)
            .tls_ca_cert(endpoints.authority.pem.as_bytes()),
        Transport::Unix => bail!("it has no Unix sockets"),
    };
    Ok(GlideClient::connect(config).await?)
}

impl super::Client for GlideClient {
    type Value = Bytes;

    async fn get(&mut self, key: &str) -> Result<Bytes> {
        Ok(AsyncCommands::get(self, key).await?)
    }

    async fn set(&mut self, key: &str, value: &Bytes) -> Result<()> {
        Ok(AsyncCommands::set(self, key, &value[..]).await?)
    }

    async fn get_all<F: FnMut(&[u8]) + Send>(
        &mut self,
        keys: &[String],
        mut each: F,
    ) -> Result<()> {
        let mut pipeline = pipe();
        for key in keys {
            pipeline.cmd("GET").arg(key);
        }
        let values: Vec<Bytes> = pipeline.query_async(self).await?;
        values.iter().for_each(|value| each(value));
        Ok(())
    }

    async fn hash_keys_all<F: FnMut(&[u8]) + Send>(
        &mut self,
        keys: &[String],
        mut each: F,
    ) -> Result<()> {
        let mut pipeline = pipe();
        for key in keys {
            pipeline.cmd("HKEYS").arg(key);
        }
        let hashes: Vec<Vec<Bytes>> = pipeline.query_async(self).await?;
        hashes.iter().flatten().for_each(|field| each(field));
        Ok(())
    }
}
