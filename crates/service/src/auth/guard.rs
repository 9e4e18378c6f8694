//! The middleware before every handler: who is asking, and may they.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderValue, WWW_AUTHENTICATE};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage as _, web};

use super::access::Access;
use super::authenticator::Authenticator;
use super::refusal::Refusal;
use crate::admin_port::AdminPort;
use crate::clock;
use crate::problem::Problem;

/// Lets in whom the rule admits, and leaves the [`super::Principal`] with the request.
///
/// # Errors
/// Those of the handler.
pub(crate) async fn guard<B: MessageBody + 'static>(
    access: Access,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let port = request.app_config().local_addr().port();
    let ports = request.app_data::<AdminPort>();
    if ports.is_some_and(|ports| !ports.serves(port, request.path(), access)) {
        let problem = Problem::not_found("Not found");
        return Ok(request.into_response(problem.respond()));
    }
    let Some(auth) = request.app_data::<web::Data<Authenticator>>().cloned() else {
        let problem = Problem::internal(&"a service without an authenticator");
        return Ok(request.into_response(problem.respond()));
    };
    match auth.admit(request.request(), access, clock::now).await {
        Ok(who) => {
            request.extensions_mut().insert(who);
            Ok(next.call(request).await?.map_into_boxed_body())
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
            Ok(request.into_response(answer))
        }
    }
}
