//! redis-rs: its multiplexed connection, with its defaults but for `TCP_NODELAY`.

use anyhow::Result;
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo, TlsCertificates, cmd, pipe};

use crate::client::server::Endpoints;
use crate::client::workload::Transport;

pub(super) async fn connect(
    endpoints: &Endpoints,
    transport: Transport,
) -> Result<MultiplexedConnection> {
    let info = endpoints.url(transport).into_connection_info()?;
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
    let client = match transport {
        Transport::Tcp | Transport::Unix => Client::open(info)?,
        Transport::Tls => {
            let authority = endpoints.authority.pem.clone().into_bytes();
            let certificates = TlsCertificates { client_tls: None, root_cert: Some(authority) };
            Client::build_with_tls(info, certificates)?
        }
    };
    Ok(client.get_multiplexed_async_connection().await?)
}

impl super::Client for MultiplexedConnection {
    type Value = Vec<u8>;

    async fn get(&mut self, key: &str) -> Result<Vec<u8>> {
        Ok(cmd("GET").arg(key).query_async(self).await?)
    }

    async fn set(&mut self, key: &str, value: &Bytes) -> Result<()> {
        Ok(cmd("SET").arg(key).arg(&value[..]).query_async(self).await?)
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
        let values: Vec<Vec<u8>> = pipeline.query_async(self).await?;
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
        let hashes: Vec<Vec<Vec<u8>>> = pipeline.query_async(self).await?;
        hashes.iter().flatten().for_each(|field| each(field));
        Ok(())
    }
}
