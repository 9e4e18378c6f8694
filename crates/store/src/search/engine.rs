//! The index on PostgreSQL.

use std::collections::BTreeMap;

use domain::search::{Condition, Document, GAP, Query};
use domain::{Event, EventSource, TenantId};
use serde_json::json;
use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Transaction};

use crate::error::Error;
use crate::event_reads::{Position, StoredEvent};
use crate::sql::Sql;

/// An event for an index.
#[derive(Debug)]
pub struct Indexed<'a> {
    /// The event.
    pub stored: &'a StoredEvent,
    /// What it is found by.
    pub document: Document,
}

impl<'a> Indexed<'a> {
    /// That event.
    #[must_use]
    pub fn of(stored: &'a StoredEvent) -> Self {
        Self {
            document: Document::of(&stored.event),
            stored,
        }
    }
}

/// What is searched for.
#[derive(Debug, Clone)]
pub struct Question {
    /// Whose events.
    pub tenant: TenantId,
    /// What they say.
    pub query: Query,
    /// Events that happened at this time or later.
    pub from: Option<OffsetDateTime>,
    /// Events that happened at this time or earlier.
    pub to: Option<OffsetDateTime>,
    /// Only of this type.
    pub event_type: Option<String>,
    /// Only of this user.
    pub user_id: Option<String>,
    /// Only of this source.
    pub source: Option<EventSource>,
    /// Only what comes after this one.
    pub after: Option<Position>,
    /// Most of them.
    pub limit: u32,
}

/// Where events are that were found, the newest first.
pub type Found = Vec<Position>;

const INSERT: &str = "insert into event_search (tenant, timestamp, event_id, event_type, event_source, \
    user_id, document, numbers, generation) \
    select t, at, i, ty, s, u, d::tsvector, n::jsonb, $9 from unnest($1::text[], $2::timestamptz[], \
    $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[]) as x(t, at, i, ty, s, u, d, n) \
    on conflict (tenant, timestamp, event_id) do update set document = excluded.document, \
    numbers = excluded.numbers, generation = excluded.generation \
    where event_search.generation < excluded.generation";

