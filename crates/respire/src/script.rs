//! Scripts that are sent once and called by their digest.

use std::fmt;

use crate::{
    Bytes,
    client::Client,
    command::{Args, Command, Pipeline, ToArg},
    commands::{Executor, FromReply, Queued, TypedCommand},
    error::Error,
};

/// A script that the server runs.
///
/// It is called by its digest, a few bytes whatever its length, and is loaded by itself where the server does not know it.
/// Clones share the code.
///
/// ```no_run
/// use respire::Script;
///
/// # async fn example(client: &respire::Client) -> Result<(), respire::Error> {
/// let take = Script::new(
///     "local left = tonumber(redis.call('GET', KEYS[1]) or '0')
///      if left < tonumber(ARGV[1]) then return -1 end
///      return redis.call('DECRBY', KEYS[1], ARGV[1])",
/// );
/// let left: i64 = take.key("stock").arg(3).run(client).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Script {
    code: Bytes,
    /// The SHA-1 of the code.
    digest: Digest,
    read_only: bool,
}

/// 20 bytes in hexadecimal.
pub(crate) type Digest = [u8; 40];

impl Script {
    /// A script from its code.
    pub fn new(code: impl Into<Bytes>) -> Self {
        Self::with_code(code.into(), false)
    }

    /// A script that only reads, which may be sent again if the connection is lost, and may be run by a replica. Since 7.0.
    pub fn read_only(code: impl Into<Bytes>) -> Self {
        Self::with_code(code.into(), true)
    }

    fn with_code(code: Bytes, read_only: bool) -> Self {
        let mut digest = [0; 40];
        let text = sha1_smol::Sha1::from(&code).digest().to_string();
        digest.copy_from_slice(text.as_bytes());
        Self { code, digest, read_only }
    }

    /// The code.
    pub fn code(&self) -> &[u8] {
        &self.code
    }

    /// The SHA-1 of the code in hexadecimal, by which the server knows it.
    pub fn digest(&self) -> &str {
        std::str::from_utf8(&self.digest).expect("hexadecimal digits are ASCII")
    }

    /// A call without keys and arguments so far.
    pub fn call(&self) -> ScriptCall<'_> {
        ScriptCall { script: self, keys: Args::default(), args: Args::default() }
    }

    /// A call with a key.
    pub fn key(&self, key: impl ToArg) -> ScriptCall<'_> {
        self.call().key(key)
    }

    /// A call with an argument.
    pub fn arg(&self, arg: impl ToArg) -> ScriptCall<'_> {
        self.call().arg(arg)
    }

    /// `SCRIPT LOAD`: makes the script known to the server. [`ScriptCall::run`] does it by itself.
    pub fn load<E: Executor>(&self, executor: E) -> E::Answer<()> {
        executor.run(self.load_command().typed())
    }

    fn load_command(&self) -> Command {
        Command::new("SCRIPT").arg("LOAD").arg(&self.code)
    }
}

/// Shows the digest and the length, not the code.
impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script")
            .field("digest", &self.digest())
            .field("bytes", &self.code.len())
            .finish()
    }
}

/// A script, and what it is called with.
#[derive(Clone, Debug)]
#[must_use = "a call does nothing until it is run"]
pub struct ScriptCall<'a> {
    script: &'a Script,
    keys: Args,
    args: Args,
}

impl ScriptCall<'_> {
    /// Adds a key.
    pub fn key(mut self, key: impl ToArg) -> Self {
        key.move_to(&mut self.keys);
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl ToArg) -> Self {
        arg.move_to(&mut self.args);
        self
    }

    /// Calls the script by its digest. If the server does not know it, loads and calls it in one more round trip, within the
    /// same deadline.
    ///
    /// # Errors
    ///
    /// As [`Client::query`]. What the script raised is an error of the server.
    ///
    /// # Cancel safety
    ///
    /// As all futures of a [`Client`].
    pub async fn run<T: FromReply>(self, client: &Client) -> Result<T, Error> {
        let client = client.until_deadline();
        let error = match client.run(self.by_digest()).await {
            Err(error) if is_unknown(&error) => error,
            outcome => return outcome,
        };
        let mut pipeline = Pipeline::new();
        self.script.load(&mut pipeline);
        let answer = pipeline.run(self.by_digest());
        let replies = client.pipeline(pipeline).await?;
        match answer.read(&replies) {
            // It could not be loaded: that is what to report.
            Err(again) if is_unknown(&again) => {
                Err(replies[0].clone().into_result().err().unwrap_or(error))
            }
            outcome => outcome,
        }
    }

    /// Queues the call. The first call of a script in a pipeline carries its code and makes it known, those that follow are
    /// by its digest; in a transaction, which may come to nothing, each carries the code.
    ///
    /// ```no_run
    /// use respire::{Pipeline, Script};
    ///
    /// # async fn example(client: &respire::Client) -> Result<(), respire::Error> {
    /// let double = Script::new("return ARGV[1] * 2");
    /// let mut pipeline = Pipeline::new();
    /// let answers: Vec<_> = (0..10).map(|n| double.arg(n).queue::<i64>(&mut pipeline)).collect();
    /// let replies = client.pipeline(pipeline).await?;
    /// assert_eq!(answers[9].read(&replies)?, 18);
    /// # Ok(())
    /// # }
    /// ```
    pub fn queue<T: FromReply>(self, pipeline: &mut Pipeline) -> Queued<T> {
        if pipeline.makes_known(&self.script.digest) {
            self.eval(pipeline)
        } else {
            pipeline.run(self.by_digest())
        }
    }

    /// `EVAL`: calls the script by its code, whether the server knows it or not.
    pub fn eval<T: FromReply, E: Executor>(self, executor: E) -> E::Answer<T> {
        executor.run(self.command("EVAL", &self.script.code))
    }

    fn by_digest<T: FromReply>(&self) -> TypedCommand<T> {
        self.command("EVALSHA", self.script.digest)
    }

    fn command<T: FromReply>(&self, name: &'static str, script: impl ToArg) -> TypedCommand<T> {
        let name = match (name, self.script.read_only) {
            ("EVAL", true) => "EVAL_RO",
            ("EVALSHA", true) => "EVALSHA_RO",
            (name, _) => name,
        };
        let command = Command::new(name).arg(script).arg(self.keys.len());
        command.arg(&self.keys).arg(&self.args).typed()
    }
}

fn is_unknown(error: &Error) -> bool {
    error.server_error().is_some_and(|error| error.code() == "NOSCRIPT")
}
