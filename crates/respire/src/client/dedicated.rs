//! A connection of one's own.

use std::{fmt, time::Instant};

use respire_codec::{Frame, FromValue, Protocol};

use super::{Options, is_readonly, pool::Lease};
use crate::{
    command::{Blocking, Command, Packet, Pipeline, Placement},
    error::Error,
    reply::Reply,
    session::Replies,
};

/// A connection that belongs to one task: commands that change it or block it may be sent.
///
/// `MULTI` step by step, `WATCH`, `SELECT`, `CLIENT SETNAME` and their like act on this connection only. When it is
/// dropped it is used again if its state is known to be that of a new one, and closed otherwise: if a transaction is open or
/// keys are watched, if another database is selected, if anything else of it was changed, or if a request was not answered.
///
/// A connection that is lost stays lost, because its state is: take another one.
///
/// ```no_run
/// # async fn example(client: respire::Client) -> Result<(), respire::Error> {
/// use respire::Command;
///
/// let mut own = client.dedicated().await?;
/// own.execute(Command::new("SELECT").arg(3)).await?;
/// let keys: u64 = own.query(Command::new("DBSIZE")).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Cancel safety
///
/// Every future may be dropped at any point. The request may or may not be carried out, its reply is skipped, and the
/// next request gets its own.
pub struct Dedicated {
    lease: Lease,
    options: Options,
    state: State,
}

/// What is known of the connection's state on the server.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Between `MULTI` and its end.
    in_transaction: bool,
    is_watching: bool,
    /// Another database than the configured one may be selected.
    is_elsewhere: bool,
    /// Something else was changed, or may have been.
    is_altered: bool,
}

impl State {
    fn is_new(self) -> bool {
        !(self.in_transaction || self.is_watching || self.is_elsewhere || self.is_altered)
    }
}

/// A command that changes the connection's state.
#[derive(Clone, Copy)]
enum Change {
    Multi,
    /// `EXEC` or `DISCARD`.
    End,
    Watch,
    Unwatch,
    /// To the configured database, or to another.
    Select {
        home: bool,
    },
    Other,
}

impl Dedicated {
    pub(super) fn new(lease: Lease, options: Options) -> Self {
        Self { lease, options, state: State::default() }
    }

    /// Sends a command and waits for its reply. As [`Client::execute`](super::Client::execute), but nothing is sent again.
    ///
    /// # Errors
    ///
    /// The server answered with an error, the deadline passed, the connection was lost, or the command is one after
    /// which replies could not be told apart, such as `SUBSCRIBE` or `CLIENT REPLY`.
    pub async fn execute(&mut self, command: Command) -> Result<Reply, Error> {
        let placement = command.placement();
        let change = self.change(&command);
        let packet = command.into_unchecked_packet();
        let replies = self.request(packet, placement, change).await?;
        let frame = replies.into_one().expect("a request is done when its reply is there");
        let reply = Reply::new(frame).into_result();
        self.note(change, &reply);
        reply
    }

    /// Sends a command and reads its reply as a `T`.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), or the reply is not a `T`.
    pub async fn query<T: for<'a> FromValue<'a>>(&mut self, command: Command) -> Result<T, Error> {
        self.execute(command).await?.parse()
    }

    /// Sends the commands of a pipeline together and waits for all replies. As
    /// [`Client::pipeline`](super::Client::pipeline).
    ///
    /// If one of the commands changes the connection, it is closed in the end.
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute), but for errors of the server; of an [atomic](Pipeline::atomic) one, as
    /// [`Client::pipeline`](super::Client::pipeline) says.
    pub async fn pipeline(&mut self, pipeline: impl Into<Pipeline>) -> Result<Vec<Reply>, Error> {
        let pipeline = pipeline.into();
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let is_atomic = pipeline.is_atomic();
        super::transaction::replies(self.frames(pipeline).await?, is_atomic)
    }

    /// All that is answered to a pipeline.
    pub(super) async fn frames(&mut self, pipeline: Pipeline) -> Result<Vec<Frame>, Error> {
        let placement = pipeline.placement();
        let change = match placement {
            Placement::Own(_) => Some(Change::Other),
            _ => None,
        };
        let packet = pipeline.into_unchecked_packet();
        Ok(self.request(packet, placement, change).await?.into_vec())
    }

    /// The protocol that the connection speaks; `None` while it is being established.
    pub fn protocol(&self) -> Option<Protocol> {
        self.lease.protocol()
    }

    /// The keys are not watched any more.
    pub(super) fn forget_watched(&mut self) {
        self.state.is_watching = false;
        self.settle();
    }

    async fn request(
        &mut self,
        packet: Packet,
        placement: Placement,
        change: Option<Change>,
    ) -> Result<Replies, Error> {
        if let Err(reason) = placement.check_own() {
            return Err(Error::usage(format!("the command is not sent: {reason}")));
        }
        let now = Instant::now();
        let deadline = match placement {
            Placement::Waiting(blocking) => self.options.deadline_of_blocking(now, blocking),
            _ => self.options.deadline_from(now),
        };
        // Until it is answered, nothing is known of what it did.
        let before = self.state;
        self.state.is_altered |= change.is_some();
        self.settle();
        let replies = match (placement, deadline) {
            (Placement::Waiting(Blocking::Unlimited), None) => {
                self.lease.run_endless(&packet).await?
            }
            _ => self.lease.run(&packet, deadline).await?,
        };
        self.state = before;
        // A server that is no primary any more is not the one to go back to.
        self.state.is_altered |= replies.iter().any(is_readonly);
        if let Some(Change::Other) = change {
            self.state.is_altered = true;
        }
        self.settle();
        Ok(replies)
    }

    /// What a command changes if it succeeds.
    fn change(&self, command: &Command) -> Option<Change> {
        match command.info()?.name() {
            "multi" => Some(Change::Multi),
            "exec" | "discard" => Some(Change::End),
            "watch" => Some(Change::Watch),
            "unwatch" => Some(Change::Unwatch),
            "select" => {
                let home = self.lease.database().to_string();
                Some(Change::Select { home: command.words().nth(1) == Some(home.as_bytes()) })
            }
            _ => match command.placement() {
                Placement::Own(_) => Some(Change::Other),
                _ => None,
            },
        }
    }

    /// Takes note of what a command has changed, given the answer to it.
    fn note(&mut self, change: Option<Change>, reply: &Result<Reply, Error>) {
        let state = &mut self.state;
        let aborted = || {
            let error = reply.as_ref().err().and_then(Error::server_error);
            error.is_some_and(|error| error.code() == "EXECABORT")
        };
        match (change, reply.is_ok()) {
            (Some(Change::Multi), true) => state.in_transaction = true,
            (Some(Change::End), ok) if ok || aborted() => {
                state.in_transaction = false;
                state.is_watching = false;
            }
            // It may have failed for its arguments, or because there was nothing to end.
            (Some(Change::End), _) => state.is_altered |= state.in_transaction,
            (Some(Change::Watch), true) => state.is_watching = true,
            (Some(Change::Unwatch), true) => state.is_watching &= state.in_transaction,
            // In a transaction it is carried out later, or never.
            (Some(Change::Select { .. }), true) if state.in_transaction => state.is_altered = true,
            (Some(Change::Select { home }), true) => state.is_elsewhere = !home,
            _ => {}
        }
        self.settle();
    }

    fn settle(&mut self) {
        self.lease.set_clean(self.state.is_new());
    }
}

/// Shows nothing that was sent or is to be.
impl fmt::Debug for Dedicated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dedicated")
            .field("protocol", &self.protocol())
            .field("state", &self.state)
            .finish()
    }
}
