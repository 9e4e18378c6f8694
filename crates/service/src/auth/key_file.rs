//! API keys in a file, for services without a database.

use std::path::Path;

use domain::TenantId;
use domain::access::{ApiKey, KeyKind, Scope, Scopes};
use uuid::Uuid;

use super::api_key::hash;

/// Reads a file of keys: one a line, `KEY TENANT SCOPES`, scopes by commas; what follows `#` is a
/// comment. `sha256:` and 64 hexadecimal digits may stand for a key.
///
/// # Errors
/// What is wrong, with the line; never the key.
pub fn read(path: &Path) -> Result<Vec<ApiKey>, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().enumerate().filter_map(|(at, line)| {
        let line = line.split('#').next().unwrap_or_default().trim();
        (!line.is_empty()).then(|| key(line).map_err(|why| format!("line {}: {why}", at + 1)))
    });
    lines.collect()
}

fn key(line: &str) -> Result<ApiKey, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [key, tenant, scopes] = words[..] else {
        return Err("expected KEY TENANT SCOPES".to_owned());
    };
    let scopes = Scopes::parse(scopes.split(','))
        .ok_or("scopes are write, read, replay and admin, by commas")?;
    let tenant = TenantId::parse(tenant).ok_or("no name of a tenant")?;
    let hash = match key.strip_prefix("sha256:") {
        Some(digits) => unhex(digits).ok_or("sha256: wants 64 hexadecimal digits")?,
        None => match KeyKind::of(key) {
            None => return Err("no key: `tidegate key generate` makes one".to_owned()),
            Some(KeyKind::Write) if scopes != Scopes::of(&[Scope::Write]) => {
                return Err("a tg_write_ key may have the scope write only".to_owned());
            }
            Some(_) => hash(key),
        },
    };
    Ok(ApiKey {
        id: Uuid::from_bytes_le(std::array::from_fn(|at| hash[at])),
        hash,
        tenant,
        scopes,
        expires_at: None,
    })
}

fn unhex(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_key_or_names_what_is_wrong() {
        let secret = format!("tg_secret_{}", "A".repeat(43));
        let write = format!("tg_write_{}", "A".repeat(43));
        let kept = key(&format!("{secret} acme read,write")).unwrap();
        assert_eq!((kept.tenant.as_str(), kept.hash), ("acme", hash(&secret)));
        let hex: String = hash(&secret).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(key(&format!("sha256:{hex} acme read,write")).unwrap(), kept);
        for (line, why) in [
            (format!("{secret} acme"), "expected"),
            (format!("{secret} a/b read"), "tenant"),
            (format!("{secret} acme root"), "scopes"),
            (format!("{write} acme read"), "tg_write_"),
            ("hunter2 acme read".to_owned(), "no key"),
            ("sha256:12 acme read".to_owned(), "64"),
        ] {
            let error = key(&line).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{error}");
        }
    }
}
