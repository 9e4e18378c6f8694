//! A stand-in for Consul's agent, which no package here brings: those of its HTTP API's endpoints that
//! Tidegate uses, as documented, and stricter: what the documentation does not name is refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::port::Port;
use crate::receiver::{Request, read};

/// The members that a service and its check may have.
const SERVICE: [&str; 12] = [
    "ID",
    "Name",
    "Tags",
    "Address",
    "TaggedAddresses",
    "Meta",
    "Port",
    "Kind",
    "Check",
    "Checks",
    "EnableTagOverride",
    "Weights",
];
const CHECK: [&str; 12] = [
    "Name",
    "CheckID",
    "HTTP",
    "Method",
    "Header",
    "Interval",
    "Timeout",
    "DeregisterCriticalServiceAfter",
    "TLSSkipVerify",
    "Status",
    "Notes",
    "SuccessBeforePassing",
];

/// The agent; its catalogue ends with [`Consul::forget`].
pub struct Consul {
    port: Port,
    catalogue: Arc<Mutex<Catalogue>>,
    serving: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Catalogue {
    token: String,
    entries: BTreeMap<String, Entry>,
    left: Vec<(String, bool)>,
    refused: Vec<String>,
}

struct Entry {
    definition: Value,
    passing: bool,
    /// The task that checks it; ends with it.
    _checking: JoinSet<()>,
}

impl Consul {
    /// Starts one that wants this token.
    pub async fn start(token: &str) -> Self {
        let catalogue = Catalogue {
            token: token.to_owned(),
            ..Catalogue::default()
        };
        let mut own = Self {
            port: Port::free(),
            catalogue: Arc::new(Mutex::new(catalogue)),
            serving: None,
        };
        own.resume().await;
        own
    }

    /// The port of 127.0.0.1 that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Ends it; nothing answers any more.
    pub async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            let _ = serving.await;
        }
    }

    /// Starts it again, with the catalogue it had.
    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port())).await;
        let listener = listener.unwrap_or_else(|error| panic!("the agent's port: {error}"));
        let catalogue = Arc::clone(&self.catalogue);
        self.serving = Some(tokio::spawn(async move {
            // The connections end with the agent.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&catalogue)));
            }
        }));
    }

    /// Loses everything, as an agent does that is started anew without its data.
    pub fn forget(&self) {
        lock(&self.catalogue).entries.clear();
    }

    /// Registers something else, which passes its checks.
    pub fn put(&self, id: &str, name: &str, tags: &[&str], address: &str, port: u16) {
        let definition = json!({
            "ID": id, "Name": name, "Tags": tags, "Address": address, "Port": port,
        });
        let entry = Entry {
            definition,
            passing: true,
            _checking: JoinSet::new(),
        };
        lock(&self.catalogue).entries.insert(id.to_owned(), entry);
    }

    /// What was registered under a name and passes its check.
    #[must_use]
    pub fn passing(&self, name: &str) -> Vec<Value> {
        let catalogue = lock(&self.catalogue);
        let entries = catalogue.entries.values();
        let passing = entries.filter(|entry| entry.passing && entry.definition["Name"] == name);
        passing.map(|entry| entry.definition.clone()).collect()
    }

    /// The ids that were deregistered, each with whether its check still passed at that moment.
    #[must_use]
    pub fn left(&self) -> Vec<(String, bool)> {
        lock(&self.catalogue).left.clone()
    }

    /// The requests that were wrong, each with the answer.
    #[must_use]
    pub fn refused(&self) -> Vec<String> {
        lock(&self.catalogue).refused.clone()
    }
}

