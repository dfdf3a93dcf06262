//! Examines a server that is to keep a KV-block index, and says what to change.
//!
//! What the settings of the server have to be is the index's to say ([`respire_kvblock::check_server`]); what a connection to
//! it shows is looked at here, and whether this machine could connect by RDMA. Every check looks at one thing and none changes
//! anything. What belongs to one transport only is a check like the others, which finds nothing to say of the rest.

mod checks;
#[cfg(all(feature = "rdma", target_os = "linux"))]
mod rdma;

use std::fmt;
use std::time::{Duration, Instant};

use respire::commands::*;
use respire::{Client, Config, Protocol};
use respire_kvblock::{IndexError, Severity};
use serde::Serialize;

use self::checks::{CHECKS, Facts};
use crate::store::server_name;

/// How often the server is asked for nothing, to see how long a round trip takes.
const ROUND_TRIPS: usize = 50;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Neither good nor bad, but to be known.
    Note,
    /// Something to change.
    Warning,
}

/// What one check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at; a setting by its name.
    pub check: &'static str,
    /// How much it matters.
    pub level: Level,
    /// How it is.
    pub found: String,
    /// What to change, and why; or what follows.
    pub advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, level: Level::Ok, found: found.into(), advice: None }
    }

    fn note(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Note, found: found.into(), advice: Some(advice.into()) }
    }

    fn warning(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, level: Level::Warning, found: found.into(), advice: Some(advice.into()) }
    }
}

/// What was found of a server. `Display` is for people, JSON for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Examination {
    /// Its address and database, without credentials.
    pub server: String,
    /// What was found, in a fixed order of checks.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_fine(&self) -> bool {
        self.findings.iter().all(|finding| finding.level != Level::Warning)
    }

    /// One JSON object, without an end of line.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and a list of texts are JSON")
    }
}

impl fmt::Display for Examination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.server)?;
        for finding in &self.findings {
            let level = match finding.level {
                Level::Ok => "ok",
                Level::Note => "note",
                Level::Warning => "warning",
            };
            write!(f, "\n{level:<8} {:<24} {}", finding.check, finding.found)?;
            if let Some(advice) = &finding.advice {
                write!(f, "\n{:33} {advice}", "")?;
            }
        }
        Ok(())
    }
}

/// Examines the server of these settings.
///
/// # Errors
///
/// When it cannot be reached, or does not let itself be asked.
pub async fn examine(config: &Config) -> Result<Examination, DoctorError> {
    let client = Client::with_config(config.clone()).await?;
    let facts = Facts {
        info: client.info([""; 0]).await?,
        round_trips: round_trips(&client).await?,
        speaks_resp3: client.protocol() == Some(Protocol::Resp3),
    };
    let report = respire_kvblock::check_server(&client).await?;
    let mut findings = vec![Finding::ok("version", report.server)];
    findings.extend(CHECKS.iter().filter_map(|check| check(&facts)));
    findings.extend(report.findings.into_iter().map(|finding| Finding {
        check: finding.setting,
        level: match finding.severity {
            Severity::Notice => Level::Note,
            Severity::Warning => Level::Warning,
        },
        found: finding.found,
        advice: Some(finding.advice.to_owned()),
    }));
    #[cfg(all(feature = "rdma", target_os = "linux"))]
    findings.extend(rdma::look().await);
    Ok(Examination { server: server_name(config), findings })
}

/// Why a server cannot be examined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DoctorError {
    /// It cannot be reached, or does not answer.
    #[error("the server does not answer")]
    Server(#[from] respire::Error),
    /// It does not tell what it is.
    #[error("the server does not tell what it is")]
    Settings(#[from] IndexError),
}

/// How long each of some round trips took, the shortest first.
async fn round_trips(client: &Client) -> Result<Vec<Duration>, respire::Error> {
    let mut took = Vec::with_capacity(ROUND_TRIPS);
    for _ in 0..ROUND_TRIPS {
        let start = Instant::now();
        client.ping().await?;
        took.push(start.elapsed());
    }
    took.sort();
    Ok(took)
}

#[cfg(test)]
mod tests;
