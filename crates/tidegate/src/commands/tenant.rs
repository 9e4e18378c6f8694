//! `tidegate tenant`: what there is of each tenant and how much it may, and the database roles that read
//! one alone.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use domain::TenantId;
use domain::tenant_limits::{
    MAX_BYTES_PER_DAY, MAX_CONNECTIONS, MAX_EVENTS_PER_SECOND, MAX_TYPES_PER_DAY, TenantLimits,
};
use serde_json::{Value, json};
use store::tenant_limits;
use store::tenants::{self, Granted, Overview};
use store::{Database, DatabaseConfig};

use crate::style::{BOLD, DIM};
use crate::{environment, output};

/// Show tenants, limit them, and let database roles read one of them alone
///
/// Works on the database of DATABASE_URL and DB_SCHEMA. A role that is granted a tenant, such as that of the
/// tenant's own Grafana, sees the rows of that tenant in the tables of events, streams, counts, projections
/// and dead letters and in the views for Grafana, and of no other; the services' own role sees all.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  tidegate tenant list
  tidegate tenant show acme
  psql \"$DATABASE_URL\" -c \"create role acme_grafana login password '…'\"
  tidegate tenant grant acme_grafana --tenant acme
  tidegate tenant revoke acme_grafana
  tidegate tenant limits acme --events-per-second 500 --types 200
  tidegate tenant limits acme --types default     as the settings say, again

Exit status: 0 when done, 1 if it cannot be, 2 for wrong settings.")]
pub(crate) struct Options {
    #[command(subcommand)]
    verb: Verb,
    /// As JSON, an object a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the tenants that have events, keys, readers or limits
    List,
    /// Show one
    Show {
        /// Its name
        tenant: TenantId,
    },
    /// Say how much a tenant may send and hold, where the settings do not say it
    ///
    /// Of each limit 0 is none, and `default` is what the settings of the services say. Services know of a
    /// change within five seconds. What is not named stays.
    Limits {
        /// Its name
        tenant: TenantId,
        /// Events in a second, for each gateway [settings: TENANT_EVENTS_PER_SECOND]
        #[arg(long, value_name = "NUMBER", value_parser = limit::<{ MAX_EVENTS_PER_SECOND }>)]
        events_per_second: Option<Limit>,
        /// Bytes of events on a day, for each gateway [settings: TENANT_BYTES_PER_DAY]
        #[arg(long, value_name = "NUMBER", value_parser = limit::<{ MAX_BYTES_PER_DAY }>)]
        bytes_per_day: Option<Limit>,
        /// Types of events on a day, for each gateway [settings: TENANT_TYPES_PER_DAY]
        #[arg(long, value_name = "NUMBER", value_parser = limit::<{ MAX_TYPES_PER_DAY }>)]
        types: Option<Limit>,
        /// Open live streams, for each query service [settings: SSE_MAX_CONNECTIONS_PER_TENANT]
        #[arg(long, value_name = "NUMBER", value_parser = limit::<{ MAX_CONNECTIONS }>)]
        connections: Option<Limit>,
    },
    /// Let a database role read a tenant, and nothing of others
    Grant {
        /// The role; it must exist
        role: String,
        /// The tenant; grant again for a further one
        #[arg(long)]
        tenant: TenantId,
    },
    /// Take that from a role
    Revoke {
        /// The role
        role: String,
        /// Only this tenant [default: all]
        #[arg(long)]
        tenant: Option<TenantId>,
    },
}

