//! Which servers, and who enters there.

use async_nats::ConnectOptions;
pub use async_nats::ServerAddr;
use config::Env;
use percent_encoding::percent_decode_str;

/// NATS_URL: the servers, with user and password where they need one; none if there is no NATS. `doc`
/// says what they are for.
pub fn servers(env: &Env, doc: &'static str) -> Vec<ServerAddr> {
    let servers = env.get_list(&["NATS_URL"], "", doc);
    servers
        .iter()
        .filter_map(|text| server(env, text))
        .collect()
}

fn server(env: &Env, text: &str) -> Option<ServerAddr> {
    let server = text.parse();
    if server.is_err() {
        // The value may hold a password.
        env.complain(
            "NATS_URL",
            "…",
            "addresses such as nats://user:password@host:4222",
        );
    }
    server.ok()
}

/// With the user and password, or the token, that the first address names.
#[must_use]
pub fn options(servers: &[ServerAddr]) -> ConnectOptions {
    let named = servers.iter().find(|server| server.username().is_some());
    let Some(server) = named else {
        return ConnectOptions::new();
    };
    let plain = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = plain(server.username().unwrap_or_default());
    match server.password() {
        Some(password) => ConnectOptions::with_user_and_password(user, plain(password)),
        None => ConnectOptions::with_token(user),
    }
}
