//! The settings of NATS.

use config::Env;
use domain::TenantId;
use eventlog::nats::{self, ServerAddr};

/// Where messages come from.
#[derive(Debug, Clone)]
pub struct NatsConfig {
    /// The servers, with user and password where they need one.
    pub servers: Vec<ServerAddr>,
    /// The stream; made where there is none.
    pub stream: String,
    /// Which of its messages; the subjects of a stream that is made.
    pub subject: String,
    /// The durable consumer; made where there is none.
    pub consumer: String,
    /// Whose events the messages are.
    pub tenant: TenantId,
}

impl NatsConfig {
    /// Reads the settings; `None` where no server is named.
    pub fn from_env(env: &Env) -> Option<Self> {
        let servers = nats::servers(
            env,
            "Servers of NATS whose messages are events, such as nats://user:password@host:4222, separated by commas; none: there is no NATS.",
        );
        let config = Self {
            stream: name(env, "NATS_STREAM", "events", "The JetStream stream; made where there is none."),
            subject: env.get(
                &["NATS_SUBJECT"],
                "events.>",
                "Which messages of the stream are events: a subject, with * for a word and > for the rest.",
            ),
            consumer: name(env, "NATS_CONSUMER", "tidegate", "The durable consumer; gateways that share one share the messages."),
            tenant: tenant(env),
            servers,
        };
        (!config.servers.is_empty()).then_some(config)
    }
}

fn tenant(env: &Env) -> TenantId {
    let name: String = env.get(
        &["NATS_TENANT"],
        "default",
        "The tenant whose events the messages of NATS are.",
    );
    TenantId::parse(&name).unwrap_or_else(|| {
        env.complain("NATS_TENANT", &name, "a name of letters, digits and _ - .");
        TenantId::default()
    })
}

/// A name that JetStream accepts.
fn name(env: &Env, variable: &'static str, default: &str, doc: &str) -> String {
    let name: String = env.get(&[variable], default, doc);
    let illegal = |c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c);
    if name.is_empty() || name.contains(illegal) {
        env.complain(variable, &name, "a name without spaces and . * > / \\");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[(&str, &str)]) -> (Option<NatsConfig>, Result<(), String>) {
        let pairs = values
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let env = Env::from_map(pairs.collect());
        let config = NatsConfig::from_env(&env);
        (config, env.finish().map_err(|error| error.to_string()))
    }

    #[test]
    fn without_a_server_there_is_no_nats() {
        assert!(read(&[("NATS_STREAM", "s")]).0.is_none());
        let (config, problems) = read(&[("NATS_URL", "nats://u:p@a:4222, b:4223")]);
        let config = config.unwrap();
        assert_eq!((config.servers.len(), problems), (2, Ok(())));
        assert_eq!(config.servers[1].port(), 4223);
        assert_eq!(
            (config.stream.as_str(), config.subject.as_str()),
            ("events", "events.>")
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_no_password_shown() {
        let (_, problems) = read(&[("NATS_URL", "nats://u:s3cret@:x"), ("NATS_STREAM", "a.b")]);
        let problems = problems.unwrap_err();
        assert!(
            problems.contains("NATS_URL") && problems.contains("NATS_STREAM"),
            "{problems}"
        );
        assert!(!problems.contains("s3cret"), "{problems}");
    }
}
