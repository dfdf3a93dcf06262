//! Subscriptions, which also say where messages may be missing.

use respire::{Client, commands::*, pubsub::Event};

#[tokio::main]
async fn main() -> Result<(), respire::Error> {
    let url = std::env::args().nth(1);
    run(url.as_deref().unwrap_or("valkey://localhost:6379")).await
}

pub(crate) async fn run(url: &str) -> Result<(), respire::Error> {
    let client = Client::connect(url).await?;
    let mut news = client.subscribe(["example:news"]).await?;
    news.psubscribe(["example:weather:*"]).await?;

    client.publish("example:news", "hello").await?;
    client.publish("example:weather:berlin", "rain").await?;
    client.publish("example:news", "goodbye").await?;

    while let Some(event) = news.next().await {
        match event {
            Event::Message(message) => {
                println!("{:?}: {:?}", message.channel(), message.payload());
                if message.payload() == "goodbye" {
                    break;
                }
            }
            Event::Lagged { dropped } => println!("too slow for {dropped} messages"),
            Event::Interrupted => println!("the connection was lost: messages may be missing"),
            Event::Resumed => println!("everything is subscribed to again"),
            other => println!("{other:?}"),
        }
    }
    println!("{:?}", client.stats().subscriptions);
    Ok(())
}
