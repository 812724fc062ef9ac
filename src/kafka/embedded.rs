//! librdkafka's in-process broker, for the demonstration and for quick tests.
//!
//! It lives on a thread of its own, because its handle may not change threads, and ends when the [`EmbeddedBroker`] is
//! dropped. Its transactions are hollow, it keeps 5 MB a partition, and topics appear by use: it promises nothing.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;

use crate::delivery::fault::DeliveryFault;

/// A running in-process broker.
#[derive(Debug)]
pub struct EmbeddedBroker {
    bootstrap_servers: String,
    /// Dropped to end the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedBroker {
    /// Starts a broker on a free loopback port, with these topics and numbers of partitions.
    ///
    /// # Errors
    /// [`DeliveryFault::Impossible`].
    pub fn start(topics: Vec<(String, i32)>) -> Result<Self, DeliveryFault> {
        let (stop, stopped) = bounded(0);
        let (sender, answer) = bounded(1);
        let thread = std::thread::Builder::new()
            .name("embedded-broker".to_owned())
            .spawn(move || serve(&topics, &sender, &stopped))
            .map_err(|error| impossible(&error))?;
        let bootstrap_servers = match answer.recv() {
            Ok(Ok(servers)) => servers,
            Ok(Err(error)) => return Err(impossible(&error)),
            Err(error) => return Err(impossible(&error)),
        };
        Ok(Self {
            bootstrap_servers,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// `host:port`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported by the panic hook; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

fn serve(
    topics: &[(String, i32)],
    sender: &Sender<Result<String, KafkaError>>,
    stopped: &Receiver<()>,
) {
    let cluster = MockCluster::new(1).and_then(|cluster| {
        for (topic, partitions) in topics {
            cluster.create_topic(topic, *partitions, 1)?;
        }
        Ok(cluster)
    });
    match cluster {
        Err(error) => {
            // Nobody waits any more if this fails.
            let _ = sender.send(Err(error));
        }
        Ok(cluster) => {
            let _ = sender.send(Ok(cluster.bootstrap_servers()));
            // Ends when the other side is dropped.
            let _ = stopped.recv();
        }
    }
}

fn impossible(error: &dyn std::error::Error) -> DeliveryFault {
    DeliveryFault::Impossible {
        operation: "start the embedded broker",
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_broker_starts_on_loopback_and_ends_when_dropped() {
        let broker = EmbeddedBroker::start(vec![("in".to_owned(), 2)]).unwrap();
        let address = broker.bootstrap_servers().to_owned();
        assert!(address.starts_with("127.0.0.1:"), "{address}");
        std::net::TcpStream::connect(&address).unwrap();
        drop(broker);
        assert!(std::net::TcpStream::connect(&address).is_err());
    }
}
