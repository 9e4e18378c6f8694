//! Audits and what they found. One processor at a time works on each, as long as it says so.

use time::{Date, OffsetDateTime};
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::finding::Finding;
use crate::error::Error;
use crate::lease::{FREE, LEASED};

/// Audits that are kept.
const KEPT: i64 = 100;

const COLUMNS: &str = "id, state, repairs, nightly, from_day, until_day, phase, checked, findings, repaired, \
    problem, created_at, ended_at";

/// An audit.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "explained in the migration")]
pub struct Audit {
    pub id: Uuid,
    pub state: String,
    pub repairs: bool,
    pub nightly: bool,
    pub from_day: Option<Date>,
    pub until_day: Option<Date>,
    pub phase: String,
    pub checked: i64,
    pub findings: i64,
    pub repaired: i64,
    pub problem: Option<String>,
    pub created_at: OffsetDateTime,
    pub ended_at: Option<OffsetDateTime>,
}

/// A difference as it is kept.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "as in Finding")]
pub struct StoredFinding {
    pub kind: String,
    pub tenant: Option<String>,
    pub subject: String,
    pub expected: String,
    pub found: String,
    pub events: Vec<Uuid>,
    pub repaired: bool,
}

/// What an audit did since it last said so.
#[derive(Debug)]
pub struct Progress<'a> {
    /// What it looks at.
    pub phase: &'a str,
    /// How much it looked at.
    pub checked: i64,
    /// What it found, and whether that is repaired; only the first thousand are kept.
    pub found: &'a [(Finding, bool)],
}

impl Audit {
    fn from_row(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            id: row.try_get(0)?,
            state: row.try_get(1)?,
            repairs: row.try_get(2)?,
            nightly: row.try_get(3)?,
            from_day: row.try_get(4)?,
            until_day: row.try_get(5)?,
            phase: row.try_get(6)?,
            checked: row.try_get(7)?,
            findings: row.try_get(8)?,
            repaired: row.try_get(9)?,
            problem: row.try_get(10)?,
            created_at: row.try_get(11)?,
            ended_at: row.try_get(12)?,
        })
    }
}

/// Asks for an audit of these days, both included.
///
/// # Errors
/// The database does not answer.
pub async fn create(
    client: &Client,
    id: Uuid,
    repairs: bool,
    days: (Option<Date>, Option<Date>),
) -> Result<Audit, Error> {
    let sql = format!(
        "insert into audits (id, repairs, nightly, from_day, until_day) values ($1, $2, false, $3, $4) \
         returning {COLUMNS}"
    );
    let row = client
        .query_one(&sql, &[&id, &repairs, &days.0, &days.1])
        .await?;
    Ok(Audit::from_row(&row)?)
}

/// Asks for the audit of a night, unless there was one since `due`; forgets the oldest. It repairs nothing.
///
/// # Errors
/// The database does not answer.
pub async fn nightly(client: &Client, id: Uuid, due: OffsetDateTime) -> Result<(), Error> {
    let sql = "insert into audits (id, repairs, nightly) select $1, false, true where not exists ( \
        select from audits where nightly and created_at >= $2)";
    client.execute(sql, &[&id, &due]).await?;
    let forget = "delete from audits where state <> 'running' and id not in ( \
        select id from audits order by created_at desc limit $1)";
    client.execute(forget, &[&KEPT]).await?;
    Ok(())
}

/// Takes one that nobody works on, to be begun from its beginning.
///
/// # Errors
/// The database does not answer.
pub async fn claim(client: &Client, owner: Uuid) -> Result<Option<Audit>, Error> {
    let sql = format!(
        "update audits set {LEASED}, phase = 'begun', checked = 0, findings = 0, repaired = 0 where id = ( \
             select id from audits where state = 'running' and {FREE} \
             order by created_at limit 1 for update skip locked) returning {COLUMNS}"
    );
    let Some(row) = client.query_opt(&sql, &[&owner]).await? else {
        return Ok(None);
    };
    let audit = Audit::from_row(&row)?;
    // What was repaired before stays in the audit's list.
    let sql = "delete from audit_findings where audit = $1 and not repaired";
    client.execute(sql, &[&audit.id]).await?;
    let sql = "update audits set findings = n, repaired = n from ( \
        select count(*) as n from audit_findings where audit = $1) kept where id = $1";
    client.execute(sql, &[&audit.id]).await?;
    Ok(Some(audit))
}

