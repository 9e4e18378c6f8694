//! One address for several servers, with a wire to cut.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Takes TCP connections and hands each to the next backend that accepts it, in turn.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    backends: Vec<u16>,
    next: AtomicUsize,
    served: Vec<AtomicUsize>,
    open: AtomicBool,
    cut: watch::Sender<u64>,
}

impl Proxy {
    /// Listens on loopback, in front of these ports.
    ///
    /// # Errors
    /// Without a free port.
    pub async fn start(backends: &[u16]) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            backends: backends.to_vec(),
            next: AtomicUsize::new(0),
            served: backends.iter().map(|_| AtomicUsize::new(0)).collect(),
            open: AtomicBool::new(true),
            cut: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            port,
            shared,
            accepting,
        })
    }

    /// `http://127.0.0.1:port` and the path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Connections that each backend was given so far.
    pub fn served(&self) -> Vec<usize> {
        let served = self.shared.served.iter();
        served.map(|n| n.load(Ordering::Relaxed)).collect()
    }

    /// Cuts all connections; new ones are taken again.
    pub fn cut(&self) {
        self.shared.cut.send_modify(|generation| *generation += 1);
    }

    /// Cuts all connections and takes no others until [`Self::open`].
    pub fn close(&self) {
        self.shared.open.store(false, Ordering::SeqCst);
        self.cut();
    }

    /// Takes connections again.
    pub fn open(&self) {
        self.shared.open.store(true, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        let mut cut = shared.cut.subscribe();
        // Looked at after subscribing, so that no connection slips through a closing.
        if !shared.open.load(Ordering::SeqCst) {
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            tokio::select! {
                () = carry(client, &shared) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

/// Between a client and the first backend that takes it.
async fn carry(mut client: TcpStream, shared: &Shared) {
    let first = shared.next.fetch_add(1, Ordering::Relaxed);
    for turn in 0..shared.backends.len() {
        let chosen = (first + turn) % shared.backends.len();
        let address = (Ipv4Addr::LOCALHOST, shared.backends[chosen]);
        let Ok(mut backend) = TcpStream::connect(address).await else {
            continue;
        };
        shared.served[chosen].fetch_add(1, Ordering::Relaxed);
        // Either side's end is the end of both, as it ought to be.
        let _ = copy_bidirectional(&mut client, &mut backend).await;
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Answers every connection with one byte, and keeps it.
    async fn server(byte: u8) -> (u16, JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            let mut kept = Vec::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                client.write_u8(byte).await.unwrap();
                kept.push(client);
            }
        });
        (port, serving)
    }

    async fn connect(proxy: &Proxy) -> TcpStream {
        TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn takes_turns_passes_over_the_dead_and_cuts() {
        let ((one, _serving), (other, dying)) = (server(1).await, server(2).await);
        let proxy = Proxy::start(&[one, other]).await.unwrap();
        let mut first = connect(&proxy).await;
        let mut second = connect(&proxy).await;
        let sum = first.read_u8().await.unwrap() + second.read_u8().await.unwrap();
        assert_eq!((sum, proxy.served()), (3, vec![1, 1]));

        proxy.cut();
        assert!(first.read_u8().await.is_err());
        dying.abort();
        let _ = dying.await;
        for _ in 0..2 {
            assert_eq!(connect(&proxy).await.read_u8().await.unwrap(), 1);
        }

        proxy.close();
        assert!(connect(&proxy).await.read_u8().await.is_err());
        proxy.open();
        assert_eq!(connect(&proxy).await.read_u8().await.unwrap(), 1);
    }
}
