//! How many events there are under a filter.

use std::time::Instant;

use time::OffsetDateTime;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::filter::Filter;
use super::steps::{Step, steps};
use crate::error::Error;
use crate::sql::Sql;
use crate::write::OTHER;

/// A total.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    /// How many; `None` if that would have taken too long.
    pub count: Option<u64>,
    /// True if it is not known exactly.
    pub is_estimate: bool,
}

/// How many events there are under the filter: out of the counts where they tell, else counted one by
/// one, from the newest back, until `deadline`.
///
/// # Errors
/// The database does not answer, or not in time.
pub async fn total(
    client: &Client,
    edges: &[OffsetDateTime],
    filter: &Filter,
    deadline: Instant,
) -> Result<Total, Error> {
    if let Some(total) = counted(client, filter).await? {
        return Ok(total);
    }
    let mut count = 0;
    for step in steps(edges, filter.start, filter.end) {
        if Instant::now() > deadline {
            return Ok(Total {
                count: None,
                is_estimate: true,
            });
        }
        let row = count_sql(filter, step).row(client).await?;
        count += u64::try_from(row.try_get::<_, i64>(0)?).unwrap_or(0);
    }
    Ok(Total {
        count: Some(count),
        is_estimate: false,
    })
}

/// The statement that counts one step.
#[must_use]
pub fn count_sql(filter: &Filter, step: Step) -> Sql {
    let mut sql = Sql::new("select count(*) from events e");
    filter.conditions(&mut sql);
    step.conditions(&mut sql);
    sql
}

/// The total of all events, or of one type, out of the counts. `None` where they do not tell it: under
/// other conditions, and of a type while some types are counted as `other`.
///
/// Counts outlive events that retention has removed. Those since then are what is left, but for old
/// ones that came later, so it is an estimate.
async fn counted(client: &Client, filter: &Filter) -> Result<Option<Total>, Error> {
    let bare = Filter {
        tenant_id: filter.tenant_id.clone(),
        event_type: filter.event_type.clone(),
        ..Filter::default()
    };
    if *filter != bare {
        return Ok(None);
    }
    let tenant = || filter.tenant_id.as_str().to_owned();
    let of_type = |sql: &mut Sql| {
        sql.bind(tenant(), Type::TEXT);
        if let Some(event_type) = &filter.event_type {
            sql.push(" and event_type = ")
                .bind(event_type.clone(), Type::TEXT);
        }
    };
    let mut sql = Sql::new(
        "select kept_from is not null, coalesce(case when kept_from is null then \
         (select sum(count) from aggregated_events where tenant_id = ",
    );
    of_type(&mut sql);
    sql.push(
        ") else (select sum(count) from aggregated_events_hourly \
         where hour >= kept_from and tenant_id = ",
    );
    of_type(&mut sql);
    sql.push(") end, 0)::int8, exists (select from aggregated_events where event_type = ")
        .bind(OTHER, Type::TEXT)
        .push(" and tenant_id = ")
        .bind(tenant(), Type::TEXT)
        .push(") from (select max(kept_from) as kept_from from retention) r");
    let row = sql.row(client).await?;
    if filter.event_type.is_some() && row.try_get(2)? {
        return Ok(None);
    }
    Ok(Some(Total {
        count: row.try_get::<_, i64>(1)?.try_into().ok(),
        is_estimate: row.try_get(0)?,
    }))
}
