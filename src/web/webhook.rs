//! Telling controllers of changes.
