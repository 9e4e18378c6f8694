//! The settings of who may ask.

use std::path::PathBuf;
use std::time::Duration;

use actix_web::http::header::HeaderName;
use config::{Env, Secret};
use ipnet::IpNet;

use super::gateway::GatewayHeaders;
use super::jwk_source::{self, JwksPlace};
use super::jwt::{ALGORITHMS, TokenKey, TokenRules};

/// How it is found out who is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It is not: everybody may do everything.
    Off,
    /// By API keys alone.
    Keys,
    /// By what a gateway says, and by API keys.
    Gateway,
    /// By JWTs, and by API keys.
    Jwt,
}

/// The settings of who may ask.
#[derive(Debug, Clone)]
pub struct AuthConfig {
    /// AUTH_MODE.
    pub mode: Mode,
    /// It was said, not left out.
    pub is_said: bool,
    /// The operator knows that everybody may do everything.
    pub known_to_be_open: bool,
    /// Whose headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// A gateway's headers.
    pub gateway: GatewayHeaders,
    /// What a token must say.
    pub tokens: TokenRules,
    /// The keys of the settings.
    pub token_keys: Vec<TokenKey>,
    /// A JWKS.
    pub jwks: Option<JwksPlace>,
    /// API keys in a file.
    pub key_file: Option<PathBuf>,
    /// What signs tickets.
    pub ticket_secret: Option<Secret>,
    /// How long a ticket is good.
    pub ticket_lifetime: time::Duration,
    /// /metrics wants no credentials.
    pub public_metrics: bool,
}

impl AuthConfig {
    /// Reads the settings.
    #[must_use]
    pub fn from_env(env: &Env) -> Self {
        let (mode, is_said) = mode(env);
        let known_to_be_open = env.get_bool(
            &["I_KNOW_THIS_IS_OPEN"],
            false,
            "AUTH_MODE=off is meant, on an address that others reach.",
        );
        let gateway = GatewayHeaders {
            user: header(
                env,
                &["GATEWAY_USER_HEADER"],
                "x-user-id",
                "Gateway's header with the user.",
            ),
            tenant: header(
                env,
                &["GATEWAY_TENANT_HEADER"],
                "x-tenant-id",
                "Gateway's header with the tenant; with AUTH_MODE=off everybody's.",
            ),
            scopes: header(
                env,
                &["GATEWAY_SCOPES_HEADER"],
                "x-scopes",
                "Gateway's header with scopes: write, read, replay, admin.",
            ),
        };
        let config = Self {
            mode,
            is_said,
            known_to_be_open,
            trusted_proxies: trusted_proxies(env),
            gateway,
            token_keys: token_keys(env),
            jwks: jwks(env),
            tokens: token_rules(env),
            key_file: env
                .get_opt(
                    &["API_KEYS_FILE"],
                    "API keys beside the database's, one a line: KEY TENANT SCOPES; read again when it changes.",
                )
                .map(PathBuf::from),
            ticket_secret: env.get_secret(
                &["SSE_TICKET_SECRET"],
                "What signs tickets for live streams, the same in every replica; unset, each makes its own.",
            ),
            ticket_lifetime: time::Duration::seconds(env.get_in(
                &["SSE_TICKET_SECONDS"],
                60,
                1..=86_400,
                "Seconds a ticket for a live stream is good.",
            )),
            public_metrics: env.get_bool(
                &["METRICS_PUBLIC"],
                false,
                "/metrics wants no credentials: where only Prometheus reaches it. Else the scope admin in the default tenant.",
            ),
        };
        let secret = config.ticket_secret.as_ref();
        if secret.is_some_and(|secret| secret.expose().len() < 32) {
            env.complain(
                "SSE_TICKET_SECRET",
                "***",
                "at least 32 bytes, which nobody can guess",
            );
        }
        config.check(env);
        config
    }

    /// The rules between settings: with a mode that nothing can pass, no service starts.
    fn check(&self, env: &Env) {
        if self.mode == Mode::Jwt && self.token_keys.is_empty() && self.jwks.is_none() {
            let expected = "a key that tokens are checked by: set JWT_SECRET, JWT_PUBLIC_KEY, \
                            JWT_PUBLIC_KEY_FILE, JWT_JWKS_FILE or JWT_JWKS_URL (or AUTH_MODE=keys for API keys alone)";
            env.complain("AUTH_MODE", "jwt", expected);
        }
        if self.mode == Mode::Gateway && self.trusted_proxies.is_empty() {
            let expected = "the networks of the gateway in TRUSTED_PROXIES: its headers are believed from there alone";
            env.complain("AUTH_MODE", "gateway", expected);
        }
    }
}

fn mode(env: &Env) -> (Mode, bool) {
    let name = "AUTH_MODE";
    let given = env.get_opt(
        &[name],
        "Who is asking: keys (API keys), jwt or gateway (these beside API keys), or off; unset it is off, on a loopback address alone.",
    );
    let mode = match given.as_deref() {
        None | Some("off") => Mode::Off,
        Some("keys") => Mode::Keys,
        Some("gateway") => Mode::Gateway,
        Some("jwt") => Mode::Jwt,
        Some(other) => {
            env.complain(name, other, "off, keys, gateway or jwt");
            Mode::Keys
        }
    };
    (mode, given.is_some())
}

