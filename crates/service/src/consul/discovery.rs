//! Where PostgreSQL, Kafka and Redis are, of Consul's catalogue (S4-142, S4-143). What the environment
//! names is never looked for.

use std::time::Duration;

use backon::{ConstantBuilder, Retryable as _};
use config::Env;

use super::agent::Agent;
use super::config::ConsulConfig;

/// A dependency that may be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Unless `DATABASE_URL` or `POSTGRES_HOST` is set.
    Postgres,
    /// Unless `KAFKA_BROKERS` is set.
    Kafka,
    /// Unless `REDIS_URL` is set.
    Redis,
}

impl Part {
    const ALL: [Self; 3] = [Self::Postgres, Self::Kafka, Self::Redis];

    /// What names it in the environment.
    const fn variables(self) -> &'static [&'static str] {
        match self {
            Self::Postgres => &["DATABASE_URL", "POSTGRES_HOST"],
            Self::Kafka => &["KAFKA_BROKERS"],
            Self::Redis => &["REDIS_URL"],
        }
    }

    /// The setting of its name in the catalogue, and the default.
    const fn service(self) -> (&'static str, &'static str) {
        match self {
            Self::Postgres => ("CONSUL_POSTGRES_SERVICE", "postgres"),
            Self::Kafka => ("CONSUL_KAFKA_SERVICE", "kafka"),
            Self::Redis => ("CONSUL_REDIS_SERVICE", "redis"),
        }
    }

    /// The settings that its instances give.
    fn settings(self, found: &[(String, u16)]) -> Vec<(&'static str, String)> {
        let bracketed = |(host, port): &(String, u16)| {
            if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            }
        };
        let Some(first) = found.first() else {
            return vec![];
        };
        match self {
            Self::Postgres => vec![
                ("POSTGRES_HOST", first.0.clone()),
                ("POSTGRES_PORT", first.1.to_string()),
            ],
            Self::Kafka => {
                let brokers: Vec<_> = found.iter().map(bracketed).collect();
                vec![("KAFKA_BROKERS", brokers.join(","))]
            }
            Self::Redis => vec![("REDIS_URL", format!("redis://{}/0", bracketed(first)))],
        }
    }
}

/// Reads the names of the services, for the reference; what is looked for at the start reads them too.
pub(crate) fn services(env: &Env) -> [(Part, String); 3] {
    Part::ALL.map(|part| {
        let (setting, default) = part.service();
        let doc = "Its name in Consul's catalogue, or tag.name. Looked for where the environment does not name it; by a process that can do without it only where this is set.";
        (part, env.get(&[setting], default, doc))
    })
}

/// The environment of this process, with what Consul knows of these parts, and of those whose
/// `CONSUL_…_SERVICE` is set, in the place of what it does not name. Without `CONSUL_ENABLED` it is the
/// environment alone.
///
/// # Errors
/// Consul did not tell within `CONSUL_WAIT_SECONDS`; in words that name what is missing.
pub async fn environment(program: &str, needed: &[Part]) -> Result<Env, String> {
    complete(Env::from_process(), program, needed).await
}

async fn complete(mut env: Env, program: &str, needed: &[Part]) -> Result<Env, String> {
    let Some(config) = ConsulConfig::from_env(&env, "") else {
        return Ok(env);
    };
    if env.finish().is_err() {
        // Who reads the settings says what is wrong.
        return Ok(env);
    }
    let agent = Agent::new(&config)?;
    for (part, name) in services(&env) {
        let is_wanted = needed.contains(&part) || env.is_set(part.service().0);
        if !is_wanted || part.variables().iter().any(|name| env.is_set(name)) {
            continue;
        }
        let found = find(&agent, &config, &name, program).await.map_err(|why| {
            format!(
                "{} is not set, and Consul at {}:{} does not know {name:?}: {why}",
                part.variables().join(" or "),
                config.host,
                config.port
            )
        })?;
        for (setting, value) in part.settings(&found) {
            env.fill(setting, value);
        }
    }
    Ok(env)
}

/// The healthy instances of a service, as soon as there are any.
async fn find(
    agent: &Agent,
    config: &ConsulConfig,
    name: &str,
    program: &str,
) -> Result<Vec<(String, u16)>, String> {
    let (tag, service) = match name.split_once('.') {
        Some((tag, service)) => (Some(tag), service),
        None => (None, name),
    };
    let look = async || match agent.healthy(service, tag).await {
        Ok(found) if found.is_empty() => Err("no instance of it passes its checks".to_owned()),
        other => other,
    };
    let pause = Duration::from_secs(1);
    let mut said = false;
    look.retry(
        ConstantBuilder::new()
            .with_delay(pause)
            .with_max_times(usize::try_from(config.wait.as_secs()).unwrap_or(usize::MAX)),
    )
    .notify(|error, _| {
        if !std::mem::replace(&mut said, true) {
            eprintln!("{program}: waiting for {name} of Consul: {error}");
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_become_settings() {
        let found = [("10.0.0.1".to_owned(), 9092), ("fd00::2".to_owned(), 9093)];
        assert_eq!(
            Part::Kafka.settings(&found),
            [("KAFKA_BROKERS", "10.0.0.1:9092,[fd00::2]:9093".to_owned())]
        );
        assert_eq!(
            Part::Redis.settings(&found[1..]),
            [("REDIS_URL", "redis://[fd00::2]:9093/0".to_owned())]
        );
        assert_eq!(
            Part::Postgres.settings(&found[1..])[0],
            ("POSTGRES_HOST", "fd00::2".to_owned())
        );
        assert!(Part::Redis.settings(&[]).is_empty());
    }

    #[tokio::test]
    async fn nothing_is_asked_where_the_environment_names_everything_or_consul_is_off() {
        let env = |values: &[(&str, &str)]| {
            let pairs = values
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            Env::from_map(pairs.collect())
        };
        // Nobody answers at port 1: a question would fail.
        let named = [
            ("CONSUL_ENABLED", "true"),
            ("CONSUL_PORT", "1"),
            ("CONSUL_WAIT_SECONDS", "0"),
            ("POSTGRES_HOST", "db"),
            ("KAFKA_BROKERS", "k:9092"),
            ("REDIS_URL", "redis://r"),
        ];
        assert!(complete(env(&named), "x", &Part::ALL).await.is_ok());
        assert!(complete(env(&[]), "x", &Part::ALL).await.is_ok());
        let error = complete(env(&named[..3]), "x", &[Part::Kafka]).await;
        let error = error.unwrap_err();
        assert!(
            error.contains("KAFKA_BROKERS is not set") && error.contains("\"kafka\""),
            "{error}"
        );
    }
}
