//! Searching events: one language for questions, and one way to take the words out of events, so that
//! every engine gives the same answers.
//!
//! A question is a list of clauses that all hold: `word`, `"some words"`, `begin*`, `field:value`,
//! `field:[10 TO 20]`, `field:>=10`, each of them after `-` the contrary.

mod document;
mod fields;
mod highlight;
mod query;
mod words;

pub use document::{Document, GAP};
pub use highlight::{Highlight, highlight};
pub use query::{Clause, Condition, MAX_CLAUSES, MAX_LENGTH, Query};

#[cfg(test)]
mod tests;
