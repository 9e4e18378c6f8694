//! Categories (S4-15, S0-31) and the rules that find one (S4-58).

use crate::names::names;

names! {
    /// The known categories. The column is open (C13); what a client may name is this set.
    #[expect(missing_docs, reason = "the names are the documentation")]
    pub enum EventCategory {
        UserInteraction = "user_interaction",
        BusinessAction = "business_action",
        SystemEvent = "system_event",
        PageView = "page_view",
        FormSubmit = "form_submit",
        Click = "click",
        UserAction = "user_action",
        UserLifecycle = "user_lifecycle",
        Payment = "payment",
        Order = "order",
        Task = "task",
        DeviceStatus = "device_status",
        System = "system",
        Security = "security",
        Performance = "performance",
        Error = "error",
        Device = "device",
        Telemetry = "telemetry",
        Command = "command",
        Alert = "alert",
    }
}

impl EventCategory {
    /// The three of the frontend routes, each with a topic of its own (S0-31).
    pub const FRONTEND: [Self; 3] = [
        Self::UserInteraction,
        Self::BusinessAction,
        Self::SystemEvent,
    ];

    /// The category of an event that names none, by its type: the first of user, payment, order,
    /// task (or workflow, S3-17), device that the type contains, else system (S4-58).
    #[must_use]
    pub fn from_event_type(event_type: &str) -> Self {
        let lower = event_type.to_ascii_lowercase();
        [
            ("user", Self::UserLifecycle),
            ("payment", Self::Payment),
            ("order", Self::Order),
            ("task", Self::Task),
            ("workflow", Self::Task),
            ("device", Self::DeviceStatus),
        ]
        .into_iter()
        .find(|(word, _)| lower.contains(word))
        .map_or(Self::System, |(_, category)| category)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for &category in EventCategory::ALL {
            assert_eq!(EventCategory::parse(category.as_str()), Some(category));
        }
        assert_eq!(EventCategory::parse("web/product"), None);
    }

    #[test]
    fn the_first_match_in_order_wins_whatever_the_case() {
        for (event_type, want) in [
            ("UserRegistered", EventCategory::UserLifecycle),
            ("user.payment.order", EventCategory::UserLifecycle),
            ("PAYMENT.order", EventCategory::Payment),
            ("order.task", EventCategory::Order),
            ("WorkflowExecutionStarted", EventCategory::Task),
            ("device.online", EventCategory::DeviceStatus),
            ("ContentPublished", EventCategory::System),
        ] {
            assert_eq!(
                EventCategory::from_event_type(event_type),
                want,
                "{event_type}"
            );
        }
    }
}
