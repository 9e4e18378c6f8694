//! What is asked for, and its receipt. The user's id stands in the row only until it is done.

use std::collections::BTreeMap;

use domain::TenantId;
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Transaction};
use uuid::Uuid;

use super::tombstones::{hash, key};
use crate::error::Error;
use crate::lease::{FREE, LEASED};
use crate::pool::Database;
use crate::rules;

const COLUMNS: &str = "id, tenant, user_id, counts, state, erased_at, places, remains, dropped, \
    problem, ended_at";

/// How far an erasure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// A processor erases, or will.
    Running,
    /// It is done.
    Completed,
}

impl State {
    /// The word of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
        }
    }
}

/// An erasure as it stands.
#[derive(Debug, Clone)]
pub struct Erasure {
    /// Its id.
    pub id: Uuid,
    /// Whose user.
    pub tenant: TenantId,
    /// Who; gone once it is done.
    pub user_id: Option<String>,
    /// Whether the counts go with the events.
    pub counts: bool,
    /// How far it is.
    pub state: State,
    /// What was accepted until then is erased.
    pub until: OffsetDateTime,
    /// Rows and messages erased, by place.
    pub places: BTreeMap<String, u64>,
    /// What is left elsewhere, and until when.
    pub remains: Value,
    /// Records dropped since when they were read again.
    pub dropped: i64,
    /// What keeps it from going on.
    pub problem: Option<String>,
    /// When it was done.
    pub ended_at: Option<OffsetDateTime>,
}

impl Erasure {
    fn from_row(row: &Row) -> Result<Self, Error> {
        let state: &str = row.try_get(4)?;
        let places: Value = row.try_get(6)?;
        Ok(Self {
            id: row.try_get(0)?,
            tenant: TenantId::parse(row.try_get(1)?).unwrap_or_default(),
            user_id: row.try_get(2)?,
            counts: row.try_get(3)?,
            state: if state == "running" {
                State::Running
            } else {
                State::Completed
            },
            until: row.try_get(5)?,
            places: serde_json::from_value(places).unwrap_or_default(),
            remains: row.try_get(7)?,
            dropped: row.try_get(8)?,
            problem: row.try_get(9)?,
            ended_at: row.try_get(10)?,
        })
    }

    /// Adds what was erased in a place.
    pub fn add(&mut self, place: &str, erased: u64) {
        if erased > 0 {
            *self.places.entry(place.to_owned()).or_default() += erased;
        }
    }

    /// Who is erased; nobody once it is done.
    #[must_use]
    pub fn user(&self) -> &str {
        self.user_id.as_deref().unwrap_or_default()
    }

    /// Notes what was erased, and holds the lease; false if another has it.
    pub(super) async fn note(&self, tx: &Transaction<'_>, owner: Uuid) -> Result<bool, Error> {
        let sql = format!(
            "update erasures set {LEASED}, places = $3, problem = null \
             where id = $2 and leased_by = $1 and state = 'running'"
        );
        let places = serde_json::to_value(&self.places).unwrap_or_default();
        Ok(tx.execute(&sql, &[&owner, &self.id, &places]).await? == 1)
    }
}

/// Begins to erase a user: from its commit on no transaction stores what was accepted before.
///
/// # Errors
/// The database does not answer, or a storing transaction takes too long.
pub async fn begin(
    db: &Database,
    tenant: &TenantId,
    user: &str,
    counts: bool,
) -> Result<Erasure, Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    let hash = hash(&key(&*tx).await?, tenant.as_str(), user)?;
    // Writers that store now are waited for, and those that store afterwards see the row.
    rules::change(&tx).await?;
    let sql = format!(
        "insert into erasures (tenant, user_hash, user_id, counts) values ($1, $2, $3, $4) \
         returning {COLUMNS}"
    );
    let values: [&(dyn ToSql + Sync); 4] = [&tenant.as_str(), &hash.as_slice(), &user, &counts];
    let erasure = Erasure::from_row(&tx.query_one(&sql, &values).await?)?;
    tx.commit().await?;
    Ok(erasure)
}

/// The erasures of a tenant, the newest first: all, the one of an id, or those of a user.
///
/// # Errors
/// The database does not answer.
pub async fn list(
    client: &Client,
    tenant: Option<&TenantId>,
    id: Option<Uuid>,
    user: Option<(&TenantId, &str)>,
    limit: i64,
) -> Result<Vec<Erasure>, Error> {
    let hash = match user {
        Some((tenant, user)) => Some(hash(&key(client).await?, tenant.as_str(), user)?.to_vec()),
        None => None,
    };
    let sql = format!(
        "select {COLUMNS} from erasures where ($1::text is null or tenant = $1) \
         and ($2::uuid is null or id = $2) and ($3::bytea is null or user_hash = $3) \
         order by erased_at desc, id limit $4"
    );
    let tenant = tenant.map(TenantId::as_str);
    let rows = client.query(&sql, &[&tenant, &id, &hash, &limit]).await?;
    rows.iter().map(Erasure::from_row).collect()
}

/// Takes one that is to be done and that nobody works on.
///
/// # Errors
/// The database does not answer.
pub async fn claim(client: &Client, owner: Uuid) -> Result<Option<Erasure>, Error> {
    let sql = format!(
        "update erasures set {LEASED} where id = (select id from erasures where state = 'running' \
         and {FREE} order by erased_at limit 1 \
         for update skip locked) returning {COLUMNS}"
    );
    let row = client.query_opt(&sql, &[&owner]).await?;
    row.as_ref().map(Erasure::from_row).transpose()
}

/// Says what an erasure waits for, holding the lease.
///
/// # Errors
/// The database does not answer.
pub async fn wait(
    client: &Client,
    owner: Uuid,
    erasure: &Erasure,
    problem: &str,
) -> Result<(), Error> {
    let sql =
        format!("update erasures set {LEASED}, problem = $3 where id = $2 and leased_by = $1");
    client
        .execute(&sql, &[&owner, &erasure.id, &problem])
        .await?;
    Ok(())
}

/// Ends it: nothing here names the user any more. False if another has it.
///
/// # Errors
/// The database does not answer.
pub async fn complete(client: &Client, owner: Uuid, erasure: &Erasure) -> Result<bool, Error> {
    let sql = "update erasures set state = 'completed', user_id = null, places = $3, remains = $4, \
        problem = null, leased_until = null, ended_at = now() \
        where id = $1 and leased_by = $2 and state = 'running'";
    let places = serde_json::to_value(&erasure.places).unwrap_or_default();
    let values: [&(dyn ToSql + Sync); 4] = [&erasure.id, &owner, &places, &erasure.remains];
    Ok(client.execute(sql, &values).await? == 1)
}
