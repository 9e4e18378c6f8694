//! Subscriptions: who wants to be sent which events (S4-78).

use config::Secret;
use domain::cloudevent::Format;
use domain::ordering::Ordering;
use domain::retry::RetryPolicy;
use domain::{Selector, TenantId};
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, GenericClient, Row, Transaction};
use uuid::Uuid;

use crate::error::Error;
use crate::outbox::Announce;
use crate::pool::Database;
use crate::rules;
use crate::sql::Columns;
use crate::write::outbox;

/// Subscriptions of one tenant, at most.
pub const MAX_SUBSCRIPTIONS: i64 = 10_000;

pub(crate) const COLUMNS: &str = "subscription_id, tenant_id, subscriber_name, subscriber_type, \
    jsonb_build_object('event_types', event_types, 'event_sources', event_sources, \
        'event_categories', event_categories, 'users', users, 'filter', filter), \
    callback_url, retry_policy, format, enabled, ordering, disabled_reason, webhook_secret, previous_secret, \
    previous_secret_until, failing_since, created_at, updated_at";

/// What its owner says of a subscription.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Unique within the tenant.
    pub subscriber_name: String,
    /// In the owner's words.
    pub subscriber_type: String,
    /// Which events.
    pub selector: Selector,
    /// Where they are sent to.
    pub callback_url: String,
    /// When a delivery that failed is tried again.
    pub retry_policy: RetryPolicy,
    /// How an event is written.
    pub format: Format,
    /// Whether events are sent.
    pub enabled: bool,
    /// In which order.
    pub ordering: Ordering,
}

/// A subscription.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Its number.
    pub subscription_id: Uuid,
    /// Whose events.
    pub tenant_id: TenantId,
    /// What its owner says.
    pub settings: Settings,
    /// Why it is not enabled: `request`, `gone` (the endpoint said so), `failing` (for days).
    pub disabled_reason: Option<String>,
    /// What messages are signed with.
    pub secret: Secret,
    /// The secret before, which holds until then too.
    pub previous: Option<(Secret, OffsetDateTime)>,
    /// Since when no delivery succeeded.
    pub failing_since: Option<OffsetDateTime>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it was changed last.
    pub updated_at: OffsetDateTime,
}

impl Subscription {
    pub(crate) fn from_row(row: &Row) -> Result<Self, Error> {
        let mut columns = Columns::new(row);
        let subscription_id = columns.next()?;
        let tenant: &str = columns.next()?;
        let (subscriber_name, subscriber_type) = (columns.next()?, columns.next()?);
        let selector: Value = columns.next()?;
        let callback_url = columns.next()?;
        let policy: Value = columns.next()?;
        let format: &str = columns.next()?;
        let enabled = columns.next()?;
        let ordering: &str = columns.next()?;
        let disabled_reason = columns.next()?;
        let secret = Secret::new(columns.next()?);
        let previous: Option<String> = columns.next()?;
        let until: Option<OffsetDateTime> = columns.next()?;
        let members = [("retry_policy".to_owned(), policy)].into_iter().collect();
        Ok(Self {
            subscription_id,
            tenant_id: TenantId::parse(tenant).unwrap_or_default(),
            settings: Settings {
                subscriber_name,
                subscriber_type,
                selector: serde_json::from_value(selector)
                    .map_err(|error| Error::Stored(error.to_string()))?,
                callback_url,
                // What is wrong with it is what the default stands for.
                retry_policy: RetryPolicy::read(&members, "retry_policy", &mut vec![]),
                format: Format::parse(format).unwrap_or_default(),
                enabled,
                ordering: Ordering::parse(ordering).unwrap_or(Ordering::None),
            },
            disabled_reason,
            secret,
            previous: previous.map(Secret::new).zip(until),
            failing_since: columns.next()?,
            created_at: columns.next()?,
            updated_at: columns.next()?,
        })
    }
}

/// Those that want events, of all tenants.
///
/// # Errors
/// The database does not answer.
pub async fn active(client: &Client) -> Result<Vec<Subscription>, Error> {
    let sql = format!("select {COLUMNS} from event_subscriptions where enabled");
    let rows = client.query_typed(&sql, &[]).await?;
    rows.iter().map(Subscription::from_row).collect()
}

