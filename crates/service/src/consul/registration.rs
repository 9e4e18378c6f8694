//! The entry of this process in Consul's catalogue (S4-157, S4-158): made once it answers, looked after
//! while it serves, taken back before it drains.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::agent::{Agent, HttpCheck, Service};
use super::config::ConsulConfig;
use crate::auth::access;
use crate::health::{Check, Health, VERSION};

/// The tags of every entry.
const TAGS: [&str; 4] = [
    "v1",
    "user-microservice",
    "event-management",
    "event-sourcing",
];
/// Below it are the routes of the specification.
const BASE_PATH: &str = "/api/v1/events";
/// What a service can do, and the beginning of the route by which it does.
const CAPABILITIES: [(&str, &str); 8] = [
    ("event_creation", "POST /api/v1/events/create"),
    ("event_query", "POST /api/v1/events/query"),
    ("event_streaming", "GET /api/v1/events/stream"),
    ("event_replay", "POST /api/v1/events/replay"),
    ("event_subscriptions", "POST /api/v1/events/subscriptions"),
    ("event_processors", "POST /api/v1/events/processors"),
    ("frontend_collection", "POST /api/v1/events/frontend"),
    ("rudderstack_integration", "POST /webhooks/rudderstack"),
];
/// Bytes of a value, and pairs that the list of routes may take of the 64 there are.
const VALUE: usize = 512;
const LISTS: usize = 56;
/// Between two attempts to reach the own server.
const SOON: Duration = Duration::from_millis(100);

/// The entry; it stays until [`Self::leave`], or until its check has failed for ten minutes.
pub(crate) struct Registration {
    agent: Agent,
    config: ConsulConfig,
    task: Mutex<Option<JoinHandle<()>>>,
    id: Arc<Mutex<Option<String>>>,
    state: Arc<Mutex<Check>>,
}

impl Registration {
    /// Registers nothing yet.
    ///
    /// # Errors
    /// The agent's address is none.
    pub(crate) fn new(config: &ConsulConfig) -> std::io::Result<Self> {
        Ok(Self {
            agent: Agent::new(config).map_err(std::io::Error::other)?,
            config: config.clone(),
            task: Mutex::default(),
            id: Arc::default(),
            state: Arc::new(Mutex::new(Check::failed("not registered yet"))),
        })
    }

    /// Registers what listens on `address`, the one of `host`, once it answers, and keeps it
    /// registered. Must be called within a runtime.
    pub(crate) fn start(&self, host: &str, address: SocketAddr) {
        let keeper = Keeper {
            agent: self.agent.clone(),
            config: self.config.clone(),
            host: host.to_owned(),
            address,
            state: Arc::clone(&self.state),
            id: Arc::clone(&self.id),
        };
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        *task = Some(tokio::spawn(keeper.run()));
    }

    /// What /ready shows. Events are taken and questions answered without Consul.
    pub(crate) fn health(&self, health: Health) -> Health {
        let state = Arc::clone(&self.state);
        let part = Health::new("").check("consul", move || {
            state.lock().unwrap_or_else(PoisonError::into_inner).clone()
        });
        health.advisory(part, &[])
    }

    /// Takes the entry back, once.
    pub(crate) async fn leave(&self) {
        let Some(task) = take(&self.task) else {
            return;
        };
        task.abort();
        // Aborted is how it is meant to end.
        let _ = task.await;
        let Some(id) = take(&self.id) else {
            return;
        };
        match self.agent.deregister(&id).await {
            Ok(()) => tracing::info!(id, "Consul: deregistered"),
            Err(error) => tracing::warn!(id, error, "Consul: not deregistered"),
        }
    }
}

fn take<T>(place: &Mutex<Option<T>>) -> Option<T> {
    place.lock().unwrap_or_else(PoisonError::into_inner).take()
}

struct Keeper {
    agent: Agent,
    config: ConsulConfig,
    host: String,
    address: SocketAddr,
    state: Arc<Mutex<Check>>,
    id: Arc<Mutex<Option<String>>>,
}

impl Keeper {
    async fn run(self) {
        let url = format!("http://{}/health", reachable(self.address));
        while !answers(&url).await {
            tokio::time::sleep(SOON).await;
        }
        let service = self.service().await;
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = Some(service.id.clone());
        // What an earlier process left under this id may have other routes.
        let mut is_known = false;
        loop {
            let outcome = self.ensure(&service, is_known).await;
            is_known = outcome.is_ok();
            self.note(&service, outcome);
            tokio::time::sleep(self.config.refresh).await;
        }
    }

