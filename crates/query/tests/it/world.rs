//! A service with a database of its own, and events put into it.

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use testkit::{Database, Parts, TestService};

/// Both prefixes, for what must be the same under each.
pub(crate) const PREFIXES: [&str; 2] = ["/api/v1/events", "/api/events"];

pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) service: TestService,
    client: reqwest::Client,
}

/// An answer with its JSON.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Self {
            status,
            headers,
            body,
        }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that it is an error of the one form, and gives its detail.
    pub(crate) fn problem(&self, status: u16) -> &str {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], status);
        self.body["detail"].as_str().unwrap()
    }

    /// Asserts that it succeeded.
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status.as_u16(), 200, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/json");
        self.body
    }
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(env: &[(&str, &str)]) -> Self {
        let parts = Parts::shared().await;
        let database = parts.fresh_database().await;
        let mut builder = TestService::builder("query")
            .database(&database)
            .parts(&parts);
        for (name, value) in env {
            builder = builder.env(name, value);
        }
        Self {
            service: builder.start().await,
            database,
            client: reqwest::Client::new(),
        }
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().unwrap();
        self.client.request(method, self.service.url(path))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request("GET", path).send().await.unwrap()).await
    }

    pub(crate) async fn query(&self, body: &Value) -> Answer {
        self.query_text(&body.to_string()).await
    }

    pub(crate) async fn query_text(&self, body: &str) -> Answer {
        let request = self
            .request("POST", "/api/v1/events/query")
            .header("content-type", "application/json")
            .body(body.to_owned());
        Answer::of(request.send().await.unwrap()).await
    }

    /// Stores events as the processor does: rows, ids and counts. Fields not given have defaults;
    /// the n-th event without an id has `id(n)`.
    pub(crate) async fn insert(&self, events: &[Value]) {
        let rows: Vec<Value> = events.iter().enumerate().map(|(n, e)| row(n, e)).collect();
        let client = self.database.connect().await.unwrap();
        let rows = Value::Array(rows);
        for sql in [
            "insert into events select * from jsonb_populate_recordset(null::events, $1)",
            "insert into event_ids select * from jsonb_populate_recordset(null::event_ids, $1)",
        ] {
            client.execute(sql, &[&rows]).await.unwrap();
        }
        client.batch_execute(FOLLOW).await.unwrap();
    }
}

const FOLLOW: &str = "
    delete from aggregated_events;
    insert into aggregated_events (tenant_id, event_type, date, count)
        select tenant_id, event_type, (timestamp at time zone 'utc')::date, count(*)
        from events group by 1, 2, 3;
    delete from aggregated_events_hourly;
    insert into aggregated_events_hourly
        (tenant_id, hour, event_type, event_source, event_category, count)
        select tenant_id, date_trunc('hour', timestamp), event_type, event_source, event_category,
            count(*)
        from events group by 1, 2, 3, 4, 5;";

/// The id of the n-th event of [`World::insert`].
pub(crate) fn id(n: usize) -> String {
    format!("00000000-0000-7000-8000-{n:012}")
}

fn row(n: usize, event: &Value) -> Value {
    let mut row = json!({
        "event_id": id(n),
        "tenant_id": "default",
        "event_type": "test.event",
        "event_source": "backend",
        "event_category": "user_action",
        "data": {},
        "metadata": {},
        "context": {},
        "properties": {},
        "status": "processed",
        "retry_count": 0,
        "timestamp": "2026-03-01T00:00:00Z",
        "received_at": "2026-03-01T00:00:01Z",
        "created_at": "2026-03-01T00:00:02Z",
        "updated_at": "2026-03-01T00:00:02Z",
        "version": "1.0.0",
        "schema_version": "1.0.0",
    });
    for (key, value) in event.as_object().unwrap() {
        row[key] = value.clone();
    }
    row
}

/// The numbers of the events of a list, as [`World::insert`] gave them.
pub(crate) fn numbers(list: &Value) -> Vec<usize> {
    let events = list["events"]
        .as_array()
        .unwrap_or_else(|| panic!("{list}"));
    let number = |event: &Value| event["event_id"].as_str().unwrap()[24..].parse().unwrap();
    events.iter().map(number).collect()
}
