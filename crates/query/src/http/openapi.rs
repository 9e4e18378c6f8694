//! The description of the API, generated from the code.

use serde_json::{Value, json};
use service::problem::ProblemBody;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::anomalies::{alerts, rules, trial};
use super::body_schema::{self, CHANGES};
use super::parameter_schema::accepted;
use super::routes::{OTHER_ROUTES, PREFIXES, ROUTES};
use super::subscriptions::{changes, deliveries, reads, trials};
use super::{
    audits, console, counts, dead_letter_changes, dead_letters, erasures, events, keys, processors,
    receipts, sse, stats, streams, tenant_list, users,
};
use super::{projection_changes, projections, replays, reports, search, tenants};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate query API",
        version = "1.0.0",
        description = "Reads events, statistics and dead letters, and listens to live events. Errors are application/problem+json with a `detail`."
    ),
    paths(
        events::by_id,
        events::query,
        events::history,
        events::recent,
        search::search,
        search::indexes,
        search::reindex,
        events::unprocessed,
        users::events,
        stats::statistics,
        counts::counts,
        streams::read,
        receipts::read,
        projections::list,
        projections::of_type,
        projections::read,
        projection_changes::create,
        projection_changes::replace,
        projection_changes::delete,
        projection_changes::rebuild,
        processors::list,
        processors::read,
        processors::create,
        processors::change,
        processors::toggle,
        processors::delete,
        replays::create,
        replays::list,
        replays::read_one,
        replays::change,
        reads::list,
        reads::read,
        changes::create,
        changes::change,
        changes::delete,
        changes::enable,
        changes::disable,
        changes::rotate,
        trials::dry_run,
        trials::test,
        deliveries::of_subscription,
        deliveries::of_event,
        deliveries::resend_one,
        deliveries::resend,
        dead_letters::list,
        dead_letters::by_id,
        dead_letters::counts,
        dead_letter_changes::redrive,
        dead_letter_changes::discard,
        sse::listen,
        sse::tickets::create,
        erasures::create,
        erasures::list,
        erasures::read,
        console::stream::stream,
        reports::instrumentation,
        audits::create,
        audits::list,
        audits::read,
        alerts::list,
        rules::list,
        rules::create,
        rules::read,
        rules::replace,
        rules::delete,
        trial::run,
        tenant_list::list,
        keys::list,
        keys::create,
        keys::rotate,
        keys::revoke,
        tenants::limits,
        tenants::set_limits
    ),
    components(schemas(ProblemBody, console::tail::StoredShort)),
    security((), ("key" = [])),
    modifiers(&Credentials)
)]
struct Described;

/// How credentials are sent; where they are needed AUTH_MODE says.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = openapi.components.get_or_insert_default();
        components.add_security_scheme("key", bearer);
    }
}

/// Routes outside the prefixes, with what they answer.
pub const COMMON: [(&str, &str, &str); 6] = [
    ("/health", "application/json", "The process lives"),
    ("/api/v1/health", "application/json", "The process lives"),
    (
        "/ready",
        "application/json",
        "PostgreSQL answers and the schema is up to date; else 503",
    ),
    (
        "/metrics",
        "text/plain",
        "Metrics in the text format of Prometheus",
    ),
    ("/openapi.json", "application/json", "This description"),
    (
        "/api/v1/admin/routes",
        "application/json",
        "Every route of this process with what it wants of who is asking; for an admin of the default tenant",
    ),
];

/// The whole description: every route of the router under every prefix.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Described::openapi();
    let described = std::mem::take(&mut document.paths.paths);
    let aliases = PREFIXES.iter().flat_map(|prefix| {
        ROUTES.iter().map(move |route| {
            let canonical = format!("{}{}", PREFIXES[0], route.described_as);
            (canonical, format!("{prefix}{}", route.path))
        })
    });
    let others = OTHER_ROUTES
        .iter()
        .map(|route| route.path)
        .chain([sse::PATH, console::stream::PATH]);
    let others = others.map(|path| (path.to_owned(), path.to_owned()));
    for (canonical, path) in aliases.chain(others) {
        if let Some(item) = described.get(&canonical) {
            let item = completed(item.clone(), &path);
            document.paths.paths.insert(path, item);
        }
    }
    for (path, media_type, says) in COMMON {
        let response = ResponseBuilder::new()
            .description(says)
            .content(media_type, ContentBuilder::new().build());
        let operation = OperationBuilder::new()
            .tag("operation")
            .operation_id(Some(name("get", path)))
            .response("200", response);
        let item = PathItem::new(HttpMethod::Get, operation);
        document.paths.paths.insert(path.to_owned(), item);
    }
    narrowed(document)
}

/// An entity may be called `rebuild`: its state is read where a projection is rebuilt.
fn rebuild_is_an_entity(paths: &mut Value) {
    for prefix in PREFIXES {
        let mut get =
            paths[format!("{prefix}/projections/{{entity_type}}/{{entity_id}}")]["get"].clone();
        let path = format!("{prefix}/projections/{{projection}}/rebuild");
        get["operationId"] = name("get", &path).into();
        if let Some(parameters) = get["parameters"].as_array_mut() {
            parameters.retain(|parameter| parameter["name"] != "entity_id");
            let of_type = parameters
                .iter_mut()
                .filter(|of| of["name"] == "entity_type");
            of_type.for_each(|parameter| parameter["name"] = "projection".into());
        }
        paths[path]["get"] = get;
    }
}

