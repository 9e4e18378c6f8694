//! Building: the history of every entity is folded under a new version of a definition, page by page,
//! by whichever processor leases it; then the version takes the place of the one that is live. What a
//! retired version leaves behind is removed.

use domain::fold::Extensions;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use super::definitions::{COLUMNS, StoredDefinition};
use super::entities;
use super::refold::refold;
use crate::error::Error;
use crate::lease::{FREE, LEASED};
use crate::outbox::Announce;
use crate::rules;
use crate::write::announce;

/// A definition that a processor builds, or removes.
#[derive(Debug)]
pub struct Job {
    /// What it is about.
    pub of: StoredDefinition,
    owner: Uuid,
}

/// What a step of a job did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There is more to do.
    More,
    /// Nothing is left to do.
    Done,
    /// Another processor has the lease, or the definition was changed.
    Lost,
}

/// Takes one that nobody works on.
///
/// # Errors
/// The database does not answer.
pub async fn claim(client: &Client, owner: Uuid) -> Result<Option<Job>, Error> {
    let sql = format!(
        "update projection_definitions set {LEASED} where id = ( \
             select id from projection_definitions where state <> 'live' \
             and {FREE} \
             order by id limit 1 for update skip locked) returning {COLUMNS}"
    );
    let Some(row) = client.query_opt(&sql, &[&owner]).await? else {
        return Ok(None);
    };
    let job = Job {
        of: StoredDefinition::from_row(&row)?,
        owner,
    };
    if job.of.state == "building" && job.of.entities_total.is_none() {
        let total = entities::total(client, &job.of.tenant_id, &job.of).await?;
        let set = "update projection_definitions set entities_total = $2 where id = $1";
        client.execute(set, &[&job.of.id, &total]).await?;
    }
    Ok(Some(job))
}

/// Gives the lease back, so that another can go on at once.
///
/// # Errors
/// The database does not answer.
pub async fn release(client: &Client, job: &Job, problem: Option<&str>) -> Result<(), Error> {
    let sql = "update projection_definitions set leased_until = null, problem = $3 \
        where id = $1 and leased_by = $2";
    client
        .execute(sql, &[&job.of.id, &job.owner, &problem])
        .await?;
    Ok(())
}

/// Does the next page. A version that is built takes the place of the one that is live; if there is
/// none, `created` makes the message that tells so.
///
/// # Errors
/// The database does not answer; the step can be done again.
pub async fn step(
    client: &mut Client,
    extensions: &Extensions,
    job: &mut Job,
    created: Announce<StoredDefinition>,
) -> Result<Step, Error> {
    if job.of.state == "retired" {
        return remove(client, job).await;
    }
    let (ids, cursor) = entities::page(client, &job.of, job.of.cursor.as_deref()).await?;
    for id in &ids {
        job.of.events += refold(client, extensions, &job.of, id).await?;
        job.of.entities += 1;
    }
    let ended = cursor.is_none();
    job.of.cursor = cursor.or(job.of.cursor.take());
    let tx = client.transaction().await?;
    if ended {
        // Before any row: so do all who change a definition.
        rules::change(&tx).await?;
    }
    let moved = format!(
        "update projection_definitions set {LEASED}, cursor = $3, entities = $4, events = $5, \
         problem = null where id = $2 and leased_by = $1 and state = 'building'"
    );
    let (of, owner) = (&job.of, &job.owner);
    let values = [&of.cursor as _, &of.entities as _, &of.events as _];
    let [cursor, entities, events] = values;
    if tx
        .execute(&moved, &[owner, &of.id, cursor, entities, events])
        .await?
        == 0
    {
        return Ok(Step::Lost);
    }
    if ended {
        go_live(&tx, of, created).await?;
    }
    tx.commit().await?;
    Ok(if ended { Step::Done } else { Step::More })
}

async fn go_live(
    tx: &Transaction<'_>,
    of: &StoredDefinition,
    created: Announce<StoredDefinition>,
) -> Result<(), Error> {
    let retire = "update projection_definitions set state = 'retired', leased_until = null \
        where tenant_id = $1 and name = $2 and state = 'live'";
    let tenant = of.tenant_id.as_str();
    let before = tx.execute(retire, &[&tenant, &of.definition.name]).await?;
    let live = "update projection_definitions set state = 'live', built_at = now(), \
        leased_until = null where id = $1";
    tx.execute(live, &[&of.id]).await?;
    if before > 0 {
        return Ok(());
    }
    announce(tx, &created.messages(std::iter::once(of)), created.to).await
}

async fn remove(client: &Client, job: &Job) -> Result<Step, Error> {
    let slice = "delete from event_projections where projection_id in ( \
        select projection_id from event_projections where definition = $1 limit 1000)";
    if client.execute(slice, &[&job.of.id]).await? > 0 {
        let renew = format!("update projection_definitions set {LEASED} where id = $2");
        client.execute(&renew, &[&job.owner, &job.of.id]).await?;
        return Ok(Step::More);
    }
    let gone = "delete from projection_definitions where id = $1 and state = 'retired'";
    client.execute(gone, &[&job.of.id]).await?;
    Ok(Step::Done)
}