impl Drop for Consul {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

fn lock(catalogue: &Mutex<Catalogue>) -> MutexGuard<'_, Catalogue> {
    catalogue.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(stream: TcpStream, catalogue: Arc<Mutex<Catalogue>>) {
    let mut stream = BufReader::new(stream);
    // A client that goes away is what tests do.
    while let Ok(Some(request)) = read(&mut stream).await {
        let (status, body) = answer(&request, &catalogue).await;
        if status >= 400 && status != 404 {
            let told = format!("{}: {status} {body}", request.line);
            lock(&catalogue).refused.push(told);
        }
        let text = match &body {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn answer(request: &Request, catalogue: &Arc<Mutex<Catalogue>>) -> (u16, Value) {
    let (method, target) = request.line.split_once(' ').unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let token = lock(catalogue).token.clone();
    if !token.is_empty() && request.header("x-consul-token") != token {
        return (403, "ACL not found".into());
    }
    let segments: Vec<String> = path.split('/').skip(1).map(decoded).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (method, segments.as_slice()) {
        ("PUT", ["v1", "agent", "service", "register"]) => {
            if !["", "replace-existing-checks=true"].contains(&query) {
                return (400, format!("unknown parameter: {query}").into());
            }
            register(&request.body, catalogue)
        }
        ("PUT", ["v1", "agent", "service", "deregister", id]) => deregister(id, catalogue).await,
        ("GET", ["v1", "agent", "service", id]) => match lock(catalogue).entries.get(*id) {
            Some(entry) => (200, service(&entry.definition)),
            None => (404, format!("unknown service ID: {id}").into()),
        },
        ("GET", ["v1", "health", "service", name]) => (200, healthy(name, query, catalogue)),
        (_, ["v1", "agent", "service", ..] | ["v1", "health", "service", _]) => {
            (405, format!("method {method} not allowed").into())
        }
        _ => (
            404,
            "Invalid URL path: not a recognized HTTP API endpoint".into(),
        ),
    }
}

/// A segment of a path without its `%…`; the test's names are ASCII.
fn decoded(segment: &str) -> String {
    let mut parts = segment.split('%');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2).unwrap_or(("", part));
        let code = u8::from_str_radix(code, 16).unwrap_or(b'?');
        text.push(char::from(code));
        text.push_str(rest);
    }
    text
}

fn register(body: &[u8], catalogue: &Arc<Mutex<Catalogue>>) -> (u16, Value) {
    let mut definition: Value = match serde_json::from_slice(body) {
        Ok(definition) => definition,
        Err(error) => return (400, format!("Request decode failed: {error}").into()),
    };
    if let Err(why) = check_definition(&definition) {
        return (400, why.into());
    }
    if definition["ID"].as_str().unwrap_or_default().is_empty() {
        definition["ID"] = definition["Name"].clone();
    }
    let id = definition["ID"].as_str().unwrap_or_default().to_owned();
    let mut checking = JoinSet::new();
    if let Some(url) = definition["Check"]["HTTP"].as_str() {
        let interval = seconds(&definition["Check"]["Interval"]).unwrap_or_default();
        checking.spawn(check(
            id.clone(),
            url.to_owned(),
            interval,
            Arc::clone(catalogue),
        ));
    }
    let entry = Entry {
        // As the agent has it: critical until the first check.
        passing: checking.is_empty(),
        definition,
        _checking: checking,
    };
    lock(catalogue).entries.insert(id, entry);
    (200, Value::Null)
}

fn check_definition(definition: &Value) -> Result<(), String> {
    let known = |value: &Value, names: &[&str]| match value.as_object() {
        Some(members) => match members.keys().find(|key| !names.contains(&key.as_str())) {
            Some(key) => Err(format!(
                "Request decode failed: json: unknown field {key:?}"
            )),
            None => Ok(()),
        },
        None => Err("Request decode failed: no object".to_owned()),
    };
    known(definition, &SERVICE)?;
    if definition["Name"].as_str().is_none_or(str::is_empty) {
        return Err("Missing service name".to_owned());
    }
    let address = definition["Address"].as_str().unwrap_or_default();
    if ["0.0.0.0", "[::]", "::"].contains(&address) {
        return Err("Invalid service address".to_owned());
    }
    if definition["Port"].as_u64().is_none_or(|port| port > 65_535) {
        return Err("Request decode failed: Port".to_owned());
    }
    let none = serde_json::Map::new();
    let meta = definition["Meta"].as_object().unwrap_or(&none);
    if meta.len() > 64 {
        return Err(
            "Invalid Service Meta: Node metadata cannot contain more than 64 key/value pairs"
                .to_owned(),
        );
    }
    for (key, value) in meta {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let fits = value.as_str().is_some_and(|value| value.len() <= 512);
        if key.is_empty() || key.len() > 128 || !key.chars().all(plain) || !fits {
            return Err(format!("Invalid Service Meta: {key:?}"));
        }
        if key.starts_with("consul-") {
            return Err(format!(
                "Invalid Service Meta: key prefix of {key:?} is reserved"
            ));
        }
    }
    let check = &definition["Check"];
    if check.is_null() {
        return Ok(());
    }
    known(check, &CHECK)?;
    let timed = ["Interval", "Timeout"].map(|name| seconds(&check[name]));
    let after = &check["DeregisterCriticalServiceAfter"];
    if check["HTTP"].as_str().is_none() || timed.contains(&None) {
        return Err(
            "Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks".to_owned(),
        );
    }
    if !after.is_null() && seconds(after).is_none_or(|after| after < Duration::from_secs(60)) {
        return Err("Invalid check: DeregisterCriticalServiceAfter".to_owned());
    }
    Ok(())
}

/// A duration as Go writes it, of one unit.
fn seconds(value: &Value) -> Option<Duration> {
    let text = value.as_str()?;
    let (number, factor) = match text.strip_suffix('m') {
        Some(number) => (number, 60),
        None => (text.strip_suffix('s')?, 1),
    };
    let number: u64 = number.parse().ok()?;
    (number > 0).then(|| Duration::from_secs(number * factor))
}

async fn check(id: String, url: String, interval: Duration, catalogue: Arc<Mutex<Catalogue>>) {
    loop {
        let passing = passes(&url).await;
        if let Some(entry) = lock(&catalogue).entries.get_mut(&id) {
            entry.passing = passing;
        }
        tokio::time::sleep(interval).await;
    }
}

async fn passes(url: &str) -> bool {
    let request = reqwest::Client::new().get(url);
    let answer = request.timeout(Duration::from_secs(5)).send().await;
    answer.is_ok_and(|answer| answer.status().is_success())
}

async fn deregister(id: &str, catalogue: &Mutex<Catalogue>) -> (u16, Value) {
    let entry = lock(catalogue).entries.remove(id);
    let Some(entry) = entry else {
        let why = format!(
            "Unknown service ID {id:?}. Ensure that the service ID is passed, not the service name."
        );
        return (404, why.into());
    };
    let url = entry.definition["Check"]["HTTP"].as_str();
    let passing = passes(url.unwrap_or_default()).await;
    lock(catalogue).left.push((id.to_owned(), passing));
    (200, Value::Null)
}

/// A service as the agent answers it.
fn service(definition: &Value) -> Value {
    json!({
        "ID": definition["ID"], "Service": definition["Name"], "Tags": definition["Tags"],
        "Meta": definition["Meta"], "Port": definition["Port"], "Address": definition["Address"],
        "Weights": {"Passing": 1, "Warning": 1}, "EnableTagOverride": false, "Datacenter": "dc1",
    })
}

fn healthy(name: &str, query: &str, catalogue: &Mutex<Catalogue>) -> Value {
    let parameters: Vec<(&str, &str)> = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .collect();
    let only_passing = parameters.iter().any(|(name, _)| *name == "passing");
    let tag = parameters.iter().find(|(name, _)| *name == "tag");
    let catalogue = lock(catalogue);
    let wanted = catalogue.entries.values().filter(|entry| {
        let tags = entry.definition["Tags"].as_array();
        let tagged =
            tag.is_none_or(|(_, tag)| tags.is_some_and(|tags| tags.iter().any(|one| one == tag)));
        entry.definition["Name"] == name && tagged && (entry.passing || !only_passing)
    });
    let shown = wanted.map(|entry| {
        let status = if entry.passing { "passing" } else { "critical" };
        json!({
            "Node": {"ID": "1", "Node": "here", "Address": "127.0.0.1", "Datacenter": "dc1"},
            "Service": service(&entry.definition),
            "Checks": [{"Node": "here", "ServiceID": entry.definition["ID"], "Status": status}],
        })
    });
    shown.collect()
}
