//! How many requests are under way at once: fewer after the service has said that it is too much, and more again while it answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Requests at once, at first.
const FIRST: usize = 16;

/// Requests at once, at most.
const MOST: usize = 64;

/// What was sent at the same time is refused at the same time: that counts once.
const ONE_REFUSAL: Duration = Duration::from_secs(1);

/// Adds one with each round of good answers, and halves with each refusal.
#[derive(Debug)]
pub(crate) struct Limiter {
    permits: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Permits that there are, or will be when those in use come back.
    limit: usize,
    /// How many are to be taken away when they come back.
    surplus: usize,
    /// Good answers since the limit rose last.
    good: usize,
    refused: Option<Instant>,
}

/// Leave for one request.
#[derive(Debug)]
pub(crate) struct Permit {
    limiter: Arc<Limiter>,
    permit: Option<OwnedSemaphorePermit>,
}

/// How a request has ended, as far as the limit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The service has answered.
    Answered,
    /// It has said that it is too much.
    TooMuch,
    /// Otherwise.
    Other,
}

impl Limiter {
    pub(crate) fn new() -> Arc<Self> {
        let state = State { limit: FIRST, surplus: 0, good: 0, refused: None };
        Arc::new(Self { permits: Arc::new(Semaphore::new(FIRST)), state: Mutex::new(state) })
    }

    /// Waits for leave.
    pub(crate) async fn permit(self: &Arc<Self>) -> Permit {
        // The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok();
        Permit { limiter: Arc::clone(self), permit }
    }

    /// How many requests may be under way now.
    #[cfg(test)]
    fn limit(&self) -> usize {
        self.state().limit
    }

    fn ended(&self, how: Ended, now: Instant) {
        let mut state = self.state();
        match how {
            Ended::Answered => {
                state.good += 1;
                if state.good >= state.limit && state.limit < MOST {
                    (state.good, state.limit) = (0, state.limit + 1);
                    match state.surplus.checked_sub(1) {
                        Some(less) => state.surplus = less,
                        None => self.permits.add_permits(1),
                    }
                }
            }
            Ended::TooMuch => {
                let is_new = state.refused.is_none_or(|refused| now.duration_since(refused) >= ONE_REFUSAL);
                if is_new {
                    let less = (state.limit / 2).max(1);
                    state.surplus += state.limit - less;
                    (state.limit, state.good, state.refused) = (less, 0, Some(now));
                }
            }
            Ended::Other => {}
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Says how the request has ended.
    pub(crate) fn end(self, how: Ended) {
        self.limiter.ended(how, Instant::now());
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.limiter.state();
        if let (Some(less), Some(permit)) = (state.surplus.checked_sub(1), self.permit.take()) {
            state.surplus = less;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn permits(limiter: &Arc<Limiter>) -> Vec<Permit> {
        let mut all = Vec::new();
        while let Ok(permit) = tokio::time::timeout(Duration::from_millis(1), limiter.permit()).await {
            all.push(permit);
        }
        all
    }

    #[tokio::test]
    async fn a_refusal_halves_what_is_under_way_and_answers_bring_it_back() {
        let limiter = Limiter::new();
        let all = permits(&limiter).await;
        assert_eq!(all.len(), FIRST);
        for permit in all {
            permit.end(Ended::TooMuch);
        }
        assert_eq!(limiter.limit(), FIRST / 2, "what was refused together counts once");
        assert_eq!(permits(&limiter).await.len(), FIRST / 2);
        for _ in 0..10_000 {
            limiter.permit().await.end(Ended::Answered);
        }
        assert_eq!((limiter.limit(), permits(&limiter).await.len()), (MOST, MOST));
    }

    #[tokio::test]
    async fn one_request_goes_on_however_often_it_is_refused() {
        let limiter = Limiter::new();
        for n in 0..20 {
            limiter.ended(Ended::TooMuch, Instant::now() + ONE_REFUSAL * 2 * n);
        }
        assert_eq!(limiter.limit(), 1);
        drop(permits(&limiter).await);
        for _ in 0..3 * FIRST {
            drop(limiter.permit().await);
        }
        assert_eq!(permits(&limiter).await.len(), 1);
    }
}
