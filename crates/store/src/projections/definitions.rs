//! Definitions: created, changed, rebuilt, deleted.

use domain::TenantId;
use domain::fold::Definition;
use serde_json::json;
use time::OffsetDateTime;
use tokio_postgres::{Client, GenericClient, Row};

use crate::error::Error;
use crate::pool::Database;
use crate::rules;

/// The columns of [`StoredDefinition::from_row`].
pub(super) const COLUMNS: &str = "id, tenant_id, version, name, entity_type, entity_id, event_types, \
    fold::text, state, cursor, entities, entities_total, events, problem, created_at, built_at";

/// A definition as it stands in the table.
#[derive(Debug, Clone)]
pub struct StoredDefinition {
    /// Its number.
    pub id: i64,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// The number of this definition among those of its name.
    pub version: i32,
    /// What is folded, and how.
    pub definition: Definition,
    /// `building`, `live` or `retired`.
    pub state: String,
    /// The last entity whose history is read.
    pub(super) cursor: Option<String>,
    /// Entities whose history is read.
    pub entities: i64,
    /// How many there were when that began; `None` where that is not known.
    pub entities_total: Option<i64>,
    /// Events read.
    pub events: i64,
    /// What keeps it from being built.
    pub problem: Option<String>,
    /// When it was defined.
    pub created_at: OffsetDateTime,
    /// When it went live.
    pub built_at: Option<OffsetDateTime>,
}

impl StoredDefinition {
    pub(crate) fn from_row(row: &Row) -> Result<Self, Error> {
        let fold: serde_json::Value = serde_json::from_str(row.try_get(7)?).unwrap_or_default();
        let definition = Definition::parse(&json!({
            "name": row.try_get::<_, String>(3)?,
            "entity_type": row.try_get::<_, String>(4)?,
            "entity_id": row.try_get::<_, Option<String>>(5)?,
            "event_types": row.try_get::<_, Vec<String>>(6)?,
            "fold": fold,
        }));
        let unreadable = |errors: Vec<domain::FieldError>| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Error::Migration(format!("a projection's definition: {}", errors.join("; ")))
        };
        Ok(Self {
            id: row.try_get(0)?,
            tenant_id: TenantId::parse(row.try_get(1)?).unwrap_or_default(),
            version: row.try_get(2)?,
            definition: definition.map_err(unreadable)?,
            state: row.try_get(8)?,
            cursor: row.try_get(9)?,
            entities: row.try_get(10)?,
            entities_total: row.try_get(11)?,
            events: row.try_get(12)?,
            problem: row.try_get(13)?,
            created_at: row.try_get(14)?,
            built_at: row.try_get(15)?,
        })
    }
}

/// What became of a change.
#[derive(Debug, Clone)]
pub enum Changed {
    /// It is being built.
    Building(Box<StoredDefinition>),
    /// There is one of that name already, or it is being built just now.
    Exists,
    /// There is none of that name.
    Unknown,
}

/// What is to be done with the definition of a name.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Define it; there must be none.
    Create(&'a Definition),
    /// Define it otherwise, whether it is being built or not.
    Replace(&'a Definition),
    /// Build the one that is live once more.
    Rebuild(&'a str),
}

/// The definitions that are live or being built: all, or those of one tenant.
///
/// # Errors
/// The database does not answer.
pub async fn list(
    client: &impl GenericClient,
    tenant: Option<&TenantId>,
) -> Result<Vec<StoredDefinition>, Error> {
    let sql = format!(
        "select {COLUMNS} from projection_definitions where state in ('building', 'live') \
         and ($1::text is null or tenant_id = $1) order by tenant_id, name, version"
    );
    let rows = client.query(&sql, &[&tenant.map(TenantId::as_str)]).await?;
    // One that cannot be read must not keep the others from being folded, nor events from being stored.
    let readable = rows.iter().filter_map(|row| {
        let read = StoredDefinition::from_row(row);
        read.inspect_err(|error| tracing::error!(%error, "not folded"))
            .ok()
    });
    Ok(readable.collect())
}

/// Changes a definition: the new version is built beside the one that is live.
///
/// # Errors
/// The database does not answer.
pub async fn change(
    db: &Database,
    tenant: &TenantId,
    change: Change<'_>,
) -> Result<Changed, Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    // One change after the other.
    rules::change(&tx).await?;
    let name = match change {
        Change::Create(definition) | Change::Replace(definition) => definition.name.as_str(),
        Change::Rebuild(name) => name,
    };
    let sql = format!(
        "select {COLUMNS} from projection_definitions where tenant_id = $1 and name = $2 \
         order by version"
    );
    let rows = tx.query(&sql, &[&tenant.as_str(), &name]).await?;
    let known: Vec<_> = (rows.iter().map(StoredDefinition::from_row)).collect::<Result<_, _>>()?;
    let of_state = |state: &str| known.iter().find(|one| one.state == state);
    let (live, building) = (of_state("live"), of_state("building"));
    let definition = match (change, live) {
        (Change::Create(_), Some(_)) => return Ok(Changed::Exists),
        (Change::Create(_) | Change::Rebuild(_), _) if building.is_some() => {
            return Ok(Changed::Exists);
        }
        (Change::Replace(_), None) if building.is_none() => return Ok(Changed::Unknown),
        (Change::Rebuild(_), None) => return Ok(Changed::Unknown),
        (Change::Create(definition) | Change::Replace(definition), _) => definition,
        (Change::Rebuild(_), Some(live)) => &live.definition,
    };
    let retire = "update projection_definitions set state = 'retired', leased_until = null \
        where tenant_id = $1 and name = $2 and state = 'building'";
    tx.execute(retire, &[&tenant.as_str(), &name]).await?;
    let types: Vec<&str> = definition
        .event_types
        .iter()
        .map(|of| of.as_str())
        .collect();
    let insert = format!(
        "insert into projection_definitions \
         (tenant_id, name, version, entity_type, entity_id, event_types, fold) \
         values ($1, $2, $3, $4, $5, $6, $7) returning {COLUMNS}"
    );
    let row = tx
        .query_one(
            &insert,
            &[
                &tenant.as_str(),
                &name,
                &known.last().map_or(1, |last| last.version + 1),
                &definition.entity_type,
                &definition.entity_id,
                &types,
                &definition.fold.to_value(),
            ],
        )
        .await?;
    let defined = StoredDefinition::from_row(&row)?;
    tx.commit().await?;
    Ok(Changed::Building(Box::new(defined)))
}

/// Deletes a definition in whatever version; its states are removed by the processor. False if there
/// is none.
///
/// # Errors
/// The database does not answer.
pub async fn delete(db: &Database, tenant: &TenantId, name: &str) -> Result<bool, Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    rules::change(&tx).await?;
    let retire = "update projection_definitions set state = 'retired', leased_until = null \
        where tenant_id = $1 and name = $2 and state <> 'retired'";
    let retired = tx.execute(retire, &[&tenant.as_str(), &name]).await?;
    tx.commit().await?;
    Ok(retired > 0)
}

/// The definition of a number, whatever its state.
///
/// # Errors
/// The database does not answer.
pub(crate) async fn by_id(client: &Client, id: i64) -> Result<Option<StoredDefinition>, Error> {
    let sql = format!("select {COLUMNS} from projection_definitions where id = $1");
    let row = client.query_opt(&sql, &[&id]).await?;
    row.as_ref().map(StoredDefinition::from_row).transpose()
}
