//! PostgreSQL as it is found: behind a pooler, over TLS, by other settings, in another schema.

use std::os::unix::fs::MetadataExt as _;
use std::process::Stdio;

use serde_json::{Value, json};
use testkit::{Database, LIMIT, Part, Parts, ServiceBuilder, TestService, eventually};
use tokio::process::{Child, Command};

use crate::command::{Directory, ended, free_port, post, stored, tidegate, total};

/// The parts of `postgresql://user:password@host:port/name`.
fn parts_of(url: &str) -> [&str; 5] {
    let rest = url.split_once("://").unwrap().1;
    let (user, rest) = rest.split_once(':').unwrap();
    let (password, rest) = rest.split_once('@').unwrap();
    let (host, rest) = rest.split_once(':').unwrap();
    let (port, name) = rest.split_once('/').unwrap();
    [user, password, host, port, name]
}

fn serve() -> ServiceBuilder {
    TestService::builder("tidegate").arg("serve")
}

/// An event goes through the log into the tables and is found again.
async fn one_event_is_stored(service: &TestService) {
    let id = post(service, &json!({"event_type": "a.b", "user_id": "u-1"}))
        .await
        .unwrap();
    stored(service, &id).await;
    total(service, 1).await;
}

/// Tables by their schema.
async fn tables(database: &Database, schema: &str) -> i64 {
    let sql = "select count(*) from pg_tables where schemaname = $1";
    database.scalar(sql, &[&schema]).await.unwrap()
}

/// The distribution's PgBouncer in front of a database.
struct Bouncer {
    _directory: Directory,
    _child: Child,
    url: String,
}

