//! A real browser: headless Chromium, a page with EventSource, and a connection that is lost. It
//! listens through the edge proxy, and that through a wire to cut.

use std::sync::{Arc, Mutex};

use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::Value;
use testkit::{Browser, Edge, Proxy, eventually};

use super::feed::{Feed, event_type, user};
use crate::world::{PATIENCE, World, beside_others};

/// The page and what it told, in order.
struct Page {
    port: u16,
    told: Arc<Mutex<Vec<Value>>>,
    handle: actix_web::dev::ServerHandle,
}

impl Page {
    /// Serves the page, from another origin than the stream's.
    fn serve(stream_url: &str) -> Self {
        let html = include_str!("browser.html").replace("STREAM_URL", stream_url);
        let told = Arc::new(Mutex::new(Vec::new()));
        let data = web::Data::from(Arc::clone(&told));
        let server = HttpServer::new(move || {
            let html = html.clone();
            let page = move || {
                let html = html.clone();
                async move { HttpResponse::Ok().content_type("text/html").body(html) }
            };
            App::new()
                .app_data(data.clone())
                .route("/", web::get().to(page))
                .route("/told", web::post().to(tell))
        })
        .workers(1)
        .bind(("127.0.0.1", 0))
        .unwrap();
        let port = server.addrs()[0].port();
        let server = server.disable_signals().run();
        let handle = server.handle();
        std::thread::spawn(move || actix_web::rt::System::new().block_on(server));
        Self { port, told, handle }
    }

    /// What one of the page's streams told.
    fn of(&self, stream: &str) -> Vec<Value> {
        let told = self.told.lock().unwrap();
        let own = told.iter().filter(|told| told["stream"] == stream);
        own.cloned().collect()
    }

    fn count(&self, stream: &str, what: &str) -> usize {
        let of = self.of(stream);
        of.iter().filter(|told| told["what"] == what).count()
    }

    /// Numbers of the events that stream was given, with the names they came under.
    fn events(&self, stream: &str) -> Vec<(u64, String)> {
        self.of(stream)
            .iter()
            .filter(|told| told.get("data").is_some() && told["what"] != "reset")
            .map(|told| {
                let n = &told["data"]["payload"]["n"];
                let n = n.as_u64().unwrap_or_else(|| panic!("{told}"));
                assert_eq!(told["data"]["event_type"], event_type(n).as_str(), "{told}");
                assert!(!told["id"].as_str().unwrap().is_empty(), "{told}");
                (n, told["what"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    /// All three streams were given everything of theirs up to this number, once and in order.
    async fn wait_complete(&self, last: u64) {
        let names = |n: u64, named: bool| {
            if named {
                event_type(n)
            } else {
                "message".to_owned()
            }
        };
        let all = |named: bool| (1..=last).map(move |n| (n, names(n, named)));
        let orders = all(true).filter(|(_, name)| name.starts_with("order."));
        let expected = [
            ("named", all(true).collect::<Vec<_>>()),
            ("unnamed", all(false).collect()),
            ("orders", orders.collect()),
        ];
        eventually("the browser has everything", PATIENCE, || async {
            for (stream, expected) in &expected {
                let events = self.events(stream);
                assert!(expected.starts_with(&events), "{stream}: {events:?}");
                if events.len() < expected.len() {
                    return Err(format!("{stream}: {}", events.len()));
                }
            }
            Ok(())
        })
        .await;
    }

    async fn wait_opened(&self, times: usize) {
        eventually("the streams are open", PATIENCE, || async {
            let opened = ["named", "unnamed", "orders"].map(|s| self.count(s, "open"));
            if opened.iter().all(|n| *n >= times) {
                Ok(())
            } else {
                Err(opened)
            }
        })
        .await;
    }
}

async fn tell(body: web::Bytes, told: web::Data<Mutex<Vec<Value>>>) -> HttpResponse {
    let value = serde_json::from_slice(&body).unwrap();
    told.lock().unwrap().push(value);
    HttpResponse::NoContent().finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_loses_its_connection_and_resumes() {
    let _turn = beside_others().await;
    let world = World::shared().await;
    let mut system = world.system().start().await;
    let edge = Edge::start(system.ingest().port(), system.query().port()).await;
    let proxy = Proxy::start(&[edge.port()]).await.unwrap();
    let page = Page::serve(&proxy.url(&format!("/api/v1/sse/users/{}", user(0))));
    let browser = Browser::start();
    browser
        .open(&format!("http://127.0.0.1:{}/", page.port))
        .await;
    page.wait_opened(1).await;
    let mut feed = Feed::over_http(system.ingest_url(""), 1, 0);
    let rounds = async |feed: &mut Feed| {
        for _ in 0..10 {
            feed.round(&world).await;
        }
    };
    rounds(&mut feed).await;
    page.wait_complete(10).await;

    // The network is gone for a while, and events happen.
    proxy.close();
    rounds(&mut feed).await;
    assert_eq!(page.events("named").len(), 10);
    proxy.open();
    page.wait_complete(20).await;
    page.wait_opened(2).await;

    // The service dies and comes back. A browser never tries again after an answer that says so:
    // the edge must give none.
    system.query_mut().kill();
    rounds(&mut feed).await;
    system.query_mut().restart().await;
    page.wait_opened(3).await;
    page.wait_complete(30).await;
    // And goes on from there.
    rounds(&mut feed).await;
    page.wait_complete(40).await;
    for stream in ["named", "unnamed", "orders"] {
        assert!(page.count(stream, "error") >= 2);
        assert_eq!(page.count(stream, "reset"), 0);
        let told = page.of(stream);
        // CLOSED would be 2: it would have given up.
        assert!(told.iter().all(|told| told["state"] != 2), "{told:?}");
    }
    drop(browser);
    page.handle.stop(false).await;
}
