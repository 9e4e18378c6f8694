//! The rules as this process knows them: what is to be done with which events.
//!
//! Events are matched before their transaction begins, with the rules known here. The transaction fails
//! if these are others by then ([`store::rules`]), and the events are matched again: once a change of a
//! rule is answered, every event stored follows it. Nothing here has to be quick for that; the look once
//! a second is for those who act on rules after the storing. A further kind of rule is read in
//! [`RuleCache::load`], and has its matchers there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use domain::ordering::Ordering;
use domain::selector::{Selector, View};
use domain::{Event, TenantId};
use store::processors::{self, FromCode, StoredProcessor};
use store::rules::RuleKind;
use store::subscriptions::{self, Subscription};
use store::write::Due;
use store::{Database, Error, rules};
use tokio::sync::watch;
use uuid::Uuid;

/// How often the version is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// All rules of one version.
#[derive(Debug, Default)]
pub struct Rules {
    /// The version.
    pub version: Uuid,
    /// The processors that have something to do, those of higher priority first.
    pub processors: Vec<Arc<StoredProcessor>>,
    /// The subscriptions that are enabled.
    pub webhooks: HashMap<Uuid, Arc<Subscription>>,
    matchers: Vec<Matcher>,
}

/// Which events one rule is about.
#[derive(Debug)]
struct Matcher {
    rule_id: Uuid,
    kind: RuleKind,
    /// None: all.
    tenant: Option<TenantId>,
    selector: Selector,
    ordered: bool,
}

impl Rules {
    /// Appends what the rules want done with the event of that item; returns whether the event is
    /// pending until some of it is done.
    pub fn match_event(&self, event: &Event, item: usize, work: &mut Vec<Due>) -> bool {
        if self.matchers.is_empty() {
            return false;
        }
        let view = View::new(event);
        let before = work.len();
        let of_tenant = |matcher: &&Matcher| {
            let tenant = matcher.tenant.as_ref();
            tenant.is_none_or(|tenant| *tenant == event.tenant_id)
        };
        let matched = self
            .matchers
            .iter()
            .filter(of_tenant)
            .filter(|matcher| matcher.selector.matches_view(&view));
        work.extend(matched.map(|matcher| Due {
            item,
            rule_id: matcher.rule_id,
            kind: matcher.kind,
            ordered: matcher.ordered,
        }));
        let mut added = work.iter().skip(before);
        added.any(|due| due.kind == RuleKind::Processor)
    }
}

/// The rules of a database, kept up to date. Clones share them.
#[derive(Clone)]
pub struct RuleCache {
    db: Database,
    /// Written down before the rules are read.
    from_code: Arc<[FromCode]>,
    known: watch::Sender<Option<Arc<Rules>>>,
    work: watch::Sender<()>,
}

impl RuleCache {
    /// Reads nothing yet. With the rules of that database come these processors.
    #[must_use]
    pub fn new(db: &Database, from_code: Vec<FromCode>) -> Self {
        Self {
            db: db.clone(),
            from_code: from_code.into(),
            known: watch::Sender::new(None),
            work: watch::Sender::new(()),
        }
    }

    /// The rules as far as they are known; waits for the database if none were read yet.
    pub async fn current(&self) -> Arc<Rules> {
        let pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(1))
            .without_max_times()
            .build();
        for pause in pauses {
            if let Some(rules) = &*self.known.borrow() {
                return Arc::clone(rules);
            }
            match self.reload().await {
                Ok(rules) => return rules,
                Err(error) => tracing::debug!(error = %error, "the rules cannot be read yet"),
            }
            tokio::time::sleep(pause).await;
        }
        Arc::default()
    }

    /// The rules if any were read yet.
    #[must_use]
    pub fn known(&self) -> Option<Arc<Rules>> {
        self.known.borrow().clone()
    }

    /// Reads the rules as they are now.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn reload(&self) -> Result<Arc<Rules>, Error> {
        processors::register(&self.db, &self.from_code).await?;
        let rules = Arc::new(self.load().await?);
        self.known.send_replace(Some(Arc::clone(&rules)));
        self.work.send_replace(());
        Ok(rules)
    }

    async fn load(&self) -> Result<Rules, Error> {
        let client = self.db.client().await?;
        // Before the rules: should they change meanwhile, the version is too old and they are read again.
        let version = rules::version(&client).await?;
        let processors = processors::active(&client).await?;
        let matcher = |one: &StoredProcessor| match serde_json::from_value(one.filters.clone()) {
            Ok(selector) => Some(Matcher {
                rule_id: one.processor_id,
                kind: RuleKind::Processor,
                tenant: one.tenant_id.clone(),
                selector,
                ordered: false,
            }),
            Err(error) => {
                tracing::error!(processor = one.processor_name, error = %error, "the filters of a processor cannot be read; it gets no events");
                None
            }
        };
        let matching = processors.iter().filter(|one| !one.deleted);
        let mut matchers: Vec<Matcher> = matching.filter_map(matcher).collect();
        let webhooks = subscriptions::active(&client).await?;
        matchers.extend(webhooks.iter().map(|one| Matcher {
            rule_id: one.subscription_id,
            kind: RuleKind::Webhook,
            tenant: Some(one.tenant_id.clone()),
            selector: one.settings.selector.clone(),
            ordered: one.settings.ordering == Ordering::Stream,
        }));
        let webhooks = webhooks
            .into_iter()
            .map(|one| (one.subscription_id, Arc::new(one)));
        Ok(Rules {
            version,
            matchers,
            webhooks: webhooks.collect(),
            processors: processors.into_iter().map(Arc::new).collect(),
        })
    }

    /// Follows the version until dropped.
    pub async fn watch(self) {
        let mut every = tokio::time::interval(LOOK);
        loop {
            every.tick().await;
            if let Err(error) = self.look().await {
                tracing::debug!(error = %error, "the version of the rules cannot be read");
            }
        }
    }

    async fn look(&self) -> Result<(), Error> {
        let version = rules::version(&*self.db.client().await?).await?;
        if self.known().is_none_or(|known| known.version != version) {
            self.reload().await?;
        }
        Ok(())
    }

    /// Says that there is something new to do.
    pub fn notify(&self) {
        self.work.send_replace(());
    }

    /// Changes whenever there is something new to do, or the rules have changed.
    #[must_use]
    pub fn notices(&self) -> watch::Receiver<()> {
        self.work.subscribe()
    }
}
