//! Ends a child process whose parent was killed before it could do so itself.
//!
//! A process that is ended by SIGKILL runs no destructor, and asking the kernel to pass the death
//! on (`PR_SET_PDEATHSIG`) would need `unsafe` and follows the *thread* that started the child. So
//! a shell waits on a pipe whose other end only we hold: the pipe ends when we do, however we end.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Waits for the end of its input, then kills the process group `$1` and removes the directory `$2`.
const SCRIPT: &str = r#"read -r _; kill -KILL "-$1" 2>/dev/null; rm -rf -- "$2""#;

/// A shell that kills a process group and removes its directory when this process is gone.
///
/// Dropping it calls the shell off.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Watches over the process group of `process_id`, which must be a child that leads one and is
    /// not reaped before this value is dropped: until then its number cannot belong to another.
    ///
    /// # Errors
    ///
    /// The shell could not be started.
    pub(crate) fn over(process_id: u32, directory: &Path) -> io::Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "sh"])
            .arg(process_id.to_string())
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: Ctrl-C at the terminal is for us, not for the watchdog.
            .process_group(0)
            .spawn()?;
        Ok(Self { shell })
    }

    /// Ends the shell's input, as the end of this process would.
    #[cfg(test)]
    pub(crate) fn hang_up(&mut self) {
        self.shell.stdin = None;
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        // Killed before its input ends, because `Child::wait` closes the pipe.
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}
