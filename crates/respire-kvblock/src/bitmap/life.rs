//! Signs of life: of pods by leases, and of writers.

use respire::Pipeline;

use super::{
    BitmapIndex, Token,
    attest::{ATTEMPTS, REGISTRY_FAILED, failed},
    is_error,
    scripts::{Scripts, call},
    state::Member,
};
use crate::IndexError;

/// The most incarnations or pods of one script: some hundred microseconds of the server's time.
const NAMES_PER_SCRIPT: usize = 512;

/// How many signs of life a writer gives before it would count as silent.
const SIGNS_PER_TIMEOUT: u32 = 4;

pub(super) fn tokens(tokens: &[Token]) -> Vec<&[u8]> {
    tokens.iter().map(Token::as_bytes).collect()
}

impl BitmapIndex {
    /// Renews the leases of pods that this index writes for; see [`BitmapOptions::with_lease`](super::BitmapOptions::with_lease). A lease
    /// that has run out is good again, as long as no sweep has ended the pod's incarnation. How many were renewed.
    ///
    /// Without leases nothing happens.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked or written to.
    pub async fn renew<P: AsRef<str>>(
        &self,
        pods: impl IntoIterator<Item = P>,
    ) -> Result<usize, IndexError> {
        let Some(lease) = self.options.lease else { return Ok(0) };
        let ids: Vec<Token> = {
            let state = self.state();
            let member = |pod: P| match state.member(pod.as_ref())? {
                Member::Joined { id, .. } => Some(id),
                Member::Lost | Member::Retired { .. } | Member::Cleared { .. } => None,
            };
            pods.into_iter().filter_map(member).collect()
        };
        if ids.is_empty() {
            return Ok(0);
        }
        let milliseconds = lease.as_millis().to_string();
        self.on_each(&tokens(&ids), &[milliseconds.as_bytes()], |scripts| &scripts.renew).await
    }

    /// Takes this index off the pods that it writes for: another writer of theirs need not wait for the [writer
    /// timeout](super::BitmapOptions::with_writer_timeout) to know that it is the only one. For a program that ends; what is written afterwards
    /// makes it a writer again.
    ///
    /// # Errors
    ///
    /// When the server cannot be written to. The timeout does the same, later.
    pub async fn leave(&self) -> Result<(), IndexError> {
        let joined = self.state().joined_incarnations();
        let writer = [self.writer.as_bytes()];
        self.on_each(&tokens(&joined), &writer, |scripts| &scripts.leave).await?;
        Ok(())
    }

    /// Gives a sign of life of this writer, if it is time for one, and takes those off its incarnations that have given none for too long.
    pub(super) async fn show_life(&self) -> Result<(), IndexError> {
        let timeout = self.options.writer_timeout;
        let joined = self.state().due_for_life(timeout / SIGNS_PER_TIMEOUT);
        let milliseconds = timeout.as_millis().to_string();
        let arguments = [self.writer.as_bytes(), milliseconds.as_bytes()];
        self.on_each(&tokens(&joined), &arguments, |scripts| &scripts.touch).await?;
        Ok(())
    }

    /// Runs a script over incarnations or pods. With how many it had something to do.
    pub(super) async fn on_each(
        &self,
        of: &[&[u8]],
        arguments: &[&[u8]],
        script: impl Fn(&Scripts) -> &respire::Script,
    ) -> Result<usize, IndexError> {
        let mut count = 0;
        for of in of.chunks(NAMES_PER_SCRIPT) {
            count += self.on_few(of, arguments, &script).await?;
        }
        Ok(count)
    }

    async fn on_few(
        &self,
        of: &[&[u8]],
        arguments: &[&[u8]],
        script: impl Fn(&Scripts) -> &respire::Script,
    ) -> Result<usize, IndexError> {
        for _ in 0..ATTEMPTS {
            let registry = self.registry().await?;
            let command = call(script(&registry.scripts), 1)
                .arg(&self.names.registry()[..])
                .arg(registry.generation.as_bytes())
                .arg(Token::random().as_bytes())
                .args(arguments)
                .args(of);
            let replies =
                self.client.pipeline(Pipeline::new().push(command)).await.map_err(failed)?;
            if is_error(&replies[0], "NOSCRIPT") {
                self.state().scripts_unknown(registry.generation);
                continue;
            }
            super::check(REGISTRY_FAILED, &replies[0])?;
            match usize::try_from(replies[0].parse::<i64>().map_err(failed)?) {
                Ok(count) => return Ok(count),
                // Below zero: it is another generation.
                Err(_) => self.refresh(&registry).await?,
            };
        }
        Err(IndexError::contended())
    }
}
