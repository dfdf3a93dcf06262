//! Who is subscribed to what, and what the server has yet to be told. No I/O, no clock, no task.
//!
//! For each name the registry knows who wants it and whether the server has it. Where the two differ, a command goes out;
//! at most one a name is under way, so that a subscription that comes and goes quickly costs no queue. Each command has
//! one name, and the server answers commands in order: a confirmation or an error belongs to the oldest one, and an error
//! is the affair of that name alone.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use respire_codec::{Kind, Value, ValueRef, encode};
use slab::Slab;

use super::{
    SubscriptionStats,
    event::{EventQueue, Message, Note},
    name::{ChannelKind, Name, Word},
};
use crate::{client::is_passing, error::Error, reply::ServerError};

/// Names a subscription, until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SubscriberId(usize);

#[derive(Debug, Default)]
pub(super) struct Registry {
    /// One map a kind, so that a name that was received is looked up without a copy.
    channels: [HashMap<Bytes, Channel>; 3],
    subscribers: Slab<Subscriber>,
    /// Names of which the server may have to be told something; each at most once.
    changed: VecDeque<Name>,
    /// Names that the server could not serve for now, to be asked for again.
    postponed: Vec<Name>,
    /// What was asked and is not answered, oldest first.
    asked: VecDeque<Asked>,
    /// What has happened; what was dropped is that of subscribers who are gone.
    counted: SubscriptionStats,
}

#[derive(Debug, Default)]
struct Channel {
    members: Vec<Member>,
    /// As of the server's last answer.
    on_server: bool,
    /// A command of it is under way.
    asked: bool,
    /// It is in `changed` or in `postponed`.
    queued: bool,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    subscriber: usize,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Somebody waits for the server to confirm it.
    Joining,
    Joined,
    /// It was joined, and the server has to be asked again.
    Returning,
}

#[derive(Debug)]
struct Subscriber {
    queue: Arc<EventQueue>,
    /// Where there is no connection, it waits for one.
    is_patient: bool,
    names: HashSet<Name>,
    joining: usize,
    returning: usize,
    /// It was told of an interruption, and not yet of the end of it.
    interrupted: bool,
    /// Why joining failed.
    failure: Option<Error>,
    waiter: Option<Waker>,
}

#[derive(Debug)]
enum Asked {
    Subscribe(Name),
    Unsubscribe(Name),
    Ping,
}

impl Registry {
    /// A subscriber of nothing yet. One that is patient does not learn of attempts to connect that fail.
    pub(super) fn add(&mut self, queue: Arc<EventQueue>, is_patient: bool) -> SubscriberId {
        SubscriberId(self.subscribers.insert(Subscriber {
            queue,
            is_patient,
            names: HashSet::new(),
            joining: 0,
            returning: 0,
            interrupted: false,
            failure: None,
            waiter: None,
        }))
    }

    pub(super) fn remove(&mut self, id: SubscriberId) {
        let names = std::mem::take(&mut self.subscribers[id.0].names);
        for name in names {
            self.detach(id.0, &name);
        }
        let subscriber = self.subscribers.remove(id.0);
        self.counted.dropped += subscriber.queue.dropped();
    }

    /// What has happened and what there is, but for connections.
    pub(super) fn stats(&self) -> SubscriptionStats {
        let dropped = self.subscribers.iter().map(|(_, subscriber)| subscriber.queue.dropped());
        SubscriptionStats {
            subscriptions: self.subscribers.len() as u64,
            channels: self.channels.iter().map(|channels| channels.len() as u64).sum(),
            dropped: self.counted.dropped + dropped.sum::<u64>(),
            ..self.counted
        }
    }

    /// Whether nobody wants anything.
    pub(super) fn is_unused(&self) -> bool {
        self.channels.iter().all(HashMap::is_empty)
    }

