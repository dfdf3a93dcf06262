//! Scripts and functions that the server runs.

use std::time::Duration;

use respire_codec::{FromValue, ValueError, ValueRef};

use super::{Executor, FromReply, replies::Fields};
use crate::{
    Bytes,
    command::{Command, ToArg},
};

/// Commands on [scripts and functions](https://valkey.io/commands/#scripting).
///
/// A [`Script`](crate::Script) knows its digest and loads itself where the server does not know it.
pub trait ScriptingCommands: Executor {
    /// `EVAL`: runs a script.
    fn eval<T: FromReply>(
        self,
        script: impl ToArg,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        args: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<T> {
        self.run(Command::new("EVAL").arg(script).counted(keys).args(args).typed())
    }

    /// `EVAL_RO`: runs a script that only reads. Since 7.0.
    fn eval_ro<T: FromReply>(
        self,
        script: impl ToArg,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        args: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<T> {
        self.run(Command::new("EVAL_RO").arg(script).counted(keys).args(args).typed())
    }

    /// `EVALSHA`: runs a script by its SHA-1 digest, in hexadecimal. An error `NOSCRIPT` where the server does not know it.
    fn evalsha<T: FromReply>(
        self,
        digest: impl ToArg,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        args: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<T> {
        self.run(Command::new("EVALSHA").arg(digest).counted(keys).args(args).typed())
    }

    /// `EVALSHA_RO`: as [`evalsha`](Self::evalsha), a script that only reads. Since 7.0.
    fn evalsha_ro<T: FromReply>(
        self,
        digest: impl ToArg,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        args: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<T> {
        self.run(Command::new("EVALSHA_RO").arg(digest).counted(keys).args(args).typed())
    }

    /// `FCALL`: calls a function. Since 7.0.
    fn fcall<T: FromReply>(
        self,
        function: impl ToArg,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        args: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<T> {
        self.run(Command::new("FCALL").arg(function).counted(keys).args(args).typed())
    }

    /// `FCALL_RO`: calls a function that only reads. Since 7.0.
    fn fcall_ro<T: FromReply>(
        self,
        function: impl ToArg,
        keys: impl IntoIterator<Item = impl ToArg, IntoIter: ExactSizeIterator>,
        args: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<T> {
        self.run(Command::new("FCALL_RO").arg(function).counted(keys).args(args).typed())
    }

    /// `FUNCTION DELETE`: deletes a library. Since 7.0.
    fn function_delete(self, library: impl ToArg) -> Self::Answer<()> {
        self.run(Command::new("FUNCTION").arg("DELETE").arg(library).typed())
    }

    /// `FUNCTION DUMP`: all libraries as [`function_restore`](Self::function_restore) takes them. Since 7.0.
    fn function_dump(self) -> Self::Answer<Bytes> {
        self.run(Command::new("FUNCTION").arg("DUMP").typed())
    }

    /// `FUNCTION FLUSH`: deletes all libraries. Since 7.0.
    fn function_flush(self) -> Self::Answer<()> {
        self.run(Command::new("FUNCTION").arg("FLUSH").typed())
    }

    /// `FUNCTION KILL`: stops the function that runs, unless it wrote. An error `NOTBUSY` where there is none. Since 7.0.
    fn function_kill(self) -> Self::Answer<()> {
        self.run(Command::new("FUNCTION").arg("KILL").typed())
    }

    /// `FUNCTION LIST`: the libraries, of those names that match a pattern if there is one, with their code if asked for. Since
    /// 7.0.
    fn function_list(
        self,
        pattern: Option<&str>,
        with_code: bool,
    ) -> Self::Answer<Vec<FunctionLibrary>> {
        let pattern = pattern.map(|pattern| ("LIBRARYNAME", pattern));
        let command = Command::new("FUNCTION").arg("LIST").optional(pattern);
        self.run(command.word_if(with_code, "WITHCODE").typed())
    }

    /// `FUNCTION LOAD`: makes a library of its code. Its name. One that exists is replaced only if asked to, and is an error
    /// else. Since 7.0.
    fn function_load(self, code: impl ToArg, replace: bool) -> Self::Answer<String> {
        let command = Command::new("FUNCTION").arg("LOAD").word_if(replace, "REPLACE");
        self.run(command.arg(code).typed())
    }

    /// `FUNCTION RESTORE`: makes libraries of what [`function_dump`](Self::function_dump) answered. Those that exist are
    /// replaced only if asked to, and are an error else. Since 7.0.
    fn function_restore(self, dump: impl ToArg, replace: bool) -> Self::Answer<()> {
        let policy = if replace { "REPLACE" } else { "APPEND" };
        self.run(Command::new("FUNCTION").arg("RESTORE").arg(dump).arg(policy).typed())
    }

    /// `FUNCTION STATS`: what runs, if something does, and what there is. Since 7.0.
    fn function_stats(self) -> Self::Answer<FunctionStats> {
        self.run(Command::new("FUNCTION").arg("STATS").typed())
    }

    /// `SCRIPT EXISTS`: of each digest whether the server knows the script.
    fn script_exists(
        self,
        digests: impl IntoIterator<Item = impl ToArg>,
    ) -> Self::Answer<Vec<bool>> {
        self.run(Command::new("SCRIPT").arg("EXISTS").args(digests).typed())
    }

    /// `SCRIPT FLUSH`: forgets all scripts.
    fn script_flush(self) -> Self::Answer<()> {
        self.run(Command::new("SCRIPT").arg("FLUSH").typed())
    }

    /// `SCRIPT KILL`: stops the script that runs, unless it wrote. An error `NOTBUSY` where there is none.
    fn script_kill(self) -> Self::Answer<()> {
        self.run(Command::new("SCRIPT").arg("KILL").typed())
    }

    /// `SCRIPT LOAD`: makes a script known. Its digest.
    fn script_load(self, script: impl ToArg) -> Self::Answer<String> {
        self.run(Command::new("SCRIPT").arg("LOAD").arg(script).typed())
    }
}

impl<E: Executor> ScriptingCommands for E {}

/// What runs of functions and scripts, and what there is of functions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionStats {
    /// The function that runs, if one does.
    pub running: Option<RunningFunction>,
    /// What there is, by engine.
    pub engines: Vec<EngineStats>,
}

/// A function that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunningFunction {
    /// Its name.
    pub name: String,
    /// The command that called it.
    pub command: Vec<Bytes>,
    /// For how long it has been running.
    pub duration: Duration,
}

/// How many functions an engine has.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Its name, such as `LUA`.
    pub engine: String,
    /// The number of libraries.
    pub libraries: u64,
    /// The number of functions.
    pub functions: u64,
}

impl<'a> FromValue<'a> for FunctionStats {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let fields = Fields::new(value)?;
        let engines = Fields::new(fields.field("engines")?)?;
        let engine = |(name, counts): (&str, ValueRef<'a>)| {
            let counts = Fields::new(counts)?;
            Ok(EngineStats {
                engine: name.to_owned(),
                libraries: counts.parse("libraries_count")?,
                functions: counts.parse("functions_count")?,
            })
        };
        Ok(Self {
            running: fields.parse("running_script")?,
            engines: engines.iter().map(engine).collect::<Result<_, ValueError>>()?,
        })
    }
}

impl<'a> FromValue<'a> for RunningFunction {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let fields = Fields::new(value)?;
        Ok(Self {
            name: fields.parse("name")?,
            command: fields.parse("command")?,
            duration: Duration::from_millis(fields.parse("duration_ms")?),
        })
    }
}

/// A library of functions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionLibrary {
    /// Its name.
    pub name: String,
    /// What runs it, such as `LUA`.
    pub engine: String,
    /// The names of its functions and their flags, such as `no-writes`.
    pub functions: Vec<(String, Vec<String>)>,
    /// Its code, if it was asked for.
    pub code: Option<String>,
}

impl<'a> FromValue<'a> for FunctionLibrary {
    fn from_value(value: ValueRef<'a>) -> Result<Self, ValueError> {
        let fields = Fields::new(value)?;
        let functions: Vec<ValueRef<'a>> = fields.field("functions")?.parse()?;
        let function = |value| {
            let fields = Fields::new(value)?;
            Ok((fields.parse("name")?, fields.parse("flags")?))
        };
        Ok(Self {
            name: fields.parse("library_name")?,
            engine: fields.parse("engine")?,
            functions: functions.into_iter().map(function).collect::<Result<_, ValueError>>()?,
            code: fields.parse_or_none("library_code")?,
        })
    }
}
