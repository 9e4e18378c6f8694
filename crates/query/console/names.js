// Names that the API knows.

export const SOURCES = ["frontend", "backend", "system", "iot_device", "external_api", "scheduled"];
export const CATEGORIES = [
  "user_interaction",
  "business_action",
  "system_event",
  "page_view",
  "form_submit",
  "click",
  "user_action",
  "user_lifecycle",
  "payment",
  "order",
  "task",
  "device_status",
  "system",
  "security",
  "performance",
  "error",
  "device",
  "telemetry",
  "command",
  "alert",
];