    /// Whether the server owes an answer.
    pub(super) fn is_awaiting(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether names wait for [`retry`](Self::retry).
    pub(super) fn is_postponing(&self) -> bool {
        !self.postponed.is_empty()
    }

    pub(super) fn names(&self, id: SubscriberId) -> impl Iterator<Item = &Name> {
        self.subscribers[id.0].names.iter()
    }

    /// Adds names to a subscription, and returns those that are new to it. [`poll_joined`](Self::poll_joined) tells when
    /// the server has confirmed all.
    pub(super) fn join(&mut self, id: SubscriberId, names: Vec<Name>) -> Vec<Name> {
        let subscriber = &mut self.subscribers[id.0];
        subscriber.failure = None;
        let mut new = Vec::new();
        for name in names {
            if !subscriber.names.insert(name.clone()) {
                continue;
            }
            let channel = self.channels[name.kind.index()].entry(name.text.clone()).or_default();
            let is_there = channel.on_server && !channel.asked;
            let standing = if is_there { Standing::Joined } else { Standing::Joining };
            subscriber.joining += usize::from(!is_there);
            channel.members.push(Member { subscriber: id.0, standing });
            new.push(name);
        }
        for name in &new {
            self.touch(name);
        }
        new
    }

    /// Whether the server has confirmed what was joined, or refused some of it.
    pub(super) fn poll_joined(
        &mut self,
        id: SubscriberId,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let subscriber = &mut self.subscribers[id.0];
        if let Some(error) = subscriber.failure.take() {
            return Poll::Ready(Err(error));
        }
        if subscriber.joining == 0 {
            return Poll::Ready(Ok(()));
        }
        match &mut subscriber.waiter {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Takes names out of a subscription.
    pub(super) fn leave(&mut self, id: SubscriberId, names: &[Name], woken: &mut Vec<Waker>) {
        for name in names {
            if self.subscribers[id.0].names.remove(name) {
                self.detach(id.0, name);
            }
        }
        self.check_resumed(id.0, woken);
    }

    fn detach(&mut self, subscriber: usize, name: &Name) {
        let Some(channel) = self.channels[name.kind.index()].get_mut(&name.text) else { return };
        let Some(at) = channel.members.iter().position(|member| member.subscriber == subscriber)
        else {
            return;
        };
        let member = channel.members.swap_remove(at);
        match member.standing {
            Standing::Joining => self.subscribers[subscriber].joining -= 1,
            Standing::Returning => self.subscribers[subscriber].returning -= 1,
            Standing::Joined => {}
        }
        self.touch(name);
    }

    /// Sees to it that the server will be told what it has to be, and forgets a name that nothing is to be known of.
    fn touch(&mut self, name: &Name) {
        let channels = &mut self.channels[name.kind.index()];
        let Some(channel) = channels.get_mut(&name.text) else { return };
        if channel.asked || channel.queued {
            return;
        }
        if channel.on_server == channel.members.is_empty() {
            channel.queued = true;
            self.changed.push_back(name.clone());
        } else if channel.members.is_empty() {
            channels.remove(&name.text);
        }
    }

    /// Appends the next command that is to be sent, if there is one.
    pub(super) fn next_command(&mut self, bytes: &mut BytesMut) -> bool {
        while let Some(name) = self.changed.pop_front() {
            let channels = &mut self.channels[name.kind.index()];
            let Some(channel) = channels.get_mut(&name.text) else { continue };
            channel.queued = false;
            let wanted = !channel.members.is_empty();
            if wanted == channel.on_server {
                self.touch(&name);
                continue;
            }
            channel.asked = true;
            let command = if wanted { name.kind.subscribe() } else { name.kind.unsubscribe() };
            encode::command(bytes, &[command.as_bytes(), &name.text]);
            self.asked.push_back(match wanted {
                true => Asked::Subscribe(name),
                false => Asked::Unsubscribe(name),
            });
            return true;
        }
        false
    }

    /// Appends a `PING`.
    pub(super) fn ping(&mut self, bytes: &mut BytesMut) {
        encode::command(bytes, &["PING"]);
        self.asked.push_back(Asked::Ping);
    }

    /// Asks again for what the server could not serve.
    pub(super) fn retry(&mut self) {
        self.changed.extend(self.postponed.drain(..));
    }

    /// A frame has arrived, of either protocol, and this is what it says.
    ///
    /// # Errors
    ///
    /// It is none that answers what was asked, so that the connection is of no more use.
    pub(super) fn handle_value(
        &mut self,
        value: ValueRef<'_>,
        woken: &mut Vec<Waker>,
    ) -> Result<(), Error> {
        let elements = match value.get() {
            Value::Push(elements) | Value::Array(elements) => elements,
            Value::SimpleError(text) | Value::BulkError(text) => {
                return self.handle_error(ServerError::new(text), woken);
            }
            _ => return self.handle_pong(),
        };
        let mut words = elements.map(string);
        match words.next().flatten().and_then(Word::read) {
            Some(Word::Message(kind)) => self.handle_message(kind, words, woken),
            Some(Word::Subscribed(kind)) => {
                let name = words.next().flatten().unwrap_or_default();
                self.handle_subscribed(kind, name, woken)
            }
            Some(Word::Unsubscribed(kind)) => {
                let name = words.next().flatten().unwrap_or_default();
                self.handle_unsubscribed(kind, name, woken);
                Ok(())
            }
            Some(Word::Pong) => self.handle_pong(),
            None if value.kind() == Kind::Push => Ok(()),
            None => Err(out_of_step()),
        }
    }

    fn handle_message<'a>(
        &mut self,
        kind: ChannelKind,
        mut words: impl Iterator<Item = Option<&'a [u8]>>,
        woken: &mut Vec<Waker>,
    ) -> Result<(), Error> {
        self.counted.messages += 1;
        let mut next = || words.next().flatten().ok_or_else(malformed);
        let subscribed = next()?;
        let Some((name, channel)) = self.channels[kind.index()].get_key_value(subscribed) else {
            // The last who wanted it has gone, and the server does not know yet.
            return Ok(());
        };
        let (channel_name, pattern) = match kind {
            ChannelKind::Pattern => (Bytes::copy_from_slice(next()?), Some(name.clone())),
            ChannelKind::Channel | ChannelKind::Shard => (name.clone(), None),
        };
        let payload = Bytes::copy_from_slice(next()?);
        let message = Message { kind, channel: channel_name, pattern, payload };
        let bytes = message.bytes_len();
        self.counted.delivered += channel.members.len() as u64;
        for member in &channel.members {
            let queue = &self.subscribers[member.subscriber].queue;
            woken.extend(queue.push(message.clone(), bytes));
        }
        Ok(())
    }

    fn handle_subscribed(
        &mut self,
        kind: ChannelKind,
        text: &[u8],
        woken: &mut Vec<Waker>,
    ) -> Result<(), Error> {
        let name = match self.asked.pop_front() {
            Some(Asked::Subscribe(name)) if name.kind == kind && name.text == text => name,
            _ => return Err(out_of_step()),
        };
        let channel = self.answered(&name);
        channel.on_server = true;
        for at in 0..channel.members.len() {
            self.confirm(&name, at, woken);
        }
        self.touch(&name);
        Ok(())
    }

    /// The server has this member's name.
    fn confirm(&mut self, name: &Name, at: usize, woken: &mut Vec<Waker>) {
        let Some(channel) = self.channels[name.kind.index()].get_mut(&name.text) else { return };
        let member = &mut channel.members[at];
        let was = std::mem::replace(&mut member.standing, Standing::Joined);
        let subscriber = member.subscriber;
        let state = &mut self.subscribers[subscriber];
        match was {
            Standing::Joined => {}
            Standing::Joining => {
                state.joining -= 1;
                if state.joining == 0 {
                    woken.extend(state.waiter.take());
                }
            }
            Standing::Returning => {
                state.returning -= 1;
                self.check_resumed(subscriber, woken);
            }
        }
    }

    fn check_resumed(&mut self, subscriber: usize, woken: &mut Vec<Waker>) {
        let subscriber = &mut self.subscribers[subscriber];
        if subscriber.interrupted && subscriber.returning == 0 {
            subscriber.interrupted = false;
            woken.extend(subscriber.queue.mark(Note::Resumed));
        }
    }

    fn handle_unsubscribed(&mut self, kind: ChannelKind, text: &[u8], woken: &mut Vec<Waker>) {
        let is_answer = matches!(
            self.asked.front(),
            Some(Asked::Unsubscribe(name)) if name.kind == kind && name.text == text
        );
        if is_answer {
            self.asked.pop_front();
        }
        let name = Name { kind, text: Bytes::copy_from_slice(text) };
        if is_answer {
            self.answered(&name).on_server = false;
        } else if let Some(channel) = self.channels[kind.index()].get_mut(text) {
            // Nobody has asked: the slot of a sharded channel has moved away, say. The answer to a command that is under
            // way is still to come.
            channel.on_server = false;
            self.interrupt(&name, woken);
        }
        self.touch(&name);
    }

    fn handle_error(&mut self, error: ServerError, woken: &mut Vec<Waker>) -> Result<(), Error> {
        match self.asked.pop_front() {
            // Without anything to answer, it is what a server says before it closes.
            None => Err(Error::closed_by("the server ended it", error)),
            // That it may not be asked whether it is there means that it is.
            Some(Asked::Ping) => Ok(()),
            Some(Asked::Unsubscribe(name)) => {
                // It stays there for nobody. To ask again would be answered in the same way.
                let channel = self.answered(&name);
                channel.on_server = false;
                self.touch(&name);
                Ok(())
            }
            Some(Asked::Subscribe(name)) => {
                self.answered(&name);
                self.refuse(&name, &error, woken);
                Ok(())
            }
        }
    }

    /// The server does not let this name be subscribed to, for now or at all.
    fn refuse(&mut self, name: &Name, error: &ServerError, woken: &mut Vec<Waker>) {
        let channel = &mut self.channels[name.kind.index()].entry(name.text.clone()).or_default();
        let is_passing = is_passing(error.code());
        let stays = |member: &Member| is_passing && member.standing == Standing::Returning;
        let (stay, go): (Vec<Member>, Vec<Member>) =
            std::mem::take(&mut channel.members).into_iter().partition(stays);
        channel.members = stay;
        if channel.members.is_empty() {
            self.channels[name.kind.index()].remove(&name.text);
        } else {
            channel.queued = true;
            self.postponed.push(name.clone());
        }
        let error = Error::server(error.clone());
        for member in go {
            let subscriber = &mut self.subscribers[member.subscriber];
            subscriber.names.remove(name);
            if member.standing == Standing::Joining {
                subscriber.joining -= 1;
                subscriber.failure = Some(error.clone());
                woken.extend(subscriber.waiter.take());
                continue;
            }
            subscriber.returning -= 1;
            let (kind, channel) = (name.kind, name.text.clone());
            let note = Note::Refused { kind, channel, error: error.clone() };
            woken.extend(subscriber.queue.mark(note));
            self.check_resumed(member.subscriber, woken);
        }
    }

    fn handle_pong(&mut self) -> Result<(), Error> {
        match self.asked.pop_front() {
            Some(Asked::Ping) => Ok(()),
            _ => Err(out_of_step()),
        }
    }

    /// The channel of a command that was answered.
    fn answered(&mut self, name: &Name) -> &mut Channel {
        let channel = self.channels[name.kind.index()].entry(name.text.clone()).or_default();
        channel.asked = false;
        channel
    }

    /// Tells who had this name that messages may be missing, until it is there again.
    fn interrupt(&mut self, name: &Name, woken: &mut Vec<Waker>) {
        let Some(channel) = self.channels[name.kind.index()].get_mut(&name.text) else { return };
        for member in &mut channel.members {
            if member.standing != Standing::Joined {
                continue;
            }
            member.standing = Standing::Returning;
            let subscriber = &mut self.subscribers[member.subscriber];
            subscriber.returning += 1;
            if !subscriber.interrupted {
                subscriber.interrupted = true;
                self.counted.interruptions += 1;
                woken.extend(subscriber.queue.mark(Note::Interrupted));
            }
        }
    }

    /// The connection has ended: the server has nothing, and owes nothing. What is wanted will be asked for on the next
    /// one.
    pub(super) fn disconnect(&mut self, woken: &mut Vec<Waker>) {
        self.asked.clear();
        self.changed.clear();
        self.postponed.clear();
        for kind in ChannelKind::ALL {
            let names: Vec<Bytes> = self.channels[kind.index()].keys().cloned().collect();
            for text in names {
                let name = Name { kind, text };
                let channel = self.answered(&name);
                channel.queued = false;
                channel.on_server = false;
                self.interrupt(&name, woken);
                self.touch(&name);
            }
        }
    }

    pub(super) fn is_patient(&self, id: SubscriberId) -> bool {
        self.subscribers[id.0].is_patient
    }

    /// There is no connection for now for those who wait to join: those who are not patient are told.
    pub(super) fn fail_impatient(&mut self, error: &Error, woken: &mut Vec<Waker>) {
        self.fail_joining_if(|subscriber| !subscriber.is_patient, error, woken);
    }

    /// There will be no connection for those who wait to join.
    pub(super) fn fail_joining(&mut self, error: &Error, woken: &mut Vec<Waker>) {
        self.fail_joining_if(|_| true, error, woken);
    }

    fn fail_joining_if(
        &mut self,
        fails: impl Fn(&Subscriber) -> bool,
        error: &Error,
        woken: &mut Vec<Waker>,
    ) {
        let mut left = Vec::new();
        for (key, subscriber) in &mut self.subscribers {
            if subscriber.joining == 0 || !fails(subscriber) {
                continue;
            }
            subscriber.failure = Some(error.clone());
            woken.extend(subscriber.waiter.take());
            left.extend(subscriber.names.iter().map(|name| (key, name.clone())));
        }
        for (key, name) in left {
            let channel = self.channels[name.kind.index()].get(&name.text);
            let joins =
                |member: &Member| member.subscriber == key && member.standing == Standing::Joining;
            if channel.is_some_and(|channel| channel.members.iter().any(joins)) {
                self.subscribers[key].names.remove(&name);
                self.detach(key, &name);
            }
        }
    }

    /// Ends every subscription: what is in their queues can still be read.
    pub(super) fn close(&mut self, error: &Error, woken: &mut Vec<Waker>) {
        self.fail_joining(error, woken);
        woken
            .extend(self.subscribers.iter().filter_map(|(_, subscriber)| subscriber.queue.close()));
    }
}

fn string(value: ValueRef<'_>) -> Option<&[u8]> {
    match value.get() {
        Value::BulkString(text) | Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

fn out_of_step() -> Error {
    Error::protocol("it sent an answer to what was not asked", None)
}

fn malformed() -> Error {
    Error::protocol("it sent a message that is none", None)
}

#[cfg(test)]
mod tests;