/// One of them.
///
/// # Errors
/// The database does not answer.
pub async fn get(
    client: &impl GenericClient,
    tenant: &TenantId,
    id: Uuid,
) -> Result<Option<Subscription>, Error> {
    let sql = format!(
        "select {COLUMNS} from event_subscriptions where tenant_id = $1 and subscription_id = $2"
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&tenant.as_str(), Type::TEXT), (&id, Type::UUID)];
    let rows = client.query_typed(&sql, &parameters).await?;
    rows.first().map(Subscription::from_row).transpose()
}

/// What a change came to.
#[derive(Debug)]
pub enum Changed {
    /// It is this now.
    To(Box<Subscription>),
    /// Another one has the name.
    NameTaken,
    /// There are [`MAX_SUBSCRIPTIONS`] already.
    TooMany,
    /// The one who wanted the change declined it.
    Declined,
}

/// Makes one, and has it announced by what `announce` makes of it.
///
/// # Errors
/// The database does not answer.
pub async fn create(
    db: &Database,
    tenant: &TenantId,
    id: Uuid,
    settings: &Settings,
    secret: &Secret,
    announce: Announce<Subscription>,
) -> Result<Changed, Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    let sql = format!(
        "insert into event_subscriptions (tenant_id, subscription_id, subscriber_name, subscriber_type, \
            event_types, event_sources, event_categories, users, filter, callback_url, retry_policy, \
            enabled, disabled_reason, format, ordering, webhook_secret) \
         select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, case when not $12 then 'request' end, $13, $14, $15 \
         where (select count(*) from event_subscriptions where tenant_id = $1) < {MAX_SUBSCRIPTIONS} \
            or exists (select from event_subscriptions where tenant_id = $1 and subscriber_name = $3) \
         on conflict (tenant_id, subscriber_name) do nothing returning {COLUMNS}"
    );
    let values = Values::of(settings);
    let (tenant, secret) = (tenant.as_str(), secret.expose());
    let mut parameters = values.parameters(&tenant, &id);
    parameters.push((&secret, Type::TEXT));
    let Some(row) = tx.query_typed(&sql, &parameters).await?.pop() else {
        let taken = "select exists (select from event_subscriptions where tenant_id = $1 and subscriber_name = $2)";
        let name: (&(dyn ToSql + Sync), Type) = (&settings.subscriber_name, Type::TEXT);
        let row = tx
            .query_typed_one(taken, &[(&tenant, Type::TEXT), name])
            .await?;
        let taken: bool = row.try_get(0)?;
        return Ok(if taken {
            Changed::NameTaken
        } else {
            Changed::TooMany
        });
    };
    let made = Subscription::from_row(&row)?;
    let messages = announce.messages(std::iter::once(&made));
    outbox::announce(&tx, &messages, announce.to).await?;
    rules::change(&tx).await?;
    tx.commit().await?;
    Ok(Changed::To(Box::new(made)))
}

/// Changes one to what `change` makes of it, which sees it as it is, and may decline; `None` if there
/// is none. One that is enabled again counts as not failing.
///
/// # Errors
/// The database does not answer.
pub async fn change(
    db: &Database,
    tenant: &TenantId,
    id: Uuid,
    change: impl FnOnce(&Subscription) -> Option<Settings>,
) -> Result<Option<Changed>, Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    let Some(before) = lock(&tx, tenant, id).await? else {
        return Ok(None);
    };
    let Some(settings) = change(&before) else {
        return Ok(Some(Changed::Declined));
    };
    let changed = update(&tx, tenant, id, &settings).await?;
    if matches!(changed, Changed::To(_)) {
        rules::change(&tx).await?;
        tx.commit().await?;
    }
    Ok(Some(changed))
}

async fn lock(
    tx: &Transaction<'_>,
    tenant: &TenantId,
    id: Uuid,
) -> Result<Option<Subscription>, Error> {
    let sql =
        "select from event_subscriptions where tenant_id = $1 and subscription_id = $2 for update";
    let parameters: [(&(dyn ToSql + Sync), Type); 2] =
        [(&tenant.as_str(), Type::TEXT), (&id, Type::UUID)];
    tx.query_typed(sql, &parameters).await?;
    get(tx, tenant, id).await
}