/// Puts events into the index; those that are there from an older generation are written again.
///
/// # Errors
/// The database does not answer.
pub async fn index(
    tx: &Transaction<'_>,
    events: &[Indexed<'_>],
    generation: i64,
) -> Result<(), Error> {
    let all: Vec<&Event> = events.iter().map(|of| &of.stored.event).collect();
    let tenants: Vec<&str> = all.iter().map(|e| e.tenant_id.as_str()).collect();
    let times: Vec<OffsetDateTime> = all.iter().map(|e| e.timestamp).collect();
    let ids: Vec<_> = all.iter().map(|e| e.event_id).collect();
    let types: Vec<&str> = all.iter().map(|e| e.event_type.as_str()).collect();
    let sources: Vec<&str> = all.iter().map(|e| e.event_source.as_str()).collect();
    let users: Vec<Option<&str>> = all.iter().map(|e| e.user_id.as_deref()).collect();
    let documents: Vec<String> = events.iter().map(|e| vector(&e.document)).collect();
    let numbers: Vec<String> = events.iter().map(|e| numbers(&e.document)).collect();
    let parameters: [&(dyn ToSql + Sync); 9] = [
        &tenants,
        &times,
        &ids,
        &types,
        &sources,
        &users,
        &documents,
        &numbers,
        &generation,
    ];
    tx.execute(INSERT, &parameters).await?;
    Ok(())
}

/// Removes what no reindexing has found again.
///
/// # Errors
/// The database does not answer.
pub async fn remove_before_generation(client: &Client, generation: i64) -> Result<u64, Error> {
    let sql = "delete from event_search where generation < $1";
    Ok(client.execute(sql, &[&generation]).await?)
}

/// The events that the question is about, the newest first.
///
/// # Errors
/// The database does not answer.
pub async fn find(client: &Client, question: &Question) -> Result<Found, Error> {
    let rows = find_sql(question).rows(client).await?;
    let position = |row: &tokio_postgres::Row| {
        Ok(Position {
            timestamp: row.try_get(0)?,
            event_id: row.try_get(1)?,
        })
    };
    let found: Result<_, tokio_postgres::Error> = rows.iter().map(position).collect();
    Ok(found?)
}

fn find_sql(question: &Question) -> Sql {
    let mut sql = Sql::new("select e.timestamp, e.event_id from event_search e where e.tenant = ");
    sql.bind(question.tenant.as_str().to_owned(), Type::TEXT);
    for (condition, value) in [
        (" and e.event_type = ", question.event_type.clone()),
        (" and e.user_id = ", question.user_id.clone()),
        (
            " and e.event_source = ",
            question.source.map(|source| source.as_str().to_owned()),
        ),
    ] {
        if let Some(value) = value {
            sql.push(condition).bind(value, Type::TEXT);
        }
    }
    for (condition, value) in [
        (" and e.timestamp >= ", question.from),
        (" and e.timestamp <= ", question.to),
    ] {
        if let Some(value) = value {
            sql.push(condition).bind(value, Type::TIMESTAMPTZ);
        }
    }
    let mut terms = Vec::new();
    for clause in &question.query.clauses {
        let not = if clause.negated { "!" } else { "" };
        match &clause.condition {
            Condition::Number { path, low, high } => {
                sql.push(if clause.negated {
                    " and not exists (select from jsonb_array_elements_text(e.numbers -> "
                } else {
                    // The index knows which events have a number there.
                    terms.push(quoted(&format!("#{path}")));
                    " and exists (select from jsonb_array_elements_text(e.numbers -> "
                })
                .bind(path.clone(), Type::TEXT)
                .push(") n where true");
                bounds(&mut sql, "n::float8", *low, *high, Type::FLOAT8);
                sql.push(")");
            }
            Condition::Time { low, high } => {
                sql.push(if clause.negated {
                    " and not (true"
                } else {
                    " and (true"
                });
                bounds(&mut sql, "e.timestamp", *low, *high, Type::TIMESTAMPTZ);
                sql.push(")");
            }
            Condition::Phrase { path, words } => {
                let words: Vec<String> = words.iter().map(|word| token(path, word)).collect();
                terms.push(format!("{not}({})", words.join(" <-> ")));
            }
            Condition::Begin { path, begin } => {
                terms.push(format!("{not}{}:*", token(path, begin)));
            }
            Condition::Exact { value, begin } => {
                let rest = if *begin { ":*" } else { "" };
                terms.push(format!("{not}{}{rest}", quoted(value)));
            }
        }
    }
    if !terms.is_empty() {
        sql.push(" and e.document @@ (")
            .bind(terms.join(" & "), Type::TEXT)
            .push("::text)::tsquery");
    }
    if let Some(after) = question.after {
        sql.push(" and (e.timestamp, e.event_id) < (")
            .bind(after.timestamp, Type::TIMESTAMPTZ)
            .push(", ")
            .bind(after.event_id, Type::UUID)
            .push(")");
    }
    sql.push(" order by e.timestamp desc, e.event_id desc limit ")
        .bind(i64::from(question.limit), Type::INT8);
    sql
}

fn bounds<T: ToSql + Sync + Send + 'static>(
    sql: &mut Sql,
    of: &'static str,
    low: Option<(T, bool)>,
    high: Option<(T, bool)>,
    kind: Type,
) {
    for (bound, itself, alone) in [(low, " >= ", " > "), (high, " <= ", " < ")] {
        if let Some((bound, included)) = bound {
            sql.push(" and ")
                .push(of)
                .push(if included { itself } else { alone })
                .bind(bound, kind.clone());
        }
    }
}

fn token(path: &Option<String>, word: &str) -> String {
    match path {
        Some(path) => quoted(&format!("{path}:{word}")),
        None => quoted(word),
    }
}

/// As a lexeme in the text of a tsvector or tsquery.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The text of the tsvector.
fn vector(document: &Document) -> String {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for text in [&document.words, &document.fields] {
        for (at, word) in text.split(' ').enumerate() {
            if word != GAP && !word.is_empty() {
                places.entry(word).or_default().push(at + 1);
            }
        }
    }
    let mut lexemes: Vec<String> = places
        .into_iter()
        .map(|(word, places)| {
            let places: Vec<String> = places.iter().map(ToString::to_string).collect();
            format!("{}:{}", quoted(word), places.join(","))
        })
        .collect();
    lexemes.extend(document.exact.iter().map(|exact| quoted(exact)));
    let paths = document.numbers.iter().map(|(path, _)| path.as_str());
    let paths: std::collections::BTreeSet<&str> = paths.collect();
    lexemes.extend(paths.into_iter().map(|path| quoted(&format!("#{path}"))));
    lexemes.join(" ")
}

fn numbers(document: &Document) -> String {
    let mut by_path: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (path, number) in &document.numbers {
        by_path.entry(path).or_default().push(*number);
    }
    json!(by_path).to_string()
}
