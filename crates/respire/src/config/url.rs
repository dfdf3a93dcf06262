//! The URL forms of a [`Config`].

use std::{borrow::Cow, path::PathBuf, sync::Arc, time::Duration};

use respire_codec::Protocol;
use url::Url;

use super::{Address, Config, Tls, TlsConfig, TlsVersion};
use crate::{error::Error, transport::is_name};

/// Every error text is written here and quotes only the parts that cannot hold a credential.
pub(super) fn parse(text: &str) -> Result<Config, Error> {
    if text.trim().is_empty() {
        return Err(Error::config("the URL is empty".to_owned()));
    }
    let prefixed;
    if text.starts_with('/') || text.starts_with("unix:/") && !text.starts_with("unix://") {
        let path = text.trim_start_matches("unix:");
        return Err(Error::config(format!("a Unix socket is written unix://{path}")));
    }
    let text = if text.contains("://") {
        text
    } else {
        prefixed = format!("redis://{text}");
        &prefixed
    };
    refuse_strays(text)?;
    let (text, host_was_absent) = with_host(text);
    let url = Url::parse(&text)
        .map_err(|cause| Error::config(format!("the URL cannot be read: {cause}")))?;
    let (unix, tls, transport) = match url.scheme() {
        "redis" | "valkey" => (false, false, None),
        "rediss" | "valkeys" => (false, true, None),
        "unix" | "redis+unix" | "valkey+unix" => (true, false, None),
        other => match other.split_once('+') {
            Some(("redis" | "valkey", name)) if is_name(name) => (false, false, Some(name.into())),
            Some(("rediss" | "valkeys", name)) if is_name(name) => (false, true, Some(name.into())),
            _ => {
                return Err(Error::config(format!(
                    "the URL scheme {other:?} is not one of redis, rediss, valkey, valkeys, unix, redis+unix, valkey+unix, \
                     redis+NAME, rediss+NAME, valkey+NAME, valkeys+NAME"
                )));
            }
        },
    };
    if url.fragment() == Some("insecure") {
        return Err(Error::config(
            "the URL asks for #insecure: a server's certificate is always checked. Name its CA in the parameter tls_ca".to_owned(),
        ));
    }
    if url.fragment().is_some() {
        return Err(Error::config(
            "the URL has a fragment: write '#' as %23 where it belongs to a name or the password"
                .to_owned(),
        ));
    }
    let (address, path_database) =
        if unix { unix_address(&url, host_was_absent)? } else { tcp_address(&url)? };
    let mut config = Config::new(address);
    if tls {
        config = config.with_tls(TlsConfig::new());
    }
    config.transport = transport;
    credentials(&text, &url, &mut config)?;
    parameters(&url, unix, path_database, &mut config)?;
    Ok(config)
}