/// Says how far it is, and keeps the lease; false if that is lost.
///
/// # Errors
/// The database does not answer.
pub async fn progress(
    client: &mut Client,
    audit: &Audit,
    owner: Uuid,
    progress: &Progress<'_>,
) -> Result<bool, Error> {
    let tx = client.transaction().await?;
    let (found, mut repaired) = (progress.found.len(), 0_i64);
    for (finding, is_repaired) in progress.found {
        repaired += i64::from(*is_repaired);
        let sql = "insert into audit_findings (audit, tenant, kind, subject, expected, found, events, repaired) \
            select $1, $2, $3, $4, $5, $6, $7, $8 \
            where (select count(*) from audit_findings where audit = $1) < 1000";
        let Finding {
            tenant,
            kind,
            subject,
            expected,
            found,
            events,
            ..
        } = finding;
        let kind = kind.as_str();
        tx.execute(
            sql,
            &[
                &audit.id,
                tenant,
                &kind,
                subject,
                expected,
                found,
                events,
                is_repaired,
            ],
        )
        .await?;
    }
    let sql = format!(
        "update audits set {LEASED}, phase = $3, checked = checked + $4, findings = findings + $5, \
         repaired = repaired + $6 where id = $2 and leased_by = $1 and state = 'running'"
    );
    let found = i64::try_from(found).unwrap_or(i64::MAX);
    let moved = tx
        .execute(
            &sql,
            &[
                &owner,
                &audit.id,
                &progress.phase,
                &progress.checked,
                &found,
                &repaired,
            ],
        )
        .await?;
    if moved == 0 {
        return Ok(false);
    }
    tx.commit().await?;
    Ok(true)
}

/// Ends an audit: completed, or failed for this reason.
///
/// # Errors
/// The database does not answer.
pub async fn end(
    client: &Client,
    audit: &Audit,
    owner: Uuid,
    problem: Option<&str>,
) -> Result<(), Error> {
    let sql = "update audits set state = case when $3::text is null then 'completed' else 'failed' end, \
        problem = $3, phase = 'ended', leased_until = null, ended_at = now() \
        where id = $1 and leased_by = $2 and state = 'running'";
    client.execute(sql, &[&audit.id, &owner, &problem]).await?;
    Ok(())
}

/// The newest audits, or the one of an id.
///
/// # Errors
/// The database does not answer.
pub async fn list(client: &Client, id: Option<Uuid>, limit: i64) -> Result<Vec<Audit>, Error> {
    let sql = format!(
        "select {COLUMNS} from audits where $1::uuid is null or id = $1 order by created_at desc, id limit $2"
    );
    let rows = client.query(&sql, &[&id, &limit]).await?;
    Ok(rows.iter().map(Audit::from_row).collect::<Result<_, _>>()?)
}

/// What an audit found, in its order.
///
/// # Errors
/// The database does not answer.
pub async fn findings(client: &Client, audit: Uuid) -> Result<Vec<StoredFinding>, Error> {
    let sql = "select kind, tenant, subject, expected, found, events, repaired from audit_findings \
        where audit = $1 order by n";
    let rows = client.query(sql, &[&audit]).await?;
    let finding = |row: &Row| {
        Ok(StoredFinding {
            kind: row.try_get(0)?,
            tenant: row.try_get(1)?,
            subject: row.try_get(2)?,
            expected: row.try_get(3)?,
            found: row.try_get(4)?,
            events: row.try_get(5)?,
            repaired: row.try_get(6)?,
        })
    };
    Ok(rows
        .iter()
        .map(finding)
        .collect::<Result<_, tokio_postgres::Error>>()?)
}

/// How many differences the last audit that was completed left.
///
/// # Errors
/// The database does not answer.
pub async fn unrepaired(client: &Client) -> Result<i64, Error> {
    let sql = "select findings - repaired from audits where state = 'completed' order by ended_at desc limit 1";
    let row = client.query_opt(sql, &[]).await?;
    Ok(row.map_or(Ok(0), |row| row.try_get(0))?)
}