impl Bouncer {
    async fn start(database: &Database) -> Self {
        let [user, password, host, port, name] = parts_of(&database.url);
        let (directory, own) = (Directory::new(), free_port());
        let settings = format!(
            "[databases]\n{name} = host={host} port={port} dbname={name} user={user} password={password}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {own}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = session\ndefault_pool_size = 80\n"
        );
        let file = directory.path("pgbouncer.ini");
        std::fs::write(&file, settings).unwrap();
        let mut command = Command::new("/usr/sbin/pgbouncer");
        // It refuses to run as root.
        if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
            command.args(["-u", "nobody"]);
        }
        let child = command
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("pgbouncer, which deploy/local/parts install --with pgbouncer brings");
        let address = format!("127.0.0.1:{own}");
        eventually("pgbouncer", LIMIT, || {
            tokio::net::TcpStream::connect(address.clone())
        })
        .await;
        Self {
            _directory: directory,
            _child: child,
            url: format!("postgresql://{user}:{password}@{address}/{name}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn through_pgbouncer_in_session_mode() {
    let database = Parts::shared().await.fresh_database().await;
    let bouncer = Bouncer::start(&database).await;
    let mut service = serve().env("DATABASE_URL", &bouncer.url).start().await;
    one_event_is_stored(&service).await;
    assert!(tables(&database, "event").await > 5);
    assert_eq!(tables(&database, "public").await, 0);
    assert!(service.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn by_the_postgres_variables_in_another_schema() {
    let database = Parts::shared().await.fresh_database().await;
    let [user, password, host, port, name] = parts_of(&database.url);
    let mut service = serve()
        .env("POSTGRES_HOST", host)
        .env("POSTGRES_PORT", port)
        .env("POSTGRES_USER", user)
        .env("POSTGRES_PASSWORD", password)
        .env("POSTGRES_DB", name)
        .env("DB_SCHEMA", "other_events")
        .start()
        .await;
    one_event_is_stored(&service).await;
    assert_eq!(database.count("other_events.events").await.unwrap(), 1);
    assert_eq!(tables(&database, "event").await, 0);
    assert_eq!(tables(&database, "public").await, 0);
    assert!(service.terminate().await.success());
}

/// A certificate for 127.0.0.1 that signs itself, and its key.
fn certificate() -> (String, String) {
    use openssl::asn1::Asn1Time;
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;
    use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
    use openssl::x509::{X509, X509NameBuilder};

    let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "127.0.0.1").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::days_from_now(2).unwrap())
        .unwrap();
    builder
        .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
        .unwrap();
    let alternative = SubjectAlternativeName::new()
        .ip("127.0.0.1")
        .build(&builder.x509v3_context(None, None))
        .unwrap();
    builder.append_extension(alternative).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let text = |pem: Vec<u8>| String::from_utf8(pem).unwrap();
    (
        text(builder.build().to_pem().unwrap()),
        text(key.private_key_to_pem_pkcs8().unwrap()),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_with_the_certificate_checked_or_not() {
    let parts = Parts::private_of(&[Part::Postgres]).await;
    let database = parts.fresh_database().await;
    let (certificate, key) = certificate();
    let admin = database.connect().await.unwrap();
    for (file, text) in [("server.crt", &certificate), ("server.key", &key)] {
        // The server writes them itself: they are its user's then.
        let copy = format!(
            "copy (select unnest(string_to_array('{text}', E'\\n'))) to program 'umask 077; cat > {file}'"
        );
        admin.batch_execute(&copy).await.unwrap();
    }
    admin
        .batch_execute("alter system set ssl = on")
        .await
        .unwrap();
    admin
        .batch_execute("select pg_reload_conf()")
        .await
        .unwrap();
    let directory = Directory::new();
    let authority = directory.path("authority.pem");
    std::fs::write(&authority, &certificate).unwrap();
    let url = format!("{}?sslmode=require", database.url);

    // Encrypted, whoever it is.
    let mut service = serve().env("DATABASE_URL", &url).start().await;
    one_event_is_stored(&service).await;
    let sql = "select count(*) from pg_stat_ssl join pg_stat_activity using (pid) \
        where application_name like 'tidegate%' and ssl is distinct from $1";
    let count = async |encrypted: bool| database.scalar::<i64>(sql, &[&!encrypted]).await.unwrap();
    assert!(count(true).await > 0);
    assert_eq!(count(false).await, 0, "not encrypted");
    assert!(service.terminate().await.success());

    // Only whom an authority vouches for.
    let migrate = async |authority: Option<&std::path::Path>| {
        let mut command = tidegate(&["migrate"]);
        command
            .env("DATABASE_URL", &url)
            .env("DB_TLS_VERIFY", "true");
        if let Some(file) = authority {
            command.env("SSL_CERT_FILE", file);
        }
        ended(command).await
    };
    let trusted = migrate(Some(&authority)).await;
    assert_eq!(trusted.code, Some(0), "{trusted:?}");
    let stranger = migrate(None).await;
    assert_eq!(stranger.code, Some(1), "{stranger:?}");
    assert!(
        stranger.err.contains("certificate verify failed"),
        "{stranger:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_shows_first_and_removes_when_told() {
    let database = Parts::shared().await.fresh_database().await;
    let mut service = serve().database(&database).start().await;
    let now = time::OffsetDateTime::now_utc();
    for days in [1, 100, 400] {
        let at = domain::timestamp::format(now - time::Duration::days(days));
        let id = post(&service, &json!({"event_type": "a.b", "timestamp": at}))
            .await
            .unwrap();
        stored(&service, &id).await;
    }
    let retention = async |arguments: &[&str], days: &str| {
        let mut command = tidegate(&[&["retention"], arguments].concat());
        command
            .env("DATABASE_URL", &database.url)
            .env("RETENTION_DAYS", days);
        ended(command).await
    };
    let unset = retention(&[], "0").await;
    assert_eq!(unset.code, Some(2));
    assert!(unset.err.contains("RETENTION_DAYS"), "{unset:?}");
    let shown = retention(&["--json"], "200").await;
    let plan: Value = serde_json::from_str(&shown.out).unwrap();
    assert_eq!(
        (&plan["rows"], &plan["removed"]),
        (&json!(1), &Value::Null),
        "{plan}"
    );
    assert_eq!(plan["counts_kept"], json!({"days": 1, "events": 1}));
    assert_eq!(database.count("events").await.unwrap(), 3);
    let words = retention(&["--days", "50"], "0").await;
    assert!(
        words.out.contains("counts of 2 events on 2 days stay"),
        "{words:?}"
    );
    assert!(words.out.contains("nothing was removed"), "{words:?}");

    let applied = retention(&["--days", "50", "--apply", "--json"], "0").await;
    let removed: Value = serde_json::from_str(&applied.out).unwrap();
    assert_eq!(removed["removed"]["ids"], 2, "{removed}");
    assert_eq!(database.count("events").await.unwrap(), 1);
    assert_eq!(database.count("event_ids").await.unwrap(), 1);
    // The counts tell of all of them still.
    total(&service, 3).await;
    assert!(service.terminate().await.success());
}
