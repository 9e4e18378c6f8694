//! A broker that is far away.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// The address of a proxy in front of a broker of this machine whose every answer takes that much longer.
pub(crate) async fn far(brokers: &str, longer: Duration) -> String {
    let (host, port) = brokers.split_once(':').expect("one address");
    let listener = TcpListener::bind((host, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let place = |port: u16| [host.as_bytes(), &i32::from(port).to_be_bytes()].concat();
    // As the broker gives its address, and as it is reached through here.
    let places = (place(port.parse().expect("a port")), place(address.port()));
    let brokers = brokers.to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let broker = TcpStream::connect(&brokers).await.expect("the broker");
            tokio::spawn(forward(client, broker, places.clone(), longer));
        }
    });
    address.to_string()
}

async fn forward(
    client: TcpStream,
    broker: TcpStream,
    (from, to): (Vec<u8>, Vec<u8>),
    longer: Duration,
) {
    let (mut requests, mut to_client) = client.into_split();
    let (mut answers, mut to_broker) = broker.into_split();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move { tokio::io::copy(&mut requests, &mut to_broker).await });
    tokio::spawn(async move {
        // An answer is its length and so many bytes.
        while let Ok(length) = answers.read_i32().await {
            let mut answer = vec![0; usize::try_from(length).expect("a length")];
            if answers.read_exact(&mut answer).await.is_err() {
                return;
            }
            while let Some(at) = answer.windows(from.len()).position(|bytes| bytes == from) {
                answer[at..at + to.len()].copy_from_slice(&to);
            }
            let framed = [&length.to_be_bytes(), &answer[..]].concat();
            if sender.send((Instant::now() + longer, framed)).is_err() {
                return;
            }
        }
    });
    while let Some((at, answer)) = receiver.recv().await {
        tokio::time::sleep_until(at).await;
        if to_client.write_all(&answer).await.is_err() {
            return;
        }
    }
}
