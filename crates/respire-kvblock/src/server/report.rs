//! Whether a server is set up for an index, and what to change.

use std::{collections::HashMap, fmt};

use respire::{Client, Pipeline, Reply};

use crate::IndexError;

const CHECK_FAILED: &str = "failed to ask the server for its settings";

/// The bytes of a field with a pod's address in a tier of usual name, and some room.
const FIELD_BYTES: u64 = 128;

/// Asks a server for what matters to an index in llm-d's layout, and says what to change.
///
/// One round trip. Settings that the server does not tell, because it forbids `CONFIG`, are passed over.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = respire::Client::connect("valkey://127.0.0.1:6379").await?;
/// let report = respire_kvblock::check_server(&client).await?;
/// println!("{}", report.server);
/// for finding in &report.findings {
///     println!("{finding}");
/// }
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// When the server cannot be asked, or refuses `INFO`.
pub async fn check_server(client: &Client) -> Result<ServerReport, IndexError> {
    let failed = |error| IndexError::client(CHECK_FAILED, error);
    let mut pipeline = Pipeline::new();
    pipeline.command(&["INFO"]);
    for setting in ["hash-max-listpack-value", "hash-max-ziplist-value", "save", "appendfsync"] {
        pipeline.command(&["CONFIG", "GET", setting]);
    }
    let replies = client.pipeline(pipeline).await.map_err(failed)?;
    let (info, settings) = replies.split_first().expect("a reply for each of five commands");
    let facts = Facts {
        info: info_fields(info.parse().map_err(failed)?),
        config: settings.iter().flat_map(config_pairs).collect(),
    };
    Ok(facts.report())
}

/// What [`check_server`] has found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerReport {
    /// The server's name and version, such as `valkey 8.0.1`.
    pub server: String,
    /// What could be better, in the order of importance.
    pub findings: Vec<Finding>,
}

impl ServerReport {
    /// Whether something is set up so that the index can be wrong or fail.
    pub fn has_warnings(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Warning)
    }

    /// Says each finding in the log.
    pub(crate) fn log(&self) {
        for finding in &self.findings {
            match finding.severity {
                Severity::Warning => tracing::warn!(server = self.server, "{finding}"),
                Severity::Notice => tracing::info!(server = self.server, "{finding}"),
            }
        }
    }
}

/// One thing about a server that could be better. `Display` is all of it in one sentence or two.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// The setting, as the server names it.
    pub setting: &'static str,
    /// Its value.
    pub found: String,
    /// What follows from it, and what to do.
    pub advice: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}: {}", self.setting, self.found, self.advice)
    }
}

/// How much a [`Finding`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It works, but could be cheaper or safer.
    Notice,
    /// The index can be wrong, or fail.
    Warning,
}

/// What a server says of itself.
struct Facts {
    info: HashMap<String, String>,
    config: HashMap<String, String>,
}

impl Facts {
    fn report(&self) -> ServerReport {
        let mut findings: Vec<Finding> = [
            self.cluster(),
            self.role(),
            self.version(),
            self.eviction(),
            self.persistence(),
            self.memory(),
            self.encoding(),
        ]
        .into_iter()
        .flatten()
        .collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let (name, version) = self.name_and_version();
        ServerReport { server: format!("{name} {version}"), findings }
    }

