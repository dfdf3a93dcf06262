//! A private Valkey or Redis server: started in a temporary directory, gone when dropped.
//!
//! The server listens on a Unix socket in that directory and, when asked, on a loopback TCP port.
//! It keeps nothing on disk unless an argument says otherwise. It runs in a process group of its
//! own, so that Ctrl-C at a terminal reaches only this process, which then stops the server in its
//! own time; should this process be killed outright, a watchdog ends the server. The whole group is
//! killed, so that a wrapper around a server does not leave the server behind.
//!
//! Where the environment has `RESPIRE_LOCAL_RDMA`, the address of an RDMA device of this machine, a
//! Valkey server listens there too, and its URL leads there: whatever uses private servers can so be
//! run over RDMA. The server has to be one that was built with it.
//!
//! # Example
//!
//! ```no_run
//! use respire_cli::local_server::{Flavour, LocalServer};
//!
//! let mut server = LocalServer::builder(Flavour::Valkey)
//!     .tcp()
//!     .args(["--appendonly", "yes"])
//!     .start()?;
//! println!("{} and {:?}", server.url(), server.tcp_url());
//! server.kill();
//! server.restart()?; // the same directory, socket and port
//! # Ok::<(), respire_cli::local_server::LocalServerError>(())
//! ```

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::watchdog::Watchdog;

/// How long a server may take to answer its first PING. A start takes a few hundredths of a
/// second; the rest is room for a machine that is busy with other things.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause between two PINGs of a server that is not up yet.
const PING_INTERVAL: Duration = Duration::from_millis(5);

/// How long one PING waits for its answer.
const PING_TIMEOUT: Duration = Duration::from_millis(500);

/// How many free ports are tried when another process takes one between our look and the
/// server's bind.
const PORT_ATTEMPTS: usize = 8;

/// How much of the end of a server's output an error quotes, in bytes.
const OUTPUT_BYTES_MAX: u64 = 4096;

/// The longest path of a Unix socket that every supported system accepts, in bytes: the smallest
/// `sun_path` has 104, one of them for the final zero.
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// What is escaped in the URL of a socket's path: all but letters, digits and the marks that mean
/// nothing there.
const ESCAPED_IN_URLS: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Which of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavour {
    /// `valkey-server`
    Valkey,
    /// `redis-server`
    Redis,
}

impl Flavour {
    /// Both, the preferred one first.
    pub const ALL: [Self; 2] = [Self::Valkey, Self::Redis];

    /// The name of the server's program, as it is looked for on PATH.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Valkey => "valkey-server",
            Self::Redis => "redis-server",
        }
    }
}

/// What a [`LocalServer`] is to be started with.
#[derive(Debug, Clone)]
pub struct LocalServerBuilder {
    program: OsString,
    /// Where to listen for RDMA.
    rdma: Option<IpAddr>,
    args: Vec<OsString>,
    port: Option<u16>,
    stop: CancellationToken,
}

impl LocalServerBuilder {
    /// Runs this program, a path or a name on PATH, in place of the flavour's own.
    #[must_use]
    pub fn program(mut self, program: impl Into<OsString>) -> Self {
        self.program = program.into();
        self
    }

    /// Also listens on a free TCP port of 127.0.0.1.
    #[must_use]
    pub fn tcp(self) -> Self {
        self.tcp_port(0)
    }

