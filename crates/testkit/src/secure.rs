//! Parts over TLS: a certificate authority of the test's own, and listeners beside the plain ones.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::parts::{Part, Parts};
use crate::port::Port;

/// A certificate authority, and a certificate of it for `localhost` and 127.0.0.1.
#[derive(Debug)]
pub struct Authority {
    directory: PathBuf,
}

impl Authority {
    /// Makes both with `openssl`, in that directory.
    pub fn new(directory: &Path) -> Self {
        let own = Self {
            directory: directory.join("tls"),
        };
        std::fs::create_dir_all(&own.directory)
            .unwrap_or_else(|error| panic!("{}: {error}", own.directory.display()));
        own.openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test-authority \
             -keyout authority.key -out authority.pem",
        );
        own.openssl(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -CA authority.pem \
             -CAkey authority.key -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
             -addext basicConstraints=critical,CA:FALSE -keyout server.key -out server.pem",
        );
        own
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(&self.directory)
            .output();
        match output {
            Ok(output) if output.status.success() => {}
            other => panic!("openssl {arguments}: {other:?}"),
        }
    }

    /// One of its files: `authority.pem`, `server.pem` or `server.key`.
    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}

/// Listeners of private parts over TLS.
#[derive(Debug)]
pub struct Secure {
    /// What their certificates come from.
    pub authority: Authority,
    /// `rediss://` URL, if Redis is among the parts.
    pub redis_url: String,
    /// `host:port` of Kafka's listener with SASL over TLS, if Kafka is among the parts.
    pub kafka_brokers: String,
    _ports: [Port; 2],
}

/// Who may enter Kafka, and the password.
pub const KAFKA_USER: (&str, &str) = ("tidegate", "not-a-secret");

impl Parts {
    /// Adds a TLS port to a private Redis, and a listener with SASL/PLAIN over TLS to a private Kafka,
    /// which restarts.
    pub async fn secure(&self, parts: &[Part]) -> Secure {
        let directory = self.directory();
        let authority = Authority::new(directory);
        let ports = [Port::free(), Port::free()];
        let mut secure = Secure {
            redis_url: String::new(),
            kafka_brokers: String::new(),
            authority,
            _ports: ports,
        };
        let [redis, kafka] = [secure._ports[0].number(), secure._ports[1].number()];
        for part in parts {
            match part {
                Part::Redis => {
                    self.secure_redis(&secure.authority, redis);
                    secure.redis_url = format!("rediss://localhost:{redis}/0");
                }
                Part::Kafka => {
                    self.secure_kafka(&secure.authority, kafka).await;
                    secure.kafka_brokers = format!("localhost:{kafka}");
                }
                Part::Postgres => panic!("no such listener of PostgreSQL"),
            }
        }
        secure
    }

    fn secure_redis(&self, authority: &Authority, port: u16) {
        let port = port.to_string();
        let settings = [
            ("tls-ca-cert-file", authority.path("authority.pem")),
            ("tls-cert-file", authority.path("server.pem")),
            ("tls-key-file", authority.path("server.key")),
            ("tls-auth-clients", "no".to_owned()),
            ("tls-port", port),
        ];
        let mut command = Command::new("redis-cli");
        command.args(["-u", &self.redis_url, "CONFIG", "SET"]);
        for (name, value) in &settings {
            command.args([name, value.as_str()]);
        }
        match command.output() {
            Ok(output) if output.stdout.starts_with(b"OK") => {}
            other => panic!("redis-cli CONFIG SET: {other:?}"),
        }
    }

    async fn secure_kafka(&self, authority: &Authority, port: u16) {
        let directory = self.directory().join("kafka");
        let read = |path: &Path| {
            std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
        };
        let properties = read(&directory.join("server.properties"));
        let key_and_certificate = directory.join("server-and-key.pem");
        let both = [authority.path("server.key"), authority.path("server.pem")]
            .map(|path| read(Path::new(&path)))
            .concat();
        let write = |path: &Path, text: String| {
            std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        };
        write(&key_and_certificate, both);
        let more = |name: &str| {
            let known = properties.lines().find_map(|line| line.strip_prefix(name));
            let known = known.unwrap_or_else(|| panic!("{name} is not in {properties}"));
            format!("{name}{known},SASL_SSL://localhost:{port}\n")
        };
        let (user, password) = KAFKA_USER;
        let listener = "listener.name.sasl_ssl";
        let extra = [
            more("listeners="),
            more("advertised.listeners="),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL\n"
                .to_owned(),
            "sasl.enabled.mechanisms=PLAIN\n".to_owned(),
            format!(
                "{listener}.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}=\"{password}\";\n"
            ),
            format!("{listener}.ssl.keystore.type=PEM\n"),
            format!("{listener}.ssl.keystore.location={}\n", key_and_certificate.display()),
        ];
        write(&directory.join("extra.properties"), extra.concat());
        self.stop(Part::Kafka).await;
        self.start(Part::Kafka).await;
    }
}
