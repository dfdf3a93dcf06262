//! Where events come from: llm-d's `kvEventsConfig`.

use std::{num::NonZeroUsize, str::FromStr};

use serde::{Serialize, Serializer};

use super::{ConfigError, json};
use crate::events::Engine;

/// Where the events of engines come from and how they are worked off: llm-d's `kvEventsConfig`.
///
/// Read alone, or as a part of llm-d's whole document, where it stands beside `indexerConfig`.
///
/// | setting | default | meaning |
/// |---|---|---|
/// | `zmqEndpoint` | none | an address that this side binds and engines connect to: `tcp://*:5557` |
/// | `topicFilter` | `kv@` | what a topic has to start with |
/// | `concurrency` | 4 | how many pods' events are worked off at the same time |
/// | `engineType` | `vllm` | `vllm` or `sglang` |
/// | `discoverPods` | `true` | whether pods are looked for in Kubernetes; see [`pod_discovery`](Self::pod_discovery) |
/// | `podDiscoveryConfig` | | see [`PodDiscoveryConfig`] |
///
/// ```
/// use respire_kvblock::EventsConfig;
///
/// let config: EventsConfig = r#"{ "kvEventsConfig": { "zmqEndpoint": "tcp://*:5557", "concurrency": 8 } }"#.parse()?;
/// assert_eq!(config.concurrency.get(), 8);
/// assert_eq!(config.topic_filter, "kv@");
/// # Ok::<(), respire_kvblock::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventsConfig {
    /// An address that this side binds, and to which engines connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zmq_endpoint: Option<String>,
    /// What the topics of messages start with.
    pub topic_filter: String,
    /// How many pods' events are worked off at the same time.
    pub concurrency: NonZeroUsize,
    /// Whose events they are.
    #[serde(rename = "engineType", serialize_with = "serialize_engine")]
    pub engine: Engine,
    /// Whether pods are looked for in Kubernetes. This library does not: who does finds the settings for it here.
    pub discover_pods: bool,
    /// How pods are looked for, and the ports at which their events are to be had.
    #[serde(rename = "podDiscoveryConfig")]
    pub pod_discovery: PodDiscoveryConfig,
}

/// llm-d's defaults.
impl Default for EventsConfig {
    fn default() -> Self {
        Self {
            zmq_endpoint: None,
            topic_filter: "kv@".to_owned(),
            concurrency: NonZeroUsize::new(4).expect("4 is not 0"),
            engine: Engine::default(),
            discover_pods: true,
            pod_discovery: PodDiscoveryConfig::default(),
        }
    }
}

impl FromStr for EventsConfig {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        json::events_config(&json::document(text)?)
    }
}

/// How pods are looked for in Kubernetes, and where they publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodDiscoveryConfig {
    /// The labels of the pods: `podLabelSelector`, `llm-d.ai/inference-serving=true` by default.
    pub pod_label_selector: String,
    /// Their namespace: `podNamespace`; empty, the default, for all.
    pub pod_namespace: String,
    /// The port at which a pod publishes: `socketPort`, 5557 by default.
    pub socket_port: u16,
    /// The port at which a pod sends again what was missed: `replaySocketPort`. `None`, the default, for no such port; in
    /// JSON that is any number below 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_socket_port: Option<u16>,
}

impl Default for PodDiscoveryConfig {
    fn default() -> Self {
        Self {
            pod_label_selector: "llm-d.ai/inference-serving=true".to_owned(),
            pod_namespace: String::new(),
            socket_port: 5557,
            replay_socket_port: None,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn serialize_engine<S: Serializer>(engine: &Engine, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(engine)
}
