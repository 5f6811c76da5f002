//! Whose turn it is while a request is handled: a middleware around everything.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::Error;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web::Bytes;

use super::{Connection, Turn};

/// Notes that the service has the turn from a request to the end of its answer; for `wrap(from_fn(take_turns))`.
///
/// # Errors
/// What the services inside returned.
pub async fn take_turns<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<Answer<B>>, Error> {
    let turn = ServicesTurn::begin(request.conn_data::<Connection>().map(Connection::turn));
    let response = next.call(request).await?;
    Ok(response.map_body(|_, body| Answer { body: Box::pin(body), turn }))
}

/// The service has the turn as long as there is this; in a test without a server, there is no connection.
struct ServicesTurn(Option<Turn>);

impl ServicesTurn {
    fn begin(turn: Option<Turn>) -> Self {
        turn.iter().for_each(Turn::service);
        Self(turn)
    }
}

impl Drop for ServicesTurn {
    fn drop(&mut self) {
        self.0.iter().for_each(Turn::client);
    }
}

/// An answer's body. A part that it has given is the client's to take; as long as it has none to give, the service is the one
/// that is waited for.
pub struct Answer<B> {
    body: Pin<Box<B>>,
    turn: ServicesTurn,
}

impl<B: MessageBody> MessageBody for Answer<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let Self { body, turn } = self.get_mut();
        let next = body.as_mut().poll_next(context);
        match &next {
            Poll::Ready(Some(_)) => turn.0.iter().for_each(Turn::client),
            Poll::Pending => turn.0.iter().for_each(Turn::service),
            Poll::Ready(None) => {}
        }
        next
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use actix_web::body::BodyStream;
    use futures::stream;

    use super::super::NEVER;
    use super::*;

    fn is_clients(turn: &Turn) -> bool {
        turn.due.load(Ordering::Relaxed) != NEVER
    }

    #[actix_web::test]
    async fn the_client_has_the_turn_once_there_is_something_to_take() {
        let due = Arc::new(AtomicU64::new(0));
        let turn = Turn { due, patience: Duration::from_secs(1), began: Instant::now() };
        let (parts, coming) = futures::channel::mpsc::unbounded::<Result<Bytes, Infallible>>();
        let services = ServicesTurn::begin(Some(turn.clone()));
        assert!(!is_clients(&turn), "it is handled");
        let mut answer = Answer { body: Box::pin(BodyStream::new(coming)), turn: services };
        let nothing =
            poll_fn(|context| Poll::Ready(Pin::new(&mut answer).poll_next(context).is_pending()));
        assert!(nothing.await && !is_clients(&turn), "there is no part yet");
        parts.unbounded_send(Ok(Bytes::from_static(b"part"))).unwrap();
        let part = poll_fn(|context| Pin::new(&mut answer).poll_next(context)).await;
        assert_eq!(part.unwrap().unwrap(), "part");
        assert!(is_clients(&turn), "the part is there to be taken");
        turn.service();
        drop(answer);
        assert!(is_clients(&turn), "the next request is the client's");
    }

    #[test]
    fn it_is_as_long_as_what_it_holds() {
        let whole = Answer { body: Box::pin("four"), turn: ServicesTurn::begin(None) };
        assert_eq!(whole.size(), BodySize::Sized(4));
        let parts = stream::empty::<Result<Bytes, Infallible>>();
        let body = Box::pin(BodyStream::new(parts));
        assert_eq!(Answer { body, turn: ServicesTurn::begin(None) }.size(), BodySize::Stream);
    }
}