/// The description with what is accepted of each parameter and of each member of a question.
fn narrowed(document: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let Ok(mut all) = serde_json::to_value(&document) else {
        return document;
    };
    let add = |schema: &mut Value, path: &str, name: &str| {
        if let (Some(schema), Value::Object(keywords)) =
            (schema.as_object_mut(), accepted(path, name))
        {
            schema.extend(keywords);
            let nullable = schema.get("type").is_some_and(Value::is_array);
            // An optional member may be null, which is then one of the values.
            if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut)
                && nullable
            {
                values.push(Value::Null);
            }
            // Of null, a format says nothing.
            if let (Some(format), Some(true)) = (
                schema
                    .get("format")
                    .cloned()
                    .filter(|format| format == "date-time"),
                schema.get("type").map(Value::is_array),
            ) {
                schema.remove("type");
                schema.remove("format");
                let time = json!({"type": "string", "format": format});
                schema.insert("anyOf".to_owned(), json!([time, {"type": "null"}]));
            }
        }
    };
    rebuild_is_an_entity(&mut all["paths"]);
    let items = all["paths"].as_object_mut().into_iter().flatten();
    let operations = items.flat_map(|(path, item)| {
        let operations = item.as_object_mut().into_iter().flatten();
        operations.map(move |(method, operation)| (&*path, &**method, operation))
    });
    for (path, method, operation) in operations {
        let changes = ["patch", "put"].contains(&method);
        // An empty question asks for everything, an empty change for nothing.
        let optional = ["/query", "/rotate", "/dry-run", "/admin/audits"];
        let change = method == "patch" || path.ends_with("/processors/{processor_id}");
        if (change || optional.iter().any(|end| path.ends_with(end)))
            && let Some(body) = operation.get_mut("requestBody")
        {
            body["required"] = false.into();
        }
        let body = operation.pointer_mut("/requestBody/content/application~1json/schema/$ref");
        if let Some(Value::String(of)) = body
            && let Some((request, change)) = CHANGES.iter().find(|(name, _)| of.ends_with(name))
            && changes
        {
            *of = of.replace(request, change);
        }
        let parameters = operation
            .get_mut("parameters")
            .and_then(Value::as_array_mut);
        for parameter in parameters.into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap_or_default().to_owned();
            add(&mut parameter["schema"], path, &name);
            if parameter["in"] == "path" && name == "user_id" {
                parameter["schema"]["minLength"] = 1.into();
            }
        }
    }
    let question = &mut all["components"]["schemas"]["EventQuery"];
    for (name, schema) in question["properties"].as_object_mut().into_iter().flatten() {
        add(schema, "", name);
    }
    body_schema::narrow(&mut all["components"]["schemas"]);
    serde_json::from_value(all).unwrap_or(document)
}

/// The item under that path: with an operation id of its own, and every error with its body.
fn completed(mut item: PathItem, path: &str) -> PathItem {
    for (method, operation) in [
        ("get", &mut item.get),
        ("post", &mut item.post),
        ("put", &mut item.put),
        ("patch", &mut item.patch),
        ("delete", &mut item.delete),
    ] {
        let Some(operation) = operation else { continue };
        operation.operation_id = Some(name(method, path));
        // What the doc comment says of errors stands in the responses.
        let text = operation.description.take();
        operation.description = text
            .and_then(|text| Some(text.split("# Errors").next()?.trim().to_owned()))
            .filter(|text| !text.is_empty());
        for (status, response) in &mut operation.responses.responses {
            if let RefOr::T(response) = response
                && status.starts_with(['4', '5'])
            {
                let body = Content::new(Some(Ref::from_schema_name("ProblemBody")));
                let media_type = "application/problem+json".to_owned();
                response.content.insert(media_type, body.into());
            }
        }
    }
    item
}

fn name(method: &str, path: &str) -> String {
    let words: String = path
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c
            } else {
                '_'
            }
        })
        .collect();
    format!("{method}{words}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn router_and_description_have_the_same_paths() {
        let routed: BTreeSet<String> = PREFIXES
            .iter()
            .flat_map(|prefix| {
                ROUTES
                    .iter()
                    .map(move |route| format!("{prefix}{}", route.path))
            })
            .chain([sse::PATH, console::stream::PATH].map(str::to_owned))
            .chain(OTHER_ROUTES.iter().map(|route| route.path.to_owned()))
            .chain(COMMON.iter().map(|(path, ..)| (*path).to_owned()))
            .collect();
        let described: BTreeSet<String> = document().paths.paths.into_keys().collect();
        assert_eq!(routed, described);
        // What is described in the code is routed.
        for path in Described::openapi().paths.paths.keys() {
            assert!(routed.contains(path), "{path} is described but not routed");
        }
    }

    /// What is said by hand can be read as a description.
    #[test]
    fn bodies_are_narrowed() {
        let schemas = document().components.unwrap().schemas;
        for name in [
            "EventFilter",
            "FoldRule",
            "RetryPolicy",
            "SubscriptionChange",
        ] {
            assert!(schemas.contains_key(name), "{name}");
        }
    }

    #[test]
    fn operation_ids_are_unique() {
        let document = document();
        let ids: Vec<_> = document
            .paths
            .paths
            .values()
            .flat_map(|item| [&item.get, &item.post, &item.put, &item.patch, &item.delete])
            .flatten()
            .map(|operation| operation.operation_id.clone().unwrap())
            .collect();
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!(ids.len(), distinct.len());
    }
}
