//! What one client knows: the registry as it saw it last, and the incarnations that it writes to.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use super::registry::{Registry, Token};
use crate::{Resync, ResyncReason};

/// What a client is to a pod that it has written for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Member {
    /// It writes to this incarnation.
    Joined {
        id: Token,
        /// Which life of the pod it is.
        life: u64,
        /// The number of the last write that was acknowledged.
        acknowledged: u64,
        /// What the server had at least of its writes when the generation began.
        base: u64,
        /// The last generation in which it is known to have been one of the writers.
        generation: Token,
    },
    /// The incarnation was lost with the server's state, and no other writer is known. It may begin the pod's first life there, and not
    /// join one: whoever has begun or ended one knows more.
    Lost,
    /// The incarnation was ended by somebody else, who knows more. `None` where lives have been counted anew since.
    Retired { life: Option<u64> },
    /// It has come to the end of this life, and writes to the next one.
    Cleared { life: u64 },
}

/// What stands for the order in which states were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket(u64);

/// What is known.
#[derive(Debug)]
pub(super) struct State {
    writer: Token,
    registry: Option<Arc<Registry>>,
    /// The generation whose scripts this client has seen loaded.
    loaded: Option<Token>,
    installed: u64,
    members: HashMap<Box<str>, Member>,
    resyncs: BTreeMap<Arc<str>, ResyncReason>,
    /// When this writer has given its last sign of life, or tried to.
    seen_at: Option<Instant>,
}

impl State {
    pub(super) fn new(writer: Token) -> Self {
        Self {
            writer,
            registry: None,
            loaded: None,
            installed: 0,
            members: HashMap::new(),
            resyncs: BTreeMap::new(),
            seen_at: None,
        }
    }

    /// The registry, if its scripts are loaded as far as this client knows.
    pub(super) fn ready(&self) -> Option<&Arc<Registry>> {
        self.registry.as_ref().filter(|registry| self.loaded == Some(registry.generation))
    }

    pub(super) fn registry(&self) -> Option<&Arc<Registry>> {
        self.registry.as_ref()
    }

    pub(super) fn member(&self, pod: &str) -> Option<Member> {
        self.members.get(pod).copied()
    }

    pub(super) fn members(&self) -> impl Iterator<Item = (&str, Member)> {
        self.members.iter().map(|(pod, &member)| (&**pod, member))
    }

    /// The life of the pod that a client ends which clears it. `None` if it cannot know.
    pub(super) fn life_to_end(&self, pod: &str) -> Option<u64> {
        match self.members.get(pod)? {
            Member::Joined { life, .. } => Some(*life),
            Member::Cleared { life } => Some(life + 1),
            Member::Retired { life } => *life,
            Member::Lost => None,
        }
    }

    /// The client has come to the end of this life of the pod.
    pub(super) fn set_cleared(&mut self, pod: &str, life: u64) {
        self.members.insert(pod.into(), Member::Cleared { life });
    }

    pub(super) fn forget_resync(&mut self, pod: &str) {
        self.resyncs.remove(pod);
    }

    pub(super) fn take_resyncs(&mut self) -> Vec<Resync> {
        std::mem::take(&mut self.resyncs)
            .into_iter()
            .map(|(pod, reason)| Resync::new(&*pod, reason))
            .collect()
    }

    pub(super) fn ticket(&self) -> Ticket {
        Ticket(self.installed)
    }

    /// The server of this generation does not know its scripts: it is another one, or has forgotten them.
    pub(super) fn scripts_unknown(&mut self, generation: Token) {
        if self.loaded == Some(generation) {
            self.loaded = None;
        }
    }

    /// The scripts of this generation were loaded right after it was attested.
    pub(super) fn scripts_loaded(&mut self, generation: Token) {
        self.loaded = Some(generation);
    }

    /// Takes a state that was read. `ticket` is from before it was asked for; `lost` are the incarnations that were found
    /// incomplete in that moment.
    ///
    /// States of one generation have an order, of two generations only the one in which they were asked for.
    pub(super) fn install(&mut self, registry: &Arc<Registry>, ticket: Ticket, lost: &[Token]) {
        let before = self.registry.clone();
        if let Some(before) = &before {
            let is_later = if before.generation == registry.generation {
                registry.version >= before.version
            } else {
                ticket == self.ticket()
            };
            if !is_later {
                return;
            }
        }
        self.installed += 1;
        self.registry = Some(Arc::clone(registry));
        let changed = before.as_ref().filter(|before| before.generation != registry.generation);
        self.review_members(registry, changed.map(|before| &**before), lost);
        if let Some(before) = changed {
            self.name_missing(before, registry);
        }
    }

