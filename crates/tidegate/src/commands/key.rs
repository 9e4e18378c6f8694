//! `tidegate key`: makes, lists, replaces and ends API keys, in the database itself: so the first key of
//! all can be made, too.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use domain::access::{KeyKind, Scope, Scopes};
use domain::{TenantId, timestamp};
use serde_json::{Value, json};
use service::auth::api_key;
use store::api_keys::{self, NewKey, StoredKey};
use store::pool::Client;
use store::{Database, DatabaseConfig};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{environment, output};

/// Make, list, replace and end API keys
///
/// Works on the database of DATABASE_URL and DB_SCHEMA. A key is shown once, when it is made; kept is its
/// hash. Services know of a change within five seconds. The commands that ask a running instance send the
/// key in TIDEGATE_KEY.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate key create ops --scopes admin            the first key: for the operator
  tidegate key create shop --write --tenant acme    for the pages of a shop: may only send
  tidegate key create reports --scopes read --expires-in-days 90
  tidegate key list --tenant acme
  tidegate key rotate ID --overlap 86400            both are good for a day
  tidegate key revoke ID
  tidegate key generate --write                     for API_KEYS_FILE; needs no database

Exit status: 0 when done, 1 for a key that is not there, 2 for wrong settings.")]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
    /// As JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a key and show it, once
    Create {
        /// What it is for
        name: String,
        /// A write key, for browsers and apps: may only send
        #[arg(long, conflicts_with = "scopes")]
        write: bool,
        /// What it permits [default: write,read]
        #[arg(long, value_delimiter = ',', value_name = "SCOPES")]
        scopes: Vec<ScopeWord>,
        /// Whose events it is about
        #[arg(long, default_value = "default")]
        tenant: TenantId,
        /// Days until it ends [default: it does not]
        #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=3_650))]
        expires_in_days: Option<u16>,
    },
    /// List keys, the oldest first
    List {
        /// Those of this tenant [default: of all]
        #[arg(long)]
        tenant: Option<TenantId>,
    },
    /// Make a key in the place of another, which goes on for a while
    Rotate {
        /// The other's id
        id: Uuid,
        /// Seconds that the other goes on
        #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
        overlap: u32,
    },
    /// End a key
    Revoke {
        /// Its id
        id: Uuid,
    },
    /// Make a key that no database knows, for API_KEYS_FILE
    Generate {
        /// A write key
        #[arg(long)]
        write: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ScopeWord {
    Write,
    Read,
    Replay,
    Admin,
}

/// Does what is asked.
///
/// # Errors
/// The database cannot be reached.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let json = options.json;
    if let Verb::Generate { write } = options.verb {
        output::line(api_key::fresh(kind(write))?);
        return Ok(ExitCode::SUCCESS);
    }
    let env = environment::read().await?;
    let config = DatabaseConfig::from_env(&env, "tidegate-key");
    if let Err(error) = env.finish() {
        output::notice(format_args!("tidegate: {error}"));
        return Ok(ExitCode::from(2));
    }
    if !DatabaseConfig::is_named(&env) {
        output::notice("tidegate: name the database in DATABASE_URL");
        return Ok(ExitCode::from(2));
    }
    let client = Database::new(&config.alone())?.client().await?;
    let done = match options.verb {
        Verb::Create {
            name,
            write,
            scopes,
            tenant,
            expires_in_days,
        } => {
            let days = |days: u16| service::clock::now() + Duration::days(days.into());
            let scopes = permitted(write, &scopes);
            let ends = expires_in_days.map(days);
            let (key, new) = made(kind(write), name, tenant, scopes, ends)?;
            Some((Some(key), api_keys::create(&client, &new).await?))
        }
        Verb::List { tenant } => {
            let keys = api_keys::list(&client, tenant.as_ref()).await?;
            keys.iter().for_each(|key| show(key, None, json));
            return Ok(ExitCode::SUCCESS);
        }
        Verb::Rotate { id, overlap } => {
            rotate(&client, id, Duration::seconds(overlap.into())).await?
        }
        Verb::Revoke { id } => api_keys::revoke(&client, None, id)
            .await?
            .map(|key| (None, key)),
        Verb::Generate { .. } => None,
    };
    let Some((key, stored)) = done else {
        output::notice("tidegate: there is no such key");
        return Ok(ExitCode::FAILURE);
    };
    show(&stored, key.as_deref(), json);
    if key.is_some() && !json {
        output::notice("the key is shown here and never again");
    }
    Ok(ExitCode::SUCCESS)
}

async fn rotate(
    client: &Client,
    id: Uuid,
    overlap: Duration,
) -> anyhow::Result<Option<(Option<String>, StoredKey)>> {
    let Some(old) = api_keys::find(client, None, id).await? else {
        return Ok(None);
    };
    let kind = KeyKind::of_hint(&old.hint);
    let (key, new) = made(kind, old.name, old.tenant, old.scopes, old.expires_at)?;
    let stored = api_keys::replace(client, id, overlap, &new).await?;
    Ok(stored.map(|stored| (Some(key), stored)))
}

fn kind(write: bool) -> KeyKind {
    if write {
        KeyKind::Write
    } else {
        KeyKind::Secret
    }
}

fn permitted(write: bool, words: &[ScopeWord]) -> Scopes {
    let scope = |word: &ScopeWord| match word {
        ScopeWord::Write => Scope::Write,
        ScopeWord::Read => Scope::Read,
        ScopeWord::Replay => Scope::Replay,
        ScopeWord::Admin => Scope::Admin,
    };
    match words {
        _ if write => Scopes::of(&[Scope::Write]),
        [] => Scopes::of(&[Scope::Write, Scope::Read]),
        words => Scopes::of(&words.iter().map(scope).collect::<Vec<_>>()),
    }
}

fn made(
    kind: KeyKind,
    name: String,
    tenant: TenantId,
    scopes: Scopes,
    expires_at: Option<OffsetDateTime>,
) -> anyhow::Result<(String, NewKey)> {
    let key = api_key::fresh(kind)?;
    let new = NewKey {
        hash: api_key::hash(&key),
        hint: api_key::hint(&key),
        tenant,
        name,
        scopes,
        expires_at,
    };
    Ok((key, new))
}

fn show(stored: &StoredKey, key: Option<&str>, as_json: bool) {
    let scopes = stored.scopes.words();
    let (ends, ended) = (stored.expires_at, stored.revoked_at);
    if as_json {
        let mut all = json!({
            "id": stored.id, "name": stored.name, "tenant": stored.tenant.as_str(),
            "hint": stored.hint, "scopes": scopes,
            "created_at": timestamp::format(stored.created_at),
            "expires_at": ends.map(timestamp::format), "revoked_at": ended.map(timestamp::format),
        });
        if let Some(key) = key {
            all["key"] = Value::from(key);
        }
        return output::line(all);
    }
    let state = match (ended, ends) {
        (Some(at), _) => format!("  ended {}", timestamp::format(at)),
        (None, Some(at)) => format!("  ends {}", timestamp::format(at)),
        (None, None) => String::new(),
    };
    output::line(format_args!(
        "{}  {}…  {}  {}  {}{state}",
        stored.id,
        stored.hint,
        stored.tenant,
        scopes.join(","),
        stored.name
    ));
    if let Some(key) = key {
        output::line(key);
    }
}
