//! A Redis too old to be used, and put right: the real one, whose version is changed on its way.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use live::{LiveError, Reset, Resume, Retention};
use testkit::{LIMIT, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Fixture as _, InRedis, Listener, publish_numbers, user};

const VERSION: &[u8] = b"redis_version:";

/// Carries connections to that port of loopback; while `old`, what it calls its version is 6.
async fn carrier(to: u16, old: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let old = Arc::clone(&old);
            tokio::spawn(async move {
                let redis = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await?;
                let (mut from_redis, mut to_redis) = redis.into_split();
                let (mut from_client, mut to_client) = client.into_split();
                let back = async {
                    let mut bytes = vec![0; 64 * 1024];
                    loop {
                        let length = from_redis.read(&mut bytes).await?;
                        if length == 0 {
                            return std::io::Result::Ok(());
                        }
                        let said = &mut bytes[..length];
                        let at = said.windows(VERSION.len()).position(|part| part == VERSION);
                        if let Some(at) = at.filter(|_| old.load(Ordering::SeqCst)) {
                            said[at + VERSION.len()] = b'6';
                        }
                        to_client.write_all(said).await?;
                    }
                };
                tokio::select! {
                    ended = back => ended,
                    ended = tokio::io::copy(&mut from_client, &mut to_redis) => ended.map(drop),
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_redis_too_old_is_as_good_as_none_and_says_so() {
    let redis = InRedis::new(Retention::default()).await;
    let old = Arc::new(AtomicBool::new(true));
    let behind = redis.over(carrier(redis.port(), Arc::clone(&old)).await);
    let channels = behind.channels();
    let channel = user("ada");
    let mut listener = Listener::new(channels, &channel, Resume::Live);

    let problem = eventually("it is refused", LIMIT, || async {
        channels.problem().ok_or("no problem")
    })
    .await;
    assert!(problem.contains("is Redis 6."), "{problem}");
    assert!(problem.contains("needs 7 or newer"), "{problem}");
    assert!(!channels.connected());
    let refused = channels.publish(&[]).await;
    assert!(
        matches!(&refused, Err(LiveError::Unavailable(why)) if why.contains("needs 7 or newer")),
        "{refused:?}"
    );
    assert!(listener.silent().await);

    old.store(false, Ordering::SeqCst);
    listener.expect_reset(Reset::Gap).await;
    eventually("connected", LIMIT, || async {
        (channels.connected() && channels.problem().is_none())
            .then_some(())
            .ok_or(())
    })
    .await;
    publish_numbers(channels, &channel, 0..1).await;
    listener.expect(0..1).await;
}
