//! Commands that are carried out together or not at all.

use std::{future::Future, time::Instant};

use respire_codec::{Frame, FromValue};

use super::{Client, dedicated::Dedicated, pause, retry::Attempts};
use crate::{
    command::{Command, Pipeline, ToArg},
    error::{Error, SendState},
    reply::{Reply, ServerError},
};

/// One attempt at a transaction: keys are being watched, and may be read before it is decided what to do.
///
/// [`Client::transaction`] hands it out.
#[derive(Debug)]
pub struct Transaction {
    own: Dedicated,
}

/// What an attempt at a transaction came to; made by [`Transaction::commit`] and [`Transaction::abandon`].
#[derive(Debug)]
#[must_use]
pub struct Attempt<T>(Option<T>);

impl<T> Attempt<T> {
    /// The same outcome with another value, if there is one.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Attempt<U> {
        Attempt(self.0.map(change))
    }
}

impl Transaction {
    /// Sends a command and waits for its reply, before the transaction: to read what it depends on.
    ///
    /// # Errors
    ///
    /// As [`Dedicated::execute`].
    pub async fn execute(&mut self, command: Command) -> Result<Reply, Error> {
        self.own.execute(command).await
    }

    /// Sends a command and reads its reply as a `V`. As [`execute`](Self::execute).
    ///
    /// # Errors
    ///
    /// As [`Dedicated::query`].
    pub async fn query<V: for<'a> FromValue<'a>>(&mut self, command: Command) -> Result<V, Error> {
        self.own.query(command).await
    }

    /// Sends several commands and waits for all replies. As [`execute`](Self::execute).
    ///
    /// # Errors
    ///
    /// As [`Dedicated::pipeline`].
    pub async fn pipeline(&mut self, pipeline: impl Into<Pipeline>) -> Result<Vec<Reply>, Error> {
        self.own.pipeline(pipeline).await
    }

    /// Has these commands carried out, if nobody has changed a watched key meanwhile; else there will be another
    /// attempt. Their replies, as one array, are read as a `T`: a tuple or a `Vec`.
    ///
    /// # Errors
    ///
    /// A command was refused, so that none was carried out: see [`Error::aborted_command`]. Or one of them failed: the
    /// others were carried out, as is the way of these servers; or the replies are not a `T`, or the connection was
    /// lost.
    pub async fn commit<T: for<'a> FromValue<'a>>(
        mut self,
        commands: impl Into<Pipeline>,
    ) -> Result<Attempt<T>, Error> {
        let commands = commands.into();
        if commands.is_atomic() {
            return Err(not_sent("the commands of a transaction are atomic by themselves"));
        }
        let mut atomic = Pipeline::atomic();
        atomic.append(commands);
        atomic.placement().check_shared().map_err(not_sent)?;
        let outcome = committed(self.own.frames(atomic).await?);
        if outcome.as_ref().map_or_else(|error| error.aborted_command().is_some(), |_| true) {
            self.own.forget_watched();
        }
        let values = outcome?.map(|exec| exec.parse()).transpose()?;
        Ok(Attempt(values))
    }

    /// Changes nothing, and ends the transaction with this value.
    ///
    /// # Errors
    ///
    /// The connection was lost, or does not answer by the deadline.
    pub async fn abandon<T>(mut self, value: T) -> Result<Attempt<T>, Error> {
        self.own.execute(Command::new("UNWATCH")).await?;
        Ok(Attempt(Some(value)))
    }
}

