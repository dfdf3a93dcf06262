//! rustis, with its defaults.

use anyhow::{Result, ensure};
use bytes::Bytes;
use rustis::client::{BatchPreparedCommand, Client};
use rustis::commands::{HashCommands, StringCommands};
use rustis::resp::BulkString;
use serde::{Serialize, Serializer};

use crate::client::server::Endpoints;
use crate::client::workload::Transport;

pub(super) async fn connect(endpoints: &Endpoints, transport: Transport) -> Result<Client> {
    // Its TLS brings a second provider of cryptography with it, which takes minutes to build.
    ensure!(transport != Transport::Tls, "its TLS is not built here");
    Ok(Client::connect(endpoints.url(transport)).await?)
}

/// Bytes as rustis reads them.
#[derive(Debug)]
pub struct Value(BulkString);

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// An argument of bytes: a slice by itself would go out as one argument a byte.
struct Argument<'a>(&'a [u8]);

impl Serialize for Argument<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl super::Client for Client {
    type Value = Value;

    async fn get(&mut self, key: &str) -> Result<Value> {
        Ok(Value(StringCommands::get(&*self, key).await?))
    }

    async fn set(&mut self, key: &str, value: &Bytes) -> Result<()> {
        Ok(StringCommands::set(&*self, key, Argument(value)).await?)
    }

    async fn get_all<F: FnMut(&[u8]) + Send>(
        &mut self,
        keys: &[String],
        mut each: F,
    ) -> Result<()> {
        let mut pipeline = self.create_pipeline();
        for key in keys {
            pipeline.get::<()>(key).queue();
        }
        let values: Vec<BulkString> = pipeline.execute().await?;
        values.iter().for_each(|value| each(value));
        Ok(())
    }

    async fn hash_keys_all<F: FnMut(&[u8]) + Send>(
        &mut self,
        keys: &[String],
        mut each: F,
    ) -> Result<()> {
        let mut pipeline = self.create_pipeline();
        for key in keys {
            pipeline.hkeys::<()>(key).queue();
        }
        let hashes: Vec<Vec<BulkString>> = pipeline.execute().await?;
        hashes.iter().flatten().for_each(|field| each(field));
        Ok(())
    }
}
