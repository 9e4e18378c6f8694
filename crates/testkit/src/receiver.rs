//! A receiver of webhooks: keeps every request, and answers as the test says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request that came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method and path: `POST /hook`.
    pub line: String,
    /// By their names in lower case.
    pub headers: HashMap<String, String>,
    /// The body's bytes.
    pub body: Vec<u8>,
}

impl Request {
    /// A header; empty if it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What a request is answered with.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A status and headers, as `retry-after: 1`, after a while.
    Status(u16, Vec<String>, Duration),
    /// These bytes, each after a pause, again and again if `endless`; then the connection is closed.
    Raw {
        /// What is written.
        bytes: Vec<u8>,
        /// Before each byte, or before each time all of them if it is zero.
        pause: Duration,
        /// Whether to begin anew at the end.
        endless: bool,
    },
    /// What the server at that port of loopback answers.
    Forward {
        /// The port.
        port: u16,
        /// Whether the answer arrives; else the connection is closed once the server has answered.
        arrives: bool,
    },
    /// Nothing, ever.
    Silence,
}

impl Reply {
    /// A status at once.
    pub fn status(status: u16) -> Self {
        Self::Status(status, vec![], Duration::ZERO)
    }

    /// These bytes at once, then the end.
    pub fn raw(text: impl AsRef<[u8]>) -> Self {
        Self::Raw {
            bytes: text.as_ref().to_vec(),
            pause: Duration::ZERO,
            endless: false,
        }
    }
}

type Answers = Arc<dyn Fn(usize, &Request) -> Reply + Send + Sync>;

/// A server on loopback.
pub struct Receiver {
    port: u16,
    received: Arc<Mutex<Vec<Request>>>,
    accepting: JoinHandle<()>,
}

impl Receiver {
    /// Answers the n-th request (from 0) so.
    pub async fn start(
        answers: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        Self::listen(Arc::new(answers), true).await
    }

    /// The same, but of requests only their lines are kept: for many and large ones.
    pub async fn start_forgetting(
        answers: impl Fn(usize, &Request) -> Reply + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        Self::listen(Arc::new(answers), false).await
    }

    async fn listen(answers: Answers, keeps: bool) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let received = Arc::<Mutex<Vec<Request>>>::default();
        let seen = Arc::clone(&received);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answers) = (Arc::clone(&seen), Arc::clone(&answers));
                // A client that goes away is what tests do.
                tokio::spawn(async move {
                    let _ = serve(stream, &seen, &answers, keeps).await;
                });
            }
        });
        Ok(Self {
            port,
            received,
            accepting,
        })
    }

    /// `http://127.0.0.1:port/hook`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What came so far.
    pub fn received(&self) -> Vec<Request> {
        self.received
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    stream: TcpStream,
    seen: &Mutex<Vec<Request>>,
    answers: &Answers,
    keeps: bool,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await? {
        let number = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push(if keeps {
                request.clone()
            } else {
                Request {
                    line: request.line.clone(),
                    headers: HashMap::new(),
                    body: Vec::new(),
                }
            });
            seen.len() - 1
        };
        match answers(number, &request) {
            Reply::Status(status, headers, delay) => {
                tokio::time::sleep(delay).await;
                let headers: String = headers.iter().map(|one| format!("{one}\r\n")).collect();
                let answer = format!("HTTP/1.1 {status} X\r\n{headers}content-length: 2\r\n\r\nok");
                stream.write_all(answer.as_bytes()).await?;
                stream.flush().await?;
            }
            Reply::Raw {
                bytes,
                pause,
                endless,
            } => {
                let size = if pause.is_zero() {
                    bytes.len().max(1)
                } else {
                    1
                };
                loop {
                    for part in bytes.chunks(size) {
                        tokio::time::sleep(pause).await;
                        stream.write_all(part).await?;
                        stream.flush().await?;
                    }
                    if !endless {
                        return Ok(());
                    }
                }
            }
            Reply::Forward { port, arrives } => {
                let answer = forward(port, &request).await?;
                if arrives {
                    stream.write_all(&answer).await?;
                    stream.flush().await?;
                }
                return Ok(());
            }
            Reply::Silence => std::future::pending().await,
        }
    }
    Ok(())
}

/// Sends a request on to that port; returns the whole answer.
async fn forward(port: u16, request: &Request) -> std::io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut head = format!("{} HTTP/1.1\r\nconnection: close\r\n", request.line);
    for (name, value) in &request.headers {
        if name != "connection" {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str("\r\n");
    server.write_all(head.as_bytes()).await?;
    server.write_all(&request.body).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    Ok(answer)
}

pub(crate) async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        stream.read_line(&mut header).await?;
        let Some((name, value)) = header.split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length");
    let length = length
        .and_then(|text: &String| text.parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let line = line
        .rsplit_once(' ')
        .map_or("", |(line, _)| line)
        .to_owned();
    Ok(Some(Request {
        line,
        headers,
        body,
    }))
}
