//! The bodies of requests and answers, as they move: at the pace that is allowed, in pieces, and no longer waited for than makes sense.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws_smithy_types::body::SdkBody;
use backstay_vault::store::{OBJECT_BYTES_MAX, Pace, Way};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use crate::tempo::Tempo;

/// How much goes between two looks, bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Until then nothing is done.
type Timer = Pin<Box<Sleep>>;

/// The body of an answer, which is given up when nothing of it comes any more, or so little that it takes no end.
pub(crate) struct Coming {
    body: SdkBody,
    /// Bytes that may come still: the SDK takes what it reads by itself into memory, however much a service sends.
    left: u64,
    pace: Arc<Pace>,
    /// What has come, and may be given when the timer says so.
    came: Option<(Bytes, Timer)>,
    stall: Duration,
    tempo: Tempo,
    /// Since something is waited for, and until when.
    waits: Option<(Instant, Timer)>,
    /// Leaves the connection behind.
    leave: Box<dyn Fn() + Send + Sync>,
}

impl Coming {
    pub(crate) fn new(
        body: SdkBody,
        pace: Arc<Pace>,
        stall: Duration,
        leave: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let (left, tempo, leave) = (OBJECT_BYTES_MAX, Tempo::default(), Box::new(leave));
        Self { body, left, pace, came: None, stall, tempo, waits: None, leave }
    }

    /// The next of what comes, as soon as it may be given.
    fn poll_given(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some((_, timer)) = &mut self.came else { return Poll::Ready(None) };
        ready!(timer.as_mut().poll(context));
        Poll::Ready(self.came.take().map(|(data, _)| data))
    }
}

impl Body for Coming {
    type Data = Bytes;
    type Error = aws_smithy_types::body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(data) = ready!(self.poll_given(context)) {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let waited = self.waits.take().map_or(Duration::ZERO, |(since, _)| since.elapsed());
            let data = match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return Poll::Ready(other),
            };
            self.tempo.moved(data.len(), waited);
            let Some(left) = self.left.checked_sub(data.len() as u64) else {
                return Poll::Ready(Some(Err("the answer is longer than any can be".into())));
            };
            self.left = left;
            let wait = self.pace.take(Way::Down, data.len());
            if wait.is_zero() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            self.came = Some((data, Box::pin(sleep(wait))));
            let data = ready!(self.poll_given(context));
            return Poll::Ready(data.map(|data| Ok(Frame::data(data))));
        }
        // From now on, and not while whoever reads has not asked.
        let patience = self.stall.min(self.tempo.left());
        let (_, timer) = self.waits.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(patience))));
        ready!(timer.as_mut().poll(context));
        (self.leave)();
        let why = match patience < self.stall {
            true => self.tempo.complaint(),
            false => format!("nothing has come for {} s", self.stall.as_secs()),
        };
        Poll::Ready(Some(Err(why.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.came.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let held = self.came.as_ref().map_or(0, |(data, _)| data.len() as u64);
        match self.body.size_hint().exact() {
            Some(exact) => SizeHint::with_exact(exact + held),
            None => SizeHint::default(),
        }
    }
}

/// The body of a request: goes a piece at a time, and is given up when the service takes so little that it takes no end.
pub(crate) struct Going {
    body: SdkBody,
    /// Of the last part that the body has given.
    rest: Bytes,
    /// Until the next piece may go.
    waits: Option<Timer>,
    tempo: Tempo,
    /// The last piece that was given, and when.
    given: Option<(usize, Instant)>,
    pace: Arc<Pace>,
    /// Is told that something moves.
    moved: Box<dyn Fn() + Send + Sync>,
}

impl Going {
    pub(crate) fn new(body: SdkBody, pace: Arc<Pace>, moved: impl Fn() + Send + Sync + 'static) -> Self {
        let (rest, tempo, moved) = (Bytes::new(), Tempo::default(), Box::new(moved));
        Self { body, rest, waits: None, tempo, given: None, pace, moved }
    }
}

impl Body for Going {
    type Data = Bytes;
    type Error = aws_smithy_types::body::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        (self.moved)();
        // That there is room for another one means that the last has gone.
        if let Some((length, since)) = self.given.take() {
            self.tempo.moved(length, since.elapsed());
            if self.tempo.left().is_zero() {
                return Poll::Ready(Some(Err(self.tempo.complaint().into())));
            }
        }
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return Poll::Ready(other),
            }
        }
        let length = self.rest.len().min(PIECE_BYTES);
        if self.waits.is_none() {
            let wait = self.pace.take(Way::Up, length);
            self.waits = Some(Box::pin(sleep(wait)));
        }
        if let Some(waits) = &mut self.waits {
            ready!(waits.as_mut().poll(context));
        }
        self.waits = None;
        (self.moved)();
        self.given = Some((length, Instant::now()));
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        match self.body.size_hint().exact() {
            Some(exact) => SizeHint::with_exact(exact + rest),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body::Frame;

    use super::*;

    fn coming(body: SdkBody) -> Coming {
        Coming::new(body, Arc::new(Pace::unlimited()), Duration::from_secs(20), || {})
    }

    async fn next(coming: &mut Coming) -> Option<Result<Bytes, String>> {
        let frame = poll_fn(|context| Pin::new(&mut *coming).poll_frame(context)).await?;
        Some(frame.map(|frame| frame.into_data().expect("data")).map_err(|error| error.to_string()))
    }

    #[tokio::test]
    async fn an_answer_that_is_longer_than_any_can_be_is_cut_off() {
        for (left, is_read) in [(5, true), (4, false)] {
            let mut coming = Coming { left, ..coming(SdkBody::from("12345")) };
            let frame = next(&mut coming).await.expect("a frame");
            assert_eq!(frame.is_ok(), is_read, "{left} bytes may come");
        }
    }

    /// A byte from time to time.
    struct Dripping(Duration, Option<Timer>);

    impl Body for Dripping {
        type Data = Bytes;
        type Error = aws_smithy_types::body::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let pause = self.0;
            let timer = self.1.get_or_insert_with(|| Box::pin(sleep(pause)));
            ready!(timer.as_mut().poll(context));
            self.1 = None;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
        }
    }

    #[tokio::test]
    async fn an_answer_that_drips_is_given_up_as_is_one_that_stalls() {
        let (soon, late) = (Duration::from_millis(100), Duration::from_secs(60));
        for (pause, stall, patience, word) in
            [(soon, late, soon * 4, "too slow"), (late, soon, late, "nothing has come")]
        {
            let mut coming = coming(SdkBody::from_body_1_x(Dripping(pause, None)));
            (coming.stall, coming.tempo) = (stall, Tempo::of(patience));
            let mut bytes = 0;
            let why = loop {
                match next(&mut coming).await.expect("it has no end") {
                    Ok(_) => bytes += 1,
                    Err(why) => break why,
                }
            };
            assert!(bytes <= 4, "{bytes}: {why}");
            assert!(why.contains(word), "{why}");
        }
    }
}
