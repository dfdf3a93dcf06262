//! hiredis, the C client library, timed by a program of our own in C: calling
//! the library from here would take `unsafe`, which this project forbids.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{COMMAND, Contestant, Side, amount};
use crate::codec::buffers::Buffer;
use crate::codec::workload::{Task, Workload};
use crate::pass::{Pass, Tally};

/// Bytes that hiredis reads from a socket at once.
const READ_BYTES: usize = 16 * 1024;

/// The compiled program.
#[derive(Clone, Debug)]
pub struct Hiredis {
    directory: Arc<TempDir>,
    version: String,
}

impl Hiredis {
    /// Compiles the program with the system's C compiler (`cc`, or what CC
    /// names) against the library that pkg-config knows.
    ///
    /// # Errors
    ///
    /// When the library or the compiler is absent.
    pub fn build() -> Result<Self> {
        let flags = output(Command::new("pkg-config").args(["--cflags", "--libs", "hiredis"]))
            .context("pkg-config knows no hiredis (on Debian: libhiredis-dev)")?;
        let directory = Arc::new(tempfile::Builder::new().prefix("respire-benches-").tempdir()?);
        let mut hiredis = Self { directory, version: String::new() };
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/hiredis/reader.c");
        output(
            Command::new(compiler)
                .args(["-O2", "-o"])
                .arg(hiredis.program())
                .arg(source)
                .args(flags.split_whitespace()),
        )?;
        hiredis.version = hiredis.run(["version"])?.trim().to_owned();
        Ok(hiredis)
    }

    /// The library's version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// hiredis at this workload, if it has an API for it.
    pub(super) fn contestant(&self, workload: &Workload) -> Option<Contestant> {
        let (mode, chunk) = match workload.task {
            Task::Framing => ("frame", READ_BYTES),
            Task::Owned => ("tree", READ_BYTES),
            Task::Feed(chunk) => ("split", chunk),
            Task::Encode => return Some(Contestant::new(Side::Hiredis, Encode(self.clone()))),
            Task::Handles | Task::Typed(_) => return None,
        };
        let (hiredis, buffer) = (self.clone(), Arc::clone(&workload.buffer));
        Some(Contestant::new(Side::Hiredis, Read { hiredis, buffer, mode, chunk }))
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("reader")
    }

    fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<String> {
        output(Command::new(self.program()).args(args))
    }

    /// The input as a file, which is written when it is first asked for.
    fn input(&self, buffer: &Buffer) -> Result<String> {
        let path = self.directory.path().join(buffer.name.replace(' ', "-"));
        if !path.exists() {
            fs::write(&path, &buffer.wire)?;
        }
        path.into_os_string().into_string().ok().context("a temporary path is UTF-8")
    }
}

fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The two numbers that the program prints.
fn numbers(printed: &str) -> Result<(u64, u64)> {
    let (first, second) = printed.trim().split_once(' ').context("two numbers were expected")?;
    Ok((first.parse()?, second.parse()?))
}

/// Reading replies.
struct Read {
    hiredis: Hiredis,
    buffer: Arc<Buffer>,
    mode: &'static str,
    chunk: usize,
}

impl Pass for Read {
    fn time(&mut self, passes: u64) -> Result<Duration> {
        let input = self.hiredis.input(&self.buffer)?;
        let args = [self.mode, &input, &self.chunk.to_string(), &passes.to_string()];
        let (_, nanoseconds) = numbers(&self.hiredis.run(args)?)?;
        Ok(Duration::from_nanos(nanoseconds))
    }

    fn tally(&mut self) -> Result<Tally> {
        let input = self.hiredis.input(&self.buffer)?;
        let counted = self.hiredis.run(["count", &input, &self.chunk.to_string()])?;
        let (replies, digest) = numbers(&counted)?;
        Ok(Tally { replies, digest })
    }

    fn allocates_here(&self) -> bool {
        false
    }
}

/// Writing commands.
struct Encode(Hiredis);

impl Encode {
    fn command() -> Result<Vec<&'static str>> {
        COMMAND.into_iter().map(|arg| Ok(std::str::from_utf8(arg)?)).collect()
    }
}

impl Pass for Encode {
    fn time(&mut self, passes: u64) -> Result<Duration> {
        let passes = passes.to_string();
        let args = ["encode", &passes].into_iter().chain(Self::command()?);
        let (_, nanoseconds) = numbers(&self.0.run(args)?)?;
        Ok(Duration::from_nanos(nanoseconds))
    }

    fn tally(&mut self) -> Result<Tally> {
        let written = self.0.run(["show"].into_iter().chain(Self::command()?))?;
        Ok(Tally { replies: super::COMMANDS, digest: amount::bytes(written.as_bytes()) })
    }

    fn allocates_here(&self) -> bool {
        false
    }
}