/// Does what is asked.
///
/// # Errors
/// The database cannot be reached, or this role does not own the tables.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let env = environment::read().await?;
    let config = DatabaseConfig::from_env(&env, "tidegate-tenant");
    if let Err(error) = env.finish() {
        output::notice(format_args!("tidegate: {error}"));
        return Ok(ExitCode::from(2));
    }
    if !DatabaseConfig::is_named(&env) {
        output::notice("tidegate: name the database in DATABASE_URL");
        return Ok(ExitCode::from(2));
    }
    let database = Database::new(&config.alone())?;
    let problem = match options.verb {
        Verb::List => {
            let all = tenants::list(&*database.client().await?, None).await?;
            all.iter().for_each(|one| show(one, options.json));
            None
        }
        Verb::Show { tenant } => {
            let found = tenants::list(&*database.client().await?, Some(&tenant)).await?;
            found.iter().for_each(|one| show(one, options.json));
            let unknown =
                format!("there are no events, keys, readers or limits of the tenant {tenant}");
            found.is_empty().then_some(unknown)
        }
        Verb::Limits {
            tenant,
            events_per_second,
            bytes_per_day,
            types,
            connections,
        } => {
            let client = database.client().await?;
            let said = [events_per_second, bytes_per_day, types, connections];
            let now = tenant_limits::of(&client, &tenant).await?.values();
            let limits = TenantLimits::of([0, 1, 2, 3].map(|n: usize| match said[n] {
                None => now[n],
                Some(Limit(limit)) => limit,
            }));
            if said.iter().any(Option::is_some) {
                tenant_limits::set(&client, &tenant, limits).await?;
            }
            show_limits(&limits, options.json);
            None
        }
        Verb::Grant { role, tenant } => match tenants::grant(&database, &role, &tenant).await? {
            Granted::Done => {
                output::notice(format_args!("{role} reads the tenant {tenant}"));
                None
            }
            Granted::NoRole => Some(format!(
                "there is no role {role}; make it with: create role {role} login password '…'"
            )),
            Granted::ReadsAll => Some(format!(
                "{role} owns the tables or passes over policies (superuser, bypassrls): it reads everything"
            )),
            Granted::KeptOut(writers) => Some(format!(
                "{} write events and do not own the tables, so policies would keep them out; let them have \
                 BYPASSRLS, or the owner's role",
                writers.join(", ")
            )),
        },
        Verb::Revoke { role, tenant } => {
            let lost = tenants::revoke(&database, &role, tenant.as_ref()).await?;
            (lost == 0).then(|| format!("{role} was granted none"))
        }
    };
    let Some(problem) = problem else {
        return Ok(ExitCode::SUCCESS);
    };
    output::notice(format_args!("tidegate: {problem}"));
    Ok(ExitCode::FAILURE)
}

fn show(of: &Overview, as_json: bool) {
    if as_json {
        let day = |first: bool| {
            of.days
                .map(|(from, to)| (if first { from } else { to }).to_string())
        };
        return output::line(json!({
            "tenant": of.tenant, "events": of.events, "events_today": of.today, "types": of.types,
            "first_day": day(true), "last_day": day(false), "dead_letters": of.dead_letters,
            "keys": of.keys, "readers": of.readers, "limits": as_object(&of.limits),
        }));
    }
    let days = of
        .days
        .map_or_else(String::new, |(from, to)| format!(" from {from} to {to}"));
    output::line(format_args!(
        "{BOLD}{}{BOLD:#}  {} events of {} types{days}, {} today, {} dead letters, {} keys  {DIM}{}{DIM:#}",
        of.tenant,
        of.events,
        of.types,
        of.today,
        of.dead_letters,
        of.keys,
        of.readers.join(" ")
    ));
    if of.limits != TenantLimits::default() {
        show_limits(&of.limits, false);
    }
}

/// A limit that is said: none is that of the settings.
#[derive(Debug, Clone, Copy)]
struct Limit(Option<i64>);

fn limit<const MOST: i64>(text: &str) -> Result<Limit, String> {
    if text == "default" {
        return Ok(Limit(None));
    }
    let number = text.parse().ok().filter(|n| (0..=MOST).contains(n));
    let number = number.ok_or_else(|| format!("a whole number from 0 to {MOST}, or default"))?;
    Ok(Limit(Some(number)))
}

fn show_limits(limits: &TenantLimits, as_json: bool) {
    if as_json {
        return output::line(as_object(limits));
    }
    let names = TenantLimits::NAMES.iter().zip(limits.values());
    let words = names.map(|((name, _), value)| match value {
        None => format!("{name} default"),
        Some(0) => format!("{name} unlimited"),
        Some(limit) => format!("{name} {limit}"),
    });
    output::line(format_args!(
        "limits: {}",
        words.collect::<Vec<_>>().join(", ")
    ));
}

fn as_object(limits: &TenantLimits) -> Value {
    let names = TenantLimits::NAMES.iter().zip(limits.values());
    names
        .map(|((name, _), value)| (*name, Value::from(value)))
        .collect()
}
