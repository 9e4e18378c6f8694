//! The lease of a job that a processor works on, page by page.

/// Takes or renews it for the processor `$1`; one that says nothing for so long has lost it.
pub(crate) const LEASED: &str = "leased_by = $1, leased_until = now() + interval '10 s'";

/// Whether nobody has it.
pub(crate) const FREE: &str = "(leased_until is null or leased_until < now())";
