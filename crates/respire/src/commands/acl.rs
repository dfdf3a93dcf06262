//! Users and what they may do.

use std::fmt;

use respire_codec::{FromValue, ValueError, ValueRef};

use super::{Executor, TypedCommand, replies::Fields};
use crate::command::{Command, ToArg};

/// Commands on [users and their rights](https://valkey.io/topics/acl/). Who one is oneself says
/// [`acl_whoami`](super::ServerCommands::acl_whoami).
///
/// ```no_run
/// use respire::commands::*;
///
/// # async fn example(client: &respire::Client) -> Result<(), respire::Error> {
/// client.acl_setuser("reader", ["on", ">secret", "~cache:*", "+@read"]).await?;
/// let refused = client.acl_dryrun("reader", Cmd.set("cache:k", "v").command()).await?;
/// assert!(refused.is_some());
/// # Ok(())
/// # }
/// ```
pub trait AclCommands: Executor {
    /// `ACL CAT`: the categories of commands; or the commands of one of them. O(commands)
    fn acl_cat(self, category: Option<&str>) -> Self::Answer<Vec<String>> {
        self.run(Command::new("ACL").arg("CAT").optional(category).typed())
    }

    /// `ACL DELUSER`: deletes users, and closes their connections. How many there were.
    fn acl_deluser(self, users: impl IntoIterator<Item = impl ToArg>) -> Self::Answer<u64> {
        self.run(Command::new("ACL").arg("DELUSER").args(users).typed())
    }

    /// `ACL DRYRUN`: why a user may not send a command; `None` if it may. Nothing is carried out. Since 7.0.
    fn acl_dryrun(self, user: impl ToArg, command: &Command) -> Self::Answer<Option<String>> {
        let dry_run = Command::new("ACL").arg("DRYRUN").arg(user).args(command.words());
        self.run(TypedCommand::new(dry_run, |reply| {
            let answer: &str = reply.parse()?;
            Ok(Some(answer).filter(|answer| *answer != "OK").map(str::to_owned))
        }))
    }

    /// `ACL GENPASS`: a random password, of 256 bits unless it is said of how many, in hexadecimal digits.
    fn acl_genpass(self, bits: Option<u32>) -> Self::Answer<String> {
        self.run(Command::new("ACL").arg("GENPASS").optional(bits).typed())
    }

    /// `ACL GETUSER`: what a user may do; `None` if there is none of that name.
    fn acl_getuser(self, user: impl ToArg) -> Self::Answer<Option<AclUser>> {
        self.run(Command::new("ACL").arg("GETUSER").arg(user).typed())
    }

    /// `ACL LIST`: all users and their rules, as a configuration has them. O(users)
    fn acl_list(self) -> Self::Answer<Vec<String>> {
        self.run(Command::new("ACL").arg("LIST").typed())
    }

    /// `ACL LOAD`: reads the users anew from the server's file for them. O(users)
    fn acl_load(self) -> Self::Answer<()> {
        self.run(Command::new("ACL").arg("LOAD").typed())
    }

    /// `ACL LOG RESET`: forgets what was refused.
    fn acl_log_reset(self) -> Self::Answer<()> {
        self.run(Command::new("ACL").arg("LOG").arg("RESET").typed())
    }

    /// `ACL SAVE`: writes the users to the server's file for them. O(users)
    fn acl_save(self) -> Self::Answer<()> {
        self.run(Command::new("ACL").arg("SAVE").typed())
    }

    /// `ACL SETUSER`: makes a user, or changes one, by rules such as `on`, `>password`, `~cache:*` or `+@read`. O(rules)
    fn acl_setuser(
        self,
        user: impl ToArg,
        rules: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<()> {
        self.run(Command::new("ACL").arg("SETUSER").arg(user).args(rules).typed())
    }

    /// `ACL USERS`: the names of all users. O(users)
    fn acl_users(self) -> Self::Answer<Vec<String>> {
        self.run(Command::new("ACL").arg("USERS").typed())
    }
}

impl<E: Executor> AclCommands for E {}

/// What a user may do, as of a server since 7.0.
///
/// `Debug` shows how many passwords there are and none of their digests.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AclUser {
    /// What it is, such as `on` or `nopass`.
    pub flags: Vec<String>,
    /// The SHA-256 digests of its passwords, in hexadecimal digits.
    pub passwords: Vec<String>,
    /// Rules for commands, such as `+@read -keys`.
    pub commands: String,
    /// Patterns of keys, such as `~cache:*`.
    pub keys: String,
    /// Patterns of channels, such as `&news`.
    pub channels: String,
}

impl<'a> FromValue<'a> for AclUser {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let fields = Fields::new(value)?;
        Ok(Self {
            flags: fields.parse("flags")?,
            passwords: fields.parse("passwords")?,
            commands: fields.parse("commands")?,
            keys: fields.parse("keys")?,
            channels: fields.parse("channels")?,
        })
    }
}

impl fmt::Debug for AclUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AclUser")
            .field("flags", &self.flags)
            .field("passwords", &self.passwords.len())
            .field("commands", &self.commands)
            .field("keys", &self.keys)
            .field("channels", &self.channels)
            .finish()
    }
}
