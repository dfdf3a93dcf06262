//! The command line of `doctor`.

use clap::Args;
use respire::Config;

/// Examine a server that is to keep an index, and say what to change.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct DoctorArgs {
    /// The server, such as valkey://localhost:6379
    #[arg(value_name = "URL")]
    url: String,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Wrapped by hand, at 80 columns.
const AFTER_HELP: &str = "\
Looks at the version, the protocol, the role, cluster mode, what happens when
memory is short, how entries are stored, persistence, and how long a round trip
takes. It only asks: INFO, CONFIG GET and 50 PINGs. Of this machine it looks at
what is there for RDMA, and what is missing.

Each finding is a line: `ok`, `note` for what is neither good nor bad, `warning`
for what should be changed, with what to do in the next line. With --json:
  {\"server\":\"...\",\"findings\":[{\"check\":\"...\",\"level\":\"ok|note|warning\",
   \"found\":\"...\",\"advice\":\"...\"|null}]}

Exit status: 0 if there is nothing to change; 1 if there are warnings; 2 for a
wrong command line; 3 if the server cannot be reached or does not answer.";

impl DoctorArgs {
    pub(crate) fn config(&self) -> Result<Config, String> {
        super::server(&self.url).map_err(|error| format!("<URL> {error}"))
    }
}
