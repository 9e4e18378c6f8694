//! The frontend form (S0-31): `event_type`, `category`, `page_url?`, `user_id?`, `session_id?`,
//! `data`, `metadata`.

use crate::category::EventCategory;
use crate::event::{Event, EventSource};
use crate::field::Code;

use super::context::Context;
use super::reader::{Reader, string};

pub(super) fn read(r: &mut Reader<'_>, cx: &Context<'_>) -> Event {
    let category = category(r);
    super::native::read_as(r, cx, |_| (EventSource::Frontend, category))
}

/// One of the three, each of which has a topic of its own; unlike on the backend routes another
/// name is refused, as in the specification's model.
fn category(r: &mut Reader<'_>) -> EventCategory {
    let Some((key, raw)) = r.any(&["category", "event_category"]) else {
        return EventCategory::UserInteraction;
    };
    let Some(text) = string(raw) else {
        r.complain(key, Code::WrongType, "must be a string");
        return EventCategory::UserInteraction;
    };
    EventCategory::parse(text.trim())
        .filter(|category| EventCategory::FRONTEND.contains(category))
        .unwrap_or_else(|| {
            let message = "must be user_interaction, business_action or system_event";
            r.complain(key, Code::IllegalValue, message);
            EventCategory::UserInteraction
        })
}
