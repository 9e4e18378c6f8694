//! Categories (S4-15, S0-31) and the rules that find one (S4-58).

/// The known categories. The column is open (C13); what a client may name is this set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum EventCategory {
    UserInteraction,
    BusinessAction,
    SystemEvent,
    PageView,
    FormSubmit,
    Click,
    UserAction,
    UserLifecycle,
    Payment,
    Order,
    Task,
    DeviceStatus,
    System,
    Security,
    Performance,
    Error,
    Device,
    Telemetry,
    Command,
    Alert,
}

impl EventCategory {
    /// Every value.
    pub const ALL: [Self; 20] = [
        Self::UserInteraction,
        Self::BusinessAction,
        Self::SystemEvent,
        Self::PageView,
        Self::FormSubmit,
        Self::Click,
        Self::UserAction,
        Self::UserLifecycle,
        Self::Payment,
        Self::Order,
        Self::Task,
        Self::DeviceStatus,
        Self::System,
        Self::Security,
        Self::Performance,
        Self::Error,
        Self::Device,
        Self::Telemetry,
        Self::Command,
        Self::Alert,
    ];

    /// The three of the frontend routes, each with a topic of its own (S0-31).
    pub const FRONTEND: [Self; 3] = [
        Self::UserInteraction,
        Self::BusinessAction,
        Self::SystemEvent,
    ];

    /// The name on the wire and in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UserInteraction => "user_interaction",
            Self::BusinessAction => "business_action",
            Self::SystemEvent => "system_event",
            Self::PageView => "page_view",
            Self::FormSubmit => "form_submit",
            Self::Click => "click",
            Self::UserAction => "user_action",
            Self::UserLifecycle => "user_lifecycle",
            Self::Payment => "payment",
            Self::Order => "order",
            Self::Task => "task",
            Self::DeviceStatus => "device_status",
            Self::System => "system",
            Self::Security => "security",
            Self::Performance => "performance",
            Self::Error => "error",
            Self::Device => "device",
            Self::Telemetry => "telemetry",
            Self::Command => "command",
            Self::Alert => "alert",
        }
    }

    /// The value of that name, or `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|category| category.as_str() == text)
    }

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
        for category in EventCategory::ALL {
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