/// A '/', '?' or '#' in a password that was not encoded ends the authority early, and the '@' behind the password comes
/// to stand in what follows. Nothing of that may be quoted.
fn refuse_strays(text: &str) -> Result<(), Error> {
    let start = text.find("://").map_or(0, |at| at + 3);
    let rest = text[start..].find(['/', '?', '#']).map_or("", |at| &text[start + at..]);
    let is_path = rest.starts_with('/') && text[..start].contains("unix");
    if rest.contains('@') && !is_path {
        return Err(Error::config(
            "the URL has an '@' behind its host: in a user name, password or parameter, write '/' as %2F, '?' as %3F, \
             '#' as %23 and '@' as %40"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Puts the default host where credentials or a port stand without one, which the URL standard has no place for.
fn with_host(text: &str) -> (Cow<'_, str>, bool) {
    let start = text.find("://").map_or(0, |at| at + 3);
    let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |at| start + at);
    let host = text[start..end].rfind('@').map_or(start, |at| start + at + 1);
    let absent = start < end && (host == end || text[host..end].starts_with(':'));
    if !absent {
        return (Cow::Borrowed(text), false);
    }
    (Cow::Owned(format!("{}localhost{}", &text[..host], &text[host..])), true)
}

fn tcp_address(url: &Url) -> Result<(Address, Option<u32>), Error> {
    let host = match url.host() {
        None => "localhost".to_owned(),
        Some(url::Host::Domain("")) => "localhost".to_owned(),
        Some(url::Host::Domain(name)) => decoded(name, "host")?,
        Some(url::Host::Ipv4(address)) => address.to_string(),
        Some(url::Host::Ipv6(address)) => address.to_string(),
    };
    let port = url.port().unwrap_or(Config::DEFAULT_PORT);
    if port == 0 {
        return Err(Error::config("the port 0 cannot be connected to".to_owned()));
    }
    let path = url.path().trim_start_matches('/').trim_end_matches('/');
    let database = if path.is_empty() { None } else { Some(database(path, "path")?) };
    Ok((Address::Tcp { host, port }, database))
}

fn unix_address(url: &Url, host_was_absent: bool) -> Result<(Address, Option<u32>), Error> {
    if !host_was_absent && url.host_str().is_some_and(|host| !host.is_empty()) {
        return Err(Error::config(
            "a Unix socket's URL has three slashes before the path: unix:///run/valkey.sock"
                .to_owned(),
        ));
    }
    let path = decoded(url.path(), "path")?;
    if path.len() <= 1 {
        return Err(Error::config("the URL of a Unix socket has no path".to_owned()));
    }
    Ok((Address::Unix(PathBuf::from(path)), None))
}

fn credentials(text: &str, url: &Url, config: &mut Config) -> Result<(), Error> {
    let user = decoded(url.username(), "user name")?;
    let password = url.password().map(|text| decoded(text, "password")).transpose()?;
    match password {
        // An empty one is what a user without a password (`nopass`) logs in with; it is written "user:@".
        Some(password) if !password.is_empty() || !user.is_empty() => {
            config.password = Some(password.into());
        }
        None if !user.is_empty() && !has_empty_password(text) => {
            return Err(Error::config(
                "the URL names a user without a password: \":password@\" is a password alone, \"user:@\" a user with none"
                    .to_owned(),
            ));
        }
        None if !user.is_empty() => config.password = Some(String::new().into()),
        _ => {}
    }
    config.user = Some(user).filter(|user| !user.is_empty());
    Ok(())
}

/// Whether a colon follows the user name, with nothing behind it. The parsed URL no longer tells.
fn has_empty_password(text: &str) -> bool {
    let start = text.find("://").map_or(0, |at| at + 3);
    let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |at| start + at);
    text[start..end].rsplit_once('@').is_some_and(|(user, _)| user.ends_with(':'))
}

fn parameters(
    url: &Url,
    unix: bool,
    path_database: Option<u32>,
    config: &mut Config,
) -> Result<(), Error> {
    let mut seen = Vec::new();
    let mut query_database = None;
    let mut tls = TlsParameters::default();
    for (name, value) in url.query_pairs() {
        if seen.contains(&name) {
            return Err(Error::config(format!("the URL parameter {name:?} is given twice")));
        }
        match &*name {
            "db" => query_database = Some(database(&value, "parameter db")?),
            "protocol" => config.protocol = protocol(&value)?,
            "client_name" => config.client_name = Some(value.into_owned()),
            "connect_timeout" => {
                let timeout = duration(&value, "connect_timeout")?;
                if timeout.is_zero() {
                    return Err(Error::config("a connect_timeout of 0 cannot be kept".to_owned()));
                }
                config.connect_timeout = timeout;
            }
            "command_timeout" => {
                let timeout = duration(&value, "command_timeout")?;
                config.command_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
            }
            "tls_ca" => tls.ca = Some(value.into_owned()),
            "tls_cert" => tls.certificate = Some(value.into_owned()),
            "tls_key" => tls.key = Some(value.into_owned()),
            "tls_server_name" => tls.server_name = Some(value.into_owned()),
            "tls_version_min" => tls.version_min = Some(tls_version(&value)?),
            "user" if unix => config.user = Some(value.into_owned()),
            "pass" | "password" if unix => config.password = Some(value.into_owned().into()),
            _ if config.transport.is_some() && is_quotable(&name) => {
                config.parameters.push(&name, &value);
            }
            _ => {
                let name = Some(&name).filter(|name| is_quotable(name));
                let name = name.map_or("\"…\"".to_owned(), |name| format!("{name:?}"));
                return Err(Error::config(format!(
                    "the URL parameter {name} is not one of db, protocol, client_name, connect_timeout, command_timeout, tls_ca, \
                     tls_cert, tls_key, tls_server_name, tls_version_min"
                )));
            }
        }
        seen.push(name);
    }
    tls.apply(config)?;
    config.database = match (path_database, query_database) {
        (Some(path), Some(query)) if path != query => {
            return Err(Error::config(format!(
                "the URL names two databases: {path} in its path and {query} in the parameter db"
            )));
        }
        (path, query) => path.or(query).unwrap_or(0),
    };
    Ok(())
}

/// Whether this may be the name of a parameter, and no stray piece of a password.
fn is_quotable(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[derive(Default, PartialEq)]
struct TlsParameters {
    ca: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    server_name: Option<String>,
    version_min: Option<TlsVersion>,
}

impl TlsParameters {
    fn apply(self, config: &mut Config) -> Result<(), Error> {
        if self == Self::default() {
            return Ok(());
        }
        if !config.uses_tls() {
            return Err(Error::config(
                "the URL has a parameter that begins with tls_ and does not ask for TLS: write rediss:// or valkeys://"
                    .to_owned(),
            ));
        }
        let mut tls = TlsConfig::new().with_version_min(self.version_min.unwrap_or_default());
        if let Some(path) = self.ca {
            tls = tls.with_ca_file(path);
        }
        if let Some(name) = self.server_name {
            tls = tls.with_server_name(name);
        }
        match (self.certificate, self.key) {
            (None, None) => {}
            (Some(certificate), Some(key)) => tls = tls.with_client_files(certificate, key),
            _ => {
                return Err(Error::config(
                    "of the URL parameters tls_cert and tls_key each needs the other; they may name the same file"
                        .to_owned(),
                ));
            }
        }
        config.tls = Some(Arc::new(Tls::new(tls)));
        Ok(())
    }
}

fn tls_version(text: &str) -> Result<TlsVersion, Error> {
    match text {
        "1.2" => Ok(TlsVersion::V1_2),
        "1.3" => Ok(TlsVersion::V1_3),
        _ => Err(Error::config(format!(
            "the URL parameter tls_version_min is {text:?} and not one of 1.2, 1.3"
        ))),
    }
}

fn database(text: &str, place: &str) -> Result<u32, Error> {
    // `u32::from_str` would take a sign.
    Some(text)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::config(format!("the database in the URL's {place} is not a number")))
}

fn protocol(text: &str) -> Result<Protocol, Error> {
    match text.to_ascii_lowercase().as_str() {
        "2" | "resp2" => Ok(Protocol::Resp2),
        "3" | "resp3" => Ok(Protocol::Resp3),
        _ => Err(Error::config(format!(
            "the URL parameter protocol is {text:?} and not one of 2, 3, resp2, resp3"
        ))),
    }
}

fn duration(text: &str, name: &str) -> Result<Duration, Error> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|cause| {
        Error::config(format!("the URL parameter {name} is {text:?}, not a duration: {cause}"))
    })
}

/// Undoes percent-encoding.
fn decoded(text: &str, part: &str) -> Result<String, Error> {
    percent_encoding::percent_decode_str(text)
        .decode_utf8()
        .map(Cow::into_owned)
        .map_err(|_| Error::config(format!("the {part} in the URL is not UTF-8 when decoded")))
}

#[cfg(test)]
mod tests;
