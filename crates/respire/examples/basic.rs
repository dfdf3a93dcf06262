//! Commands, typed and not, and what errors say: `cargo run -p respire --example basic -- valkey://localhost:6379`

use std::{collections::HashMap, time::Duration};

use respire::{Client, Command, SendState, commands::*};

#[tokio::main]
async fn main() -> Result<(), respire::Error> {
    let url = std::env::args().nth(1);
    run(url.as_deref().unwrap_or("valkey://localhost:6379")).await
}

pub(crate) async fn run(url: &str) -> Result<(), respire::Error> {
    let client = Client::connect(url).await?;

    // A method for each command of the common families.
    client.setex("example:greeting", "hello", Duration::from_secs(60)).await?;
    let greeting: Option<String> = client.get("example:greeting").await?;
    assert_eq!(greeting.as_deref(), Some("hello"));

    client.hset("example:user", [("name", "Ada"), ("city", "London")]).await?;
    let user: HashMap<String, String> = client.hgetall("example:user").await?;
    println!("{user:?}");

    // Any other command, with a reply that borrows from what was received.
    let reply =
        client.execute(Command::new("HMGET").arg("example:user").args(["name", "age"])).await?;
    let fields: Vec<Option<&str>> = reply.parse()?;
    assert_eq!(fields, [Some("Ada"), None]);

    // An error of the server is an answer, and says so.
    let error = client.incr("example:greeting").await.expect_err("it is no number");
    assert_eq!(error.send_state(), SendState::Answered);
    println!("{error:#}");

    // Many tasks share the client; their requests go out together.
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            tokio::spawn({
                let client = client.clone();
                async move { client.incr("example:visits").await }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no task panics")?;
    }
    let visits: Option<u64> = client.get("example:visits").await?;
    println!("{visits:?} visits");

    client.del(["example:greeting", "example:user", "example:visits"]).await?;
    client.close().await;
    Ok(())
}
