//! Several commands in one go, all or none of them, and a transaction that depends on what it reads.

use respire::{Client, Pipeline, Script, commands::*};

#[tokio::main]
async fn main() -> Result<(), respire::Error> {
    let url = std::env::args().nth(1);
    run(url.as_deref().unwrap_or("valkey://localhost:6379")).await
}

pub(crate) async fn run(url: &str) -> Result<(), respire::Error> {
    let client = Client::connect(url).await?;
    client.del(["example:stock", "example:board"]).await?;

    // Methods queue commands, and return what each reply is read with.
    let mut pipeline = Pipeline::new();
    pipeline.set("example:stock", 3);
    pipeline.zadd("example:board", [(7.0, "ada"), (9.5, "grace")]);
    let best =
        pipeline.zrange_with_scores::<String>("example:board", Zrange::by_rank(0, 0).reversed());
    let replies = client.pipeline(pipeline).await?;
    println!("{:?}", best.read(&replies)?);

    // MULTI and EXEC around them.
    let mut atomic = Pipeline::atomic();
    let left = atomic.decr("example:stock");
    atomic.zincrby("example:board", 1.0, "ada");
    let replies = client.pipeline(atomic).await?;
    assert_eq!(left.read(&replies)?, 2);

    // What is decided by a value that was read first: again, if somebody has changed it meanwhile.
    let (left,): (i64,) = client
        .transaction(["example:stock"], |mut transaction| async move {
            let stock: Option<i64> = transaction.get("example:stock").await?;
            let mut commands = Pipeline::new();
            commands.decrby("example:stock", stock.unwrap_or_default().min(5));
            transaction.commit(commands).await
        })
        .await?;
    assert_eq!(left, 0);

    // A script, by its digest; it is loaded where the server does not know it.
    let double = Script::new("return ARGV[1] * 2");
    assert_eq!(double.arg(21).run::<i64>(&client).await?, 42);

    client.del(["example:stock", "example:board"]).await?;
    Ok(())
}
