//! Deadlines, and what to make of an error.

use std::time::{Duration, Instant};

use respire::{Client, Config, Error, RetryPolicy, SendState, WhenDown, commands::*};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args().nth(1);
    run(url.as_deref().unwrap_or("valkey://localhost:6379")).await
}

pub(crate) async fn run(url: &str) -> Result<(), Error> {
    let config: Config = url.parse()?;
    // It connects when it is first used; requests wait while the server is down, as long as their deadlines allow.
    let client = Client::unconnected(config.with_when_down(WhenDown::Wait));

    // One deadline for everything: connecting, waiting for a turn, the reply, and further attempts.
    let hasty = client.with_command_timeout(Some(Duration::from_millis(500)));
    let outcome = hasty.set("example:key", 1).await;
    println!("{}", advice(&outcome));

    // Or an instant by which all of several requests have ended.
    let client = client.with_deadline(Instant::now() + Duration::from_secs(5));
    client.incr("example:key").await?;

    // A write that may be sent twice is sent again only where that is wanted.
    let eager = client.with_retry(RetryPolicy::default().with_idempotent_writes(true));
    eager.set("example:key", 2).await?;
    client.del(["example:key"]).await?;
    Ok(())
}

fn advice<T>(outcome: &Result<T, Error>) -> String {
    let Err(error) = outcome else { return "it was carried out".to_owned() };
    match error.send_state() {
        SendState::NotSent => format!("nothing was done, it may be tried again: {error:#}"),
        SendState::MaybeSent => format!("it may have been done: {error:#}"),
        SendState::Answered => format!("the server says no: {error:#}"),
    }
}
