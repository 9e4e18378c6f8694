//! What is asked before every handler: who is asking, and may they.

use actix_web::http::header::{HeaderValue, WWW_AUTHENTICATE};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};

use super::access::Access;
use super::authenticator::Authenticator;
use super::refusal::Refusal;
use crate::admin_port::AdminPort;
use crate::clock;
use crate::problem::Problem;

/// Lets in whom the rule admits, and leaves the [`super::Principal`] with the request.
///
/// # Errors
/// The answer to whom it does not admit.
pub(crate) async fn guard(access: Access, request: &HttpRequest) -> Result<(), HttpResponse> {
    let port = request.app_config().local_addr().port();
    let ports = request.app_data::<AdminPort>();
    if ports.is_some_and(|ports| !ports.serves(port, request.path(), access)) {
        return Err(Problem::not_found("Not found").respond());
    }
    let Some(auth) = request.app_data::<web::Data<Authenticator>>() else {
        return Err(Problem::internal(&"a service without an authenticator").respond());
    };
    match auth.admit(request, access, clock::now).await {
        Ok(who) => {
            request.extensions_mut().insert(who);
            Ok(())
        }
        Err(refusal) => {
            let mut answer = Problem::from(refusal).respond();
            let challenge = match refusal {
                Refusal::Missing => Some(r#"Bearer realm="tidegate""#),
                Refusal::Invalid(_) => Some(r#"Bearer realm="tidegate", error="invalid_token""#),
                Refusal::Unknown(_) | Refusal::Forbidden => None,
            };
            if let Some(challenge) = challenge {
                let challenge = HeaderValue::from_static(challenge);
                answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            Err(answer)
        }
    }
}
