//! Servers that announce that they will go.
//!
//! Redis Enterprise and what is built like it say so in a push, `MOVING number seconds address`: after so many seconds the
//! connection will end, and the address, or the one that was connected to where there is none, leads to a successor.

use std::{
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
    time::Duration,
};

use respire_codec::{Frame, Value};
use tokio::runtime::Handle;

use super::{keeper, link::Link};
use crate::{
    config::Address,
    lock::lock,
    session::push::{ConnectionId, PushSink},
};

/// More notice than this is taken for so much.
const NOTICE_MAX: Duration = Duration::from_secs(600);

/// What a server has announced.
#[derive(Debug, PartialEq, Eq)]
struct Moving {
    /// How long the connection will stay.
    notice: Duration,
    /// Where to go, if that is not where the connection was dialled.
    address: Option<Address>,
}

impl Moving {
    fn read(push: &Frame) -> Option<Self> {
        let Value::Push(mut elements) = push.value().get() else { return None };
        if elements.next()?.parse::<&[u8]>().ok()? != b"MOVING" {
            return None;
        }
        let _number = elements.next()?;
        let seconds: u64 = elements.next()?.parse().ok()?;
        let address = elements.next().and_then(|address| address.parse::<&str>().ok());
        Some(Self {
            notice: Duration::from_secs(seconds).min(NOTICE_MAX),
            address: address.and_then(read_address),
        })
    }
}

/// `None` where it is no address. Then the one that was connected to has to do.
fn read_address(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok()?;
    (!host.is_empty()).then(|| Address::Tcp { host: host.to_owned(), port })
}

/// Hands the pushes of a link's connections on, and acts on those that announce a move.
#[derive(Debug)]
pub(super) struct Watchful {
    link: Weak<Link>,
    inner: Arc<dyn PushSink>,
    /// Where connections were started last. A push may come in a runtime that ends with its connection: in that of a driver's
    /// own thread.
    runtime: Mutex<Option<Handle>>,
    /// A move is under way. Another announcement during it says nothing new.
    is_moving: Arc<AtomicBool>,
}

impl Watchful {
    pub(super) fn new(link: Weak<Link>, inner: Arc<dyn PushSink>) -> Self {
        Self { link, inner, runtime: Mutex::default(), is_moving: Arc::default() }
    }

    /// A connection is being started. In this runtime goes on what outlives it.
    pub(super) fn start_here(&self) {
        if let Ok(runtime) = Handle::try_current() {
            *lock(&self.runtime) = Some(runtime);
        }
    }
}

impl PushSink for Watchful {
    fn handle_push(&self, connection: ConnectionId, push: Frame, woken: &mut Vec<Waker>) {
        // This is under the connection's lock, so that all that is done is left to a task.
        if let Some(moving) = Moving::read(&push)
            && let Some(runtime) = lock(&self.runtime).clone()
            && !self.is_moving.swap(true, Ordering::SeqCst)
        {
            let done = Done(Arc::clone(&self.is_moving));
            runtime.spawn(follow(Weak::clone(&self.link), connection, moving, done));
        }
        self.inner.handle_push(connection, push, woken);
    }

    fn handle_end(&self, connection: ConnectionId, woken: &mut Vec<Waker>) {
        self.inner.handle_end(connection, woken);
    }

    fn is_urgent(&self) -> bool {
        self.inner.is_urgent()
    }
}

/// Says at its end that no move is under way.
struct Done(Arc<AtomicBool>);

impl Drop for Done {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// Has a connection replaced by one to where its server says that it moves.
async fn follow(link: Weak<Link>, id: ConnectionId, moving: Moving, _done: Done) {
    let Moving { notice, address } = moving;
    tracing::debug!(?notice, ?address, "the server announces that it will go");
    if address.is_none() {
        // The address leads elsewhere during that time, and does not yet.
        tokio::time::sleep(notice / 2).await;
    }
    let old = link.upgrade().and_then(|link| link.present()).filter(|present| present.id() == id);
    if let Some(old) = old {
        keeper::replace(link, old, address).await;
    }
}

#[cfg(test)]
mod tests {
    use respire_codec::Decoder;

    use super::*;

    fn read(wire: &str) -> Option<Moving> {
        let frame = Decoder::default().decode(&mut bytes::BytesMut::from(wire));
        Moving::read(&frame.unwrap().unwrap())
    }

    fn at(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn an_announcement_says_when_and_where() {
        for (address, expected) in [
            ("$14\r\n10.0.0.7:12000\r\n", Some(at("10.0.0.7", 12000))),
            ("+node.internal:1\r\n", Some(at("node.internal", 1))),
            ("$9\r\n[::1]:443\r\n", Some(at("::1", 443))),
            ("_\r\n", None),
            ("+nowhere\r\n", None),
            ("+:6379\r\n", None),
            ("+a:70000\r\n", None),
            (":7\r\n", None),
        ] {
            let moving = read(&format!(">4\r\n+MOVING\r\n:1\r\n:15\r\n{address}"));
            let notice = Duration::from_secs(15);
            assert_eq!(moving, Some(Moving { notice, address: expected }), "{address:?}");
        }
        let long = read(">3\r\n$6\r\nMOVING\r\n:1\r\n:99999999\r\n").unwrap();
        assert_eq!(long, Moving { notice: NOTICE_MAX, address: None });
    }

    #[test]
    fn what_is_no_announcement_is_none() {
        for wire in [
            ">2\r\n+invalidate\r\n_\r\n",
            ">1\r\n+MOVING\r\n",
            ">2\r\n+MOVING\r\n:1\r\n",
            ">3\r\n+MOVING\r\n:1\r\n:-1\r\n",
            ">3\r\n+MIGRATING\r\n:1\r\n:2\r\n",
            ">1\r\n*0\r\n",
            "*3\r\n+MOVING\r\n:1\r\n:2\r\n",
        ] {
            assert_eq!(read(wire), None, "{wire:?}");
        }
    }
}
