//! A schema of its own for every test, dropped at the end.

use std::future::Future;

use store::{Database, DatabaseConfig, migrate};
use uuid::Uuid;

/// Runs `test` on a migrated, empty schema.
pub(crate) async fn with_database<F: Future<Output = ()>>(test: impl FnOnce(Database) -> F) {
    let url = std::env::var("TEST_DATABASE_URL")
        .expect("TEST_DATABASE_URL must name a PostgreSQL database for tests");
    let schema = format!("store_{}", Uuid::new_v4().simple());
    let db = Database::new(&DatabaseConfig {
        url,
        schema: schema.clone(),
        pool_size: 4,
        verify_tls: false,
        application_name: "store tests".to_owned(),
    })
    .unwrap();
    migrate::run(&db).await.unwrap();
    test(db.clone()).await;
    let client = db.client().await.unwrap();
    client
        .batch_execute(&format!("drop schema {schema} cascade"))
        .await
        .unwrap();
}
