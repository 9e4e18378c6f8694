//! Who may not: every route of every service, with every kind of wrong credentials.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use testkit::{LIMIT, ServiceBuilder, TestService, eventually, eventually_eq};

use crate::SHAPE;
use crate::direct::{Record, produce};
use crate::world::{BACKEND, DOMAIN, Shape, World, beside_others};

/// What nobody but its owner may read.
const SECRET: &str = "only-for-the-victim";

/// The keys of the file, by their letter.
pub(crate) fn key(kind: &str, letter: &str) -> String {
    format!("tg_{kind}_{}", letter.repeat(43))
}

/// Of the operator, of tenant acme (all, reading, sending), of tenant other (all), of the default tenant
/// (reading).
fn key_file() -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("keys-{}", uuid::Uuid::now_v7()));
    let lines = [
        (key("secret", "o"), "default", "admin"),
        (key("secret", "r"), "default", "read"),
        (key("write", "w"), "default", "write"),
        (key("secret", "a"), "acme", "admin"),
        (key("secret", "x"), "other", "admin"),
    ];
    let lines = lines.map(|(key, tenant, scopes)| format!("{key} {tenant} {scopes}\n"));
    std::fs::write(&path, lines.concat()).unwrap();
    path
}

/// The services of a world whose door is shut.
pub(crate) struct Guarded {
    pub(crate) world: World,
    pub(crate) services: Vec<TestService>,
    issuer: PKey<Private>,
    file: std::path::PathBuf,
    http: reqwest::Client,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

impl Guarded {
    pub(crate) async fn start(world: World) -> Self {
        let issuer = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let file = key_file();
        let names = match SHAPE {
            Shape::Split => &["ingest", "processor", "query"][..],
            Shape::AllInOne => &["tidegate"],
        };
        let mut all = Self {
            world,
            services: vec![],
            issuer,
            file,
            http: reqwest::Client::new(),
        };
        for name in names {
            let service = all.service(name).start().await;
            all.services.push(service);
        }
        // One of them makes the schema.
        for service in &all.services {
            all.knows_its_keys(service).await;
        }
        all
    }

    /// One more service whose door is shut as that of the others.
    pub(crate) async fn start_service(&self, name: &str) -> TestService {
        let service = self.service(name).start().await;
        self.knows_its_keys(&service).await;
        service
    }

    fn service(&self, name: &str) -> ServiceBuilder {
        let public = String::from_utf8(self.issuer.public_key_to_pem().unwrap()).unwrap();
        self.world
            .service(name)
            .env("AUTH_MODE", "jwt")
            .env("JWT_PUBLIC_KEY", &public)
            .env("API_KEYS_FILE", self.file.display())
            .env("KAFKA_DOMAIN_TOPICS", DOMAIN)
    }

    async fn knows_its_keys(&self, service: &TestService) {
        // Until the database has said its keys a service cannot know that one is none.
        eventually_eq("the keys are known", 401, || async {
            let request = self.http.get(service.url("/api/v1/admin/routes"));
            let request = request.bearer_auth(key("secret", "z"));
            Ok(request.send().await?.status().as_u16())
        })
        .await;
    }

    pub(crate) fn ingest(&self) -> &TestService {
        &self.services[0]
    }

    pub(crate) fn query(&self) -> &TestService {
        &self.services[self.services.len() - 1]
    }

    pub(crate) fn get(&self, path: &str, key: &str) -> RequestBuilder {
        let request = self.http.get(self.query().url(path));
        request.bearer_auth(key).timeout(Duration::from_secs(30))
    }

    pub(crate) async fn send(&self, key: &str, event: &Value) -> Response {
        let url = self.ingest().url("/api/v1/events/create");
        let request = self.http.post(url).bearer_auth(key).json(event);
        request.send().await.unwrap()
    }

    /// A token of the issuer.
    pub(crate) fn token(&self, claims: &Value) -> String {
        let mut signer = Signer::new(MessageDigest::sha256(), &self.issuer).unwrap();
        signed(&json!({"alg": "RS256"}), claims, |message| {
            signer.sign_oneshot_to_vec(message).unwrap()
        })
    }

    fn user(&self, name: &str) -> String {
        self.token(&json!({"sub": name, "exp": now() + 600}))
    }

