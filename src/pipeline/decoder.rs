//! Bytes of messages to canonical records: [`Decoders`] hands a decoder to whoever decodes.
//!
//! Payloads flow in, rows and faults flow out. The invariant: decoders of one [`Decoders`] differ in nothing but what they
//! remember, so that a batch is decoded alike on every thread. Where the schemas of writers come from is not known here.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::records::{
    AvroDecoder, DecodeError, DecodeLimits, Decoded, JsonDecoder, RecordRoot, WriterSchemaError,
    WriterSchemas,
};
use crate::schema::Schema;

/// Bytes to canonical records: the decoders of `records`, behind one door.
pub trait RecordDecoder: Send {
    /// Decodes each payload into a row or a fault; `None` is a tombstone.
    ///
    /// # Errors
    /// Trouble that is no payload's fault.
    fn decode(&mut self, payloads: &[Option<&[u8]>]) -> Result<Decoded, DecodeError>;
}

impl RecordDecoder for JsonDecoder {
    fn decode(&mut self, payloads: &[Option<&[u8]>]) -> Result<Decoded, DecodeError> {
        JsonDecoder::decode(self, payloads)
    }
}

impl RecordDecoder for AvroDecoder {
    fn decode(&mut self, payloads: &[Option<&[u8]>]) -> Result<Decoded, DecodeError> {
        AvroDecoder::decode(self, payloads)
    }
}

/// Decoders that differ in nothing but what they remember, one for each thread that decodes at the same time.
pub struct Decoders {
    make: Box<dyn Fn() -> Box<dyn RecordDecoder> + Send + Sync>,
    /// Made and not in use.
    free: Mutex<Vec<Box<dyn RecordDecoder>>>,
}

impl Decoders {
    /// Those that `make` makes.
    pub fn new(make: impl Fn() -> Box<dyn RecordDecoder> + Send + Sync + 'static) -> Self {
        Self {
            make: Box::new(make),
            free: Mutex::default(),
        }
    }

    /// Of JSON messages into records of `schema`, each found at `root`.
    pub fn json(schema: &Schema, root: &RecordRoot) -> Self {
        let (schema, root) = (schema.clone(), root.clone());
        Self::new(move || {
            Box::new(JsonDecoder::new(&schema, DecodeLimits::default()).with_root(&root))
        })
    }

    /// Of Avro messages in Confluent framing into records of `schema`, each found at `root`; the schemas that they were
    /// written with come from `writers`.
    pub fn avro(schema: &Schema, root: &RecordRoot, writers: impl WriterSchemas + 'static) -> Self {
        let writers = SharedWriters(Arc::new(Mutex::new(writers)));
        let (schema, root) = (schema.clone(), root.clone());
        Self::new(move || {
            let limits = DecodeLimits::default();
            let decoder = AvroDecoder::new(&schema, limits, Box::new(writers.clone()));
            Box::new(decoder.with_root(&root))
        })
    }

    /// Decodes each payload into a row or a fault; `None` is a tombstone.
    ///
    /// # Errors
    /// Trouble that is no payload's fault.
    pub fn decode(&self, payloads: &[Option<&[u8]>]) -> Result<Decoded, DecodeError> {
        let taken = self.free().pop();
        let mut decoder = taken.unwrap_or_else(|| (self.make)());
        // One that panics is not given back.
        let decoded = decoder.decode(payloads);
        self.free().push(decoder);
        decoded
    }

    fn free(&self) -> MutexGuard<'_, Vec<Box<dyn RecordDecoder>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Schemas of writers that several decoders ask for, one at a time: an answer to one holds for all, so that batches
/// do not differ by the thread that decodes them.
#[derive(Clone)]
struct SharedWriters(Arc<Mutex<dyn WriterSchemas>>);

impl SharedWriters {
    /// Whoever panicked while it asked has kept no answer, or a whole one.
    fn lock(&self) -> MutexGuard<'_, dyn WriterSchemas + 'static> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WriterSchemas for SharedWriters {
    fn writer_schema(&mut self, id: u32) -> Result<Option<Arc<str>>, WriterSchemaError> {
        self.lock().writer_schema(id)
    }

    fn prepare(&mut self, ids: &[u32]) -> Result<(), WriterSchemaError> {
        self.lock().prepare(ids)
    }
}