fn header(env: &Env, names: &[&'static str], default: &'static str, doc: &str) -> HeaderName {
    let given: String = env.get(names, default, doc);
    given.to_ascii_lowercase().parse().unwrap_or_else(|_| {
        env.complain(
            names.first().copied().unwrap_or_default(),
            &given,
            "the name of a header",
        );
        HeaderName::from_static(default)
    })
}

/// Reads whose headers are believed.
#[must_use]
pub fn trusted_proxies(env: &Env) -> Vec<IpNet> {
    let list = env.get_list(
        &["TRUSTED_PROXIES"],
        "",
        "Networks whose X-Forwarded-For is believed, such as 10.0.0.0/8, separated by commas.",
    );
    let parse = |text: &String| {
        let net = text
            .parse::<IpNet>()
            .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
        if net.is_err() {
            let expected = "addresses or networks such as 10.0.0.0/8";
            env.complain("TRUSTED_PROXIES", text, expected);
        }
        net.ok()
    };
    list.iter().filter_map(parse).collect()
}

fn token_keys(env: &Env) -> Vec<TokenKey> {
    let secret = env.get_secret(&["JWT_SECRET"], "Key of HS256, 32 bytes at least.");
    let pem = env.get_opt(
        &["JWT_PUBLIC_KEY"],
        "Public key in PEM: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA).",
    );
    let file = env.get_opt(&["JWT_PUBLIC_KEY_FILE"], "The same in a file.");
    let mut keys = vec![];
    let mut take = |name: &str, shown: &str, key: Result<TokenKey, String>| match key {
        Ok(key) => keys.push(key),
        Err(expected) => env.complain(name, shown, &expected),
    };
    if let Some(secret) = secret {
        take("JWT_SECRET", "***", jwk_source::of_secret(secret.expose()));
    }
    if let Some(pem) = pem {
        take("JWT_PUBLIC_KEY", "…", jwk_source::of_pem(&pem));
    }
    if let Some(file) = file {
        let pem = std::fs::read_to_string(&file).map_err(|error| format!("a file ({error})"));
        take(
            "JWT_PUBLIC_KEY_FILE",
            &file,
            pem.and_then(|pem| jwk_source::of_pem(&pem)),
        );
    }
    keys
}

fn jwks(env: &Env) -> Option<JwksPlace> {
    let file = env.get_opt(
        &["JWT_JWKS_FILE"],
        "JWKS with public keys; read again when it changes.",
    );
    let url = env.get_opt(&["JWT_JWKS_URL"], "Address of a JWKS.");
    let every = env.get_in(
        &["JWT_JWKS_SECONDS"],
        300,
        5..=86_400,
        "Seconds between two looks at JWT_JWKS_URL; a key that is not known is looked for at once.",
    );
    if let Some(url) = &url
        && !(url.starts_with("https://") || url.starts_with("http://"))
    {
        env.complain("JWT_JWKS_URL", url, "an https or http URL");
    }
    if file.is_some() && url.is_some() {
        env.complain("JWT_JWKS_URL", "…", "one of JWT_JWKS_FILE and JWT_JWKS_URL");
    }
    let file = file.map(|file| JwksPlace::File(file.into()));
    file.or_else(|| url.map(|url| JwksPlace::Url(url, Duration::from_secs(every))))
}

fn token_rules(env: &Env) -> TokenRules {
    let words = env.get_list(
        &["JWT_ALGORITHMS"],
        "HS256,RS256,ES256,EdDSA",
        "Algorithms of tokens; each key is for the one of its kind, whatever a token says.",
    );
    let known = |word: &String| {
        let known = ALGORITHMS.iter().find(|(name, _)| name == word);
        if known.is_none() {
            env.complain(
                "JWT_ALGORITHMS",
                word,
                "HS256, RS256, ES256 and EdDSA, by commas",
            );
        }
        known.map(|(_, algorithm)| *algorithm)
    };
    TokenRules {
        algorithms: words.iter().filter_map(known).collect(),
        issuer: env.get_opt(&["JWT_ISSUER"], "Issuer that tokens must have."),
        audience: env.get_list(
            &["JWT_AUDIENCE"],
            "",
            "Audiences of which tokens must have one, by commas.",
        ),
        leeway: env.get_in(
            &["JWT_LEEWAY_SECONDS"],
            30,
            0..=600,
            "Seconds by which the clock of the issuer may differ.",
        ),
        user_claim: env.get(&["JWT_USER_CLAIM"], "sub", "Claim with the user."),
        tenant_claim: env.get(
            &["JWT_TENANT_CLAIM"],
            "tenant_id",
            "Claim with the tenant; a token without it is of the default tenant.",
        ),
    }
}
