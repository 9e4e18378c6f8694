//! A TCP proxy in front of several servers, whose connections can be cut.

use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy that forwards each connection to the next backend, in turn.
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
    /// The one backend of new connections; none if there is no such.
    only: AtomicUsize,
    served: Vec<AtomicUsize>,
    open: AtomicBool,
    cut: watch::Sender<u64>,
    /// Bytes of clients that are forwarded before the proxy closes.
    left: AtomicUsize,
}

impl Shared {
    fn cut(&self) {
        self.cut.send_modify(|generation| *generation += 1);
    }

    fn close(&self) {
        self.open.store(false, Ordering::SeqCst);
        self.cut();
    }

    /// Counts bytes that came from a client.
    fn carried(&self, bytes: usize) {
        let less = |left: usize| Some(left.saturating_sub(bytes));
        let before = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        if before.is_ok_and(|before| before > 0 && before <= bytes) {
            self.close();
        }
    }
}

impl Proxy {
    /// Listens on loopback, in front of these ports.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(backends: &[u16]) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            backends: backends.to_vec(),
            next: AtomicUsize::new(0),
            only: AtomicUsize::new(usize::MAX),
            served: backends.iter().map(|_| AtomicUsize::new(0)).collect(),
            open: AtomicBool::new(true),
            cut: watch::Sender::new(0),
            left: AtomicUsize::new(usize::MAX),
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

    /// How many connections each backend has got so far.
    pub fn served(&self) -> Vec<usize> {
        let served = self.shared.served.iter();
        served.map(|n| n.load(Ordering::Relaxed)).collect()
    }

    /// Leads new connections to that backend alone; those that are open stay where they are.
    pub fn lead_to(&self, backend: usize) {
        self.shared.only.store(backend, Ordering::SeqCst);
    }

    /// Cuts all connections; accepts new ones.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Cuts all connections and accepts no others until [`Self::open`].
    pub fn close(&self) {
        self.shared.close();
    }

    /// Closes once clients have sent so many bytes more, that is in the middle of a request.
    pub fn close_after(&self, bytes: usize) {
        self.shared.left.store(bytes, Ordering::SeqCst);
    }

    /// Accepts connections again, without a limit of bytes.
    pub fn open(&self) {
        self.shared.left.store(usize::MAX, Ordering::SeqCst);
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

/// Forwards a connection to the first backend that accepts it.
async fn carry(client: TcpStream, shared: &Shared) {
    let mut client = Counted { client, shared };
    let first = shared.next.fetch_add(1, Ordering::Relaxed);
    let only = shared.only.load(Ordering::SeqCst);
    for turn in 0..shared.backends.len() {
        let chosen = (first + turn) % shared.backends.len();
        if only < shared.backends.len() && chosen != only {
            continue;
        }
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

/// The connection of a client, whose bytes are counted.
struct Counted<'a> {
    client: TcpStream,
    shared: &'a Shared,
}

impl AsyncRead for Counted<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.client).poll_read(context, buffer);
        self.shared.carried(buffer.filled().len() - before);
        read
    }
}

impl AsyncWrite for Counted<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.client).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_shutdown(context)
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

    #[tokio::test]
    async fn closes_after_so_many_bytes() {
        let (port, _serving) = server(1).await;
        let proxy = Proxy::start(&[port]).await.unwrap();
        proxy.close_after(10);
        let mut client = connect(&proxy).await;
        client.write_all(&[0; 9]).await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), 1);
        client.write_all(&[0; 1]).await.unwrap();
        assert!(client.read_u8().await.is_err());
        assert!(connect(&proxy).await.read_u8().await.is_err());
        proxy.open();
        assert_eq!(connect(&proxy).await.read_u8().await.unwrap(), 1);
    }
}
