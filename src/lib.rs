//! maskwatch
