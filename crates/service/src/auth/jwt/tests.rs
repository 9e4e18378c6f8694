//! Tokens made by hand, as an attacker makes them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpServer, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use serde_json::{Value, json};

use super::*;
use crate::auth::jwk_source::{JwkSource, JwksPlace, of_pem, of_secret, parse};
use crate::auth::ticket::mac;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> i64 {
    crate::clock::now().unix_timestamp()
}

fn good() -> Value {
    json!({"sub": "u-1", "tenant_id": "acme", "exp": now() + 60})
}

/// A token with this header and these claims, signed by `sign`.
fn token(header: &Value, claims: &Value, sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let signature = b64(sign(message.as_bytes()));
    format!("{message}.{signature}")
}

fn rs256(key: &PKey<Private>) -> impl Fn(&[u8]) -> Vec<u8> {
    |message| {
        let mut signer = Signer::new(MessageDigest::sha256(), key).unwrap();
        signer.sign_oneshot_to_vec(message).unwrap()
    }
}

fn hs256(secret: &[u8]) -> impl Fn(&[u8]) -> Vec<u8> {
    |message| mac(secret, message).unwrap()
}

fn rules() -> TokenRules {
    TokenRules {
        algorithms: ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect(),
        issuer: None,
        audience: vec![],
        leeway: 5,
        user_claim: "sub".to_owned(),
        tenant_claim: "tenant_id".to_owned(),
    }
}

fn keys(keys: Vec<TokenKey>) -> TokenKeys {
    let all = TokenKeys::default();
    all.set(keys);
    all
}

fn rsa() -> PKey<Private> {
    PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap()
}

fn pem(key: &PKey<Private>) -> String {
    String::from_utf8(key.public_key_to_pem().unwrap()).unwrap()
}

fn jwk(kid: &str, key: &PKey<Private>) -> Value {
    let rsa = key.rsa().unwrap();
    json!({"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256",
        "n": b64(rsa.n().to_vec()), "e": b64(rsa.e().to_vec())})
}

#[test]
fn tokens_of_all_four_algorithms_are_believed() {
    let (rsa, ed) = (rsa(), PKey::generate_ed25519().unwrap());
    let ec = EcKey::generate(&EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap()).unwrap();
    let es256 = |message: &[u8]| {
        let signature = EcdsaSig::sign(&openssl::sha::sha256(message), &ec).unwrap();
        let part = |number: &openssl::bn::BigNumRef| number.to_vec_padded(32).unwrap();
        [part(signature.r()), part(signature.s())].concat()
    };
    let eddsa = |message: &[u8]| {
        let mut signer = Signer::new_without_digest(&ed).unwrap();
        signer.sign_oneshot_to_vec(message).unwrap()
    };
    let ec_pem = pem(&PKey::from_ec_key(ec.clone()).unwrap());
    for (algorithm, key, token) in [
        (
            "HS256",
            of_secret(SECRET),
            token(&json!({"alg": "HS256"}), &good(), hs256(SECRET.as_bytes())),
        ),
        (
            "RS256",
            of_pem(&pem(&rsa)),
            token(&json!({"alg": "RS256"}), &good(), rs256(&rsa)),
        ),
        (
            "ES256",
            of_pem(&ec_pem),
            token(&json!({"alg": "ES256"}), &good(), es256),
        ),
        (
            "EdDSA",
            of_pem(&pem(&ed)),
            token(&json!({"alg": "EdDSA"}), &good(), eddsa),
        ),
    ] {
        let keys = keys(vec![key.unwrap()]);
        let who = keys.check(&token, &rules()).unwrap();
        assert_eq!(
            (who.tenant.as_str(), who.owner()),
            ("acme", Some("u-1")),
            "{algorithm}"
        );
        // One bit of it changed, and it is no token any more.
        let at = token.rfind('.').unwrap() + 10;
        let flipped = if token.as_bytes()[at] == b'A' {
            "B"
        } else {
            "A"
        };
        let changed = format!("{}{flipped}{}", &token[..at], &token[at + 1..]);
        let refused = keys.check(&changed, &rules());
        assert_eq!(refused, Err(Refusal::Invalid("signature")), "{algorithm}");
    }
}

