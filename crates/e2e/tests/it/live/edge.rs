//! The same through the edge proxy, which must hold nothing back.

use testkit::Edge;

use super::feed::{Feed, user};
use super::listener::Listener;
use crate::world::{World, beside_others};

#[tokio::test(flavor = "multi_thread")]
async fn events_come_through_the_edge_as_they_happen() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;
    let edge = Edge::start(system.ingest().port(), system.query().port()).await;
    let mut listener = Listener::begin(&edge.url(""), &user(0)).await;
    let mut feed = Feed::over_http(edge.url(""), 1, 0);
    // One at a time: each has to come before the next is sent, so a buffering proxy fails.
    for n in 1..=5 {
        feed.round(&world).await;
        listener.read_up_to(n).await;
    }
    listener.assert_complete(5);
    // The service goes and comes back.
    assert_eq!(system.query_mut().terminate().await.code(), Some(0));
    feed.round(&world).await;
    system.query_mut().restart().await;
    feed.round(&world).await;
    feed.round(&world).await;
    listener.read_up_to(feed.last).await;
    listener.assert_complete(feed.last);
    assert_eq!(listener.connections, 2);
}
