//! The registry: how a client comes to know it, joins incarnations and ends them.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use respire::{Args, Client, Pipeline, Reply, Script};

use super::{BitmapIndex, Call, Registry, Token, is_error, scripts::call, state::Member};
use crate::{IndexError, PodEntry};

/// How often a call begins anew because the registry has changed under it. Each time, somebody else has got further.
pub(super) const ATTEMPTS: usize = 64;

/// How long a caller waits at most for another one to read the registry: many round trips.
const TURN_MAX: Duration = Duration::from_secs(1);

/// A place among the replies to a pipeline, for the registry.
pub(super) struct Asked {
    at: usize,
    ticket: super::state::Ticket,
}

/// What a client wants of a pod's incarnation.
pub(super) struct Wish<'a> {
    pub(super) pod: &'a str,
    pub(super) wanted: Wanted,
    /// What has no column yet.
    pub(super) entries: Vec<&'a PodEntry>,
}

/// Which incarnation to join.
#[derive(Clone, Copy)]
pub(super) enum Wanted {
    Any,
    New,
    Life(u64),
    Just(Token),
}

impl BitmapIndex {
    /// The registry as it is known, with its scripts on the server as far as that is known.
    pub(super) async fn registry(&self) -> Result<Arc<Registry>, IndexError> {
        self.find_registry(&self.client, None, |_| true).await
    }

    /// The same for a call of several requests.
    pub(super) async fn registry_within(&self, call: &Call) -> Result<Arc<Registry>, IndexError> {
        self.find_registry(&call.client, call.deadline, |_| true).await
    }

    /// A later state of the registry than this one, which was found not to be the present one.
    pub(super) async fn refresh(&self, seen: &Registry) -> Result<Arc<Registry>, IndexError> {
        self.find_registry(&self.client, None, |registry| registry.nonce != seen.nonce).await
    }

    /// The same for a call of several requests.
    pub(super) async fn refresh_within(
        &self,
        call: &Call,
        seen: &Registry,
    ) -> Result<Arc<Registry>, IndexError> {
        let is_later = |registry: &Registry| registry.nonce != seen.nonce;
        self.find_registry(&call.client, call.deadline, is_later).await
    }

    /// The registry if what is known of it is enough, else as it is read now: by one caller at a time, for all that wait meanwhile.
    async fn find_registry(
        &self,
        client: &Client,
        deadline: Option<Instant>,
        is_enough: impl Fn(&Registry) -> bool,
    ) -> Result<Arc<Registry>, IndexError> {
        let known = || self.state().ready().filter(|registry| is_enough(registry)).cloned();
        if let Some(registry) = known() {
            return Ok(registry);
        }
        // Whoever reads may have more time than this caller, or may not even be polled. One that has waited in vain reads for itself,
        // by which it learns what its own deadline has to say.
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let most =
            [client.command_timeout(), left].into_iter().flatten().fold(TURN_MAX, Duration::min);
        let turn = tokio::time::timeout(most, self.reading.acquire()).await;
        if let Some(registry) = known() {
            return Ok(registry);
        }
        let registry = self.read_registry_through(client).await;
        drop(turn);
        registry
    }

    /// Reads the registry, and loads the scripts of its generation.
    ///
    /// A server may be told scripts only behind a call that has made sure of its generation, over the same connection: that is why the
    /// registry is read once more with them.
    pub(super) async fn read_registry(&self) -> Result<Arc<Registry>, IndexError> {
        self.read_registry_through(&self.client).await
    }

    async fn read_registry_through(&self, client: &Client) -> Result<Arc<Registry>, IndexError> {
        for _ in 0..ATTEMPTS {
            let mut pipeline = Pipeline::new();
            let asked = self.ask_for_registry(&mut pipeline);
            let unloaded = {
                let state = self.state();
                let known = state.registry().filter(|_| state.ready().is_none());
                known.map(|registry| (registry.generation, Arc::clone(&registry.scripts)))
            };
            if let Some((_, scripts)) = &unloaded {
                scripts.all().into_iter().for_each(|script| load(script, &mut pipeline));
            }
            let loads = asked.at + 1..pipeline.len();
            let replies = client.pipeline(pipeline).await.map_err(failed)?;
            for reply in &replies[loads] {
                super::check(REGISTRY_FAILED, reply)?;
            }
            let loaded = unloaded.map(|(generation, _)| generation);
            if let Some(registry) = self.take_registry(&asked, &replies, loaded, &[])? {
                return Ok(registry);
            }
        }
        Err(IndexError::contended())
    }

