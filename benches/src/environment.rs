//! Where and when a record was made.

use std::fs;
use std::process::Command;
use std::time::SystemTime;

/// What a record says about its origin.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The processor's name and how many of it there are.
    pub cpu: String,
    /// The load average of the last minute when the run began.
    pub load: String,
    /// Day and time, in UTC.
    pub date: String,
    /// The commit, and whether what was measured differs from it.
    pub commit: String,
    /// The compiler.
    pub rustc: String,
    /// The profile of this build: `release`, or `lto`.
    pub profile: String,
}

impl Environment {
    /// As it is now, for a record of the codec; what cannot be found out is "unknown".
    pub fn current() -> Self {
        Self::of(&["benches", "crates/respire-codec"])
    }

    /// As it is now; `paths` is what was measured, relative to the root.
    pub fn of(paths: &[&str]) -> Self {
        Self {
            cpu: cpu().unwrap_or_else(unknown),
            load: load().unwrap_or_else(unknown),
            date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            commit: commit(paths).unwrap_or_else(unknown),
            rustc: output(Command::new("rustc").arg("--version")).unwrap_or_else(unknown),
            profile: profile().unwrap_or_else(unknown),
        }
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn cpu() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let field = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let count = info.lines().filter(|line| line.starts_with("processor")).count();
    let (family, model) = (field("cpu family")?, field("model\t")?);
    Some(format!("{}, family {family} model {model}, {count} in all", field("model name")?))
}

fn load() -> Option<String> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next().map(str::to_owned)
}

fn commit(paths: &[&str]) -> Option<String> {
    let here = env!("CARGO_MANIFEST_DIR");
    let git = |args: &[&str]| output(Command::new("git").arg("-C").arg(here).args(args));
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let from_the_root: Vec<String> = paths.iter().map(|path| format!(":(top){path}")).collect();
    let paths: Vec<&str> = from_the_root.iter().map(String::as_str).collect();
    let changes = git(&[&["status", "--porcelain", "--"], &paths[..]].concat())?;
    Some(if changes.is_empty() { commit } else { format!("{commit} and changes on top of it") })
}

/// cargo names the directory of a program after the profile.
fn profile() -> Option<String> {
    let program = std::env::current_exe().ok()?;
    program.parent()?.file_name()?.to_str().map(str::to_owned)
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}

/// The version of a dependency that this was built with.
pub fn version(package: &str) -> &'static str {
    let lock = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"));
    let name = format!("name = \"{package}\"\nversion = \"");
    let version = lock.split_once(&name).and_then(|(_, rest)| rest.split('"').next());
    version.unwrap_or("unknown")
}

/// The command line again, without the file that the record went to.
pub fn command(profile: &str, program: &str) -> String {
    let mut words = vec![format!("cargo run --profile {profile} --bin {program} --")];
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--record" => drop(args.next()),
            record if record.starts_with("--record=") => {}
            _ if arg.contains(' ') => words.push(format!("'{arg}'")),
            _ => words.push(arg),
        }
    }
    words.join(" ").trim_end_matches(" --").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_lock_file() {
        assert_eq!(version(env!("CARGO_PKG_NAME")), env!("CARGO_PKG_VERSION"));
        assert_eq!(version("no such package"), "unknown");
    }
}