#[test]
fn forged_tokens_are_refused_each_for_its_reason() {
    let (rsa, other) = (rsa(), rsa());
    let public = pem(&rsa);
    let all = keys(parse(&json!({"keys": [jwk("k1", &rsa)]}).to_string()).unwrap());
    let rs = |header: Value, claims: Value| token(&header, &claims, rs256(&rsa));
    let mut strict = rules();
    strict.issuer = Some("https://id.example".to_owned());
    strict.audience = vec!["tidegate".to_owned()];
    let with = |name: &str, value: Value| {
        let mut claims = good();
        claims[name] = value;
        claims
    };
    let k1 = || json!({"alg": "RS256", "kid": "k1"});
    assert!(all.check(&rs(k1(), good()), &rules()).is_ok());
    for (what, token, reason) in [
        (
            "none",
            token(&json!({"alg": "none"}), &good(), |_| vec![]),
            "algorithm",
        ),
        (
            "None",
            token(&json!({"alg": "NoNe", "kid": "k1"}), &good(), |_| vec![]),
            "algorithm",
        ),
        (
            "HS with the public key",
            token(
                &json!({"alg": "HS256", "kid": "k1"}),
                &good(),
                hs256(public.as_bytes()),
            ),
            "algorithm",
        ),
        (
            "another's key",
            token(&k1(), &good(), rs256(&other)),
            "signature",
        ),
        (
            "no signature",
            format!("{}.{}.", b64(k1().to_string()), b64(good().to_string())),
            "signature",
        ),
        (
            "RS512",
            rs(json!({"alg": "RS512", "kid": "k1"}), good()),
            "algorithm",
        ),
        (
            "kid a path",
            rs(
                json!({"alg": "RS256", "kid": "../../../../dev/null"}),
                good(),
            ),
            "unknown_kid",
        ),
        (
            "kid SQL",
            rs(json!({"alg": "RS256", "kid": "k1' or '1'='1"}), good()),
            "unknown_kid",
        ),
        (
            "a key of its own",
            token(
                &json!({"alg": "RS256", "jwk": jwk("k1", &other)}),
                &good(),
                rs256(&other),
            ),
            "signature",
        ),
        (
            "expired",
            rs(k1(), with("exp", json!(now() - 60))),
            "expired",
        ),
        ("never ends", rs(k1(), json!({"sub": "u-1"})), "claims"),
        (
            "ends in words",
            rs(k1(), with("exp", json!("never"))),
            "claims",
        ),
        (
            "not yet",
            rs(k1(), with("nbf", json!(now() + 60))),
            "not_yet_valid",
        ),
        (
            "a tenant that is none",
            rs(k1(), with("tenant_id", json!("../a"))),
            "claims",
        ),
        (
            "a tenant in a list",
            rs(k1(), with("tenant_id", json!(["a"]))),
            "claims",
        ),
        ("nobody", rs(k1(), json!({"exp": now() + 60})), "claims"),
        ("two parts", "a.b".to_owned(), "malformed"),
    ] {
        let refused = all.check(&token, &rules());
        let fits = refused == Err(Refusal::Invalid(reason))
            || reason == "malformed" && refused == Err(Refusal::Invalid("algorithm"));
        assert!(fits, "{what}: {refused:?}");
    }
    let token = |claims: Value| rs(k1(), claims);
    let mut claims = with("iss", json!("https://id.example"));
    claims["aud"] = json!(["x", "tidegate"]);
    assert!(all.check(&token(claims.clone()), &strict).is_ok());
    for (name, value, reason) in [
        ("iss", json!("https://evil.example"), "issuer"),
        ("aud", json!("other"), "audience"),
        ("aud", Value::Null, "audience"),
    ] {
        let mut claims = claims.clone();
        claims[name] = value;
        let refused = all.check(&token(claims), &strict);
        let missing = refused == Err(Refusal::Invalid("claims"));
        assert!(
            missing || refused == Err(Refusal::Invalid(reason)),
            "{name}: {refused:?}"
        );
    }
}

