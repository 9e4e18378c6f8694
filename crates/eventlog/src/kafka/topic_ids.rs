//! The ids of topics: one that was deleted and made again has its old name and another id. Asked of
//! Kafka every few seconds, without waiting for the answer.
#![expect(
    unsafe_code,
    reason = "librdkafka tells the ids of topics, and rdkafka does not pass them on"
)]

use std::ffi::{CStr, CString, c_char};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::bindings::{
    rd_kafka_DescribeTopics, rd_kafka_DescribeTopics_result_topics,
    rd_kafka_TopicCollection_destroy, rd_kafka_TopicCollection_of_topic_names,
    rd_kafka_TopicDescription_error, rd_kafka_TopicDescription_name,
    rd_kafka_TopicDescription_topic_id, rd_kafka_Uuid_least_significant_bits,
    rd_kafka_Uuid_most_significant_bits, rd_kafka_error_code, rd_kafka_event_DescribeTopics_result,
    rd_kafka_event_destroy, rd_kafka_event_t, rd_kafka_queue_destroy, rd_kafka_queue_new,
    rd_kafka_queue_poll, rd_kafka_queue_t, rd_kafka_resp_err_t,
};
use rdkafka::consumer::Consumer as _;
use uuid::Uuid;

use super::rebalance::Client;

/// How often Kafka is asked.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// Asks for the ids of some topics.
pub(super) struct TopicIds {
    client: Arc<Client>,
    topics: Vec<CString>,
    /// Gets the answers.
    queue: *mut rd_kafka_queue_t,
    asked: Option<Instant>,
    is_waiting: bool,
}

impl TopicIds {
    /// Asks through that client.
    pub(super) fn new(client: &Arc<Client>, topics: &[Arc<str>]) -> Self {
        // Each once: librdkafka refuses to describe a topic twice. No topic's name has a NUL.
        let mut topics: Vec<CString> = topics
            .iter()
            .filter_map(|topic| CString::new(topic.as_bytes()).ok())
            .collect();
        topics.sort();
        topics.dedup();
        Self {
            // SAFETY: the client is alive, and outlives the queue inside this value.
            queue: unsafe { rd_kafka_queue_new(client.client().native_ptr()) },
            client: Arc::clone(client),
            topics,
            asked: None,
            is_waiting: false,
        }
    }

    /// The answer that came since the last call, if any: topics that exist with their ids, `None` from
    /// a broker that has no ids. Asks again when that is due.
    pub(super) fn poll(&mut self) -> Vec<(Arc<str>, Option<Uuid>)> {
        if !self.is_waiting && self.asked.is_none_or(|at| at.elapsed() >= ASK_EVERY) {
            self.ask();
        }
        if !self.is_waiting {
            return Vec::new();
        }
        // SAFETY: the queue lives as long as this value; a timeout of 0 does not wait.
        let event = unsafe { rd_kafka_queue_poll(self.queue, 0) };
        if event.is_null() {
            return Vec::new();
        }
        self.is_waiting = false;
        let found = described(event);
        // SAFETY: the event is ours, and nothing borrowed from it is left.
        unsafe { rd_kafka_event_destroy(event) };
        found
    }

    fn ask(&mut self) {
        self.asked = Some(Instant::now());
        self.is_waiting = true;
        let mut names: Vec<*const c_char> = self.topics.iter().map(|name| name.as_ptr()).collect();
        // SAFETY: the names live beyond the calls, which copy them; client and queue are alive, and
        // absent options are the defaults.
        unsafe {
            let topics = rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            rd_kafka_DescribeTopics(
                self.client.client().native_ptr(),
                topics,
                std::ptr::null(),
                self.queue,
            );
            rd_kafka_TopicCollection_destroy(topics);
        }
    }
}

impl Drop for TopicIds {
    fn drop(&mut self) {
        // SAFETY: the queue is ours, and its client still alive.
        unsafe { rd_kafka_queue_destroy(self.queue) };
    }
}

/// What an answer says. Topics that Kafka does not describe are left out.
fn described(event: *mut rd_kafka_event_t) -> Vec<(Arc<str>, Option<Uuid>)> {
    let mut count = 0;
    // SAFETY: the caller's event is alive. It gives a result only if it is one of such a request, and
    // the result gives `count` descriptions that live as long as the event.
    let topics = unsafe {
        let result = rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Vec::new();
        }
        let topics = rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() || count == 0 {
            return Vec::new();
        }
        std::slice::from_raw_parts(topics, count)
    };
    let read = |topic: &*const _| {
        // SAFETY: descriptions, and what is borrowed from them, live as long as the event; a name
        // ends with a zero byte.
        unsafe {
            let error = rd_kafka_TopicDescription_error(*topic);
            if !error.is_null()
                && rd_kafka_error_code(error) != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
            {
                return None;
            }
            let name = CStr::from_ptr(rd_kafka_TopicDescription_name(*topic));
            let id = rd_kafka_TopicDescription_topic_id(*topic);
            let id = (!id.is_null()).then(|| {
                Uuid::from_u64_pair(
                    rd_kafka_Uuid_most_significant_bits(id).cast_unsigned(),
                    rd_kafka_Uuid_least_significant_bits(id).cast_unsigned(),
                )
            });
            let name: Arc<str> = name.to_string_lossy().into();
            Some((name, id.filter(|id| !id.is_nil())))
        }
    };
    topics.iter().filter_map(read).collect()
}
