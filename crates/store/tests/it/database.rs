//! A database of its own for every test.

use store::{Database, DatabaseConfig, migrate};
use testkit::Parts;

/// Runs `test` on a migrated, empty database.
pub(crate) async fn with_database<F: Future<Output = ()>>(test: impl FnOnce(Database) -> F) {
    let parts = Parts::shared().await;
    let fresh = parts.fresh_database().await;
    let db = Database::new(&DatabaseConfig {
        url: fresh.url.clone(),
        schema: "event".to_owned(),
        pool_size: 4,
        verify_tls: false,
        application_name: "store tests".to_owned(),
    })
    .unwrap();
    migrate::run(&db).await.unwrap();
    test(db).await;
}
