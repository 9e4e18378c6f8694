//! The HTTP server that all services run.

use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::{Handler, Server, ServerHandle};
use actix_web::middleware::from_fn;
use actix_web::{App, FromRequest, HttpServer, Resource, Responder, guard, web};

use crate::config::HttpConfig;
use crate::health::{self, Health};
use crate::metrics::{self, Registries};
use crate::problem::{Problem, not_found};
use crate::request_id::request_id;

/// A server that listens but is not polled yet.
pub struct Bound {
    /// The server, to be awaited or spawned; it ends after [`ServerHandle::stop`].
    pub server: Server,
    /// Stops the server.
    pub handle: ServerHandle,
    /// The address it listens on, with the actual port where 0 was asked for.
    pub address: SocketAddr,
}

/// A resource that answers GET and HEAD, and 405 as JSON to everything else.
pub fn get<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path.to_owned())
        .route(
            web::route()
                .guard(guard::Any(guard::Get()).or(guard::Head()))
                .to(handler),
        )
        .default_service(web::to(|| async {
            Problem::method_not_allowed("GET, HEAD").respond()
        }))
}

/// A resource that answers POST, and 405 as JSON to everything else.
pub fn post<F, Args>(path: &str, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path.to_owned())
        .route(web::post().to(handler))
        .default_service(web::to(|| async {
            Problem::method_not_allowed("POST").respond()
        }))
}

/// Binds a server with the probes, /metrics, request ids, JSON 404, and the routes that `configure`
/// adds after the common ones. `registries` is one `&Registry`, or those of several services.
///
/// # Errors
/// The address cannot be bound; the error names it.
pub fn bind<F>(
    config: &HttpConfig,
    registries: impl Into<Registries>,
    health: &Health,
    configure: F,
) -> std::io::Result<Bound>
where
    F: Fn(&mut web::ServiceConfig) + Send + Clone + 'static,
{
    raise_file_limit();
    let (registries, health) = (registries.into(), health.clone());
    let server = HttpServer::new(move || {
        let (health, configure) = (health.clone(), configure.clone());
        App::new()
            .app_data(web::Data::new(registries.clone()))
            .app_data(web::Data::new(health))
            .service(get("/health", health::health))
            .service(get("/api/v1/health", health::health))
            .service(get("/ready", health::ready))
            .service(get("/metrics", metrics::metrics))
            .configure(configure)
            .default_service(web::to(not_found))
            .wrap(from_fn(request_id))
    })
    .on_connect(crate::connection::on_connect)
    // A client that has closed its side must not keep its request alive (actix-web #1313, #3665).
    .h1_allow_half_closed(false)
    .client_request_timeout(Duration::from_secs(10))
    .keep_alive(Duration::from_secs(75))
    .shutdown_timeout(config.grace.as_secs())
    .disable_signals()
    .bind((config.host.as_str(), config.port))
    .map_err(|error| {
        std::io::Error::new(
            error.kind(),
            format!("cannot listen on {}:{}: {error}", config.host, config.port),
        )
    })?;
    let address = server.addrs().first().copied().ok_or_else(|| {
        std::io::Error::other(format!("{} names no address to listen on", config.host))
    })?;
    let server = server.run();
    Ok(Bound {
        handle: server.handle(),
        server,
        address,
    })
}

/// Raises the limit of open files to what the system allows: each connection is a file, and the
/// default of a shell is 1024.
fn raise_file_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_limit_of_open_files_is_raised() {
        let limit = rlimit::Resource::NOFILE;
        let (_, hard) = limit.get().unwrap();
        // One less is enough to see it, and leaves the tests beside this one what they need.
        limit.set(hard - 1, hard).unwrap();
        super::raise_file_limit();
        assert_eq!(limit.get_soft().unwrap(), hard);
    }
}