    fn info(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    fn name_and_version(&self) -> (&str, &str) {
        match self.info("valkey_version") {
            "" => ("redis", self.info("redis_version")),
            version => ("valkey", version),
        }
    }

    fn cluster(&self) -> Option<Finding> {
        let advice = "an index in llm-d's layout sends a lookup to one server. Use a server that is no cluster.";
        (self.info("cluster_enabled") == "1")
            .then(|| warning("cluster-enabled", "yes".to_owned(), advice))
    }

    fn role(&self) -> Option<Finding> {
        let advice = "it refuses what is added and evicted, and may be behind. Use the address of its primary.";
        (self.info("role") == "slave").then(|| warning("role", "replica".to_owned(), advice))
    }

    fn version(&self) -> Option<Finding> {
        let (name, version) = self.name_and_version();
        let major: u32 = version.split('.').next()?.parse().ok()?;
        let found = || version.to_owned();
        match (name, major) {
            ("redis", ..4) => Some(warning("version", found(), "it is too old. Use 6.0 or later.")),
            ("redis", 4..6) => {
                let advice = "it speaks no RESP3 and cannot scan by type, so that a clear reads every key \
                              and nothing can be cached. Use 6.0 or later.";
                Some(notice("version", found(), advice))
            }
            _ => None,
        }
    }

    fn eviction(&self) -> Option<Finding> {
        let policy = self.info("maxmemory_policy");
        if !policy.starts_with("allkeys") {
            // The keys of an index never expire, so that volatile-* leaves them alone.
            return None;
        }
        let found = policy.to_owned();
        if self.info("maxmemory") == "0" {
            let advice = "as soon as maxmemory is set, the server drops keys of the index. Set it to noeviction.";
            return Some(notice("maxmemory-policy", found, advice));
        }
        let advice = "the server drops blocks in the middle of a prefix, and engine keys, without which blocks \
                      that are gone are believed to be held for ever. Set it to noeviction.";
        Some(warning("maxmemory-policy", found, advice))
    }

    fn persistence(&self) -> Option<Finding> {
        if self.info("aof_enabled") == "1" {
            let fsync = self.config.get("appendfsync").filter(|fsync| *fsync != "always")?;
            let advice = "a crash of the machine loses the last changes, so that blocks can be believed to be held \
                          that are gone. Set it to always, or have the pods announce their blocks again after one.";
            return Some(notice("appendfsync", fsync.clone(), advice));
        }
        let save = self.config.get("save")?;
        if save.is_empty() {
            let advice = "a restart forgets the index, and the pods have to announce their blocks again. Set \
                          appendonly to yes to keep it.";
            return Some(notice("appendonly", "no".to_owned(), advice));
        }
        let advice = "a restart brings the index back as it was at the last snapshot: blocks that were evicted since \
                      are believed to be held. Set appendonly to yes to keep everything, or set this to nothing to \
                      start empty.";
        Some(warning("save", format!("{save:?}"), advice))
    }

    fn memory(&self) -> Option<Finding> {
        let advice = "nothing bounds the server's memory but the machine. Set it to less than the machine has, and \
                      maxmemory-policy to noeviction.";
        (self.info("maxmemory") == "0").then(|| notice("maxmemory", "0".to_owned(), advice))
    }

    fn encoding(&self) -> Option<Finding> {
        let names = ["hash-max-listpack-value", "hash-max-ziplist-value"];
        let (setting, found) =
            names.into_iter().find_map(|name| Some((name, self.config.get(name)?)))?;
        let advice = "a field of the index has about a hundred bytes, and above this length a hash takes a third \
                      more memory. Set it to 256, unless fieldFormat is text.";
        let is_short = found.parse::<u64>().is_ok_and(|bytes| bytes < FIELD_BYTES);
        is_short.then(|| notice(setting, found.clone(), advice))
    }
}

fn warning(setting: &'static str, found: String, advice: &'static str) -> Finding {
    Finding { severity: Severity::Warning, setting, found, advice }
}

fn notice(setting: &'static str, found: String, advice: &'static str) -> Finding {
    Finding { severity: Severity::Notice, setting, found, advice }
}

/// The fields of `INFO`, one a line.
fn info_fields(text: &[u8]) -> HashMap<String, String> {
    let text = String::from_utf8_lossy(text);
    let fields = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The settings of a reply to `CONFIG GET`: none where the server has refused.
fn config_pairs(reply: &Reply) -> Vec<(String, String)> {
    reply.parse::<HashMap<String, String>>().unwrap_or_default().into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(info: &[(&str, &str)], config: &[(&str, &str)]) -> ServerReport {
        let owned = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        Facts { info: owned(info), config: owned(config) }.report()
    }

    fn settings(report: &ServerReport) -> Vec<&'static str> {
        report.findings.iter().map(|finding| finding.setting).collect()
    }

    const GOOD: [(&str, &str); 6] = [
        ("redis_version", "7.2.4"),
        ("valkey_version", "8.0.1"),
        ("role", "master"),
        ("maxmemory", "1073741824"),
        ("maxmemory_policy", "noeviction"),
        ("aof_enabled", "1"),
    ];

    #[test]
    fn a_server_that_is_set_up_well_has_no_findings() {
        let config = [("appendfsync", "always"), ("hash-max-listpack-value", "256")];
        let report = report(&GOOD, &config);
        assert_eq!((report.server.as_str(), settings(&report)), ("valkey 8.0.1", vec![]));
        assert!(!report.has_warnings());
    }

    #[test]
    fn what_makes_an_index_wrong_comes_first() {
        let info = [
            ("redis_version", "3.2.0"),
            ("role", "slave"),
            ("cluster_enabled", "1"),
            ("maxmemory", "0"),
            ("maxmemory_policy", "allkeys-lru"),
            ("aof_enabled", "0"),
        ];
        let config = [("save", "3600 1"), ("hash-max-ziplist-value", "64")];
        let report = report(&info, &config);
        assert_eq!(report.server, "redis 3.2.0");
        let expected = [
            "cluster-enabled",
            "role",
            "version",
            "save",
            "maxmemory-policy",
            "maxmemory",
            "hash-max-ziplist-value",
        ];
        assert_eq!(settings(&report), expected);
        assert!(report.has_warnings());
        let severities: Vec<_> = report.findings.iter().map(|finding| finding.severity).collect();
        assert!(severities.is_sorted_by(|a, b| a >= b), "{severities:?}");
    }

    #[test]
    fn a_server_that_tells_little_is_not_accused() {
        let report = report(&[("redis_version", "5.0.7")], &[]);
        assert_eq!(settings(&report), ["version"]);
        assert_eq!(report.findings[0].severity, Severity::Notice);
    }

    #[test]
    fn keys_that_never_expire_are_safe_from_volatile_policies() {
        let mut info = GOOD.to_vec();
        info.push(("maxmemory_policy", "volatile-lru"));
        assert!(!settings(&report(&info, &[])).contains(&"maxmemory-policy"));
        info.push(("maxmemory_policy", "allkeys-lfu"));
        let report = report(&info, &[]);
        assert!(report.has_warnings());
        let text = report.findings[0].to_string();
        assert!(text.starts_with("maxmemory-policy is allkeys-lfu: "), "{text}");
    }

    #[test]
    fn the_fields_of_info_are_read_from_its_lines() {
        let fields = info_fields(b"# Server\r\nredis_version:7.0.15\r\nconfig_file:/a:b\r\n\r\n");
        assert_eq!(fields["redis_version"], "7.0.15");
        assert_eq!(fields["config_file"], "/a:b");
        assert_eq!(fields.len(), 2);
    }
}
