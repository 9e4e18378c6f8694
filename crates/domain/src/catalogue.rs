//! Event types the specification names. A catalogue for documents, samples and naming reports:
//! an event type is free-form (C12), so nothing is refused for not being in here.

/// Common types of the frontend's `user_interaction` events (S0-36).
pub const USER_INTERACTION: [&str; 6] = [
    "page_view",
    "button_click",
    "link_click",
    "scroll",
    "focus",
    "blur",
];

/// Common types of the frontend's `business_action` events (S0-37).
pub const BUSINESS_ACTION: [&str; 6] = [
    "form_submit",
    "purchase",
    "registration",
    "login",
    "logout",
    "subscription",
];

/// Common types of the frontend's `system_event` events (S0-38).
pub const SYSTEM_EVENT: [&str; 5] = [
    "api_error",
    "performance_issue",
    "network_error",
    "js_error",
    "timeout",
];

/// Domain events of the user module (S3-12..S3-14).
pub const USER_MODULE: [&str; 3] = ["UserRegistered", "UserStatusChanged", "UserLoggedIn"];

/// Domain events of the subscription module (S3-15, S3-16).
pub const SUBSCRIPTION_MODULE: [&str; 2] = ["SubscriptionActivated", "SubscriptionExpired"];

/// Domain events of the workflow module (S3-17..S3-19).
pub const WORKFLOW_MODULE: [&str; 3] = [
    "WorkflowExecutionStarted",
    "WorkflowExecutionCompleted",
    "WorkflowExecutionFailed",
];

/// Domain events of the content module (S3-20..S3-22).
pub const CONTENT_MODULE: [&str; 3] = [
    "ContentPublished",
    "ContentModerationCompleted",
    "ContentDeleted",
];

/// Every type above, frontend first.
pub fn all() -> impl Iterator<Item = &'static str> {
    [
        USER_INTERACTION.as_slice(),
        &BUSINESS_ACTION,
        &SYSTEM_EVENT,
        &USER_MODULE,
        &SUBSCRIPTION_MODULE,
        &WORKFLOW_MODULE,
        &CONTENT_MODULE,
    ]
    .into_iter()
    .flatten()
    .copied()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::category::EventCategory;

    #[test]
    fn no_type_stands_twice() {
        let distinct: HashSet<_> = all().collect();
        assert_eq!(distinct.len(), all().count());
    }

    #[test]
    fn modules_have_their_category() {
        for name in USER_MODULE {
            assert_eq!(
                EventCategory::from_event_type(name),
                EventCategory::UserLifecycle
            );
        }
        for name in WORKFLOW_MODULE {
            assert_eq!(EventCategory::from_event_type(name), EventCategory::Task);
        }
    }
}
