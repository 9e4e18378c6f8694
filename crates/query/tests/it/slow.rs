//! Clients that do not take their answers.

use serde_json::json;
use testkit::{LIMIT, eventually, slow_connection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::World;

const MIB: u64 = 1 << 20;

/// Asks for a page of 10 MB, and reads nothing.
async fn ask(world: &World) -> TcpStream {
    let mut client = slow_connection(&world.service.url("/")).await.unwrap();
    let request = "GET /api/v1/events/history?limit=50 HTTP/1.1\r\nhost: x\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

async fn inflight(world: &World) -> u64 {
    let page = world.request("GET", "/metrics").send().await.unwrap();
    let page = page.text().await.unwrap();
    let name = "tidegate_query_inflight_bytes ";
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn answers_that_nobody_takes_are_bounded_and_their_clients_are_closed() {
    // More clients and more bytes each than the budget has room for.
    let clients = if std::env::var_os("SOAK").is_some() {
        1_000
    } else {
        60
    };
    let world = World::start_with(&[
        ("MAX_RESPONSE_BYTES", "16777216"),
        ("MAX_INFLIGHT_RESPONSE_BYTES", "33554432"),
        ("DB_POOL_SIZE", "2"),
        ("CLIENT_STALL_SECONDS", "3"),
    ])
    .await;
    let filling = "x".repeat(200_000);
    let events: Vec<_> = (0..50)
        .map(|n| json!({"data": {"n": n, "filling": filling}}))
        .collect();
    world.insert(&events).await;
    // What a few answers at once cost for good is no leak.
    let mut before = 0;
    for _ in 0..4 {
        let page = || world.get("/api/v1/events/history?limit=50");
        let (one, other) = tokio::join!(page(), page());
        one.ok();
        other.ok();
        before = before.max(world.service.memory().rss);
    }

    let mut waiting = Vec::new();
    for _ in 0..clients {
        waiting.push(ask(&world).await);
    }
    eventually("bytes wait", LIMIT, || async {
        match inflight(&world).await {
            0 => Err("none"),
            bytes => {
                assert!(bytes <= 32 * MIB, "{bytes}");
                Ok(())
            }
        }
    })
    .await;
    // Who takes nothing is closed.
    eventually("nothing waits", LIMIT, || async {
        match inflight(&world).await {
            0 => Ok(()),
            bytes => Err(bytes),
        }
    })
    .await;
    // Unbounded it would have been 10 MB for each.
    let peak = world.service.memory().peak_rss;
    assert!(peak < before + 160 * MIB, "{} MiB", (peak - before) / MIB);
    for client in &mut waiting[..1] {
        let mut rest = Vec::new();
        // What its kernel has taken, and then the end: no client got all of it.
        let _ = client.read_to_end(&mut rest).await;
        assert!(rest.len() < 10_000_000, "{}", rest.len());
    }
    // The allocator gives pages back as the service goes on working, not while it stands still.
    eventually("its memory is given back", 2 * LIMIT, || async {
        world.get("/api/v1/events/history?limit=50").await.ok();
        let now = world.service.memory().rss;
        (now < before + 64 * MIB).then_some(()).ok_or(now)
    })
    .await;
}

#[tokio::test]
async fn a_client_that_takes_a_little_now_and_then_gets_all_of_it() {
    let world = World::start_with(&[("CLIENT_STALL_SECONDS", "2")]).await;
    let filling = "x".repeat(200_000);
    let events: Vec<_> = (0..50)
        .map(|n| json!({"data": {"n": n, "filling": filling}}))
        .collect();
    world.insert(&events).await;
    let mut client = ask(&world).await;
    let (mut taken, mut bytes) = (0, vec![0; 64 * 1024]);
    // Longer than it may take nothing.
    for _ in 0..30 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        taken += client.read(&mut bytes).await.unwrap();
    }
    let all = async {
        while taken < 50 * 200_000 {
            taken += match client.read(&mut bytes).await.unwrap() {
                0 => panic!("it ends after {taken} bytes"),
                more => more,
            };
        }
    };
    tokio::time::timeout(LIMIT, all).await.unwrap();
}
