//! Whose turn it is while a request is handled: a middleware around everything.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::Error;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::web::Bytes;

use super::{Connection, Turn};

/// Bytes of an answer that a client takes at a time: it is late when it does not take so many, not when it takes a large
/// answer slowly.
const PIECE: usize = 64 << 10;

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
    Ok(response.map_body(|_, body| Answer::new(body, turn)))
}

/// The service has the turn as long as there is this; in a test without a server, there is no connection.
struct ServicesTurn(Option<Turn>);

impl ServicesTurn {
    fn begin(turn: Option<Turn>) -> Self {
        let turn = Self(turn);
        turn.service();
        turn
    }

    fn service(&self) {
        self.0.iter().for_each(Turn::service);
    }

    fn client(&self) {
        self.0.iter().for_each(Turn::client);
    }
}

impl Drop for ServicesTurn {
    fn drop(&mut self) {
        self.client();
    }
}

/// An answer's body in pieces. A piece that it has given is the client's to take; as long as it has none to give, the service is
/// the one that is waited for.
pub struct Answer<B> {
    body: Pin<Box<B>>,
    /// What the body gave last and the server did not take yet.
    rest: Bytes,
    turn: ServicesTurn,
}

impl<B> Answer<B> {
    fn new(body: B, turn: ServicesTurn) -> Self {
        Self { body: Box::pin(body), rest: Bytes::new(), turn }
    }
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
        let Self { body, rest, turn } = self.get_mut();
        if rest.is_empty() {
            match body.as_mut().poll_next(context) {
                Poll::Ready(Some(Ok(part))) => *rest = part,
                Poll::Pending => {
                    turn.service();
                    return Poll::Pending;
                }
                ended => return ended,
            }
        }
        turn.client();
        Poll::Ready(Some(Ok(rest.split_to(rest.len().min(PIECE)))))
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

    fn turn() -> Turn {
        let due = Arc::new(AtomicU64::new(0));
        Turn { due, patience: Duration::from_secs(1), began: Instant::now() }
    }

    fn is_clients(turn: &Turn) -> bool {
        turn.due.load(Ordering::Relaxed) != NEVER
    }

    #[actix_web::test]
    async fn the_client_has_the_turn_once_there_is_something_to_take() {
        let turn = turn();
        let (parts, coming) = futures::channel::mpsc::unbounded::<Result<Bytes, Infallible>>();
        let services = ServicesTurn::begin(Some(turn.clone()));
        assert!(!is_clients(&turn), "it is handled");
        let mut answer = Answer::new(BodyStream::new(coming), services);
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

    #[actix_web::test]
    async fn a_client_has_its_time_for_each_piece_of_a_large_answer() {
        let (turn, whole) = (turn(), Bytes::from(vec![b'x'; 2 * PIECE + 1]));
        let mut answer = Answer::new(whole.clone(), ServicesTurn::begin(Some(turn.clone())));
        assert_eq!(answer.size(), BodySize::Sized(2 * PIECE as u64 + 1));
        let mut taken: Vec<Bytes> = Vec::new();
        while let Some(piece) = poll_fn(|context| Pin::new(&mut answer).poll_next(context)).await {
            assert!(is_clients(&turn), "piece {}", taken.len());
            taken.push(piece.unwrap());
            turn.service();
        }
        assert_eq!(taken.iter().map(Bytes::len).collect::<Vec<_>>(), [PIECE, PIECE, 1]);
        let taken: Vec<u8> = taken.concat();
        assert_eq!(taken, whole);
    }

    #[test]
    fn it_is_as_long_as_what_it_holds() {
        let whole = Answer::new("four", ServicesTurn::begin(None));
        assert_eq!(whole.size(), BodySize::Sized(4));
        let parts = BodyStream::new(stream::empty::<Result<Bytes, Infallible>>());
        assert_eq!(Answer::new(parts, ServicesTurn::begin(None)).size(), BodySize::Stream);
    }
}
