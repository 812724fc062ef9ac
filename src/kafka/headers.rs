//! Headers of messages by their bytes.
//!
//! A producer may write any bytes as the name of a header. The binding takes names for UTF-8: its readers panic at one that
//! is not, and its writer takes none. So names go past it here, to the same two calls of librdkafka that it uses itself. The
//! invariant: no header of a foreign message ends the stream, and a header comes out as it went in.
//!
//! librdkafka hands a name over as a text that ends at its first zero byte: what follows one in a name is not to be had.

use std::ffi::CStr;
use std::ptr;

use rdkafka::bindings::{rd_kafka_header_add, rd_kafka_header_get_all, rd_kafka_headers_t};
use rdkafka::message::{BorrowedHeaders, Header, Headers, OwnedHeaders};
use rdkafka::types::RDKafkaRespErr;
use tracing::warn;

/// The headers of librdkafka behind a reference of the binding, which is that pointer itself: `BorrowedHeaders` has no
/// fields and is never anything else (`as_native_ptr` of the binding makes the same cast, and is private).
fn native(headers: &BorrowedHeaders) -> *mut rd_kafka_headers_t {
    ptr::from_ref(headers).cast_mut().cast()
}

/// Hands every header to `take`, in order: the bytes of its name, and its value unless that is null.
#[expect(
    unsafe_code,
    reason = "the binding panics at a name that is not UTF-8; librdkafka gives the bytes"
)]
pub fn each(headers: &BorrowedHeaders, mut take: impl FnMut(&[u8], Option<&[u8]>)) {
    for index in 0..headers.count() {
        let (mut name, mut value, mut value_bytes) = (ptr::null(), ptr::null(), 0);
        // SAFETY: `headers` is borrowed, so that librdkafka's list behind it lives and is not changed until this function
        // returns. The call only writes to the three places, which are valid. Where it succeeds, `name` is a text of
        // librdkafka's that ends with a zero byte, and `value` is null or has `value_bytes` bytes; both lie in the list.
        let (name, value) = unsafe {
            let found = rd_kafka_header_get_all(
                native(headers),
                index,
                &mut name,
                &mut value,
                &mut value_bytes,
            );
            if found != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
                continue;
            }
            let value = (!value.is_null())
                .then(|| std::slice::from_raw_parts(value.cast::<u8>(), value_bytes));
            (CStr::from_ptr(name).to_bytes(), value)
        };
        take(name, value);
    }
}

/// `headers` with one more at its end.
pub fn with(headers: OwnedHeaders, name: &[u8], value: Option<&[u8]>) -> OwnedHeaders {
    match std::str::from_utf8(name) {
        Ok(key) => headers.insert(Header { key, value }),
        Err(_) => with_bytes(headers, name, value),
    }
}

#[expect(
    unsafe_code,
    reason = "the binding takes names of UTF-8 only; librdkafka takes bytes"
)]
fn with_bytes(headers: OwnedHeaders, name: &[u8], value: Option<&[u8]>) -> OwnedHeaders {
    let (Ok(name_bytes), Ok(value_bytes)) = (
        isize::try_from(name.len()),
        isize::try_from(value.map_or(0, <[u8]>::len)),
    ) else {
        return headers;
    };
    // SAFETY: `headers` is owned here, so that nobody else reads or changes librdkafka's list behind it. The call copies
    // `name_bytes` and `value_bytes` bytes from the two slices, which have them, and keeps neither pointer.
    let added = unsafe {
        rd_kafka_header_add(
            native(headers.as_borrowed()),
            name.as_ptr().cast(),
            name_bytes,
            value.map_or(ptr::null(), <[u8]>::as_ptr).cast(),
            value_bytes,
        )
    };
    if added != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
        warn!(
            name = %name.escape_ascii(),
            "a header of a dead letter cannot be written and is left out"
        );
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    type Named = (Vec<u8>, Option<Vec<u8>>);

    fn written(named: &[(&[u8], Option<&[u8]>)]) -> Vec<Named> {
        let headers = named.iter().fold(OwnedHeaders::new(), |headers, header| {
            with(headers, header.0, header.1)
        });
        let mut read = Vec::new();
        each(headers.as_borrowed(), |name, value| {
            read.push((name.to_vec(), value.map(<[u8]>::to_vec)));
        });
        read
    }

    #[test]
    fn headers_of_any_bytes_come_out_as_they_went_in() {
        let named: [(&[u8], Option<&[u8]>); 7] = [
            (b"trace", Some(b"abc")),
            (b"\xFF\xFEname", Some(b"\xC3")),
            (b"\xFF\xFEname", None),
            (b"", Some(b"")),
            (b"trace", Some(b"again")),
            ("größe".as_bytes(), Some(b"\0zero")),
            (b"\x80", Some(b"")),
        ];
        let expected: Vec<Named> = named
            .iter()
            .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)))
            .collect();
        assert_eq!(written(&named), expected);
    }

    #[test]
    fn ten_thousand_headers_and_a_huge_one_come_out_as_they_went_in() {
        let huge = vec![b'\xF0'; 3 << 20];
        let mut named: Vec<(&[u8], Option<&[u8]>)> =
            vec![(b"\xFFn".as_slice(), Some(b"v".as_slice())); 10_000];
        named.push((&huge, Some(&huge)));
        let read = written(&named);
        assert_eq!(read.len(), 10_001);
        assert_eq!(read[9_999], (b"\xFFn".to_vec(), Some(b"v".to_vec())));
        assert_eq!(read[10_000], (huge.clone(), Some(huge)));
    }

    #[test]
    fn what_follows_a_zero_byte_in_a_name_is_not_to_be_had() {
        assert_eq!(
            written(&[(b"a\0b", Some(b"v"))]),
            [(b"a".to_vec(), Some(b"v".to_vec()))]
        );
    }
}
