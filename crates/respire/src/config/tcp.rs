//! What a TCP connection is given.

use std::{net::IpAddr, time::Duration};

/// How TCP connections are dialled and kept. They never hold back a small packet to send it with more (`TCP_NODELAY`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct TcpConfig {
    keepalive: Option<Keepalive>,
    unacknowledged_max: Option<Duration>,
    head_start: Duration,
    local_address: Option<IpAddr>,
}

/// How the system asks an idle connection's peer whether it is still there. The system counts in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// The first probe is sent after nothing came for this long.
    pub idle: Duration,
    /// The next ones are sent after this long without an answer.
    pub interval: Duration,
    /// The connection ends when so many were not answered.
    pub probes: u32,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(15),
                interval: Duration::from_secs(5),
                probes: 3,
            }),
            // The system's own limit is a quarter of an hour.
            unacknowledged_max: Some(Duration::from_secs(30)),
            // RFC 8305, section 8, recommends it.
            head_start: Duration::from_millis(250),
            local_address: None,
        }
    }
}

impl TcpConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how an idle connection is probed, `None` for not at all; without being set, after 15 s and then every 5 s,
    /// three times.
    pub fn with_keepalive(mut self, keepalive: Option<Keepalive>) -> Self {
        self.keepalive = keepalive;
        self
    }

    /// Sets how long what was sent, or a probe, may stay unacknowledged before the connection ends (`TCP_USER_TIMEOUT`, on
    /// Linux and Android only; in place of the number of probes there); 30 s where nothing is set, `None` for the
    /// system's own limit.
    pub fn with_unacknowledged_max(mut self, limit: Option<Duration>) -> Self {
        self.unacknowledged_max = limit;
        self
    }

    /// Sets how long each of a host's addresses is tried before the next one is tried beside it; 250 ms where nothing is
    /// set.
    pub fn with_head_start(mut self, head_start: Duration) -> Self {
        self.head_start = head_start;
        self
    }

    /// Connects from this address of the machine, and so to addresses of its family only.
    pub fn with_local_address(mut self, address: IpAddr) -> Self {
        self.local_address = Some(address);
        self
    }

    pub(crate) fn keepalive(&self) -> Option<Keepalive> {
        self.keepalive
    }

    pub(crate) fn unacknowledged_max(&self) -> Option<Duration> {
        self.unacknowledged_max
    }

    pub(crate) fn head_start(&self) -> Duration {
        self.head_start
    }

    pub(crate) fn local_address(&self) -> Option<IpAddr> {
        self.local_address
    }
}
