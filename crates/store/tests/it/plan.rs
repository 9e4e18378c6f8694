//! What PostgreSQL means to do with a statement.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use store::sql::Sql;
use tokio_postgres::Client;

/// The scans of a plan.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Indexes used, by the names of the parent's indexes.
    pub(crate) indexes: BTreeSet<String>,
    /// Tables read from end to end.
    pub(crate) seq_scans: BTreeSet<String>,
    /// The whole plan, for messages.
    pub(crate) text: String,
}

/// Index of a partition → index of the partitioned table.
pub(crate) async fn parents(client: &Client) -> BTreeMap<String, String> {
    let rows = client
        .query(
            "select child.relname::text, parent.relname::text from pg_inherits \
             join pg_class child on child.oid = inhrelid \
             join pg_class parent on parent.oid = inhparent \
             where child.relkind = 'i' and child.relnamespace = current_schema()::regnamespace",
            &[],
        )
        .await
        .unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

/// Explains the very statement, with the very parameters.
pub(crate) async fn explain(
    client: &Client,
    parents: &BTreeMap<String, String>,
    sql: &Sql,
) -> Plan {
    let text = format!("explain (format json) {}", sql.text());
    let row = client
        .query_typed_one(&text, &sql.params())
        .await
        .unwrap_or_else(|error| panic!("{}: {error:?}", sql.text()));
    let json: Value = row.get(0);
    let mut plan = Plan {
        text: format!("{json:#}"),
        ..Plan::default()
    };
    visit(&json[0]["Plan"], parents, &mut plan);
    plan
}

fn visit(node: &Value, parents: &BTreeMap<String, String>, plan: &mut Plan) {
    if let Some(index) = node["Index Name"].as_str() {
        let index = parents.get(index).map_or(index, String::as_str);
        plan.indexes.insert(index.to_owned());
    }
    if node["Node Type"] == "Seq Scan" {
        let table = node["Relation Name"].as_str().unwrap_or_default();
        plan.seq_scans.insert(table.to_owned());
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        visit(child, parents, plan);
    }
}
