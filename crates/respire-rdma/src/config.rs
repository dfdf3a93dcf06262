//! What connections over RDMA are made with.

use std::{io, time::Duration};

use respire::{TcpConfig, transport::Parameters};

/// The settings of connections over RDMA, in code or as parameters of a URL.
///
/// ```
/// use respire_rdma::{RdmaConfig, Requirement};
///
/// let rdma = RdmaConfig::new().with_device("mlx5_0").with_requirement(Requirement::Preferred);
/// let config: respire::Config = "valkey://10.0.0.7:6379".parse()?;
/// let config = config.with_connector(rdma.connector());
///
/// // The same, where the transport was registered.
/// let config: respire::Config = "valkey+rdma://10.0.0.7:6379?rdma_device=mlx5_0&rdma=preferred".parse()?;
/// # let _ = config;
/// # Ok::<(), respire::Error>(())
/// ```
///
/// # URL parameters
///
/// | parameter | meaning |
/// |---|---|
/// | `rdma_device` | [`with_device`](Self::with_device) |
/// | `rx_size` | [`with_receive_bytes`](Self::with_receive_bytes); `1048576`, `1024kb`, `1mb` |
/// | `rdma` | [`with_requirement`](Self::with_requirement); `required`, `preferred` |
///
/// They go before what was set in code.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct RdmaConfig {
    device: Option<String>,
    receive_bytes: u32,
    send_bytes: u32,
    requirement: Requirement,
    attempt_max: Duration,
    probe_after: Option<Duration>,
    announced_within: Duration,
    tcp: TcpConfig,
}

/// What is done where a connection over RDMA cannot be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Requirement {
    /// It is an error.
    #[default]
    Required,
    /// It is made over TCP, to the same host and port, and the log says so as a warning with the reason.
    Preferred,
}

impl Default for RdmaConfig {
    fn default() -> Self {
        Self {
            device: None,
            // As much as a server announces unless it is told otherwise.
            receive_bytes: 1024 * 1024,
            send_bytes: 1024 * 1024,
            requirement: Requirement::Required,
            attempt_max: Duration::from_secs(2),
            probe_after: Some(Duration::from_secs(10)),
            announced_within: Duration::from_secs(30),
            tcp: TcpConfig::new(),
        }
    }
}

impl RdmaConfig {
    /// The least memory of a direction. Less costs a message of the flow control for every few replies.
    pub const BUFFER_BYTES_MIN: u32 = 4 * 1024;

    /// The most memory of a direction: the most that a server takes as `rdma-rx-size`.
    pub const BUFFER_BYTES_MAX: u32 = 16 * 1024 * 1024;

    /// The shortest time after which a quiet connection is probed. With none, a connection would do nothing else.
    pub const PROBE_AFTER_MIN: Duration = Duration::from_secs(1);

    /// The longest that the announcement of a server's memory is waited for: a day.
    pub const ANNOUNCED_WITHIN_MAX: Duration = Duration::from_secs(24 * 60 * 60);

    /// The defaults: any device, 1 MiB a direction, RDMA required.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the device that connections have to go through, by the name that `rdma link` shows without its port. Without it,
    /// the routing tables choose.
    pub fn with_device(mut self, name: impl Into<String>) -> Self {
        self.device = Some(name.into());
        self
    }

    /// Sets how much memory a server writes replies to, a connection; 1 MiB where nothing is set. It is brought into the range of
    /// [`BUFFER_BYTES_MIN`](Self::BUFFER_BYTES_MIN) and [`BUFFER_BYTES_MAX`](Self::BUFFER_BYTES_MAX). It is locked in
    /// memory, and the server locks as much for it on its side. Replies may be larger.
    pub fn with_receive_bytes(mut self, bytes: u32) -> Self {
        self.receive_bytes = bytes.clamp(Self::BUFFER_BYTES_MIN, Self::BUFFER_BYTES_MAX);
        self
    }

    /// Sets how much memory requests are written from, a connection; 1 MiB where nothing is set, within the same range. With less
    /// than the server's `rdma-rx-size`, large requests wait for the network card now and then.
    pub fn with_send_bytes(mut self, bytes: u32) -> Self {
        self.send_bytes = bytes.clamp(Self::BUFFER_BYTES_MIN, Self::BUFFER_BYTES_MAX);
        self
    }

