//! From a message to a record of the log. Pure but for the clock.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{HeaderMap as NatsHeaders, Message};
use bytes::Bytes;
use domain::envelope::binary;
use domain::{TenantId, subject};
use eventlog::Outgoing;

use crate::accept::{self, Intake};
use crate::http::cloudevent;
use crate::record::record as of_event;
use crate::state::State;

/// The label of these events where those of requests have their route's.
const LABEL: &str = "nats";

/// Headers of a record that came from NATS and holds no event: where it stood.
const HEADER_STREAM: &str = "nats-stream";
const HEADER_SEQUENCE: &str = "nats-sequence";

/// What a message turned out to be, as the record that goes to the log.
#[derive(Debug)]
pub enum Taken {
    /// An event, in its canonical form; or, where it is none (`undecodable`), its bytes as they came.
    Record {
        /// What goes to the log.
        record: Outgoing,
        /// The word for the metrics.
        result: &'static str,
    },
    /// An event that a step of the program that embeds the gateway refuses, for this reason.
    Refused(&'static str),
}

/// The record of a message, which stands at `sequence` in `stream`.
#[must_use]
pub fn record(
    message: &Message,
    (stream, sequence): (&str, u64),
    tenant: &TenantId,
    state: &State,
) -> Taken {
    let headers = message.headers.as_ref().map(plain).unwrap_or_default();
    let own = message
        .headers
        .as_ref()
        .and_then(|all| all.get(NATS_MESSAGE_ID));
    let key = match own {
        Some(own) => format!("{stream}/{own}"),
        None => format!("{stream}#{sequence}"),
    };
    let (body, media_type) = if cloudevent::is_binary(&headers) {
        let structured = cloudevent::structured(&headers, &message.payload);
        (
            structured.ok().map(|text| Cow::Owned(text.into_bytes())),
            Some(binary::MEDIA_TYPE),
        )
    } else {
        let declared = headers.get(subject::HEADER_CONTENT_TYPE);
        let declared = declared.and_then(|value| value.to_str().ok());
        (Some(Cow::Borrowed(&message.payload[..])), declared)
    };
    let intake = Intake {
        tenant,
        received_at: service::clock::now(),
        limits: state.config.limits,
        personal: &state.config.personal,
        max_batch_events: 1,
        client: None,
        content_type: media_type,
        idempotency: Some((LABEL, &key)),
        fresh_id: service::clock::fresh_id,
        sibling: "",
    };
    let accepted = body.and_then(|body| accept::one(&body, &intake).ok());
    let accepted = accepted.map(|accepted| state.middleware().before(accepted, &intake));
    if let Some(Err(refused)) = accepted {
        return Taken::Refused(refused.reason());
    }
    let Some(Ok(accepted)) = accepted else {
        let topic = state.topic(subject::BACKEND);
        return Taken::Record {
            record: as_it_came(message, (stream, sequence), tenant, topic),
            result: "undecodable",
        };
    };
    let trace = headers.get(subject::HEADER_TRACEPARENT);
    let trace = trace.and_then(|value| value.to_str().ok());
    let topic = state.topic(subject::topic(&accepted.event));
    Taken::Record {
        record: of_event(accepted, topic, trace, None),
        result: "event",
    }
}

/// The headers that HTTP has too; values are as those of HTTP there.
fn plain(headers: &NatsHeaders) -> HeaderMap {
    let mut plain = HeaderMap::new();
    for (name, values) in headers.iter() {
        let name = HeaderName::try_from(AsRef::<str>::as_ref(name));
        for value in values {
            if let (Ok(name), Ok(value)) = (&name, HeaderValue::try_from(value.as_str())) {
                plain.append(name.clone(), value);
            }
        }
    }
    plain
}

fn as_it_came(
    message: &Message,
    (stream, sequence): (&str, u64),
    tenant: &TenantId,
    topic: Arc<str>,
) -> Outgoing {
    let own = message.headers.iter().flat_map(|headers| headers.iter());
    let own = own.flat_map(|(name, values)| {
        let name: &str = name.as_ref();
        // As Kafka's binding of CloudEvents has them.
        let name = match name.strip_prefix("ce-") {
            Some(attribute) => format!("ce_{attribute}"),
            None => name.to_owned(),
        };
        values.iter().map(move |value| {
            (
                name.clone(),
                Bytes::copy_from_slice(value.as_str().as_bytes()),
            )
        })
    });
    let place = [
        (
            subject::HEADER_SUBJECT.to_owned(),
            Bytes::copy_from_slice(message.subject.as_bytes()),
        ),
        (
            HEADER_STREAM.to_owned(),
            Bytes::copy_from_slice(stream.as_bytes()),
        ),
        (HEADER_SEQUENCE.to_owned(), sequence.to_string().into()),
        (
            subject::HEADER_TENANT.to_owned(),
            Bytes::copy_from_slice(tenant.as_str().as_bytes()),
        ),
    ];
    Outgoing {
        topic,
        key: message.subject.as_bytes().to_vec(),
        // What the log believes of a record is not the sender's to say.
        headers: own
            .filter(|(name, _)| name != subject::HEADER_TENANT && name != subject::HEADER_FOLLOWS)
            .chain(place)
            .collect(),
        payload: message.payload.clone(),
    }
}
