//! From librdkafka's message to a record.

use std::ffi::CStr;
use std::sync::Arc;

use rdkafka::bindings::{
    rd_kafka_header_cnt, rd_kafka_header_get_all, rd_kafka_message_headers, rd_kafka_resp_err_t,
};
use rdkafka::message::{BorrowedMessage, Message};

use crate::Record;

/// Copies a message. `topic` is its topic's name, shared by all records of the partition.
pub(super) fn record(message: &BorrowedMessage<'_>, topic: &Arc<str>) -> Record {
    Record {
        topic: Arc::clone(topic),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        headers: headers(message),
        payload: message.payload().map(<[u8]>::to_vec),
    }
}

/// Reads the headers lossily from librdkafka: rdkafka's own accessor panics on a name that is not
/// UTF-8, and every client that may write to the topic can send one.
#[expect(
    unsafe_code,
    reason = "the safe accessor panics on bytes that another client may send"
)]
fn headers(message: &BorrowedMessage<'_>) -> Vec<(String, Vec<u8>)> {
    let mut list = std::ptr::null_mut();
    // SAFETY: the message lives as long as the borrow, and owns the list put into `list`.
    let found = unsafe { rd_kafka_message_headers(message.ptr(), &mut list) };
    if found != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || list.is_null() {
        return Vec::new();
    }
    // SAFETY: `list` is a valid header list, see above.
    let count = unsafe { rd_kafka_header_cnt(list) };
    let header = |index| {
        let (mut name, mut value, mut size) = (std::ptr::null(), std::ptr::null(), 0);
        // SAFETY: the pointers are only read below, while the message is alive.
        let found =
            unsafe { rd_kafka_header_get_all(list, index, &mut name, &mut value, &mut size) };
        if found != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR || name.is_null() {
            return None;
        }
        // SAFETY: librdkafka terminates header names with a zero byte.
        let name = unsafe { CStr::from_ptr(name) }
            .to_string_lossy()
            .into_owned();
        let value = if value.is_null() {
            Vec::new()
        } else {
            // SAFETY: `value` points to `size` bytes inside the message.
            unsafe { std::slice::from_raw_parts(value.cast::<u8>(), size) }.to_vec()
        };
        Some((name, value))
    };
    (0..count).filter_map(header).collect()
}