    /// Every route of a service, as its router has them.
    async fn routes(&self, service: &TestService) -> Vec<(String, String, String)> {
        let request = self.http.get(service.url("/api/v1/admin/routes"));
        let answer = request
            .bearer_auth(key("secret", "o"))
            .send()
            .await
            .unwrap();
        let routes: Vec<Value> = answer.json().await.unwrap();
        let text = |route: &Value, name: &str| route[name].as_str().unwrap().to_owned();
        let routes = routes.iter().map(|route| {
            (
                text(route, "method"),
                text(route, "path"),
                text(route, "access"),
            )
        });
        routes.collect()
    }
}

fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

fn signed(header: &Value, claims: &Value, mut sign: impl FnMut(&[u8]) -> Vec<u8>) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let signature = URL_SAFE_NO_PAD.encode(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn hmac(secret: &[u8], message: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(secret).unwrap();
    let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
    signer.sign_oneshot_to_vec(message).unwrap()
}

/// What a route that takes events would take.
fn body(path: &str) -> Value {
    let one = json!({"event_type": "a.b", "user_id": "victim", "data": {},
        "type": "track", "event": "a", "userId": "victim", "groupId": "g", "previousId": "p",
        "name": "n", "ids": [1], "note": "n"});
    match path {
        "/v1/batch" | "/v1/import" => json!({"batch": [one]}),
        _ if path.contains("/frontend/") && path.ends_with("/batch") => json!({"events": [one]}),
        _ if path.ends_with("/batch") => json!([one]),
        _ => one,
    }
}

struct Attack {
    what: &'static str,
    /// Puts the credentials on.
    with: Box<dyn Fn(RequestBuilder) -> RequestBuilder>,
    /// The rules that must answer 401 (or with good credentials 403).
    refused: &'static [&'static str],
    status: u16,
}

const ALL: &[&str] = &[
    "public_write",
    "write",
    "own",
    "own_or_ticket",
    "read",
    "replay",
    "admin",
    "operator",
];
/// Without any credentials browsers may still send.
const CLOSED: &[&str] = &[
    "write",
    "own",
    "own_or_ticket",
    "read",
    "replay",
    "admin",
    "operator",
];

fn attacks(guarded: &Guarded) -> Vec<Attack> {
    let bearer = |what, token: String, refused, status| Attack {
        what,
        with: Box::new(move |request| request.bearer_auth(&token)),
        refused,
        status,
    };
    let admin = json!({"sub": "root", "roles": ["admin"], "exp": now() + 600});
    let public = guarded.issuer.public_key_to_pem().unwrap();
    let forged =
        |header: Value, secret: &[u8]| signed(&header, &admin, |message| hmac(secret, message));
    let o = key("secret", "o");
    let in_query = o.clone();
    let as_write_key = o.clone();
    let in_cookie = o.clone();
    let twice = o.clone();
    let expired = json!({"sub": "root", "roles": ["admin"], "exp": now() - 600});
    vec![
        Attack {
            what: "nothing",
            with: Box::new(|request| request),
            refused: CLOSED,
            status: 401,
        },
        Attack {
            what: "a key in the query",
            with: Box::new(move |request| {
                let names = ["key", "api_key", "access_token", "token", "ticket"];
                request.query(&names.map(|name| (name, in_query.clone())))
            }),
            refused: CLOSED,
            status: 401,
        },
        Attack {
            what: "a key in a cookie",
            with: Box::new(move |request| {
                request.header("cookie", format!("x-api-key={in_cookie}"))
            }),
            refused: CLOSED,
            status: 401,
        },
        Attack {
            what: "a gateway's headers, from no gateway",
            with: Box::new(|request| {
                request
                    .header("x-user-id", "victim")
                    .header("x-scopes", "admin")
            }),
            refused: CLOSED,
            status: 401,
        },
        Attack {
            what: "two credentials",
            with: Box::new(move |request| request.bearer_auth(&twice).header("x-api-key", &twice)),
            refused: ALL,
            status: 401,
        },
        Attack {
            what: "a secret key as write key",
            with: Box::new(move |request| request.query(&[("write_key", &as_write_key)])),
            refused: ALL,
            status: 401,
        },
        bearer("a key that is none", key("secret", "z"), ALL, 401),
        bearer("a key cut short", o[..o.len() - 1].to_owned(), ALL, 401),
        bearer("a word", "admin".to_owned(), ALL, 401),
        bearer("expired", guarded.token(&expired), ALL, 401),
        bearer(
            "alg none",
            signed(&json!({"alg": "none"}), &admin, |_| vec![]),
            ALL,
            401,
        ),
        bearer(
            "HS256 with the public key",
            forged(json!({"alg": "HS256"}), &public),
            ALL,
            401,
        ),
        bearer(
            "kid a file",
            forged(json!({"alg": "HS256", "kid": "../../../dev/null"}), b"\0"),
            ALL,
            401,
        ),
        bearer(
            "kid SQL",
            forged(json!({"alg": "HS256", "kid": "x' union select 'k"}), b"k"),
            ALL,
            401,
        ),
        bearer("a write key", key("write", "w"), &CLOSED[1..], 403),
        bearer(
            "a reading key",
            key("secret", "r"),
            &["public_write", "write", "replay", "admin", "operator"],
            403,
        ),
        bearer("a user", guarded.user("mallory"), &CLOSED[3..], 403),
        bearer(
            "another tenant's admin",
            key("secret", "x"),
            &["operator"],
            403,
        ),
    ]
}

#[tokio::test]
async fn nobody_gets_through_where_the_rule_says_no() {
    let _turn = beside_others().await;
    let guarded = Guarded::start(World::shared().await).await;
    let event = json!({"event_type": "a.b", "user_id": "victim", "data": {"secret": SECRET}});
    let answer = guarded.send(&key("write", "w"), &event).await;
    assert_eq!(answer.status(), 201);
    let answer: Value = answer.json().await.unwrap();
    let id = answer["event_id"].as_str().unwrap().to_owned();
    let bad = format!(r#"{{"event_type":7,"secret":"{SECRET}","data":{{}}}}"#);
    produce(&guarded.world, BACKEND, &[Record::new(0, "k", bad)]).await;
    // Who may, reads it everywhere: the event, and the dead letter.
    let (owner, operator) = (guarded.user("victim"), key("secret", "o"));
    for (path, key) in [
        (format!("/api/v1/events/{id}"), &owner),
        ("/api/v1/events/stream/user:victim".to_owned(), &owner),
        ("/api/v1/events/user/victim?format=full".to_owned(), &owner),
        ("/api/v1/events/history".to_owned(), &owner),
        ("/api/v1/events/history".to_owned(), &operator),
    ] {
        eventually(
            &format!("{path} shows it to whom it may"),
            LIMIT,
            || async {
                let text = guarded
                    .get(&path, key)
                    .send()
                    .await
                    .unwrap()
                    .text()
                    .await
                    .unwrap();
                text.contains(SECRET).then_some(()).ok_or(text)
            },
        )
        .await;
    }
    let letter = eventually("there is a dead letter", LIMIT, || async {
        let path = "/api/v1/events/dead-letters";
        let page: Value = guarded
            .get(path, &operator)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        page["dead_letters"][0]["id"].as_i64().ok_or(page)
    })
    .await;

    let mut tried = 0;
    for service in &guarded.services {
        let routes = guarded.routes(service).await;
        assert!(routes.len() > 5, "{routes:?}");
        for (method, path, access) in &routes {
            if access == "public" {
                continue;
            }
            let url = path
                .replace("{user_id}", "victim")
                .replace("{event_id}", &id);
            let url = url
                .replace("{stream_id}", "user:victim")
                .replace("{id}", &letter.to_string());
            for attack in attacks(&guarded) {
                let request = guarded
                    .http
                    .request(method.parse().unwrap(), service.url(&url));
                let request = if method != "GET" {
                    request.json(&body(path))
                } else {
                    request
                };
                let answer = (attack.with)(request)
                    .timeout(Duration::from_secs(30))
                    .send()
                    .await
                    .unwrap();
                let status = answer.status().as_u16();
                let context = format!("{method} {path} ({access}) with {}", attack.what);
                if attack.refused.contains(&access.as_str()) {
                    assert_eq!(status, attack.status, "{context}");
                    let challenge = answer.headers().contains_key("www-authenticate");
                    assert_eq!(challenge, status == 401, "{context}");
                    let kind = &answer.headers()["content-type"];
                    assert_eq!(kind, "application/problem+json", "{context}");
                } else {
                    assert!(status < 500, "{context}: {status}");
                    assert_ne!(status, 401, "{context}");
                }
                let may_send = ["write", "public_write"].contains(&access.as_str());
                if attack.what == "a user" && (may_send || url.contains("victim")) {
                    assert_eq!(status, 403, "{context}: another's id");
                }
                tried += 1;
                // A live stream does not end; who hears what has a test of its own.
                let reads = !["a reading key"].contains(&attack.what);
                let kind = answer.headers().get("content-type");
                if reads && kind.is_none_or(|kind| kind != "text/event-stream") {
                    let text = answer.text().await.unwrap();
                    assert!(!text.contains(SECRET), "{context}: {text}");
                }
            }
        }
    }
    assert!(tried > 500, "{tried}");
}
