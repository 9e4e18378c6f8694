//! Tickets for live streams: browsers send no headers with an EventSource.

use actix_web::{HttpRequest, HttpResponse, web};
use domain::field::Code;
use domain::timestamp;
use serde::{Deserialize, Serialize};
use service::Problem;
use service::auth::{Authenticator, Principal};
use utoipa::ToSchema;

use crate::http::page::fresh;
use crate::http::request::{body, only_about};
use crate::parameters::Parameters;

/// Where they are had.
pub const PATH: &str = "/api/v1/sse/tickets";

/// Whose stream a ticket is for.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(
    dead_code,
    reason = "describes the body; Parameters reads it, naming every wrong field"
)]
pub struct TicketRequest {
    /// Default: the user who asks.
    user_id: Option<String>,
}

/// A ticket.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ticket<'a> {
    /// To be sent as `?ticket=`.
    pub ticket: &'a str,
    /// The stream it is for.
    #[schema(example = "/api/v1/sse/users/u-1?ticket=…")]
    pub url: String,
    /// When a stream can no more be begun with it; one that is open goes on.
    #[schema(format = DateTime)]
    pub expires_at: String,
}

/// A ticket for the live stream of a user, good for a short time (SSE_TICKET_SECONDS), by a client that may
/// listen to it.
///
/// # Errors
/// 403 for the stream of another, 422 for a wrong field.
#[utoipa::path(post, path = "/api/v1/sse/tickets", tag = "live", operation_id = "create_ticket",
    request_body = Option<TicketRequest>,
    responses((status = 200, body = Ticket), (status = 403, description = "The stream of another"),
        (status = 422, description = "A wrong field")))]
pub async fn create(
    request: HttpRequest,
    auth: web::Data<Authenticator>,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let body = body(&request, payload).await?;
    let mut parameters = Parameters::from_json(&body)?;
    let who = Principal::of(&request);
    let user = parameters.text("user_id").or_else(|| who.user.clone());
    let user = user.filter(|user| !user.is_empty());
    if user.is_none() {
        parameters.refuse(
            "user_id",
            Code::Missing,
            "is required: whose stream it is for",
        );
    }
    parameters.finish()?;
    only_about(&request, user.as_deref())?;
    let user = user.unwrap_or_default();
    let issued = auth
        .tickets()
        .issue(&who.tenant, &user, service::clock::now());
    let (ticket, end) = issued.map_err(|error| Problem::internal(&error))?;
    let name = percent_encoding::utf8_percent_encode(&user, percent_encoding::NON_ALPHANUMERIC);
    Ok(fresh(&Ticket {
        url: format!("/api/v1/sse/users/{name}?ticket={ticket}"),
        ticket: &ticket,
        expires_at: timestamp::format(end),
    }))
}
