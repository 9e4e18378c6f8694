//! Sends some events and waits until the service has them.
//!
//! TIDEGATE_URL=http://127.0.0.1:8208 TIDEGATE_KEY=… cargo run -p tidegate-client --example track

use serde_json::json;
use tidegate_client::{Client, Event};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::var("TIDEGATE_URL").unwrap_or("http://127.0.0.1:8208".to_owned());
    let client = Client::builder(&url)
        .key(std::env::var("TIDEGATE_KEY").ok().as_deref())
        .on_refused(|event, reason| eprintln!("refused: {reason}: {event}"))
        .start()?;
    for n in 0..100 {
        client.track(Event {
            user_id: Some("u-1".to_owned()),
            data: Some(json!({"order_id": n})),
            ..Event::new("order.placed")
        })?;
    }
    let counts = client.close().await;
    println!("{} accepted, {} refused", counts.accepted, counts.refused);
    Ok(())
}