    /// Sets what is done where a connection over RDMA cannot be made; without being set, that is an error.
    pub fn with_requirement(mut self, requirement: Requirement) -> Self {
        self.requirement = requirement;
        self
    }

    /// Sets how long an attempt over RDMA may take where TCP is there to fall back to; 2 s where nothing is set. The
    /// client's connect timeout is for both together.
    pub fn with_attempt_max(mut self, time: Duration) -> Self {
        self.attempt_max = time;
        self
    }

    /// Sets after how long a connection on which nothing is sent and nothing heard is probed, so that a dead link is
    /// noticed; `None` for never, 10 s where nothing is set. A server that is well sends something every three seconds.
    /// At least [`PROBE_AFTER_MIN`](Self::PROBE_AFTER_MIN).
    pub fn with_probe_after(mut self, time: Option<Duration>) -> Self {
        self.probe_after = time.map(|time| time.max(Self::PROBE_AFTER_MIN));
        self
    }

    /// Sets how long a server that has accepted a connection may take to announce its memory; 30 s where nothing is set. One that is
    /// busy takes as long as its slowest command. At most [`ANNOUNCED_WITHIN_MAX`](Self::ANNOUNCED_WITHIN_MAX).
    pub fn with_announced_within(mut self, time: Duration) -> Self {
        self.announced_within = time.min(Self::ANNOUNCED_WITHIN_MAX);
        self
    }

    /// Sets how TCP connections are dialled where it is fallen back to TCP.
    pub fn with_tcp(mut self, tcp: TcpConfig) -> Self {
        self.tcp = tcp;
        self
    }

    /// The device, if one is named.
    pub fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// How much memory a server writes replies to.
    pub fn receive_bytes(&self) -> u32 {
        self.receive_bytes
    }

    /// How much memory requests are written from.
    pub fn send_bytes(&self) -> u32 {
        self.send_bytes
    }

    /// What is done where a connection over RDMA cannot be made.
    pub fn requirement(&self) -> Requirement {
        self.requirement
    }

    pub(crate) fn attempt_max(&self) -> Duration {
        self.attempt_max
    }

    pub(crate) fn probe_after(&self) -> Option<Duration> {
        self.probe_after
    }

    pub(crate) fn announced_within(&self) -> Duration {
        self.announced_within
    }

    pub(crate) fn tcp(&self) -> &TcpConfig {
        &self.tcp
    }

    /// These settings with what a URL says.
    pub(crate) fn with_parameters(&self, parameters: &Parameters) -> io::Result<Self> {
        let mut config = self.clone();
        for (name, value) in parameters.iter() {
            config = match name {
                "rdma_device" if value.is_empty() => return Err(bad(name, "is empty")),
                "rdma_device" => config.with_device(value),
                "rx_size" => config.with_receive_bytes(size(name, value)?),
                "rdma" => config.with_requirement(match value {
                    "required" => Requirement::Required,
                    "preferred" => Requirement::Preferred,
                    _ => return Err(bad(name, "is not one of required, preferred")),
                }),
                _ => return Err(Parameters::unknown(name)),
            };
        }
        Ok(config)
    }
}

/// A length within the range, as Valkey's configuration spells it: bytes, or 1024 or 1024² of them.
fn size(name: &str, text: &str) -> io::Result<u32> {
    let lower = text.to_ascii_lowercase();
    let (digits, unit) = match (lower.strip_suffix("kb"), lower.strip_suffix("mb")) {
        (Some(digits), _) => (digits, 1024),
        (_, Some(digits)) => (digits, 1024 * 1024),
        _ => (&*lower, 1),
    };
    // `u32::from_str` would take a sign.
    Some(digits)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse::<u32>().ok()?.checked_mul(unit))
        .filter(|bytes| {
            (RdmaConfig::BUFFER_BYTES_MIN..=RdmaConfig::BUFFER_BYTES_MAX).contains(bytes)
        })
        .ok_or_else(|| bad(name, "is not a length from 4kb to 16mb"))
}

fn bad(name: &str, reason: &str) -> io::Error {
    let text = format!("the URL parameter {name} {reason}");
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
