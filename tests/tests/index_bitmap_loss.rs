//! The bitmap layout against what servers lose and writers miss: nothing that is not so is ever answered, and whatever is
//! missing belongs to a pod that was named.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers included")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    time::Duration,
};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use respire::{Address, Client, Command, Config, WhenDown};
use respire_cli::local_server::{Flavour, LocalServer};
use respire_kvblock::{
    BitmapIndex, BitmapOptions, BlockHash, Index, KeyType, PodEntry, PodSet, ResyncReason,
};
use respire_tests::{
    chance,
    index_suite::{cpu, gpu, hashes, holders},
};

/// A client that waits for its server.
fn client(path: &Path) -> Client {
    Client::unconnected(
        Config::new(Address::Unix(path.to_owned()))
            .with_when_down(WhenDown::Wait)
            .with_command_timeout(Some(Duration::from_secs(20))),
    )
}

fn options() -> BitmapOptions {
    BitmapOptions::default().with_quarantine(Duration::ZERO)
}

async fn run(client: &Client, command: &[&str]) {
    client.execute(Command::new(command[0]).args(&command[1..])).await.unwrap();
}

/// Kills the server and starts it again, and waits until the clients are at the new one: what is under way when a server
/// dies may fail, which is not what is looked at here.
async fn restart(server: &mut LocalServer, clients: &[Client]) {
    tokio::task::block_in_place(|| server.restart().unwrap());
    answered(clients).await;
}

