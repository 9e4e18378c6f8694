//! The console: a page that shows what is happening (docs/console.md). Its files are part of the binary;
//! it asks this API and nothing else.

pub mod moment;
pub mod pieces;
pub mod stream;
pub mod tail;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, ETAG, IF_NONE_MATCH, LOCATION,
};
use actix_web::{HttpRequest, HttpResponse, web};
use service::Problem;

/// Its address.
pub const PATH: &str = "/console/";

/// Everything from our own origin, nothing inline, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

macro_rules! files {
    ($($name:literal)*) => {
        /// The files by their names.
        pub const FILES: &[(&str, &[u8])] = &[$((
            $name,
            include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/console/", $name)),
        )),*];
    };
}

files! {
    "index.html" "icon.svg" "style.css" "app.js" "texts.js" "dom.js" "api.js" "live.js" "widgets.js" "chart.js"
    "now.js" "tail.js" "event.js" "dead.js" "webhooks.js" "streams.js" "flow.js" "replays.js" "processors.js"
    "alerts.js" "audits.js" "report.js" "erasures.js" "keys.js" "tenants.js" "names.js" "try.js" "uPlot.iife.min.js" "uPlot.min.css"
}

/// GET / and GET /console: the page is at `/console/`, so that it finds its files beside it.
pub async fn to_page() -> HttpResponse {
    HttpResponse::Found()
        .insert_header((LOCATION, PATH))
        .finish()
}

/// GET /console/.
pub async fn page(request: HttpRequest) -> Result<HttpResponse, Problem> {
    file(&request, "index.html")
}

/// GET /console/{file}.
///
/// # Errors
/// 404 for any other name.
pub async fn part(request: HttpRequest, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    file(&request, &name)
}

fn file(request: &HttpRequest, name: &str) -> Result<HttpResponse, Problem> {
    let Some((_, bytes)) = FILES.iter().find(|(known, _)| *known == name) else {
        return Err(Problem::not_found(format!("No such file: {name}")));
    };
    let mut hash = DefaultHasher::new();
    bytes.hash(&mut hash);
    let tag = format!("W/\"{:x}\"", hash.finish());
    let known = request.headers().get(IF_NONE_MATCH);
    let known = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut answer = if known {
        HttpResponse::NotModified()
    } else {
        HttpResponse::Ok()
    };
    answer
        .insert_header((ETAG, tag))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((CONTENT_SECURITY_POLICY, POLICY));
    if known {
        return Ok(answer.finish());
    }
    let kind = match name.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    };
    Ok(answer.content_type(kind).body(*bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    /// What a phone has to fetch, all pages together.
    const MOST_BYTES: usize = 150 * 1024;

    #[test]
    fn all_files_together_are_small() {
        let packed = |bytes: &[u8]| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap().len()
        };
        let bytes: usize = FILES.iter().map(|(_, bytes)| packed(bytes)).sum();
        assert!(bytes <= MOST_BYTES, "{bytes} bytes");
    }

    #[test]
    fn its_names_are_those_of_the_api() {
        use domain::{EventCategory, EventSource};

        let (_, source) = FILES.iter().find(|(name, _)| *name == "names.js").unwrap();
        let source = std::str::from_utf8(source).unwrap();
        let of = |list: &str| -> Vec<String> {
            let begin = format!("export const {list} = [");
            let (_, rest) = source.split_once(begin.as_str()).unwrap();
            let (words, _) = rest.split_once(']').unwrap();
            let words = words.split('"').skip(1).step_by(2);
            words.map(str::to_owned).collect()
        };
        let sources = EventSource::ALL.iter().map(|one| one.as_str());
        assert!(of("SOURCES").iter().eq(sources));
        let categories = EventCategory::ALL.iter().map(|one| one.as_str());
        assert!(of("CATEGORIES").iter().eq(categories));
    }

    #[test]
    fn nothing_is_inline_and_all_that_is_named_is_there() {
        let text = |name: &str| {
            let (_, bytes) = FILES.iter().find(|(known, _)| *known == name).unwrap();
            std::str::from_utf8(bytes).unwrap()
        };
        let page = text("index.html");
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" on"));
        for (name, bytes) in FILES {
            if name.starts_with("uPlot") || *name == "index.html" {
                continue;
            }
            let source = std::str::from_utf8(bytes).unwrap();
            for way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
                "document.write",
            ] {
                assert!(!source.contains(way), "{name} has {way}");
            }
            for import in source.split("from \"./").skip(1) {
                let file = import.split('"').next().unwrap();
                assert!(
                    FILES.iter().any(|(known, _)| *known == file),
                    "{name}: {file}"
                );
            }
        }
        for part in page.split("src=\"").chain(page.split("href=\"")).skip(1) {
            let file = part.split('"').next().unwrap();
            let own = file.ends_with(".js") || file.ends_with(".css") || file.ends_with(".svg");
            assert!(
                !own || FILES.iter().any(|(known, _)| *known == file),
                "{file}"
            );
        }
    }
}
