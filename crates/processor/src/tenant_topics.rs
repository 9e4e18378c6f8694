//! Whose records may say whose events they are.

use config::Env;
use domain::{TenantId, subject};

/// The topics whose records name their tenant themselves, and those that belong to one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantTopics(Vec<(String, Option<TenantId>)>);

impl Default for TenantTopics {
    fn default() -> Self {
        Self(
            subject::EVENT_TOPICS
                .map(|name| (name.to_owned(), None))
                .into(),
        )
    }
}

impl TenantTopics {
    /// Reads the settings.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        const NAME: &str = "TENANT_TOPICS";
        let words = env.get_list(
            &[NAME],
            &subject::EVENT_TOPICS.join(","),
            "Topics whose records are believed their header tenant, by commas: a producer that may write to them speaks for every tenant. TOPIC=TENANT: all of it is that tenant's. Records of others are of the default tenant, and no events if they say another.",
        );
        let read = |word: &String| {
            let Some((topic, tenant)) = word.split_once('=') else {
                return Some((word.clone(), None));
            };
            let tenant = TenantId::parse(tenant.trim());
            if tenant.is_none() {
                env.complain(NAME, word, "a topic, or TOPIC=TENANT");
            }
            tenant.map(|tenant| (topic.trim().to_owned(), Some(tenant)))
        };
        Self(words.iter().filter_map(read).collect())
    }

    /// Whose the records of a topic (without prefix) are; `None` if they say so themselves.
    #[must_use]
    pub fn owner(&self, topic: &str) -> Option<TenantId> {
        let known = self.0.iter().find(|(name, _)| name == topic);
        known.map_or_else(|| Some(TenantId::default()), |(_, owner)| owner.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_says_its_tenants_or_belongs_to_one() {
        let read = |value: &str| {
            let env = Env::from_map([("TENANT_TOPICS".to_owned(), value.to_owned())].into());
            let topics = TenantTopics::from_env(&env);
            env.finish().map(|()| topics)
        };
        assert_eq!(read("").unwrap(), TenantTopics::default());
        let topics = read("a, b=acme").unwrap();
        let acme = TenantId::parse("acme").unwrap();
        assert_eq!(topics.owner("a"), None);
        assert_eq!(topics.owner("b"), Some(acme));
        assert_eq!(topics.owner(subject::BACKEND), Some(TenantId::default()));
        assert!(
            read("b=a/c")
                .unwrap_err()
                .to_string()
                .contains("TENANT_TOPICS")
        );
    }
}
