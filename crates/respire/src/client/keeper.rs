//! Replacing connections before it is missed that they are gone.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::{link::Link, rotation::Rotation};
use crate::{
    config::{Address, Config},
    connection::Connection,
};

/// The pause after a replacement that could not be made: the connection that it is for still serves.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether connections with these settings are kept at all.
pub(super) fn is_wanted(config: &Config) -> bool {
    config.connection_age_max().is_some()
        || config.warm_spare()
        || config.credentials_provider().is_some()
}

/// A connection of a link that is looked after as long as it is the present one.
pub(super) struct Kept {
    pub(super) link: Weak<Link>,
    pub(super) connection: Arc<Connection>,
    pub(super) config: Arc<Config>,
    pub(super) rotation: Arc<Rotation>,
    /// The number of the credentials that it was made with, or of older ones.
    pub(super) credentials: u64,
}

impl Kept {
    /// Has it replaced when its time has come, and keeps a spare one beside it.
    pub(super) async fn keep(self) {
        let Self { link, connection, config, rotation, credentials } = self;
        let aged = async {
            // An attempt that fails ends the connection, which is looked at below.
            if connection.opened().await.is_err() {
                std::future::pending::<()>().await;
            }
            match config.connection_age_max() {
                // At random, so that connections that were made together do not end together.
                Some(age) => tokio::time::sleep(age.mul_f64(rand::random_range(0.8..=1.0))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = connection.finished() => {
                if let Some(link) = link.upgrade() {
                    link.promote_spare();
                }
            }
            () = spare(&link, &connection, &config) => {}
            () = aged => replace(link, connection, None).await,
            () = rotation.changed_since(credentials) => replace(link, connection, None).await,
        }
    }
}

/// Dials a connection that takes the place of this one, and has it take it; again after a pause if it cannot be made,
/// until this one is gone. The first attempt is made at another address, if one is given.
pub(super) async fn replace(link: Weak<Link>, old: Arc<Connection>, mut address: Option<Address>) {
    loop {
        // Nothing is held while it is waited, so that the link may go.
        let Some(begun) =
            link.upgrade().and_then(|link| link.start_replacement(&old, address.take()))
        else {
            return;
        };
        match begun {
            Ok(next) if next.opened().await.is_ok() => {
                if let Some(link) = link.upgrade() {
                    link.switch(&old, &next);
                }
                return;
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a replacement cannot be started"),
        }
        tokio::time::sleep(PAUSE.mul_f64(rand::random_range(0.5..=1.0))).await;
    }
}

/// Keeps a spare connection beside the present one.
async fn spare(link: &Weak<Link>, connection: &Arc<Connection>, config: &Config) {
    if !config.warm_spare() || connection.opened().await.is_err() {
        std::future::pending::<()>().await;
    }
    loop {
        let Some(spare) = link.upgrade().and_then(|link| link.spare()) else { return };
        match spare {
            Ok(spare) => spare.finished().await,
            Err(error) => tracing::debug!(%error, "a spare connection cannot be started"),
        }
        tokio::time::sleep(PAUSE.mul_f64(rand::random_range(0.5..=1.0))).await;
    }
}