    fn review_members(&mut self, registry: &Registry, changed: Option<&Registry>, lost: &[Token]) {
        let writer = self.writer;
        let is_new_epoch = changed.is_some_and(|before| before.epoch != registry.epoch);
        if !is_new_epoch {
            self.members.retain(|pod, member| match member {
                Member::Cleared { life } | Member::Retired { life: Some(life) } => {
                    registry.lists(pod) || *life > registry.forgotten
                }
                Member::Joined { .. } | Member::Lost | Member::Retired { life: None } => true,
            });
        }
        for (pod, member) in &mut self.members {
            let (id, life, base, generation) = match member {
                Member::Joined { id, life, base, generation, .. } => (*id, *life, base, generation),
                Member::Retired { life } => {
                    if is_new_epoch {
                        *life = None;
                    }
                    continue;
                }
                Member::Cleared { .. } if is_new_epoch => {
                    *member = Member::Lost;
                    continue;
                }
                Member::Cleared { .. } | Member::Lost => continue,
            };
            if registry.is_confirmed(id) {
                if let Some(last) = registry.last_write(id, writer) {
                    if changed.is_some() {
                        *base = last;
                    }
                    *generation = registry.generation;
                    continue;
                }
                // Nothing is lost within a generation: it was taken off, and joins again before it writes.
                if *generation == registry.generation {
                    continue;
                }
            }
            // With the server's state it was lost, unless somebody else has ended it or may have. That lives are counted up to it
            // tells of those who have joined since this client has read the registry.
            let is_over = !is_new_epoch && registry.ended(pod) >= life;
            let is_lost = lost.contains(&id)
                || (!is_over && changed.is_some_and(|before| before.is_alone(id, writer)));
            let (then, reason) = if is_lost {
                // Within an epoch lives are counted on.
                let then = if is_new_epoch { Member::Lost } else { Member::Cleared { life } };
                (then, ResyncReason::IndexLost)
            } else {
                // A new epoch counts lives anew.
                (Member::Retired { life: (!is_new_epoch).then_some(life) }, ResyncReason::Retired)
            };
            *member = then;
            self.resyncs.insert(Arc::from(&**pod), reason);
        }
    }

    /// Names the pods that counted before and do not any more, where nothing more is known of them.
    fn name_missing(&mut self, before: &Registry, registry: &Registry) {
        let reason = if before.epoch == registry.epoch {
            ResyncReason::Unconfirmed
        } else {
            ResyncReason::IndexLost
        };
        for pod in before.counting_pods() {
            let counts = registry
                .current(pod)
                .is_some_and(|id| before.current(pod) == Some(id) && registry.is_confirmed(id));
            if !counts {
                self.resyncs.entry(Arc::clone(pod)).or_insert_with(|| reason.clone());
            }
        }
    }

    /// This client has joined the incarnation, which has given a sign of life as well.
    pub(super) fn joined(&mut self, pod: &str, id: Token, life: u64, joined_in: Token) {
        self.seen_at.get_or_insert_with(Instant::now);
        match self.members.get_mut(pod) {
            Some(Member::Joined { id: known, generation, .. }) if *known == id => {
                *generation = joined_in;
            }
            _ => {
                let generation = joined_in;
                let member = Member::Joined { id, life, acknowledged: 0, base: 0, generation };
                self.members.insert(pod.into(), member);
            }
        }
    }

    /// The incarnations that this client writes to.
    pub(super) fn joined_incarnations(&self) -> Vec<Token> {
        let joined = |member: &Member| match member {
            Member::Joined { id, .. } => Some(*id),
            Member::Lost | Member::Retired { .. } | Member::Cleared { .. } => None,
        };
        self.members.values().filter_map(joined).collect()
    }

    /// The same if it is time for a sign of life, which is given from now on; else nothing.
    pub(super) fn due_for_life(&mut self, interval: Duration) -> Vec<Token> {
        let now = Instant::now();
        if self.seen_at.is_none_or(|seen_at| now.duration_since(seen_at) < interval) {
            return Vec::new();
        }
        self.seen_at = Some(now);
        self.joined_incarnations()
    }

    /// What the client wanted of the pod is not to be had: somebody else has got further.
    pub(super) fn refused(&mut self, pod: &str) {
        let forgotten = self.registry.as_ref().map_or(0, |registry| registry.forgotten);
        let Some(member) = self.members.get_mut(pod) else { return };
        *member = match member {
            Member::Lost => Member::Retired { life: None },
            // The pod was forgotten and has come back: its lives are counted from another number.
            Member::Cleared { life } if *life < forgotten => Member::Retired { life: None },
            Member::Cleared { life } => Member::Retired { life: Some(*life + 1) },
            // That its incarnation is over shows in the registry.
            Member::Joined { .. } | Member::Retired { .. } => return,
        };
        self.resyncs.insert(pod.into(), ResyncReason::Retired);
    }

    /// A write of this number was acknowledged that was made in `generation`. Whether it is lost all the same: the server has begun a
    /// new generation since with less than this.
    pub(super) fn acknowledge(
        &mut self,
        pod: &str,
        written_to: Token,
        number: u64,
        generation: Token,
    ) -> bool {
        let present = self.registry.as_ref().map(|registry| registry.generation);
        let Some(Member::Joined { id, acknowledged, base, .. }) = self.members.get_mut(pod) else {
            return false;
        };
        if *id != written_to {
            return false;
        }
        let is_lost = present != Some(generation) && number > *base;
        *acknowledged = (*acknowledged).max(number);
        is_lost
    }

    /// The incarnation has turned out to be incomplete.
    pub(super) fn lost(&mut self, pod: &str, lost: Token) {
        if let Some(Member::Joined { id, life, .. }) = self.members.get(pod).copied()
            && id == lost
        {
            self.set_cleared(pod, life);
            self.resyncs.insert(pod.into(), ResyncReason::IndexLost);
        }
    }
}
