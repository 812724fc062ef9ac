//! The models folder: bundles by their `model_id`, two pointers to them, and a log of who changed what.
//!
//! ```text
//! models/
//!   3f2a91c07d5e8b64/   a bundle
//!   champion            the id of the model that serves
//!   challenger          the id of the model that is tried beside it
//!   log.jsonl           one line a change: when, by whom, what, from, to, note
//! ```
//!
//! Bundles and wishes flow in, ids flow out. The invariants: a pointer names a bundle that was whole when it was named, it is
//! the old one or the new one at every moment and never a torn one, and every change of it is in the log. Whoever only reads
//! needs no lock.

mod error;
mod folder;
mod id;
mod journal;
mod lock;

pub use error::ModelsError;
pub use folder::{CHALLENGER, CHAMPION, Exchange, Listed, Listing, ModelsFolder, Standing};
pub use id::ModelId;
pub use journal::{Actor, Change, Entry, JOURNAL};
