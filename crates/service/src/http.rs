//! The HTTP server that all services run.

use std::net::SocketAddr;
use std::time::Duration;

use actix_web::dev::{Handler, Server, ServerHandle};
use actix_web::http::Method;
use actix_web::middleware::{Compress, from_fn};
use actix_web::{
    App, FromRequest, HttpRequest, HttpResponse, HttpServer, Resource, Responder, Route, guard, web,
};

use crate::admin_port::AdminPort;
use crate::around::around;
use crate::auth::Authenticator;
use crate::auth::access::{self, Access, declare};
use crate::auth::guard::guard as admit;
use crate::config::HttpConfig;
use crate::consul::registration::Registration;
use crate::health::{self, Health};
use crate::metrics::{self, Registries};
use crate::openapi;
use crate::problem::{Problem, not_found};

/// Where every route is listed with its rule.
const ROUTES: &str = "/api/v1/admin/routes";

/// A server that listens but is not polled yet.
pub struct Bound {
    /// The server, to be awaited or spawned; it ends after [`Handle::stop`].
    pub server: Server,
    /// Stops the server.
    pub handle: Handle,
    /// The address it listens on, with the actual port where 0 was asked for.
    pub address: SocketAddr,
    /// The same of the port for administrators, if there is one.
    pub admin: Option<SocketAddr>,
}

/// Ends a server.
pub struct Handle {
    server: ServerHandle,
    registration: Option<Registration>,
}

impl Handle {
    /// Takes the process out of Consul's catalogue, so that nobody new comes; to be called before what
    /// it has is drained. A second call does nothing.
    pub async fn leave(&self) {
        if let Some(registration) = &self.registration {
            registration.leave().await;
        }
    }

    /// The same, and stops the server; `graceful`: after the open requests.
    pub async fn stop(&self, graceful: bool) {
        self.leave().await;
        self.server.stop(graceful).await;
    }
}

/// A resource that answers GET and HEAD to whom the rule admits, and 405 as JSON to everything else.
pub fn get<F, Args>(path: &str, access: Access, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    declare(&Method::GET, path, access);
    let route = web::route().guard(guard::Any(guard::Get()).or(guard::Head()));
    web::resource(path.to_owned())
        .route(route.to(admitting(access, handler)))
        .default_service(web::to(|| async {
            Problem::method_not_allowed("GET, HEAD").respond()
        }))
}

/// A resource that answers POST to whom the rule admits, and 405 as JSON to everything else.
pub fn post<F, Args>(path: &str, access: Access, handler: F) -> Resource
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    web::resource(path.to_owned())
        .route(on(Method::POST, path, access, handler).0)
        .default_service(web::to(|| async {
            Problem::method_not_allowed("POST").respond()
        }))
}

/// What answers another method on a resource, to whom the rule admits.
pub fn on<F, Args>(method: Method, path: &str, access: Access, handler: F) -> Guarded
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    declare(&method, path, access);
    Guarded(web::method(method).to(admitting(access, handler)))
}

/// A route with its rule before it.
pub struct Guarded(Route);

/// The same resource with more routes; `allow` names all methods it answers.
pub fn and<const N: usize>(
    resource: Resource,
    routes: [Guarded; N],
    allow: &'static str,
) -> Resource {
    let refuse = move || async move { Problem::method_not_allowed(allow).respond() };
    let all = |resource: Resource, Guarded(route)| resource.route(route);
    let resource = routes.into_iter().fold(resource, all);
    resource.default_service(web::to(refuse))
}

/// The handler with its rule before it: nothing but the head of a request is read before it is admitted. A
/// middleware would allocate, and move what it wraps.
fn admitting<F, Args>(
    access: Access,
    handler: F,
) -> impl Handler<(HttpRequest, web::Payload), Output = HttpResponse>
where
    F: Handler<Args>,
    Args: FromRequest + 'static,
    F::Output: Responder + 'static,
{
    move |request: HttpRequest, payload: web::Payload| {
        let handler = handler.clone();
        async move {
            if let Err(refused) = admit(access, &request).await {
                return refused;
            }
            match Args::from_request(&request, &mut payload.into_inner()).await {
                Ok(arguments) => {
                    let answer = handler.call(arguments).await;
                    answer.respond_to(&request).map_into_boxed_body()
                }
                Err(error) => HttpResponse::from_error(error),
            }
        }
    }
}