    /// Registers it where the agent does not have it.
    async fn ensure(&self, service: &Service, is_known: bool) -> Result<(), String> {
        if is_known && self.agent.knows(&service.id).await? {
            return Ok(());
        }
        self.agent.register(service).await?;
        tracing::info!(id = service.id, name = service.name, "Consul: registered");
        Ok(())
    }

    fn note(&self, service: &Service, outcome: Result<(), String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = match outcome {
            Ok(()) => Check::ok(format!("registered as {}", service.name)),
            Err(error) => Check::failed(error),
        };
        if !now.ok && (state.ok || state.detail != now.detail) {
            tracing::warn!(error = now.detail, "Consul: not registered");
        }
        *state = now;
    }

    async fn service(&self) -> Service {
        let (address, port) = (self.advertised().await, self.address.port());
        let name = self.config.service.clone();
        let host = match address.parse() {
            Ok(IpAddr::V6(address)) => format!("[{address}]"),
            _ if address.is_empty() => "127.0.0.1".to_owned(),
            _ => address.clone(),
        };
        Service {
            id: format!("{name}-{host}-{port}"),
            name,
            tags: TAGS.to_vec(),
            check: HttpCheck {
                http: format!("http://{host}:{port}/health"),
                interval: "30s",
                timeout: "5s",
                deregister_critical_service_after: "10m",
            },
            address,
            port,
            meta: meta(&access::declared()),
        }
    }

    /// What others reach this process at; empty where only the agent can tell.
    async fn advertised(&self) -> String {
        if let Some(address) = &self.config.address {
            return address.clone();
        }
        if !self.address.ip().is_unspecified() {
            return self.host.clone();
        }
        match self.own_address().await {
            Ok(address) if !address.is_loopback() => address.to_string(),
            _ => String::new(),
        }
    }

    /// The address of this machine that the agent is reached from. Nothing is sent.
    async fn own_address(&self) -> std::io::Result<IpAddr> {
        let consul = (self.config.host.as_str(), self.config.port);
        let agent = tokio::net::lookup_host(consul).await?.next();
        let agent = agent.ok_or_else(|| std::io::Error::other("no such host"))?;
        let any: IpAddr = match agent {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(agent).await?;
        Ok(socket.local_addr()?.ip())
    }
}

/// The same address as this process can reach it.
fn reachable(address: SocketAddr) -> SocketAddr {
    let own: IpAddr = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(own, address.port())
}

async fn answers(url: &str) -> bool {
    let request = reqwest::Client::new().get(url);
    let answer = request.timeout(Duration::from_secs(5)).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

/// The version, what the service can do, and its routes as the router has them.
fn meta(routes: &[String]) -> BTreeMap<String, String> {
    let can = |beginning: &str| routes.iter().any(|route| route.starts_with(beginning));
    let capabilities: Vec<_> = CAPABILITIES
        .into_iter()
        .filter(|(_, route)| can(route))
        .map(|(capability, _)| capability)
        .collect();
    let mut meta = BTreeMap::from([
        ("version".to_owned(), VERSION.to_owned()),
        ("capabilities".to_owned(), capabilities.join(",")),
        ("route_count".to_owned(), routes.len().to_string()),
        ("base_path".to_owned(), BASE_PATH.to_owned()),
        ("openapi".to_owned(), "/openapi.json".to_owned()),
    ]);
    let mut lists = vec![String::new()];
    for route in routes {
        let full = |list: &String| !list.is_empty() && list.len() + 1 + route.len() > VALUE;
        if lists.last().is_some_and(full) {
            lists.push(String::new());
        }
        if let Some(list) = lists.last_mut() {
            if !list.is_empty() {
                list.push(',');
            }
            list.push_str(route);
        }
    }
    let numbered = lists.into_iter().take(LISTS).enumerate();
    meta.extend(numbered.map(|(n, list)| (format!("routes_{}", n + 1), list)));
    meta
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_routes_are_told_in_values_that_consul_takes() {
        let mut routes: Vec<_> = (0..200)
            .map(|n| format!("GET /api/v1/events/thing/{n}"))
            .collect();
        routes.push("POST /api/v1/events/create".to_owned());
        routes.push("POST /webhooks/rudderstack".to_owned());
        let meta = meta(&routes);
        assert_eq!(meta["route_count"], "202");
        assert_eq!(
            meta["capabilities"],
            "event_creation,rudderstack_integration"
        );
        assert!(meta.len() <= 64 && meta.values().all(|value| value.len() <= VALUE));
        let lists = (1..).map_while(|n| meta.get(&format!("routes_{n}")));
        let told: Vec<&str> = lists.flat_map(|list| list.split(',')).collect();
        assert_eq!(told, routes);
    }
}