impl Client {
    /// Carries out a transaction that depends on what it reads: the keys are watched, `attempt` reads and decides, and what it
    /// [commits](Transaction::commit) is carried out only if nobody has changed one of the keys meanwhile. Otherwise there
    /// is another attempt, as long as the deadline allows.
    ///
    /// It runs on a connection of its own; see [`dedicated`](Self::dedicated). The deadline is one for all attempts.
    ///
    /// ```no_run
    /// # async fn example(client: respire::Client) -> Result<(), respire::Error> {
    /// use respire::{Command, Pipeline};
    ///
    /// let left: Option<(u64,)> = client
    ///     .transaction(["stock"], |mut transaction| async move {
    ///         let stock: u64 = transaction.query(Command::new("GET").arg("stock")).await?;
    ///         if stock == 0 {
    ///             return transaction.abandon(None).await;
    ///         }
    ///         let mut commands = Pipeline::new();
    ///         commands.push(Command::new("DECR").arg("stock"));
    ///         transaction.commit(commands).await
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// What `attempt` returns; or the keys kept being changed by others until the deadline:
    /// [`Error::is_conflict`] tells, and then nothing was changed.
    pub async fn transaction<T, F, Fut>(
        &self,
        keys: impl IntoIterator<Item = impl ToArg>,
        mut attempt: F,
    ) -> Result<T, Error>
    where
        F: FnMut(Transaction) -> Fut,
        Fut: Future<Output = Result<Attempt<T>, Error>>,
    {
        let watch = Command::new("WATCH").args(keys);
        if watch.args_len() == 1 {
            return Err(not_sent(
                "a transaction watches at least one key: else use an atomic pipeline",
            ));
        }
        let mut client = self.clone();
        client.options.deadline = self.options.deadline();
        client.options.command_timeout = None;
        let deadline = client.options.deadline;
        for round in 1_u32.. {
            let own = client.watching(&watch).await?;
            if let Attempt(Some(value)) = attempt(Transaction { own }).await? {
                return Ok(value);
            }
            // The first rounds follow at once: somebody has just got theirs through.
            let wait = self.options.retry.pause(round);
            if deadline.is_some_and(|deadline| Instant::now() + wait >= deadline) {
                break;
            }
            pause(wait).await?;
        }
        Err(Error::conflict())
    }

    /// A connection that watches these keys.
    async fn watching(&self, watch: &Command) -> Result<Dedicated, Error> {
        let mut attempts = Attempts::new(self.options.retry, self.options.when_down);
        loop {
            let started = async {
                let mut own = self.dedicated().await?;
                own.execute(watch.clone()).await?;
                Ok(own)
            };
            match started.await {
                Ok(own) => return Ok(own),
                // To watch in vain changes nothing.
                Err(error) => {
                    let wait =
                        attempts.after(error, |_| true, Instant::now(), self.options.deadline)?;
                    pause(wait).await?;
                }
            }
        }
    }
}

fn not_sent(reason: &str) -> Error {
    Error::usage(format!("the transaction is not sent: {reason}"))
}

/// The replies of a pipeline as its caller sees them: of an atomic one, those that `EXEC` gave.
pub(super) fn replies(frames: Vec<Frame>, is_atomic: bool) -> Result<Vec<Reply>, Error> {
    if !is_atomic {
        return Ok(frames.into_iter().map(Reply::new).collect());
    }
    // Nothing is watched, so that there is no conflict.
    let exec = committed(frames)?.ok_or_else(Error::conflict)?;
    let replies = exec.frame().elements().ok_or_else(|| {
        Error::protocol("it answered EXEC with something else than an array", None)
    })?;
    Ok(replies.map(Reply::new).collect())
}

/// What the answers to `MULTI`, to the commands that were queued, and to `EXEC` say: the array of replies, or nothing
/// if a watched key was changed.
fn committed(mut frames: Vec<Frame>) -> Result<Option<Reply>, Error> {
    let error = |frame: &Frame| frame.value().error().map(ServerError::new);
    let exec = frames.pop().expect("there is a reply for EXEC");
    let mut queued = frames.iter().map(error);
    if let Some(refused) = queued.next().flatten() {
        // Without MULTI the commands were carried out, or refused, one by one.
        return Err(Error::server(refused).with_send_state(SendState::MaybeSent));
    }
    if exec.value().is_null() {
        return Ok(None);
    }
    let Some(failure) = error(&exec) else { return Ok(Some(Reply::new(exec))) };
    let refused = queued.enumerate().find_map(|(at, refused)| Some((at, refused?)));
    Err(match refused {
        Some((at, refused)) => Error::aborted(at, refused),
        None => Error::server(failure),
    })
}
