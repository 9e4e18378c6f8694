//! The settings of what is done with personal data, the same in every service that takes or reads events.

use std::sync::Arc;

use config::Env;
use domain::personal::PersonalData;

/// Bytes of the key at least.
const MIN_KEY: usize = 16;

/// Reads the settings, and the file of the rules.
#[must_use]
pub fn from_env(env: &Env) -> Arc<PersonalData> {
    let file = env.get_opt(
        &["PERSONAL_DATA_RULES"],
        "File of rules for personal data, one a line: TYPES PATH ACTION, such as `** data.**.email hash`; drop, hash or \
         mask. The same in ingest and processor.",
    );
    let key = env.get_secret(
        &["PERSONAL_DATA_KEY"],
        "What `hash` hashes with (HMAC-SHA256), 16 bytes at least. The same in ingest and processor.",
    );
    let anonymize_ip = env.get_bool(
        &["ANONYMIZE_IP"],
        false,
        "Addresses of clients keep their network only: 24 bits of IPv4, 48 of IPv6. The same in ingest and processor.",
    );
    let key = key.as_ref().map(|key| key.expose().as_bytes());
    if key.is_some_and(|key| key.len() < MIN_KEY) {
        env.complain("PERSONAL_DATA_KEY", "***", "at least 16 bytes");
    }
    let name = file.unwrap_or_default();
    let rules = match name.as_str() {
        "" => Ok(String::new()),
        path => std::fs::read_to_string(path).map_err(|error| error.to_string()),
    };
    match rules.and_then(|rules| PersonalData::new(&rules, key, anonymize_ip)) {
        Ok(personal) => Arc::new(personal),
        Err(why) => {
            let expected =
                format!("a file of rules, one a line; {why} (PERSONAL_DATA_KEY is the key)");
            env.complain("PERSONAL_DATA_RULES", &name, &expected);
            Arc::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_rules_and_keys_are_named() {
        let file = std::env::temp_dir().join(format!("rules-{}", uuid::Uuid::now_v7()));
        std::fs::write(&file, "** data.email hash\n** data.a burn\n").unwrap();
        let path = file.display().to_string();
        for (rules, key, says) in [
            ("/nowhere/rules", "0123456789abcdef", "/nowhere/rules"),
            (path.as_str(), "0123456789abcdef", "line 2"),
            (path.as_str(), "", "line 1: hash needs a key"),
            ("", "short", "16 bytes"),
        ] {
            let values = [("PERSONAL_DATA_RULES", rules), ("PERSONAL_DATA_KEY", key)];
            let values = values.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let env = Env::from_map(values.into());
            let _ = from_env(&env);
            let error = env.finish().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
        std::fs::remove_file(file).unwrap();
    }
}