/// Binds a server with the probes, /metrics, /openapi.json, /docs, request ids, JSON 404, and the routes that `configure`
/// adds after the common ones; `auth` finds out who is asking. Once it answers it is registered with
/// Consul, if that is asked for. `registries` is one `&Registry`, or those of several services.
///
/// # Errors
/// The address cannot be bound; the error names it.
pub fn bind<F>(
    config: &HttpConfig,
    auth: &Authenticator,
    registries: impl Into<Registries>,
    health: &Health,
    configure: F,
) -> std::io::Result<Bound>
where
    F: Fn(&mut web::ServiceConfig) + Send + Clone + 'static,
{
    raise_file_limit();
    let (registries, auth) = (registries.into(), auth.clone());
    let stall = config.stall;
    let admin_port = AdminPort::default();
    let for_guards = admin_port.clone();
    let registration = config.consul.as_ref().map(Registration::new).transpose()?;
    let health = match &registration {
        Some(registration) => registration.health(health.clone()),
        None => health.clone(),
    };
    let server = HttpServer::new(move || {
        let (health, configure) = (health.clone(), configure.clone());
        App::new()
            .app_data(web::Data::new(registries.clone()))
            .app_data(web::Data::new(health))
            .app_data(web::Data::new(auth.clone()))
            .app_data(for_guards.clone())
            .service(get("/health", Access::Public, health::health))
            .service(get("/api/v1/health", Access::Public, health::health))
            .service(get("/ready", Access::Public, health::ready))
            .service(get("/metrics", auth.metrics_access(), metrics::metrics))
            .service(
                get("/openapi.json", Access::Public, openapi::description)
                    .wrap(Compress::default())
                    .wrap(crate::cors::layer(None)),
            )
            .service(get(ROUTES, Access::Operator, access::routes))
            .service(get("/docs", Access::Public, openapi::to_page))
            .service(openapi::page())
            .configure(configure)
            .default_service(web::to(not_found))
            .wrap(from_fn(around))
    })
    .on_connect(move |io, data| crate::connection::on_connect(io, data, stall))
    // A client that has closed its side must not keep its request alive (actix-web #1313, #3665).
    .h1_allow_half_closed(false)
    .client_request_timeout(Duration::from_secs(10))
    .keep_alive(Duration::from_secs(75))
    .shutdown_timeout(config.grace.as_secs())
    .disable_signals();
    let host = config.host.as_str();
    let cannot = |port: u16| {
        move |error: std::io::Error| {
            let text = format!("cannot listen on {host}:{port}: {error}");
            std::io::Error::new(error.kind(), text)
        }
    };
    let mut server = server
        .bind((host, config.port))
        .map_err(cannot(config.port))?;
    let addresses = server.addrs();
    let address = addresses
        .first()
        .copied()
        .ok_or_else(|| std::io::Error::other(format!("{host} names no address to listen on")))?;
    let mut admin = None;
    if let Some(port) = config.admin_port {
        server = server.bind((host, port)).map_err(cannot(port))?;
        admin = server.addrs().get(addresses.len()).copied();
        if let Some(admin) = admin {
            admin_port.set(admin.port());
            tracing::info!(address = %admin, "/metrics and the routes of administrators have a port of their own");
        }
    }
    let server = server.run();
    if let Some(registration) = &registration {
        registration.start(&config.host, address);
    }
    Ok(Bound {
        handle: Handle {
            server: server.handle(),
            registration,
        },
        server,
        address,
        admin,
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
    use std::io::{Read as _, Write as _};

    use super::*;

    /// What a GET over a connection of its own is answered.
    async fn ask(address: SocketAddr, path: &'static str) -> String {
        let answer = web::block(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        answer.await.unwrap()
    }

    #[actix_web::test]
    async fn a_handler_that_panics_answers_500_and_the_process_goes_on() {
        let env = config::Env::from_map([("EVENT_SERVICE_HOST".into(), "127.0.0.1".into())].into());
        let config = HttpConfig::from_env(&env, "A_PORT", 0);
        let registry = metrics::registry().unwrap();
        let auth = Authenticator::start(&config.auth, &config.host, &registry).unwrap();
        let bound = bind(&config, &auth, &registry, &Health::new("test"), |app| {
            app.service(get("/late", Access::Public, || async {
                actix_web::rt::time::sleep(Duration::from_millis(1)).await;
                assert_eq!("s3cret", "other");
                ""
            }));
        });
        let bound = bound.unwrap();
        let server = actix_web::rt::spawn(bound.server);
        for _ in 0..8 {
            let answer = ask(bound.address, "/late").await;
            assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
            assert!(
                answer.contains("\"detail\":\"Internal server error: "),
                "{answer}"
            );
            assert!(answer.contains("\r\nx-request-id: "), "{answer}");
            assert!(
                answer.contains("\r\nx-content-type-options: nosniff\r\n"),
                "{answer}"
            );
            assert!(!answer.contains("s3cret"), "{answer}");
            let answer = ask(bound.address, "/health").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        bound.handle.stop(false).await;
        server.await.unwrap().unwrap();
    }

    #[actix_web::test]
    async fn administrators_have_a_port_of_their_own() {
        let values = [("EVENT_SERVICE_HOST", "127.0.0.1"), ("ADMIN_PORT", "0")];
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let env = config::Env::from_map(values.into());
        let config = HttpConfig::from_env(&env, "A_PORT", 0);
        let registry = metrics::registry().unwrap();
        let auth = Authenticator::start(&config.auth, &config.host, &registry).unwrap();
        let bound = bind(&config, &auth, &registry, &Health::new("test"), |app| {
            app.service(get("/own", Access::Own, || async { "" }));
            app.service(get("/admins", Access::Admin, || async { "" }));
        });
        let bound = bound.unwrap();
        let (main, admin) = (bound.address, bound.admin.unwrap());
        let server = actix_web::rt::spawn(bound.server);
        for (path, on_main, on_admin) in [
            ("/health", "200", "200"),
            ("/own", "200", "404"),
            ("/admins", "404", "200"),
            ("/metrics", "404", "200"),
            (ROUTES, "404", "200"),
        ] {
            for (address, status) in [(main, on_main), (admin, on_admin)] {
                let answer = ask(address, path).await;
                let begin = format!("HTTP/1.1 {status} ");
                assert!(answer.starts_with(&begin), "{path} {address}: {answer}");
            }
        }
        bound.handle.stop(false).await;
        server.await.unwrap().unwrap();
    }

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