#[test]
fn scopes_are_found_among_words_of_others() {
    let keys = keys(vec![of_secret(SECRET).unwrap()]);
    let scopes = |claims: Value| {
        let mut all = good();
        for (name, value) in claims.as_object().unwrap() {
            all[name] = value.clone();
        }
        let token = token(&json!({"alg": "HS256"}), &all, hs256(SECRET.as_bytes()));
        keys.check(&token, &rules()).unwrap().scopes.words()
    };
    assert_eq!(scopes(json!({})), ["write", "read"]);
    assert_eq!(
        scopes(json!({"scope": "openid profile"})),
        ["write", "read"]
    );
    assert_eq!(scopes(json!({"scope": "openid tidegate:read"})), ["read"]);
    assert_eq!(scopes(json!({"roles": ["user", "admin"]})), ["admin"]);
    assert_eq!(scopes(json!({"sub": null, "scp": ["replay"]})), ["replay"]);
}

#[test]
fn keys_that_anybody_could_guess_are_refused() {
    assert!(of_secret("secret").is_err());
    let short = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
    assert!(of_pem(&pem(&short)).unwrap_err().contains("2048"));
    assert!(of_pem("hello").is_err());
    let shared = json!({"keys": [{"kty": "oct", "k": b64(SECRET)}]});
    assert!(
        parse(&shared.to_string()).is_err(),
        "a shared secret is no public key"
    );
}

#[actix_web::test]
async fn a_new_key_of_the_issuer_is_looked_for_when_a_token_names_it() {
    let (first, second) = (rsa(), rsa());
    let set = |keys: &[Value]| json!({"keys": keys}).to_string();
    let served = Arc::new(Mutex::new(set(&[jwk("one", &first)])));
    let shown = Arc::clone(&served);
    let server = HttpServer::new(move || {
        let shown = Arc::clone(&shown);
        let answer = move || std::future::ready(shown.lock().unwrap().clone());
        App::new().route("/jwks", web::get().to(answer))
    });
    let server = server.workers(1).bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}/jwks", server.addrs()[0]);
    let server = server.run();
    let handle = server.handle();
    actix_web::rt::spawn(server);

    let keys = TokenKeys::default();
    let of = |kid: &str, key: &PKey<Private>| {
        token(&json!({"alg": "RS256", "kid": kid}), &good(), rs256(key))
    };
    let unknown = keys.check(&of("one", &first), &rules());
    assert_eq!(unknown, Err(Refusal::Unknown("no_token_keys")));
    let place = JwksPlace::Url(url, Duration::from_secs(300));
    let source = JwkSource::new(place, vec![], keys.clone());
    assert!(source.look().await);
    assert!(keys.check(&of("one", &first), &rules()).is_ok());

    *served.lock().unwrap() = set(&[jwk("two", &second)]);
    let refused = keys.check(&of("two", &second), &rules());
    assert_eq!(refused, Err(Refusal::Invalid("unknown_kid")));
    assert!(
        !source.look().await,
        "not for every token that names something"
    );
    source.forget_when();
    assert!(source.look().await);
    assert!(keys.check(&of("two", &second), &rules()).is_ok());
    assert!(
        keys.check(&of("one", &first), &rules()).is_err(),
        "withdrawn"
    );

    handle.stop(false).await;
    source.forget_when();
    assert!(!source.look().await);
    assert!(
        keys.check(&of("two", &second), &rules()).is_ok(),
        "the known keys go on"
    );
}
