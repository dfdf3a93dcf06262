//! The client's table of commands, made from what servers answer to `COMMAND`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use respire::{Client, Command, Error, FromValue, ValueRef, codec::ValueError};
use respire_cli::local_server::{Flavour, LocalServer};

/// Where the table lies, from the root of the workspace.
pub const PATH: &str = "crates/respire/src/command/table/entries.rs";

/// The flags that the client knows, as servers and as the table call them, and whether both servers must set them.
const FLAGS: &[(&str, &str, bool)] = &[
    ("readonly", "READ_ONLY", true),
    ("write", "WRITE", false),
    ("blocking", "BLOCKING", false),
    ("noscript", "NO_SCRIPT", false),
    ("pubsub", "PUB_SUB", false),
    ("may_replicate", "MAY_REPLICATE", false),
    ("movablekeys", "MOVABLE_KEYS", false),
    ("no_multi", "NO_MULTI", false),
    ("admin", "ADMIN", false),
    ("fast", "FAST", true),
    ("denyoom", "DENY_OOM", false),
];

/// Asks a private server of each flavour, and writes the table.
///
/// # Panics
///
/// When a server cannot be started or its answer is not understood; the table must not be made of half of it.
pub async fn generate() -> String {
    let mut answers = Vec::new();
    for flavour in Flavour::ALL {
        answers.push(ask(flavour).await);
    }
    let [valkey, redis] = &answers[..] else { unreachable!("there are two flavours") };
    table(valkey, redis)
}

async fn ask(flavour: Flavour) -> BTreeMap<String, Description> {
    let server = LocalServer::start(flavour)
        .unwrap_or_else(|error| panic!("the table needs a {}: {error}", flavour.program()));
    let client = Client::connect(&server.url()).await.expect("the server is up");
    let reply = client.execute(Command::new("COMMAND")).await.expect("every server knows it");
    let commands: Result<Vec<Description>, Error> = reply.parse();
    let mut all = BTreeMap::new();
    for command in commands.expect("an array of descriptions") {
        for subcommand in &command.subcommands {
            all.insert(subcommand.name.clone(), subcommand.clone());
        }
        all.insert(command.name.clone(), command);
    }
    all
}

/// What a server says of a command or a subcommand.
#[derive(Clone, Debug)]
struct Description {
    name: String,
    arity: i64,
    flags: BTreeSet<String>,
    /// As the table calls them.
    key_specs: Vec<String>,
    subcommands: Vec<Description>,
}

impl<'a> FromValue<'a> for Description {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let fields: Vec<ValueRef<'a>> = value.parse()?;
        let field = |at: usize| *fields.get(at).expect("servers of version 7 send ten fields");
        let specs: Vec<BTreeMap<&str, ValueRef<'a>>> = field(8).parse()?;
        let mut key_specs = Vec::new();
        for spec in &specs {
            key_specs.extend(key_spec(spec)?);
        }
        Ok(Self {
            name: field(0).parse()?,
            arity: field(1).parse()?,
            flags: field(2).parse::<Vec<String>>()?.into_iter().collect(),
            key_specs,
            subcommands: field(9).parse()?,
        })
    }
}

/// One of a command's key specifications in the words of `command/keys.rs`; none for one that servers call unknown.
fn key_spec(spec: &BTreeMap<&str, ValueRef<'_>>) -> Result<Option<String>, ValueError> {
    let flags: Vec<&str> = spec["flags"].parse()?;
    let [(begin, begin_spec), (find, find_spec)] =
        [step(spec["begin_search"])?, step(spec["find_keys"])?];
    let number = |map: &BTreeMap<&str, ValueRef<'_>>, name: &str| map[name].parse::<i64>();
    if begin == "unknown" || find == "unknown" {
        return Ok(None);
    }
    if find == "keynum" {
        let shape = ["keynumidx", "firstkey", "keystep"].map(|name| number(&find_spec, name));
        assert_eq!(shape, [Ok(0), Ok(1), Ok(1)], "the keys follow their number");
        assert_eq!(begin, "index");
        return Ok(Some(format!("counted({})", number(&begin_spec, "index")?)));
    }
    let [last, step, limit] = ["lastkey", "keystep", "limit"].map(|name| number(&find_spec, name));
    let range = (last?, step?, limit?);
    if begin == "keyword" {
        let word: &str = begin_spec["keyword"].parse()?;
        let from = number(&begin_spec, "startfrom")?;
        return Ok(Some(match (from, range) {
            (1.., (0, 1, 0)) => format!("key_after({word:?}, {from})"),
            (1.., (-1, 1, 2)) => format!("half_after({word:?}, {from})"),
            (-2, (-1, 1, 0)) => format!("all_after_last({word:?})"),
            other => panic!("keys that the client does not understand: {word} {other:?}"),
        }));
    }
    let first = number(&begin_spec, "index")?;
    let is_channel = flags.contains(&"not_key");
    Ok(Some(match range {
        (0, 1, 0) if !is_channel => format!("key({first})"),
        (last, step, 0) if !is_channel => format!("keys({first}, {last}, {step})"),
        (last, 1, 0) => format!("channels({first}, {last})"),
        other => panic!("keys that the client does not understand: {other:?}"),
    }))
}

/// A step of a search for keys: its type, and what belongs to the type.
fn step<'a>(value: ValueRef<'a>) -> Result<(&'a str, BTreeMap<&'a str, ValueRef<'a>>), ValueError> {
    let step: BTreeMap<&str, ValueRef<'a>> = value.parse()?;
    Ok((step["type"].parse()?, step["spec"].parse()?))
}

fn table(valkey: &BTreeMap<String, Description>, redis: &BTreeMap<String, Description>) -> String {
    let mut table = String::from(
        "//! What a valkey-server 8.0 and a redis-server 7.0 answer to `COMMAND`. Not written by hand: the program\n\
         //! `command-table` of the package respire-tests prints this file, and a test compares the two.\n\n\
         use super::*;\n\n\
         pub(super) const ENTRIES: &[Entry] = &[\n",
    );
    let names: BTreeSet<&String> = valkey.keys().chain(redis.keys()).collect();
    for name in names {
        let (command, other, servers) = match (valkey.get(name), redis.get(name)) {
            (Some(valkey), Some(redis)) => (valkey, redis, "BOTH"),
            (Some(valkey), None) => (valkey, valkey, "VALKEY"),
            (None, Some(redis)) => (redis, redis, "REDIS"),
            (None, None) => unreachable!("the name is of one of them"),
        };
        assert_eq!(
            command.key_specs, other.key_specs,
            "{name}: the servers differ on where keys are"
        );
        let mut flags: Vec<&str> = FLAGS
            .iter()
            .filter(|(flag, _, both)| {
                let (first, second) = (command.flags.contains(*flag), other.flags.contains(*flag));
                if *both { first && second } else { first || second }
            })
            .map(|(_, name, _)| *name)
            .collect();
        if !command.subcommands.is_empty() || !other.subcommands.is_empty() {
            flags.push("CONTAINER");
        }
        let flags = if flags.is_empty() { "0".to_owned() } else { flags.join(" | ") };
        // The newer server's, which takes what the older one takes and may take more.
        let (arity, keys) = (command.arity, command.key_specs.join(", "));
        writeln!(table, "    entry({name:?}, {arity}, {flags}, &[{keys}], {servers}),")
            .expect("a string takes it");
    }
    table.push_str("];\n");
    table
}
