//! Redis over TLS.

use testkit::{LIMIT, Part, Parts, SseStream, eventually};

use super::publisher::wait;
use crate::world::World;

async fn live(world: &World, wanted: &str) {
    eventually("the state of live delivery", LIMIT, || async {
        let ready = world.get("/ready").await;
        let detail = ready.body["checks"]["live"]["detail"]
            .as_str()
            .unwrap_or("")
            .to_owned();
        if detail.contains(wanted) {
            Ok(())
        } else {
            Err(detail)
        }
    })
    .await;
}

#[tokio::test]
async fn redis_is_reached_over_tls_with_its_certificate_checked() {
    let parts = Parts::private_of(&[Part::Redis]).await;
    let secure = parts.secure(&[Part::Redis]).await;
    let authority = secure.authority.path("authority.pem");
    let url = [("REDIS_URL", secure.redis_url.as_str())];
    let stranger = World::start_with(&url).await;
    live(&stranger, "certificate").await;
    let world = World::start_with(&[url[0], ("SSL_CERT_FILE", &authority)]).await;
    live(&world, "connected").await;
    let address = world.service.url("/api/v1/sse/users/u");
    let mut stream = SseStream::open(&address, None).await.unwrap();
    wait("it begins", stream.wait_cursor()).await.unwrap();
}
