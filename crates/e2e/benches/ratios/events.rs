//! The events that every measurement uses: 24 types, 5,000 users, a fifth with a session, one a
//! millisecond within the last 24 hours, about 600 bytes of JSON each; and the same as they come in time.

use domain::envelope::Origin;
use domain::{Context, Event, EventCategory, EventSource, Limits, TenantId};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Event number `n`. `seed` keeps the ids of different runs apart.
pub(crate) fn event(n: u64, seed: u64, now: OffsetDateTime) -> Event {
    let millis = now.unix_timestamp().unsigned_abs() * 1_000 + n / 8;
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random(n, seed)).into_uuid();
    // A backlog is in the order of time: where times descend, each index grows at its wrong end.
    let at = now - Duration::DAY + Duration::milliseconds((n % 86_400_000).cast_signed());
    let session = if n.is_multiple_of(5) {
        format!(r#","session_id":"session-{}""#, n % 997)
    } else {
        String::new()
    };
    decode(&body(n, &format!(r#""event_id":"{id}","#), &session), at)
}

/// Event number `n` as a service in use gets it: its id is made when it happens, its user is any of
/// `users`, every second one has a session of some minutes, and its data take many values.
pub(crate) fn arrived(n: u64, seed: u64, at: OffsetDateTime, users: u64) -> Event {
    let random = random(n, seed);
    let millis = u64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    let any = u64::from_be_bytes(random[2..].try_into().unwrap_or_default());
    let session = if any.is_multiple_of(2) {
        let session = n / 200 * 20 + any / 2 % 20;
        format!(r#","session_id":"session-{session:x}""#)
    } else {
        String::new()
    };
    let id = format!(r#""event_id":"{id}","#);
    decode(&body_of(any, any / 7 % users, &id, &session), at)
}

fn decode(body: &str, at: OffsetDateTime) -> Event {
    let tenant = TenantId::default();
    let cx = Context {
        origin: Origin::Http,
        tenant: &tenant,
        received_at: at,
        now: at,
        fresh_id: Uuid::nil(),
        default_source: EventSource::Backend,
        default_category: EventCategory::UserAction,
        content_type: None,
        limits: Limits::default(),
    };
    domain::decode(body.as_bytes(), &cx)
        .unwrap_or_else(|error| panic!("the bench event is invalid: {error}"))
}

/// What a client posts as event number `n`; `id` and `session` are members to put in, or nothing.
pub(crate) fn body(n: u64, id: &str, session: &str) -> String {
    body_of(n, n % 5_000, id, session)
}

fn body_of(n: u64, user: u64, id: &str, session: &str) -> String {
    format!(
        r#"{{{id}"event_type":"bench.type_{}","event_source":"backend","event_category":"user_action","user_id":"user-{}"{session},"data":{{"product_id":"p-{}","quantity":{},"price":{}.5,"currency":"EUR","tags":["a","b"],"note":"a sentence of some length, as people write them"}},"metadata":{{"ip_address":"203.0.113.{}","user_agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"}},"context":{{"request_id":"{:016x}"}}}}"#,
        n % 24,
        user,
        n % 10_000,
        n % 9,
        n % 300,
        n % 255,
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15),
    )
}

fn random(n: u64, seed: u64) -> [u8; 10] {
    let a = (n ^ seed.rotate_left(17))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .to_be_bytes();
    let b = (n.wrapping_add(seed))
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        .to_be_bytes();
    let mut out = [0; 10];
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = if i < 8 { a[i] } else { b[i - 8] };
    }
    out
}
