//! Two query replicas behind one address: whoever loses one goes on at the other.

use testkit::Proxy;
use tokio::task::JoinSet;

use crate::live::feed::{Feed, user};
use crate::live::listener::Listener;
use crate::world::{World, beside_others};

const CLIENTS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn who_resumes_on_the_other_one_misses_nothing() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;
    let mut other = world.service("query").start().await;
    let proxy = Proxy::start(&[system.query().port(), other.port()])
        .await
        .unwrap();
    let base = proxy.url("");
    let mut listeners = Vec::new();
    for client in 0..CLIENTS {
        listeners.push(Listener::begin(&base, &user(client)).await);
    }
    assert_eq!(proxy.served(), [CLIENTS / 2; 2]);

    let mut feed = Feed::new(system.ingest_url(""), CLIENTS);
    feed.round(&world).await;
    listeners = read_up_to(listeners, 1).await;
    // Half of the listeners lose theirs, while events keep coming.
    feed.round(&world).await;
    system.query_mut().kill();
    feed.round(&world).await;
    listeners = read_up_to(listeners, 3).await;
    let connections: usize = listeners.iter().map(|l| l.connections).sum();
    assert_eq!(connections, CLIENTS * 3 / 2);

    // Everyone is at the other one now, which goes in an orderly way.
    system.query_mut().restart().await;
    feed.round(&world).await;
    assert_eq!(other.terminate().await.code(), Some(0));
    feed.round(&world).await;
    listeners = read_up_to(listeners, 5).await;
    other.restart().await;
    // All lose the connection and find one or the other.
    feed.round(&world).await;
    proxy.cut();
    feed.round(&world).await;
    for listener in read_up_to(listeners, 7).await {
        listener.assert_complete(7);
        assert!((3..=4).contains(&listener.connections));
    }
    println!("connections by replica: {:?}", proxy.served());
}

async fn read_up_to(listeners: Vec<Listener>, n: u64) -> Vec<Listener> {
    let mut reading = JoinSet::new();
    for mut listener in listeners {
        reading.spawn(async move {
            listener.read_up_to(n).await;
            listener
        });
    }
    reading.join_all().await
}