    /// Also listens on this TCP port of 127.0.0.1; 0 picks a free one.
    #[must_use]
    pub fn tcp_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Adds arguments to the server's command line, such as `["--requirepass", "x"]`. They come
    /// after our own and so override them.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Has it write each change to its log before it answers, so that it loses nothing when it is killed.
    #[must_use]
    pub fn persistent(self) -> Self {
        self.args(["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Gives up a start under way, with [`LocalServerError::Stopped`], when `stop` is cancelled.
    #[must_use]
    pub fn stop_when(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// Starts the server and waits until it answers, 30 seconds at the most; four times that where it listens for RDMA too.
    ///
    /// # Errors
    ///
    /// The program is missing ([`LocalServerError::NotFound`]), ended at once, did not answer in
    /// time, the start was given up, or a file or process of ours could not be made.
    pub fn start(self) -> Result<LocalServer, LocalServerError> {
        let directory = tempfile::Builder::new()
            .prefix("respire-server-")
            .tempdir()
            .map_err(|source| LocalServerError::io("make a temporary directory", source))?;
        let socket = directory.path().join("server.sock");
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(LocalServerError::SocketPathTooLong { path: socket });
        }
        let mut server =
            LocalServer { running: None, port: None, rdma: None, socket, directory, builder: self };
        server.launch()?;
        Ok(server)
    }
}

/// A running server of our own; see the [module](self).
///
/// Dropping it kills the server and removes its directory, in a panic too.
#[derive(Debug)]
pub struct LocalServer {
    /// `None` after [`kill`](Self::kill).
    running: Option<Process>,
    /// The TCP port once one is known, kept over restarts.
    port: Option<u16>,
    /// Where the server listens for RDMA, kept over restarts.
    rdma: Option<SocketAddr>,
    socket: PathBuf,
    directory: TempDir,
    builder: LocalServerBuilder,
}

impl LocalServer {
    /// Starts `flavour` found on PATH, on a Unix socket only and without persistence.
    ///
    /// # Errors
    ///
    /// As for [`LocalServerBuilder::start`].
    pub fn start(flavour: Flavour) -> Result<Self, LocalServerError> {
        Self::builder(flavour).start()
    }

    /// What to start and with which options.
    #[must_use]
    pub fn builder(flavour: Flavour) -> LocalServerBuilder {
        LocalServerBuilder {
            program: flavour.program().into(),
            rdma: rdma_address().filter(|_| flavour == Flavour::Valkey),
            args: Vec::new(),
            port: None,
            stop: CancellationToken::new(),
        }
    }

    /// The URL of the Unix socket, `unix:///…`; or that of the RDMA device where there is one, see the
    /// [module](self).
    #[must_use]
    pub fn url(&self) -> String {
        if let Some(address) = self.rdma {
            return format!("valkey+rdma://{address}");
        }
        let path = self.socket.as_os_str().as_bytes();
        format!("unix://{}", percent_encode(path, ESCAPED_IN_URLS))
    }

    /// The URL of the TCP port, `redis://127.0.0.1:…`, when there is one.
    #[must_use]
    pub fn tcp_url(&self) -> Option<String> {
        self.tcp_address().map(|address| format!("redis://{address}"))
    }

    /// The loopback address of the TCP port, when there is one.
    #[must_use]
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.port.map(|port| (Ipv4Addr::LOCALHOST, port).into())
    }

    /// The path of the Unix socket.
    #[must_use]
    pub fn socket_path(&self) -> &Path {
        &self.socket
    }

    /// The temporary directory that the server works in.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The server's process number; `None` after [`kill`](Self::kill).
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.running.as_ref().map(|process| process.child.id())
    }

    /// The end of what the server has written to its standard output and error, as far as it can
    /// be read; for messages to people.
    #[must_use]
    pub fn output(&self) -> String {
        output_tail(&self.log_path(), 0)
    }

    /// Ends the server at once (SIGKILL), as a crash would. Its directory stays.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Kills the server if it runs and starts it again on the same directory, socket and port.
    ///
    /// # Errors
    ///
    /// As for [`LocalServerBuilder::start`].
    pub fn restart(&mut self) -> Result<(), LocalServerError> {
        self.kill();
        self.launch()
    }

    /// Kills the server and removes its directory, like dropping it, but tells what went wrong.
    ///
    /// # Errors
    ///
    /// The directory could not be removed.
    pub fn stop(mut self) -> Result<(), LocalServerError> {
        self.kill();
        self.directory
            .close()
            .map_err(|source| LocalServerError::io("remove the server's directory", source))
    }

    /// Starts the process, on another free port when the one picked was taken in between.
    fn launch(&mut self) -> Result<(), LocalServerError> {
        let picks_port = self.builder.port == Some(0) && self.port.is_none();
        let mut attempts = if picks_port { PORT_ATTEMPTS } else { 1 };
        loop {
            let port = match self.port.or(self.builder.port) {
                Some(0) => Some(free_port()?),
                other => other,
            };
            attempts -= 1;
            if let (Some(address), None) = (self.builder.rdma, self.rdma) {
                // The ports of RDMA are a space of their own, and one that is free for TCP will do.
                self.rdma = Some((address, free_port()?).into());
            }
            match self.launch_on(port) {
                Ok(process) => {
                    self.running = Some(process);
                    self.port = port;
                    return Ok(());
                }
                Err(error) if attempts > 0 && error.is_address_in_use() => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn launch_on(&self, port: Option<u16>) -> Result<Process, LocalServerError> {
        let log_path = self.log_path();
        let log = OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.map_err(|source| LocalServerError::io("open the server's log", source))?;
        let log_start = fs::metadata(&log_path).map_or(0, |metadata| metadata.len());
        let child = self.command(port, log)?.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => LocalServerError::NotFound { program: self.program() },
            _ => LocalServerError::io("start the server", source),
        })?;
        let mut process = Process::watched(child, self.directory.path())?;
        self.wait_until_up(&mut process, log_start)?;
        Ok(process)
    }

    fn command(&self, port: Option<u16>, log: File) -> Result<Command, LocalServerError> {
        let log_too = log
            .try_clone()
            .map_err(|source| LocalServerError::io("share the server's log", source))?;
        let mut command = Command::new(&self.builder.program);
        command
            .args(["--daemonize", "no", "--save", "", "--appendonly", "no"])
            .args(["--bind", "127.0.0.1", "--port", &port.unwrap_or(0).to_string()])
            .args([OsStr::new("--dir"), self.directory.path().as_os_str()])
            .args([OsStr::new("--unixsocket"), self.socket.as_os_str()])
            .args(["--unixsocketperm", "700"])
            .args(self.rdma_args())
            .args(&self.builder.args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .process_group(0);
        Ok(command)
    }

    fn rdma_args(&self) -> Vec<String> {
        let Some(address) = self.rdma else { return Vec::new() };
        let args =
            ["--rdma-bind", &address.ip().to_string(), "--rdma-port", &address.port().to_string()];
        args.map(str::to_owned).to_vec()
    }

    fn wait_until_up(&self, process: &mut Process, log_start: u64) -> Result<(), LocalServerError> {
        let started = Instant::now();
        let output = || output_tail(&self.log_path(), log_start);
        loop {
            let exit = process.exit_status();
            if let Some(status) =
                exit.map_err(|source| LocalServerError::io("watch the server", source))?
            {
                let program = self.program();
                return Err(LocalServerError::Exited { program, status, output: output() });
            }
            if answers_ping(&self.socket) {
                return Ok(());
            }
            if self.builder.stop.is_cancelled() {
                return Err(LocalServerError::Stopped { program: self.program() });
            }
            // Where there is RDMA without a card, the machine is mostly an emulated one.
            let patience = if self.rdma.is_some() { 4 * START_TIMEOUT } else { START_TIMEOUT };
            if started.elapsed() > patience {
                let program = self.program();
                return Err(LocalServerError::Unanswered { program, output: output() });
            }
            thread::sleep(PING_INTERVAL);
        }
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("server.log")
    }

    fn program(&self) -> String {
        self.builder.program.to_string_lossy().into_owned()
    }
}

/// The address of an RDMA device that the environment names. What dials there is registered with it.
fn rdma_address() -> Option<IpAddr> {
    let address = std::env::var("RESPIRE_LOCAL_RDMA").ok()?.parse().ok()?;
    crate::rdma::register();
    Some(address)
}

/// The server's process, which leads a group of its own. On drop the group is killed and the
/// process reaped, in this order: a number that is not reaped cannot belong to another group.
#[derive(Debug)]
struct Process {
    /// Dropped by hand before the child is reaped, as [`Watchdog::over`] asks. `None` where there
    /// is no shell: then only an outright kill of this process leaves the server behind.
    watchdog: Option<Watchdog>,
    child: Child,
    is_reaped: bool,
}

impl Process {
    fn watched(child: Child, directory: &Path) -> Result<Self, LocalServerError> {
        let mut process = Self { watchdog: None, child, is_reaped: false };
        process.watchdog = match Watchdog::over(process.child.id(), directory) {
            Ok(watchdog) => Some(watchdog),
            Err(source) if source.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(LocalServerError::io("start the watchdog", source)),
        };
        Ok(process)
    }

    /// How the process has ended; `None` while it runs. What it has started is ended with it.
    fn exit_status(&mut self) -> io::Result<Option<ExitStatus>> {
        let looks = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(WaitId::Pid(Pid::from_child(&self.child)), looks)? {
            None => Ok(None),
            Some(_) => self.end().map(Some),
        }
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        self.watchdog = None;
        if !self.is_reaped {
            // Fails only when nothing of the group is left.
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            self.is_reaped = true;
        }
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails only when somebody else has reaped our child.
        let _ = self.end();
    }
}

/// Why a server could not be started or cleared away.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalServerError {
    /// The program is not on PATH.
    #[error("there is no `{program}` on PATH")]
    NotFound {
        /// What was looked for.
        program: String,
    },
    /// The server ended before it answered.
    #[error("`{program}` ended at its start ({status}) {}", quoted(output))]
    Exited {
        /// What was started.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its output.
        output: String,
    },
    /// The server runs, but has not answered.
    #[error("`{program}` did not answer within {START_TIMEOUT:?} {}", quoted(output))]
    Unanswered {
        /// What was started.
        program: String,
        /// The end of its output.
        output: String,
    },
    /// The start was given up, as [`stop_when`](LocalServerBuilder::stop_when) asked.
    #[error("the start of `{program}` was given up")]
    Stopped {
        /// What was being started.
        program: String,
    },
    /// The temporary directory lies too deep for a Unix socket in it.
    #[error(
        "the path {path:?} is too long for a Unix socket: set TMPDIR to a directory with a \
         shorter one"
    )]
    SocketPathTooLong {
        /// Where the socket would have been.
        path: PathBuf,
    },
    /// The operating system refused something.
    #[error("could not {action}")]
    Io {
        /// What was tried, to follow "could not".
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl LocalServerError {
    /// Whether the program is missing, so that another may be tried.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    fn is_address_in_use(&self) -> bool {
        matches!(self, Self::Exited { output, .. } if output.contains("Address already in use"))
    }

    fn io(action: &'static str, source: io::Error) -> Self {
        Self::Io { action, source }
    }
}

/// A server's output as the end of a message.
fn quoted(output: &str) -> String {
    match output {
        "" => "and said nothing".to_owned(),
        output => format!("and said:\n{output}"),
    }
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16, LocalServerError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| LocalServerError::io("find a free TCP port", source))
}

/// Whether the server on `socket` is up: it has said PONG, or that it wants a password first.
fn answers_ping(socket: &Path) -> bool {
    let ask = || -> io::Result<bool> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PING_TIMEOUT))?;
        stream.set_write_timeout(Some(PING_TIMEOUT))?;
        stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
        // Both answers are longer than this, so that no answer can block the read.
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"+PONG\r\n" || &answer == b"-NOAUTH")
    };
    ask().unwrap_or(false)
}

/// The last lines that were written to the log at or after `start`.
fn output_tail(log: &Path, start: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(OUTPUT_BYTES_MAX))))?;
        let mut tail = Vec::new();
        file.take(OUTPUT_BYTES_MAX).read_to_end(&mut tail)?;
        Ok(tail)
    };
    match read() {
        Ok(tail) => String::from_utf8_lossy(&tail).trim_end().to_owned(),
        Err(error) => format!("(its log cannot be read: {error})"),
    }
}

#[cfg(test)]
mod tests;