    /// Adds the question for the registry to a pipeline.
    pub(super) fn ask_for_registry(&self, pipeline: &mut Pipeline) -> Asked {
        let mut args = Args::default();
        let state = self.state();
        let epoch: [u8; 6] = rand::random();
        args.push(Token::random().as_bytes());
        args.push(Token::random().as_bytes());
        args.push(&epoch);
        args.push(self.writer.as_bytes());
        for (_, member) in state.members() {
            if let Member::Joined { id, acknowledged, generation, .. } = member {
                args.push(id.as_bytes());
                args.push(itoa::Buffer::new().format(acknowledged).as_bytes());
                args.push(generation.as_bytes());
            }
        }
        let asked = Asked { at: pipeline.len(), ticket: state.ticket() };
        drop(state);
        self.attest.key(&self.names.registry()[..]).arg(args).eval::<(), _>(pipeline);
        asked
    }

    /// Takes the answer. `loaded` is a generation whose scripts were loaded right behind the question; `joined` are incarnations that were
    /// joined before it, and in which generation. The registry, if it is ready to be used.
    pub(super) fn take_registry(
        &self,
        asked: &Asked,
        replies: &[Reply],
        loaded: Option<Token>,
        joined: &[(&str, Token, Token)],
    ) -> Result<Option<Arc<Registry>>, IndexError> {
        let fields: Vec<Vec<u8>> = replies[asked.at].parse().map_err(failed)?;
        let foreign = || IndexError::foreign_key(&self.names.registry());
        let (lost, fields) = fields.split_first().ok_or_else(foreign)?;
        let lost: Vec<Token> =
            lost.as_chunks().0.iter().filter_map(|id: &[u8; 16]| Token::read(id)).collect();
        let before = self.state().registry().cloned();
        let registry = Arc::new(Registry::read(fields, before.as_deref()).ok_or_else(foreign)?);
        let mut state = self.state();
        for &(pod, id, joined_in) in joined {
            // It may be over again already, which the next write finds out.
            if let Some(life) = registry.number(id) {
                state.joined(pod, id, life, joined_in);
            }
        }
        let generation = registry.generation;
        state.install(&registry, asked.ticket, &lost);
        if loaded == Some(generation) {
            state.scripts_loaded(generation);
        }
        Ok(state.ready().cloned())
    }

