//! Reading the states of projections that are live.

use domain::TenantId;
use time::OffsetDateTime;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::error::Error;
use crate::sql::{Columns, Fetched, Sql};

const PROJECTION: &str = "select p.projection_id, p.projection_name, p.entity_type, p.entity_id, \
    p.state::text, p.version, p.last_event_id, p.definition_version, p.error, p.error_event_id, \
    p.created_at, p.updated_at from event_projections p \
    join projection_definitions d on d.id = p.definition and d.state = 'live' where d.tenant_id = ";

/// The state of an entity.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "explained in S4-76 and in the migration")]
pub struct Projection {
    pub projection_id: String,
    pub name: String,
    pub entity_type: String,
    pub entity_id: String,
    pub state: domain::Json,
    pub version: i64,
    pub last_event_id: Option<String>,
    pub definition_version: i32,
    pub error: Option<String>,
    pub error_event_id: Option<Uuid>,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
}

/// Which states of a type.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of the projection of that name.
    pub name: Option<String>,
    /// Of that entity.
    pub entity_id: Option<String>,
    /// That have this value at this path of their state, compared as text.
    pub field: Option<(Vec<String>, String)>,
    /// After this entity, of that projection.
    pub after: Option<(String, String)>,
    /// Most of them.
    pub limit: i64,
}

impl Projection {
    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let mut columns = Columns::new(row);
        Ok(Self {
            projection_id: columns.next()?,
            name: columns.next()?,
            entity_type: columns.next()?,
            entity_id: columns.next()?,
            state: columns.json()?,
            version: columns.next()?,
            last_event_id: columns.next()?,
            definition_version: columns.next()?,
            error: columns.next()?,
            error_event_id: columns.next()?,
            created_at: columns.next()?,
            updated_at: columns.next()?,
        })
    }

    fn weight(&self) -> usize {
        self.state.as_str().len() + 600
    }
}

/// The states of entities of that type, by the names of their projections and by their ids; at most about
/// `max_bytes` of them.
///
/// # Errors
/// The database does not answer.
pub async fn list(
    client: &Client,
    tenant: &TenantId,
    entity_type: &str,
    filter: &Filter,
    max_bytes: usize,
) -> Result<Fetched<Projection>, Error> {
    let mut sql = Sql::new(PROJECTION);
    sql.bind(tenant.as_str().to_owned(), Type::TEXT)
        .push(" and d.entity_type = ")
        .bind(entity_type.to_owned(), Type::TEXT);
    for (condition, value) in [
        (" and d.name = ", &filter.name),
        (" and p.entity_id = ", &filter.entity_id),
    ] {
        if let Some(value) = value {
            sql.push(condition).bind(value.clone(), Type::TEXT);
        }
    }
    if let Some((path, value)) = &filter.field {
        sql.push(" and p.state #>> ")
            .bind(path.clone(), Type::TEXT_ARRAY)
            .push(" = ")
            .bind(value.clone(), Type::TEXT);
    }
    if let Some((name, entity)) = &filter.after {
        sql.push(" and (d.name, p.entity_id) > (")
            .bind(name.clone(), Type::TEXT)
            .push(", ")
            .bind(entity.clone(), Type::TEXT)
            .push(")");
    }
    sql.push(" order by d.name, p.entity_id limit ")
        .bind(filter.limit, Type::INT8);
    sql.fetch(client, max_bytes, Projection::from_row, Projection::weight)
        .await
}
