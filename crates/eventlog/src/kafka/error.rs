//! Why a client of Kafka could not be created.

use rdkafka::error::KafkaError;

/// Why a producer could not be created.
#[derive(Debug, thiserror::Error)]
pub enum ProducerError {
    /// librdkafka refused the settings.
    #[error("cannot create the Kafka producer: {0}")]
    Client(#[from] KafkaError),
    /// The registry already holds metrics of these names.
    #[error("cannot register the producer's metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The operating system refused the thread.
    #[error("cannot start the producer's thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Why a consumer was not started or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// librdkafka refused the settings, or Kafka the request.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// The operating system refused the thread.
    #[error("cannot start the consumer's thread: {0}")]
    Thread(#[from] std::io::Error),
    /// The consumer is shut down, or being recreated.
    #[error("the consumer is closed")]
    Closed,
}
