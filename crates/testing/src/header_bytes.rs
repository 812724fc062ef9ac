//! Headers of records as bytes, whatever they are: what the binding refuses to write and panics to read.
//!
//! In: names and values. Out: the headers of librdkafka, and the way back. Nothing of the program under test has a part in
//! it.

#![expect(
    unsafe_code,
    reason = "the binding takes the names of headers for UTF-8, and foreign producers do not"
)]

use crate::kafka_topics::HeaderBytes;
use rdkafka::bindings::{rd_kafka_header_add, rd_kafka_header_get_all, rd_kafka_headers_t};
use rdkafka::message::{BorrowedHeaders, Headers, OwnedHeaders};
use rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
use std::ffi::CStr;
use std::ptr;

/// The binding's reference is librdkafka's pointer.
fn native(headers: &BorrowedHeaders) -> *mut rd_kafka_headers_t {
    ptr::from_ref(headers).cast_mut().cast()
}

/// Headers for a record that is to be produced.
pub fn written(headers: &[HeaderBytes]) -> OwnedHeaders {
    let owned = OwnedHeaders::new_with_capacity(headers.len());
    for (name, value) in headers {
        let value_start = value.as_deref().map_or(ptr::null(), <[u8]>::as_ptr);
        // SAFETY: the list is ours alone, and the call copies as many bytes as each slice has.
        let added = unsafe {
            rd_kafka_header_add(
                native(owned.as_borrowed()),
                name.as_ptr().cast(),
                name.len() as isize,
                value_start.cast(),
                value.as_ref().map_or(0, Vec::len) as isize,
            )
        };
        assert!(added == RD_KAFKA_RESP_ERR_NO_ERROR, "{added:?}");
    }
    owned
}

/// The headers of a record that was read.
pub fn read(headers: &BorrowedHeaders) -> Vec<HeaderBytes> {
    let one = |index| {
        let (mut name, mut value, mut bytes) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the list lives as long as its borrow; on success `name` ends with a zero byte, and `value` is null or has
        // `bytes` bytes.
        unsafe {
            let found =
                rd_kafka_header_get_all(native(headers), index, &mut name, &mut value, &mut bytes);
            assert!(found == RD_KAFKA_RESP_ERR_NO_ERROR, "{found:?}");
            let value = (!value.is_null())
                .then(|| std::slice::from_raw_parts(value.cast::<u8>(), bytes).to_vec());
            (CStr::from_ptr(name).to_bytes().to_vec(), value)
        }
    };
    (0..headers.count()).map(one).collect()
}
