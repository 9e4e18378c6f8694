//! Cursors: the position of the last event of a page, bound to the listing and filter it came from.
//!
//! A cursor says where to go on, nothing else: it grants nothing, so it is not signed. The hash of
//! the filter keeps it from being used with another question, which would skip events silently.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::field::Code;
use domain::{FieldError, TenantId};
use store::event_reads::Position;
use time::OffsetDateTime;
use uuid::Uuid;

/// Form of the bytes; a later form gets another number.
const VERSION: u8 = 1;
const LENGTH: usize = 1 + 8 + 8 + 16;

/// What a cursor is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope([u8; 8]);

impl Scope {
    /// Binds to a tenant, a listing and its conditions as (name, value).
    #[must_use]
    pub fn new(tenant: &TenantId, listing: &str, conditions: &[(&str, String)]) -> Self {
        let text = serde_json::json!([listing, conditions]).to_string();
        let hash = Uuid::new_v5(&tenant.namespace(), text.as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = hash.into_bytes();
        Self([a, b, c, d, e, f, g, h])
    }

    /// The cursor after an event.
    #[must_use]
    pub fn after_event(&self, position: Position) -> String {
        let micros = position.timestamp.unix_timestamp_nanos() / 1_000;
        self.encode(
            i64::try_from(micros).unwrap_or(i64::MAX),
            position.event_id.as_u128(),
        )
    }

    /// The cursor after a row of that number.
    #[must_use]
    pub fn after_row(&self, id: i64) -> String {
        self.encode(id, 0)
    }

    /// Reads [`Scope::after_event`].
    ///
    /// # Errors
    /// The text is no cursor, or one of another listing or filter.
    pub fn event(&self, text: &str) -> Result<Position, FieldError> {
        let (micros, id) = self.decode(text)?;
        let timestamp = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)
            .map_err(|_| refused("not a cursor"))?;
        Ok(Position {
            timestamp,
            event_id: Uuid::from_u128(id),
        })
    }

    /// Reads [`Scope::after_row`].
    ///
    /// # Errors
    /// The text is no cursor, or one of another listing or filter.
    pub fn row(&self, text: &str) -> Result<i64, FieldError> {
        Ok(self.decode(text)?.0)
    }

    fn encode(&self, first: i64, second: u128) -> String {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(&first.to_be_bytes());
        bytes.extend_from_slice(&second.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn decode(&self, text: &str) -> Result<(i64, u128), FieldError> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| refused("not a cursor"))?;
        let parts = || -> Option<(u8, [u8; 8], i64, u128)> {
            let (version, rest) = bytes.split_first()?;
            let (scope, rest) = rest.split_first_chunk::<8>()?;
            let (first, rest) = rest.split_first_chunk::<8>()?;
            let second = <[u8; 16]>::try_from(rest).ok()?;
            Some((
                *version,
                *scope,
                i64::from_be_bytes(*first),
                u128::from_be_bytes(second),
            ))
        };
        match parts() {
            Some((VERSION, scope, first, second)) if scope == self.0 => Ok((first, second)),
            Some((VERSION, ..)) => Err(refused(
                "belongs to another listing or filter; repeat the request it came from, or start \
                 without a cursor",
            )),
            _ => Err(refused("not a cursor")),
        }
    }
}

fn refused(message: &str) -> FieldError {
    FieldError::new("cursor", Code::BadFormat, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(listing: &str, conditions: &[(&str, &str)]) -> Scope {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        Scope::new(&TenantId::default(), listing, &conditions)
    }

    #[test]
    fn another_filter_listing_or_tenant_is_another_scope() {
        let own = scope("events", &[("user_id", "a")]);
        let other_tenant = Scope::new(
            &TenantId::parse("b").unwrap(),
            "events",
            &[("user_id", "a".to_owned())],
        );
        let cursor = own.after_row(7);
        assert_eq!(own.row(&cursor), Ok(7));
        for other in [
            scope("dead-letters", &[("user_id", "a")]),
            scope("events", &[("user_id", "b")]),
            scope("events", &[("device_id", "a")]),
            scope("events", &[]),
            other_tenant,
        ] {
            let error = other.row(&cursor).unwrap_err();
            assert_eq!(error.path, "cursor");
            assert!(error.message.contains("another"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(micros in -62_135_596_800_000_000_i64..253_402_300_799_000_000, id: u128) {
            let position = Position {
                timestamp: OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000).unwrap(),
                event_id: Uuid::from_u128(id),
            };
            let scope = scope("events", &[]);
            prop_assert_eq!(scope.event(&scope.after_event(position)), Ok(position));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,60}") {
            prop_assert!(scope("events", &[]).event(&text).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), own: bool) {
            let scope = scope("events", &[]);
            let mut bytes = bytes;
            if own && bytes.len() >= 9 {
                bytes[0] = VERSION;
                bytes[1..9].copy_from_slice(&scope.0);
            }
            let _ = scope.event(&URL_SAFE_NO_PAD.encode(bytes));
        }
    }
}
