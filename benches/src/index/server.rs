//! The server that all sides use, and what stands on it.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use respire::{Address, Client};
use respire_cli::bench::Delay;
use respire_cli::bench::relay::Relay;
use respire_cli::local_server::{Flavour, LocalServer};
use respire_kvblock::{BitmapIndex, BitmapOptions, BlockHash, Index, PodEntry, ServerIndex};

use super::fleet::{BLOCKS, Fleet, mixed};
use super::job::{Job, OTHERS};

/// Databases: each layout has its own, and each clear.
pub mod database {
    /// llm-d's layout.
    pub const LLM_D: u32 = 0;
    /// The bitmap layout.
    pub const BITMAP: u32 = 1;
    /// The first that events are applied to and pods cleared in.
    pub const SCRATCH: u32 = 2;
}

/// Databases of the server.
const DATABASES: u32 = 32;

/// A private server, and the long way to it.
#[derive(Debug)]
pub struct Server {
    server: LocalServer,
    near_port: u16,
    far_port: u16,
    _far: Relay,
    /// How much longer the long way is, there and back.
    pub round_trip: Duration,
    /// Its name and version.
    pub version: String,
}

impl Server {
    /// Starts it, without anything on it.
    ///
    /// # Errors
    ///
    /// When there is no such server on PATH, or it does not start.
    pub fn start(flavour: Flavour, round_trip: Duration) -> Result<Self> {
        let databases = DATABASES.to_string();
        let server =
            LocalServer::builder(flavour).tcp().args(["--databases", &databases]).start()?;
        let near = server.tcp_address().context("the server has no TCP port")?;
        let target = Address::Tcp { host: near.ip().to_string(), port: near.port() };
        let each_way = round_trip / 2;
        let far = Relay::start(target, Delay { min: each_way, max: each_way }, 1)?;
        let Address::Tcp { port: far_port, .. } = far.address() else {
            bail!("the relay has no TCP port");
        };
        let version = version(&server, flavour)?;
        Ok(Self { server, near_port: near.port(), far_port, _far: far, round_trip, version })
    }

    /// The URL of a database, over the near or the long way.
    pub fn url(&self, database: u32, far: bool) -> String {
        let port = if far { self.far_port } else { self.near_port };
        format!("redis://127.0.0.1:{port}/{database}")
    }

    /// Its process.
    pub fn process(&self) -> Option<u32> {
        self.server.process_id()
    }
}

fn version(server: &LocalServer, flavour: Flavour) -> Result<String> {
    let mut connection =
        redis::Client::open(format!("redis+unix://{}", server.socket_path().display()))?
            .get_connection()?;
    let info: String = redis::cmd("INFO").arg("server").query(&mut connection)?;
    // Valkey calls itself Redis 7.2.4 there, too, for the sake of old clients.
    let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name));
    let version = field("valkey_version:").or_else(|| field("redis_version:"));
    Ok(format!("{} {}", flavour.program(), version.unwrap_or("unknown").trim()))
}

/// Blocks that one call adds.
const BATCH: usize = 512;

/// The bitmap index of a fleet.
pub fn bitmap(client: Client, prefix: &str) -> BitmapIndex {
    let options = BitmapOptions::default().with_key_prefix(prefix);
    BitmapIndex::new(client, options.expect("the prefix of a fleet is short"))
}

/// What the keys of a fleet begin with in the bitmap layout.
pub fn prefix(fleet: Fleet) -> String {
    format!("kvb:{}-{}:", fleet.entries, fleet.pods)
}

/// Puts the blocks of a fleet on the server in both layouts.
///
/// # Errors
///
/// When the server refuses.
pub async fn fill(server: &Server, fleet: Fleet) -> Result<()> {
    let llm_d = ServerIndex::new(patient(&server.url(database::LLM_D, false)).await?);
    let bitmap = bitmap(patient(&server.url(database::BITMAP, false)).await?, &prefix(fleet));
    // One call adds what has the same holders in the same order.
    let mut groups: HashMap<Vec<PodEntry>, Vec<BlockHash>> = HashMap::new();
    for block in 0..BLOCKS {
        groups.entry(fleet.holders(block)).or_default().push(fleet.held(block));
    }
    // In an order of its own, so that memory is laid out alike in every run.
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_unstable_by_key(|(_, keys)| keys.first().map(|key| key.0));
    for (entries, keys) in groups {
        for keys in keys.chunks(BATCH) {
            llm_d.add(None, keys, &entries).await?;
            bitmap.add(None, keys, &entries).await?;
        }
    }
    Ok(())
}

/// Puts blocks of pods that are not cleared into the database of a side, by its own index.
///
/// # Errors
///
/// When the server refuses.
pub async fn fill_others(index: &dyn Index, others: usize) -> Result<()> {
    let fleet = Fleet { pods: 7, entries: 7 };
    let keys: Vec<BlockHash> = (0..others as u64).map(|n| BlockHash(mixed(n | 1 << 50))).collect();
    for (number, keys) in keys.chunks(BATCH).enumerate() {
        index.add(None, keys, &[fleet.entry(number % fleet.pods)]).await?;
    }
    Ok(())
}

/// The database in which a side does a job that changes something, so that no two sides meet.
pub fn scratch(side: usize, job: Job) -> u32 {
    let place = match job {
        Job::Clear { others } => 1 + OTHERS.iter().position(|o| *o == others).unwrap_or_default(),
        _ => 0,
    };
    database::SCRATCH + (side * (OTHERS.len() + 1) + place) as u32
}

/// A client that waits as long as it takes.
///
/// # Errors
///
/// When the server cannot be reached.
pub async fn patient(url: &str) -> Result<Client> {
    let config: respire::Config = url.parse()?;
    Ok(Client::with_config(config.with_command_timeout(Some(Duration::from_secs(60)))).await?)
}
