//! Which of several connections a request takes, so that large values do not stall small ones.

use std::sync::Arc;

use super::{link::Link, rotation::Rotation};
use crate::{
    config::{Config, WhenDown},
    connection::Connection,
    error::Error,
    session::push::PushSink,
    stats::{Stats, Totals},
};

/// A class of requests that have connections of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Main,
    /// For requests that are large, or whose replies are said to be.
    Bulk,
}

/// The connections that tasks share, by lane. All but the first connect when they are first wanted.
pub(super) struct Lanes {
    /// Not empty.
    main: Box<[Arc<Link>]>,
    /// Empty where there is no such lane.
    bulk: Box<[Arc<Link>]>,
    bulk_bytes_min: usize,
}

impl Lanes {
    pub(super) fn new(
        config: &Arc<Config>,
        sink: &Arc<dyn PushSink>,
        totals: &Arc<Totals>,
        rotation: &Arc<Rotation>,
    ) -> Self {
        let link = |_| {
            let (config, sink) = (Arc::clone(config), Arc::clone(sink));
            Link::new(config, sink, Arc::clone(totals), Arc::clone(rotation))
        };
        let links = |count: usize| (0..count).map(link).collect();
        let bulk_bytes_min = config.bulk_bytes_min();
        let (main, bulk) = config.lane_connections();
        Self {
            main: links(main),
            bulk: links(if bulk_bytes_min.is_some() { bulk } else { 0 }),
            bulk_bytes_min: bulk_bytes_min.unwrap_or(usize::MAX),
        }
    }

    /// The lane for a request of so many bytes; `bulk` says that it is to be taken for a large one anyway.
    pub(super) fn lane(&self, bytes: usize, bulk: bool) -> Lane {
        match !self.bulk.is_empty() && (bulk || bytes >= self.bulk_bytes_min) {
            true => Lane::Bulk,
            false => Lane::Main,
        }
    }

    /// The link that is connected first and stays.
    pub(super) fn first(&self) -> &Arc<Link> {
        &self.main[0]
    }

    fn links(&self, lane: Lane) -> &[Arc<Link>] {
        match lane {
            Lane::Main => &self.main,
            Lane::Bulk => &self.bulk,
        }
    }

    /// The link to take in a lane. Of several, the one of two with less under way.
    pub(super) fn link(&self, lane: Lane) -> &Arc<Link> {
        let (one, other) = match self.links(lane) {
            [only] => return only,
            links => {
                let one = rand::random_range(0..links.len());
                let other = (one + rand::random_range(1..links.len())) % links.len();
                (&links[one], &links[other])
            }
        };
        // One that is not connected is dialled, but not waited for while another is there.
        let load = |link: &Arc<Link>| {
            let connection = link.connection(WhenDown::FailFast).ok()?;
            connection.bytes_under_way()
        };
        match (load(one), load(other)) {
            (Some(of_one), Some(of_other)) if of_other < of_one => other,
            (None, Some(_)) => other,
            _ => one,
        }
    }

    /// The server has shown that it is no primary any more: connections are made anew, since its name may lead elsewhere.
    pub(super) fn suspect(&self) {
        self.main.iter().chain(&self.bulk).for_each(Link::suspect);
    }

    /// Why a lane has no connection, if attempts to make one have failed.
    pub(super) fn why_down(&self, lane: Lane) -> Option<Error> {
        self.links(lane).iter().find_map(|link| link.why_down())
    }

    /// Adds what has happened on the connections that are there.
    pub(super) fn add_stats(&self, stats: &mut Stats) {
        for connection in self.main.iter().chain(&self.bulk).flat_map(|link| link.connections()) {
            stats.add(&connection.stats());
        }
    }

    /// Takes no more requests. Returns the connections that may have some under way.
    pub(super) fn close(&self) -> Vec<Arc<Connection>> {
        self.main.iter().chain(&self.bulk).flat_map(|link| link.close()).collect()
    }
}
