//! The Responses API's memory: what a call goes on from, and the paths by which callers manage what is kept.

use pingora::proxy::Session;

use super::admission::text;
use super::context::{Ctx, Keeping};
use super::state::Shared;
use crate::exchange::conversation::{self, Keeper, Kept, Wanted};
use crate::exchange::paths::Operation;
use crate::exchange::{Call, Refusal, Said};
use crate::store::responses::Responses;
use crate::wire::writer;

/// Puts what was said before in front of a call's input, and sets up the keeping of its answer.
///
/// # Errors
/// The answer to go on from is not kept, or the whole is too large.
pub async fn begin(call: Call, said: &Said<'_>, session: &Session, ctx: &mut Ctx) -> Result<Call, Option<Refusal>> {
    let wanted = Wanted::read(&call)?;
    let snapshot = ctx.served.snapshot.clone();
    let Some(key) = ctx.key.clone() else { return Err(Some(Refusal::Bug { what: "a call without a key" })) };
    if wanted.keep && snapshot.keep_responses.is_some() {
        let keeper = Keeper::new(call.stream, snapshot.limits.answer_bytes);
        let (input, previous) = (conversation::input(&call), wanted.previous.clone());
        ctx.keeping = Some(Box::new(Keeping { keeper, input, previous }));
    }
    let Some(id) = wanted.previous else { return Ok(call) };
    let asked = id.clone();
    let turns = blocking(&ctx.shared, move |store| store.conversation(&key.id, &asked)).await?;
    let Some(turns) = turns else { return Err(Some(Refusal::UnknownResponse { id, named: true })) };
    let body = conversation::expand(&call, &turns, snapshot.limits.body_bytes)?;
    let headers = &session.req_header().headers;
    let mut joined = Call::read(body, said, &snapshot.limits, &|name| text(headers, name))?;
    joined.earlier = Some(conversation::earlier(&joined, &call));
    Ok(joined)
}

/// Shows, deletes or cancels a kept answer; the body of what is told.
///
/// # Errors
/// It is not there, or the store fails.
pub async fn manage(operation: Operation, id: &str, key: &str, shared: &Shared) -> Result<Vec<u8>, Option<Refusal>> {
    let unknown = || Some(Refusal::UnknownResponse { id: id.to_owned(), named: false });
    let (key, own) = (key.to_owned(), id.to_owned());
    let mut out = Vec::new();
    if operation == Operation::DeleteResponse {
        if !blocking(shared, move |store| store.delete(&key, &own)).await? {
            return Err(unknown());
        }
        writer::object(&mut out, |o| {
            o.string("id", id);
            o.string("object", "response");
            o.bool("deleted", true);
        });
        return Ok(out);
    }
    let Kept { turn, .. } = blocking(shared, move |store| store.get(&key, &own)).await?.ok_or_else(unknown)?;
    match operation {
        Operation::CancelResponse => Err(Some(Refusal::NothingToCancel)),
        Operation::ResponseInput => {
            conversation::input_list(id, &turn.input, &mut out);
            Ok(out)
        }
        _ => Ok(turn.response.into_bytes()),
    }
}

async fn blocking<T: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce(&Responses) -> Result<T, crate::store::ledger::Error> + Send + 'static,
) -> Result<T, Option<Refusal>> {
    let store = shared.responses.clone();
    match tokio::task::spawn_blocking(move || work(&store)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            tracing::error!(%error, "kept responses cannot be read");
            Err(Some(Refusal::StoreUnavailable))
        }
        Err(_) => Err(Some(Refusal::Bug { what: "the store of responses" })),
    }
}