/// Waits until all clients have a server that answers.
async fn answered(clients: &[Client]) {
    for client in clients {
        while client.execute(Command::new("PING")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A name for a server's socket that can be given to another server.
struct ServerName {
    path: PathBuf,
    _directory: tempfile::TempDir,
}

impl ServerName {
    fn new(server: &LocalServer) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let name = Self { path: directory.path().join("s"), _directory: directory };
        name.point_to(server);
        name
    }

    fn point_to(&self, server: &LocalServer) {
        let _ = std::fs::remove_file(&self.path);
        std::os::unix::fs::symlink(server.socket_path(), &self.path).unwrap();
    }
}

fn reasons(index: &BitmapIndex) -> BTreeMap<String, ResyncReason> {
    index.resyncs().into_iter().map(|resync| (resync.pod_identifier, resync.reason)).collect()
}

async fn found(index: &BitmapIndex, keys: &[BlockHash]) -> usize {
    index.lookup(keys, &PodSet::all()).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_lost_nothing_is_confirmed_and_misses_nothing() {
    for flavour in Flavour::ALL {
        let mut server = LocalServer::builder(flavour).persistent().start().unwrap();
        let clients = [client(server.socket_path()), client(server.socket_path())];
        let (writer, reader) = (
            BitmapIndex::new(clients[0].clone(), options()),
            BitmapIndex::new(clients[1].clone(), options()),
        );
        let keys = hashes(0..300);
        writer.add(Some(&keys), &keys, &[gpu("a"), cpu("b")]).await.unwrap();
        assert_eq!(found(&reader, &keys).await, 300);
        for _ in 0..2 {
            restart(&mut server, &clients).await;
            // The reader knows of nobody who has confirmed anything, and says nothing.
            assert_eq!(found(&reader, &keys).await, 0);
            let named =
                BTreeMap::from(["a", "b"].map(|pod| (pod.into(), ResyncReason::Unconfirmed)));
            assert_eq!(reasons(&reader), named);
            // Any call of the writer's confirms.
            writer.evict(&hashes([9999]), KeyType::Engine, &[gpu("a")]).await.unwrap();
            assert_eq!(found(&reader, &keys).await, 300);
            assert_eq!(found(&writer, &keys).await, 300);
            assert!(reasons(&writer).values().all(|reason| *reason == ResyncReason::Unconfirmed));
            writer.evict(&keys[299..], KeyType::Engine, &[cpu("b")]).await.unwrap();
            assert_eq!(holders(&reader, 299).await, [gpu("a")]);
            writer.add(Some(&keys[299..]), &keys[299..], &[cpu("b")]).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_was_started_again_before_its_server_misses_nothing() {
    for flavour in Flavour::ALL {
        let mut server = LocalServer::builder(flavour).persistent().start().unwrap();
        let clients = [client(server.socket_path()), client(server.socket_path())];
        let timeout = Duration::from_millis(40);
        let keys = hashes(0..300);
        for leaves in [false, true] {
            // Who does not leave is silent after a while; who does need not have been.
            let timeout = if leaves { Duration::from_secs(3600) } else { timeout };
            let router = || {
                let options = options().with_writer_timeout(timeout);
                BitmapIndex::new(clients[0].clone(), options)
            };
            let former = router();
            former.clear("a").await.unwrap();
            former.add(Some(&keys), &keys, &[gpu("a")]).await.unwrap();
            former.evict(&keys[290..], KeyType::Engine, &[gpu("a")]).await.unwrap();
            if leaves {
                former.leave().await.unwrap();
            }
            drop(former);
            let present = router();
            present.evict(&keys[289..290], KeyType::Engine, &[gpu("a")]).await.unwrap();
            if !leaves {
                tokio::time::sleep(2 * timeout).await;
                present.evict(&keys[288..289], KeyType::Engine, &[gpu("a")]).await.unwrap();
            } else {
                present.evict(&keys[288..289], KeyType::Engine, &[gpu("a")]).await.unwrap();
            }
            let reader = BitmapIndex::new(clients[1].clone(), options());
            assert_eq!(found(&reader, &keys).await, 288);
            restart(&mut server, &clients).await;
            assert_eq!(found(&reader, &keys).await, 0);
            // Whatever the router calls, its pod is there again, and nothing has to be announced.
            present.lookup(&keys[..1], &PodSet::all()).await.unwrap();
            assert_eq!(found(&reader, &keys).await, 288);
            assert!(!reasons(&present).values().any(|reason| {
                matches!(reason, ResyncReason::IndexLost | ResyncReason::Retired)
            }));
            present.evict(&keys[100..], KeyType::Engine, &[gpu("a")]).await.unwrap();
            assert_eq!(found(&reader, &keys).await, 100);
            present.leave().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_was_taken_off_does_not_speak_for_an_older_state() {
    for flavour in Flavour::ALL {
        let mut server = LocalServer::start(flavour).unwrap();
        let clients: Vec<_> = (0..3).map(|_| client(server.socket_path())).collect();
        let options = options().with_writer_timeout(Duration::ZERO);
        let index = |at: usize| BitmapIndex::new(clients[at].clone(), options.clone());
        let (slow, fast, reader) = (index(0), index(1), index(2));
        let keys = hashes(0..10);
        slow.add(Some(&keys), &keys, &[gpu("a")]).await.unwrap();
        fast.evict(&keys[9..], KeyType::Engine, &[gpu("a")]).await.unwrap();
        // In this state `fast` is the only writer.
        run(&clients[0], &["SAVE"]).await;
        slow.evict(&keys[5..9], KeyType::Engine, &[gpu("a")]).await.unwrap();
        assert_eq!(found(&reader, &keys).await, 5);
        restart(&mut server, &clients).await;
        // `slow` finds that it is none any more, and cannot tell whether it has lost something.
        assert_eq!(found(&slow, &keys).await, 0);
        assert_eq!(reasons(&slow)["a"], ResyncReason::Retired);
        assert_eq!(found(&fast, &keys).await, 0);
        assert_eq!(found(&reader, &keys).await, 0);
        for writer in [&slow, &fast] {
            writer.clear("a").await.unwrap();
        }
        slow.add(Some(&keys[..5]), &keys[..5], &[gpu("a")]).await.unwrap();
        assert_eq!(found(&reader, &keys).await, 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_evicted_stays_so_when_an_older_state_comes_back() {
    for flavour in Flavour::ALL {
        let mut server = LocalServer::start(flavour).unwrap();
        let clients: Vec<_> = (0..3).map(|_| client(server.socket_path())).collect();
        let index = |at: usize| BitmapIndex::new(clients[at].clone(), options());
        let (a, b, reader) = (index(0), index(1), index(2));
        let keys = hashes(0..10);
        a.add(Some(&keys), &keys, &[gpu("a")]).await.unwrap();
        b.add(Some(&keys), &keys, &[gpu("b")]).await.unwrap();
        run(&clients[0], &["SAVE"]).await;
        a.evict(&keys[5..], KeyType::Engine, &[gpu("a")]).await.unwrap();
        restart(&mut server, &clients).await;

        assert_eq!(found(&reader, &keys).await, 0);
        // `b` has lost nothing, and says so. `a` has, and may have its blocks announced again at once.
        b.evict(&hashes([99]), KeyType::Engine, &[gpu("b")]).await.unwrap();
        assert_eq!(found(&reader, &keys).await, 10);
        assert_eq!(holders(&reader, 7).await, [gpu("b")]);
        a.add(Some(&keys[..5]), &keys[..5], &[gpu("a")]).await.unwrap();
        assert_eq!(reasons(&a)["a"], ResyncReason::IndexLost);
        let prefixes = reader.lookup(&keys, &PodSet::all()).await.unwrap();
        assert_eq!(prefixes.prefix_lengths(), [("a", 5), ("b", 10)].into());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_registry_or_everything_lost_begins_anew_and_names_the_pods() {
    for flavour in Flavour::ALL {
        let server = LocalServer::start(flavour).unwrap();
        let client = client(server.socket_path());
        let index = |_: ()| BitmapIndex::new(client.clone(), options());
        let (writer, reader) = (index(()), index(()));
        let keys = hashes(0..10);
        for lost in [&["FLUSHALL"][..], &["DEL", "kvb:r"]] {
            writer.add(Some(&keys), &keys, &[gpu("a")]).await.unwrap();
            assert_eq!(found(&reader, &keys).await, 10);
            run(&client, lost).await;
            assert_eq!(found(&reader, &keys).await, 0);
            assert_eq!(reasons(&reader)["a"], ResyncReason::IndexLost);
            // What is new is known at once, what was there before is not.
            writer.add(Some(&keys[..1]), &keys[..1], &[gpu("a")]).await.unwrap();
            assert_eq!(reasons(&writer)["a"], ResyncReason::IndexLost);
            assert_eq!(found(&reader, &keys).await, 1);
        }
        // The keys of the epoch before are removed by a sweep: ten blocks and ten mappings, one of each written anew.
        let mut removed = 0;
        loop {
            let step = reader.sweep(5).await.unwrap();
            removed += step.removed;
            if step.is_done {
                break;
            }
        }
        assert_eq!(removed, 20);
        assert_eq!(client.query::<i64>(Command::new("DBSIZE")).await.unwrap(), 3);
        assert_eq!(found(&reader, &keys).await, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_answers_nothing_and_once_promoted_only_what_is_confirmed() {
    for flavour in Flavour::ALL {
        let primary = LocalServer::builder(flavour).tcp().start().unwrap();
        let address = primary.tcp_address().unwrap();
        let replica = LocalServer::builder(flavour)
            .args(["--replicaof", &format!("{} {}", address.ip(), address.port())])
            .start()
            .unwrap();
        let name = ServerName::new(&primary);
        let (at_primary, at_replica) =
            (client(primary.socket_path()), client(replica.socket_path()));
        let (w, r) = (client(&name.path), client(&name.path));
        let writer = BitmapIndex::new(w.clone(), options());
        let reader = BitmapIndex::new(r.clone(), options());
        let keys = hashes(0..10);
        writer.add(Some(&keys), &keys, &[gpu("a")]).await.unwrap();
        assert_eq!(found(&reader, &keys).await, 10);
        while at_primary.query::<i64>(Command::new("WAIT").arg(1).arg(1000)).await.unwrap() < 1 {}

        // To be asked at the replica is an error and no answer.
        let misled =
            BitmapIndex::new(at_replica.clone().with_when_down(WhenDown::FailFast), options());
        let refused = misled.lookup(&keys, &PodSet::all()).await.unwrap_err();
        assert_eq!(refused.client_error().unwrap().server_error().unwrap().code(), "READONLY");

        // The replica becomes a primary without the last eviction.
        run(&at_replica, &["REPLICAOF", "NO", "ONE"]).await;
        writer.evict(&keys[5..], KeyType::Engine, &[gpu("a")]).await.unwrap();
        assert_eq!(found(&reader, &keys).await, 5);
        name.point_to(&replica);
        tokio::task::block_in_place(|| primary.stop().unwrap());
        answered(&[w, r]).await;
        assert_eq!(found(&reader, &keys).await, 0);
        assert_eq!(reasons(&reader)["a"], ResyncReason::Unconfirmed);
        assert_eq!(found(&writer, &keys).await, 0);
        assert_eq!(reasons(&writer)["a"], ResyncReason::IndexLost);
        writer.add(Some(&keys[..5]), &keys[..5], &[gpu("a")]).await.unwrap();
        assert_eq!(found(&reader, &keys).await, 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_of_a_former_life_writes_nothing_until_its_own_clear() {
    for flavour in Flavour::ALL {
        let server = LocalServer::start(flavour).unwrap();
        let client = client(server.socket_path());
        let index = |_: ()| BitmapIndex::new(client.clone(), options());
        let (fast, frozen, reader) = (index(()), index(()), index(()));
        let pod = [gpu("a")];
        fast.add(None, &hashes([1]), &pod).await.unwrap();
        frozen.add(None, &hashes([1]), &pod).await.unwrap();
        // The pod starts anew; the frozen writer has not heard of it.
        fast.clear("a").await.unwrap();
        fast.add(None, &hashes([2]), &pod).await.unwrap();
        for late in [1, 3] {
            frozen.add(Some(&hashes([late])), &hashes([late]), &pod).await.unwrap();
            assert_eq!(holders(&reader, late).await, []);
        }
        frozen.evict(&hashes([2]), KeyType::Request, &pod).await.unwrap();
        assert_eq!(holders(&reader, 2).await, pod);
        assert_eq!(reasons(&frozen)["a"], ResyncReason::Retired);
        // It comes to the place where the pod starts anew, and is in the same life as the other.
        frozen.clear("a").await.unwrap();
        frozen.add(None, &hashes([4]), &pod).await.unwrap();
        fast.evict(&hashes([4]), KeyType::Request, &pod).await.unwrap();
        assert_eq!(holders(&reader, 2).await, pod);
        assert_eq!(holders(&reader, 4).await, []);
        assert!(reasons(&fast).is_empty() && reasons(&frozen).is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_runs_out_hides_a_pod_and_its_renewal_shows_it_again() {
    for flavour in Flavour::ALL {
        let server = LocalServer::start(flavour).unwrap();
        let client = client(server.socket_path());
        let leased = |lease, quarantine| {
            let options = options().with_lease(Some(lease)).with_quarantine(quarantine);
            BitmapIndex::new(client.clone(), options)
        };
        let (short, long) = (Duration::from_millis(50), Duration::from_secs(3600));
        let (writer, sweeper) = (leased(short, long), leased(long, long));
        writer.add(None, &hashes([1]), &[gpu("a")]).await.unwrap();
        sweeper.add(None, &hashes([1]), &[gpu("b")]).await.unwrap();
        tokio::time::sleep(2 * short).await;
        // Nobody has judged it yet.
        assert_eq!(holders(&sweeper, 1).await, [gpu("a"), gpu("b")]);
        while !sweeper.sweep(100).await.unwrap().is_done {}
        assert_eq!(holders(&sweeper, 1).await, [gpu("b")]);
        assert_eq!(writer.renew(["a", "unknown"]).await.unwrap(), 1);
        assert_eq!(holders(&sweeper, 1).await, [gpu("a"), gpu("b")]);
        // Lapsed for long enough it is over.
        let strict = leased(long, Duration::ZERO);
        tokio::time::sleep(2 * short).await;
        while !strict.sweep(100).await.unwrap().is_done {}
        while !strict.sweep(100).await.unwrap().is_done {}
        assert_eq!(writer.renew(["a"]).await.unwrap(), 0);
        writer.add(None, &hashes([1]), &[gpu("a")]).await.unwrap();
        assert_eq!(holders(&sweeper, 1).await, [gpu("b")]);
        assert_eq!(reasons(&writer)["a"], ResyncReason::Retired);
        writer.clear("a").await.unwrap();
        writer.add(None, &hashes([1]), &[gpu("a")]).await.unwrap();
        assert_eq!(holders(&sweeper, 1).await, [gpu("a"), gpu("b")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn swept_columns_are_given_out_again_and_say_nothing_of_before() {
    for flavour in Flavour::ALL {
        let server = LocalServer::start(flavour).unwrap();
        let client = client(server.socket_path());
        let index = BitmapIndex::new(client.clone(), options().with_columns_max(4));
        let keys = hashes(0..2000);
        for life in 0..5 {
            let tiers = ["gpu", "cpu", "disk"].map(|tier| PodEntry::new("a", tier));
            index.add(Some(&keys), &keys, &tiers).await.unwrap();
            index.add(None, &keys[..1], &[gpu("b")]).await.unwrap();
            assert_eq!(found(&index, &keys).await, 2000, "{life}");
            let full = index.add(None, &keys, &[gpu("one too many")]).await.unwrap_err();
            assert!(full.is_full(), "{full:?}");
            index.clear("a").await.unwrap();
            assert_eq!(found(&index, &keys).await, 1);
            let mut freed = 0;
            while freed == 0 {
                freed += index.sweep(100).await.unwrap().freed;
            }
            assert_eq!(freed, 3);
        }
        // One block, nothing that leads to nobody, and the registry.
        while !index.sweep(100).await.unwrap().is_done {}
        assert_eq!(client.query::<i64>(Command::new("DBSIZE")).await.unwrap(), 3);
        index.evict(&keys[..1], KeyType::Engine, &[gpu("b")]).await.unwrap();
        assert_eq!(client.query::<i64>(Command::new("DBSIZE")).await.unwrap(), 1);
    }
}

/// What happens to a pod, as its engine tells it.
#[derive(Clone, Debug)]
enum Event {
    Store(Vec<u64>, PodEntry),
    Drop(Vec<u64>, PodEntry),
    Restart,
}

const TIERS: [&str; 2] = ["gpu", "cpu"];
const BLOCKS: u64 = 24;

/// A pod, what it holds, and its writers. Every second pod has two.
struct Pod {
    name: String,
    held: BTreeSet<(u64, &'static str)>,
    life: u64,
    writers: Vec<Writer>,
    /// It was named, or its writer was frozen: the index need not know all that it holds.
    may_miss: bool,
}

struct Writer {
    index: BitmapIndex,
    /// What a frozen writer has not said yet, with the life that it belongs to.
    backlog: VecDeque<(u64, Event)>,
    is_frozen: bool,
    /// The server has lost something while it was frozen.
    has_missed_a_loss: bool,
}

impl Writer {
    /// A writer that was away while the server lost count of a pod's lives begins with the pod's present one.
    fn skip_former_lives(&mut self) {
        let last = self.backlog.iter().rposition(|(_, event)| matches!(event, Event::Restart));
        if self.has_missed_a_loss
            && let Some(last) = last
        {
            self.backlog.drain(..last);
        }
        self.has_missed_a_loss = false;
    }
}

/// Pods, writers and readers in front of a server that goes back to what it saved, loses all, loses the registry, or is replaced by one that was its
/// replica up to some time.
struct World {
    random: StdRng,
    flavour: Flavour,
    server: LocalServer,
    /// What has followed the server and was promoted then.
    replica: Option<LocalServer>,
    /// The name under which clients find the server.
    name: ServerName,
    clients: Vec<Client>,
    pods: Vec<Pod>,
    readers: Vec<BitmapIndex>,
    history: Vec<String>,
}

fn engine(block: u64) -> BlockHash {
    BlockHash(block + 1000)
}

/// Half of the writers take every other for silent.
fn any_options(random: &mut StdRng) -> BitmapOptions {
    match random.random_bool(0.5) {
        true => options().with_writer_timeout(Duration::ZERO),
        false => options(),
    }
}

impl World {
    fn new(seed: u64, flavour: Flavour) -> Self {
        let server = LocalServer::builder(flavour).tcp().start().unwrap();
        let name = ServerName::new(&server);
        let mut clients = Vec::new();
        let mut random = StdRng::seed_from_u64(seed);
        let mut index = || {
            clients.push(client(&name.path));
            BitmapIndex::new(clients[clients.len() - 1].clone(), any_options(&mut random))
        };
        let mut pods = Vec::new();
        for number in 0..5 {
            let writers = (0..1 + number % 2)
                .map(|_| Writer {
                    index: index(),
                    backlog: VecDeque::new(),
                    is_frozen: false,
                    has_missed_a_loss: false,
                })
                .collect();
            let name = format!("pod-{number}");
            pods.push(Pod { name, held: BTreeSet::new(), life: 0, writers, may_miss: false });
        }
        let readers = vec![index(), index()];
        let (replica, history) = (None, Vec::new());
        Self { random, flavour, server, replica, name, clients, pods, readers, history }
    }

    /// Every writer takes part in its pod's first life from the start.
    async fn begin(&mut self) {
        for pod in &mut self.pods {
            pod.held.insert((0, "gpu"));
            for writer in &pod.writers {
                tell(&writer.index, &pod.name, &Event::Store(vec![0], gpu(&pod.name))).await;
            }
        }
    }

    async fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..70 => self.event().await,
            70..76 => self.freeze_or_thaw().await,
            76..79 => self.sweep().await,
            79 => self.replace_a_router().await,
            80 => self.promote_a_replica().await,
            81 => self.fail_over().await,
            82..84 => {
                self.note("save");
                run(&self.clients[0], &["SAVE"]).await;
            }
            84..86 => {
                self.note("restart");
                self.loss();
                restart(&mut self.server, &self.clients).await;
            }
            86 => {
                self.note("flush");
                self.loss();
                run(&self.clients[0], &["FLUSHALL"]).await;
            }
            87 => {
                self.note("the registry is lost");
                self.loss();
                run(&self.clients[0], &["DEL", "kvb:r"]).await;
            }
            _ => self.heal().await,
        }
        self.check().await;
    }

    /// A server follows the present one until it has everything, and then follows it no more.
    async fn promote_a_replica(&mut self) {
        self.note("a replica is promoted");
        let replica = LocalServer::builder(self.flavour).tcp().start().unwrap();
        let to_replica = client(replica.socket_path());
        let address = self.server.tcp_address().unwrap();
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        run(&to_replica, &["REPLICAOF", &ip, &port]).await;
        loop {
            let info = Command::new("INFO").arg("replication");
            let info: String = to_replica.query(info).await.unwrap();
            if info.contains("master_link_status:up") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        run(&to_replica, &["REPLICAOF", "NO", "ONE"]).await;
        self.replica = Some(replica);
    }

    /// The server dies, and what was its replica takes over.
    async fn fail_over(&mut self) {
        let Some(replica) = self.replica.take() else { return };
        self.note("failover");
        self.loss();
        self.name.point_to(&replica);
        let former = std::mem::replace(&mut self.server, replica);
        tokio::task::block_in_place(|| former.stop().unwrap());
        answered(&self.clients).await;
    }

    fn loss(&mut self) {
        for writer in self.pods.iter_mut().flat_map(|pod| &mut pod.writers) {
            writer.has_missed_a_loss = writer.is_frozen;
        }
    }

    fn note(&mut self, what: impl Into<String>) {
        self.history.push(what.into());
    }

    async fn event(&mut self) {
        let at = self.random.random_range(0..self.pods.len());
        let pod = &self.pods[at];
        let tier = *TIERS.choose(&mut self.random).unwrap();
        let entry = PodEntry::new(&pod.name, tier);
        let start = self.random.random_range(0..BLOCKS);
        let blocks: Vec<u64> = (start..BLOCKS).take(self.random.random_range(1..8)).collect();
        let event = match self.random.random_range(0..10) {
            0..6 => Event::Store(blocks, entry),
            6..9 => Event::Drop(blocks, entry),
            _ => Event::Restart,
        };
        self.note(format!("{}: {event:?}", pod.name));
        let pod = &mut self.pods[at];
        match &event {
            Event::Store(blocks, _) => pod.held.extend(blocks.iter().map(|&block| (block, tier))),
            Event::Drop(blocks, _) => pod.held.retain(|&(b, t)| t != tier || !blocks.contains(&b)),
            Event::Restart => {
                pod.held.clear();
                pod.life += 1;
                pod.may_miss = false;
            }
        }
        let life = pod.life;
        for writer in &mut pod.writers {
            if writer.is_frozen {
                writer.backlog.push_back((life, event.clone()));
            } else {
                tell(&writer.index, &pod.name, &event).await;
            }
        }
    }

    /// Freezes the second writer of a pod, or lets it go on: what it says then of a former life must not count, and that is looked
    /// at after each word.
    async fn freeze_or_thaw(&mut self) {
        let at = [1, 3][self.random.random_range(0..2)];
        if !self.pods[at].writers[1].is_frozen {
            // The other one may have been told that it is behind, and then says nothing either.
            if self.pods[at].may_miss {
                return;
            }
            self.note(format!("pod-{at}: freeze"));
            self.pods[at].writers[1].is_frozen = true;
            return;
        }
        self.note(format!("pod-{at}: thaw"));
        self.pods[at].writers[1].skip_former_lives();
        loop {
            let pod = &mut self.pods[at];
            let life = pod.life;
            let Some((of, event)) = pod.writers[1].backlog.pop_front() else { break };
            tell(&pod.writers[1].index, &pod.name, &event).await;
            if of < life {
                self.check().await;
            }
        }
        self.pods[at].writers[1].is_frozen = false;
    }

    /// A router starts again: a new writer follows a former one, which has left in good order or not.
    async fn replace_a_router(&mut self) {
        let at = self.random.random_range(0..self.pods.len());
        let pod = &mut self.pods[at];
        // Its first word may be a restart of the pod, which does not count lives for those that are behind.
        if pod.writers.iter().any(|writer| writer.is_frozen) {
            return;
        }
        let writer = &mut pod.writers[0];
        let leaves = self.random.random_bool(0.5);
        self.history.push(format!("{}: another router, left: {leaves}", pod.name));
        if leaves {
            writer.index.leave().await.unwrap();
        }
        let client = writer.index.client().clone();
        writer.index = BitmapIndex::new(client, any_options(&mut self.random));
    }

    async fn sweep(&mut self) {
        let keys = self.random.random_range(1..50);
        // Nobody may be behind when a pod is forgotten.
        let is_frozen = |pod: &Pod| pod.writers.iter().any(|writer| writer.is_frozen);
        if self.random.random_bool(0.3) && !self.pods.iter().any(is_frozen) {
            self.note("pods that are gone are forgotten");
            let options = options().with_lives_kept(Duration::ZERO);
            let sweeper = BitmapIndex::new(self.clients[0].clone(), options);
            while !sweeper.sweep(1000).await.unwrap().is_done {}
            return;
        }
        self.note("sweep");
        let at = self.random.random_range(0..self.readers.len());
        self.readers[at].sweep(keys).await.unwrap();
    }

    /// Every pod that was named announces its blocks again.
    async fn heal(&mut self) {
        self.collect_named();
        for at in 0..self.pods.len() {
            let pod = &mut self.pods[at];
            if !pod.may_miss || pod.writers.iter().any(|writer| writer.is_frozen) {
                continue;
            }
            self.history.push(format!("{}: announces again", pod.name));
            for writer in &pod.writers {
                writer.index.clear(&pod.name).await.unwrap();
            }
            // Whoever comes second may find the life of before its own clear in force: both clear before either adds.
            for writer in &pod.writers {
                for tier in TIERS {
                    let blocks =
                        pod.held.iter().filter(|(_, of)| *of == tier).map(|&(block, _)| block);
                    let blocks: Vec<u64> = blocks.collect();
                    let event = Event::Store(blocks, PodEntry::new(&pod.name, tier));
                    tell(&writer.index, &pod.name, &event).await;
                }
            }
            pod.may_miss = false;
        }
    }

    fn collect_named(&mut self) {
        let indexes =
            self.pods.iter().flat_map(|pod| pod.writers.iter().map(|writer| &writer.index));
        let named: BTreeSet<String> = indexes
            .chain(&self.readers)
            .flat_map(BitmapIndex::resyncs)
            .map(|resync| resync.pod_identifier)
            .collect();
        for pod in &mut self.pods {
            if named.contains(&pod.name) {
                pod.may_miss = true;
            }
        }
    }

    /// Asks for every block. What is answered has to be so; what is so has to be answered, unless the pod was named.
    async fn check(&mut self) {
        let at = self.random.random_range(0..self.readers.len());
        let mut claimed = BTreeSet::new();
        for block in 0..BLOCKS {
            for entry in holders(&self.readers[at], block).await {
                claimed.insert((entry.pod_identifier, block, entry.device_tier));
            }
        }
        // What is missing is noticed with any call of the pod's writer.
        for writer in self.pods.iter().flat_map(|pod| &pod.writers) {
            if !writer.is_frozen {
                writer.index.lookup(&hashes([0]), &PodSet::all()).await.unwrap();
            }
        }
        self.collect_named();
        let said = self.history.join("\n");
        for (pod, block, tier) in &claimed {
            let holds = self.pods.iter().any(|known| {
                known.name == *pod && known.held.iter().any(|(b, t)| b == block && t == tier)
            });
            assert!(holds, "a false hit: {pod} does not hold {block} in {tier} after\n{said}");
        }
        for pod in self.pods.iter().filter(|pod| !pod.may_miss) {
            for &(block, tier) in &pod.held {
                let is_known = claimed.contains(&(pod.name.clone(), block, tier.to_owned()));
                assert!(is_known, "a miss: {} holds {block} in {tier} after\n{said}", pod.name);
            }
        }
    }
}

async fn tell(index: &BitmapIndex, pod: &str, event: &Event) {
    match event {
        Event::Store(blocks, _) if blocks.is_empty() => {}
        Event::Store(blocks, entry) => {
            let engine: Vec<_> = blocks.iter().map(|&block| engine(block)).collect();
            let request = hashes(blocks.iter().copied());
            index.add(Some(&engine), &request, std::slice::from_ref(entry)).await.unwrap();
        }
        Event::Drop(blocks, entry) => {
            let engine: Vec<_> = blocks.iter().map(|&block| engine(block)).collect();
            index.evict(&engine, KeyType::Engine, std::slice::from_ref(entry)).await.unwrap();
        }
        Event::Restart => index.clear(pod).await.unwrap(),
    }
}

/// Random histories; `RESPIRE_TEST_SECONDS` for longer ones.
#[tokio::test(flavor = "multi_thread")]
async fn no_history_leads_to_a_false_hit_or_an_unnamed_miss() {
    let seed = chance::seed();
    let ends = std::time::Instant::now() + chance::duration(Duration::from_secs(8));
    let mut round = 0;
    while round < 2 || std::time::Instant::now() < ends {
        let flavour = Flavour::ALL[round as usize % 2];
        println!("round {round}");
        let mut world = World::new(seed.wrapping_add(round), flavour);
        world.begin().await;
        for _ in 0..150 {
            world.step().await;
        }
        round += 1;
    }
}

/// Many tasks with an index each write for pods of their own while the server loses the registry again and again; nothing that
/// was evicted is ever found, whatever the order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_at_once_and_a_registry_that_is_lost() {
    let mut random = StdRng::seed_from_u64(chance::seed());
    for flavour in Flavour::ALL {
        let server = LocalServer::start(flavour).unwrap();
        let mut writers = tokio::task::JoinSet::new();
        for number in 0..6_u64 {
            let index = BitmapIndex::new(client(server.socket_path()), options());
            let mut random = StdRng::seed_from_u64(random.next_u64());
            writers.spawn(async move {
                let pod = format!("pod-{number}");
                let own: PodSet = [pod.as_str()].into_iter().collect();
                let keys = hashes(0..40);
                for _ in 0..60 {
                    let held = random.random_range(1..40);
                    index.add(Some(&keys[..held]), &keys[..held], &[gpu(&pod)]).await.unwrap();
                    let seen = index.lookup(&keys, &own).await.unwrap().len();
                    assert!(seen <= held, "{seen} of {held}");
                    if random.random_bool(0.2) {
                        index.clear(&pod).await.unwrap();
                    } else {
                        index.evict(&keys, KeyType::Engine, &[gpu(&pod)]).await.unwrap();
                    }
                    assert_eq!(index.lookup(&keys, &own).await.unwrap().len(), 0);
                }
                index.clear(&pod).await.unwrap();
                index.add(Some(&keys), &keys, &[gpu(&pod)]).await.unwrap();
            });
        }
        let client = client(server.socket_path());
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            run(&client, &["DEL", "kvb:r"]).await;
        }
        while let Some(writer) = writers.join_next().await {
            writer.unwrap();
        }
    }
}
