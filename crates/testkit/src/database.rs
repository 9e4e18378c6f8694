//! A database for one test, and queries in it.

use anyhow::Context;
use tokio_postgres::types::{FromSqlOwned, ToSql};
use tokio_postgres::{Client, NoTls, Row};

use crate::names::unique;
use crate::parts::Parts;

/// A database of one test, dropped with this.
///
/// Each query opens a connection, so it works again as soon as PostgreSQL does.
#[derive(Debug)]
pub struct Database {
    /// The value for `DATABASE_URL`.
    pub url: String,
    name: String,
    admin_url: String,
    kept: bool,
}

impl Parts {
    /// Creates an empty database in these parts' PostgreSQL. The services migrate it.
    pub async fn fresh_database(&self) -> Database {
        let database = self.database(format!("t{}", unique()));
        let created = database.create().await;
        created.unwrap_or_else(|error| panic!("{error:#}"));
        database
    }

    /// The database of that name, which stays when the value is dropped; and whether it was there.
    pub async fn kept_database(&self, name: &str) -> (Database, bool) {
        let mut database = self.database(name.to_owned());
        database.kept = true;
        let is_there = connect(&database.url).await.is_ok();
        if !is_there {
            let created = database.create().await;
            created.unwrap_or_else(|error| panic!("{error:#}"));
        }
        (database, is_there)
    }

    fn database(&self, name: String) -> Database {
        let admin_url = self.database_url.clone();
        let (base, _) = admin_url
            .rsplit_once('/')
            .unwrap_or_else(|| panic!("no database: {admin_url}"));
        Database {
            url: format!("{base}/{name}"),
            name,
            admin_url,
            kept: false,
        }
    }
}

async fn connect(url: &str) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls)
        .await
        .context("connect")?;
    // Ends with the client; what goes wrong shows in the query.
    tokio::spawn(connection);
    Ok(client)
}

impl Database {
    async fn create(&self) -> anyhow::Result<()> {
        let sql = format!("create database {}", self.name);
        let admin = connect(&self.admin_url).await?;
        admin.batch_execute(&sql).await.context(sql)
    }

    /// Copies the database as it is now, for [`Self::restore`]. Nobody may be connected to it.
    ///
    /// # Errors
    /// PostgreSQL does not answer, or somebody is connected.
    pub async fn backup(&self) -> anyhow::Result<()> {
        let name = &self.name;
        let admin = connect(&self.admin_url).await?;
        let drop = format!("drop database if exists {name}_backup");
        admin.batch_execute(&drop).await?;
        let copy = format!("create database {name}_backup template {name}");
        Ok(admin.batch_execute(&copy).await?)
    }

    /// Puts the database back to what it was at the last [`Self::backup`]; cuts all connections.
    ///
    /// # Errors
    /// PostgreSQL does not answer, or there is no backup.
    pub async fn restore(&self) -> anyhow::Result<()> {
        let name = &self.name;
        let admin = connect(&self.admin_url).await?;
        let drop = format!("drop database {name} with (force)");
        admin.batch_execute(&drop).await?;
        let copy = format!("create database {name} template {name}_backup");
        Ok(admin.batch_execute(&copy).await?)
    }

    /// A connection with `search_path = event`, the services' default schema.
    ///
    /// # Errors
    /// PostgreSQL does not answer.
    pub async fn connect(&self) -> anyhow::Result<Client> {
        let client = connect(&self.url).await?;
        client
            .batch_execute("set search_path = event, public")
            .await?;
        Ok(client)
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// PostgreSQL does not answer or refuses the query.
    pub async fn rows(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> anyhow::Result<Vec<Row>> {
        self.connect()
            .await?
            .query(sql, values)
            .await
            .with_context(|| sql.to_owned())
    }

    /// The first column of the only row.
    ///
    /// # Errors
    /// PostgreSQL does not answer or refuses the query, or there is not exactly one row.
    pub async fn scalar<T: FromSqlOwned>(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> anyhow::Result<T> {
        let row = self.connect().await?.query_one(sql, values).await;
        Ok(row.with_context(|| sql.to_owned())?.try_get(0)?)
    }

    /// The result of `select count(*) from …`: a table, or a table with its `where`.
    ///
    /// # Errors
    /// PostgreSQL does not answer or refuses the query.
    pub async fn count(&self, from: &str) -> anyhow::Result<i64> {
        self.scalar(&format!("select count(*) from {from}"), &[])
            .await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let (name, admin_url) = (self.name.clone(), self.admin_url.clone());
        // A thread with a runtime of its own: the test's may be the one that is ending.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let admin = connect(&admin_url).await?;
                for name in [format!("{name}_backup"), name] {
                    admin
                        .batch_execute(&format!("drop database if exists {name} with (force)"))
                        .await?;
                }
                anyhow::Ok(())
            })
        });
        match dropping.join() {
            Ok(Ok(())) => {}
            // Private parts may be gone already, and the database with them.
            other => eprintln!("testkit: drop database {}: {other:?}", self.name),
        }
    }
}
