//! Sends what is read from somewhere, in batches, resumably: what `send` and `import` have in common.

pub(crate) mod batch;
pub(crate) mod checkpoint;
pub(crate) mod checkpoint_file;
pub(crate) mod event;
pub(crate) mod post;
pub(crate) mod rejects;
pub(crate) mod report;
pub(crate) mod transfer;
