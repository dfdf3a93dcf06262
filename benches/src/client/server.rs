//! The server that all sides talk to.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use redis::{Client, Connection};
use respire_cli::local_server::{Flavour, LocalServer};

use super::data::{Data, FIELDS};
use super::workload::Transport;

/// Where the server listens.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// The TCP port.
    pub tcp: SocketAddr,
    /// The Unix socket.
    pub unix: PathBuf,
}

impl Endpoints {
    /// A URL that every client understands.
    pub fn url(&self, transport: Transport) -> String {
        match transport {
            Transport::Tcp => format!("redis://{}", self.tcp),
            Transport::Unix => format!("redis+unix://{}", self.unix.display()),
        }
    }
}

/// A private server with the data on it.
#[derive(Debug)]
pub struct Server {
    server: LocalServer,
    /// Where it listens.
    pub endpoints: Endpoints,
    /// Its name and version.
    pub version: String,
}

impl Server {
    /// Starts it and fills it.
    ///
    /// # Errors
    ///
    /// When there is no such server on PATH, or it does not start.
    pub fn start(flavour: Flavour, data: &Data) -> Result<Self> {
        let server = LocalServer::builder(flavour).tcp().start()?;
        let tcp = server.tcp_address().context("the server has no TCP port")?;
        let endpoints = Endpoints { tcp, unix: server.socket_path().to_owned() };
        let client = Client::open(endpoints.url(Transport::Unix))?;
        let mut connection = client.get_connection()?;
        fill(&mut connection, data)?;
        let version = version(&mut connection, flavour)?;
        Ok(Self { server, endpoints, version })
    }

    /// Its process.
    pub fn process(&self) -> Option<u32> {
        self.server.process_id()
    }
}

fn fill(connection: &mut Connection, data: &Data) -> Result<()> {
    let mut pipeline = redis::pipe();
    for (index, key) in data.keys.iter().enumerate() {
        pipeline.cmd("SET").arg(key).arg(Data::value(index).as_slice()).ignore();
    }
    for (index, key) in data.hashes.iter().enumerate() {
        let command = pipeline.cmd("HSET").arg(key);
        for field in 0..FIELDS {
            command.arg(Data::field(index, field)).arg("1");
        }
        command.ignore();
    }
    pipeline.cmd("SET").arg(&data.large_key).arg(&data.large[..]).ignore();
    Ok(pipeline.query(connection)?)
}

fn version(connection: &mut Connection, flavour: Flavour) -> Result<String> {
    let info: String = redis::cmd("INFO").arg("server").query(connection)?;
    // Valkey calls itself Redis 7.2.4 there, too, for the sake of old clients.
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
    let version = field("valkey_version:").or_else(|| field("redis_version:"));
    Ok(format!("{} {}", flavour.program(), version.unwrap_or("unknown").trim()))
}