async fn update(
    tx: &Transaction<'_>,
    tenant: &TenantId,
    id: Uuid,
    settings: &Settings,
) -> Result<Changed, Error> {
    let sql = format!(
        "update event_subscriptions s set subscriber_name = $3, subscriber_type = $4, event_types = $5, \
            event_sources = $6, event_categories = $7, users = $8, filter = $9, callback_url = $10, \
            retry_policy = $11, enabled = $12, format = $13, ordering = $14, updated_at = now(), \
            disabled_reason = case when not $12 then coalesce(disabled_reason, 'request') end, \
            failing_since = case when $12 and not enabled then null else failing_since end \
         where tenant_id = $1 and subscription_id = $2 and not exists (select from event_subscriptions o \
            where o.tenant_id = $1 and o.subscriber_name = $3 and o.subscription_id <> $2) \
         returning {COLUMNS}"
    );
    let values = Values::of(settings);
    let tenant = tenant.as_str();
    let rows = tx
        .query_typed(&sql, &values.parameters(&tenant, &id))
        .await?;
    Ok(match rows.first() {
        Some(row) => Changed::To(Box::new(Subscription::from_row(row)?)),
        None => Changed::NameTaken,
    })
}

/// Gives it another secret; the one it has holds for `overlap` seconds more. `None` if there is none.
///
/// # Errors
/// The database does not answer.
pub async fn rotate(
    db: &Database,
    tenant: &TenantId,
    id: Uuid,
    secret: &Secret,
    overlap: u32,
) -> Result<Option<Subscription>, Error> {
    let sql = format!(
        "update event_subscriptions set previous_secret = webhook_secret, webhook_secret = $3, \
            previous_secret_until = now() + $4 * interval '1 second', updated_at = now() \
         where tenant_id = $1 and subscription_id = $2 returning {COLUMNS}"
    );
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
        (&tenant.as_str(), Type::TEXT),
        (&id, Type::UUID),
        (&secret.expose(), Type::TEXT),
        (&f64::from(overlap), Type::FLOAT8),
    ];
    let rows = tx.query_typed(&sql, &parameters).await?;
    let rotated = rows.first().map(Subscription::from_row).transpose()?;
    rules::change(&tx).await?;
    tx.commit().await?;
    Ok(rotated)
}

/// Deletes it, with what was still to be sent; returns whether there was one.
///
/// # Errors
/// The database does not answer.
pub async fn delete(db: &Database, tenant: &TenantId, id: Uuid) -> Result<bool, Error> {
    let mut client = db.client().await?;
    let tx = client.transaction().await?;
    let sql = "delete from event_subscriptions where tenant_id = $1 and subscription_id = $2";
    if tx.execute(sql, &[&tenant.as_str(), &id]).await? == 0 {
        return Ok(false);
    }
    rules::change(&tx).await?;
    tx.execute("delete from work where rule_id = $1", &[&id])
        .await?;
    tx.commit().await?;
    Ok(true)
}

/// The settings as the columns hold them.
struct Values<'a> {
    settings: &'a Settings,
    types: Vec<&'a str>,
    sources: Vec<&'static str>,
    categories: Vec<&'static str>,
    filter: Option<Value>,
    policy: Value,
    format: &'static str,
    ordering: &'static str,
}

impl<'a> Values<'a> {
    fn of(settings: &'a Settings) -> Self {
        let selector = &settings.selector;
        let json = |value| serde_json::to_value(value).ok();
        Self {
            settings,
            types: selector
                .event_types
                .iter()
                .map(|one| one.as_str())
                .collect(),
            sources: selector
                .event_sources
                .iter()
                .map(|one| one.as_str())
                .collect(),
            categories: selector
                .event_categories
                .iter()
                .map(|one| one.as_str())
                .collect(),
            filter: selector.filter.as_ref().and_then(json),
            policy: serde_json::to_value(&settings.retry_policy).unwrap_or_default(),
            format: settings.format.as_str(),
            ordering: settings.ordering.as_str(),
        }
    }

    /// $1 to $14.
    fn parameters<'b>(
        &'b self,
        tenant: &'b &str,
        id: &'b Uuid,
    ) -> Vec<(&'b (dyn ToSql + Sync), Type)> {
        let settings = self.settings;
        vec![
            (tenant, Type::TEXT),
            (id, Type::UUID),
            (&settings.subscriber_name, Type::TEXT),
            (&settings.subscriber_type, Type::TEXT),
            (&self.types, Type::TEXT_ARRAY),
            (&self.sources, Type::TEXT_ARRAY),
            (&self.categories, Type::TEXT_ARRAY),
            (&settings.selector.users, Type::TEXT_ARRAY),
            (&self.filter, Type::JSONB),
            (&settings.callback_url, Type::TEXT),
            (&self.policy, Type::JSONB),
            (&settings.enabled, Type::BOOL),
            (&self.format, Type::TEXT),
            (&self.ordering, Type::TEXT),
        ]
    }
}
