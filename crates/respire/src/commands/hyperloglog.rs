//! HyperLogLogs: counting what is different, nearly, in little memory.

use super::Executor;
use crate::command::{Command, ToArg};

/// Commands on [HyperLogLogs](https://valkey.io/commands/#hyperloglog), which count with an error of about 0.8 %.
pub trait HyperLogLogCommands: Executor {
    /// `PFADD`: counts elements. Whether the count changed. O(elements)
    fn pfadd(
        self,
        key: impl ToArg,
        elements: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<bool> {
        self.run(Command::new("PFADD").arg(key).args(elements).typed())
    }

    /// `PFCOUNT`: how many different elements were counted, by one or by several together. O(keys)
    fn pfcount(self, keys: impl IntoIterator<Item = impl ToArg>) -> Self::Answer<u64> {
        self.run(Command::new("PFCOUNT").args(keys).typed())
    }

    /// `PFMERGE`: adds what others counted to what the first one counted. O(keys)
    fn pfmerge(
        self,
        to: impl ToArg,
        keys: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<()> {
        self.run(Command::new("PFMERGE").arg(to).args(keys).typed())
    }
}

impl<E: Executor> HyperLogLogCommands for E {}
