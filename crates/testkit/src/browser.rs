//! Headless Chromium, driven over its own protocol (CDP) through a pipe.

use std::collections::HashMap;
use std::io::{BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};

use crate::names::unique;
use crate::wait::{LIMIT, eventually};

/// A browser with a profile of its own; both are gone when it is dropped.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    profile: PathBuf,
    wire: Arc<Wire>,
}

/// A tab. Dropping it leaves it open.
#[derive(Debug)]
pub struct Tab {
    wire: Arc<Wire>,
    target: String,
    session: String,
}

/// Commands in, replies out.
#[derive(Debug)]
struct Wire {
    input: Mutex<ChildStdin>,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    crashes: watch::Sender<usize>,
}

impl Browser {
    /// Starts it; panics where none is installed.
    pub fn start() -> Self {
        let profile = std::env::temp_dir().join(format!("tidegate-browser-{}", unique()));
        // The protocol is on descriptors 3 and 4.
        let script = "for b in chromium chromium-browser google-chrome; do command -v $b >/dev/null \
            && exec $b \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1; done; exit 127";
        let mut child = Command::new("sh")
            .args(["-c", script, "sh", "--remote-debugging-pipe"])
            .args(["--headless=new", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--no-first-run"])
            // It is to talk to nobody but us.
            .args([
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .args(["--disable-extensions", "--disable-sync"])
            .args(["--disable-default-apps", "--metrics-recording-only"])
            .args(["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .env("HOME", &profile)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("sh: {error}"));
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            panic!("a child without pipes");
        };
        let wire = Arc::new(Wire {
            input: Mutex::new(input),
            next: AtomicU64::new(1),
            waiting: Mutex::default(),
            crashes: watch::Sender::default(),
        });
        let replies = Arc::clone(&wire);
        std::thread::spawn(move || replies.read(BufReader::new(output)));
        Self {
            child,
            profile,
            wire,
        }
    }

    /// Opens a tab and waits until its page is loaded.
    pub async fn open(&self, url: &str) -> Tab {
        let call = |method: &'static str, params| self.wire.call(None, method, params);
        let text = |value: Value| value.as_str().unwrap_or_default().to_owned();
        let mut created = call("Target.createTarget", json!({"url": url})).await;
        let target = text(created["targetId"].take());
        let attach = json!({"targetId": target, "flatten": true});
        let mut attached = call("Target.attachToTarget", attach).await;
        let tab = Tab {
            wire: Arc::clone(&self.wire),
            target,
            session: text(attached["sessionId"].take()),
        };
        tab.command("Network.enable", json!({})).await;
        tab.loaded(url).await;
        tab
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Its helpers end with it, and may write until they have.
        for _ in 0..50 {
            if std::fs::remove_dir_all(&self.profile).is_ok() || !self.profile.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Tab {
    /// The value of a script in the page, awaited if it is a promise.
    ///
    /// # Errors
    /// The script threw, or the page went away meanwhile.
    pub async fn evaluate(&self, script: &str) -> Result<Value, String> {
        let params = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let mut reply = self.command("Runtime.evaluate", params).await;
        match reply.get("exceptionDetails").or(reply.get("error")) {
            Some(problem) => Err(problem.to_string()),
            None => Ok(reply["result"]["value"].take()),
        }
    }

    /// Goes to another page and waits until it is loaded.
    pub async fn goto(&self, url: &str) {
        self.command("Page.navigate", json!({"url": url})).await;
        self.loaded(url).await;
    }

    /// Runs a script, loads the page anew in the same breath, and waits until it is there.
    pub async fn reload_after(&self, script: &str) {
        let script =
            format!("{script}; const now = performance.timeOrigin; location.reload(); now");
        let old = self.evaluate(&script).await;
        let old = old.unwrap_or_else(|error| panic!("{error}"));
        let state = "document.readyState === 'complete' && performance.timeOrigin";
        eventually("the page is loaded anew", LIMIT, || async {
            let new = self.evaluate(state).await?;
            (new.is_number() && new != old)
                .then_some(())
                .ok_or(new.to_string())
        })
        .await;
    }

    /// Takes the tab off the network, or connects it again.
    pub async fn offline(&self, offline: bool) {
        let params = json!({
            "offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1,
        });
        self.command("Network.emulateNetworkConditions", params)
            .await;
    }

    /// Closes the tab as its user does.
    pub async fn close(self) {
        let params = json!({"targetId": self.target});
        self.wire.call(None, "Target.closeTarget", params).await;
    }

    /// Kills the tab's process: nothing of the page runs any more.
    pub async fn crash(self) {
        let mut crashes = self.wire.crashes.subscribe();
        drop(self.wire.send(Some(&self.session), "Page.crash", json!({})));
        let crashed = tokio::time::timeout(LIMIT, crashes.changed()).await;
        assert!(matches!(crashed, Ok(Ok(()))), "the tab did not crash");
        self.close().await;
    }

    /// Gives the window a size, and the page the colours of that scheme: `light` or `dark`.
    pub async fn look(&self, width: u32, height: u32, scheme: &str) {
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.command("Emulation.setDeviceMetricsOverride", size)
            .await;
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.command("Emulation.setEmulatedMedia", media).await;
    }

    /// A picture of what is seen, a PNG in base64.
    pub async fn picture(&self) -> String {
        let params = json!({"format": "png"});
        let mut reply = self.command("Page.captureScreenshot", params).await;
        reply["data"].take().as_str().unwrap_or_default().to_owned()
    }

    /// What a page costs: the bytes of its scripts' heap, and the seconds it has worked.
    pub async fn cost(&self) -> (f64, f64) {
        self.command("Performance.enable", json!({})).await;
        let reply = self.command("Performance.getMetrics", json!({})).await;
        let metric = |name: &str| {
            let all = reply["metrics"].as_array().into_iter().flatten();
            let mut found = all.filter(|metric| metric["name"] == name);
            found.find_map(|metric| metric["value"].as_f64())
        };
        let known = metric("JSHeapUsedSize").zip(metric("TaskDuration"));
        known.unwrap_or_else(|| panic!("the browser measures nothing: {reply}"))
    }

    /// Runs a script in every page that is opened in this tab from now on, before its own.
    pub async fn always(&self, script: &str) {
        let params = json!({"source": script});
        self.command("Page.enable", json!({})).await;
        self.command("Page.addScriptToEvaluateOnNewDocument", params)
            .await;
    }

    async fn loaded(&self, url: &str) {
        let state = "document.readyState === 'complete' && location.href";
        eventually("the page is loaded", LIMIT, || async {
            let href = self.evaluate(state).await?;
            (href == url).then_some(()).ok_or(href.to_string())
        })
        .await;
    }

    async fn command(&self, method: &str, params: Value) -> Value {
        self.wire.call(Some(&self.session), method, params).await
    }
}

impl Wire {
    /// The reply's result, or all of a reply that is an error.
    async fn call(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let reply = self.send(session, method, params);
        let reply = tokio::time::timeout(LIMIT, reply).await;
        let Ok(Ok(mut reply)) = reply else {
            panic!(
                "the browser did not answer {method}; is one installed? deploy/local/parts install --with browser"
            );
        };
        match reply.get_mut("result") {
            Some(result) => result.take(),
            None => reply,
        }
    }

    fn send(&self, session: Option<&str>, method: &str, params: Value) -> oneshot::Receiver<Value> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, reply) = oneshot::channel();
        let waiting = self.waiting.lock();
        waiting
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, answer);
        let mut command = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            command["sessionId"] = session.into();
        }
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        // Where it fails, no reply comes.
        let _ = input.write_all(format!("{command}\0").as_bytes());
        reply
    }

    fn read(&self, mut output: impl std::io::BufRead) {
        let mut text = Vec::new();
        while output.read_until(0, &mut text).is_ok_and(|read| read > 0) {
            text.pop();
            let reply: Value = serde_json::from_slice(&text).unwrap_or_default();
            text.clear();
            if reply["method"] == "Inspector.targetCrashed" {
                self.crashes.send_modify(|crashes| *crashes += 1);
            }
            let Some(id) = reply["id"].as_u64() else {
                continue;
            };
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(answer) = waiting.remove(&id) {
                // It may not be waited for any more.
                let _ = answer.send(reply);
            }
        }
        // Whoever still waits learns that it is over.
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }
}
