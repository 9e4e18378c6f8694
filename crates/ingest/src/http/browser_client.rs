//! The browser client as one script, whose modules are in `client/src`.

use std::io::Write as _;
use std::sync::LazyLock;

use actix_web::http::header::{
    AcceptEncoding, CACHE_CONTROL, CONTENT_ENCODING, CROSS_ORIGIN_RESOURCE_POLICY, ContentEncoding,
    ETag, Encoding, EntityTag, Header as _, IfNoneMatch, VARY,
};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use uuid::Uuid;

/// Where it is served.
pub const PATH: &str = "/tidegate.js";

/// Written by `scripts/browser-client`.
const SCRIPT: &str = include_str!("../../client/tidegate.js");

/// The script packed; `None` does not happen, as writing to memory cannot fail.
static PACKED: LazyLock<Option<Bytes>> = LazyLock::new(|| {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(SCRIPT.as_bytes()).ok()?;
    packed.finish().ok().map(Bytes::from)
});

/// The same on every replica of a version; weak, as it stands for the packed script too.
static TAG: LazyLock<EntityTag> = LazyLock::new(|| {
    let hash = Uuid::new_v5(&Uuid::NAMESPACE_URL, SCRIPT.as_bytes());
    EntityTag::new_weak(hash.simple().to_string())
});

/// GET /tidegate.js: the browser client. Pages ask again after five minutes, and are told 304 while it
/// is the same.
pub async fn serve(request: HttpRequest) -> HttpResponse {
    let known = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(&TAG)),
        Err(_) => false,
    };
    let mut answer = if known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    answer
        .insert_header(ETag(TAG.clone()))
        .insert_header((CACHE_CONTROL, "public, max-age=300"))
        .insert_header((VARY, "Accept-Encoding"))
        .insert_header((CROSS_ORIGIN_RESOURCE_POLICY, "cross-origin"))
        .content_type("text/javascript; charset=utf-8");
    if known {
        return answer.finish();
    }
    let gzip = [Encoding::gzip(), Encoding::identity()];
    let accepted = AcceptEncoding::parse(&request).ok();
    let encoding = accepted.and_then(|accepted| accepted.negotiate(gzip.iter()));
    match (encoding, &*PACKED) {
        (Some(encoding), Some(packed)) if encoding == gzip[0] => answer
            .insert_header((CONTENT_ENCODING, ContentEncoding::Gzip))
            .body(packed.clone()),
        _ => answer.body(SCRIPT),
    }
}