    /// Joins incarnations, and has columns given to entries. What has become of it shows in the state.
    pub(super) async fn join(
        &self,
        registry: &Registry,
        wishes: &[Wish<'_>],
    ) -> Result<(), IndexError> {
        let mut pipeline = Pipeline::new();
        for wish in wishes {
            pipeline.push(self.join_call(registry, wish));
        }
        let asked = self.ask_for_registry(&mut pipeline);
        let replies = self.client.pipeline(pipeline).await.map_err(failed)?;
        let (mut joined, mut refused, mut is_full) = (Vec::new(), Vec::new(), false);
        for (wish, reply) in wishes.iter().zip(&replies) {
            if is_error(reply, "NOSCRIPT") {
                self.state().scripts_unknown(registry.generation);
                continue;
            }
            super::check(REGISTRY_FAILED, reply)?;
            match reply.value().get() {
                respire::Value::BulkString(id) => match Token::read(id) {
                    Some(id) => joined.push((wish.pod, id, registry.generation)),
                    None => refused.push(wish.pod),
                },
                respire::Value::Integer(-1) => is_full = true,
                // Another generation, or writers were taken off; the registry that follows says more.
                _ => {}
            }
        }
        self.take_registry(&asked, &replies, None, &joined)?;
        refused.into_iter().for_each(|pod| self.state().refused(pod));
        if is_full { Err(IndexError::full()) } else { Ok(()) }
    }

    fn join_call(&self, registry: &Registry, wish: &Wish<'_>) -> respire::Command {
        let lease = self.options.lease.map(|lease| lease.as_millis().to_string());
        let wanted = match &wish.wanted {
            Wanted::Any => Vec::new(),
            Wanted::New => b"new".to_vec(),
            Wanted::Life(number) => format!("n{number}").into_bytes(),
            Wanted::Just(id) => id.as_bytes().to_vec(),
        };
        let known = match wish.wanted {
            Wanted::Just(id) => Some(id),
            Wanted::Any | Wanted::New | Wanted::Life(_) => registry.current(wish.pod),
        };
        let taken_off = known.and_then(|id| Some(format!("{id}{}", registry.taken_off(id)?)));
        call(&registry.scripts.join, 1)
            .arg(&self.names.registry()[..])
            .arg(registry.generation.as_bytes())
            .arg(Token::random().as_bytes())
            .arg(self.writer.as_bytes())
            .arg(Token::random().as_bytes())
            .arg(wanted)
            .arg(wish.pod)
            .arg(lease.unwrap_or_default())
            .arg(self.options.columns_max)
            .arg(self.writes.load(Ordering::Relaxed))
            .arg(taken_off.unwrap_or_default())
            .arg(self.options.writer_timeout.as_millis().to_string())
            .args(wish.entries.iter().map(|entry| entry.to_field()))
    }

    /// Ends the life of the pod that this client is in, or the present one where it is in none.
    ///
    /// Where the server has lost count of lives and others have written since, the client takes part in the present one from now on.
    pub(super) async fn end_life(&self, pod: &str) -> Result<(), IndexError> {
        let (member, known) = {
            let state = self.state();
            (state.member(pod), state.life_to_end(pod))
        };
        let life = match known {
            Some(life) => Some(life),
            None => {
                let registry = self.read_registry().await?;
                let present = registry.current(pod).and_then(|id| registry.number(id));
                match member {
                    // It has never written for the pod: it means whatever is there.
                    None => present,
                    Some(Member::Lost) => Some(present.unwrap_or(registry.ended(pod) + 1)),
                    // The first life that is counted was begun without a clear: this is its end.
                    Some(_) if registry.is_first(pod) => present,
                    // It was told that others know more, and has caught up with them now.
                    Some(_) => {
                        let ended =
                            present.map_or(registry.ended(pod), |life| life.saturating_sub(1));
                        self.state().set_cleared(pod, ended);
                        None
                    }
                }
            }
        };
        if let Some(life) = life {
            let life_text = life.to_string();
            self.retire(&[pod.as_bytes(), life_text.as_bytes()]).await?;
            self.state().set_cleared(pod, life);
        }
        self.state().forget_resync(pod);
        Ok(())
    }

    /// Ends an incarnation, if it is there still.
    pub(super) async fn end_incarnation(&self, id: Token) -> Result<(), IndexError> {
        self.retire(&[id.as_bytes()]).await
    }

    async fn retire(&self, what: &[&[u8]]) -> Result<(), IndexError> {
        let mut registry = self.registry().await?;
        for _ in 0..ATTEMPTS {
            let mut pipeline = Pipeline::new();
            pipeline.push(
                call(&registry.scripts.retire, 1)
                    .arg(&self.names.registry()[..])
                    .arg(registry.generation.as_bytes())
                    .arg(Token::random().as_bytes())
                    .args(what),
            );
            let asked = self.ask_for_registry(&mut pipeline);
            let replies = self.client.pipeline(pipeline).await.map_err(failed)?;
            let is_unknown = is_error(&replies[0], "NOSCRIPT");
            if is_unknown {
                self.state().scripts_unknown(registry.generation);
            }
            self.take_registry(&asked, &replies, None, &[])?;
            if !is_unknown && replies[0].parse::<i64>().map_err(failed)? >= 0 {
                return Ok(());
            }
            registry = self.registry().await?;
        }
        Err(IndexError::contended())
    }
}

fn load(script: &Script, pipeline: &mut Pipeline) {
    script.load(pipeline);
}

pub(super) fn failed(error: respire::Error) -> IndexError {
    IndexError::client(REGISTRY_FAILED, error)
}

pub(super) const REGISTRY_FAILED: &str = "failed to use the registry of the index";

#[cfg(test)]
mod tests {
    use respire::Config;

    use super::*;
    use crate::BitmapOptions;

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_another_to_read_the_registry_waits_no_longer_than_its_own_call_may_last()
    {
        // There is no server, so that the one to read it fails. Whoever has the turn keeps it.
        let config: Config = "unix:///nonexistent/socket".parse().unwrap();
        let index = BitmapIndex::new(Client::unconnected(config), BitmapOptions::default());
        let turn = index.reading.acquire().await.unwrap();
        let mut call = index.within(Some(Duration::from_secs(60)));
        let wait = async |call: &Call| {
            let start = tokio::time::Instant::now();
            index.registry_within(call).await.unwrap_err();
            start.elapsed()
        };
        assert!(wait(&call).await >= TURN_MAX);
        // What came before has taken all the time that there was.
        call.deadline = Some(Instant::now());
        call.client = call.client.with_deadline(Instant::now());
        assert!(wait(&call).await < TURN_MAX);
        drop(turn);
    }
}
